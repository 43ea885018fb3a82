//! Questions about the runs of this node, and orders to them.

use std::time::Duration;

use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    id::{CallId, NodeId},
    run::{RunAsk, RunInfo},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Runs,
    admitted::Admitted,
    attached::{Attached, Want},
    error, folder,
    grown::{End, Grown},
    live::Recording,
    prune,
};
use crate::framed::Frame;

/// How long a cancelled call may take to end before the answer says that it still runs.
const CANCEL_WAIT: Duration = Duration::from_secs(30);
/// Runs in one answer.
const MAX_LISTED: usize = 10_000;

impl Runs {
    /// Runs with a record and calls that run, newest first.
    pub async fn list(&self, name: Option<String>, limit: u32) -> Vec<RunInfo> {
        let limit = if limit == 0 { MAX_LISTED } else { MAX_LISTED.min(limit as usize) };
        let listed = self.records.blocking(move |records| {
            let mut infos = prune::records(records);
            let running = records.admissions.all();
            infos.extend(running.iter().map(|call| call.info()).filter(|info| !info.recorded));
            infos.retain(|info| name.as_ref().is_none_or(|name| *name == info.name));
            infos.sort_unstable_by_key(|info| std::cmp::Reverse((info.started_ms, info.id)));
            infos.truncate(limit);
            Ok(infos)
        });
        listed.await.unwrap_or_default()
    }

    /// The call that `run` means here: an id, or the newest run of a name.
    pub fn id_of(&self, run: &str) -> Result<Option<CallId>, ErrorInfo> {
        if let Ok(id) = run.parse() {
            return Ok(Some(id));
        }
        error::check_name(run)?;
        Ok(folder::pointed(&self.records.names, run))
    }

    /// How far a call got that was made `age_ms` ago. One that never was here never will be.
    pub async fn info(&self, id: CallId, age_ms: Option<u64>) -> Result<RunInfo, ErrorInfo> {
        self.records.info(id, age_ms).await
    }

    /// The node that a call came from.
    pub fn caller_of(&self, id: CallId) -> Option<NodeId> {
        let running = self.records.admissions.running(id).map(|call| call.from);
        running.or_else(|| Some(self.records.folder(id).read()?.from))
    }

    /// Cancels a call and waits, within bounds, until nothing of it runs.
    pub async fn cancel(&self, id: CallId) -> Result<RunInfo, ErrorInfo> {
        if let Some(call) = self.records.admissions.running(id) {
            call.cancel();
            if tokio::time::timeout(CANCEL_WAIT, call.ended()).await.is_err() {
                return Ok(call.info());
            }
        }
        self.records.known(id).await
    }

    /// Forgets what was kept of a run.
    pub async fn remove(&self, id: CallId) -> Result<(), ErrorInfo> {
        if self.records.is_open(id) {
            return Err(error::not_ended(&self.node(), id));
        }
        self.records.no_copy_of(id);
        let info = self.records.known(id).await?;
        let removed = self.records.blocking(move |records| records.forget(id, &info.name));
        removed.await.ok_or_else(|| error::not_removed(&self.node()))
    }

    /// Its arguments, as they came.
    pub async fn inputs(&self, id: CallId) -> Result<Frame, ErrorInfo> {
        let info = self.records.known(id).await?;
        let read = self.records.blocking(move |records| {
            let folder = records.folder(id);
            let kept = folder.read().and_then(|meta| meta.inputs);
            kept.map(|kept| Ok((kept, folder.inputs()?))).transpose()
        });
        let Some(Some((kept, body))) = read.await else {
            return Err(error::not_kept(&self.node(), &info, "the arguments of this call were"));
        };
        let reply = Reply::Done { id: Some(id), codec: kept.codec, parts: kept.parts };
        Frame::new(&reply, body).map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))
    }

    /// Answers about a run with replies of its own, where these are wanted.
    pub async fn attach(&self, id: CallId, ask: RunAsk) -> Result<Attached, ErrorInfo> {
        let (want, timeout_ms) = match ask {
            RunAsk::Attach { logs, timeout_ms } => (Want::Replies { logs }, timeout_ms),
            RunAsk::Logs { follow } => (Want::Logs { follow }, None),
            _ => return Err(ErrorInfo::new(ErrorKind::Internal, "nothing to attach to")),
        };
        let deadline =
            timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        // Its final reply may be on its way to the disk when the call has ended already.
        if let Some(grown) = self.records.growing(id).await {
            return Ok(self.reader(id, want, grown)?.until(deadline));
        }
        if let Some(call) = self.records.admissions.running(id) {
            return self.plain(&call, want, deadline).await;
        }
        let info = self.records.known(id).await?;
        if !info.recorded {
            return match (self.records.admissions.recent.get(id), want) {
                (Some(frame), Want::Replies { .. }) => Ok(self.one(id, want, frame)),
                _ => {
                    let what = "what this call returned and wrote was";
                    Err(error::not_kept(&self.node(), &info, what))
                }
            };
        }
        let replies = self.records.folder(id).replies();
        let len = replies.and_then(|file| Ok(file.metadata()?.len())).unwrap_or(0);
        let grown = Grown { len, end: Some(End::Kept) };
        Ok(self.reader(id, want, watch::channel(grown).1)?.until(deadline))
    }

    /// The replies of a run that is being recorded, for its caller.
    pub fn replies(&self, recording: &Recording, logs: bool) -> Result<Attached, ErrorInfo> {
        let grown = recording.grown.subscribe();
        self.reader(recording.admitted.id, Want::Replies { logs }, grown)
    }

    /// The error for a run that nobody knows.
    pub fn unknown(&self, run: &str) -> ErrorInfo {
        error::unknown(&self.node(), run)
    }

    /// Waits for the end of a plain call that runs.
    async fn plain(
        &self,
        call: &std::sync::Arc<Admitted>,
        want: Want,
        deadline: Option<Instant>,
    ) -> Result<Attached, ErrorInfo> {
        let not_kept = |what| error::not_kept(&self.node(), &call.info(), what);
        if let Want::Logs { .. } = want {
            return Err(not_kept("what this call writes is"));
        }
        let last = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, call.last())
                .await
                .map_err(|_| error::still_running().on(&self.node()).call(call.id))?,
            None => call.last().await,
        };
        let Some(frame) = last else {
            call.ended().await;
            return Err(not_kept("what this call returned was"));
        };
        Ok(self.one(call.id, want, frame))
    }

    fn one(&self, id: CallId, want: Want, frame: Frame) -> Attached {
        let grown = Grown { len: 0, end: Some(End::Lost(frame)) };
        Attached::new(self.records.clone(), id, want, None, watch::channel(grown).1)
    }

    fn reader(
        &self,
        id: CallId,
        want: Want,
        grown: watch::Receiver<Grown>,
    ) -> Result<Attached, ErrorInfo> {
        let file = self.records.folder(id).replies();
        let file = file.map_err(|e| error::unreadable(&e).on(&self.node()))?;
        Ok(Attached::new(self.records.clone(), id, want, Some(file), grown))
    }

    fn node(&self) -> String {
        self.records.node()
    }
}
