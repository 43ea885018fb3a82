//! Receipts: what became of a call, told truthfully by its host and used safely by its caller.
//!
//! ```text
//!              admit            ended
//!  (unknown) --------> RUNNING --------> COMPLETED | CANCELLED | ERROR
//!      |                  |
//!      | asked            | the daemon ended without a word
//!      v                  v
//!  NOT_STARTED        INTERRUPTED          no arrow leaves a final status
//! ```
//!
//! A host that is asked about a call it doesn't know answers only after it has made sure that the
//! call never will start: the call may be under way to it, late. So the answer NOT_STARTED is a
//! promise, and a caller may act on it.

use std::collections::HashMap;

use crate::{id::CallId, run::RunStatus};

mod asker;
mod record;

pub use asker::{Asker, Heard, Next, merge};
pub use record::{LEN, Record, What};

/// Times of lost entries that are kept apart; with more, all before the last is taken for lost.
const MAX_GAPS: usize = 64;
/// The caller's and the host's idea of how long ago something was may differ by this much.
const SLACK_MS: u64 = 10_000;

/// What is known of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How far it got.
    pub status: RunStatus,
    /// Unix time in milliseconds at which it was journaled.
    pub started_ms: u64,
    /// The same of its end; 0: none, or unknown.
    pub ended_ms: u64,
}

/// What a host can say about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// This.
    Yes(Receipt),
    /// It never was here.
    Never,
    /// It may have been here, before the journal's beginning or in one of its gaps.
    Forgotten {
        /// From when on the journal is whole, in unix milliseconds.
        since_ms: u64,
    },
}

/// The index of a host's journal. What [`Receipts::replay`] takes is already in the journal; what
/// other methods return has to be written to it before anything else happens.
#[derive(Debug, Default)]
pub struct Receipts {
    newer: HashMap<CallId, Receipt>,
    /// Entries of the segment before, forgotten as a whole.
    older: HashMap<CallId, Receipt>,
    /// From when on everything is known; 0: nothing was ever forgotten.
    since_ms: u64,
    gaps: Vec<(u64, u64)>,
    boot: Option<[u8; 16]>,
    /// Whether the last life ended in order.
    bye: bool,
    /// The newest time that was seen.
    last_ms: u64,
    /// Entries between the last whole one and the next could not be read.
    torn: bool,
}

impl Receipts {
    /// What is known of a call that was made `age_ms` ago, by its caller's clock.
    pub fn look(&self, id: CallId, age_ms: Option<u64>, now_ms: u64) -> Known {
        if let Some(receipt) = self.get(id) {
            return Known::Yes(receipt);
        }
        let whole = self.gaps.last().map_or(self.since_ms, |(_, until)| *until);
        if whole == 0 {
            return Known::Never;
        }
        let Some(age) = age_ms else { return Known::Forgotten { since_ms: whole } };
        let latest = now_ms.saturating_sub(age).saturating_add(SLACK_MS);
        let earliest = now_ms.saturating_sub(age).saturating_sub(SLACK_MS);
        let lost = self.gaps.iter().find(|(from, until)| *from <= latest && earliest <= *until);
        match lost {
            Some((_, until)) => Known::Forgotten { since_ms: *until },
            None if earliest <= self.since_ms => Known::Forgotten { since_ms: self.since_ms },
            None => Known::Never,
        }
    }

    /// Lets a call start; or says how far the first of its id got.
    pub fn admit(&self, id: CallId, now_ms: u64) -> Result<Record, Receipt> {
        match self.get(id) {
            Some(receipt) => Err(receipt),
            None => Ok(Record { at_ms: now_ms, what: What::Start { id } }),
        }
    }

    /// Notes the end of a call; `None` when it has ended already, or never started.
    pub fn end(&self, id: CallId, status: RunStatus, now_ms: u64) -> Option<Record> {
        let running = self.get(id)?.status == RunStatus::Running && status.is_final();
        running.then_some(Record { at_ms: now_ms, what: What::End { id, status } })
    }

    /// Makes sure that an unknown call never starts here; `None` when it is known.
    pub fn rule_out(&self, id: CallId, now_ms: u64) -> Option<Record> {
        let status = RunStatus::NotStarted;
        self.get(id).is_none().then_some(Record { at_ms: now_ms, what: What::End { id, status } })
    }

