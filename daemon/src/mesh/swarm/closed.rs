//! Keeps relayed connections to members: a relay's own word for its peers is not enough.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use tokio::sync::watch;

use crate::mesh::{identity, roster::PeerInfo};

/// The peer at the far end of a circuit is no member that this node knows.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not known for a member")]
struct Unknown(PeerId);

/// Denies relayed connections to peers that the roster doesn't list. Direct ones were judged by TLS.
pub(super) struct Members {
    peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
}

impl Members {
    pub(super) fn new(peers: watch::Receiver<Arc<Vec<PeerInfo>>>) -> Self {
        Self { peers }
    }

    fn judge(&self, peer: PeerId, addrs: [&Multiaddr; 2]) -> Result<(), ConnectionDenied> {
        let relayed = addrs.iter().any(|a| a.iter().any(|part| part == Protocol::P2pCircuit));
        let member = || {
            let node = identity::node_id(&peer);
            self.peers.borrow().iter().any(|info| Some(info.node) == node)
        };
        if relayed && !member() {
            return Err(ConnectionDenied::new(Unknown(peer)));
        }
        Ok(())
    }
}

impl NetworkBehaviour for Members {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, [local, remote])?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.judge(peer, [addr, addr])?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
