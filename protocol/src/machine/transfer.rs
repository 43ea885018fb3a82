//! Which piece of a blob to ask of which holder, and when to give up.
//!
//! ```text
//! pieces: todo -> asked of a holder -> here
//!           ^------ failed -----'
//! holders: free -> busy -> free | resting (failed, asked again later) | out
//! ```
//!
//! A holder that sent wrong bytes is out at once; one that stalls or is lost rests longer each time,
//! and is out when it fails too often in a row.

use std::{collections::BTreeMap, ops::Range};

use super::backoff::Backoff;
use crate::id::NodeId;

/// Bytes of one request.
pub const PIECE: u64 = 32 * 1024 * 1024;
/// Requests that one holder answers at once: the next one is there when the first ends.
const AT_ONCE: usize = 2;
/// Failures in a row after which a holder is not asked again.
const TRIES: u32 = 5;

/// Why a holder did not give what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Its bytes are not those of the blob.
    Wrong,
    /// It does not have them.
    Absent,
    /// It sent nothing for too long.
    Stalled,
    /// The way to it broke.
    Lost,
}

/// What happens to a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A node says that it has the blob.
    Found(NodeId),
    /// Nobody else will be found.
    Searched,
    /// A holder has given all of a piece.
    Got {
        /// The holder.
        node: NodeId,
        /// The piece.
        piece: Range<u64>,
    },
    /// A holder has not given all of a piece.
    Failed {
        /// The holder.
        node: NodeId,
        /// The piece.
        piece: Range<u64>,
        /// What is still missing of it.
        missing: Vec<Range<u64>>,
        /// Why.
        fault: Fault,
    },
    /// The time that [`Effect::Wake`] asked for has come.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask a holder for a piece.
    Ask {
        /// The holder.
        node: NodeId,
        /// The piece.
        piece: Range<u64>,
    },
    /// Say [`Input::Time`] at this time, in milliseconds.
    Wake(u64),
    /// All is here.
    Complete,
    /// Nobody is left to ask.
    GiveUp,
}

#[derive(Debug)]
struct Holder {
    busy: usize,
    backoff: Backoff,
    rests_until: u64,
    out: Option<Fault>,
}

/// One transfer.
#[derive(Debug)]
pub struct Transfer {
    todo: Vec<Range<u64>>,
    holders: BTreeMap<NodeId, Holder>,
    searched: bool,
    over: bool,
}

impl Transfer {
    /// A transfer of these ranges of bytes.
    pub fn new(missing: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut todo: Vec<_> = missing.into_iter().flat_map(pieces).collect();
        // Taken from the end: first the first.
        todo.reverse();
        Self { todo, holders: BTreeMap::new(), searched: false, over: false }
    }

    /// The holders that are out, and why.
    pub fn out(&self) -> impl Iterator<Item = (NodeId, Fault)> + '_ {
        self.holders.iter().filter_map(|(node, holder)| Some((*node, holder.out?)))
    }

    /// Takes note of what happened, and says what is to be done about it.
    pub fn handle(&mut self, input: Input, now: u64) -> Vec<Effect> {
        match input {
            Input::Found(node) => {
                self.holders.entry(node).or_insert_with(|| Holder {
                    busy: 0,
                    backoff: Backoff::new(250, 4_000),
                    rests_until: 0,
                    out: None,
                });
            }
            Input::Searched => self.searched = true,
            Input::Got { node, .. } => {
                if let Some(holder) = self.holders.get_mut(&node) {
                    holder.busy = holder.busy.saturating_sub(1);
                    holder.backoff.succeed();
                }
            }
            Input::Failed { node, piece, missing, fault } => {
                if let Some(holder) = self.holders.get_mut(&node) {
                    let left: u64 = missing.iter().map(|range| range.end - range.start).sum();
                    holder.failed(fault, left < piece.end - piece.start, now);
                }
                self.todo.extend(missing.into_iter().rev());
            }
            Input::Time => {}
        }
        self.next(now)
    }

    fn next(&mut self, now: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.over {
            return effects;
        }
        // The least busy first, so that all of them give something.
        for busy in 0..AT_ONCE {
            for (node, holder) in &mut self.holders {
                if holder.busy == busy
                    && holder.is_free(now)
                    && let Some(piece) = self.todo.pop()
                {
                    holder.busy += 1;
                    effects.push(Effect::Ask { node: *node, piece });
                }
            }
        }
        if self.holders.values().any(|holder| holder.busy > 0) {
            return effects;
        }
        if self.todo.is_empty() {
            self.over = true;
            effects.push(Effect::Complete);
        } else if let Some(at) =
            self.holders.values().filter(|h| h.out.is_none()).map(|h| h.rests_until).min()
        {
            effects.push(Effect::Wake(at));
        } else if self.searched {
            self.over = true;
            effects.push(Effect::GiveUp);
        }
        effects
    }
}

impl Holder {
    fn is_free(&self, now: u64) -> bool {
        self.out.is_none() && self.rests_until <= now
    }

