//! What a task says on the way to its final reply, to a client that may not listen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame::FrameError,
};
use tokio::sync::mpsc::{self, error::SendTimeoutError};

use super::replies::fail_frame;
use crate::framed::Frame;

/// Replies of a task that may be under way to a client.
const OUTBOX: usize = 32;
/// How long a full outbox may hold up the work.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a task puts replies before its final one.
#[derive(Clone)]
pub struct Outbox {
    tx: mpsc::Sender<Frame>,
    /// Set when the client let a reply wait for too long: the work goes on without telling it.
    deaf: Arc<AtomicBool>,
    patience: Duration,
}

impl Outbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<Frame>) {
        let (tx, frames) = mpsc::channel(OUTBOX);
        (Self { tx, deaf: Arc::default(), patience: PATIENCE }, frames)
    }

    /// Passes a reply on, unless the client stopped reading: others may wait for what this task
    /// holds. When the client is gone this does nothing: the task is about to end too.
    pub async fn frame(&self, frame: Result<Frame, FrameError>) {
        let Ok(frame) = frame else { return };
        if !self.deaf.load(Ordering::Relaxed)
            && let Err(SendTimeoutError::Timeout(_)) =
                self.tx.send_timeout(frame, self.patience).await
        {
            self.deaf.store(true, Ordering::Relaxed);
        }
    }

    /// Passes the final reply on, however long it takes.
    pub(super) async fn last(&self, frame: Result<Frame, FrameError>) {
        let frame = frame.or_else(|error| {
            fail_frame(ErrorInfo::new(ErrorKind::Internal, format!("reply: {error}")))
        });
        if let Ok(frame) = frame {
            drop(self.tx.send(frame).await);
        }
    }

    /// Says what is being done.
    pub async fn progress(&self, text: impl Into<String>) {
        let reply = Reply::Progress { text: text.into(), moved: None };
        self.frame(Frame::new(&reply, Bytes::new())).await;
    }

    /// Runs `work`, which says what it does through a bounded queue, and passes every line on
    /// before it returns.
    pub async fn telling<T, Fut: Future<Output = T>>(
        &self,
        work: impl FnOnce(mpsc::Sender<String>) -> Fut,
    ) -> T {
        let (tx, mut lines) = mpsc::channel(OUTBOX);
        let mut work = std::pin::pin!(work(tx));
        let result = loop {
            tokio::select! {
                biased;
                Some(line) = lines.recv() => self.progress(line).await,
                result = &mut work => break result,
            }
        };
        while let Ok(line) = lines.try_recv() {
            self.progress(line).await;
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_stops_reading_holds_up_nothing_but_its_own_reply() {
        let (out, mut frames) = Outbox::new();
        let out = Outbox { patience: Duration::from_millis(20), ..out };
        for i in 0..10 * OUTBOX {
            out.progress(i.to_string()).await;
        }
        let last = out.last(Frame::new(&Reply::done(0), Bytes::new()));
        let read = async {
            let mut count = 1;
            while let Some(frame) = frames.recv().await
                && !frame.header::<Reply>().unwrap().is_final()
            {
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(last, read);
        assert_eq!(count, OUTBOX + 1, "what was under way, then the final reply");
    }
}
