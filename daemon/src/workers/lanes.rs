//! The socket that workers connect to.
//!
//! Only this user's processes get through, only with the secret of a worker that was started here,
//! and only within a bounded time; everybody else is closed without an answer.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use rhd_protocol::worker::{Hello, Lane};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Notify, Semaphore},
};

use super::{control, env::Env, lock, process::Process};
use crate::framed::Conn;

/// Connections that have not said who they are; further ones wait in the socket's backlog.
const STRANGERS: usize = 64;
/// How long one may take to say it.
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// Longest path that fits into a socket address on every system.
const MAX_PATH: usize = 103;

/// The workers that may connect, by id.
#[derive(Debug, Default)]
pub(super) struct Registry {
    workers: Mutex<HashMap<String, Expected>>,
    /// Those that are being started: a compiled one connects before it is known that it runs.
    starting: Mutex<HashSet<String>>,
    changed: Notify,
}

/// Neither is kept alive by being expected.
type Expected = (Weak<Env>, Weak<Process>);

impl Registry {
    /// Has the connections of a worker wait until it is [inserted](Self::insert) or withdrawn.
    pub(super) fn announce(&self, worker: &str) {
        lock(&self.starting).insert(worker.to_owned());
    }

    /// It will not be inserted, or is.
    pub(super) fn withdraw(&self, worker: &str) {
        lock(&self.starting).remove(worker);
        self.changed.notify_waiters();
    }

    /// Expects connections of a worker.
    pub(super) fn insert(&self, env: &Arc<Env>, process: &Arc<Process>) {
        let entry = (Arc::downgrade(env), Arc::downgrade(process));
        lock(&self.workers).insert(process.worker.clone(), entry);
        self.withdraw(&process.worker);
    }

    /// Expects none any more.
    pub(super) fn remove(&self, process: &Process) {
        lock(&self.workers).remove(&process.worker);
    }

    /// Whose connection it is, once that is known.
    async fn wait(&self, hello: &Hello) -> Option<(Arc<Env>, Arc<Process>)> {
        loop {
            let changed = self.changed.notified();
            // Looked at first: whoever is not starting any more has been inserted already.
            let starting = lock(&self.starting).contains(&hello.worker);
            if let Some(known) = self.get(hello) {
                return Some(known);
            }
            if !starting {
                return None;
            }
            changed.await;
        }
    }

    fn get(&self, hello: &Hello) -> Option<(Arc<Env>, Arc<Process>)> {
        let (env, process) = {
            let workers = lock(&self.workers);
            let (env, process) = workers.get(&hello.worker)?;
            (env.upgrade()?, process.upgrade()?)
        };
        // Compared as hashes: the time it takes says nothing about the token.
        let same = blake3::hash(hello.token.as_bytes()) == blake3::hash(process.token.as_bytes());
        same.then_some((env, process))
    }
}

/// The bound socket.
#[derive(Debug)]
pub(super) struct Lanes {
    listener: UnixListener,
    /// What workers connect to: the path itself, or a short way to it.
    pub(super) address: PathBuf,
    /// Keeps the short way open.
    _dir: Option<OwnedFd>,
}

impl Lanes {
    /// Binds `dir/workers.sock`, in place of whatever a daemon before left there.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let path = dir.join("workers.sock");
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (address, held) = reachable(dir, &path)?;
        let listener = UnixListener::bind(&address)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, address, _dir: held })
    }

    /// Accepts connections for good.
    pub(super) async fn accept(self, registry: Arc<Registry>, max_body: usize) {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let uid = rustix::process::getuid().as_raw();
        loop {
            let Ok(permit) = strangers.clone().acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of descriptors, most likely: others have to close some first.
                    tracing::warn!("accept on the worker socket: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if stream.peer_cred().map(|peer| peer.uid()).ok() != Some(uid) {
                tracing::warn!("another user's process connected to the worker socket");
                continue;
            }
            let registry = registry.clone();
            tokio::spawn(async move {
                let known = tokio::time::timeout(HELLO_WAIT, greet(stream, &registry, max_body));
                if !matches!(known.await, Ok(Some(()))) {
                    tracing::debug!("refused a connection on the worker socket");
                }
                drop(permit);
            });
        }
    }
}

async fn greet(stream: UnixStream, registry: &Registry, max_body: usize) -> Option<()> {
    let mut conn = Conn::new(stream);
    let hello: Hello = conn.read(0).await.ok()??.header().ok()?;
    if hello.v != rhd_protocol::VERSION {
        tracing::warn!(v = hello.v, "a worker of another protocol version connected");
        return None;
    }
    let (env, process) = registry.wait(&hello).await?;
    process.greeted(&hello);
    match hello.lane {
        Lane::Call => env.add_lane(&process, conn),
        Lane::Control => {
            if !control::attach(process.clone(), conn, max_body) {
                tracing::warn!(env = %process.env, "a worker opened a second control lane");
            }
        }
        Lane::Shared => {
            if !control::attach_shared(process.clone(), conn, max_body) {
                tracing::warn!(env = %process.env, "a worker opened a second shared lane");
                return Some(());
            }
            env.shared_lane(&process);
        }
    }
    Some(())
}

/// A path to the socket that fits into an address.
fn reachable(dir: &Path, path: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((path.to_owned(), None));
    }
    if cfg!(target_os = "linux") {
        use std::os::fd::AsRawFd;
        let held = OwnedFd::from(std::fs::File::open(dir)?);
        // Not /proc/self: the worker has to find it, too.
        let short = format!("/proc/{}/fd/{}", std::process::id(), held.as_raw_fd());
        return Ok((Path::new(&short).join("workers.sock"), Some(held)));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "the path of the home is too long for a socket",
    ))
}
