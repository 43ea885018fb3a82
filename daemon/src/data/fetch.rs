//! Content that comes from other nodes: from all who have it, what is missing, verified as it
//! arrives.

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
use iroh_blobs::{
    api::{blobs::Bitfield, remote::GetProgressItem},
    get::{GetError, StreamPair, fsm::DecodeError},
    protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest},
};
use rhd_protocol::{
    data::{Content, DataAsk},
    id::{Hash, NodeId},
    machine::transfer::{Effect, Fault, Input, Transfer},
    wire,
};
use tokio::time::{sleep_until, timeout};

use super::{
    ANSWER, Data, Shelf,
    error::DataError,
    gc::{self, Lease},
    lock,
    store::iroh_hash,
    streams::{Reader, Writer},
};
use crate::{
    asked::Meter,
    mesh::{Priority, Route},
};

/// After so many bytes it is seen to whether the disk has room for more.
const LOOK: u64 = 1 << 20;
/// Ranges that are asked for start and end at a multiple of this.
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
    let end = wanted.end.next_multiple_of(GRAIN).min(size);
    let wanted = wanted.start / GRAIN * GRAIN..end;
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

async fn transfer(
    data: &Data,
    content: &Content,
    wanted: Range<u64>,
    from: &[NodeId],
    meter: &Meter,
) -> Result<(), DataError> {
    let shelf = &data.shelf;
    let hash = content.hash;
    let missing = missing(&shelf.store.chunks(hash).await?, &wanted);
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
                    asked.push(Box::pin(ask(data, node, hash, piece, meter)));
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
    let fault = match get(data, node, hash, piece.clone(), meter).await? {
        None => return Ok(Input::Got { node, piece }),
        Some(fault) => fault,
    };
    tracing::debug!(peer = %node.short(), hash = %hash.short(), ?fault, "a piece did not come");
    if fault == Fault::Wrong {
        let peer = data.naming.node_name(node);
        tracing::warn!(peer, hash = %hash.short(), "sent bytes that are not of the blob");
        lock(&shelf.distrusted).insert(node, Instant::now());
    }
    let missing = missing_of(shelf, hash, &piece).await?;
    Ok(Input::Failed { node, piece, missing, fault })
}

/// Gets a piece into the store; what the holder did wrong, if it did not give all.
async fn get(
    data: &Data,
    node: NodeId,
    hash: Hash,
    piece: Range<u64>,
    meter: &Meter,
) -> Result<Option<Fault>, DataError> {
    let Ok(stream) = data.mesh.open(node, wire::BLOB, Priority::Bulk).await else {
        return Ok(Some(Fault::Lost));
    };
    let streams = StreamPair::new(0, Reader::new(stream.recv), Writer::new(stream.send));
    let size = piece.end - piece.start;
    let request = GetRequest::blob_ranges(iroh_hash(hash), ChunkRanges::bytes(piece));
    let progress = data.shelf.store.content().remote().execute_get(streams, request).stream();
    let mut progress = std::pin::pin!(progress);
    let stall = Duration::from_secs(data.shelf.config.stall_secs.max(1));
    let mut seen = 0;
    loop {
        match timeout(stall, progress.next()).await {
            Err(_) => return Ok(Some(Fault::Stalled)),
            Ok(None) => return Ok(Some(Fault::Lost)),
            Ok(Some(GetProgressItem::Progress(bytes))) => {
                meter.add(bytes.saturating_sub(seen));
                if bytes / LOOK != seen / LOOK && data.shelf.is_filling()? {
                    let (free, reserve) = (data.shelf.store.free()?, data.shelf.config.reserve);
                    return Err(DataError::DiskFull {
                        needed: size.saturating_sub(bytes),
                        free,
                        reserve,
                    });
                }
                seen = bytes;
            }
            Ok(Some(GetProgressItem::Done(_))) => return Ok(None),
            Ok(Some(GetProgressItem::Error(error))) => return fault(error).map(Some),
        }
    }
}

fn fault(error: GetError) -> Result<Fault, DataError> {
    Ok(match &error {
        GetError::Decode { source, .. } => match source {
            DecodeError::ParentHashMismatch { .. } | DecodeError::LeafHashMismatch { .. } => {
                Fault::Wrong
            }
            DecodeError::Write { .. } => return Err(DataError::store("write")(error)),
            // It broke off, whatever it broke off at.
            _ => Fault::Lost,
        },
        GetError::BadRequest { .. } => Fault::Wrong,
        GetError::LocalFailure { .. } | GetError::IrpcSend { .. } => {
            return Err(DataError::store("write")(error));
        }
        _ => Fault::Lost,
    })
}

async fn missing_of(
    shelf: &Shelf,
    hash: Hash,
    piece: &Range<u64>,
) -> Result<Vec<Range<u64>>, DataError> {
    Ok(missing(&shelf.store.chunks(hash).await?, piece))
}

/// The ranges of bytes within `wanted` that are not here.
fn missing(held: &Bitfield, wanted: &Range<u64>) -> Vec<Range<u64>> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let missing = ChunkRanges::bytes(wanted.clone()) - &held.ranges;
    let bounds: Vec<u64> = missing.boundaries().iter().map(|chunk| chunk.to_bytes()).collect();
    let pairs = bounds.chunks(2).map(|pair| {
        let end = pair.get(1).copied().unwrap_or(u64::MAX);
        pair[0]..end.min(wanted.end)
    });
    pairs.filter(|range| range.start < range.end).collect()
}
