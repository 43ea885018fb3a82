//! A recorded run while it runs: its replies go to disk, and whoever is attached reads them there.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    run::RunStatus,
};
use tokio::sync::watch;

use super::{
    Inner,
    admitted::Admitted,
    folder::{Folder, Meta},
};
use crate::framed::Frame;

/// Replies up to this size are written without leaving the task.
const INLINE: usize = 64 * 1024;
/// Bytes of a traceback in the summary of a run; the record has it whole.
const TRACEBACK: usize = 2 * 1024;

/// How far the replies on disk go.
#[derive(Debug, Clone, Default)]
pub(super) struct Grown {
    /// Bytes of whole frames.
    pub(super) len: u64,
    /// Set when no more will come.
    pub(super) end: Option<End>,
}

/// How the replies end.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// With a final one on disk.
    Kept,
    /// With one that could not be written.
    Lost(Frame),
}

/// Where a run's replies come from.
pub trait Source: Send + 'static {
    /// The next reply; `None` after the final one.
    fn next(&mut self) -> impl Future<Output = Option<Frame>> + Send;
}

/// A run whose replies are being written to its record.
#[derive(Debug)]
pub struct Recording {
    pub(super) runs: Arc<Inner>,
    pub(super) admitted: Arc<Admitted>,
    pub(super) folder: Folder,
    pub(super) meta: Meta,
    pub(super) replies: Arc<File>,
    pub(super) grown: watch::Sender<Grown>,
}

/// What of a run's replies is on disk.
#[derive(Debug, Default)]
struct Written {
    len: u64,
    /// Output that found no room.
    logs_lost: u64,
}

impl Recording {
    /// Takes replies until the final one, then waits for the end of the call.
    pub async fn pump(mut self, mut source: impl Source) {
        let mut written = Written::default();
        let last = loop {
            let Some(frame) = source.next().await else { break None };
            match frame.header::<Reply>() {
                Ok(reply) if reply.is_final() => break Some((reply, frame)),
                Ok(Reply::Progress { .. }) => {}
                Ok(Reply::Log { .. }) => self.log(&mut written, frame).await,
                Ok(_) => match self.write(&mut written, &frame, self.runs.config.max_bytes).await {
                    Ok(()) => {}
                    Err(error) => {
                        // A replay with a hole in it would be a lie.
                        let reply = Reply::fail(self.not_kept(&error));
                        break Frame::new(&reply, Bytes::new()).ok().map(|frame| (reply, frame));
                    }
                },
                Err(_) => break None,
            }
        };
        // Where the final reply is one of ours, this ends the call.
        drop(source);
        self.finish(written, last).await;
    }

    async fn finish(&mut self, mut written: Written, last: Option<(Reply, Frame)>) {
        let broken = || {
            let info = ErrorInfo::new(ErrorKind::Internal, "the run broke off inside the daemon");
            let reply = Reply::fail(info.call(self.admitted.id));
            Frame::new(&reply, Bytes::new()).ok().map(|frame| (reply, frame))
        };
        let Some((reply, frame)) = last.or_else(broken) else { return };
        self.admitted.replied(&frame);
        self.runs.unname(self.admitted.id);
        let end = match self.write(&mut written, &frame, u64::MAX).await {
            Ok(()) => End::Kept,
            Err(error) => {
                tracing::warn!(%error, run = %self.admitted.id, "a result can't be kept");
                End::Lost(frame.clone())
            }
        };
        let kept = matches!(end, End::Kept);
        self.grown.send_modify(|grown| grown.end = Some(end));
        self.admitted.ended().await;
        let ended = self.admitted.info();
        let info = &mut self.meta.info;
        (info.status, info.ended_ms) = (ended.status, ended.ended_ms);
        match reply {
            Reply::Fail { error, .. } => info.error = Some(summary(error)),
            _ => info.result = kept.then_some(frame.body.len() as u64),
        }
        let (folder, meta, replies) =
            (self.folder.clone(), self.meta.clone(), self.replies.clone());
        let write = move || {
            replies.sync_data()?;
            folder.write(&meta, true)
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, run = %self.admitted.id, "the end of a run can't be kept");
            }
            Err(error) => tracing::error!(%error, "writing the end of a run"),
        }
        self.runs.finished(self.admitted.id);
    }

    /// Output is worth less than the call: what finds no room is dropped, and counted.
    async fn log(&self, written: &mut Written, frame: Frame) {
        let limit = self.runs.config.max_bytes / 4;
        if written.logs_lost > 0 && written.len + 1024 < limit {
            let text = format!("[rhd: {} pieces of output not kept here]\n", written.logs_lost);
            let note = Reply::Log { id: Some(self.admitted.id), fd: 2 };
            if let Ok(note) = Frame::new(&note, text.into_bytes())
                && self.write(written, &note, limit).await.is_ok()
            {
                written.logs_lost = 0;
            }
        }
        if self.write(written, &frame, limit).await.is_err() {
            written.logs_lost += 1;
        }
    }

    async fn write(&self, written: &mut Written, frame: &Frame, limit: u64) -> io::Result<()> {
        let at = written.len;
        if at + frame.len() as u64 > limit {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if frame.len() <= INLINE {
            put(&self.replies, frame, at)?;
        } else {
            let (replies, frame) = (self.replies.clone(), frame.clone());
            tokio::task::spawn_blocking(move || put(&replies, &frame, at))
                .await
                .map_err(io::Error::other)??;
        }
        written.len += frame.len() as u64;
        self.grown.send_modify(|grown| grown.len = written.len);
        Ok(())
    }

    fn not_kept(&self, error: &io::Error) -> ErrorInfo {
        let node = self.runs.node();
        ErrorInfo::new(
            ErrorKind::QueueFull,
            format!("the run was ended: node {node} can't keep what it returns ({error})"),
        )
        .hint("free some disk space there, or raise runs.max_bytes; results that are needed once need no record")
        .on(&node)
        .call(self.admitted.id)
    }
}

/// What is there of it after a failure is written over by the next.
fn put(file: &File, frame: &Frame, mut at: u64) -> io::Result<()> {
    for part in frame.parts() {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// An error as listings show it.
pub(super) fn summary(mut error: ErrorInfo) -> ErrorInfo {
    if error.traceback.len() > TRACEBACK {
        let from = error.traceback.len() - TRACEBACK;
        let end = (from..).find(|at| error.traceback.is_char_boundary(*at)).unwrap_or(0);
        error.traceback = format!("…{}", &error.traceback[end..]);
    }
    error
}

/// How a run ended whose record does not say so, by its receipt and its replies: its daemon has yet
/// to write that, or was killed before it could.
pub(super) fn mend(meta: &mut Meta, folder: &Folder, told: Option<RunStatus>) {
    let info = &mut meta.info;
    info.status = told.unwrap_or(RunStatus::Interrupted);
    let Some((status, reply, len)) = folder.end() else { return };
    if info.status == RunStatus::Interrupted {
        info.status = status;
    }
    match reply {
        Reply::Fail { error, .. } => info.error = Some(summary(error)),
        _ => info.result = Some(len),
    }
}
