//! The calls that run in one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rhd_protocol::id::CallId;
use tokio::sync::Notify;

use super::{lock, mailbox::Mailbox};

/// Calls that have been written to the process and have not ended.
#[derive(Debug, Default)]
pub(super) struct Running {
    calls: Mutex<HashMap<CallId, Entry>>,
    ended: Notify,
}

#[derive(Debug)]
struct Entry {
    mailbox: Arc<Mailbox>,
    service: String,
    logs: bool,
    cancelled: bool,
}

impl Running {
    /// Adds a call; false when one of this id runs already.
    pub(super) fn insert(
        &self,
        id: CallId,
        service: &str,
        logs: bool,
        mailbox: Arc<Mailbox>,
    ) -> bool {
        let mut calls = lock(&self.calls);
        if calls.contains_key(&id) {
            return false;
        }
        let entry = Entry { mailbox, service: service.to_owned(), logs, cancelled: false };
        calls.insert(id, entry);
        true
    }

    /// Forgets a call that ended.
    pub(super) fn remove(&self, id: &CallId) {
        let quiet = {
            let mut calls = lock(&self.calls);
            calls.remove(id);
            calls.is_empty()
        };
        if quiet {
            self.ended.notify_waiters();
        }
    }

    /// Waits until none runs.
    pub(super) async fn quiet(&self) {
        loop {
            let ended = self.ended.notified();
            if lock(&self.calls).is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Where the frames of a call go.
    pub(super) fn mailbox(&self, id: &CallId) -> Option<Arc<Mailbox>> {
        lock(&self.calls).get(id).map(|entry| entry.mailbox.clone())
    }

    /// The one call that runs, its mailbox, and whether it wants output; none when several run.
    pub(super) fn sole(&self) -> Option<(CallId, Arc<Mailbox>, bool)> {
        let calls = lock(&self.calls);
        let (id, entry) = calls.iter().next().filter(|_| calls.len() == 1)?;
        Some((*id, entry.mailbox.clone(), entry.logs))
    }

    /// Marks a call as cancelled.
    pub(super) fn cancelled(&self, id: &CallId) {
        if let Some(entry) = lock(&self.calls).get_mut(id) {
            entry.cancelled = true;
        }
    }

    /// How many run that nobody cancelled.
    pub(super) fn wanted(&self) -> usize {
        lock(&self.calls).values().filter(|entry| !entry.cancelled).count()
    }

    /// Every call, for people.
    pub(super) fn describe(&self) -> Vec<String> {
        lock(&self.calls).iter().map(|(id, entry)| format!("{} ({id})", entry.service)).collect()
    }
}
