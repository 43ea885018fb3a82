//! The room's handle: envs by key.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rhd_protocol::{
    api::{EnvInfo, PythonPath},
    call::Call,
    env::{BASE, EnvSpec},
    error::{ErrorInfo, ErrorKind},
    machine::queue::{Caller, Need},
    program::Target,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Invocation,
    build::{Builder, Built},
    env::{Env, Shared, Wish, function},
    lanes::{Lanes, Registry},
    lock,
    process::Process,
    program, python, specs,
    stream::{CallStream, Counted, Opening, expired, until},
};

/// Envs that one node keeps.
const MAX_ENVS: usize = 256;
/// How long killed processes may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Why the room can't open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The SDK can't be written to the home.
    #[error("write the Python SDK below {path}")]
    Sdk {
        /// The home.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket for workers can't be bound.
    #[error("bind the worker socket in {path}")]
    Socket {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The node's envs and the processes in them.
#[derive(Debug, Clone)]
pub struct Workers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    envs: Mutex<HashMap<String, Arc<Env>>>,
    closed: Mutex<Option<ErrorInfo>>,
}

/// Numbers of the room, for people and Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Envs with a running worker.
    pub running: usize,
    /// Calls that wait for a lane.
    pub waiting: usize,
    /// Worker processes that were started.
    pub started: u64,
    /// How often an env lost processes.
    pub lost: u64,
}

/// What runs behind a [`Workers`].
#[derive(Debug)]
#[must_use = "dropping ends all workers; call shutdown()"]
pub struct WorkersTasks {
    inner: Arc<Inner>,
    accept: JoinHandle<()>,
}

impl Workers {
    /// Opens the room below `home`: no interpreter is looked for and no process started yet.
    pub async fn start(
        home: &Path,
        node_name: &str,
        config: Config,
    ) -> Result<(Self, WorkersTasks), StartError> {
        let sdk = python::extract_sdk(home)
            .map_err(|source| StartError::Sdk { path: home.into(), source })?;
        let run = home.join("run");
        let lanes = Lanes::bind(&run).map_err(|source| StartError::Socket { path: run, source })?;
        let builder = Arc::new(Builder::new(home, &config));
        let scrap = builder.sweep();
        tokio::task::spawn_blocking(move || {
            for dir in scrap {
                let _ = std::fs::remove_dir_all(dir);
            }
        });
        let registry = Arc::new(Registry::default());
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Higher than any of a daemon before: what lived there is gone.
        let first_incarnation = since.as_micros() as u64;
        let shared = Arc::new(Shared {
            home: home.to_owned(),
            node: node_name.to_owned(),
            sdk,
            socket: lanes.address.clone(),
            builder,
            registry: registry.clone(),
            load: watch::Sender::new(0),
            lost: watch::Sender::new(0),
            incarnations: AtomicU64::new(first_incarnation),
            first_incarnation,
            devices: Mutex::default(),
            started: Instant::now(),
            config,
        });
        let accept = tokio::spawn(lanes.accept(registry, shared.config.max_body));
        let mut envs = HashMap::new();
        for spec in std::iter::once(EnvSpec::base()).chain(specs::load(home)).take(MAX_ENVS) {
            envs.insert(spec.key(), Env::new(shared.clone(), spec));
        }
        let inner = Arc::new(Inner { shared, envs: Mutex::new(envs), closed: Mutex::new(None) });
        Ok((Self { inner: inner.clone() }, WorkersTasks { inner, accept }))
    }

    /// Builds an env, or finds it built, and starts its worker. Lines about what is being done go
    /// to `progress`, as many as it takes.
    pub async fn ensure(
        &self,
        spec: &EnvSpec,
        progress: mpsc::Sender<String>,
    ) -> Result<EnvInfo, ErrorInfo> {
        let (shared, key) = (&self.inner.shared, spec.key());
        let on = |e: ErrorInfo| e.on(&shared.node);
        let built = shared.builder.build(spec, Some(&progress)).await.map_err(on)?;
        specs::save(&shared.home, spec).map_err(|e| {
            on(ErrorInfo::new(ErrorKind::EnvError, format!("remembering env {key}: {e}"))
                .hint("look at the permissions and free space of the home"))
        })?;
        let env = self.adopt(spec, built)?;
        if !env.is_running() {
            let _ = progress.try_send(format!("starting the worker of env {key}"));
        }
        env.up().await.map_err(on)?;
        Ok(env.info())
    }

    /// Takes the program of an env, as a file that is not written to again, before the env is
    /// [ensured](Self::ensure); says what it was built for.
    pub async fn provide(&self, spec: &EnvSpec, file: &Path) -> Result<Target, ErrorInfo> {
        let (shared, spec, file) = (self.inner.shared.clone(), spec.clone(), file.to_owned());
        let node = shared.node.clone();
        let work = move || program::provide(&shared.builder, &spec, &file);
        tokio::task::spawn_blocking(work)
            .await
            .unwrap_or_else(|e| Err(ErrorInfo::new(ErrorKind::Internal, e.to_string())))
            .map_err(|e| e.on(&node))
    }

