//! How many calls run side by side in one process.
//!
//! Many short calls at once get in each other's way (in Python for the one interpreter lock, in any
//! process for the cores), so a few run and the others wait. Calls that take their time don't count
//! as in the way: they wait for something themselves, and what they wait for may be another call.
//! So nobody waits for longer than [`SHORT_MS`] just to be one of few.

/// A call that runs for longer is no short one.
pub const SHORT_MS: u64 = 2;

/// The calls that run in one process.
#[derive(Debug, Clone)]
pub struct Width {
    few: usize,
    next: u64,
    /// Id of each call, and when it began.
    running: Vec<(u64, u64)>,
}

impl Width {
    /// Has `few` short calls run at once; more, where as many have turned out not to be short.
    pub fn new(few: usize) -> Self {
        Self { few, next: 0, running: Vec::new() }
    }

    /// How many more may begin now.
    pub fn room(&self, now: u64) -> usize {
        let short = self.running.iter().filter(|(_, began)| now < began + SHORT_MS).count();
        // Doubling: however many there are, the last one begins after a few steps.
        self.few.max(self.running.len() - short).saturating_sub(short)
    }

    /// Forgets the calls of a process that is gone.
    pub fn clear(&mut self) {
        self.running.clear();
    }

    /// A call begins; the id ends it.
    pub fn begin(&mut self, now: u64) -> u64 {
        self.next += 1;
        self.running.push((self.next, now));
        self.next
    }

    /// A call ended; says when it had begun.
    pub fn end(&mut self, id: u64) -> Option<u64> {
        let at = self.running.iter().position(|(running, _)| *running == id)?;
        Some(self.running.swap_remove(at).1)
    }

    /// Whether none runs.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_calls_run_few_at_once() {
        let mut width = Width::new(2);
        let first = width.begin(0);
        width.begin(0);
        assert_eq!(width.room(1), 0);
        width.end(first);
        assert_eq!(width.room(1), 1);
    }

    #[test]
    fn calls_that_last_make_room_for_as_many() {
        let mut width = Width::new(2);
        let (mut running, mut now) = (0, 0);
        let mut steps = Vec::new();
        while running < 64 {
            let room = width.room(now);
            (0..room).for_each(|_| _ = width.begin(now));
            running += room;
            steps.push(room);
            now += SHORT_MS;
        }
        assert_eq!(steps, [2, 2, 4, 8, 16, 32]);
    }

    #[test]
    fn a_short_call_beside_long_ones_begins_at_once() {
        let mut width = Width::new(2);
        (0..8).for_each(|_| _ = width.begin(0));
        assert_eq!(width.room(SHORT_MS), 8);
        width.begin(SHORT_MS);
        assert_eq!(width.room(SHORT_MS), 7);
    }

    #[test]
    fn an_unknown_end_changes_nothing() {
        let mut width = Width::new(1);
        width.begin(0);
        width.end(77);
        assert_eq!(width.room(0), 0);
    }
}
