//! The latest results of plain calls of peers: a caller whose own daemon died may still ask.

use std::{collections::VecDeque, sync::Mutex};

use rhd_protocol::id::CallId;

use super::lock;
use crate::framed::Frame;

/// Results that are kept, each of them at most [`RESULT`] bytes.
const RESULTS: usize = 1024;
/// Bytes of all of them.
const BYTES: usize = 8 * 1024 * 1024;
/// Bytes of the largest one.
const RESULT: usize = 256 * 1024;
/// A smaller one is copied: what it was read into may be much larger.
const COPIED: usize = 16 * 1024;

/// Final replies, oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    frames: VecDeque<(CallId, Frame)>,
    bytes: usize,
}

impl Recent {
    /// Keeps a final reply, for a while.
    pub(super) fn keep(&self, id: CallId, frame: &Frame) {
        let len = frame.len();
        if len > RESULT {
            return;
        }
        let frame = if len <= COPIED { frame.copied() } else { frame.clone() };
        let mut ring = lock(&self.ring);
        ring.bytes += len;
        ring.frames.push_back((id, frame));
        while ring.frames.len() > RESULTS || ring.bytes > BYTES {
            let Some((_, oldest)) = ring.frames.pop_front() else { return };
            ring.bytes -= oldest.len();
        }
    }

    /// The final reply of a call, if it is still there.
    pub(super) fn get(&self, id: CallId) -> Option<Frame> {
        let ring = lock(&self.ring);
        ring.frames.iter().rev().find(|(of, _)| *of == id).map(|(_, frame)| frame.clone())
    }
}

#[cfg(test)]
mod tests {
    use rhd_protocol::call::Reply;

    use super::*;

    fn id(n: u32) -> CallId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        CallId::from_bytes(bytes)
    }

    #[test]
    fn neither_many_nor_large_ones_take_more_than_their_room() {
        let recent = Recent::default();
        for (n, len) in (0..).zip([10, RESULT - 1000, 10, 2 * RESULT].repeat(2000)) {
            recent.keep(id(n), &Frame::new(&Reply::done(len), vec![7; len]).unwrap());
        }
        let ring = lock(&recent.ring);
        assert!(ring.bytes <= BYTES && ring.frames.len() <= RESULTS);
        assert_eq!(ring.bytes, ring.frames.iter().map(|(_, f)| f.len()).sum::<usize>());
        drop(ring);
        assert!(recent.get(id(7998)).is_some(), "the newest that is small enough");
        assert!(recent.get(id(7999)).is_none() && recent.get(id(0)).is_none());
    }
}
