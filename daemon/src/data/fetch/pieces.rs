//! Large content, piece by piece: each is held against the hash of the whole as it arrives.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::StreamExt as _;
use rhd_protocol::{
    call::Reply,
    data::{Content, PieceAsk},
    error::ErrorKind,
    folder::Pieces,
    frame,
    id::{Hash, NodeId},
    machine::transfer::Fault,
    pieces::{self, PIECE},
    wire,
};
use tokio::{
    io::AsyncReadExt as _,
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};

use super::{check_room, search};
use crate::{
    asked::Meter,
    data::{
        Data,
        error::DataError,
        large::{Item, Opened},
        store::blocking,
    },
    folders::Values,
    framed::{self, Body, FramedError},
    mesh::{Priority, Stream},
};

/// Bytes that an answer's last frame may have: its holes, if they are many.
const LAST: usize = 1 << 20;
/// Nodes that are asked for what proves a content at once.
const ASKED: usize = 4;
/// A piece of zeros.
static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];

/// Begins a content here with what proves it, from the first who has that; none where nobody has.
pub(super) async fn begin(
    data: &Data,
    content: &Content,
    from: &[NodeId],
) -> Result<Option<Arc<Item>>, DataError> {
    let (hash, size) = (content.hash, content.size);
    // Who is slow holds nobody up.
    let ask = |node| async move { proof(data, node, content).await };
    let proofs = search(data, hash, from).map(ask).buffer_unordered(ASKED);
    let mut proofs = std::pin::pin!(proofs.filter_map(std::future::ready));
    let Some((values, said)) = proofs.next().await else { return Ok(None) };
    let item = data.shelf.store.begin(hash, size, values).await?;
    let (holes, opened) = (said.holes, item.clone());
    blocking(move || leave(&opened.open()?, size, &holes)).await?;
    Ok(Some(item))
}

