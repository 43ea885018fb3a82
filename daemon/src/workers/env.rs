//! One env: its processes, their lanes, and the calls that wait for one.
//!
//! The rules are the pure machines' ([`Queue`], [`Supervision`]); here they meet sockets. Calls take
//! a lane out of the env and talk on it themselves; the env only hands lanes over, so a warm call
//! costs two short locks.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rhd_protocol::{
    api::EnvInfo,
    env::EnvSpec,
    error::ErrorInfo,
    machine::{
        queue::{Offer, Queue},
        sharing::{Sharing, WINDOW},
        supervision::{Decision, Limits, Supervision},
        width::Width,
    },
    worker::Control,
};
use tokio::sync::{oneshot, watch};

use super::{
    build::{Builder, Built},
    config::Config,
    lanes::Registry,
    lease::Grant,
    lock,
    process::Process,
};
use crate::framed::Conn;

mod hand;
mod life;
mod refusals;
mod share;
mod wide;

pub(super) use hand::Wish;
pub(super) use share::function;

/// Most processes of one env.
const MAX_PROCESSES: u32 = 64;

/// What all envs of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) home: PathBuf,
    pub(super) node: String,
    pub(super) config: Config,
    pub(super) sdk: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) builder: Arc<Builder>,
    pub(super) registry: Arc<Registry>,
    /// Calls that run or wait.
    pub(super) load: watch::Sender<u32>,
    /// Grows whenever an env has lost a process, and with it the instances there.
    pub(super) lost: watch::Sender<u64>,
    pub(super) incarnations: AtomicU64,
    /// The GPUs that envs have, by index; others see all.
    pub(super) devices: Mutex<HashMap<String, Vec<u32>>>,
    /// The first of them.
    pub(super) first_incarnation: u64,
    pub(super) started: Instant,
}

impl Shared {
    /// An id for a process, higher than all before.
    fn next_incarnation(&self) -> u64 {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// An env of this node.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) key: String,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
}

type Granted = oneshot::Sender<Result<Grant, ErrorInfo>>;

/// A call in the queue.
#[derive(Debug)]
struct Waiter {
    granted: Granted,
    /// What it calls, if it may share a lane.
    function: Option<u64>,
}

#[derive(Debug)]
struct State {
    spec: EnvSpec,
    built: Option<Arc<Built>>,
    queue: Queue<Waiter>,
    /// The first is the home of modules.
    slots: Vec<Slot>,
    /// Grows when the spec changes: starts that were under way for the spec before are void.
    generation: u64,
    /// Who waits for the first process without a call.
    starting: Vec<oneshot::Sender<Result<(), ErrorInfo>>>,
    /// Why the last start failed or the last process died.
    failure: Option<ErrorInfo>,
    /// Set for good when the env is removed or the daemon ends.
    closed: Option<ErrorInfo>,
    /// Processes of specs before, with calls that still run.
    retired: Vec<Arc<Process>>,
}

#[derive(Debug)]
struct Slot {
    supervision: Supervision,
    process: Option<Arc<Process>>,
    /// Whether its control lane is there.
    ready: bool,
    idle: Vec<Conn>,
    /// Lanes that are open, idle or not; at most the setting.
    lanes: u32,
    /// Lanes that were asked for and have not come.
    asked: u32,
    coroutines: u32,
    /// The calls on its lanes.
    width: Width,
    /// Whether somebody will look whether there is room for more of them.
    looking: bool,
    /// The calls on its shared lane.
    sharing: Sharing,
    /// Whether that lane was asked for.
    sharing_asked: bool,
    /// Whether somebody watches over it.
    sharing_watched: bool,
}

impl Slot {
    fn new(spec: &EnvSpec) -> Self {
        Self {
            width: wide::width(spec),
            looking: false,
            sharing: Sharing::default(),
            sharing_asked: false,
            sharing_watched: false,
            supervision: Supervision::new(Limits::default()),
            process: None,
            ready: false,
            idle: Vec::new(),
            lanes: 0,
            asked: 0,
            coroutines: 0,
        }
    }

