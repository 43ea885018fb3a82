//! One UDP port for everything: binding it, QUIC's settings, and sorting what arrives by ALPN.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use quinn::{
    AckFrequencyConfig, Endpoint as Quic, EndpointConfig, MtuDiscoveryConfig, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
    congestion::{BbrConfig, CubicConfig, NewRenoConfig},
    crypto::rustls::QuicClientConfig,
};
use rhd_protocol::{
    id::{NodeId, RealmId},
    wire::SOCKET_BUFFER,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    config::{Config, Congestion},
    durable,
    error::MeshError,
    tls::{self, ALPN_DATA, ALPN_JOIN, ALPN_LIBP2P, Proved, Tls},
};

/// Handshakes under way at once, all of them strangers so far; beyond this they are refused.
const HANDSHAKES: usize = 64;
/// With more handshakes under way than this, a new one must first prove its address.
const HANDSHAKES_UNPROVED: usize = 16;
/// How long a handshake may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one kind that wait to be taken; beyond this they are closed.
const ARRIVALS: usize = 64;
/// Streams that a peer may have open at once on a data connection.
const STREAMS: u32 = 1024;
/// Before the peer is known for a member: one stream is enough to ask for membership.
const STREAMS_BEFORE: u32 = 1;
/// Bytes under way on one stream before the reader must take some.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// Bytes under way on one data connection.
const WINDOW: u32 = 16 * 1024 * 1024;
/// Before the peer is known for a member: what it sends unread stays small.
const WINDOW_BEFORE: u32 = 64 * 1024;
/// Above this, quinn-proto's search through its send buffer costs more than it brings.
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
/// Above this, ten segments in one system call pass 64 KiB, and sending breaks.
const MAX_MTU: u16 = 6500;
/// Packets after which an acknowledgement goes out by itself; with fewer it waits a moment for the
/// answer of a call, to go in the same packet. Well below the first congestion window, which would
/// have to wait, too.
const UNACKED: u32 = 4;
/// A silent peer is asked for a sign of life after this time, by the side that dialed.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// A silent peer is given up after this time.
const IDLE_TIMEOUT_MS: u32 = 6_000;

/// A connection whose handshake is complete.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) connection: quinn::Connection,
    pub(super) peer: Proved,
}

/// Where arrivals go, by ALPN.
pub(super) struct Arrivals {
    pub(super) data: mpsc::Receiver<Arrival>,
    pub(super) libp2p: mpsc::Receiver<Arrival>,
    pub(super) join: mpsc::Receiver<Arrival>,
}

#[derive(Clone)]
struct Doors {
    data: mpsc::Sender<Arrival>,
    libp2p: mpsc::Sender<Arrival>,
    join: mpsc::Sender<Arrival>,
}

struct Port {
    addr: SocketAddr,
    quic: Quic,
    /// The same socket, for punching holes.
    raw: UdpSocket,
}

/// The node's sockets, and QUIC on them.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// One for each address that is listened on, all of one port; none once closed.
    ports: Arc<RwLock<Vec<Port>>>,
    tls: Tls,
    transport: Arc<TransportConfig>,
    /// Addresses that can't be dialed, as behind a NAT.
    #[cfg(test)]
    pub(super) walled: Arc<RwLock<Vec<SocketAddr>>>,
}

impl Endpoint {
    /// Binds the port (that of the settings, else the one in `<home>/mesh/port`, else any) and
    /// starts to take connections.
    pub(super) fn bind(
        home: &Path,
        config: &Config,
        tls: Tls,
        tracker: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<(Self, Arrivals), MeshError> {
        let (sockets, port) = bind_port(config, &home.join("mesh").join("port"))?;
        // Of two that ask, each would still answer the other: the one that dialed asks for both.
        let answering = transport(config.congestion)?;
        let mut asking = transport(config.congestion)?;
        asking.keep_alive_interval(Some(KEEP_ALIVE));
        let (data_tx, data) = mpsc::channel(ARRIVALS);
        let (libp2p_tx, libp2p) = mpsc::channel(ARRIVALS);
        let (join_tx, join) = mpsc::channel(ARRIVALS);
        let doors = Doors { data: data_tx, libp2p: libp2p_tx, join: join_tx };
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let mut server = ServerConfig::with_crypto(Arc::new(tls.clone()));
        server.transport_config(Arc::new(answering));
        server.max_incoming(HANDSHAKES).incoming_buffer_size(64 * 1024);
        server.incoming_buffer_size_total(4 * 1024 * 1024);
        let mut ports = Vec::new();
        for socket in sockets {
            let bind = |source| MeshError::Bind { port, source };
            let addr = socket.local_addr().map_err(bind)?;
            let raw = socket.try_clone().map_err(bind)?;
            let mut settings = EndpointConfig::default();
            // The wider limit lets the peer's MTU discovery go beyond one Ethernet frame.
            settings.max_udp_payload_size(65527).map_err(|e| MeshError::Quic(e.to_string()))?;
            let quic = Quic::new(settings, Some(server.clone()), socket, Arc::new(TokioRuntime))
                .map_err(bind)?;
            tracker.spawn(accept(quic.clone(), handshakes.clone(), doors.clone(), stop.clone()));
            ports.push(Port { addr, quic, raw });
        }
        let endpoint = Self {
            ports: Arc::new(RwLock::new(ports)),
            tls,
            transport: Arc::new(asking),
            #[cfg(test)]
            walled: Arc::default(),
        };
        Ok((endpoint, Arrivals { data, libp2p, join }))
    }

    /// What the sockets are bound to.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        self.ports().iter().map(|port| port.addr).collect()
    }

