//! Parts that are being sent at this moment: who has the same to send waits for the first.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    time::{Instant, timeout_at},
};

/// What is being sent to which host.
#[derive(Debug)]
pub(super) struct Sending<T> {
    turns: Mutex<HashMap<T, Weak<Turn<()>>>>,
}

/// The turn to send one of them. Others wait until it is dropped, as that of a call that is given up.
pub(super) type Claim = OwnedMutexGuard<()>;

impl<T> Default for Sending<T> {
    fn default() -> Self {
        Self { turns: Mutex::default() }
    }
}

impl<T: Hash + Eq> Sending<T> {
    /// Waits for the turn to send it; none if that took too long.
    pub(super) async fn claim(&self, what: T, until: Instant) -> Option<Claim> {
        timeout_at(until, self.turn(what).lock_owned()).await.ok()
    }

    fn turn(&self, what: T) -> Arc<Turn<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&what).and_then(Weak::upgrade) {
            return turn;
        }
        // No more than there are calls.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(what, Arc::downgrade(&turn));
        turn
    }

    /// Calls that send, or wait for others that do.
    #[cfg(test)]
    pub(super) fn calls(&self) -> usize {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.values().map(Weak::strong_count).sum()
    }
}
