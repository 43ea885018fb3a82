//! The composition root: the one file that sees every room.

pub mod config;
pub mod lock;
pub mod logging;
mod machine;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    api::{Api, Listener, socket_path},
    blobs::Blobs,
    calls::{Calls, Machine, Rooms, SpoolConfig},
    data::{Data, Outside},
    folders::Folders,
    mesh::{Mesh, MeshTasks},
    naming::Naming,
    runs::Runs,
    settings,
    stores::Stores,
    tables::Tables,
    telemetry::Telemetry,
    web,
    workers::{Workers, WorkersTasks},
};

/// How often code that nothing needs is removed.
const PRUNE_EVERY: Duration = Duration::from_secs(600);

/// How long the last replies of calls that were ended may take to reach their callers.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// How to run a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its state directory.
    pub home: PathBuf,
    /// Settings from the command line, as `section.key=value`.
    pub set: Vec<String>,
}

/// Runs a node until SIGTERM, SIGINT or a client's request, and returns the calls that had to be
/// aborted. `ready` is called once the socket answers.
pub async fn run(options: Options, ready: impl FnOnce(&Path)) -> Result<Vec<String>, ErrorInfo> {
    let started = Instant::now();
    let home = prepare_home(&options.home)?;
    let _lock = lock::Lock::take(&home)?;
    let settings = settings::load(&home, &options.set, settings::environment()).map_err(|e| {
        ErrorInfo::new(ErrorKind::BadRequest, e.to_string())
            .hint("correct it, or take it out to use the default")
    })?;
    let _log = logging::start(&home, &settings.log).map_err(failed("open the log"))?;
    let name = settings.node.name.clone().unwrap_or_else(host_name);
    let user = settings.node.user.clone().unwrap_or_else(user_name);
    let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
    watch_signals(&stop, &hurry).map_err(failed("watch for signals"))?;

    let (mesh, mesh_tasks) =
        Mesh::start(&home, &name, settings.mesh).await.map_err(failed("start the mesh"))?;
    let (workers, worker_tasks) = Workers::start(&home, &mesh.name(), settings.workers)
        .await
        .map_err(failed("start the workers' room"))?;
    let telemetry = Telemetry::start(&mesh.name());
    let blobs = Blobs::open(&home, settings.blobs).map_err(failed("open the blobs"))?;
    let naming = Naming::open(&home, mesh.clone(), &user).map_err(failed("open the registry"))?;
    let closing = CancellationToken::new();
    let tasks = TaskTracker::new();
    let named = mesh.clone();
    let runs = Runs::open(&home, mesh.me(), move || named.name(), settings.runs, closing.clone())
        .map_err(failed("open the runs"))?;
    runs.tend();
    let stores = Stores::default();
    let folders = Folders::open(&home, mesh.clone(), naming.clone(), stores.clone())?;
    folders.serve(&tasks, &closing);
    let tables = Tables::new(mesh.clone(), naming.clone(), folders.clone(), stores.clone());
    tables.serve(&tasks, &closing);
    let outside = Outside { folders: folders.clone(), tables: tables.clone(), stores };
    let data = Data::open(&home, mesh.clone(), naming.clone(), settings.data, outside).await?;
    data.serve(&tasks, &closing);
    let rooms = Rooms {
        naming: naming.clone(),
        workers: workers.clone(),
        mesh: mesh.clone(),
        blobs: blobs.clone(),
        runs: runs.clone(),
        folders: folders.clone(),
        telemetry: telemetry.clone(),
    };
    let machine = Machine {
        offer: machine::offer(&settings.node.resources, &settings.node.labels),
        spool: SpoolConfig { dir: home.join("tmp"), max_payload: settings.node.max_payload },
    };
    let calls = Calls::new(rooms, machine, closing.clone(), tasks.clone());
    calls.serve();
    announce(&mesh, &naming, &workers);
    prune(&naming, &blobs);
    let requests = TaskTracker::new();
    let closed = CancellationToken::new();
    let rooms = web::Rooms {
        calls: calls.clone(),
        naming: naming.clone(),
        mesh: mesh.clone(),
        workers: workers.clone(),
        telemetry: telemetry.clone(),
        started,
        requests: requests.clone(),
        closing: closing.clone(),
        closed: closed.clone(),
    };
    let web = start_web(&home, settings.web, rooms).await?;
    let api = Arc::new(Api {
        calls,
        data: data.clone(),
        folders,
        mesh: mesh.clone(),
        naming,
        tables,
        workers,
        home: home.to_string_lossy().into_owned(),
        web,
        started,
        stop: stop.clone(),
        requests: requests.clone(),
    });
    let socket = socket_path(&home);
    let listener = Listener::bind(&socket).map_err(failed("open the socket"))?;
    let serving = tokio::spawn(api.serve(listener, closed.clone()));
    tracing::info!(name = mesh.name(), id = %mesh.me(), ms = started.elapsed().as_millis() as u64, "ready");
    ready(&socket);

    stop.cancelled().await;
    let node = Draining { closing, closed, tasks, requests, worker_tasks, mesh_tasks };
    let aborted = node.drain(Duration::from_secs(settings.node.grace), hurry).await;
    let _ = serving.await;
    runs.close().await;
    data.close().await;
    telemetry.shutdown().await;
    let _ = std::fs::remove_file(&socket);
    tracing::info!(aborted = aborted.len(), "stopped");
    Ok(aborted)
}

