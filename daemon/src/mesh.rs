//! The mesh: members of one realm, and streams between them.
//!
//! ```text
//!   open, accept            announce, peers              invite, join
//!        |                        |                           |
//!      link  <----------------  roster  <-----------------  join
//!        |    dials, events       |  records                  |
//!        |                      swarm (libp2p: gossip, mDNS, relay, hole punching)
//!        |                        |                           |
//!        +------ rhd/1 ------- endpoint ---- rhd-join/1 ------+
//!                         one UDP port, tls
//! ```
//!
//! The mesh knows no room that rides on it: they register protocols by id.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rhd_protocol::{
    compute::Offer,
    id::NodeId,
    membership::{Membership, Role},
    presence::Record,
    service::ServiceAd,
    wire,
};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod addrs;
mod admission;
mod book;
mod config;
mod durable;
mod endpoint;
mod error;
mod identity;
mod join;
mod link;
mod presence;
mod roster;
mod stream;
mod swarm;
mod tls;
mod transport;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use config::{Config, Congestion};
pub use error::MeshError;
pub use roster::{PeerInfo, Route};
pub use stream::{Gone, Priority, RecvHalf, SendHalf, Stream};

use endpoint::Endpoint;
use identity::Identity;
use join::Invites;
use link::{LinkEvent, Links};
use presence::Announced;
use roster::{Msg, Parts, Roster};
use swarm::Relays;
use tls::{Credentials, Tls};

/// Link events that wait for the roster.
const LINK_EVENTS: usize = 256;
/// Records that wait to be gossiped.
const GOSSIP: usize = 64;
/// How long a stream waits for a link that is being made.
const LINK_WAIT: Duration = Duration::from_secs(3);
/// How long saying good-bye and ending tasks may take, each.
const CLOSE: Duration = Duration::from_secs(1);
/// Long enough to send the last packets; what answers them is not waited for.
const LAST_PACKETS: Duration = Duration::from_millis(200);

/// The mesh; a cloneable handle.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    identity: Mutex<Identity>,
    invites: Arc<Mutex<Invites>>,
    credentials: watch::Sender<Arc<Credentials>>,
    endpoint: Endpoint,
    addrs: watch::Receiver<Vec<SocketAddr>>,
    links: Links,
    roster: Roster,
    relays: Relays,
    /// Held while this node joins: one join at a time.
    joining: tokio::sync::Mutex<()>,
    announced: watch::Sender<Announced>,
}

