//! The task that owns the swarm.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::{ConnectedPoint, transport::ListenerId},
    gossipsub, identify, kad, mdns,
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use rhd_protocol::{frame, id::NodeId, presence::Signed};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::behaviour::{Behaviour, BehaviourEvent, topic};
use crate::mesh::{
    addrs::{from_multiaddr, to_multiaddr},
    identity,
    roster::{Msg, PeerInfo, Roster, Route},
    tls::Credentials,
};

/// How often missing control connections and ways to unreached peers are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// A peer with no direct link for this long is looked for through others.
const UNREACHED: Duration = Duration::from_secs(2);
/// Peers of the realm on which this node holds a place to be reached through.
const RELAYS: usize = 2;

pub(super) struct Inputs {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) roster: Roster,
    pub(super) credentials: watch::Receiver<Arc<Credentials>>,
    pub(super) gossip: mpsc::Receiver<Signed>,
    pub(super) wanted: mpsc::Receiver<NodeId>,
    pub(super) stop: CancellationToken,
}

pub(super) struct Actor {
    io: Inputs,
    peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
    topic: gossipsub::IdentTopic,
    /// Places at relays, by relay.
    places: HashMap<PeerId, ListenerId>,
    /// Relayed connections by peer.
    circuits: HashMap<PeerId, HashSet<ConnectionId>>,
    /// Since when live peers have had no direct link.
    unreached: HashMap<NodeId, Instant>,
}

impl Actor {
    pub(super) fn new(mut io: Inputs) -> Self {
        let realm = io.credentials.borrow_and_update().membership.realm();
        let peers = io.roster.peers();
        let mut actor = Self {
            io,
            peers,
            topic: topic(realm),
            places: HashMap::new(),
            circuits: HashMap::new(),
            unreached: HashMap::new(),
        };
        actor.subscribe();
        actor
    }