/// Answers HTTP, if it shall be; at which URL. A node without a free port or loopback does without.
async fn start_web(
    home: &Path,
    config: web::Config,
    rooms: web::Rooms,
) -> Result<Option<String>, ErrorInfo> {
    if !config.enabled {
        return Ok(None);
    }
    match web::start(home, config.clone(), rooms).await {
        Ok(addresses) => Ok(web::url(&addresses)),
        Err(error) if error.is_bearable(&config) => {
            tracing::warn!(%error, "HTTP is not answered");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is left to end, in the order in which it ends.
#[must_use = "dropping aborts; call drain()"]
struct Draining {
    closing: CancellationToken,
    closed: CancellationToken,
    tasks: TaskTracker,
    requests: TaskTracker,
    worker_tasks: WorkersTasks,
    mesh_tasks: MeshTasks,
}

impl Draining {
    /// Takes nothing new, waits for what runs unless there is a `hurry`, then ends it; returns what
    /// had to be aborted.
    async fn drain(self, grace: Duration, hurry: CancellationToken) -> Vec<String> {
        tracing::info!(grace = grace.as_secs(), "draining");
        self.closing.cancel();
        self.tasks.close();
        self.requests.close();
        // Workers end first: their calls' last replies still pass through the tasks below.
        let quiet = async {
            self.tasks.wait().await;
            self.requests.wait().await;
        };
        let (mut aborted, waited) = tokio::join!(
            self.worker_tasks.shutdown(grace, &hurry),
            tokio::time::timeout(grace + LAST_REPLIES, async {
                tokio::select! {
                    () = quiet => true,
                    () = async {
                        hurry.cancelled().await;
                        tokio::time::sleep(LAST_REPLIES).await;
                    } => false,
                }
            })
        );
        if !matches!(waited, Ok(true)) {
            let count = self.tasks.len() + self.requests.len();
            if aborted.is_empty() {
                aborted.push(format!("{count} requests that wait for other nodes"));
            }
        }
        for call in &aborted {
            tracing::warn!(call, "aborted at shutdown");
        }
        self.mesh_tasks.shutdown().await;
        self.closed.cancel();
        aborted
    }
}

/// Tells peers what is hosted here as it changes, and how loaded the node is, at most once a second.
fn announce(mesh: &Mesh, naming: &Naming, workers: &Workers) {
    let mesh = mesh.clone();
    let (mut ads, mut load) = (naming.registry().watch(), workers.load());
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            mesh.announce(ads.borrow_and_update().clone(), *load.borrow_and_update());
            tokio::select! {
                changed = ads.changed() => if changed.is_err() { return },
                changed = async {
                    tick.tick().await;
                    load.changed().await
                } => if changed.is_err() { return },
            }
        }
    });
}

/// Removes versions of code that nothing needs any more, now and then.
fn prune(naming: &Naming, blobs: &Blobs) {
    let (naming, blobs) = (naming.clone(), blobs.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PRUNE_EVERY).await;
            match blobs.prune(naming.registry().folders_in_use()).await {
                Ok(pruned) => tracing::debug!(?pruned, "pruned code"),
                Err(error) => tracing::warn!(%error, "code could not be pruned"),
            }
        }
    });
}

fn prepare_home(home: &Path) -> Result<PathBuf, ErrorInfo> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let make = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home)?;
        let mode = std::fs::metadata(home)?.permissions().mode();
        if mode & 0o077 != 0 {
            // Whatever made it before us: the keys in it are nobody else's to read.
            std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700))?;
        }
        home.canonicalize()
    };
    make().map_err(|e| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("home {} can't be used: {e}", home.display()))
            .hint("choose another with --home DIR or RHD_HOME")
    })
}

/// The first signal asks the node to stop, a second one to stop waiting for what runs.
fn watch_signals(stop: &CancellationToken, hurry: &CancellationToken) -> std::io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop, hurry) = (signal(kind)?, stop.clone(), hurry.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if stop.is_cancelled() {
                    hurry.cancel();
                }
                stop.cancel();
            }
        });
    }
    Ok(())
}

fn failed<E: std::error::Error>(what: &'static str) -> impl FnOnce(E) -> ErrorInfo {
    move |error| {
        let mut text = format!("{what}: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        ErrorInfo::new(ErrorKind::Internal, text).hint("`rhd doctor` says what is amiss")
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    let short = name.split('.').next().unwrap_or_default();
    let plain: String = short
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(rhd_protocol::membership::MAX_NODE_NAME)
        .collect();
    if rhd_protocol::membership::is_node_name(&plain) { plain } else { "node".into() }
}

fn user_name() -> String {
    let plain = |name: String| {
        name.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect::<String>()
    };
    ["USER", "LOGNAME"]
        .iter()
        .filter_map(|var| std::env::var(var).ok())
        .map(plain)
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| {
            let uid = rustix::process::geteuid();
            if uid.is_root() { "root".into() } else { format!("u{}", uid.as_raw()) }
        })
}
