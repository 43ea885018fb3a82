//! Content that comes from other nodes: from all who have it, what is missing, verified as it
//! arrives.

mod chunks;
mod pieces;

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _,
    future::BoxFuture,
    stream::{FuturesUnordered, Stream},
};
use rhd_protocol::{
    data::{Content, DataAsk},
    id::{Hash, NodeId},
    machine::transfer::{Effect, Fault, Input, Transfer},
    pieces::PIECE,
};
use tokio::time::{sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    ANSWER, Data, Shelf,
    error::DataError,
    gc::{self, Lease},
    large::{self, Opened},
    lock,
    store::blocking,
    verify,
};
use crate::{asked::Meter, background, mesh::Route};

/// Ranges of chunks that are asked for start and end at a multiple of this.
const GRAIN: u64 = 64 * 1024;

/// Has all of a blob here, and keeps it until the lease ends.
pub(super) async fn whole(
    data: &Data,
    content: &Content,
    from: &[NodeId],
    meter: &Meter,
) -> Result<Lease, DataError> {
    let (hash, size) = (content.hash, content.size);
    let lease = gc::lease(&data.shelf, hash).await;
    range(data, content, 0..size, from, meter).await?;
    match data.shelf.store.whole(hash).await? {
        Some(held) if held == size => Ok(lease),
        Some(held) => Err(DataError::Size { hash, size: held, claimed: size }),
        // All that was asked for came, and it is not all.
        None => Err(DataError::Size { hash, size: held(data, hash).await?, claimed: size }),
    }
}

async fn held(data: &Data, hash: Hash) -> Result<u64, DataError> {
    Ok(data.shelf.store.chunks(hash).await?.size())
}

/// Has these bytes of a blob here; whoever calls it holds a lease.
pub(super) async fn range(
    data: &Data,
    content: &Content,
    wanted: Range<u64>,
    from: &[NodeId],
    meter: &Meter,
) -> Result<(), DataError> {
    let shelf = &data.shelf;
    let (hash, size) = (content.hash, content.size);
    if let Some(held) = shelf.store.whole(hash).await? {
        return match held == size {
            true => Ok(()),
            false => Err(DataError::Size { hash, size: held, claimed: size }),
        };
    }
    // One transfer of each content at a time; the next one finds what this one brought.
    let turn = lock(&shelf.fetching).entry(hash).or_default().clone();
    let held = turn.clone().lock_owned().await;
    let mut done = transfer(data, content, wanted, from, meter).await;
    if let Err(error) = done {
        done = Err(shelf.explained(error, size).await);
    }
    drop(held);
    let mut fetching = lock(&shelf.fetching);
    // The table's, and this one.
    if Arc::strong_count(&turn) == 2 {
        fetching.remove(&hash);
    }
    done
}

/// How a content comes.
#[derive(Clone)]
enum Way {
    /// In the encoding of iroh-blobs.
    Chunks,
    /// As pieces of a large one.
    Pieces(Arc<Opened>),
}

impl Way {
    /// The way that it has begun to come, else the one that who has it can give it.
    async fn of(data: &Data, content: &Content, from: &[NodeId]) -> Result<Self, DataError> {
        let (store, hash, size) = (&data.shelf.store, content.hash, content.size);
        if !large::is_large(size) {
            return Ok(Self::Chunks);
        }
        let mut begun = store.large(hash);
        if let Some(item) = begun.clone()
            && let Err(error @ DataError::Damaged { .. }) =
                blocking(move || item.open().map(drop)).await
        {
            verify::found(&data.shelf, hash, &error).await;
            begun = None;
        }
        let item = match begun {
            Some(item) => item,
            None if store.chunks(hash).await?.total_bytes() > 0 => return Ok(Self::Chunks),
            None => match pieces::begin(data, content, from).await? {
                Some(item) => item,
                None => return Ok(Self::Chunks),
            },
        };
        if item.size() != size {
            return Err(DataError::Size { hash, size: item.size(), claimed: size });
        }
        Ok(Self::Pieces(Arc::new(blocking(move || item.open()).await?)))
    }

    fn whole_grains(&self, wanted: Range<u64>, size: u64) -> Range<u64> {
        let grain = match self {
            Self::Chunks => GRAIN,
            Self::Pieces(_) => PIECE,
        };
        wanted.start / grain * grain..wanted.end.next_multiple_of(grain).min(size)
    }

    /// The ranges of bytes within `wanted` that are not here.
    async fn missing(
        &self,
        shelf: &Shelf,
        hash: Hash,
        wanted: &Range<u64>,
    ) -> Result<Vec<Range<u64>>, DataError> {
        match self {
            Self::Chunks => Ok(chunks::missing(&shelf.store.chunks(hash).await?, wanted)),
            Self::Pieces(opened) => {
                let (opened, wanted) = (opened.clone(), wanted.clone());
                blocking(move || opened.missing(&wanted)).await
            }
        }
    }
}