    fn clear(&mut self) -> Option<Arc<Process>> {
        self.ready = false;
        self.idle.clear();
        (self.lanes, self.asked, self.coroutines) = (0, 0, 0);
        self.width.clear();
        self.sharing.clear();
        (self.sharing_asked, self.sharing_watched) = (false, false);
        self.process.take()
    }
}

impl State {
    fn slot_of(&mut self, process: &Process) -> Option<(usize, &mut Slot)> {
        self.slots.iter_mut().enumerate().find(|(_, slot)| {
            slot.process.as_ref().is_some_and(|p| p.incarnation == process.incarnation)
        })
    }

    /// What an idle lane of a process is good for.
    fn offer(index: usize, slot: &Slot) -> Offer {
        // What waits for a lane that doesn't move takes any other.
        match (index, slot.shares() && !slot.sharing.is_stuck()) {
            (0, false) => Offer::Lane,
            (0, true) => Offer::OwnLane,
            (_, false) => Offer::ReplicaLane,
            (_, true) => Offer::ReplicaOwnLane,
        }
    }

    /// What its shared lane is good for.
    fn shared_offer(index: usize) -> Offer {
        if index == 0 { Offer::Shared } else { Offer::ReplicaShared }
    }
}

fn slots(spec: &EnvSpec) -> Vec<Slot> {
    let count = spec.workers.unwrap_or(1).clamp(1, MAX_PROCESSES);
    (0..count).map(|_| Slot::new(spec)).collect()
}

impl Env {
    /// An env whose processes start when a call needs them.
    pub(super) fn new(shared: Arc<Shared>, spec: EnvSpec) -> Arc<Self> {
        let state = State {
            built: None,
            queue: Queue::new(shared.config.queue),
            slots: slots(&spec),
            generation: 0,
            starting: Vec::new(),
            failure: None,
            closed: None,
            retired: Vec::new(),
            spec,
        };
        Arc::new(Self { key: state.spec.key(), shared, state: Mutex::new(state) })
    }

    /// How it is.
    pub(super) fn info(&self) -> EnvInfo {
        let (spec, built, pid) = {
            let state = lock(&self.state);
            let pid = state.slots.first().filter(|slot| slot.ready);
            let pid = pid.and_then(|slot| slot.process.as_ref()).map(|process| process.pid);
            (state.spec.clone(), state.built.clone(), pid)
        };
        let built = built.or_else(|| self.shared.builder.ready(&spec).map(Arc::new));
        EnvInfo {
            key: self.key.clone(),
            python: built.as_ref().map(|b| b.interpreter.version.clone()).unwrap_or_default(),
            dir: built.map(|b| b.dir.display().to_string()).unwrap_or_default(),
            running: pid.is_some(),
            pid,
            services: 0,
            spec,
        }
    }

    /// The spec that it has now.
    pub(super) fn spec(&self) -> EnvSpec {
        lock(&self.state).spec.clone()
    }

    /// Takes a new spec, already built. Where it differs, calls that run go on in the processes
    /// they are in, which take no more; those are returned.
    pub(super) fn respec(self: &Arc<Self>, spec: EnvSpec, built: Arc<Built>) -> Vec<Arc<Process>> {
        let mut state = lock(&self.state);
        state.built = Some(built);
        if state.spec.runs_like(&spec) {
            state.spec = spec;
            return Vec::new();
        }
        state.spec = spec;
        self.renew(state)
    }

