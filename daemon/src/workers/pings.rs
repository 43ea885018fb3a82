//! Whether a process still takes orders: asked on its control lane, where its reader answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rhd_protocol::{id::CallId, worker::Control};
use tokio::sync::Notify;

use super::{lock, process::Process};
use crate::framed::Frame;

/// Pings that await their answer: at most one for each cancelled call.
#[derive(Debug, Default)]
pub(super) struct Pings(Mutex<HashMap<CallId, Arc<Notify>>>);

impl Pings {
    /// Takes the answer to a ping; ids of anything else are ignored.
    pub(super) fn answered(&self, id: &CallId) {
        if let Some(answer) = lock(&self.0).remove(id) {
            answer.notify_one();
        }
    }
}

/// Returns once the process answers: never, if it hangs. May be abandoned.
pub(super) async fn ping(process: &Process) {
    let id = CallId::from_bytes(rand::random());
    let answer = Arc::new(Notify::new());
    lock(&process.pings.0).insert(id, answer.clone());
    let _forget = Forget { process, id };
    if let Some(control) = process.control()
        && let Ok(frame) = Frame::new(&Control::Ping { id }, Bytes::new())
    {
        // A queue that is full, or closed, says the same as silence.
        let _ = control.send(frame).await;
    }
    answer.notified().await;
}

struct Forget<'a> {
    process: &'a Process,
    id: CallId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.process.pings.0).remove(&self.id);
    }
}
