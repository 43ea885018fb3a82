//! Content in the encoding of iroh-blobs, chunk by chunk.

use std::{ops::Range, time::Duration};

use futures::StreamExt as _;
use iroh_blobs::{
    api::{blobs::Bitfield, remote::GetProgressItem},
    get::{GetError, StreamPair, fsm::DecodeError},
    protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest},
};
use rhd_protocol::{
    id::{Hash, NodeId},
    machine::transfer::Fault,
    wire,
};
use tokio::time::timeout;

use crate::{
    asked::Meter,
    data::{
        Data,
        error::DataError,
        store::iroh_hash,
        streams::{Reader, Writer},
    },
    mesh::Priority,
};

/// After so many bytes it is seen to whether the disk has room for more.
const LOOK: u64 = 1 << 20;

/// Gets a piece into the store; what the holder did wrong, if it did not give all.
pub(super) async fn get(
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
                if bytes / LOOK != seen / LOOK {
                    super::check_room(&data.shelf, size.saturating_sub(bytes))?;
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

/// The ranges of bytes within `wanted` that are not here.
pub(super) fn missing(held: &Bitfield, wanted: &Range<u64>) -> Vec<Range<u64>> {
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
