//! Env specs become interpreters with packages: built once for each spec, shared by all who ask.
//!
//! ```text
//! <home>/envs/<hash>/            one build; unfinished without ready.json, and then removed
//! <home>/envs/<hash>/ready.json  written last: what to start, so that nothing is probed again
//! <home>/python/overlay-3.11/    cloudpickle and msgpack for interpreters used as they are
//! ```

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rhd_protocol::{
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    id::encode_base32,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, broadcast, mpsc, watch};

use super::{
    config::Config,
    lock,
    python::{self, Interpreter},
    specs,
};

mod command;
mod conda;
mod overlay;
mod steps;

pub(super) use steps::path_with;

/// Progress lines that a slow reader may lag behind before it misses some.
const PROGRESS: usize = 64;
/// Characters of the hash that name a build's directory.
const HASH_CHARS: usize = 20;

/// Something that can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Built {
    /// The interpreter.
    pub(super) interpreter: Interpreter,
    /// The env's own directory; none: the interpreter is used as it is.
    pub(super) venv: Option<PathBuf>,
    /// Where it was built.
    pub(super) dir: PathBuf,
}

type Outcome = Option<Result<Arc<Built>, ErrorInfo>>;

#[derive(Debug, Clone)]
struct Job {
    progress: broadcast::Sender<String>,
    outcome: watch::Receiver<Outcome>,
}

/// Builds envs.
#[derive(Debug)]
pub(super) struct Builder {
    home: PathBuf,
    config: Config,
    base: OnceCell<Interpreter>,
    jobs: Mutex<HashMap<PathBuf, Job>>,
    overlay: overlay::Overlay,
}

impl Builder {
    /// Nothing is looked for yet.
    pub(super) fn new(home: &Path, config: &Config) -> Self {
        Self {
            home: home.to_owned(),
            config: config.clone(),
            base: OnceCell::new(),
            jobs: Mutex::default(),
            overlay: overlay::Overlay::new(&home.join("python")),
        }
    }