    /// The socket from which packets to `addr` leave.
    pub(super) fn socket_for(&self, addr: SocketAddr) -> Option<std::io::Result<UdpSocket>> {
        port_for(&self.ports(), addr).map(|port| port.raw.try_clone())
    }

    fn ports(&self) -> RwLockReadGuard<'_, Vec<Port>> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to a member, for `alpn`; to `node` and nobody else, if it is known.
    pub(super) async fn dial(
        &self,
        addr: SocketAddr,
        alpn: &'static [u8],
        node: Option<NodeId>,
    ) -> Result<Arrival, MeshError> {
        self.connect(addr, self.tls.member(alpn, node)?).await
    }

    /// As [`dial`](Self::dial), from a port of its own that ends with the connection: shows a peer
    /// whether packets that nobody asked for reach it.
    pub(super) async fn dial_from_new_port(
        &self,
        addr: SocketAddr,
        alpn: &'static [u8],
        node: Option<NodeId>,
    ) -> Result<Arrival, MeshError> {
        let any: IpAddr = match addr {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let quic = Quic::client(SocketAddr::new(any, 0))
            .map_err(|source| MeshError::Bind { port: 0, source })?;
        self.connect_from(&quic, addr, self.tls.member(alpn, node)?).await
    }

    /// Connects to `node` of `realm` to ask for membership.
    pub(super) async fn dial_join(
        &self,
        addr: SocketAddr,
        realm: RealmId,
        node: NodeId,
    ) -> Result<Arrival, MeshError> {
        self.connect(addr, self.tls.join(realm, node)?).await
    }

    async fn connect(&self, addr: SocketAddr, tls: QuicClientConfig) -> Result<Arrival, MeshError> {
        let quic = port_for(&self.ports(), addr).map(|port| port.quic.clone());
        let reason = || "no socket of its family".into();
        let quic = quic.ok_or_else(|| MeshError::Unreachable { addr, reason: reason() })?;
        self.connect_from(&quic, addr, tls).await
    }

    async fn connect_from(
        &self,
        quic: &Quic,
        addr: SocketAddr,
        tls: QuicClientConfig,
    ) -> Result<Arrival, MeshError> {
        let unreachable = |reason: String| MeshError::Unreachable { addr, reason };
        #[cfg(test)]
        if self.walled.read().is_ok_and(|walled| walled.contains(&addr)) {
            return Err(unreachable("walled".into()));
        }
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(self.transport.clone());
        // rustls wants a server name; peers are known by their keys.
        let connecting =
            quic.connect_with(config, addr, "l").map_err(|e| unreachable(e.to_string()))?;
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
            .await
            .map_err(|_| unreachable("no answer".into()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let peer = Proved::of(&connection).ok_or_else(|| unreachable("no identity".into()))?;
        Ok(Arrival { connection, peer })
    }

    /// Closes every connection and waits until the peers have been told.
    pub(super) async fn close(&self) {
        let ports =
            std::mem::take(&mut *self.ports.write().unwrap_or_else(PoisonError::into_inner));
        for port in &ports {
            port.quic.close(0u32.into(), b"bye");
        }
        for port in &ports {
            port.quic.wait_idle().await;
        }
    }
}

/// The port from which packets to `addr` leave.
fn port_for(ports: &[Port], addr: SocketAddr) -> Option<&Port> {
    let mut family = ports.iter().filter(|port| port.addr.is_ipv4() == addr.is_ipv4());
    let reaches = |port: &&Port| {
        let ip = port.addr.ip();
        ip.is_unspecified() || ip.is_loopback() == addr.ip().is_loopback()
    };
    family.clone().find(reaches).or_else(|| family.next())
}

/// Lets a member open as many streams, and have as much under way, as the data plane needs.
pub(super) fn widen(connection: &quinn::Connection) {
    connection.set_max_concurrent_bi_streams(STREAMS.into());
    connection.set_receive_window(WINDOW.into());
}

fn transport(congestion: Congestion) -> Result<TransportConfig, MeshError> {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MAX_MTU);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(UNACKED.into());
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(0u32.into())
        .max_concurrent_bidi_streams(STREAMS_BEFORE.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(WINDOW_BEFORE.into())
        .send_window(SEND_WINDOW)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT_MS).into()))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks));
    match congestion {
        Congestion::Cubic => {
            transport.congestion_controller_factory(Arc::new(CubicConfig::default()))
        }
        Congestion::NewReno => {
            transport.congestion_controller_factory(Arc::new(NewRenoConfig::default()))
        }
        Congestion::Bbr => transport.congestion_controller_factory(Arc::new(BbrConfig::default())),
    };
    Ok(transport)
}