    fn failed(&mut self, fault: Fault, gave_some: bool, now: u64) {
        self.busy = self.busy.saturating_sub(1);
        if gave_some {
            self.backoff.succeed();
        }
        self.rests_until = now + self.backoff.fail(0);
        if matches!(fault, Fault::Wrong | Fault::Absent) || self.backoff.failures() >= TRIES {
            self.out = Some(fault);
        }
    }
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(PIECE as usize).map(move |at| at..(at + PIECE).min(end))
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn wrong_bytes_put_a_holder_out_and_its_piece_goes_to_another() {
        let mut transfer = Transfer::new([0..10]);
        let ask = |n: u8| Effect::Ask { node: node(n), piece: 0..10 };
        assert_eq!(transfer.handle(Input::Found(node(1)), 0), [ask(1)]);
        assert_eq!(transfer.handle(Input::Found(node(2)), 0), []);
        let failed = Input::Failed {
            node: node(1),
            piece: 0..10,
            missing: vec![4..10],
            fault: Fault::Wrong,
        };
        let rest = Effect::Ask { node: node(2), piece: 4..10 };
        assert_eq!(transfer.handle(failed, 0), [rest]);
        assert_eq!(transfer.out().collect::<Vec<_>>(), [(node(1), Fault::Wrong)]);
        let got = Input::Got { node: node(2), piece: 4..10 };
        assert_eq!(transfer.handle(got, 0), [Effect::Complete]);
    }

    #[test]
    fn a_holder_that_is_lost_is_asked_again_after_a_while_but_not_for_ever() {
        let mut transfer = Transfer::new([0..10]);
        let mut effects = transfer.handle(Input::Found(node(1)), 0);
        effects.extend(transfer.handle(Input::Searched, 0));
        let (mut now, mut asked) = (0, 0);
        while let Some(effect) = effects.pop() {
            let input = match effect {
                Effect::Ask { node, piece } => {
                    asked += 1;
                    let missing = vec![piece.clone()];
                    Input::Failed { node, piece, missing, fault: Fault::Lost }
                }
                Effect::Wake(at) => {
                    assert!(at > now);
                    now = at;
                    Input::Time
                }
                Effect::GiveUp => return assert_eq!(asked, TRIES),
                Effect::Complete => panic!("nothing came"),
            };
            effects = transfer.handle(input, now);
        }
        panic!("the transfer hangs");
    }

    proptest! {
        /// Whatever holders do, each byte is asked of one holder at a time, none that is out is
        /// asked, and the transfer ends: with all bytes where one holder is honest.
        #[test]
        fn every_transfer_ends(
            size in 1..6 * PIECE,
            faults in proptest::collection::vec(0..5u8, 1..5),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 400),
        ) {
            let mut transfer = Transfer::new([0..size, size + 100..size + 200]);
            let mut here = vec![];
            let mut asked: Vec<(NodeId, Range<u64>)> = vec![];
            let (mut now, mut wake, mut ended) = (0, None, None);
            let found = (0..faults.len()).map(|n| Input::Found(node(n as u8)));
            let mut inputs: Vec<Input> = found.chain([Input::Searched]).collect();
            inputs.reverse();
            for turn in order {
                let input = if let Some(input) = inputs.pop() {
                    input
                } else if !asked.is_empty() {
                    let (node, piece) = asked.swap_remove(turn.index(asked.len()));
                    let fault = [None, Some(Fault::Wrong), Some(Fault::Absent),
                        Some(Fault::Stalled), Some(Fault::Lost)];
                    match fault[faults[node.as_bytes()[0] as usize] as usize] {
                        None => {
                            here.push(piece.clone());
                            Input::Got { node, piece }
                        }
                        Some(fault) => {
                            let middle = piece.start + (piece.end - piece.start) / 2;
                            here.push(piece.start..middle);
                            let missing = vec![middle..piece.end];
                            Input::Failed { node, piece, missing, fault }
                        }
                    }
                } else if let Some(at) = wake.take() {
                    now = at;
                    Input::Time
                } else {
                    break;
                };
                for effect in transfer.handle(input, now) {
                    match effect {
                        Effect::Ask { node, piece } => {
                            prop_assert!(transfer.out().all(|(out, _)| out != node));
                            let free = |other: &Range<u64>| {
                                other.end <= piece.start || piece.end <= other.start
                            };
                            prop_assert!(asked.iter().all(|(_, other)| free(other)));
                            prop_assert!(here.iter().all(free));
                            asked.push((node, piece));
                        }
                        Effect::Wake(at) => wake = Some(at),
                        end => ended = Some(end),
                    }
                }
            }
            if faults.contains(&0) {
                prop_assert_eq!(ended, Some(Effect::Complete));
                let bytes: u64 = here.iter().map(|range| range.end - range.start).sum();
                prop_assert_eq!(bytes, size + 100);
            } else {
                prop_assert!(ended.is_some());
            }
        }
    }
}