    fn adopt(&self, spec: &EnvSpec, built: Arc<Built>) -> Result<Arc<Env>, ErrorInfo> {
        let key = spec.key();
        if let Some(closed) = &*lock(&self.inner.closed) {
            return Err(closed.clone());
        }
        let env = {
            let mut envs = lock(&self.inner.envs);
            if !envs.contains_key(&key) && envs.len() >= MAX_ENVS {
                let text = format!("this node has {MAX_ENVS} envs already");
                return Err(ErrorInfo::new(ErrorKind::QueueFull, text)
                    .hint("remove some with `rhd env rm`")
                    .on(&self.inner.shared.node));
            }
            let fresh = || Env::new(self.inner.shared.clone(), spec.clone());
            envs.entry(key).or_insert_with(fresh).clone()
        };
        let before = env.spec();
        let old = env.respec(spec.clone(), built);
        if before.binary.is_some() && before.build_hash() != spec.build_hash() {
            tokio::spawn(self.clone().discard(before, old));
        }
        Ok(env)
    }

    /// Removes the program of an env that has another now, once nothing runs in it.
    async fn discard(self, spec: EnvSpec, running: Vec<Arc<Process>>) {
        for process in running {
            process.over().await;
        }
        let hash = spec.build_hash();
        let used = lock(&self.inner.envs).values().any(|env| env.spec().build_hash() == hash);
        if !used {
            self.inner.shared.builder.discard(&spec).await;
        }
    }

    /// Runs a call in an env that this node knows, starting its worker where needed.
    pub async fn call(&self, env_key: &str, inv: Invocation) -> Result<CallStream, ErrorInfo> {
        let env = self.env(env_key)?;
        let id = inv.call.id;
        call(&env, inv).await.map_err(|e| e.on(&self.inner.shared.node).call(id))
    }

    fn env(&self, key: &str) -> Result<Arc<Env>, ErrorInfo> {
        if let Some(closed) = &*lock(&self.inner.closed) {
            return Err(closed.clone());
        }
        lock(&self.inner.envs).get(key).cloned().ok_or_else(|| {
            ErrorInfo::new(ErrorKind::NotFound, format!("there is no env {key} on this node"))
                .hint("`rhd env ls` lists those there are")
                .on(&self.inner.shared.node)
        })
    }

    /// Has the processes of an env see these GPUs only, from their next start on; those that see
    /// others end with their calls.
    pub fn confine(&self, env_key: &str, devices: &[u32]) {
        let before = lock(&self.inner.shared.devices).insert(env_key.to_owned(), devices.to_vec());
        if before.as_deref() == Some(devices) {
            return;
        }
        let env = lock(&self.inner.envs).get(env_key).cloned();
        if let Some(env) = env {
            env.changed();
        }
    }

    /// The Python of an env as `3.11`, once it is built.
    pub fn python_minor(&self, env_key: &str) -> Option<String> {
        let version = self.env(env_key).ok()?.info().python;
        (!version.is_empty()).then(|| python::minor(&version))
    }

    /// Every env that this node knows, by key.
    pub fn envs(&self) -> Vec<EnvInfo> {
        let envs: Vec<_> = lock(&self.inner.envs).values().cloned().collect();
        let mut infos: Vec<EnvInfo> = envs.iter().map(|env| env.info()).collect();
        infos.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        infos
    }

    /// Ends the processes of an env and removes what was built for it alone.
    pub async fn remove(&self, env_key: &str) -> Result<(), ErrorInfo> {
        let shared = &self.inner.shared;
        let env = self.env(env_key)?;
        let gone = ErrorInfo::new(ErrorKind::NotFound, format!("env {env_key} was removed"))
            .hint("deploy again to build it anew")
            .on(&shared.node);
        let spec = env.spec();
        let shares_build = {
            let mut envs = lock(&self.inner.envs);
            envs.remove(env_key);
            if env_key == BASE {
                envs.insert(BASE.into(), Env::new(shared.clone(), EnvSpec::base()));
            }
            envs.values().any(|other| other.spec().build_hash() == spec.build_hash())
        };
        specs::remove(&shared.home, env_key);
        lock(&shared.devices).remove(env_key);
        for process in env.close(gone) {
            process.kill("its env was removed");
            let _ = tokio::time::timeout(KILL_WAIT, process.over()).await;
        }
        shared.lost.send_modify(|n| *n += 1);
        if !shares_build {
            shared.builder.discard(&spec).await;
        }
        Ok(())
    }

    /// Changes whenever processes have gone, and with them the instances that they
    /// [hold](Self::holds).
    pub fn lost(&self) -> watch::Receiver<u64> {
        self.inner.shared.lost.subscribe()
    }

