//! Which calls share one lane of a process, and when it needs more threads.
//!
//! A lane of its own costs each call a wake-up of its thread there and of its daemon here. Calls
//! that are over in a moment are better written behind each other: one thread then finds the next as
//! it ends the last. Only calls of what was [brief](Sharing::is_brief) of late are, and when one
//! of them takes its time after all, another thread goes on with those behind it.

use std::collections::{HashMap, VecDeque};

use super::width::SHORT_MS;

/// Calls on a shared lane at once, of which most wait in it.
pub const WINDOW: usize = 32;
/// Functions that are remembered.
const KNOWN: usize = 1024;
/// So many short calls more than long ones, or fewer, are remembered of a function: one that seems
/// long because the machine is busy changes nothing yet.
const SURE: i8 = 4;
/// Most threads asked for at once.
const MAX_THREADS: u32 = 16;

/// The calls on the shared lane of one process.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    /// How many more of the last calls of a function were short than long.
    short: HashMap<u64, i8>,
    next: u64,
    /// In the order in which they begin: id, and which function.
    under_way: VecDeque<(u64, u64)>,
    /// Whether one has ended since the last look.
    moved: bool,
    /// Threads that were asked for since one ended.
    threads: u32,
}

/// What there is to do about a shared lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Nothing is on it: no need to look again.
    Idle,
    /// Calls end.
    Moving,
    /// Calls wait and none ends: this many more threads have to take them.
    Stuck(u32),
}

impl Sharing {
    /// Learns from a call that had a lane of its own.
    pub fn observe(&mut self, function: u64, took_ms: u64) {
        self.learn(function, took_ms <= SHORT_MS);
    }

    fn learn(&mut self, function: u64, short: bool) {
        if self.short.len() >= KNOWN && !self.short.contains_key(&function) {
            self.short.clear();
        }
        let known = self.short.entry(function).or_default();
        *known = (*known + if short { 1 } else { -1 }).clamp(-SURE, SURE);
    }

    /// Whether calls of a function were over in a moment of late.
    pub fn is_brief(&self, function: u64) -> bool {
        self.short.get(&function).is_some_and(|known| *known > 0)
    }

    /// Calls that may yet be written to it.
    pub fn room(&self) -> usize {
        WINDOW.saturating_sub(self.under_way.len())
    }

    /// Whether calls wait there and none ended between the last two looks.
    pub fn is_stuck(&self) -> bool {
        self.threads > 0
    }

    /// Whether nothing is on it.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// A call is written to it; the id ends it.
    pub fn begin(&mut self, function: u64) -> u64 {
        self.next += 1;
        self.under_way.push_back((self.next, function));
        self.next
    }

    /// A call on it ended.
    pub fn end(&mut self, id: u64) {
        if let Some(at) = self.under_way.iter().position(|(other, _)| *other == id) {
            self.under_way.remove(at);
            self.moved = true;
        }
    }

    /// To be asked every [`SHORT_MS`] while it is in use.
    pub fn look(&mut self) -> Look {
        if self.under_way.is_empty() {
            (self.moved, self.threads) = (false, 0);
            return Look::Idle;
        }
        if std::mem::take(&mut self.moved) {
            self.threads = 0;
            return Look::Moving;
        }
        // Doubling: however many wait, the last one begins after a few steps.
        let more = self.threads.clamp(1, MAX_THREADS);
        self.threads += more;
        for at in 0..(self.threads as usize).min(self.under_way.len()) {
            self.learn(self.under_way[at].1, false);
        }
        Look::Stuck(more)
    }

    /// Forgets the calls of a process that is gone.
    pub fn clear(&mut self) {
        self.under_way.clear();
        (self.moved, self.threads) = (false, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_brief_as_long_as_its_last_calls_were() {
        let mut sharing = Sharing::default();
        assert!(!sharing.is_brief(1), "nothing is known of it");
        (0..100).for_each(|_| sharing.observe(1, SHORT_MS));
        assert!(sharing.is_brief(1));
        sharing.observe(1, SHORT_MS + 1);
        assert!(sharing.is_brief(1), "the machine may have been busy");
        (0..SURE).for_each(|_| sharing.observe(1, SHORT_MS + 1));
        assert!(!sharing.is_brief(1));
        (0..10 * KNOWN as u64).for_each(|function| sharing.observe(function, 0));
        assert!(sharing.short.len() <= KNOWN);
    }

    #[test]
    fn calls_that_last_get_threads_until_all_of_them_run() {
        let mut sharing = Sharing::default();
        (0..SURE).for_each(|_| sharing.observe(7, 0));
        (0..WINDOW).for_each(|_| _ = sharing.begin(7));
        assert_eq!(sharing.room(), 0);
        let (mut running, mut looks) = (1, 0);
        while running < WINDOW as u32 {
            let Look::Stuck(more) = sharing.look() else { panic!("it does not move") };
            running += more;
            looks += 1;
        }
        assert!(looks <= 6, "{looks}");
        assert!(sharing.is_stuck());
        assert!(!sharing.is_brief(7), "the next ones have lanes of their own");
    }

    #[test]
    fn a_lane_that_moves_needs_no_more_threads() {
        let mut sharing = Sharing::default();
        let (first, second) = (sharing.begin(1), sharing.begin(2));
        sharing.end(first);
        assert_eq!(sharing.look(), Look::Moving);
        assert!(!sharing.is_stuck());
        assert_eq!(sharing.look(), Look::Stuck(1));
        assert_eq!(sharing.look(), Look::Stuck(1));
        assert_eq!(sharing.look(), Look::Stuck(2));
        sharing.end(second);
        assert_eq!(sharing.look(), Look::Idle);
        assert_eq!(sharing.look(), Look::Idle);
        sharing.end(second);
        assert_eq!(sharing.room(), WINDOW, "an unknown end changes nothing");
    }
}