fn bind_port(config: &Config, remembered: &Path) -> Result<(Vec<UdpSocket>, u16), MeshError> {
    if config.port != 0 {
        let sockets = bind_all(&config.listen, config.port)
            .map_err(|source| MeshError::Bind { port: config.port, source })?;
        return Ok((sockets, config.port));
    }
    let before = durable::read(remembered)?
        .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u16>().ok());
    let (sockets, port) = match before.map(|port| (bind_all(&config.listen, port), port)) {
        Some((Ok(sockets), port)) => (sockets, port),
        // Taken by another program since: peers learn the new one from presence.
        _ => {
            let bind = |source| MeshError::Bind { port: 0, source };
            let sockets = bind_all(&config.listen, 0).map_err(bind)?;
            let port = match sockets.first() {
                Some(socket) => socket.local_addr().map_err(bind)?.port(),
                None => 0,
            };
            (sockets, port)
        }
    };
    if before != Some(port) {
        durable::write(remembered, port.to_string().as_bytes())?;
    }
    Ok((sockets, port))
}

/// Binds all addresses to one port. Of the wildcards, IPv6 may be missing on a machine.
fn bind_all(listen: &[IpAddr], port: u16) -> std::io::Result<Vec<UdpSocket>> {
    let wildcard = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let (addrs, optional) = if listen.is_empty() { (&wildcard[..], true) } else { (listen, false) };
    let mut sockets: Vec<UdpSocket> = Vec::new();
    for ip in addrs {
        let port = match sockets.first() {
            Some(first) => first.local_addr()?.port(),
            None => port,
        };
        match bind_socket(SocketAddr::new(*ip, port)) {
            Ok(socket) => sockets.push(socket),
            Err(_) if optional && ip.is_ipv6() && !sockets.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sockets)
}

fn bind_socket(addr: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    // As much as the system allows (`net.core.rmem_max` on Linux): where it has less, that is no error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

async fn accept(quic: Quic, handshakes: Arc<Semaphore>, doors: Doors, stop: CancellationToken) {
    // Handshakes end with the accept loop, and are no more than the semaphore lets in.
    let mut running = tokio::task::JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = running.join_next() => continue,
            incoming = quic.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let busy = HANDSHAKES - handshakes.available_permits() > HANDSHAKES_UNPROVED;
        if busy && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let doors = doors.clone();
        running.spawn(async move {
            let addr = incoming.remote_address();
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(incoming, &doors)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%addr, %error, "connection refused"),
                Err(_) => tracing::debug!(%addr, "handshake timed out"),
            }
            drop(permit);
        });
    }
}

async fn handshake(incoming: quinn::Incoming, doors: &Doors) -> Result<(), quinn::ConnectionError> {
    let mut connecting = incoming.accept()?;
    let Ok(alpn) = connecting.handshake_data().await.map(|data| tls::alpn(Some(data))) else {
        // The handshake failed; the connection itself says why.
        return connecting.await.map(drop);
    };
    // Complete only when the peer's certificate has been judged.
    let connection = connecting.await?;
    let door = match alpn.as_deref() {
        Some(ALPN_DATA) => &doors.data,
        Some(ALPN_LIBP2P) => &doors.libp2p,
        Some(ALPN_JOIN) => &doors.join,
        _ => return Ok(()),
    };
    let Some(peer) = Proved::of(&connection) else { return Ok(()) };
    if let Err(full) = door.try_send(Arrival { connection, peer }) {
        full.into_inner().connection.close(1u32.into(), b"busy");
    }
    Ok(())
}
