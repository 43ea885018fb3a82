//! The caller's side: what to do when it is not known what became of a call.
//!
//! ```text
//! Calling --lost--> Asking --RUNNING--> Attached --result--> over
//!    ^                | ^                  |
//!    |                | +------- lost -----+        COMPLETED, ERROR, CANCELLED: attach, too, for
//!    |                |                             what was kept
//!    +--- fresh id ---+  NOT_STARTED or INTERRUPTED, while repeats are allowed
//! ```
//!
//! What may still run is never repeated: while a node that may know can't be asked, the caller asks
//! again, later.

use super::{Known, Receipt};
use crate::run::RunStatus;

/// First and longest wait between two questions, in milliseconds.
const WAIT_MS: (u64, u64) = (100, 5_000);

/// What several nodes together know of a call; `None` for a node that did not answer.
///
/// One that knows it is right. Without one, only the word of all of them will do.
pub fn merge(answers: &[Option<Known>]) -> Heard {
    let known = answers.iter().enumerate().filter_map(|(node, answer)| match answer {
        Some(Known::Yes(receipt)) => Some((node, *receipt)),
        _ => None,
    });
    // A node that ruled the call out says no more than that it never came there.
    if let Some((node, receipt)) = known.max_by_key(|(_, r)| rank(r.status)) {
        if receipt.status != RunStatus::NotStarted {
            return Heard::Known { node, receipt };
        }
        if answers.iter().all(|a| matches!(a, Some(Known::Yes(_) | Known::Never))) {
            return Heard::Known { node, receipt };
        }
    }
    let sure = |a: &Option<Known>| match a {
        Some(Known::Never) => true,
        Some(Known::Yes(receipt)) => receipt.status == RunStatus::NotStarted,
        Some(Known::Forgotten { .. }) | None => false,
    };
    let silent: Vec<usize> =
        answers.iter().enumerate().filter(|(_, a)| !sure(a)).map(|(node, _)| node).collect();
    if silent.is_empty() { Heard::Nowhere } else { Heard::Unsure { silent } }
}

fn rank(status: RunStatus) -> u8 {
    match status {
        RunStatus::NotStarted => 0,
        RunStatus::Interrupted => 1,
        RunStatus::Cancelled => 2,
        RunStatus::Error => 3,
        RunStatus::Running => 4,
        RunStatus::Completed => 5,
    }
}

/// What the caller hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The final reply to the call, whatever it says.
    Reply,
    /// It was refused before anything was sent: nothing ran.
    Refused,
    /// The way to the final reply broke: nobody knows.
    Lost,
    /// A node knows it.
    Known {
        /// Which, in the order that was asked.
        node: usize,
        /// How far it got.
        receipt: Receipt,
    },
    /// All nodes say that it never started, and promise that it never will.
    Nowhere,
    /// Some may know, and can't be asked or have forgotten.
    Unsure {
        /// Which, in the order that was asked.
        silent: Vec<usize>,
    },
    /// The time to wait is over.
    Waited,
    /// It ended, and what it returned was not kept.
    NotKept,
}

/// What the caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Hands the reply to whoever called.
    Deliver,
    /// Asks all nodes what became of it.
    Ask,
    /// Waits for its replies at the node that knows it.
    Attach {
        /// Which, in the order that was asked.
        node: usize,
    },
    /// Calls once more, under a fresh id.
    Repeat,
    /// Waits this long.
    Wait {
        /// Milliseconds.
        ms: u64,
    },
    /// Nothing more can be done; the reason is what was heard last.
    GiveUp,
}

/// One call and its repeats, from the caller's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Repeats that are still allowed.
    repeats: u32,
    /// Questions without an answer that settles it, before giving up.
    patience: u32,
    asked: u32,
    over: bool,
}

impl Asker {
    /// A call that may be repeated `repeats` times, asked after at most `patience` times each.
    pub fn new(repeats: u32, patience: u32) -> Self {
        Self { repeats, patience, asked: 0, over: false }
    }

