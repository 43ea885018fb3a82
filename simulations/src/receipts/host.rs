//! A host: its journal on disk and in memory, and what runs on it.

use std::collections::{BTreeMap, BTreeSet};

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Known, Receipts, Record, What},
    run::RunStatus,
};

use crate::rng::Rng;

/// Results that are kept in memory.
const RECENT: usize = 8;

/// What became of a call that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    Starts,
    /// It was ruled out before.
    TooLate,
    /// It is known already.
    Again,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) up: bool,
    /// Counts its starts, from one.
    pub(super) life: u32,
    /// How far its clock is ahead.
    ahead: u64,
    boot: u8,
    receipts: Receipts,
    /// Entries of its two files.
    disk: [Vec<Record>; 2],
    /// How many of the newer file would survive a power cut.
    flushed: usize,
    segment: usize,
    /// What runs, and who waits for it.
    running: BTreeMap<CallId, Vec<usize>>,
    recent: Vec<CallId>,
    /// All that ever ran here.
    had: BTreeSet<CallId>,
}

/// What a host that went down leaves.
#[derive(Debug)]
pub(super) struct Down {
    /// Calls that ran.
    pub(super) ran: Vec<CallId>,
    /// Calls whose end a power cut took off the disk.
    pub(super) lost_ends: Vec<CallId>,
}

impl Host {
    pub(super) fn new(ahead: u64, segment: usize) -> Self {
        Self {
            up: false,
            life: 0,
            ahead,
            boot: 1,
            receipts: Receipts::default(),
            disk: Default::default(),
            flushed: 0,
            segment,
            running: BTreeMap::new(),
            recent: Vec::new(),
            had: BTreeSet::new(),
        }
    }

    pub(super) fn start(&mut self, now: u64) {
        (self.up, self.life) = (true, self.life + 1);
        let mut receipts = Receipts::default();
        for file in &self.disk {
            receipts.seam();
            file.iter().for_each(|record| receipts.replay(*record));
        }
        self.receipts = receipts;
        for record in self.receipts.begin([self.boot; 16], now + self.ahead) {
            self.write(record);
        }
        self.flush();
    }

    /// Stops without a word.
    pub(super) fn stop(&mut self, power: bool, rng: &mut Rng) -> Down {
        self.up = false;
        self.recent.clear();
        let mut lost_ends = Vec::new();
        if power {
            self.boot += 1;
            let kept = rng.within(self.flushed as u64, self.disk[1].len() as u64) as usize;
            for record in self.disk[1].drain(kept..) {
                if let What::End { id, status: RunStatus::Completed } = record.what {
                    lost_ends.push(id);
                }
            }
        }
        Down { ran: std::mem::take(&mut self.running).into_keys().collect(), lost_ends }
    }

    pub(super) fn flush(&mut self) {
        self.flushed = self.disk[1].len();
    }

    pub(super) fn call(&mut self, id: CallId, from: usize, now: u64) -> Arrived {
        match self.receipts.admit(id, now + self.ahead) {
            Ok(record) => {
                self.write(record);
                self.had.insert(id);
                self.running.insert(id, vec![from]);
                Arrived::Starts
            }
            Err(receipt) if receipt.status == RunStatus::NotStarted => Arrived::TooLate,
            Err(_) => Arrived::Again,
        }
    }

    /// A call came to its end; returns who waits for it.
    pub(super) fn end(&mut self, id: CallId, now: u64) -> Vec<usize> {
        if let Some(record) = self.receipts.end(id, RunStatus::Completed, now + self.ahead) {
            self.write(record);
        }
        self.recent.push(id);
        if self.recent.len() > RECENT {
            self.recent.remove(0);
        }
        self.running.remove(&id).unwrap_or_default()
    }

    pub(super) fn ask(&mut self, id: CallId, age: u64, now: u64) -> Known {
        let known = self.receipts.look(id, Some(age), now + self.ahead);
        if known == Known::Never
            && let Some(record) = self.receipts.rule_out(id, now + self.ahead)
        {
            self.write(record);
            // A promise is on disk before it is given.
            self.flush();
        }
        known
    }

    /// Whether the result is there; `None` when it will be sent.
    pub(super) fn attach(&mut self, id: CallId, from: usize) -> Option<bool> {
        match self.running.get_mut(&id) {
            Some(waiting) => {
                waiting.push(from);
                None
            }
            None => Some(self.recent.contains(&id)),
        }
    }

    pub(super) fn had(&self, id: CallId) -> bool {
        self.had.contains(&id)
    }

    fn write(&mut self, record: Record) {
        if self.disk[1].len() >= self.segment {
            let head = self.receipts.rotate(record.at_ms);
            self.disk.swap(0, 1);
            self.disk[1] = head;
            // A new file is flushed before the older one goes.
            self.flush();
        }
        self.disk[1].push(record);
        self.receipts.replay(record);
    }
}
