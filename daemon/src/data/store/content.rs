//! Bytes of the store, verified as they are read, and bytes on their way into it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use iroh_blobs::{
    api::blobs::EncodedItem,
    protocol::{ChunkRanges, ChunkRangesExt as _},
    store::fs::FsStore,
};
use rhd_protocol::{data::CHUNK, id::Hash, pieces::PIECE};

use super::iroh_hash;
use crate::{
    background,
    data::{
        error::DataError,
        large::{Item, Opened},
    },
    framed::Body,
};

/// Pieces that are read before they are asked for.
const AHEAD: usize = 2;

/// Reads chunks of the `FsStore`.
pub(super) fn of_chunks(
    files: &FsStore,
    hash: Hash,
    wanted: Range<u64>,
) -> impl Stream<Item = Result<Bytes, DataError>> + Send + use<> {
    let ranges = ChunkRanges::bytes(wanted.clone());
    let items = Box::pin(files.export_bao(iroh_hash(hash), ranges).stream());
    items.filter_map(move |item| {
        let cut = match item {
            EncodedItem::Leaf(leaf) => cut(leaf.data, leaf.offset, &wanted).map(Ok),
            EncodedItem::Error(error) => {
                Some(Err(DataError::Damaged { hash, why: error.to_string() }))
            }
            _ => None,
        };
        std::future::ready(cut)
    })
}

/// Reads pieces on a thread for it.
pub(super) fn of_pieces(
    item: Arc<Item>,
    wanted: Range<u64>,
) -> impl Stream<Item = Result<Bytes, DataError>> + Send {
    let (tx, mut rx) = tokio::sync::mpsc::channel(AHEAD);
    background::spawn(move || {
        let read = |opened: Opened| {
            let wanted = wanted.start..wanted.end.min(opened.size());
            let first = wanted.start / PIECE;
            for index in first..wanted.end.div_ceil(PIECE) {
                let Some(bytes) = cut(opened.read(index)?, index * PIECE, &wanted) else { break };
                if tx.blocking_send(Ok(bytes)).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = item.open().and_then(read) {
            let _ = tx.blocking_send(Err(error));
        }
    });
    futures::stream::poll_fn(move |cx| rx.poll_recv(cx))
}

/// What of these bytes, the first of which is at `at`, is wanted.
fn cut(bytes: Bytes, at: u64, wanted: &Range<u64>) -> Option<Bytes> {
    let last = at + bytes.len() as u64;
    let (from, to) = (wanted.start.clamp(at, last), wanted.end.clamp(at, last));
    let cut = bytes.slice((from - at) as usize..(to - at) as usize);
    (!cut.is_empty()).then_some(cut)
}

/// A payload in pieces, read on a thread for it.
pub(super) fn of_body(
    body: Body,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static {
    let (tx, mut rx) = tokio::sync::mpsc::channel(2);
    background::spawn(move || {
        let mut at = 0;
        while at < body.len() {
            let chunk = match &body {
                Body::Inline(bytes) => Ok(bytes.slice(at as usize..)),
                Body::Beside(payload) => payload.chunk(at, CHUNK),
            };
            at += chunk.as_ref().map_or(u64::MAX - at, |chunk| chunk.len() as u64);
            if tx.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    futures::stream::poll_fn(move |cx| rx.poll_recv(cx))
}

/// The hash of a body; on a thread for it where that takes a while.
pub(in crate::data) async fn hash_of(body: &Body) -> Result<Hash, DataError> {
    if let Body::Inline(bytes) = body
        && bytes.len() <= CHUNK
    {
        return Ok(Hash::of(bytes));
    }
    let body = body.clone();
    let work = background::spawn(move || {
        let mut hasher = blake3::Hasher::new();
        match &body {
            Body::Inline(bytes) => {
                hasher.update(bytes);
            }
            Body::Beside(payload) => {
                let mut at = 0;
                while at < payload.len() {
                    let chunk = payload.chunk(at, CHUNK)?;
                    at += chunk.len() as u64;
                    hasher.update(&chunk);
                }
            }
        }
        std::io::Result::Ok(Hash::from_bytes(*hasher.finalize().as_bytes()))
    });
    work.await.map_err(DataError::store("read"))?.map_err(DataError::store("read"))
}
