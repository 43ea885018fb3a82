//! Runs: what became of the calls that this node executed.
//!
//! ```text
//!                      journal: a receipt for every call, before it starts and when it ended
//!  calls --admit-----> |
//!        --record----> journal + folder (inputs, replies, result) --pump--> disk --> attached
//!        --adopt-----> the same, from the middle of a plain call whose caller was lost
//! ```
//!
//! Who ends a call, other than itself and its deadline:
//!
//! - `Cancel` ends every call.
//! - A caller that closes its connection, or dies, ends a call that it waits for. Not one that was
//!   detached or is to be kept.
//! - A caller's node that is lost, with no word from it, ends nothing at once: a recorded run goes
//!   on; a plain call is adopted, so that somebody may attach, and ended after a grace time if
//!   nobody did. A plain generator is ended: its items were not kept.
//!
//! A disk that is full refuses calls before they run: a receipt that can't be written would lie.

mod admitted;
mod attached;
mod config;
mod folder;
mod journal;
mod live;
mod prune;
mod recent;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rhd_protocol::{
    call::{Call, Reply},
    error::{ErrorInfo, ErrorKind},
    id::{CallId, NodeId},
    machine::receipt::{Known, Receipt},
    name::is_part,
    run::{Kept, MAX_NAME, RunAsk, RunInfo, RunStatus},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub use admitted::{Admitted, Running};
pub use attached::Attached;
pub use config::Config;
pub use live::{Recording, Source};

use attached::{Want, answer};
use folder::{Folder, Meta};
use journal::{Journal, Refused};
use live::{End, Grown};
use recent::Recent;

use crate::framed::Frame;

/// How often what was journaled is flushed to disk.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How often old records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Runs that end before old records are looked for out of turn.
const PRUNE_AFTER: usize = 64;
/// How long a cancelled call may take to end before the answer says that it still runs.
const CANCEL_WAIT: Duration = Duration::from_secs(30);
/// Runs in one answer.
const MAX_LISTED: usize = 10_000;

/// Cloneable handle to the runs of this node.
#[derive(Debug, Clone)]
pub struct Runs {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    name: Box<dyn Fn() -> String + Send + Sync>,
    config: Config,
    records: PathBuf,
    names: PathBuf,
    journal: Journal,
    recent: Recent,
    running: Mutex<HashMap<CallId, Arc<Admitted>>>,
    /// Runs whose records have not ended, and their names.
    recording: Mutex<HashMap<CallId, String>>,
    /// Runs that ended since old ones were looked for.
    ended: watch::Sender<usize>,
    /// Set when the node drains.
    closing: CancellationToken,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Runs({})", self.me.short())
    }
}