    /// Begins another life of the daemon, on a machine of this boot id: entries to write, first
    /// first.
    pub fn begin(&self, boot: [u8; 16], now_ms: u64) -> Vec<Record> {
        let mut records = Vec::new();
        // What a machine had not written when it went down is gone, and nobody knows what it was.
        let rebooted = self.boot.is_some_and(|before| before != boot) && !self.bye;
        if rebooted || self.torn {
            let until_ms = now_ms.max(self.last_ms);
            records.push(Record { at_ms: self.last_ms, what: What::Gap { until_ms } });
        }
        records.push(Record { at_ms: now_ms, what: What::Life { boot } });
        records
    }

    /// Takes an entry in that was written, or read back.
    pub fn replay(&mut self, record: Record) {
        if std::mem::take(&mut self.torn) && !matches!(record.what, What::Gap { .. }) {
            self.gap(self.last_ms, record.at_ms);
        }
        self.last_ms = self.last_ms.max(record.at_ms);
        self.bye = matches!(record.what, What::Bye);
        match record.what {
            What::Life { boot } => {
                self.boot = Some(boot);
                self.interrupt();
            }
            What::Bye => {}
            What::Start { id } => {
                let receipt =
                    Receipt { status: RunStatus::Running, started_ms: record.at_ms, ended_ms: 0 };
                self.newer.insert(id, receipt);
            }
            What::End { id, status } => {
                let before = self.get(id);
                let receipt = Receipt {
                    status,
                    started_ms: before.map_or(0, |r| r.started_ms),
                    ended_ms: record.at_ms,
                };
                if before.is_none_or(|r| r.status == RunStatus::Running) {
                    self.older.remove(&id);
                    self.newer.insert(id, receipt);
                }
            }
            What::Gap { until_ms } => self.gap(record.at_ms, until_ms),
        }
    }

    /// Takes note that what is read back next is from the newer of two segments.
    pub fn seam(&mut self) {
        self.older.extend(self.newer.drain());
    }

    /// Takes bytes in that should have been an entry.
    pub fn torn(&mut self) {
        self.torn = true;
    }

    /// Begins another segment and forgets the one before the last: entries to write into it, so
    /// that it says by itself what must not be forgotten.
    pub fn rotate(&mut self, now_ms: u64) -> Vec<Record> {
        let oldest = std::mem::replace(&mut self.older, std::mem::take(&mut self.newer));
        let ended = oldest.values().filter(|r| r.status.is_final());
        self.since_ms = ended.map(|r| r.ended_ms).max().unwrap_or(0).max(self.since_ms);
        self.gaps.retain(|(_, until)| *until > self.since_ms);
        let mut records = Vec::new();
        if let Some(boot) = self.boot {
            records.push(Record { at_ms: now_ms, what: What::Life { boot } });
        }
        let gaps = std::iter::once((0, self.since_ms)).filter(|(_, until)| *until > 0);
        for (from, until_ms) in gaps.chain(self.gaps.iter().copied()) {
            records.push(Record { at_ms: from, what: What::Gap { until_ms } });
        }
        // Moved out of both: the older segment's own end must not take a long call with it.
        let mut running: Vec<_> =
            oldest.into_iter().filter(|(_, r)| !r.status.is_final()).collect();
        running.extend(self.older.extract_if(|_, r| !r.status.is_final()));
        running.sort_unstable_by_key(|(id, receipt)| (receipt.started_ms, *id));
        for (id, receipt) in running {
            self.newer.insert(id, receipt);
            records.push(Record { at_ms: receipt.started_ms, what: What::Start { id } });
        }
        records
    }

    /// How many calls are known.
    pub fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, id: CallId) -> Option<Receipt> {
        self.newer.get(&id).or_else(|| self.older.get(&id)).copied()
    }

    fn interrupt(&mut self) {
        let at = self.last_ms;
        for receipt in self.newer.values_mut().chain(self.older.values_mut()) {
            if receipt.status == RunStatus::Running {
                (receipt.status, receipt.ended_ms) = (RunStatus::Interrupted, at);
            }
        }
    }

    fn gap(&mut self, from: u64, until: u64) {
        if from == 0 {
            self.since_ms = self.since_ms.max(until);
        } else {
            self.gaps.push((from, until.max(from)));
        }
        if self.gaps.len() > MAX_GAPS {
            let (_, until) = self.gaps.remove(0);
            self.since_ms = self.since_ms.max(until);
        }
    }
}

#[cfg(test)]
mod tests;
