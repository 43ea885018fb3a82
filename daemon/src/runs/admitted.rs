//! A call that was let in: from its first entry in the journal to its last.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
};

use futures::task::AtomicWaker;
use rhd_protocol::{
    call::{Call, Glance, Kind, Reply, Verb},
    error::{ErrorInfo, ErrorKind},
    id::{CallId, NodeId},
    run::{RunInfo, RunStatus},
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{
    error,
    grown::Grown,
    journal::{Journal, Refused},
    lock,
    recent::Recent,
};
use crate::framed::Frame;

/// Where calls are let in, and the calls that run.
pub(super) struct Admissions {
    pub(super) me: NodeId,
    pub(super) name: Box<dyn Fn() -> String + Send + Sync>,
    pub(super) journal: Journal,
    pub(super) recent: Recent,
    pub(super) running: Mutex<HashMap<CallId, Arc<Admitted>>>,
    /// Set when the node drains.
    pub(super) closing: CancellationToken,
}

impl Admissions {
    /// The name of this node.
    pub(super) fn node(&self) -> String {
        (self.name)()
    }

    /// Journals a call that is about to start; refuses one whose id was here before.
    pub(super) fn admit(
        self: &Arc<Self>,
        call: &Call,
        from: NodeId,
    ) -> Result<Arc<Admitted>, ErrorInfo> {
        let started_ms = self.journal.start(call.id).map_err(|refused| match refused {
            Refused::Known(receipt) => error::known(&self.node(), call.id, Some(receipt)),
            Refused::Io(error) => error::no_room(&self.node(), &error).call(call.id),
        })?;
        let admitted = Arc::new(Admitted::new(self.clone(), call, from, started_ms));
        lock(&self.running).insert(call.id, admitted.clone());
        Ok(admitted)
    }

    /// A call that runs.
    pub(super) fn running(&self, id: CallId) -> Option<Arc<Admitted>> {
        lock(&self.running).get(&id).cloned()
    }

    /// All calls that run.
    pub(super) fn all(&self) -> Vec<Arc<Admitted>> {
        lock(&self.running).values().cloned().collect()
    }
}

/// A call that was let in. It ends when its outcome is known and nothing of it runs any more,
/// whichever comes last; only then does the journal say so.
pub struct Admitted {
    pub(super) id: CallId,
    /// The node that it came from.
    pub(super) from: NodeId,
    pub(super) started_ms: u64,
    about: About,
    /// Whether the caller is another node, and so may lose its link.
    remote: bool,
    state: Mutex<State>,
    cancelled: AtomicBool,
    canceller: AtomicWaker,
    /// Whoever waits for its replies besides its caller.
    attached: AtomicUsize,
    /// Its outcome became known, or it ended.
    changed: Notify,
    /// Set for a call that is recorded from now on.
    pub(super) grown: OnceLock<watch::Sender<Grown>>,
    admissions: Arc<Admissions>,
}

#[derive(Debug)]
struct About {
    name: String,
    caller: String,
    service: String,
    verb: Verb,
    method: Option<String>,
    /// Whether it answers others that call for a run of its name.
    shared: bool,
}

#[derive(Debug, Default)]
struct State {
    outcome: Option<RunStatus>,
    /// The final reply, for those who are attached.
    last: Option<Frame>,
    /// Nothing of it runs any more.
    over: bool,
    /// 0 until the journal says that it ended.
    ended_ms: u64,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Admitted({})", self.id.short())
    }
}

/// Held by whatever runs the call; nothing of it runs once this is dropped.
#[derive(Debug)]
pub struct Running(Arc<Admitted>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.update(|state| state.over = true);
    }
}