    /// Starts anew: calls that run go on in the processes they are in, which take no more and are
    /// returned.
    fn renew(self: &Arc<Self>, mut state: MutexGuard<'_, State>) -> Vec<Arc<Process>> {
        state.generation += 1;
        let fresh = slots(&state.spec);
        let old = std::mem::replace(&mut state.slots, fresh);
        let old: Vec<_> = old.into_iter().filter_map(|mut slot| slot.clear()).collect();
        for process in old.iter().cloned() {
            // Nobody will look any more whether those that share a lane there get their turn.
            hand::order(&process, &Control::Share { threads: WINDOW as u32 });
            state.retired.push(process.clone());
            let env = self.clone();
            tokio::spawn(async move {
                process.calls.quiet().await;
                process.kill("its env was changed");
                lock(&env.state).retired.retain(|p| p.incarnation != process.incarnation);
            });
        }
        drop(state);
        self.shared.lost.send_modify(|n| *n += 1);
        self.demand();
        old
    }

    /// What its processes are started with has changed.
    pub(super) fn changed(self: &Arc<Self>) {
        let state = lock(&self.state);
        if state.slots.iter().any(|slot| slot.process.is_some()) {
            self.renew(state);
        }
    }

    /// Calls that wait for a lane.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Whether instances in this process can still be called.
    pub(super) fn holds(&self, incarnation: u64) -> bool {
        let state = lock(&self.state);
        let home = state.slots.first().and_then(|slot| slot.process.as_ref());
        home.is_some_and(|process| process.incarnation == incarnation && !process.is_over())
    }

    /// Waits until the first process runs, with a new beginning if restarts had been given up.
    pub(super) async fn up(self: &Arc<Self>) -> Result<(), ErrorInfo> {
        let (tx, rx) = oneshot::channel();
        {
            let mut state = lock(&self.state);
            if let Some(closed) = &state.closed {
                return Err(closed.clone());
            }
            if state.slots.first().is_some_and(|slot| slot.ready) {
                return Ok(());
            }
            for slot in &mut state.slots {
                slot.supervision.reset();
            }
            state.starting.push(tx);
        }
        self.demand();
        rx.await.unwrap_or_else(|_| Err(self.gone_error()))
    }

    /// Starts the processes that waiting calls need, and asks for lanes.
    fn demand(self: &Arc<Self>) {
        let mut refused = None;
        {
            let mut state = lock(&self.state);
            if state.closed.is_some() {
                return;
            }
            let now = self.shared.now();
            let generation = state.generation;
            let State { slots, queue, starting, failure, .. } = &mut *state;
            for (index, slot) in slots.iter_mut().enumerate() {
                let needed = match index {
                    0 => !queue.is_empty() || !starting.is_empty(),
                    _ => queue.wanting(Offer::ReplicaLane) > 0,
                };
                if !needed {
                    continue;
                }
                match slot.supervision.demand(now) {
                    Decision::Wait => {}
                    Decision::Start { after_ms } => {
                        let after = Duration::from_millis(after_ms);
                        tokio::spawn(self.clone().run_slot(index, generation, after));
                    }
                    Decision::GiveUp { failures, retry_ms } if index == 0 => {
                        refused = Some(self.given_up(failures, retry_ms, failure.as_ref()));
                    }
                    Decision::GiveUp { .. } => {}
                }
            }
        }
        match refused {
            Some(error) => self.refuse_all(&error),
            None => self.settle(),
        }
    }

    fn refuse_all(&self, error: &ErrorInfo) {
        let (waiting, starting) = {
            let mut state = lock(&self.state);
            (state.queue.drain(), std::mem::take(&mut state.starting))
        };
        for waiter in waiting {
            let _ = waiter.granted.send(Err(error.clone()));
        }
        for waiter in starting {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Takes no more calls; returns the processes there are.
    pub(super) fn close(&self, error: ErrorInfo) -> Vec<Arc<Process>> {
        let processes = {
            let mut state = lock(&self.state);
            state.closed = Some(error.clone());
            let retired = std::mem::take(&mut state.retired);
            let processes = state.slots.iter_mut().filter_map(Slot::clear);
            processes.chain(retired).collect()
        };
        self.refuse_all(&error);
        processes
    }

    /// Whether a process of it runs or is being started.
    pub(super) fn is_running(&self) -> bool {
        lock(&self.state).slots.iter().any(|slot| slot.process.is_some())
    }
}
