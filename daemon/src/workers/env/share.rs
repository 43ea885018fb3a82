//! The lane that brief calls of one process share: who gets a place on it, and who sees to it that one
//! which takes its time after all does not hold up the others.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use rhd_protocol::{
    call::{Call, Verb},
    machine::{sharing::Look, width::SHORT_MS},
    worker::Control,
};

use super::{
    Env, Slot,
    hand::{Wish, order},
};
use crate::workers::{
    lease::{Grant, On, Place},
    lock,
    process::Process,
};

/// What a call calls, for what is remembered of it. Two that are taken for one cost time only.
pub(in crate::workers) fn function(call: &Call) -> Option<u64> {
    if call.verb != Verb::Call {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (&call.service, &call.method).hash(&mut hasher);
    Some(hasher.finish())
}

/// The process, where brief calls can be written to its shared lane.
pub(super) fn sharing_process(slot: &Slot) -> Option<Arc<Process>> {
    let process = slot.process.as_ref().filter(|process| process.takes_calls())?;
    process.shared().is_some().then(|| process.clone())
}

/// Whether a call shares a lane.
pub(super) enum Sharing {
    Granted(Grant),
    /// It should, and waits for a place.
    Full,
    /// It should not, or can't.
    No,
}

impl Slot {
    /// Whether brief calls share a lane of its process.
    pub(super) fn shares(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.shared().is_some())
    }

    /// Whether nothing runs on its lanes.
    pub(super) fn is_quiet(&self) -> bool {
        self.width.is_idle() && self.sharing.is_idle()
    }
}

impl Env {
    /// A place on the shared lane with the most room, for a call of something brief.
    pub(super) fn share_of(self: &Arc<Self>, slots: &mut [Slot], wish: Wish<'_>) -> Sharing {
        let Some(function) = wish.function else { return Sharing::No };
        let slots = slots.iter_mut().enumerate();
        let brief = slots.filter(|(_, slot)| slot.ready && slot.sharing.is_brief(function));
        let Some((index, slot)) = brief.max_by_key(|(_, slot)| slot.sharing.room()) else {
            return Sharing::No;
        };
        let Some(process) = sharing_process(slot) else {
            self.ask_for_shared(slot);
            return Sharing::No;
        };
        if slot.sharing.room() == 0 {
            return Sharing::Full;
        }
        Sharing::Granted(self.place_shared(index, slot, process, function))
    }

    /// Asks a process for its shared lane, once.
    fn ask_for_shared(&self, slot: &mut Slot) {
        let Some(process) = slot.process.as_ref().filter(|_| !slot.sharing_asked) else { return };
        // Programs of an older version don't know of it, and say nothing.
        slot.sharing_asked = order(process, &Control::Share { threads: 1 });
    }

    pub(super) fn place_shared(
        self: &Arc<Self>,
        index: usize,
        slot: &mut Slot,
        process: Arc<Process>,
        function: u64,
    ) -> Grant {
        if !std::mem::replace(&mut slot.sharing_watched, true) {
            tokio::spawn(self.clone().watch_shared(index, process.incarnation));
        }
        let on = On::Shared(slot.sharing.begin(function));
        Grant::Place(Place::new(self.clone(), process, on))
    }

    /// Whether brief calls share a lane of its first process.
    #[cfg(test)]
    pub(in crate::workers) fn shares(&self) -> bool {
        lock(&self.state).slots.first().is_some_and(Slot::shares)
    }

    /// The shared lane of a process is there.
    pub(in crate::workers) fn shared_lane(self: &Arc<Self>, process: &Process) {
        tracing::debug!(env = %self.key, pid = process.pid, "brief calls share a lane");
        self.settle();
    }

    /// Has more threads take calls when none ends, for as long as any is on the lane.
    async fn watch_shared(self: Arc<Self>, index: usize, incarnation: u64) {
        loop {
            tokio::time::sleep(Duration::from_millis(SHORT_MS)).await;
            {
                let mut state = lock(&self.state);
                let Some(slot) = state.slots.get_mut(index) else { return };
                let process = slot.process.as_ref();
                let Some(process) = process.filter(|p| p.incarnation == incarnation) else {
                    return;
                };
                match slot.sharing.look() {
                    Look::Idle => {
                        slot.sharing_watched = false;
                        return;
                    }
                    Look::Moving => continue,
                    Look::Stuck(threads) => order(process, &Control::Share { threads }),
                };
            }
            self.settle();
        }
    }
}
