//! A recorded run while it runs: its replies go to disk, and whoever is attached reads them there.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    run::{Kept, RunInfo},
};
use tokio::sync::watch;

use super::{
    admitted::Admitted,
    error,
    folder::{Folder, Meta, summary},
    grown::{End, Grown},
    records::Records,
};
use crate::framed::Frame;

/// Replies up to this size are written without leaving the task.
const INLINE: usize = 64 * 1024;

/// Where a run's replies come from.
pub trait Source: Send + 'static {
    /// The next reply; `None` after the final one.
    fn next(&mut self) -> impl Future<Output = Option<Frame>> + Send;
}

/// A run whose replies are being written to its record.
#[derive(Debug)]
pub struct Recording {
    records: Arc<Records>,
    pub(super) admitted: Arc<Admitted>,
    pub(super) folder: Folder,
    meta: Meta,
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
    /// Makes the record of a call that was let in; `inputs` are its arguments, if they are kept.
    pub(super) async fn begin(
        records: &Arc<Records>,
        admitted: &Arc<Admitted>,
        inputs: Option<(Kept, Bytes)>,
    ) -> io::Result<Self> {
        let (inputs, body) = inputs.unzip();
        let info = RunInfo { recorded: true, ..admitted.info() };
        let meta = Meta { info, from: admitted.from, inputs, copy: false };
        let folder = records.folder(admitted.id);
        let make = {
            let (folder, meta) = (folder.clone(), meta.clone());
            move || folder.create(&meta, &body.unwrap_or_default())
        };
        let replies = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        let grown = watch::Sender::new(Grown::default());
        let _ = admitted.grown.set(grown.clone());
        let replies = Arc::new(replies);
        let (records, admitted) = (records.clone(), admitted.clone());
        Ok(Self { records, admitted, folder, meta, replies, grown })
    }

    /// The call.
    pub fn admitted(&self) -> &Arc<Admitted> {
        &self.admitted
    }

    /// As it was when it began.
    pub fn info(&self) -> &RunInfo {
        &self.meta.info
    }

    /// Takes replies until the final one, then waits for the end of the call.
    pub async fn pump(mut self, mut source: impl Source) {
        let mut written = Written::default();
        let last = loop {
            let Some(frame) = source.next().await else { break None };
            match frame.header::<Reply>() {
                Ok(reply) if reply.is_final() => break Some((reply, frame)),
                Ok(Reply::Progress { .. }) => {}
                Ok(Reply::Log { .. }) => self.log(&mut written, frame).await,
                Ok(_) => {
                    match self.write(&mut written, &frame, self.records.config.max_bytes).await {
                        Ok(()) => {}
                        Err(error) => {
                            // A replay with a hole in it would be a lie.
                            let (node, id) = (self.records.node(), self.admitted.id);
                            let reply = Reply::fail(error::no_room_for_items(&node, id, &error));
                            break Frame::new(&reply, Bytes::new())
                                .ok()
                                .map(|frame| (reply, frame));
                        }
                    }
                }
                Err(_) => break None,
            }
        };
        // Where the final reply is one of ours, this ends the call: what it ended with is known first.
        if let Some((_, frame)) = &last {
            self.admitted.replied(frame);
        }
        drop(source);
        self.finish(written, last).await;
    }

    async fn finish(&mut self, mut written: Written, last: Option<(Reply, Frame)>) {
        let broken = || {
            let reply = Reply::fail(error::broken(self.admitted.id));
            Frame::new(&reply, Bytes::new()).ok().map(|frame| (reply, frame))
        };
        let Some((reply, frame)) = last.or_else(broken) else { return };
        self.admitted.replied(&frame);
        let end = match self.put(&mut written, &frame, u64::MAX).await {
            Ok(()) => End::Kept,
            Err(error) => {
                tracing::warn!(%error, run = %self.admitted.id, "a result can't be kept");
                End::Lost(frame.clone())
            }
        };
        let kept = matches!(end, End::Kept);
        // Not before: whoever finds the name free looks for a result. And not after: its caller may
        // use the name again once it has the reply.
        self.records.unname(self.admitted.id);
        self.grown.send_modify(|grown| *grown = Grown { len: written.len, end: Some(end) });
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
            Ok(Ok(())) => self.records.seal(self.admitted.id, self.meta.from),
            Ok(Err(error)) => {
                tracing::warn!(%error, run = %self.admitted.id, "the end of a run can't be kept");
            }
            Err(error) => tracing::error!(%error, "writing the end of a run"),
        }
        self.records.finished(self.admitted.id);
    }

    /// Output is worth less than the call: what finds no room is dropped, and counted.
    async fn log(&self, written: &mut Written, frame: Frame) {
        let limit = self.records.config.max_bytes / 4;
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
        self.put(written, frame, limit).await?;
        self.grown.send_modify(|grown| grown.len = written.len);
        Ok(())
    }

    /// Writes a reply, of which readers are yet to hear.
    async fn put(&self, written: &mut Written, frame: &Frame, limit: u64) -> io::Result<()> {
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
        Ok(())
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