async fn transfer(
    data: &Data,
    content: &Content,
    wanted: Range<u64>,
    from: &[NodeId],
    meter: &Meter,
) -> Result<(), DataError> {
    let shelf = &data.shelf;
    let hash = content.hash;
    let way = Way::of(data, content, from).await?;
    let wanted = way.whole_grains(wanted, content.size);
    let missing = way.missing(shelf, hash, &wanted).await?;
    let left: u64 = missing.iter().map(|range| range.end - range.start).sum();
    meter.start(wanted.end - wanted.start - left, wanted.end - wanted.start);
    if missing.is_empty() {
        return Ok(());
    }
    shelf.make_room(left).await?;
    lock(&shelf.ledger).holds(hash, content.size, Instant::now());

    let started = Instant::now();
    let now = || started.elapsed().as_millis() as u64;
    let mut transfer = Transfer::new(missing);
    let mut holders = Box::pin(search(data, hash, from));
    let mut searching = true;
    let mut asked: FuturesUnordered<BoxFuture<'_, Result<Input, DataError>>> =
        FuturesUnordered::new();
    let (mut wake, mut doubtful, mut any) = (None, Vec::new(), false);
    loop {
        let timer = async {
            match wake {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let input = tokio::select! {
            Some(done) = asked.next() => done?,
            found = holders.next(), if searching => match found {
                Some(node) if shelf.distrusts(node) => {
                    doubtful.push(node);
                    continue;
                }
                Some(node) => {
                    any = true;
                    Input::Found(node)
                }
                None => {
                    searching = false;
                    // Better than nobody: what they send is verified like everything else.
                    if !any && let Some(node) = doubtful.pop() {
                        any = true;
                        asked.push(Box::pin(async { Ok(Input::Searched) }));
                        Input::Found(node)
                    } else {
                        Input::Searched
                    }
                }
            },
            () = timer, if wake.is_some() => {
                wake = None;
                Input::Time
            }
        };
        for effect in transfer.handle(input, now()) {
            match effect {
                Effect::Ask { node, piece } => {
                    asked.push(Box::pin(ask(data, &way, node, hash, piece, meter)));
                }
                Effect::Wake(at) => {
                    wake = Some((started + Duration::from_millis(at)).into());
                    // Somebody else may have it by now.
                    if !searching {
                        (holders, searching) = (Box::pin(search(data, hash, from)), true);
                    }
                }
                Effect::Complete => {
                    drop(asked);
                    return shelf.store.sync().await;
                }
                Effect::GiveUp if !any => return Err(DataError::Nowhere(hash)),
                Effect::GiveUp => {
                    let why = transfer.out().map(|(node, fault)| {
                        format!("{} {}", data.naming.node_name(node), said(fault))
                    });
                    let why = why.collect::<Vec<_>>().join(", ");
                    return Err(DataError::GaveUp { hash, why });
                }
            }
        }
    }
}

fn said(fault: Fault) -> &'static str {
    match fault {
        Fault::Wrong => "sent wrong bytes",
        Fault::Absent => "does not have it any more",
        Fault::Stalled => "stopped sending",
        Fault::Lost => "can't be reached, or can't read it",
    }
}

/// The nodes that say that they have all of a blob, as they say it.
fn search(data: &Data, hash: Hash, from: &[NodeId]) -> impl Stream<Item = NodeId> + use<> {
    let me = data.mesh.me();
    let mut peers: Vec<NodeId> = from.iter().copied().filter(|node| *node != me).collect();
    for peer in data.mesh.peers().borrow().iter() {
        if peer.path != Route::None && !peers.contains(&peer.node) {
            peers.push(peer.node);
        }
    }
    let asks: FuturesUnordered<_> = peers
        .into_iter()
        .map(|node| {
            let data = data.clone();
            async move {
                let ask = DataAsk::Have { hashes: vec![hash] };
                let has = timeout(ANSWER, data.peers.value::<Vec<Option<u64>>>(node, &ask));
                let has = has.await.ok()?.ok()?;
                has.first().copied().flatten().map(|_| node)
            }
        })
        .collect();
    asks.filter_map(std::future::ready)
}

/// Asks a holder for a piece. What goes wrong there is an input, what goes wrong here an error.
async fn ask(
    data: &Data,
    way: &Way,
    node: NodeId,
    hash: Hash,
    piece: Range<u64>,
    meter: &Meter,
) -> Result<Input, DataError> {
    let shelf = &data.shelf;
    let (free, reserve) = (shelf.store.free()?, shelf.config.reserve);
    let needed = piece.end - piece.start;
    if free < needed.saturating_add(reserve) {
        return Err(DataError::DiskFull { needed, free, reserve });
    }
    let get = {
        let (data, way, piece, meter) = (data.clone(), way.clone(), piece.clone(), meter.clone());
        async move {
            match &way {
                Way::Chunks => chunks::get(&data, node, hash, piece, &meter).await,
                Way::Pieces(opened) => pieces::get(&data, node, opened, hash, piece, &meter).await,
            }
        }
    };
    let got = AbortOnDropHandle::new(background::tasks().spawn(get)).await;
    let fault = match got.map_err(DataError::store("fetch for"))?? {
        None => return Ok(Input::Got { node, piece }),
        Some(fault) => fault,
    };
    tracing::debug!(peer = %node.short(), hash = %hash.short(), ?fault, "a piece did not come");
    if fault == Fault::Wrong {
        let peer = data.naming.node_name(node);
        tracing::warn!(peer, hash = %hash.short(), "sent bytes that are not of the blob");
        lock(&shelf.distrusted).insert(node, Instant::now());
    }
    let missing = way.missing(shelf, hash, &piece).await?;
    Ok(Input::Failed { node, piece, missing, fault })
}

/// Refuses to go on when the disk is nearly full, with `needed` bytes to come.
fn check_room(shelf: &Shelf, needed: u64) -> Result<(), DataError> {
    if !shelf.is_filling()? {
        return Ok(());
    }
    let (free, reserve) = (shelf.store.free()?, shelf.config.reserve);
    Err(DataError::DiskFull { needed, free, reserve })
}
