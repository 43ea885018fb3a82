//! Ports and connections: how many, how long, and their end.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{config::Config, guard::Ends};

/// Ports that are tried, from the first one on.
const PORTS: u16 = 100;
/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// The most header lines of a request.
const MAX_HEADERS: usize = 100;
/// How long a connection may be silent before the system asks whether its client is there.
const ALIVE: Duration = Duration::from_secs(30);
/// Bytes of a connection that are buffered at once.
const BUFFER: usize = 64 * 1024;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address can't be had, whatever the port.
    #[error("listen on {address}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// All are taken.
    #[error("TCP ports {first} to {last} are all taken")]
    Ports {
        /// The first that was tried.
        first: u16,
        /// The last.
        last: u16,
    },
}

/// Listens on all addresses at the first port that is free on each of them.
pub(super) async fn bind(config: &Config) -> Result<Vec<TcpListener>, ListenError> {
    let (first, last) = (config.port, config.port.saturating_add(PORTS - 1));
    for port in first..=last {
        // With port 0 each round asks the system for another one.
        let port = if first == 0 { 0 } else { port };
        match bind_all(&config.listen, port).await {
            Err(ListenError::Address { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    Err(ListenError::Ports { first, last })
}

async fn bind_all(addresses: &[IpAddr], mut port: u16) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = Vec::new();
    for ip in addresses {
        let address = SocketAddr::new(*ip, port);
        let failed = |source| ListenError::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        port = listener.local_addr().map_err(failed)?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// What all connections share.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) router: Router,
    pub(super) places: Arc<Semaphore>,
    pub(super) header_timeout: Duration,
    /// Set when the node drains: no further request of a connection is taken.
    pub(super) closing: CancellationToken,
    /// Set when it ends.
    pub(super) closed: CancellationToken,
}

impl Connections {
    /// Accepts connections until the node drains.
    pub(super) async fn accept(self, listener: TcpListener) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.closing.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let all = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = all.serve(stream, peer).await {
                            tracing::debug!(%peer, %error, "HTTP connection ended");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be closed.
                    tracing::warn!(%error, "accept of HTTP failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self, stream: TcpStream, peer: SocketAddr) -> Result<(), ServeError> {
        let ends = Ends { peer, local: stream.local_addr()? };
        stream.set_nodelay(true)?;
        // A client whose machine is gone says nothing; its calls must not go on for ever.
        let alive = TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE);
        SockRef::from(&stream).set_tcp_keepalive(&alive)?;
        let router = self.router;
        let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ends);
            let answer = hyper_util::service::TowerToHyperService::new(router.clone());
            async move {
                let answered: Result<_, Infallible> =
                    hyper::service::Service::call(&answer, request.map(Body::new)).await;
                answered
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.header_timeout)
            .max_header_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = self.closing.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.closed.cancelled() => return Ok(()),
            }
        }
    }
}

/// Why a connection ended before its client closed it.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}
