//! Frames on their way to one call from a source that must not wait for it.

use std::{collections::VecDeque, sync::Mutex};

use rhd_protocol::{call::Reply, id::CallId};
use tokio::sync::Notify;

use super::lock;
use crate::framed::Frame;

/// Log frames that wait for a reader; beyond this they are dropped and counted.
const LOGS: usize = 256;
/// Bytes of them.
const LOG_BYTES: usize = 1024 * 1024;
/// Items that wait for a reader: no more than that many have credit at any time.
const ITEMS: usize = 2 * rhd_protocol::worker::ITEM_CREDIT as usize;

/// One call's frames. One reader, any number of writers, who never wait.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    frames: VecDeque<(Frame, bool)>,
    logs: usize,
    log_bytes: usize,
    dropped: u64,
}

impl Mailbox {
    /// Adds an item or the final reply; false when there are more items than credit allows.
    pub(super) fn push_reply(&self, frame: Frame, last: bool) -> bool {
        let mut inner = lock(&self.inner);
        if !last && inner.frames.len() - inner.logs >= ITEMS {
            return false;
        }
        inner.frames.push_back((frame, false));
        drop(inner);
        self.arrived.notify_one();
        true
    }

    /// Adds output of the call, or drops it when too much waits already.
    pub(super) fn push_log(&self, frame: Frame) {
        let mut inner = lock(&self.inner);
        if inner.logs >= LOGS || inner.log_bytes + frame.len() > LOG_BYTES {
            inner.dropped += 1;
        } else {
            inner.logs += 1;
            inner.log_bytes += frame.len();
            inner.frames.push_back((frame, true));
        }
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes the next frame. Where output was dropped, a line in the stream says how much.
    pub(super) fn pop(&self, id: CallId) -> Option<Frame> {
        let mut inner = lock(&self.inner);
        if inner.dropped > 0 && inner.logs == 0 {
            let text = format!("[rhd: {} pieces of output dropped here]\n", inner.dropped);
            inner.dropped = 0;
            return Frame::new(&Reply::Log { id: Some(id), fd: 2 }, text.into_bytes()).ok();
        }
        let (frame, log) = inner.frames.pop_front()?;
        if log {
            inner.logs -= 1;
            inner.log_bytes -= frame.len();
        }
        Some(frame)
    }

    /// Waits until something may be there.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_bounded_and_its_loss_is_told() {
        let id = CallId::from_bytes([1; 16]);
        let mailbox = Mailbox::default();
        let log = Frame::new(&Reply::Log { id: None, fd: 1 }, vec![b'x'; 10_000]).unwrap();
        for _ in 0..1_000 {
            mailbox.push_log(log.clone());
        }
        assert!(mailbox.push_reply(Frame::new(&Reply::done(0), vec![]).unwrap(), true));
        let frames: Vec<Frame> = std::iter::from_fn(|| mailbox.pop(id)).collect();
        let bytes: usize = frames.iter().map(Frame::len).sum();
        assert!(bytes <= LOG_BYTES + 10_000, "{bytes}");
        let told = frames.len() - 2;
        assert_eq!(
            frames[told].body,
            format!("[rhd: {} pieces of output dropped here]\n", 1_000 - told)
        );
        assert!(frames[told + 1].header::<Reply>().unwrap().is_final());
    }
}