/// Held by whoever waits for the replies of a call that is not recorded.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Admitted>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.attached.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admitted {
    fn new(admissions: Arc<Admissions>, call: &Call, from: NodeId, started_ms: u64) -> Self {
        let about = About {
            name: call.run.as_ref().map(|run| run.name.clone()).unwrap_or_default(),
            caller: call.caller.clone(),
            service: call.service.clone(),
            verb: call.verb,
            method: call.method.clone(),
            shared: call.run.as_ref().is_some_and(|run| run.get),
        };
        Self {
            id: call.id,
            from,
            started_ms,
            about,
            remote: from != admissions.me,
            state: Mutex::default(),
            cancelled: AtomicBool::new(false),
            canceller: AtomicWaker::new(),
            attached: AtomicUsize::new(0),
            changed: Notify::new(),
            grown: OnceLock::new(),
            admissions,
        }
    }

    /// For whatever runs it.
    pub fn running(self: &Arc<Self>) -> Running {
        Running(self.clone())
    }

    /// Its final reply is there: what is said about it from now on.
    pub fn replied(&self, last: &Frame) {
        let status = match last.header() {
            Ok(Glance { t: Kind::Done, .. }) => RunStatus::Completed,
            _ => match last.header() {
                Ok(Reply::Fail { error, .. }) => self.status_of(&error),
                _ => RunStatus::Error,
            },
        };
        if self.remote && self.grown.get().is_none() {
            self.admissions.recent.keep(self.id, last);
        }
        self.update(|state| {
            if state.outcome.is_none() {
                state.outcome = Some(status);
                // Read under the lock that those who attach take after they have counted themselves.
                let attached = self.attached.load(Ordering::Relaxed) > 0;
                state.last = attached.then(|| last.clone());
            }
        });
    }

    /// It could not be started: nothing of it ran.
    pub fn refused(&self, error: &ErrorInfo) {
        let status = match error.kind {
            ErrorKind::Cancelled | ErrorKind::Timeout => RunStatus::Cancelled,
            _ => RunStatus::NotStarted,
        };
        self.update(|state| {
            state.outcome.get_or_insert(status);
        });
    }

    /// Nobody waits for its replies any more, before the final one.
    pub fn dropped(&self) {
        self.update(|state| {
            state.outcome.get_or_insert(RunStatus::Cancelled);
        });
    }

    fn status_of(&self, error: &ErrorInfo) -> RunStatus {
        match error.kind {
            ErrorKind::Cancelled | ErrorKind::Timeout => RunStatus::Cancelled,
            // Its worker was ended with the daemon.
            ErrorKind::EnvError | ErrorKind::DaemonUnavailable
                if error.exc_type.is_empty() && self.admissions.closing.is_cancelled() =>
            {
                RunStatus::Interrupted
            }
            _ => RunStatus::Error,
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        change(&mut state);
        if state.over
            && state.ended_ms == 0
            && let Some(status) = state.outcome
        {
            state.ended_ms = self.admissions.journal.end(self.id, status);
            lock(&self.admissions.running).remove(&self.id);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Has whoever waits for its replies give it up.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.canceller.wake();
    }

    /// Waits until somebody [cancels](Self::cancel) it; for one task at a time.
    pub async fn cancelled(&self) {
        std::future::poll_fn(|cx| {
            if self.cancelled.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            self.canceller.register(cx.waker());
            match self.cancelled.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Whether its replies are kept.
    pub fn is_recorded(&self) -> bool {
        self.grown.get().is_some()
    }

    /// The final reply of a cancelled call.
    pub fn cancellation(&self) -> ErrorInfo {
        ErrorInfo::new(ErrorKind::Cancelled, "the call was cancelled").call(self.id)
    }

    /// Waits until nothing of it runs and the journal says so.
    pub(super) async fn ended(&self) {
        self.until(|state| (state.ended_ms > 0).then_some(())).await;
    }

    /// Waits for its final reply. `None` when it has none: whoever had to read it was cancelled.
    pub(super) async fn last(self: &Arc<Self>) -> Option<Frame> {
        let waiting = Waiting(self.clone());
        self.attached.fetch_add(1, Ordering::Relaxed);
        let last = self.until(|state| state.outcome.map(|_| state.last.clone())).await;
        drop(waiting);
        last.or_else(|| self.admissions.recent.get(self.id))
    }

    async fn until<T>(&self, probe: impl Fn(&State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = probe(&lock(&self.state)) {
                return found;
            }
            changed.await;
        }
    }

    /// Whether others than its caller may want what it returns, and somebody waits for that.
    pub fn is_shared(&self) -> bool {
        self.about.shared && self.is_attended()
    }

    /// Whether somebody waits for its replies besides its caller.
    pub(super) fn is_attended(&self) -> bool {
        let watched = self.grown.get().is_some_and(|grown| grown.receiver_count() > 0);
        watched || self.attached.load(Ordering::Relaxed) > 0
    }

    /// How far it is.
    pub fn info(&self) -> RunInfo {
        let state = lock(&self.state);
        let status = state.outcome.filter(|_| state.ended_ms > 0).unwrap_or(RunStatus::Running);
        RunInfo {
            id: self.id,
            name: self.about.name.clone(),
            status,
            host: self.admissions.node(),
            caller: self.about.caller.clone(),
            service: self.about.service.clone(),
            verb: self.about.verb,
            method: self.about.method.clone(),
            started_ms: self.started_ms,
            ended_ms: state.ended_ms,
            recorded: self.grown.get().is_some(),
            result: None,
            error: None,
        }
    }
}
