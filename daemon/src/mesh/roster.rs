//! The roster: every member this node knows, what it says of itself, and how it is reached.
//!
//! ```text
//!             learned: ticket, presence, mDNS, book
//!                              |
//!                              v        dial failed
//!            +------------> waiting <----------------+
//!  link down |                 | time, or new address |
//!            |                 v                      |
//!          linked <-------- dialing -----------------+
//! ```
//!
//! One task owns all of it; [`Roster`] is its handle.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    id::NodeId,
    membership::{Cert, Role},
    presence::{Record, Signed},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::Config,
    endpoint::Endpoint,
    error::MeshError,
    link::{LinkEvent, Links},
    presence::Announced,
    tls::Credentials,
};

mod actor;
mod peer;

/// Messages that wait for the roster.
const MESSAGES: usize = 256;

/// How a peer is reached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// By a connection of our own.
    Direct,
    /// Through another peer.
    Relayed,
    /// Not at all.
    None,
}

/// A member other than this node.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Who.
    pub node: NodeId,
    /// Its name in the realm.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// What it says of itself; none when it has not been heard of lately.
    pub record: Option<Arc<Record>>,
    /// How it is reached.
    pub path: Route,
    /// Round trip on the direct link.
    pub rtt: Option<Duration>,
    /// Where the direct link leads.
    pub addr: Option<SocketAddr>,
    /// Whether it hears the realm's gossip from here.
    pub gossips: bool,
}

/// What the roster hears.
pub(super) enum Msg {
    /// Somebody may be at these addresses; with a certificate, it is a member.
    Learned { node: NodeId, cert: Option<Cert>, addrs: Vec<SocketAddr> },
    /// A peer showed these, on a link, or by gossip from `None`.
    Records { from: Option<NodeId>, records: Vec<Signed> },
    /// What this node hosts and has to give.
    Announce(Announced),
    /// A dial ended.
    Dialed { node: NodeId, failed: bool },
    /// A peer is, or is no longer, reached through another.
    Relayed { node: NodeId, relayed: bool },
    /// A peer listens to the realm's gossip, or no longer.
    Subscribed { node: NodeId, subscribed: bool },
    /// An address at which others saw this node.
    Observed { addr: SocketAddr },
    /// This node has joined another realm.
    Rejoined,
    /// Say good-bye.
    Leave { done: oneshot::Sender<()> },
}

/// What the roster is made of.
pub(super) struct Parts<'a> {
    pub(super) home: &'a Path,
    pub(super) config: Config,
    pub(super) key: SigningKey,
    pub(super) credentials: watch::Receiver<Arc<Credentials>>,
    pub(super) endpoint: Endpoint,
    pub(super) links: Links,
    pub(super) link_events: mpsc::Receiver<LinkEvent>,
    pub(super) addrs: watch::Receiver<Vec<SocketAddr>>,
    /// Signed records for the realm's gossip.
    pub(super) gossip: mpsc::Sender<Signed>,
    pub(super) stop: CancellationToken,
}

/// The handle.
#[derive(Clone)]
pub(super) struct Roster {
    tx: mpsc::Sender<Msg>,
    peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
}

impl Roster {
    /// Loads what is known and starts to link it.
    pub(super) fn start(parts: Parts<'_>, tracker: &TaskTracker) -> Result<Self, MeshError> {
        let (tx, rx) = mpsc::channel(MESSAGES);
        let (peers_tx, peers) = watch::channel(Arc::default());
        let actor = actor::Actor::new(parts, tx.clone(), peers_tx)?;
        tracker.spawn(actor.run(rx));
        Ok(Self { tx, peers })
    }

    /// All members that are known.
    pub(super) fn peers(&self) -> watch::Receiver<Arc<Vec<PeerInfo>>> {
        self.peers.clone()
    }

    /// Tells the roster, waiting while it is busy.
    pub(super) async fn tell(&self, msg: Msg) {
        // Fails only when the mesh has ended.
        let _ = self.tx.send(msg).await;
    }

    /// Says good-bye to all peers.
    pub(super) async fn leave(&self) {
        let (done, left) = oneshot::channel();
        self.tell(Msg::Leave { done }).await;
        let _ = left.await;
    }
}
