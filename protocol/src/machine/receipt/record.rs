//! One entry of a journal of receipts: 32 bytes that say for themselves whether they are whole.
//!
//! ```text
//! +------+------+--------+-------+----------+-------------+----------------+
//! | 0xd7 | kind | status | 0     | check u32 | unix ms u64 | id, 16 bytes   |   integers big-endian
//! +------+------+--------+-------+----------+-------------+----------------+
//! ```

use crate::{id::CallId, run::RunStatus};

/// Bytes of an entry.
pub const LEN: usize = 32;
const MAGIC: u8 = 0xd7;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A daemon starts; its machine was booted under this id.
    Life {
        /// The kernel's boot id.
        boot: [u8; 16],
    },
    /// The daemon ends in order: everything before is on disk.
    Bye,
    /// A call is about to start.
    Start {
        /// Which.
        id: CallId,
    },
    /// A call ended, or never will start.
    End {
        /// Which.
        id: CallId,
        /// How; final.
        status: RunStatus,
    },
    /// What was journaled between two times may be lost: it starts at this entry's time.
    Gap {
        /// Its end, in unix milliseconds.
        until_ms: u64,
    },
}

/// An entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// What it says.
    pub what: What,
}

impl Record {
    /// As bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let (kind, status, id) = match self.what {
            What::Life { boot } => (1, 0, boot),
            What::Bye => (2, 0, [0; 16]),
            What::Start { id } => (3, 0, *id.as_bytes()),
            What::End { id, status } => (4, code(status), *id.as_bytes()),
            What::Gap { until_ms } => {
                let mut id = [0; 16];
                id[8..].copy_from_slice(&until_ms.to_be_bytes());
                (5, 0, id)
            }
        };
        let mut bytes = [0; LEN];
        bytes[..3].copy_from_slice(&[MAGIC, kind, status]);
        bytes[8..16].copy_from_slice(&self.at_ms.to_be_bytes());
        bytes[16..].copy_from_slice(&id);
        let check = check(&bytes);
        bytes[4..8].copy_from_slice(&check);
        bytes
    }

    /// Reads an entry; `None` when it is torn, or not one of ours.
    pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let [magic, kind, status, ..] = *bytes;
        if magic != MAGIC || bytes[4..8] != check(bytes) {
            return None;
        }
        let (_, rest) = bytes.split_first_chunk::<8>()?;
        let (at, id) = rest.split_first_chunk::<8>()?;
        let id: [u8; 16] = id.try_into().ok()?;
        let what = match kind {
            1 => What::Life { boot: id },
            2 => What::Bye,
            3 => What::Start { id: CallId::from_bytes(id) },
            4 => What::End { id: CallId::from_bytes(id), status: status_of(status)? },
            5 => What::Gap { until_ms: u64::from_be_bytes(*id.last_chunk()?) },
            _ => return None,
        };
        Some(Self { at_ms: u64::from_be_bytes(*at), what })
    }
}

/// The first bytes of a hash of everything but themselves.
fn check(bytes: &[u8; LEN]) -> [u8; 4] {
    let mut rest = *bytes;
    rest[4..8].fill(0);
    let [a, b, c, d, ..] = *blake3::hash(&rest).as_bytes();
    [a, b, c, d]
}

fn code(status: RunStatus) -> u8 {
    match status {
        RunStatus::NotStarted => 1,
        RunStatus::Running => 2,
        RunStatus::Completed => 3,
        RunStatus::Cancelled => 4,
        RunStatus::Error => 5,
        RunStatus::Interrupted => 6,
    }
}

fn status_of(code: u8) -> Option<RunStatus> {
    Some(match code {
        1 => RunStatus::NotStarted,
        3 => RunStatus::Completed,
        4 => RunStatus::Cancelled,
        5 => RunStatus::Error,
        6 => RunStatus::Interrupted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let what = prop_oneof![
            any::<[u8; 16]>().prop_map(|boot| What::Life { boot }),
            Just(What::Bye),
            any::<[u8; 16]>().prop_map(|id| What::Start { id: CallId::from_bytes(id) }),
            (any::<[u8; 16]>(), prop::sample::select(vec![1, 3, 4, 5, 6])).prop_map(
                |(id, code)| {
                    let status = status_of(code).unwrap();
                    What::End { id: CallId::from_bytes(id), status }
                }
            ),
            any::<u64>().prop_map(|until_ms| What::Gap { until_ms }),
        ];
        (any::<u64>(), what).prop_map(|(at_ms, what)| Record { at_ms, what })
    }

    proptest! {
        #[test]
        fn entries_round_trip_and_one_that_changed_is_none(
            record in any_record(),
            at in 0..LEN,
            flip in 1..=255u8,
        ) {
            let mut bytes = record.encode();
            prop_assert_eq!(Record::decode(&bytes), Some(record));
            bytes[at] ^= flip;
            // Byte 3 is checked too, though it says nothing yet.
            prop_assert_eq!(Record::decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in any::<[u8; LEN]>()) {
            let _ = Record::decode(&bytes);
        }
    }

    #[test]
    fn what_was_never_written_is_no_entry() {
        assert_eq!(Record::decode(&[0; LEN]), None);
    }
}
