// Adapted from libp2p-quic 0.14, under its licence:
//
// Copyright 2017-2020 Parity Technologies (UK) Ltd.
//
// Permission is hereby granted, free of charge, to any person obtaining a
// copy of this software and associated documentation files (the "Software"),
// to deal in the Software without restriction, including without limitation
// the rights to use, copy, modify, merge, publish, distribute, sublicense,
// and/or sell copies of the Software, and to permit persons to whom the
// Software is furnished to do so, subject to the following conditions:
//
// The above copyright notice and this permission notice shall be included in
// all copies or substantial portions of the Software.
//
// THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS
// OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
// FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
// AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
// LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING
// FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
// DEALINGS IN THE SOFTWARE.

//! libp2p's QUIC transport on the node's own endpoint, so that both planes share one port.
//!
//! It listens once, on everything the endpoint is bound to, and takes the connections that the
//! endpoint sorts out for it; its handshakes are the endpoint's, so only members get here.

use std::{
    collections::HashMap,
    future::{Ready, ready},
    io,
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        Endpoint as Role,
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    multiaddr::Protocol,
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    addrs::{from_multiaddr, to_multiaddr},
    endpoint::{Arrival, Endpoint, HANDSHAKE_TIMEOUT},
    error::MeshError,
    identity,
    tls::ALPN_LIBP2P,
};

mod muxer;
use muxer::Muxer;

/// Streams that a peer may have open at once on the control plane.
const STREAMS: u32 = 256;
/// Bytes under way on one connection of the control plane.
const WINDOW: u32 = 2 * 1024 * 1024;
/// Holes that are being punched at once.
const PUNCHES: usize = 32;
/// Bytes of a packet that opens a hole; random, so that it is no packet of any protocol.
const PUNCH_BYTES: usize = 64;

type Output = (PeerId, Muxer);
type Event = TransportEvent<Ready<Result<Output, MeshError>>, MeshError>;

/// The transport.
pub(super) struct Shared {
    endpoint: Endpoint,
    arrivals: mpsc::Receiver<Arrival>,
    /// Lists of listen addresses; the latest counts.
    addrs: mpsc::Receiver<Vec<SocketAddr>>,
    current: Vec<SocketAddr>,
    announced: Vec<SocketAddr>,
    listener: Option<ListenerId>,
    closed: Option<ListenerId>,
    /// Dials that wait for the peer to come through the hole they punch.
    punches: HashMap<SocketAddr, oneshot::Sender<Arrival>>,
    waker: Option<Waker>,
}

impl Shared {
    pub(super) fn new(
        endpoint: Endpoint,
        arrivals: mpsc::Receiver<Arrival>,
        mut addrs: watch::Receiver<Vec<SocketAddr>>,
    ) -> Self {
        let current = addrs.borrow_and_update().clone();
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(async move {
            while addrs.changed().await.is_ok() {
                let now = addrs.borrow_and_update().clone();
                if tx.send(now).await.is_err() {
                    return;
                }
            }
        });
        Self {
            endpoint,
            arrivals,
            addrs: rx,
            current,
            announced: Vec::new(),
            listener: None,
            closed: None,
            punches: HashMap::new(),
            waker: None,
        }
    }

    /// The next difference between what is and what the swarm knows.
    fn next_address(&mut self, listener_id: ListenerId) -> Option<Event> {
        if let Some(at) = self.announced.iter().position(|a| !self.current.contains(a)) {
            let listen_addr = to_multiaddr(self.announced.remove(at));
            return Some(TransportEvent::AddressExpired { listener_id, listen_addr });
        }
        let new = *self.current.iter().find(|a| !self.announced.contains(a))?;
        self.announced.push(new);
        Some(TransportEvent::NewAddress { listener_id, listen_addr: to_multiaddr(new) })
    }

    fn incoming(&mut self, arrival: Arrival, listener_id: ListenerId) -> Option<Event> {
        let remote = arrival.connection.remote_address();
        let arrival = match self.punches.remove(&remote) {
            // The dial gave up in the same moment: then it is a connection like any other.
            Some(punch) => punch.send(arrival).err()?,
            None => arrival,
        };
        let port = self.endpoint.bound().first().map_or(0, SocketAddr::port);
        let local_addr = match arrival.connection.local_ip() {
            Some(ip) => to_multiaddr(SocketAddr::new(ip.to_canonical(), port)),
            None => to_multiaddr(*self.announced.first()?),
        };
        Some(TransportEvent::Incoming {
            listener_id,
            upgrade: ready(narrow(arrival)),
            local_addr,
            send_back_addr: to_multiaddr(remote),
        })
    }
}