    /// Sets aside what a daemon that was killed left unfinished, before the first build; returns it,
    /// to be removed at leisure.
    pub(super) fn sweep(&self) -> Vec<PathBuf> {
        let mut scrap = Vec::new();
        for root in [self.home.join("envs"), self.home.join("python")] {
            for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if name.as_encoded_bytes().starts_with(b".") {
                    scrap.push(path);
                } else if command::is_build_dir(&name) && !path.join("ready.json").exists() {
                    let aside =
                        root.join(format!(".{}", encode_base32(&rand::random::<[u8; 8]>())));
                    if fs::rename(&path, &aside).is_ok() {
                        scrap.push(aside);
                    }
                }
            }
        }
        scrap
    }

    /// The node's own interpreter.
    pub(super) async fn base(&self) -> Result<Interpreter, ErrorInfo> {
        let asked = self.config.python.as_deref();
        self.base.get_or_try_init(|| python::find(&self.home, asked)).await.cloned()
    }

    /// The node's own interpreter, if it was needed before.
    pub(super) fn base_if_known(&self) -> Option<Interpreter> {
        self.base.get().cloned()
    }

    /// Where the build of a spec is.
    pub(super) fn dir(&self, spec: &EnvSpec) -> PathBuf {
        let hash = spec.build_hash().to_string();
        self.home.join("envs").join(&hash[..HASH_CHARS.min(hash.len())])
    }

    /// What a spec was built to, if it was.
    pub(super) fn ready(&self, spec: &EnvSpec) -> Option<Built> {
        if spec.is_bare() {
            let interpreter = self.base_if_known()?;
            return Some(Built { interpreter, venv: None, dir: PathBuf::new() });
        }
        let bytes = fs::read(self.dir(spec).join("ready.json")).ok()?;
        let built: Built = serde_json::from_slice(&bytes).ok()?;
        // Somebody may have removed the interpreter below it.
        built.interpreter.path.exists().then_some(built)
    }

    /// Folders for `PYTHONPATH` beside the SDK. Missing packages are fetched behind the scenes.
    pub(super) fn overlay(self: &Arc<Self>, built: &Built) -> Option<PathBuf> {
        if built.venv.is_some() || built.interpreter.version.is_empty() {
            return None;
        }
        Some(self.overlay.folder(&built.interpreter))
    }

    /// Builds a spec, or waits for the build that is under way, or finds it done.
    pub(super) async fn build(
        self: &Arc<Self>,
        spec: &EnvSpec,
        progress: Option<&mpsc::Sender<String>>,
    ) -> Result<Arc<Built>, ErrorInfo> {
        if spec.is_bare() {
            let interpreter = self.base().await?;
            return Ok(Arc::new(Built { interpreter, venv: None, dir: PathBuf::new() }));
        }
        if let Some(built) = self.ready(spec) {
            return Ok(Arc::new(built));
        }
        if spec.binary.is_some() {
            return Err(gone(spec));
        }
        let job = self.job(spec);
        let (mut lines, mut outcome) = (job.progress.subscribe(), job.outcome);
        loop {
            tokio::select! {
                biased;
                line = lines.recv(), if progress.is_some() => match line {
                    // A reader that is behind misses lines rather than holding up the build.
                    Ok(line) => { let _ = progress.map(|p| p.try_send(line)); }
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return settled(&mut outcome).await,
                },
                result = settled(&mut outcome) => return result,
            }
        }
    }

    fn job(self: &Arc<Self>, spec: &EnvSpec) -> Job {
        let dir = self.dir(spec);
        let mut jobs = lock(&self.jobs);
        if let Some(job) = jobs.get(&dir) {
            return job.clone();
        }
        let (done, outcome) = watch::channel(None);
        let job = Job { progress: broadcast::Sender::new(PROGRESS), outcome };
        jobs.insert(dir.clone(), job.clone());
        let (builder, spec, progress) = (self.clone(), spec.clone(), job.progress.clone());
        // On its own: whoever asked first may go away, others wait for the same build.
        tokio::spawn(async move {
            let time = builder.config.build_timeout();
            let build = builder.build_new(&spec, &dir, &progress);
            let result = match tokio::time::timeout(time, build).await {
                Ok(result) => result,
                Err(_) => Err(ErrorInfo::new(
                    ErrorKind::EnvError,
                    format!("building env {} took longer than {} s", spec.key(), time.as_secs()),
                )
                .hint("raise the setting `workers.build_timeout_ms`, or install fewer packages")),
            };
            if result.is_err() {
                remove(&dir).await;
            }
            lock(&builder.jobs).remove(&dir);
            done.send_replace(Some(result.map(Arc::new)));
        });
        job
    }

    async fn build_new(
        &self,
        spec: &EnvSpec,
        dir: &Path,
        progress: &broadcast::Sender<String>,
    ) -> Result<Built, ErrorInfo> {
        remove(dir).await;
        let io = |e: std::io::Error| {
            let text = format!("building env {}: {}: {e}", spec.key(), dir.display());
            ErrorInfo::new(ErrorKind::EnvError, text)
                .hint("look at the permissions and free space there")
        };
        fs::create_dir_all(dir).map_err(io)?;
        let built = steps::build(self, spec, dir, progress).await?;
        let bytes = serde_json::to_vec_pretty(&built).unwrap_or_default();
        specs::write_atomically(&dir.join("ready.json"), &bytes).map_err(io)?;
        Ok(built)
    }

    /// Removes a build.
    pub(super) async fn discard(&self, spec: &EnvSpec) {
        if !spec.is_bare() {
            remove(&self.dir(spec)).await;
        }
    }
}

async fn settled(outcome: &mut watch::Receiver<Outcome>) -> Result<Arc<Built>, ErrorInfo> {
    match outcome.wait_for(Option::is_some).await.ok().and_then(|result| (*result).clone()) {
        Some(result) => result,
        None => Err(ErrorInfo::new(ErrorKind::EnvError, "the build was given up")
            .hint("try again; the daemon's log says more")),
    }
}

async fn remove(dir: &Path) {
    // The marker first: a removal that is cut short leaves an unfinished build.
    let _ = tokio::fs::remove_file(dir.join("ready.json")).await;
    let _ = tokio::fs::remove_dir_all(dir).await;
}

/// The error for an env whose program was removed from its place.
fn gone(spec: &EnvSpec) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::EnvError, format!("the program of env {} is not here", spec.key()))
        .hint("deploy it again from the machine that has it")
}