/// What runs for the mesh.
#[must_use = "dropping aborts; call shutdown()"]
pub struct MeshTasks {
    mesh: Mesh,
    tracker: TaskTracker,
    stop: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mesh {
    /// Starts the mesh of the node whose state is in `home`. A fresh node founds a realm of its own,
    /// under a name made of `node_name`.
    pub async fn start(
        home: &Path,
        node_name: &str,
        config: Config,
    ) -> Result<(Self, MeshTasks), MeshError> {
        durable::create_dir(&home.join("mesh"))?;
        let identity = Identity::load(home, node_name)?;
        let invites = Invites::load(home)?;
        let me = identity.membership.cert.body.node;
        let current = Credentials::new(&identity.keypair(), identity.membership.clone())?;
        let (credentials, credentials_rx) = watch::channel(Arc::new(current));
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let tls = Tls::new(credentials_rx.clone())?;
        let (endpoint, mut arrivals) = Endpoint::bind(home, &config, tls, &tracker, &stop)?;
        let addrs = addrs::watch(endpoint.bound(), stop.clone()).await;
        let (link_events_tx, link_events) = mpsc::channel::<LinkEvent>(LINK_EVENTS);
        let links = Links::new(me, link_events_tx, stop.clone());
        let shown = links.accept(wire::PRESENCE);
        let (gossip, gossip_rx) = mpsc::channel(GOSSIP);
        let parts = Parts {
            home,
            config: config.clone(),
            key: identity.key().clone(),
            credentials: credentials_rx.clone(),
            endpoint: endpoint.clone(),
            links: links.clone(),
            link_events,
            addrs: addrs.clone(),
            gossip,
            stop: stop.clone(),
        };
        let roster = Roster::start(parts, &tracker)?;
        let swarm = swarm::Parts {
            config: &config,
            keypair: identity.keypair(),
            credentials: credentials_rx,
            endpoint: endpoint.clone(),
            arrivals: arrivals.libp2p,
            addrs: addrs.clone(),
            links: links.clone(),
            roster: roster.clone(),
            gossip: gossip_rx,
            stop: stop.clone(),
        };
        let relays = Relays::start(swarm, &tracker)?;
        let inner = Inner {
            me,
            relays,
            identity: Mutex::new(identity),
            invites: Arc::new(Mutex::new(invites)),
            credentials,
            endpoint,
            addrs,
            links: links.clone(),
            roster: roster.clone(),
            joining: tokio::sync::Mutex::default(),
            announced: watch::Sender::default(),
        };
        let mesh = Self { inner: Arc::new(inner) };
        tracker.spawn(until(stop.clone(), async move {
            while let Some(arrival) = arrivals.data.recv().await {
                links.add(arrival, false);
            }
        }));
        tracker.spawn(until(stop.clone(), listen(shown, roster)));
        tracker.spawn(until(stop.clone(), mesh.clone().answer_joins(arrivals.join)));
        let announced = mesh.inner.announced.subscribe();
        tracker.spawn(until(stop.clone(), mesh.clone().announce_changes(announced)));
        Ok((mesh.clone(), MeshTasks { mesh, tracker, stop }))
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.inner.me
    }

    /// This node's name in its realm.
    pub fn name(&self) -> String {
        self.inner.credentials.borrow().membership.cert.body.name.clone()
    }

    /// This node's place in its realm.
    pub fn membership(&self) -> Membership {
        self.inner.credentials.borrow().membership.clone()
    }

    /// Whether this node founded its realm, and so can invite.
    pub fn is_founder(&self) -> bool {
        lock(&self.inner.identity).realm_key().is_some()
    }

    /// Where this node can be reached, loopback last.
    pub fn listen_addrs(&self) -> Vec<SocketAddr> {
        self.inner.addrs.borrow().clone()
    }

    /// Takes the streams of a protocol from now on; the last caller for a protocol gets them.
    pub fn accept(&self, proto: &'static str) -> mpsc::Receiver<Stream> {
        self.inner.links.accept(proto)
    }

    /// Opens a stream to a peer, waiting a few seconds for a link if there is none yet.
    pub async fn open(
        &self,
        peer: NodeId,
        proto: &'static str,
        priority: Priority,
    ) -> Result<Stream, MeshError> {
        let (links, relays) = (&self.inner.links, &self.inner.relays);
        if links.get(peer).is_none() {
            relays.want(peer);
            let mut peers = self.peers();
            let relayed = async {
                let way = |info: &PeerInfo| info.node == peer && info.path == Route::Relayed;
                // Only the fact: holding the list would keep the roster from publishing another.
                peers.wait_for(|peers| peers.iter().any(way)).await.is_ok()
            };
            let deadline = tokio::time::sleep(LINK_WAIT);
            tokio::select! {
                _ = links.wait(peer) => {}
                true = relayed => return relays.open(peer, proto).await,
                () = deadline => return Err(MeshError::NoLink { peer }),
            }
        }
        match links.open(peer, proto, priority).await {
            Some(opened) => opened.map_err(|source| MeshError::Open { peer, source }),
            None => Err(MeshError::NoLink { peer }),
        }
    }

    /// Tells the realm what this node hosts and how many calls run or wait here.
    pub fn announce(&self, services: Vec<ServiceAd>, load: u32) {
        self.inner.announced.send_if_modified(|announced| {
            let now = Announced { services, load, offer: announced.offer.clone() };
            let changed = *announced != now;
            *announced = now;
            changed
        });
    }

    /// Tells the realm what this node has to give.
    pub fn offer(&self, offer: Offer) {
        self.inner.announced.send_if_modified(|announced| {
            let changed = announced.offer != offer;
            announced.offer = offer;
            changed
        });
    }

    /// The members that are known, other than this node, by name.
    pub fn peers(&self) -> watch::Receiver<Arc<Vec<PeerInfo>>> {
        self.inner.roster.peers()
    }

    /// Whether a peer takes payloads beside frames.
    pub fn takes_beside(&self, node: NodeId) -> bool {
        self.says(node, |record| record.beside)
    }

    /// Whether a peer keeps large parts of calls for a while.
    pub fn keeps_parts(&self, node: NodeId) -> bool {
        self.says(node, |record| record.keeps)
    }

    fn says(&self, node: NodeId, what: impl Fn(&Record) -> bool) -> bool {
        let peers = self.peers();
        let peers = peers.borrow();
        let record = peers.iter().find(|peer| peer.node == node).and_then(|p| p.record.as_ref());
        record.is_some_and(|record| what(record))
    }

    /// What a peer's certificate allows it to do; `None` for a node that is not known.
    pub fn role_of(&self, node: NodeId) -> Option<Role> {
        self.peers().borrow().iter().find(|peer| peer.node == node).map(|peer| peer.role)
    }

    async fn announce_changes(self, mut announced: watch::Receiver<Announced>) {
        while announced.changed().await.is_ok() {
            let now = announced.borrow_and_update().clone();
            self.inner.roster.tell(Msg::Announce(now)).await;
        }
    }
}

/// Takes the presence records that peers show.
async fn listen(mut shown: mpsc::Receiver<Stream>, roster: Roster) {
    while let Some(mut stream) = shown.recv().await {
        let roster = roster.clone();
        // One at a time for each stream that a peer may open; each ends within its timeouts.
        tokio::spawn(async move {
            loop {
                match presence::read(&mut stream).await {
                    Ok(Some(record)) => {
                        let from = Some(stream.peer);
                        roster.tell(Msg::Records { from, records: vec![record] }).await;
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::debug!(peer = %stream.peer.short(), %error, "presence not read");
                        return;
                    }
                }
            }
        });
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

impl MeshTasks {
    /// Says good-bye to all peers and closes, within about two seconds.
    pub async fn shutdown(self) {
        let _ = tokio::time::timeout(CLOSE, self.mesh.inner.roster.leave()).await;
        self.stop.cancel();
        self.mesh.inner.links.close_all(0, b"bye");
        if tokio::time::timeout(LAST_PACKETS, self.mesh.inner.endpoint.close()).await.is_err() {
            tracing::debug!("some peers were not told that the mesh closes");
        }
        self.tracker.close();
        if tokio::time::timeout(CLOSE, self.tracker.wait()).await.is_err() {
            tracing::warn!("tasks of the mesh did not end in time");
        }
    }
}

impl Drop for MeshTasks {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
