//! The replies of a run, for whoever asks: from the start, as fast or as slowly as they are read.

use std::{collections::VecDeque, fs::File, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame,
    id::CallId,
    run::{RunInfo, RunStatus},
};
use tokio::{sync::watch, time::Instant};

use super::{
    error::{self, unreadable},
    folder::read_frames,
    grown::{End, Grown},
    records::Records,
};
use crate::framed::Frame;

/// What is wanted of a run's replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// All of them; output only if asked for.
    Replies { logs: bool },
    /// Its output, then a summary; until its end, or what there is.
    Logs { follow: bool },
}

/// Replies of a run that always end with a final one.
#[derive(Debug)]
pub struct Attached {
    records: Arc<Records>,
    id: CallId,
    want: Want,
    deadline: Option<Instant>,
    /// None when the final reply is not on disk.
    file: Option<Arc<File>>,
    at: u64,
    grown: watch::Receiver<Grown>,
    read: VecDeque<Frame>,
    done: bool,
}

impl Attached {
    pub(super) fn new(
        records: Arc<Records>,
        id: CallId,
        want: Want,
        file: Option<File>,
        grown: watch::Receiver<Grown>,
    ) -> Self {
        let (file, read) = (file.map(Arc::new), VecDeque::new());
        Self { records, id, want, deadline: None, file, at: 0, grown, read, done: false }
    }

    pub(super) fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }

    /// The next reply; `None` after the final one.
    pub async fn next(&mut self) -> Option<Frame> {
        if self.done {
            return None;
        }
        let frame = match self.advance().await {
            Ok(frame) => frame,
            Err(error) => {
                self.done = true;
                let error = error.on(&self.records.node()).call(self.id);
                Frame::new(&Reply::fail(error), Bytes::new())
            }
        };
        frame.ok()
    }

    async fn advance(&mut self) -> Result<Result<Frame, frame::FrameError>, ErrorInfo> {
        loop {
            while let Some(frame) = self.read.pop_front() {
                let reply = frame.header::<Reply>().map_err(|e| unreadable(&e))?;
                let wanted = match (&reply, self.want) {
                    (reply, Want::Replies { .. }) if reply.is_final() => {
                        self.done = true;
                        true
                    }
                    (reply, Want::Logs { .. }) if reply.is_final() => return self.summary().await,
                    (Reply::Log { .. }, Want::Replies { logs }) => logs,
                    (_, Want::Replies { .. }) => true,
                    (Reply::Log { .. }, Want::Logs { .. }) => true,
                    _ => false,
                };
                if wanted {
                    return Ok(Ok(frame));
                }
            }
            let grown = self.grown.borrow_and_update().clone();
            if self.at < grown.len
                && let Some(file) = self.file.clone()
            {
                let at = self.at;
                let read = move || read_frames(&file, at, grown.len);
                let read = tokio::task::spawn_blocking(read).await;
                let (frames, next) =
                    read.map_err(|e| unreadable(&e))?.map_err(|e| unreadable(&e))?;
                if next == self.at {
                    return Err(unreadable(&"it ends in the middle of a reply"));
                }
                (self.read, self.at) = (frames.into(), next);
                continue;
            }
            match (grown.end, self.want) {
                (Some(End::Lost(frame)), _) => self.read.push_back(frame),
                (_, Want::Logs { follow: false }) => return self.summary().await,
                (Some(End::Kept), Want::Logs { .. }) => return self.summary().await,
                (Some(End::Kept), Want::Replies { .. }) => return Err(self.no_end().await),
                (None, _) => self.grow().await?,
            }
        }
    }

    async fn grow(&mut self) -> Result<(), ErrorInfo> {
        let deadline = self.deadline;
        let expired = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.grown.changed() => match changed {
                Ok(()) => Ok(()),
                Err(_) => Err(self.no_end().await),
            },
            () = expired => Err(error::still_running()),
        }
    }

    async fn summary(&mut self) -> Result<Result<Frame, frame::FrameError>, ErrorInfo> {
        self.done = true;
        let info: RunInfo = self.records.info(self.id, None).await?;
        answer(&info)
    }

    /// Why there is no final reply.
    async fn no_end(&self) -> ErrorInfo {
        let node = self.records.node();
        match self.records.info(self.id, None).await {
            Ok(info) if info.status != RunStatus::Interrupted => error::result_lost(&node),
            _ => error::interrupted(&node),
        }
    }
}

/// A final reply of ours.
pub(super) fn answer(
    value: &impl serde::Serialize,
) -> Result<Result<Frame, frame::FrameError>, ErrorInfo> {
    let body = frame::to_vec(value)
        .map_err(|e| ErrorInfo::new(ErrorKind::Internal, format!("answer: {e}")))?;
    Ok(Frame::new(&Reply::done(body.len()), body))
}
