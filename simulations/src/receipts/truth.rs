//! What really happened, beside what receipts say of it. Fails as soon as they differ.

use std::collections::{BTreeMap, BTreeSet};

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Heard, Known},
    run::RunStatus,
};

/// What became of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    Completed,
    /// Its host went down in it.
    Cut,
}

/// All executions there ever were.
#[derive(Debug, Default)]
pub(super) struct Truth {
    fates: BTreeMap<CallId, Fate>,
    /// Ids that a caller was told never started.
    ruled_out: BTreeSet<CallId>,
    /// Calls whose end a power cut took off the disk.
    lost_ends: BTreeSet<CallId>,
}

impl Truth {
    pub(super) fn starts(&mut self, id: CallId) -> Result<(), String> {
        if self.fates.insert(id, Fate::Running).is_some() {
            return Err(format!("{id:?} runs a second time"));
        }
        if self.ruled_out.contains(&id) {
            return Err(format!("{id:?} runs, and was ruled out"));
        }
        Ok(())
    }

    pub(super) fn completes(&mut self, id: CallId) {
        self.fates.insert(id, Fate::Completed);
    }

    /// A host went down: these ran, and the word of the end of those is lost.
    pub(super) fn cut(&mut self, ran: Vec<CallId>, lost_ends: Vec<CallId>) {
        self.fates.extend(ran.into_iter().map(|id| (id, Fate::Cut)));
        self.lost_ends.extend(lost_ends);
    }

    /// A receipt never lies; `here` is whether the call ever ran on the host that says so.
    pub(super) fn check(&self, id: CallId, known: Known, here: bool) -> Result<(), String> {
        let fate = self.fates.get(&id).copied();
        let fine = match known {
            Known::Forgotten { .. } => true,
            Known::Never => !here,
            Known::Yes(receipt) => match receipt.status {
                RunStatus::Running => fate == Some(Fate::Running),
                RunStatus::Completed => fate == Some(Fate::Completed),
                // Without power, the word of its end may be lost; that it had one is not denied.
                RunStatus::Interrupted => fate == Some(Fate::Cut) || self.lost_ends.contains(&id),
                RunStatus::NotStarted => !here,
                RunStatus::Cancelled | RunStatus::Error => false,
            },
        };
        if fine { Ok(()) } else { Err(format!("{known:?} is said of {id:?}, which is {fate:?}")) }
    }

    /// What a caller hears of its call; that it never started is so, and stays so.
    pub(super) fn hears(&mut self, id: CallId, heard: &Heard) -> Result<(), String> {
        let never = match heard {
            Heard::Nowhere => true,
            Heard::Known { receipt, .. } => receipt.status == RunStatus::NotStarted,
            _ => false,
        };
        if never {
            if let Some(fate) = self.fates.get(&id) {
                return Err(format!("{id:?} is ruled out, and is {fate:?}"));
            }
            self.ruled_out.insert(id);
        }
        Ok(())
    }

    /// A call is about to be made again: it must be over, as far as anybody can know.
    pub(super) fn repeats(&self, id: CallId) -> Result<(), String> {
        let fate = self.fates.get(&id).copied();
        let over = fate.is_none_or(|fate| fate == Fate::Cut);
        if over || self.lost_ends.contains(&id) {
            return Ok(());
        }
        Err(format!("{id:?} is repeated, and is {fate:?}"))
    }

    /// A call and its repeats are over, the last of them in hand. Of all their executions at most
    /// the delivered one came to its end; another only where a power cut took the word of it.
    pub(super) fn over(&self, ids: &[CallId], delivered: Option<CallId>) -> Result<(), String> {
        let completed = |id: &CallId| self.fates.get(id) == Some(&Fate::Completed);
        let earlier = ids.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let twice =
            |id: &CallId| Some(*id) != delivered && completed(id) && !self.lost_ends.contains(id);
        if earlier.iter().any(twice) {
            return Err(format!("one call of {ids:?} was completed twice"));
        }
        match delivered {
            Some(id) if !completed(&id) => Err(format!("{id:?} is believed, and never was")),
            _ => Ok(()),
        }
    }
}
