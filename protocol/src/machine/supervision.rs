//! When a worker process is started again, and when no more.
//!
//! ```text
//! Idle --demand--> Starting --ready--> Up
//!  ^                  |                 |
//!  +---- exited ------+------ exited ---+        too many exits within the window: gives up,
//!                                                until the window is over or `reset`
//! ```

use std::collections::VecDeque;

use super::backoff::Backoff;

/// Limits on restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unexpected exits within the window after which no more starts are tried.
    pub failures: u32,
    /// The window, in milliseconds.
    pub window_ms: u64,
    /// The first wait, in milliseconds.
    pub base_ms: u64,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { failures: 5, window_ms: 60_000, base_ms: 100, max_ms: 5_000 }
    }
}

/// What to do for a call that needs the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it runs, or is being started.
    Wait,
    /// Start it, now that the caller has waited this many milliseconds from now.
    Start {
        /// Milliseconds to wait before the start.
        after_ms: u64,
    },
    /// Refuse the call.
    GiveUp {
        /// Unexpected exits within the window.
        failures: u32,
        /// Milliseconds until another start will be tried.
        retry_ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Starting,
    Up,
}

/// Supervises one process.
#[derive(Debug)]
pub struct Supervision {
    limits: Limits,
    state: State,
    /// Times of unexpected exits, oldest first, at most `limits.failures`.
    exits: VecDeque<u64>,
    backoff: Backoff,
    not_before: u64,
}

impl Supervision {
    /// Nothing runs yet.
    pub fn new(limits: Limits) -> Self {
        let backoff = Backoff::new(limits.base_ms, limits.max_ms);
        Self { limits, state: State::Idle, exits: VecDeque::new(), backoff, not_before: 0 }
    }

    /// A call needs the process. After [`Decision::Start`] it counts as being started.
    pub fn demand(&mut self, now: u64) -> Decision {
        if self.state != State::Idle {
            return Decision::Wait;
        }
        self.forget(now);
        if let Some(oldest) = self.exits.front()
            && self.exits.len() >= self.limits.failures as usize
        {
            return Decision::GiveUp {
                failures: self.limits.failures,
                retry_ms: (oldest + self.limits.window_ms).saturating_sub(now),
            };
        }
        self.state = State::Starting;
        Decision::Start { after_ms: self.not_before.saturating_sub(now) }
    }

    /// The process is there and takes calls.
    pub fn ready(&mut self) {
        self.state = State::Up;
    }

    /// A call ended in order: what was wrong is over.
    pub fn succeeded(&mut self) {
        self.exits.clear();
        self.backoff.succeed();
        self.not_before = 0;
    }

    /// The process ended, or could not be started. `expected`: we ended it ourselves.
    pub fn exited(&mut self, now: u64, expected: bool, random: u32) {
        self.state = State::Idle;
        if expected {
            return;
        }
        self.forget(now);
        if self.exits.len() >= self.limits.failures as usize {
            self.exits.pop_front();
        }
        self.exits.push_back(now);
        self.not_before = now.saturating_add(self.backoff.fail(random));
    }

    /// Somebody asks for a new beginning.
    pub fn reset(&mut self) {
        self.succeeded();
    }

    fn forget(&mut self, now: u64) {
        let window = self.limits.window_ms;
        while self.exits.front().is_some_and(|at| at.saturating_add(window) <= now) {
            self.exits.pop_front();
        }
        if self.exits.is_empty() {
            self.backoff.succeed();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crash(s: &mut Supervision, now: u64) -> Decision {
        let decision = s.demand(now);
        if matches!(decision, Decision::Start { .. }) {
            s.ready();
            s.exited(now, false, 0);
        }
        decision
    }

    #[test]
    fn restarts_wait_longer_each_time_then_stop_until_the_window_is_over() {
        let mut s = Supervision::new(Limits::default());
        let waits: Vec<_> = (0..5).map(|_| crash(&mut s, 1_000)).collect();
        let start = |after_ms| Decision::Start { after_ms };
        assert_eq!(waits, [start(0), start(100), start(200), start(400), start(800)]);
        assert_eq!(s.demand(1_000), Decision::GiveUp { failures: 5, retry_ms: 60_000 });
        assert_eq!(s.demand(60_999), Decision::GiveUp { failures: 5, retry_ms: 1 });
        assert_eq!(s.demand(61_000), start(0));
    }

    #[test]
    fn success_resets_and_an_expected_end_counts_nothing() {
        let mut s = Supervision::new(Limits::default());
        for _ in 0..20 {
            assert!(matches!(crash(&mut s, 0), Decision::Start { .. }));
            s.succeeded();
        }
        for _ in 0..20 {
            assert_eq!(s.demand(0), Decision::Start { after_ms: 0 });
            assert_eq!(s.demand(0), Decision::Wait);
            s.ready();
            s.exited(0, true, 0);
        }
    }

    proptest! {
        /// Whatever happens, no window sees more starts that failed than the limit allows.
        #[test]
        fn failures_in_a_window_are_bounded(steps in prop::collection::vec((0..30_000u64, any::<u32>()), 1..200)) {
            let mut s = Supervision::new(Limits::default());
            let (mut now, mut failed) = (0u64, Vec::new());
            for (pass, random) in steps {
                now += pass;
                match s.demand(now) {
                    Decision::Start { after_ms } => {
                        prop_assert!(after_ms <= Limits::default().max_ms);
                        now += after_ms;
                        s.exited(now, false, random);
                        failed.push(now);
                    }
                    Decision::GiveUp { retry_ms, .. } => prop_assert!(retry_ms <= 60_000),
                    Decision::Wait => prop_assert!(false, "nothing runs"),
                }
                let recent = failed.iter().filter(|at| **at + 60_000 > now).count();
                prop_assert!(recent <= 5 , "{} failures in a window", recent);
            }
        }
    }
}