    /// Decides.
    pub fn handle(&mut self, heard: &Heard) -> Next {
        if self.over {
            return Next::GiveUp;
        }
        let next = match heard {
            Heard::Reply => Next::Deliver,
            Heard::Lost | Heard::Waited => self.ask(),
            Heard::Refused | Heard::Nowhere => self.repeat(),
            Heard::Known { node, receipt } => match receipt.status {
                RunStatus::NotStarted | RunStatus::Interrupted => self.repeat(),
                RunStatus::Running
                | RunStatus::Completed
                | RunStatus::Cancelled
                | RunStatus::Error => Next::Attach { node: *node },
            },
            Heard::Unsure { .. } => {
                let (first, longest) = WAIT_MS;
                Next::Wait { ms: first.saturating_mul(1 << self.asked.min(16)).min(longest) }
            }
            Heard::NotKept => Next::GiveUp,
        };
        self.over = matches!(next, Next::Deliver | Next::GiveUp);
        next
    }

    fn ask(&mut self) -> Next {
        if self.asked >= self.patience {
            return Next::GiveUp;
        }
        self.asked += 1;
        Next::Ask
    }

    fn repeat(&mut self) -> Next {
        if self.repeats == 0 {
            return Next::GiveUp;
        }
        self.repeats -= 1;
        self.asked = 0;
        Next::Repeat
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn known(status: RunStatus) -> Known {
        Known::Yes(Receipt { status, started_ms: 1, ended_ms: 0 })
    }

    #[test]
    fn one_that_knows_is_right_and_else_all_must_have_spoken() {
        let running = merge(&[None, Some(Known::Never), Some(known(RunStatus::Running))]);
        assert!(matches!(running, Heard::Known { node: 2, .. }), "{running:?}");
        assert_eq!(merge(&[Some(Known::Never); 2]), Heard::Nowhere);
        assert_eq!(merge(&[Some(Known::Never), None]), Heard::Unsure { silent: vec![1] });
        let forgot = Some(Known::Forgotten { since_ms: 9 });
        assert_eq!(merge(&[forgot, Some(Known::Never)]), Heard::Unsure { silent: vec![0] });
        // Ruled out here says nothing of the node that is silent.
        let ruled_out = Some(known(RunStatus::NotStarted));
        assert_eq!(merge(&[ruled_out, None]), Heard::Unsure { silent: vec![1] });
    }

    fn any_heard() -> impl Strategy<Value = Heard> {
        let statuses = select(vec![
            RunStatus::NotStarted,
            RunStatus::Running,
            RunStatus::Completed,
            RunStatus::Cancelled,
            RunStatus::Error,
            RunStatus::Interrupted,
        ]);
        let known = (statuses, 0..3usize).prop_map(|(status, node)| {
            let receipt = Receipt { status, started_ms: 1, ended_ms: 2 };
            Heard::Known { node, receipt }
        });
        prop_oneof![
            known,
            Just(Heard::Reply),
            Just(Heard::Refused),
            Just(Heard::Lost),
            Just(Heard::Nowhere),
            Just(Heard::Unsure { silent: vec![0] }),
            Just(Heard::Waited),
            Just(Heard::NotKept),
        ]
    }

    proptest! {
        #[test]
        fn only_what_never_ends_is_repeated_and_never_too_often(
            heard in vec(any_heard(), 0..60),
            repeats in 0..4u32,
        ) {
            let mut asker = Asker::new(repeats, 5);
            let (mut repeated, mut over) = (0, false);
            for heard in heard {
                let next = asker.handle(&heard);
                prop_assert!(!over || next == Next::GiveUp, "it goes on after its end");
                over |= matches!(next, Next::Deliver | Next::GiveUp);
                if next == Next::Repeat {
                    repeated += 1;
                    let dead = match heard {
                        Heard::Refused | Heard::Nowhere => true,
                        Heard::Known { receipt, .. } => matches!(
                            receipt.status,
                            RunStatus::NotStarted | RunStatus::Interrupted
                        ),
                        _ => false,
                    };
                    prop_assert!(dead, "repeated after {heard:?}");
                }
            }
            prop_assert!(repeated <= repeats);
        }
    }
}
