//! The client: connections to one daemon, requests on them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use crate::{
    Replies, address, autostart,
    connection::{Connection, ConnectionError},
    many::Many,
    socket_path,
};
use rhd_protocol::{
    VERSION,
    api::Request,
    call::{Call, Reply},
    error::{ErrorInfo, ErrorKind},
    frame::{self, FrameError},
    id::CallId,
    many::SMALL,
};

/// Connections kept for the next request; those beyond it are closed.
const IDLE: usize = 128;

/// A cloneable handle on the daemon of one home.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    home: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Calls under way on connections of their own.
    alone: Arc<AtomicUsize>,
    /// Carries the other calls.
    many: Mutex<Option<Arc<Many>>>,
    /// Held while that is made.
    opening: tokio::sync::Mutex<()>,
    /// Set when the daemon turns out to be too old for that.
    one_each: AtomicBool,
}

impl Client {
    /// Connects to the daemon of `home`, and starts one when none runs, unless `RHD_AUTOSTART=0`.
    pub async fn connect(home: &Path) -> Result<Self, ErrorInfo> {
        match Self::attach(home).await {
            Err(e) if e.kind == ErrorKind::DaemonUnavailable && autostart::wanted() => {
                autostart::start(home).await?;
                Self::attach(home).await
            }
            other => other,
        }
    }

    /// Connects to the daemon of `home`; never starts one.
    pub async fn attach(home: &Path) -> Result<Self, ErrorInfo> {
        let inner = Inner {
            home: home.to_path_buf(),
            idle: Mutex::default(),
            alone: Arc::default(),
            many: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            one_each: AtomicBool::new(false),
        };
        let client = Self { inner: Arc::new(inner) };
        let connection = client.open().await?;
        client.keep(connection);
        Ok(client)
    }

    /// The daemon's state directory.
    pub fn home(&self) -> &Path {
        &self.inner.home
    }

    /// Sends a request with its body; the replies come as the daemon gives them.
    pub async fn request(&self, request: &Request, body: &[u8]) -> Result<Replies, ErrorInfo> {
        let call = match request {
            Request::Call { call } => Some(call.id),
            Request::Deploy { deploy } => Some(deploy.id),
            _ => None,
        };
        if let Some(mut connection) = self.take() {
            match connection.send(request, body).await {
                Ok(()) => return Ok(Replies::own(self.clone(), connection, call)),
                Err(ConnectionError::Frame(source)) => return Err(too_large(&source)),
                // It was of a daemon that is gone: nothing was sent whole, so nothing ran.
                Err(ConnectionError::Io(_)) => lock(&self.inner.idle).clear(),
            }
        }
        let mut connection = self.open().await?;
        // After any other failure the daemon's answer, if it gave one, says more than a broken pipe.
        if let Err(ConnectionError::Frame(source)) = connection.send(request, body).await {
            return Err(too_large(&source));
        }
        Ok(Replies::own(self.clone(), connection, call))
    }

    /// Sends a call: while others are under way, on a connection that they share.
    pub(crate) async fn send_call(&self, call: Call, body: &[u8]) -> Result<Replies, ErrorInfo> {
        let alone = Alone::new(&self.inner.alone);
        let id = call.id;
        let request = Request::Call { call };
        if alone.is_first || body.len() > SMALL || self.inner.one_each.load(Ordering::Relaxed) {
            return Ok(self.request(&request, body).await?.counted(alone));
        }
        if let Some(many) = self.many().await? {
            let head = frame::encode(&request, body.len()).map_err(|e| too_large(&e))?;
            if many.begin(id, &head, body) {
                return Ok(Replies::shared(self.clone(), many, id));
            }
        }
        Ok(self.request(&request, body).await?.counted(alone))
    }

    /// Sends the frame of a call that was not sent before, on a connection of its own.
    pub(crate) async fn resend(&self, id: CallId, frame: &[u8]) -> Result<Replies, ErrorInfo> {
        let mut connection = self.open().await?;
        // If that fails, the answer says why.
        let _ = connection.send_bytes(frame).await;
        Ok(Replies::own(self.clone(), connection, Some(id)))
    }

    /// The connection for many calls; none where the daemon knows no such thing.
    async fn many(&self) -> Result<Option<Arc<Many>>, ErrorInfo> {
        if let Some(many) = self.shared() {
            return Ok(Some(many));
        }
        let _opening = self.inner.opening.lock().await;
        if let Some(many) = self.shared() {
            return Ok(Some(many));
        }
        if self.inner.one_each.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut connection = self.open().await?;
        let switched = async {
            connection.send(&Request::Many { v: VERSION }, &[]).await?;
            connection.receive::<Reply>().await
        };
        match switched.await {
            Ok(Some((Reply::Done { .. }, _))) => {
                let many = Arc::new(Many::start(connection));
                *lock(&self.inner.many) = Some(many.clone());
                Ok(Some(many))
            }
            Ok(Some((Reply::Fail { .. }, _))) => {
                self.inner.one_each.store(true, Ordering::Relaxed);
                self.keep(connection);
                Ok(None)
            }
            // The call's own connection finds out what is wrong.
            _ => Ok(None),
        }
    }

    fn shared(&self) -> Option<Arc<Many>> {
        lock(&self.inner.many).clone().filter(|many| many.is_alive())
    }

    async fn open(&self) -> Result<Connection, ErrorInfo> {
        let path = socket_path(&self.inner.home);
        match address::connect(&path).await {
            Ok(stream) => {
                // The daemon hears no other user; nor shall this one talk to somebody else's daemon.
                let owner = stream.peer_cred().map(|cred| cred.uid());
                if owner.is_ok_and(|uid| uid != rustix::process::geteuid().as_raw()) {
                    return Err(not_ours(&self.inner.home));
                }
                Ok(Connection::new(stream))
            }
            Err(source) => Err(no_connection(&self.inner.home, &path, &source)),
        }
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = lock(&self.inner.idle);
        // A connection that the daemon closed meanwhile must not cost a request.
        std::iter::from_fn(|| idle.pop()).find(Connection::is_idle)
    }

    pub(crate) fn keep(&self, connection: Connection) {
        let mut idle = lock(&self.inner.idle);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a call that has a connection of its own.
#[derive(Debug)]
pub(crate) struct Alone {
    calls: Arc<AtomicUsize>,
    /// Whether no other call had.
    is_first: bool,
}

impl Alone {
    fn new(calls: &Arc<AtomicUsize>) -> Self {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        Self { calls: calls.clone(), is_first }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

fn too_large(source: &FrameError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, format!("request is too large: {source}"))
}

fn not_ours(home: &Path) -> ErrorInfo {
    let message = format!("the daemon of {} belongs to another user", home.display());
    ErrorInfo::new(ErrorKind::PermissionDenied, message)
        .hint("use a home of your own: rhd --home DIR up --detach")
}

fn no_connection(home: &Path, path: &Path, source: &io::Error) -> ErrorInfo {
    let start = format!("start one: rhd --home {} up --detach", home.display());
    let message = match source.kind() {
        io::ErrorKind::PermissionDenied => return not_ours(home),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            format!("no daemon runs in {}", home.display())
        }
        _ => format!("can't connect to {}: {source}", path.display()),
    };
    ErrorInfo::new(ErrorKind::DaemonUnavailable, message).hint(start)
}