    /// Whether instances in this process of an env can still be called.
    pub fn holds(&self, env_key: &str, incarnation: u64) -> bool {
        let env = lock(&self.inner.envs).get(env_key).cloned();
        env.is_some_and(|env| env.holds(incarnation))
    }

    /// Whether brief calls of an env share a lane.
    #[cfg(test)]
    pub(super) fn shares(&self, env_key: &str) -> bool {
        lock(&self.inner.envs).get(env_key).is_some_and(|env| env.shares())
    }

    /// Calls that run or wait.
    pub fn load(&self) -> watch::Receiver<u32> {
        self.inner.shared.load.subscribe()
    }

    /// What the room counts.
    pub fn counts(&self) -> Counts {
        let shared = &self.inner.shared;
        let envs: Vec<_> = lock(&self.inner.envs).values().cloned().collect();
        let now = shared.incarnations.load(Ordering::Relaxed);
        Counts {
            running: envs.iter().filter(|env| env.is_running()).count(),
            waiting: envs.iter().map(|env| env.waiting()).sum(),
            started: now.saturating_sub(shared.first_incarnation),
            lost: *shared.lost.borrow(),
        }
    }

    /// What a Python needs to import the daemon's own SDK. The first time, looks for an interpreter.
    pub async fn python_path(&self) -> Result<PythonPath, ErrorInfo> {
        let shared = &self.inner.shared;
        let interpreter = shared.builder.base().await.map_err(|e| e.on(&shared.node))?;
        let built = Built { interpreter: interpreter.clone(), venv: None, dir: PathBuf::new() };
        let path = std::iter::once(shared.sdk.clone()).chain(shared.builder.overlay(&built));
        Ok(PythonPath {
            python: interpreter.path.display().to_string(),
            path: path.map(|p| p.display().to_string()).collect(),
        })
    }
}

/// Whose turn a call takes.
pub(super) fn caller_of(call: &Call) -> Caller<'_> {
    Caller { node: &call.caller, client: call.client }
}

/// Runs a call in `env`.
pub(super) async fn call(env: &Arc<Env>, inv: Invocation) -> Result<CallStream, ErrorInfo> {
    let counted = Counted::new(&env.shared.load);
    let Call { id, timeout_ms, .. } = inv.call;
    let deadline = timeout_ms
        .and_then(|ms| tokio::time::Instant::now().checked_add(Duration::from_millis(ms)));
    let need = match (inv.on_loop, inv.stateless && inv.incarnation.is_none()) {
        (true, _) => Need::Loop,
        (false, true) => Need::AnyLane,
        (false, false) => Need::Lane,
    };
    let function = function(&inv.call).filter(|_| inv.may_share());
    let wish = Wish { caller: caller_of(&inv.call), need, function };
    let grant = tokio::select! {
        biased;
        grant = env.acquire(wish, inv.incarnation) => grant?,
        () = until(deadline) => return Err(expired(id)),
    };
    CallStream::open(Opening { env: env.clone(), grant, deadline, counted }, inv).await
}

impl Inner {
    fn close(&self) -> Vec<Arc<Env>> {
        let closed = ErrorInfo::new(ErrorKind::DaemonUnavailable, "the daemon is shutting down")
            .hint("start it again with `rhd up`")
            .on(&self.shared.node);
        *lock(&self.closed) = Some(closed);
        lock(&self.envs).drain().map(|(_, env)| env).collect()
    }

    fn closing_error(&self) -> ErrorInfo {
        let fallback = || ErrorInfo::new(ErrorKind::DaemonUnavailable, "shutting down");
        lock(&self.closed).clone().unwrap_or_else(fallback)
    }
}

impl WorkersTasks {
    /// Takes no more calls, waits for those that run, then ends all processes. Returns the calls
    /// that did not end within `grace`, or before somebody was in a `hurry`.
    pub async fn shutdown(self, grace: Duration, hurry: &CancellationToken) -> Vec<String> {
        let envs = self.inner.close();
        let error = self.inner.closing_error();
        let processes: Vec<_> = envs.iter().flat_map(|env| env.close(error.clone())).collect();
        let quiet = async {
            for process in &processes {
                tokio::select! {
                    () = process.calls.quiet() => {}
                    _ = process.over() => {}
                }
            }
        };
        let _ = tokio::time::timeout(grace, hurry.run_until_cancelled(quiet)).await;
        let aborted = processes.iter().flat_map(|process| process.calls.describe()).collect();
        for process in &processes {
            process.kill("the daemon is shutting down");
        }
        let gone = async {
            for process in &processes {
                process.over().await;
            }
        };
        let _ = tokio::time::timeout(KILL_WAIT, gone).await;
        self.accept.abort();
        aborted
    }
}

impl Drop for WorkersTasks {
    fn drop(&mut self) {
        self.accept.abort();
        let envs = self.inner.close();
        let error = self.inner.closing_error();
        for process in envs.iter().flat_map(|env| env.close(error.clone())) {
            process.kill("the daemon is shutting down");
        }
    }
}
