//! The control plane: a libp2p swarm on the node's own endpoint.
//!
//! It gossips presence, finds peers on the local network and through others, relays, and punches
//! holes. What it finds goes to the roster, which makes data links of it; whom the roster can't link,
//! the swarm reaches through a peer that both know.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identity::Keypair, multiaddr::Protocol, noise, yamux,
};
use rhd_protocol::{id::NodeId, membership::Cert, presence::Signed, wire::Open};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::Config,
    endpoint::{Arrival, Endpoint},
    error::MeshError,
    identity,
    link::Links,
    roster::Roster,
    stream::{FIRST_TIMEOUT, Stream, read_first, write_first},
    tls::Credentials,
    transport::Shared,
};

mod actor;
mod behaviour;
mod closed;
mod streams;

/// The protocol of data streams where no direct path exists.
const RELAYED: libp2p::StreamProtocol = libp2p::StreamProtocol::new("/rhd/relayed/1");
/// Relayed streams whose protocol is not known yet; beyond this they are dropped.
const OPENING: usize = 128;
/// Requests that wait for the swarm.
const REQUESTS: usize = 64;

/// What the swarm is made of.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) keypair: Keypair,
    pub(super) credentials: watch::Receiver<Arc<Credentials>>,
    pub(super) endpoint: Endpoint,
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    pub(super) addrs: watch::Receiver<Vec<SocketAddr>>,
    pub(super) links: Links,
    pub(super) roster: Roster,
    /// Signed records to gossip.
    pub(super) gossip: mpsc::Receiver<Signed>,
    pub(super) stop: CancellationToken,
}

/// The handle.
#[derive(Clone)]
pub(super) struct Relays {
    control: streams::Control,
    credentials: watch::Receiver<Arc<Credentials>>,
    /// Peers that somebody wants to reach now.
    wanted: mpsc::Sender<NodeId>,
}

impl Relays {
    /// Starts the swarm.
    pub(super) fn start(parts: Parts<'_>, tracker: &TaskTracker) -> Result<Self, MeshError> {
        let failed = |error: &dyn std::fmt::Display| MeshError::Swarm(error.to_string());
        let Parts { endpoint, arrivals, addrs, .. } = parts;
        let transport = Shared::new(endpoint, arrivals, addrs.clone());
        let members = closed::Members::new(parts.roster.peers());
        let (streams, accepted) = streams::Streams::new(RELAYED);
        let control = streams.control();
        let mut swarm = SwarmBuilder::with_existing_identity(parts.keypair)
            .with_tokio()
            .with_other_transport(|_| transport)
            .map_err(|error| failed(&error))?
            .with_relay_client(noise::Config::new, yamux::Config::default)
            .map_err(|error| failed(&error))?
            .with_behaviour(|keypair, relay| {
                behaviour::Behaviour::new(keypair, relay, parts.config, members, streams)
            })
            .map_err(|error| failed(&error))?
            // Control connections stay as long as their peers do.
            .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        let any = Multiaddr::from(std::net::Ipv4Addr::UNSPECIFIED);
        let any = any.with(Protocol::Udp(0)).with(Protocol::QuicV1);
        swarm.listen_on(any).map_err(|error| failed(&error))?;
        let (wanted, wanted_rx) = mpsc::channel(REQUESTS);
        let handle = Self { control, credentials: parts.credentials.clone(), wanted };
        tracker.spawn(accept(accepted, parts.links, parts.credentials.clone(), parts.stop.clone()));
        let actor = actor::Actor::new(actor::Inputs {
            swarm,
            roster: parts.roster,
            credentials: parts.credentials,
            gossip: parts.gossip,
            wanted: wanted_rx,
            stop: parts.stop,
        });
        tracker.spawn(actor.run());
        Ok(handle)
    }

    /// Asks for a way to `peer` through others; it shows up in the roster once there is one.
    pub(super) fn want(&self, peer: NodeId) {
        // When the queue is full, the swarm is busy finding ways already.
        let _ = self.wanted.try_send(peer);
    }

    /// Control connections that are kept in mind.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        self.control.connections()
    }

    /// Opens a stream to a peer that is reached through another.
    pub(super) async fn open(&self, peer: NodeId, proto: &str) -> Result<Stream, MeshError> {
        let peer_id = identity::peer_id(peer).ok_or(MeshError::NoLink { peer })?;
        let failed = |source| MeshError::Open { peer, source };
        let opening = tokio::time::timeout(FIRST_TIMEOUT, self.control.open(peer_id));
        let stream = opening
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        let mut stream = Stream::relayed(peer, stream);
        let cert = self.credentials.borrow().membership.cert.clone();
        let open = Open { proto: proto.into(), cert: Some(cert) };
        let written = async {
            write_first(&mut stream.send, &open).await.map_err(std::io::Error::other)?;
            tokio::io::AsyncWriteExt::flush(&mut stream.send).await
        };
        written.await.map_err(failed)?;
        Ok(stream)
    }
}

/// Takes relayed streams, of members only.
async fn accept(
    mut accepted: mpsc::Receiver<(PeerId, libp2p::Stream)>,
    links: Links,
    credentials: watch::Receiver<Arc<Credentials>>,
    stop: CancellationToken,
) {
    let opening = Arc::new(Semaphore::new(OPENING));
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = accepted.recv() => next,
        };
        let Some((peer, stream)) = next else { return };
        let Ok(permit) = opening.clone().try_acquire_owned() else { continue };
        let (links, credentials) = (links.clone(), credentials.clone());
        tokio::spawn(async move {
            if let Err(reason) = take(peer, stream, &links, &credentials, permit).await {
                tracing::debug!(%peer, reason, "relayed stream refused");
            }
        });
    }
}

async fn take(
    peer: PeerId,
    stream: libp2p::Stream,
    links: &Links,
    credentials: &watch::Receiver<Arc<Credentials>>,
    permit: tokio::sync::OwnedSemaphorePermit,
) -> Result<(), String> {
    let node = identity::node_id(&peer).ok_or("not a node's key")?;
    let mut stream = Stream::relayed(node, stream);
    let open: Open = read_first(&mut stream.recv).await.map_err(|e| e.to_string())?;
    // noise has proved the key; membership is shown here, where no TLS handshake could ask for it.
    let cert: Cert = open.cert.ok_or("no certificate")?;
    let membership = credentials.borrow().membership.clone();
    membership.admits(node, &cert).map_err(|e| e.to_string())?;
    drop(permit);
    links.dispatch(&open.proto, stream).await.map_err(|_| format!("nobody takes {}", open.proto))
}
