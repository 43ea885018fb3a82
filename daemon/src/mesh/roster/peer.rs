//! One peer: where it may be, and when to try next.

use std::{net::SocketAddr, time::Instant};

use rhd_protocol::{id::NodeId, machine::backoff::Backoff, membership::Cert};
use tokio::task::JoinSet;

use crate::mesh::{
    endpoint::{Arrival, Endpoint},
    tls::ALPN_DATA,
};

/// Addresses kept for one peer, best first.
const ADDRS: usize = 12;
/// The first wait before a lost peer is dialed again, in milliseconds.
const RETRY_MS: u64 = 200;
/// The longest wait, in milliseconds.
const RETRY_MAX_MS: u64 = 30_000;

/// What is being done about a peer.
#[derive(Debug)]
pub(super) enum State {
    /// To be dialed at this time.
    Waiting(Instant),
    Dialing,
    Linked,
}

#[derive(Debug)]
pub(super) struct Peer {
    /// None: nothing but an address heard on the local network; forgotten when it fails.
    pub(super) cert: Option<Cert>,
    pub(super) addrs: Vec<SocketAddr>,
    pub(super) state: State,
    pub(super) backoff: Backoff,
    pub(super) relayed: bool,
    pub(super) subscribed: bool,
}

impl Peer {
    pub(super) fn new(at: Instant) -> Self {
        Self {
            cert: None,
            addrs: Vec::new(),
            state: State::Waiting(at),
            backoff: Backoff::new(RETRY_MS, RETRY_MAX_MS),
            relayed: false,
            subscribed: false,
        }
    }

    /// Puts addresses first; whether one of them is new.
    pub(super) fn learn(&mut self, addrs: &[SocketAddr]) -> bool {
        let new = addrs.iter().any(|addr| !self.addrs.contains(addr));
        self.addrs.retain(|addr| !addrs.contains(addr));
        self.addrs.splice(0..0, addrs.iter().copied());
        self.addrs.truncate(ADDRS);
        new
    }
}

/// Dials all addresses of a peer at once; the first that answers with the peer's key wins.
pub(super) async fn dial(
    endpoint: &Endpoint,
    node: NodeId,
    addrs: Vec<SocketAddr>,
) -> Option<Arrival> {
    let mut dials = JoinSet::new();
    for addr in addrs {
        let endpoint = endpoint.clone();
        dials.spawn(async move { endpoint.dial(addr, ALPN_DATA, Some(node)).await });
    }
    while let Some(dialed) = dials.join_next().await {
        match dialed {
            Ok(Ok(arrival)) => return Some(arrival),
            Ok(Err(error)) => tracing::trace!(peer = %node.short(), %error, "dial failed"),
            Err(_) => {}
        }
    }
    None
}