    pub(super) async fn run(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.io.stop.cancelled() => return,
                event = self.io.swarm.select_next_some() => self.event(event).await,
                Some(signed) = self.io.gossip.recv() => self.publish(&signed),
                Some(node) = self.io.wanted.recv() => self.reach(node),
                Ok(()) = self.peers.changed() => self.connect(),
                Ok(()) = self.io.credentials.changed() => self.rejoin(),
                _ = look.tick() => self.look(),
            }
        }
    }

    fn subscribe(&mut self) {
        if let Err(error) = self.io.swarm.behaviour_mut().gossip.subscribe(&self.topic) {
            tracing::warn!(%error, "no gossip in this realm");
        }
    }

    fn rejoin(&mut self) {
        let realm = self.io.credentials.borrow_and_update().membership.realm();
        self.io.swarm.behaviour_mut().gossip.unsubscribe(&self.topic);
        self.topic = topic(realm);
        self.subscribe();
        let peers: Vec<PeerId> = self.io.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.io.swarm.disconnect_peer_id(peer);
            self.io.swarm.behaviour_mut().kad.remove_peer(&peer);
        }
    }

    fn publish(&mut self, signed: &Signed) {
        let Ok(bytes) = frame::to_vec(signed) else { return };
        match self.io.swarm.behaviour_mut().gossip.publish(self.topic.hash(), bytes) {
            Ok(_) => {}
            // Nobody listens yet: the roster tells peers by streams until they do.
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "not gossiped"),
        }
    }

    /// Makes the control connection to each linked peer that has none.
    fn connect(&mut self) {
        let peers = self.peers.borrow_and_update().clone();
        for info in peers.iter() {
            let (Some(addr), Some(peer)) = (info.addr, identity::peer_id(info.node)) else {
                continue;
            };
            self.unreached.remove(&info.node);
            // Both sides do this; the lower one first, the other when it looks around.
            let mine = *self.io.swarm.local_peer_id() < peer;
            if mine && !self.io.swarm.is_connected(&peer) {
                self.dial(peer, vec![to_multiaddr(addr)], PeerCondition::DisconnectedAndNotDialing);
            }
        }
    }

    fn dial(&mut self, peer: PeerId, addrs: Vec<Multiaddr>, condition: PeerCondition) {
        let opts = DialOpts::peer_id(peer).addresses(addrs).condition(condition).build();
        if let Err(error) = self.io.swarm.dial(opts) {
            tracing::trace!(%peer, %error, "control connection not dialed");
        }
    }

    fn look(&mut self) {
        let peers = self.peers.borrow().clone();
        for info in peers.iter() {
            let Some(peer) = identity::peer_id(info.node) else { continue };
            match info.addr {
                Some(addr) if !self.io.swarm.is_connected(&peer) => self.dial(
                    peer,
                    vec![to_multiaddr(addr)],
                    PeerCondition::DisconnectedAndNotDialing,
                ),
                _ => {}
            }
        }
        self.unreached.retain(|node, _| {
            peers.iter().any(|p| p.node == *node && p.record.is_some() && p.addr.is_none())
        });
        let lost: Vec<NodeId> = peers
            .iter()
            .filter(|info| info.record.is_some() && info.addr.is_none())
            .map(|info| info.node)
            .collect();
        for node in lost {
            let since = *self.unreached.entry(node).or_insert_with(Instant::now);
            if since.elapsed() >= UNREACHED {
                self.reach(node);
            }
        }
    }

    /// Linked peers, in an order that all nodes agree on, so that two which look for each other
    /// take a place at the same ones.
    fn relays(&self) -> Vec<(PeerId, Multiaddr)> {
        let peers = self.peers.borrow().clone();
        let mut linked: Vec<&PeerInfo> = peers.iter().filter(|p| p.path == Route::Direct).collect();
        linked.sort_by_key(|info| info.node);
        let relays = linked.into_iter().filter_map(|info| {
            let peer = identity::peer_id(info.node)?;
            let addr = to_multiaddr(info.addr?).with(Protocol::P2p(peer));
            Some((peer, addr.with(Protocol::P2pCircuit)))
        });
        relays.collect()
    }

    /// Looks for a way to a peer through others, and makes this node reachable in the same way.
    fn reach(&mut self, node: NodeId) {
        let Some(peer) = identity::peer_id(node) else { return };
        let relays = self.relays();
        for (relay, addr) in relays.iter().take(RELAYS) {
            if self.io.swarm.is_connected(relay) && !self.places.contains_key(relay) {
                match self.io.swarm.listen_on(addr.clone()) {
                    Ok(listener) => drop(self.places.insert(*relay, listener)),
                    Err(error) => tracing::debug!(%relay, %error, "no place at the relay"),
                }
            }
        }
        if !self.io.swarm.is_connected(&peer) {
            let ways = relays.into_iter().take(RELAYS * 2);
            let ways = ways.map(|(_, addr)| addr.with(Protocol::P2p(peer))).collect();
            self.dial(peer, ways, PeerCondition::DisconnectedAndNotDialing);
        }
    }

    async fn learned(&mut self, peer: PeerId, addrs: impl IntoIterator<Item = &Multiaddr>) {
        let Some(node) = identity::node_id(&peer) else { return };
        let addrs: Vec<_> = addrs.into_iter().filter_map(from_multiaddr).collect();
        if !addrs.is_empty() {
            self.io.roster.tell(Msg::Learned { node, cert: None, addrs }).await;
        }
    }

    async fn event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                // Peers of a realm may reach each other at any address of theirs.
                self.io.swarm.add_external_address(address);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.io.swarm.remove_external_address(&address);
            }
            SwarmEvent::ListenerClosed { listener_id, .. } => {
                self.places.retain(|_, listener| *listener != listener_id);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(peer_id, connection_id, &endpoint).await;
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.ended(peer_id, connection_id).await;
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::trace!(?peer_id, %error, "control connection failed");
            }
            SwarmEvent::Behaviour(event) => self.behaviour(event).await,
            _ => {}
        }
    }

    async fn established(&mut self, peer: PeerId, id: ConnectionId, at: &ConnectedPoint) {
        if !at.is_relayed() {
            // Also where a punched hole shows: the data link follows through it.
            return self.learned(peer, [at.get_remote_address()]).await;
        }
        let circuits = self.circuits.entry(peer).or_default();
        circuits.insert(id);
        if circuits.len() == 1
            && let Some(node) = identity::node_id(&peer)
        {
            self.io.roster.tell(Msg::Relayed { node, relayed: true }).await;
        }
    }

    async fn ended(&mut self, peer: PeerId, id: ConnectionId) {
        let Some(node) = identity::node_id(&peer) else { return };
        if let Some(circuits) = self.circuits.get_mut(&peer) {
            circuits.remove(&id);
            if circuits.is_empty() {
                self.circuits.remove(&peer);
                self.io.roster.tell(Msg::Relayed { node, relayed: false }).await;
            }
        }
        if !self.io.swarm.is_connected(&peer) {
            self.io.roster.tell(Msg::Subscribed { node, subscribed: false }).await;
        }
    }

    async fn behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. }) => {
                match frame::decode::<Signed>(&message.data) {
                    Ok(signed) => {
                        self.io
                            .roster
                            .tell(Msg::Records { from: None, records: vec![signed] })
                            .await;
                    }
                    Err(error) => tracing::debug!(%error, "gossip not understood"),
                }
            }
            BehaviourEvent::Gossip(gossipsub::Event::Subscribed { peer_id, topic }) => {
                self.subscribed(peer_id, topic, true).await;
            }
            BehaviourEvent::Gossip(gossipsub::Event::Unsubscribed { peer_id, topic }) => {
                self.subscribed(peer_id, topic, false).await;
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, addr) in &found {
                    self.learned(*peer, [addr]).await;
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                for addr in info.listen_addrs.into_iter().filter(|a| from_multiaddr(a).is_some()) {
                    self.io.swarm.behaviour_mut().kad.add_address(&peer_id, addr);
                }
                if let Some(addr) = from_multiaddr(&info.observed_addr) {
                    self.io.roster.tell(Msg::Observed { addr }).await;
                }
            }
            BehaviourEvent::Kad(kad::Event::RoutingUpdated { peer, addresses, .. }) => {
                let addresses: Vec<Multiaddr> = addresses.iter().cloned().collect();
                self.learned(peer, &addresses).await;
            }
            BehaviourEvent::RelayClient(relay::client::Event::ReservationReqAccepted {
                relay_peer_id,
                ..
            }) => tracing::debug!(relay = %relay_peer_id, "reachable through a relay"),
            BehaviourEvent::Dcutr(event) => {
                tracing::debug!(peer = %event.remote_peer_id, ok = event.result.is_ok(), "hole punched");
            }
            _ => {}
        }
    }

    async fn subscribed(&mut self, peer: PeerId, topic: gossipsub::TopicHash, subscribed: bool) {
        if topic == self.topic.hash()
            && let Some(node) = identity::node_id(&peer)
        {
            self.io.roster.tell(Msg::Subscribed { node, subscribed }).await;
        }
    }
}
