//! Whether a process still takes orders: asked on its control lane, where its reader answers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use rhd_protocol::{id::CallId, worker::Control};
use tokio::sync::{Notify, mpsc};

use super::lock;
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

    /// Asks by the control lane; returns once the process answers: never, if it hangs. May be
    /// abandoned.
    pub(super) async fn ping(&self, control: Option<&mpsc::Sender<Frame>>) {
        let id = CallId::from_bytes(rand::random());
        let answer = Arc::new(Notify::new());
        lock(&self.0).insert(id, answer.clone());
        let _forget = Forget { pings: self, id };
        if let Some(control) = control
            && let Ok(frame) = Frame::new(&Control::Ping { id }, Bytes::new())
        {
            // A queue that is full, or closed, says the same as silence.
            let _ = control.send(frame).await;
        }
        answer.notified().await;
    }
}

struct Forget<'a> {
    pings: &'a Pings,
    id: CallId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.pings.0).remove(&self.id);
    }
}
