//! Streams of one protocol on control connections, relayed ones included.
//!
//! Nothing is kept of a connection that has ended.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for one connection.
const REQUESTS: usize = 16;
/// Streams of one connection whose protocol is being agreed on; requests wait beyond this.
const OPENING: usize = 64;
/// Streams of peers that wait to be taken; beyond this they are dropped.
const ACCEPTED: usize = 64;

type Opened = oneshot::Sender<io::Result<Stream>>;
type Connections = HashMap<ConnectionId, (PeerId, mpsc::Sender<Opened>)>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens streams; a cloneable handle.
#[derive(Clone)]
pub(super) struct Control {
    connections: Arc<Mutex<Connections>>,
}

impl Control {
    /// Connections that are kept in mind.
    #[cfg(test)]
    pub(super) fn connections(&self) -> usize {
        lock(&self.connections).len()
    }

    /// Opens a stream on any control connection with `peer`.
    pub(super) async fn open(&self, peer: PeerId) -> io::Result<Stream> {
        let requests = {
            let connections = lock(&self.connections);
            connections.values().find(|(of, _)| *of == peer).map(|(_, requests)| requests.clone())
        };
        let requests = requests.ok_or(io::ErrorKind::NotConnected)?;
        let (tx, rx) = oneshot::channel();
        requests.send(tx).await.map_err(|_| io::ErrorKind::ConnectionReset)?;
        rx.await.map_err(|_| io::ErrorKind::ConnectionReset)?
    }
}

/// Takes part in the swarm.
pub(super) struct Streams {
    protocol: StreamProtocol,
    connections: Arc<Mutex<Connections>>,
    accepted: mpsc::Sender<(PeerId, Stream)>,
}

impl Streams {
    /// Of this protocol; what peers open comes out of the receiver.
    pub(super) fn new(protocol: StreamProtocol) -> (Self, mpsc::Receiver<(PeerId, Stream)>) {
        let (accepted, rx) = mpsc::channel(ACCEPTED);
        (Self { protocol, connections: Arc::default(), accepted }, rx)
    }

    pub(super) fn control(&self) -> Control {
        Control { connections: self.connections.clone() }
    }

    fn handler(&self, id: ConnectionId, peer: PeerId) -> Handler {
        let (tx, requests) = mpsc::channel(REQUESTS);
        lock(&self.connections).insert(id, (peer, tx));
        let (protocol, accepted) = (self.protocol.clone(), self.accepted.clone());
        let ended = Ended { id, connections: self.connections.clone() };
        Handler { peer, protocol, requests, opening: 0, accepted, _ended: ended }
    }
}

/// Forgets a connection together with its handler, also one that another behaviour has denied.
struct Ended {
    id: ConnectionId,
    connections: Arc<Mutex<Connections>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        lock(&self.connections).remove(&self.id);
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(id, peer))
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

/// What streams are on one connection.
pub(super) struct Handler {
    peer: PeerId,
    protocol: StreamProtocol,
    requests: mpsc::Receiver<Opened>,
    opening: usize,
    accepted: mpsc::Sender<(PeerId, Stream)>,
    _ended: Ended,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(self.protocol.clone()), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Opened, Infallible>> {
        if self.opening >= OPENING {
            // The end of one of them wakes this again.
            return Poll::Pending;
        }
        match self.requests.poll_recv(cx) {
            Poll::Ready(Some(opened)) => {
                self.opening += 1;
                let upgrade = ReadyUpgrade::new(self.protocol.clone());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(upgrade, opened),
                })
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), Opened>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                let peer = self.peer;
                let dropped = self.accepted.try_send((peer, protocol)).err();
                tracing::debug!(%peer, dropped = dropped.is_some(), "relayed stream");
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => {
                self.opening = self.opening.saturating_sub(1);
                let _ = info.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.opening = self.opening.saturating_sub(1);
                let _ = info.send(Err(io::Error::other(error)));
            }
            _ => {}
        }
    }
}