/// Sets the limits of the control plane on a connection that has just been made.
fn narrow(arrival: Arrival) -> Result<Output, MeshError> {
    let Arrival { connection, peer } = arrival;
    connection.set_max_concurrent_bi_streams(STREAMS.into());
    connection.set_receive_window(WINDOW.into());
    let peer_id = identity::peer_id(peer.node).ok_or(MeshError::NoLink { peer: peer.node })?;
    Ok((peer_id, Muxer::new(connection)))
}

impl Transport for Shared {
    type Output = Output;
    type Error = MeshError;
    type ListenerUpgrade = Ready<Result<Output, MeshError>>;
    type Dial = BoxFuture<'static, Result<Output, MeshError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<MeshError>> {
        if self.listener.is_some() || !is_quic(&addr) {
            return Err(TransportError::MultiaddrNotSupported(addr));
        }
        self.listener = Some(id);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let removed = self.listener == Some(id);
        if removed {
            self.listener = None;
            self.announced.clear();
            self.closed = Some(id);
        }
        removed
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<MeshError>> {
        let to = from_multiaddr(&addr)
            .ok_or_else(|| TransportError::MultiaddrNotSupported(addr.clone()))?;
        let peer = addr.iter().find_map(|part| match part {
            Protocol::P2p(peer) => identity::node_id(&peer),
            _ => None,
        });
        let endpoint = self.endpoint.clone();
        // Upstream punches only when the port is to be reused, and so ends with two connections.
        if opts.role == Role::Listener {
            let socket = endpoint.socket_for(to).transpose().map_err(other)?;
            let socket = socket.ok_or(TransportError::MultiaddrNotSupported(addr))?;
            self.punches.retain(|_, punch| !punch.is_closed());
            if self.punches.len() >= PUNCHES || self.punches.contains_key(&to) {
                let reason = "a hole is being punched already".into();
                return Err(TransportError::Other(MeshError::Unreachable { addr: to, reason }));
            }
            let (tx, rx) = oneshot::channel();
            self.punches.insert(to, tx);
            return Ok(punch(socket, to, rx).boxed());
        }
        let fresh = opts.port_use == PortUse::New;
        let dial = async move {
            let arrival = if fresh {
                endpoint.dial_from_new_port(to, ALPN_LIBP2P, peer).await?
            } else {
                endpoint.dial(to, ALPN_LIBP2P, peer).await?
            };
            narrow(arrival)
        };
        Ok(dial.boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(listener_id) = self.closed.take() {
            return Poll::Ready(TransportEvent::ListenerClosed { listener_id, reason: Ok(()) });
        }
        while let Poll::Ready(Some(addrs)) = self.addrs.poll_recv(cx) {
            self.current = addrs;
        }
        if let Some(listener_id) = self.listener {
            if let Some(event) = self.next_address(listener_id) {
                return Poll::Ready(event);
            }
            while let Poll::Ready(Some(arrival)) = self.arrivals.poll_recv(cx) {
                if let Some(event) = self.incoming(arrival, listener_id) {
                    return Poll::Ready(event);
                }
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn other(source: io::Error) -> TransportError<MeshError> {
    TransportError::Other(MeshError::Bind { port: 0, source })
}

fn is_quic(addr: &Multiaddr) -> bool {
    let mut parts = addr.iter();
    matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
        && matches!(parts.next(), Some(Protocol::Udp(_)))
        && matches!(parts.next(), Some(Protocol::QuicV1))
        && parts.next().is_none()
}

/// Sends packets that mean nothing, so that the NAT on this side lets the peer's packets in, until
/// the peer's connection arrives.
async fn punch(
    socket: UdpSocket,
    addr: SocketAddr,
    mut arrived: oneshot::Receiver<Arrival>,
) -> Result<Output, MeshError> {
    let unreachable = |reason: String| MeshError::Unreachable { addr, reason };
    let give_up = tokio::time::sleep(HANDSHAKE_TIMEOUT);
    tokio::pin!(give_up);
    loop {
        // The socket doesn't block; when it is full, the next packet will do.
        match socket.send_to(&rand::random::<[u8; PUNCH_BYTES]>(), addr) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(unreachable(error.to_string()));
            }
            _ => {}
        }
        let pause = Duration::from_millis(rand::random_range(10..=200));
        tokio::select! {
            arrival = &mut arrived => {
                return narrow(arrival.map_err(|_| unreachable("the transport has ended".into()))?);
            }
            () = &mut give_up => return Err(unreachable("nobody came through the hole".into())),
            () = tokio::time::sleep(pause) => {}
        }
    }
}
