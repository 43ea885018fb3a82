//! The client: connections to one daemon, requests on them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    address, autostart,
    connection::{Connection, ConnectionError},
    socket_path,
};
use bytes::Bytes;
use rhd_protocol::{
    api::Request,
    call::Reply,
    error::{ErrorInfo, ErrorKind},
};

/// Connections kept for the next request; those beyond it are closed.
const IDLE: usize = 128;

/// A cloneable handle on the daemon of one home.
#[derive(Debug, Clone)]
pub struct Client {
    home: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
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
        let client = Self { home: Arc::new(home.to_path_buf()), idle: Arc::default() };
        let connection = client.open().await?;
        client.keep(connection);
        Ok(client)
    }

    /// The daemon's state directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Sends a request with its body; the replies come as the daemon gives them.
    pub async fn request(&self, request: &Request, body: &[u8]) -> Result<Replies, ErrorInfo> {
        let mut connection = match self.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        let call = match request {
            Request::Call { call } => Some(call.id.to_string()),
            Request::Deploy { deploy } => Some(deploy.id.to_string()),
            _ => None,
        };
        // After any other failure the daemon's answer, if it gave one, says more than a broken pipe.
        if let Err(ConnectionError::Frame(source)) = connection.send(request, body).await {
            let message = format!("request is too large: {source}");
            return Err(ErrorInfo::new(ErrorKind::BadRequest, message));
        }
        Ok(Replies { client: self.clone(), connection: Some(connection), call })
    }

    async fn open(&self) -> Result<Connection, ErrorInfo> {
        let path = socket_path(&self.home);
        match address::connect(&path).await {
            Ok(stream) => {
                // The daemon hears no other user; nor shall this one talk to somebody else's daemon.
                let owner = stream.peer_cred().map(|cred| cred.uid());
                if owner.is_ok_and(|uid| uid != rustix::process::geteuid().as_raw()) {
                    return Err(not_ours(&self.home));
                }
                Ok(Connection::new(stream))
            }
            Err(source) => Err(no_connection(&self.home, &path, &source)),
        }
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that the daemon closed meanwhile must not cost a request.
        std::iter::from_fn(|| idle.pop()).find(Connection::is_idle)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }
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

/// The replies to one request; dropping them before the final one cancels it.
#[derive(Debug)]
pub struct Replies {
    client: Client,
    connection: Option<Connection>,
    call: Option<String>,
}

impl Replies {
    /// Waits for the next reply; `None` after the final one.
    pub async fn next(&mut self) -> Result<Option<(Reply, Bytes)>, ErrorInfo> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(None);
        };
        let (reply, body): (Reply, Bytes) = match connection.receive().await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(ConnectionError::Io(_)) => return Err(self.lost()),
            Err(ConnectionError::Frame(source)) => {
                return Err(ErrorInfo::new(
                    ErrorKind::VersionMismatch,
                    format!("the daemon's answer is not understood: {source}"),
                )
                .hint("client and daemon differ; restart the daemon: rhd down, rhd up --detach"));
            }
        };
        if reply.is_final() {
            self.client.keep(connection);
        } else {
            self.connection = Some(connection);
        }
        Ok(Some((reply, body)))
    }

    fn lost(&self) -> ErrorInfo {
        match &self.call {
            Some(call) => ErrorInfo::new(
                ErrorKind::PeerLost,
                "the local daemon went away during the call; it may have run and was not repeated",
            )
            .call(call)
            .hint("see why: rhd doctor"),
            None => ErrorInfo::new(
                ErrorKind::DaemonUnavailable,
                "the daemon went away before it answered",
            )
            .hint("see why: rhd doctor"),
        }
    }
}
