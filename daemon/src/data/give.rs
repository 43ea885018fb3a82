//! What peers are given of large contents: what proves them, and their pieces.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    call::{Codec, Reply},
    data::{MAX_PIECES, PieceAsk},
    error::ErrorInfo,
    folder::Pieces,
    id::Hash,
    pieces,
};

use super::{Data, Shelf, error::DataError, gc, large::Opened, store::blocking, verify};
use crate::{
    asked::{self, Out, refused, value},
    framed::Frame,
    mesh::{Priority, Stream},
};

/// Bytes of what proves pieces, in one reply.
const PROOF: usize = 1 << 20;
/// Holes that are named; the rest comes as zeros.
const HOLES: usize = 10_000;
/// How long a peer may take to read a piece.
const UNREAD: Duration = Duration::from_secs(120);

/// Answers one question of a peer.
pub(super) async fn pieces(data: Data, stream: Stream) -> Result<(), ErrorInfo> {
    stream.set_priority(Priority::Bulk);
    let here = data.mesh.name();
    asked::answer_within(UNREAD, &here, stream, |ask, out| async move {
        match ask {
            PieceAsk::Prove { hash } => value(&prove(&data.shelf, hash, out).await?),
            PieceAsk::Read { hash, first, count } => {
                if count > MAX_PIECES {
                    return Err(refused("too many pieces in one question"));
                }
                value(&read(&data.shelf, hash, first..first.saturating_add(count), out).await?)
            }
        }
    })
    .await
}

async fn prove(shelf: &Arc<Shelf>, hash: Hash, out: Out) -> Result<Option<Pieces>, DataError> {
    let work = move |opened: Opened| {
        for some in opened.values().chunks(PROOF / 32) {
            if send(&out, Bytes::copy_from_slice(some.as_flattened()))?.is_none() {
                break;
            }
        }
        let mut holes = opened.holes();
        holes.truncate(HOLES);
        Ok(Pieces { holes })
    };
    with(shelf, hash, work).await
}

async fn read(
    shelf: &Arc<Shelf>,
    hash: Hash,
    wanted: std::ops::Range<u64>,
    out: Out,
) -> Result<(), DataError> {
    let work = move |opened: Opened| {
        for index in wanted.start..wanted.end.min(pieces::count(opened.size())) {
            // A part has it, or says so now.
            if send(&out, opened.read(index)?)?.is_none() {
                break;
            }
        }
        Ok(())
    };
    with(shelf, hash, work).await?.ok_or(DataError::Nowhere(hash))
}

/// Reads a large content that is here whole, on a thread for it; none where it is not.
async fn with<T: Send + 'static>(
    shelf: &Arc<Shelf>,
    hash: Hash,
    work: impl FnOnce(Opened) -> Result<T, DataError> + Send + 'static,
) -> Result<Option<T>, DataError> {
    let Some(item) = shelf.store.large(hash).filter(|item| item.is_whole()) else {
        return Ok(None);
    };
    let lease = gc::lease(shelf, hash).await;
    let done = blocking(move || work(item.open()?)).await;
    drop(lease);
    if let Err(error @ DataError::Damaged { .. }) = &done {
        verify::found(shelf, hash, error).await;
    }
    done.map(Some)
}

/// Sends an item; none when nobody reads it any more.
fn send(out: &Out, bytes: Bytes) -> Result<Option<()>, DataError> {
    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts: vec![bytes.len() as u64] };
    let frame = Frame::new(&reply, bytes).map_err(DataError::store("answer from"))?;
    Ok(out.blocking_send(frame).ok())
}