/// Leaves out what takes no space at the holder, where it is zeros indeed.
fn leave(opened: &Opened, size: u64, holes: &[(u64, u64)]) -> Result<(), DataError> {
    let mut last = 0;
    for (first, end) in holes {
        // In order, so that no piece is looked at twice.
        if *first < last {
            return Ok(());
        }
        last = *end;
        for index in *first..(*end).min(pieces::count(size)) {
            let len = pieces::span(index, size).1 as usize;
            if !opened.leave_hole(index, &ZEROS[..len])? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What proves a content, as a node has it.
async fn proof(data: &Data, node: NodeId, content: &Content) -> Option<(Values, Pieces)> {
    let count = pieces::count(content.size);
    let stall = Duration::from_secs(data.shelf.config.stall_secs.max(1));
    let ask = PieceAsk::Prove { hash: content.hash };
    let mut coming = Coming::ask(data, node, &ask, stall).await.ok()?;
    let (mut values, mut buffer) = (Values::new(), BytesMut::new());
    let last = loop {
        match coming.next(&mut buffer, PIECE as usize, &Meter::default()).await.ok()? {
            Next::Item => {
                let (some, rest) = buffer.as_chunks::<32>();
                if !rest.is_empty() || (values.len() + some.len()) as u64 > count {
                    return None;
                }
                values.extend_from_slice(some);
            }
            Next::Done(body) => break body,
        }
    };
    let said = frame::decode::<Option<Pieces>>(&last).ok()??;
    (pieces::root(&values) == Some(content.hash) && values.len() as u64 == count)
        .then_some((values, said))
}

/// Gets a range of pieces; what the holder did wrong, if it did not give all.
pub(super) async fn get(
    data: &Data,
    node: NodeId,
    opened: &Arc<Opened>,
    hash: Hash,
    range: Range<u64>,
    meter: &Meter,
) -> Result<Option<Fault>, DataError> {
    let stall = Duration::from_secs(data.shelf.config.stall_secs.max(1));
    let indices = range.start / PIECE..range.end.div_ceil(PIECE);
    let ask = PieceAsk::Read { hash, first: indices.start, count: indices.end - indices.start };
    let mut coming = match Coming::ask(data, node, &ask, stall).await {
        Ok(coming) => coming,
        Err(fault) => return Ok(Some(fault)),
    };
    // The next piece comes while this one is written, into the buffer of the one before.
    let mut writing: Option<Writing> = None;
    let (mut buffer, mut spare) = (BytesMut::new(), BytesMut::new());
    for index in indices.clone() {
        let len = pieces::span(index, opened.size()).1;
        let next = coming.next(&mut buffer, len as usize, meter).await;
        if let Some(written) = writing.take() {
            let (right, free) = written.await.map_err(DataError::store("write"))??;
            if !right {
                return Ok(Some(Fault::Wrong));
            }
            spare = free;
        }
        match next {
            Ok(Next::Item) => {}
            // Fewer than there are.
            Ok(Next::Done(_)) => return Ok(Some(Fault::Wrong)),
            Err(fault) => return Ok(Some(fault)),
        }
        check_room(&data.shelf, (indices.end - index) * PIECE)?;
        let (bytes, to) =
            (std::mem::replace(&mut buffer, std::mem::take(&mut spare)), opened.clone());
        writing = Some(crate::background::spawn(move || {
            to.write(index, &bytes).map(|right| (right, bytes))
        }));
    }
    if let Some(written) = writing {
        let (right, _) = written.await.map_err(DataError::store("write"))??;
        if !right {
            return Ok(Some(Fault::Wrong));
        }
    }
    Ok(None)
}

/// A piece on its way to the disk: whether it is one, and its buffer.
type Writing = JoinHandle<Result<(bool, BytesMut), DataError>>;

/// Replies that come.
struct Coming {
    stream: Stream,
    stall: Duration,
}

enum Next {
    /// Its body is in the buffer.
    Item,
    /// All is said; the body of the answer.
    Done(Bytes),
}

impl Coming {
    async fn ask(
        data: &Data,
        node: NodeId,
        ask: &PieceAsk,
        stall: Duration,
    ) -> Result<Self, Fault> {
        let opened = data.mesh.open(node, wire::PIECE, Priority::Bulk).await;
        let mut stream = opened.map_err(|_| Fault::Lost)?;
        let sent = timeout(stall, framed::send(&mut stream.send, ask, Body::default())).await;
        sent.map_err(stalled)?.map_err(|_| Fault::Lost)?;
        Ok(Self { stream, stall })
    }

    /// The next reply: an item of at most `most` bytes, counted as they come, or the last.
    async fn next(
        &mut self,
        buffer: &mut BytesMut,
        most: usize,
        meter: &Meter,
    ) -> Result<Next, Fault> {
        let from = &mut self.stream.recv;
        let head = timeout(self.stall, framed::read_head(from, most.max(LAST))).await;
        let head = head.map_err(stalled)?.map_err(broken)?.ok_or(Fault::Lost)?;
        let reply = head.header::<Reply>().map_err(|_| Fault::Wrong)?;
        match reply {
            Reply::Item { .. } if head.body <= most && !head.beside => {}
            Reply::Done { .. } if !head.beside => {
                let last = timeout(self.stall, framed::read_body(head, from)).await;
                return Ok(Next::Done(last.map_err(stalled)?.map_err(broken)?.body));
            }
            Reply::Fail { error, .. } if error.kind == ErrorKind::NotFound => {
                return Err(Fault::Absent);
            }
            Reply::Fail { .. } => return Err(Fault::Lost),
            _ => return Err(Fault::Wrong),
        }
        buffer.clear();
        buffer.reserve(head.body);
        while buffer.len() < head.body {
            let left = head.body - buffer.len();
            let mut room = (&mut *buffer).limit(left);
            let read = timeout(self.stall, from.read_buf(&mut room)).await;
            match read.map_err(stalled)? {
                Ok(0) | Err(_) => return Err(Fault::Lost),
                Ok(bytes) => meter.add(bytes as u64),
            }
        }
        Ok(Next::Item)
    }
}

fn stalled(_: Elapsed) -> Fault {
    Fault::Stalled
}

fn broken(error: FramedError) -> Fault {
    match error {
        FramedError::Io(_) => Fault::Lost,
        _ => Fault::Wrong,
    }
}