/// Locks a mutex whose data is whole after every panic: it holds plain values only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runs {
    /// Opens the room below `home`, for the node `me` of this name. What was recorded is not read
    /// until somebody asks.
    pub fn open(
        home: &Path,
        me: NodeId,
        name: impl Fn() -> String + Send + Sync + 'static,
        config: Config,
        closing: CancellationToken,
    ) -> io::Result<Self> {
        let dir = home.join("runs");
        let (records, names) = (dir.join("records"), dir.join("names"));
        for dir in [&records, &names] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let journal = Journal::open(&dir.join("journal"), config.journal_bytes)?;
        let inner = Inner {
            me,
            name: Box::new(name),
            config,
            records,
            names,
            journal,
            recent: Recent::default(),
            running: Mutex::default(),
            recording: Mutex::default(),
            ended: watch::Sender::new(0),
            closing,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Flushes the journal and removes old records, until the node drains.
    pub fn tend(&self) {
        let inner = self.inner.clone();
        tokio::spawn(async move {
            while !inner.closing.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(FLUSH_EVERY) => {}
                    () = inner.closing.cancelled() => return,
                }
                inner.blocking(|inner| inner.journal.sync()).await;
            }
        });
        let inner = self.inner.clone();
        tokio::spawn(async move {
            let mut ended = inner.ended.subscribe();
            loop {
                inner.blocking(|inner| Ok(prune::prune(inner))).await;
                inner.ended.send_modify(|ended| *ended = 0);
                tokio::select! {
                    () = tokio::time::sleep(PRUNE_EVERY) => {}
                    enough = ended.wait_for(|ended| *ended >= PRUNE_AFTER) => if enough.is_err() {
                        return;
                    },
                    () = inner.closing.cancelled() => return,
                }
            }
        });
    }

    /// Lets a call start that leaves no more than a receipt.
    pub fn admit(&self, call: &Call, from: NodeId) -> Result<Arc<Admitted>, ErrorInfo> {
        let started = self.inner.start(call.id)?;
        Ok(self.inner.admitted(call, from, started))
    }

    /// Lets a call start that leaves a record: on disk before this returns.
    pub async fn record(
        &self,
        call: &Call,
        body: &Bytes,
        from: NodeId,
    ) -> Result<Recording, ErrorInfo> {
        let name = call.run.as_ref().map(|run| run.name.clone()).unwrap_or_default();
        check_name(&name).map_err(|e| e.on(&self.inner.node()))?;
        self.inner.claim(&name, call.id)?;
        let recorded = self.begin(call, body, from, &name).await;
        if recorded.is_err() {
            self.inner.unclaim(call.id);
        }
        recorded
    }

    async fn begin(
        &self,
        call: &Call,
        body: &Bytes,
        from: NodeId,
        name: &str,
    ) -> Result<Recording, ErrorInfo> {
        if Folder::of(&self.inner.records, call.id).read().is_some() {
            return Err(self.inner.known(call.id, None));
        }
        let started = self.inner.start(call.id)?;
        let admitted = self.inner.admitted(call, from, started);
        let inputs = Kept { codec: call.codec, parts: call.parts.clone() };
        let recording = Recording::begin(&self.inner, &admitted, Some((inputs, body.clone())));
        let refuse = |error: io::Error| {
            let error = self.inner.no_room(&error).call(call.id);
            drop(admitted.running());
            admitted.refused(&error);
            error
        };
        let recording = recording.await.map_err(refuse)?;
        let (name, id) = (name.to_owned(), call.id);
        let durable = self.inner.blocking(move |inner| {
            inner.journal.sync()?;
            if name.is_empty() { Ok(()) } else { folder::point(&inner.names, &name, id) }
        });
        match durable.await {
            Some(()) => Ok(recording),
            None => {
                let _ = recording.folder.remove();
                Err(refuse(io::Error::other("it could not be flushed")))
            }
        }
    }

    /// Begins to record a call in its middle, as its caller was lost.
    pub async fn adopt(&self, admitted: &Arc<Admitted>) -> io::Result<Recording> {
        lock(&self.inner.recording).insert(admitted.id, String::new());
        let recording = Recording::begin(&self.inner, admitted, None).await;
        recording.inspect_err(|_| self.inner.unclaim(admitted.id))
    }

    /// Cancels an adopted call that nobody attached to in time; returns when it has.
    pub async fn desert(&self, admitted: &Arc<Admitted>) {
        let grace = Duration::from_secs(self.inner.config.orphan_grace);
        loop {
            tokio::time::sleep(grace).await;
            if !admitted.is_attended() {
                tracing::info!(call = %admitted.id, "its caller was lost and nobody attached");
                return admitted.cancel();
            }
        }
    }

    /// Runs with a record and calls that run, newest first.
    pub async fn list(&self, name: Option<String>, limit: u32) -> Vec<RunInfo> {
        let limit = if limit == 0 { MAX_LISTED } else { MAX_LISTED.min(limit as usize) };
        let listed = self.inner.blocking(move |inner| {
            let mut infos = prune::records(inner);
            let plain: Vec<_> = lock(&inner.running).values().cloned().collect();
            infos.extend(plain.iter().map(|call| call.info()).filter(|info| !info.recorded));
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
        check_name(run)?;
        Ok(folder::pointed(&self.inner.names, run))
    }

    /// How far a call got that was made `age_ms` ago. One that never was here never will be.
    pub async fn info(&self, id: CallId, age_ms: Option<u64>) -> Result<RunInfo, ErrorInfo> {
        let found = self.inner.blocking(move |inner| {
            if let Some(info) = inner.told(id) {
                return Ok(Ok(info));
            }
            Ok(Err(inner.journal.ask(id, age_ms)?))
        });
        match found.await {
            Some(Ok(info)) => Ok(info),
            Some(Err(Known::Yes(receipt))) => Ok(self.inner.receipt(id, receipt)),
            Some(Err(Known::Never)) => {
                let status = RunStatus::NotStarted;
                let never = Receipt { status, started_ms: 0, ended_ms: 0 };
                Ok(RunInfo { host: String::new(), ..self.inner.receipt(id, never) })
            }
            Some(Err(Known::Forgotten { .. })) => Err(self.inner.forgotten(id)),
            None => Err(self.inner.no_room(&io::Error::other("the journal can't be written"))),
        }
    }

    /// The node that a call came from.
    pub fn caller_of(&self, id: CallId) -> Option<NodeId> {
        let running = lock(&self.inner.running).get(&id).map(|call| call.from);
        running.or_else(|| Some(Folder::of(&self.inner.records, id).read()?.from))
    }

    /// Cancels a call and waits, within bounds, until nothing of it runs.
    pub async fn cancel(&self, id: CallId) -> Result<RunInfo, ErrorInfo> {
        let running = lock(&self.inner.running).get(&id).cloned();
        if let Some(call) = running {
            call.cancel();
            if tokio::time::timeout(CANCEL_WAIT, call.ended()).await.is_err() {
                return Ok(call.info());
            }
        }
        self.known(id).await
    }

    /// Forgets what was kept of a run.
    pub async fn remove(&self, id: CallId) -> Result<(), ErrorInfo> {
        if lock(&self.inner.running).contains_key(&id)
            || lock(&self.inner.recording).contains_key(&id)
        {
            return Err(ErrorInfo::new(ErrorKind::Conflict, "the run has not ended")
                .hint(format!("end it first: `rhd cancel {id}`"))
                .on(&self.inner.node())
                .call(id));
        }
        let info = self.known(id).await?;
        let removed = self.inner.blocking(move |inner| {
            Folder::of(&inner.records, id).remove()?;
            if folder::pointed(&inner.names, &info.name) == Some(id) {
                let before = prune::records(inner).into_iter().find(|i| i.name == info.name);
                match before {
                    Some(before) => folder::point(&inner.names, &info.name, before.id)?,
                    None => folder::unpoint(&inner.names, &info.name),
                }
            }
            Ok(())
        });
        removed.await.ok_or_else(|| {
            ErrorInfo::new(ErrorKind::Internal, "the record can't be removed")
                .hint("the daemon's log says why")
                .on(&self.inner.node())
        })
    }

    /// Its arguments, as they came.
    pub async fn inputs(&self, id: CallId) -> Result<Frame, ErrorInfo> {
        let info = self.known(id).await?;
        let read = self.inner.blocking(move |inner| {
            let folder = Folder::of(&inner.records, id);
            let kept = folder.read().and_then(|meta| meta.inputs);
            kept.map(|kept| Ok((kept, folder.inputs()?))).transpose()
        });
        let Some(Some((kept, body))) = read.await else {
            return Err(self.inner.not_kept(&info, "the arguments of this call were"));
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
        let running = lock(&self.inner.running).get(&id).cloned();
        if let Some(grown) = running.as_ref().and_then(|call| call.grown.get()) {
            return Ok(self.reader(id, want, grown.subscribe())?.until(deadline));
        }
        if let Some(call) = running {
            return self.plain(&call, want, deadline).await;
        }
        let info = self.known(id).await?;
        if !info.recorded {
            return match (self.inner.recent.get(id), want) {
                (Some(frame), Want::Replies { .. }) => self.one(id, want, frame),
                _ => Err(self.inner.not_kept(&info, "what this call returned and wrote was")),
            };
        }
        let grown = Grown {
            len: Folder::of(&self.inner.records, id)
                .replies()
                .and_then(|file| Ok(file.metadata()?.len()))
                .unwrap_or(0),
            end: Some(End::Kept),
        };
        Ok(self.reader(id, want, watch::channel(grown).1)?.until(deadline))
    }

    /// The replies of a run that is being recorded, for its caller.
    pub fn replies(&self, recording: &Recording, logs: bool) -> Result<Attached, ErrorInfo> {
        let grown = recording.grown.subscribe();
        self.reader(recording.admitted.id, Want::Replies { logs }, grown)
    }

    /// Waits for the end of a plain call that runs.
    async fn plain(
        &self,
        call: &Arc<Admitted>,
        want: Want,
        deadline: Option<Instant>,
    ) -> Result<Attached, ErrorInfo> {
        if let Want::Logs { .. } = want {
            return Err(self.inner.not_kept(&call.info(), "what this call writes is"));
        }
        let last = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, call.last())
                .await
                .map_err(|_| attached::still_running().on(&self.inner.node()).call(call.id))?,
            None => call.last().await,
        };
        let Some(frame) = last else {
            call.ended().await;
            return Err(self.inner.not_kept(&call.info(), "what this call returned was"));
        };
        self.one(call.id, want, frame)
    }

    fn one(&self, id: CallId, want: Want, frame: Frame) -> Result<Attached, ErrorInfo> {
        let grown = Grown { len: 0, end: Some(End::Lost(frame)) };
        Ok(Attached::new(self.clone(), id, want, None, watch::channel(grown).1))
    }

    fn reader(
        &self,
        id: CallId,
        want: Want,
        grown: watch::Receiver<Grown>,
    ) -> Result<Attached, ErrorInfo> {
        let file = Folder::of(&self.inner.records, id).replies();
        let file = file.map_err(|e| self.inner.unreadable(&e))?;
        Ok(Attached::new(self.clone(), id, want, Some(file), grown))
    }

    /// A run that is known here, or the error for one that is not.
    async fn known(&self, id: CallId) -> Result<RunInfo, ErrorInfo> {
        let info = self.info(id, None).await?;
        match info.status {
            RunStatus::NotStarted if info.host.is_empty() => Err(self.unknown(&id.to_string())),
            _ => Ok(info),
        }
    }

    /// The error for a run that nobody knows.
    pub fn unknown(&self, run: &str) -> ErrorInfo {
        ErrorInfo::new(ErrorKind::NotFound, format!("there is no run {run}"))
            .hint("`rhd ps` lists those there are")
            .on(&self.inner.node())
    }

    /// Makes the journal durable, at the node's end.
    pub async fn close(&self) {
        self.inner.blocking(|inner| inner.journal.bye()).await;
    }
}

