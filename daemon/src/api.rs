//! The Unix socket: requests of clients on this machine, of this user.

mod connection;
mod many;
mod socket;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rhd_protocol::{
    api::{Invited, PathKind, Peer, Request, Status},
    error::{ErrorInfo, ErrorKind},
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use socket::{Listener, SocketError, connect_path};

use crate::{
    calls::{Answer, Calls, Replies},
    data::Data,
    folders::Folders,
    framed::Body,
    mesh::{self, Mesh},
    naming::Naming,
    tables::Tables,
    telemetry::process,
    workers::Workers,
};

/// Connections that clients may have open; further ones wait to be accepted.
const CONNECTIONS: usize = 4096;

/// How long a join waits for the first link in its new realm.
const FIRST_LINK: Duration = Duration::from_secs(5);

/// What the socket serves: handles to the rooms, and the node's own facts.
pub struct Api {
    /// Calls, deployments and questions.
    pub calls: Calls,
    /// Data that is stored and moved.
    pub data: Data,
    /// Folders that move.
    pub folders: Folders,
    /// Peers and tickets.
    pub mesh: Mesh,
    /// Names.
    pub naming: Naming,
    /// Tables that are read and written.
    pub tables: Tables,
    /// Envs.
    pub workers: Workers,
    /// The node's home, as the user gave it.
    pub home: String,
    /// The URL of its HTTP endpoint, where it has one.
    pub web: Option<String>,
    /// When the node started.
    pub started: Instant,
    /// Set to end the node.
    pub stop: CancellationToken,
    /// Requests under way; the node waits for them when it drains.
    pub requests: TaskTracker,
}

impl Api {
    /// Accepts clients until `closed`.
    pub async fn serve(self: Arc<Self>, listener: Listener, closed: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                () = closed.cancelled() => return,
            };
            let (api, closed) = (self.clone(), closed.clone());
            tokio::spawn(async move {
                tokio::select! {
                    served = connection::serve(&api, stream) => if let Err(error) = served {
                        tracing::debug!(%error, "client connection ended");
                    },
                    () = closed.cancelled() => {}
                }
                drop(place);
            });
        }
    }

    /// Starts on a request; whatever goes wrong is its final reply.
    fn handle(self: &Arc<Self>, request: Request, body: Body) -> Replies {
        match request {
            Request::Call { call } => self.calls.call(call, body),
            Request::Deploy { deploy } => match body {
                Body::Inline(body) => self.calls.deploy(deploy, body),
                Body::Beside(_) => Replies::failed(
                    ErrorInfo::new(ErrorKind::BadRequest, "a deployment comes in its frame")
                        .hint("ship less by value: put large data into arguments"),
                ),
            },
            Request::Services { .. }
            | Request::Describe { .. }
            | Request::Remove { .. }
            | Request::Envs { .. }
            | Request::EnvBuild { .. }
            | Request::EnvRemove { .. } => self.calls.ask(request),
            Request::Runs { .. } | Request::Run { .. } => self.calls.ask_runs(request),
            Request::Data { node, ask, .. } => {
                let data = self.data.clone();
                Replies::from_writer(move |out| async move {
                    data.request(node.as_deref(), ask, body, &out).await
                })
            }
            Request::Folder { node, ask, .. } => {
                let folders = self.folders.clone();
                Replies::from_writer(move |out| async move {
                    folders.request(node.as_deref(), ask, &out).await
                })
            }
            Request::Table { node, ask, .. } => {
                let tables = self.tables.clone();
                Replies::from_writer(move |out| async move {
                    tables.request(node.as_deref(), ask, &out).await
                })
            }
            own => {
                let api = self.clone();
                Replies::from_task(move |_| async move { api.answer(own).await })
            }
        }
    }

    /// Answers what concerns the node itself.
    async fn answer(&self, request: Request) -> Result<Answer, ErrorInfo> {
        match request {
            Request::Status { .. } => Answer::of(&self.status()),
            Request::Peers { .. } => Answer::of(&self.peers()),
            Request::Invite { role, uses, expires, .. } => {
                let expires = Duration::from_secs(expires);
                let ticket = self.mesh.invite(role, uses, expires).await?.to_string();
                Answer::of(&Invited { ticket })
            }
            Request::Join { ticket, name, .. } => {
                self.mesh.join(&ticket, name).await?;
                // So that the next command finds the realm's nodes; a join without a link yet is
                // still a join.
                let mut peers = self.mesh.peers();
                let linked = |peers: &Arc<Vec<mesh::PeerInfo>>| {
                    peers.iter().any(|p| p.path == mesh::Route::Direct && p.record.is_some())
                };
                let _ = tokio::time::timeout(FIRST_LINK, async {
                    peers.wait_for(linked).await.is_ok()
                })
                .await;
                Answer::of(&self.status())
            }
            Request::Many { .. } => Answer::of(&()),
            Request::Python { .. } => Answer::of(&self.workers.python_path().await?),
            Request::Shutdown { .. } => {
                self.stop.cancel();
                Answer::of(&())
            }
            _ => Err(ErrorInfo::new(ErrorKind::Internal, "request went to the wrong room")),
        }
    }

    fn status(&self) -> Status {
        let membership = self.mesh.membership();
        let linked = |p: &&mesh::PeerInfo| p.path != mesh::Route::None;
        Status {
            name: self.mesh.name(),
            id: self.mesh.me().to_string(),
            realm: membership.realm().to_string(),
            role: membership.cert.body.role,
            founder: self.mesh.is_founder(),
            user: self.naming.user().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: rhd_protocol::VERSION,
            pid: std::process::id(),
            home: self.home.clone(),
            listen: self.mesh.listen_addrs().iter().map(ToString::to_string).collect(),
            uptime: self.started.elapsed().as_secs(),
            peers: self.mesh.peers().borrow().iter().filter(linked).count() as u32,
            calls: self.calls.load(),
            rss: process::resident(),
            beside: true,
            web: self.web.clone(),
            workers: self.workers.envs().iter().filter(|e| e.running).count() as u32,
        }
    }

    fn peers(&self) -> Vec<Peer> {
        let me = Peer {
            name: self.mesh.name(),
            id: self.mesh.me().to_string(),
            role: self.mesh.membership().cert.body.role,
            path: PathKind::Here,
            rtt_us: None,
            addr: self.mesh.listen_addrs().first().map(ToString::to_string),
            version: env!("CARGO_PKG_VERSION").into(),
            load: self.calls.load(),
            services: self.naming.registry().ads().len() as u32,
            offer: self.calls.offer(),
            gone: false,
        };
        let mut peers = vec![me];
        peers.extend(self.mesh.peers().borrow().iter().map(|p| Peer {
            name: p.name.clone(),
            id: p.node.to_string(),
            role: p.role,
            path: match p.path {
                mesh::Route::Direct => PathKind::Direct,
                mesh::Route::Relayed => PathKind::Relayed,
                mesh::Route::None => PathKind::None,
            },
            rtt_us: p.rtt.map(|rtt| rtt.as_micros() as u64),
            addr: p.addr.as_ref().map(ToString::to_string),
            version: p.record.as_ref().map(|r| r.version.clone()).unwrap_or_default(),
            load: p.record.as_ref().map_or(0, |r| r.load),
            services: p.record.as_ref().map_or(0, |r| r.services.len() as u32),
            offer: p.record.as_ref().map(|r| r.offer.clone()).unwrap_or_default(),
            gone: p.record.is_none() && p.path == mesh::Route::None,
        }));
        peers[1..].sort_by(|a, b| a.name.cmp(&b.name));
        peers
    }
}

/// The socket of the node whose home is `home`.
pub fn socket_path(home: &Path) -> std::path::PathBuf {
    home.join("rhd.sock")
}
