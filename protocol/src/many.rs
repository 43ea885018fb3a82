//! Many calls at once on one connection of a client.
//!
//! A client asks for it with [`Request::Many`](crate::api::Request::Many), and once that is answered
//! by `Done` writes [`Order`] frames, one after the other or all at once. The daemon answers with
//! [`Reply`](crate::call::Reply) frames, each with the id of its call; those of one call come in
//! order, those of different calls in any. A daemon that does not know the request refuses it, and
//! takes the next one on that connection as ever.
//!
//! Replies that are not final are counted: [`WINDOW`] of a call may be under way, and [`WINDOW_BYTES`]
//! of them, until its reader says with [`Order::Credit`] that it has read some. A slow reader so
//! holds back its own call only. The final reply is not counted, but comes after the others.
//!
//! A failure without an id is about the connection: the daemon closes it. A client that closes it
//! cancels all calls on it.

use serde::{Deserialize, Serialize};

use crate::{call::Call, id::CallId};

/// Calls that may be under way on one connection; further ones are refused.
pub const CALLS: usize = 4096;
/// Replies of one call, other than the final one, that may be under way without having been read.
pub const WINDOW: u32 = crate::worker::ITEM_CREDIT;
/// Bytes of their frames, payloads included; one that is longer travels alone.
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// A body up to this size, in bytes, is no burden to other calls on its connection. Clients send
/// longer ones on a connection of their own.
pub const SMALL: usize = 64 * 1024;

/// What a client writes; the name of its variant is field `op`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", try_from = "Fields")]
pub enum Order {
    /// Starts a call, as [`Request::Call`](crate::api::Request::Call) does. Its id is that of no other
    /// call under way here.
    Call {
        /// The call.
        call: Box<Call>,
    },
    /// Cancels a call; no reply of it needs to follow. Without effect on one that has ended.
    Cancel {
        /// Which.
        id: CallId,
    },
    /// Says that this many further replies of a call were read.
    Credit {
        /// Which.
        id: CallId,
        /// How many.
        items: u32,
    },
}

/// An order as it is read: a tag in front of the fields would have them all buffered.
#[derive(Deserialize)]
struct Fields {
    op: Op,
    #[serde(default)]
    call: Option<Box<Call>>,
    #[serde(default)]
    id: Option<CallId>,
    #[serde(default)]
    items: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Call,
    Cancel,
    Credit,
}

impl TryFrom<Fields> for Order {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        match (fields.op, fields.call, fields.id) {
            (Op::Call, Some(call), _) => Ok(Self::Call { call }),
            (Op::Cancel, _, Some(id)) => Ok(Self::Cancel { id }),
            (Op::Credit, _, Some(id)) => Ok(Self::Credit { id, items: fields.items }),
            (Op::Call, None, _) => Err("missing field `call`"),
            (Op::Cancel | Op::Credit, _, None) => Err("missing field `id`"),
        }
    }
}

/// The replies of one call that were sent and not yet read.
#[derive(Debug, Default)]
pub struct Unread {
    sizes: std::collections::VecDeque<usize>,
    bytes: usize,
}

impl Unread {
    /// Whether a further reply may be sent.
    pub fn has_room(&self) -> bool {
        self.sizes.len() < WINDOW as usize && self.bytes < WINDOW_BYTES
    }

    /// Notes a reply that was sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sizes.push_back(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Notes that the oldest of them were read; of more than there are, all.
    pub fn read(&mut self, items: u32) {
        let read = self.sizes.len().min(items as usize);
        let bytes: usize = self.sizes.drain(..read).fold(0, usize::saturating_add);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The replies of one call that were read and not yet credited.
#[derive(Debug, Default)]
pub struct Owed {
    items: u32,
    bytes: usize,
}

impl Owed {
    /// Notes a reply that was read; how many to credit, once that is due.
    pub fn read(&mut self, bytes: usize) -> Option<u32> {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.items < WINDOW / 2 && self.bytes < WINDOW_BYTES / 2 {
            return None;
        }
        Some(std::mem::take(self).items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_is_bounded_in_number_and_bytes() {
        let mut unread = Unread::default();
        for _ in 0..WINDOW {
            assert!(unread.has_room());
            unread.sent(1);
        }
        assert!(!unread.has_room());
        unread.read(1);
        assert!(unread.has_room());
        unread.sent(usize::MAX);
        unread.read(WINDOW - 1);
        assert!(!unread.has_room(), "a large one travels alone");
        unread.read(u32::MAX);
        assert!(unread.has_room());
        unread.sent(WINDOW_BYTES);
        assert!(!unread.has_room());
    }

    #[test]
    fn a_reader_that_has_read_all_never_leaves_the_sender_without_room() {
        for size in [0, 1, WINDOW_BYTES / 17, WINDOW_BYTES / 3, WINDOW_BYTES, usize::MAX] {
            let (mut unread, mut owed) = (Unread::default(), Owed::default());
            for _ in 0..100 {
                assert!(unread.has_room(), "{size}");
                unread.sent(size);
                if let Some(items) = owed.read(size) {
                    unread.read(items);
                }
            }
        }
    }
}