impl Inner {
    fn node(&self) -> String {
        (self.name)()
    }

    /// Does what waits for the disk; what fails is logged.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let inner = self.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                tracing::warn!(%error, "records of runs");
                None
            }
            Err(error) => {
                tracing::error!(%error, "records of runs");
                None
            }
        }
    }

    fn start(&self, id: CallId) -> Result<u64, ErrorInfo> {
        self.journal.start(id).map_err(|refused| match refused {
            Refused::Known(receipt) => self.known(id, Some(receipt)),
            Refused::Io(error) => self.no_room(&error).call(id),
        })
    }

    fn admitted(self: &Arc<Self>, call: &Call, from: NodeId, started_ms: u64) -> Arc<Admitted> {
        let admitted = Arc::new(Admitted::new(self.clone(), call, from, started_ms));
        lock(&self.running).insert(call.id, admitted.clone());
        admitted
    }

    fn claim(&self, name: &str, id: CallId) -> Result<(), ErrorInfo> {
        let mut recording = lock(&self.recording);
        let same = |of: &&CallId| !name.is_empty() && recording[*of] == name;
        if let Some(other) = recording.keys().find(same) {
            let node = self.node();
            return Err(ErrorInfo::new(
                ErrorKind::Conflict,
                format!("a run named {name} is under way on {node}: {other}"),
            )
            .hint(format!("wait for it, end it with `rhd cancel {name}`, or choose another name"))
            .on(&node)
            .call(id));
        }
        if recording.contains_key(&id) {
            return Err(self.known(id, None));
        }
        recording.insert(id, name.to_owned());
        Ok(())
    }

    fn unclaim(&self, id: CallId) {
        lock(&self.recording).remove(&id);
    }

    /// Frees the name of a run whose final reply is known: its caller may use it again at once.
    fn unname(&self, id: CallId) {
        if let Some(name) = lock(&self.recording).get_mut(&id) {
            name.clear();
        }
    }

    /// A recorded run has ended, and its record says so.
    fn finished(&self, id: CallId) {
        self.unclaim(id);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// What a call's own task or record says about it.
    fn told(&self, id: CallId) -> Option<RunInfo> {
        let running = lock(&self.running).get(&id).cloned();
        running.map(|call| call.info()).or_else(|| Some(self.recorded(id)?.info))
    }

    /// What the record of a run says; of one that this daemon doesn't run, how it ended.
    fn recorded(&self, id: CallId) -> Option<Meta> {
        let folder = Folder::of(&self.records, id);
        let mut meta = folder.read()?;
        if meta.info.status == RunStatus::Running {
            let running = lock(&self.running).get(&id).cloned();
            if let Some(call) = running {
                meta.info.status = call.info().status;
                return Some(meta);
            }
            let receipt = self.journal.look(id);
            live::mend(&mut meta, &folder, receipt.map(|r| r.status));
            meta.info.ended_ms = receipt.map_or(0, |receipt| receipt.ended_ms);
            // Once is enough, unless its own task is about to say it.
            if !lock(&self.recording).contains_key(&id)
                && let Err(error) = folder.write(&meta, false)
            {
                tracing::debug!(%error, run = %id, "a record stays as it is");
            }
        }
        Some(meta)
    }

    fn receipt(&self, id: CallId, receipt: Receipt) -> RunInfo {
        RunInfo {
            id,
            name: String::new(),
            status: receipt.status,
            host: self.node(),
            caller: String::new(),
            service: String::new(),
            verb: Default::default(),
            method: None,
            started_ms: receipt.started_ms,
            ended_ms: receipt.ended_ms,
            recorded: false,
            result: self.recent.get(id).map(|frame| frame.body.len() as u64),
            error: None,
        }
    }

    fn known(&self, id: CallId, receipt: Option<Receipt>) -> ErrorInfo {
        let node = self.node();
        let text = match receipt.map(|r| r.status) {
            Some(RunStatus::NotStarted) => {
                format!("call {id} came after node {node} had said that it never would start")
            }
            Some(RunStatus::Running) => format!("call {id} runs already on {node}"),
            _ => format!("call {id} was here before: node {node} runs none twice"),
        };
        ErrorInfo::new(ErrorKind::Conflict, text)
            .hint("choose a fresh random id for each call")
            .on(&node)
            .call(id)
    }

    fn no_room(&self, error: &io::Error) -> ErrorInfo {
        let node = self.node();
        ErrorInfo::new(
            ErrorKind::QueueFull,
            format!("node {node} can't note the call down before it runs: {error}"),
        )
        .hint(format!("nothing ran; free some disk space on {node}"))
        .on(&node)
    }

    fn unreadable(&self, error: &io::Error) -> ErrorInfo {
        ErrorInfo::new(ErrorKind::Internal, format!("the record of the run can't be read: {error}"))
            .on(&self.node())
    }

    fn not_kept(&self, info: &RunInfo, what: &str) -> ErrorInfo {
        let status = format!("{:?}", info.status).to_uppercase();
        ErrorInfo::new(ErrorKind::NotFound, format!("{what} not kept (it is {status})"))
            .hint("calls that are to be asked about later need a record: f.options(run_name=…) or f.run(…)")
            .on(&self.node())
            .call(info.id)
    }

    fn forgotten(&self, id: CallId) -> ErrorInfo {
        let node = self.node();
        ErrorInfo::new(
            ErrorKind::PeerLost,
            format!("node {node} does not remember far enough back to say what became of call {id}"),
        )
        .hint("calls that are to be asked about later need a record: f.options(run_name=…) or f.run(…)")
        .on(&node)
        .call(id)
    }
}

/// Whether `name` may name a run; empty is none.
fn check_name(name: &str) -> Result<(), ErrorInfo> {
    if name.is_empty()
        || (is_part(name) && name.chars().count() <= MAX_NAME && name.parse::<CallId>().is_err())
    {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    Err(ErrorInfo::new(ErrorKind::BadRequest, format!("{shown:?} names no run")).hint(format!(
        "use at most {MAX_NAME} letters, digits, '-', '_' and '.'; not what looks like a call id"
    )))
}

impl Recording {
    async fn begin(
        runs: &Arc<Inner>,
        admitted: &Arc<Admitted>,
        inputs: Option<(Kept, Bytes)>,
    ) -> io::Result<Self> {
        let (inputs, body) = inputs.unzip();
        let info = RunInfo { recorded: true, ..admitted.info() };
        let meta = Meta { info, from: admitted.from, inputs };
        let folder = Folder::of(&runs.records, admitted.id);
        let make = {
            let (folder, meta) = (folder.clone(), meta.clone());
            move || folder.create(&meta, &body.unwrap_or_default())
        };
        let replies = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        let grown = watch::Sender::new(Grown::default());
        let _ = admitted.grown.set(grown.clone());
        let replies = Arc::new(replies);
        let (runs, admitted) = (runs.clone(), admitted.clone());
        Ok(Self { runs, admitted, folder, meta, replies, grown })
    }

    /// The call.
    pub fn admitted(&self) -> &Arc<Admitted> {
        &self.admitted
    }

    /// As it was when it began.
    pub fn info(&self) -> &RunInfo {
        &self.meta.info
    }
}

/// A final reply about a run.
pub fn reply(value: &impl serde::Serialize) -> Result<Frame, ErrorInfo> {
    answer(value)?.map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))
}
