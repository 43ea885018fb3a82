//! Settings of the HTTP endpoint.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use serde::Deserialize;

/// The first port that is tried.
pub const PORT: u16 = 32300;

/// Where HTTP is answered, to whom, and how much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether HTTP is answered at all.
    pub enabled: bool,
    /// TCP port; the first free one from it on is taken. 0: any.
    pub port: u16,
    /// Addresses to listen on. Who comes from another machine needs the token.
    pub listen: Vec<IpAddr>,
    /// Names and addresses besides its own under which the node may be asked for.
    pub hosts: Vec<String>,
    /// The bearer token; none: the one in `<home>/web.token`, which is made when there is none.
    pub token: Option<Token>,
    /// Whether callers on this machine need the token too.
    pub require_token: bool,
    /// Largest body of a request, and of an answer that is collected, in bytes.
    pub max_body: usize,
    /// Connections that may be open; further ones wait to be accepted.
    pub max_connections: usize,
    /// Requests that may be under way; further ones are refused.
    pub max_requests: usize,
    /// Milliseconds in which the head of a request has to arrive, idle connections included.
    pub header_timeout_ms: u64,
    /// Milliseconds that a body may take beyond what its size takes at 16 KiB/s.
    pub body_timeout_ms: u64,
    /// Milliseconds of silence after which a stream of events says that it is still there.
    pub alive_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            port: PORT,
            listen: vec![Ipv4Addr::LOCALHOST.into()],
            hosts: Vec::new(),
            token: None,
            require_token: false,
            max_body: 64 * 1024 * 1024,
            max_connections: 1024,
            max_requests: 512,
            header_timeout_ms: 30_000,
            body_timeout_ms: 30_000,
            alive_ms: 15_000,
        }
    }
}

impl Config {
    pub(super) fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.header_timeout_ms.max(1))
    }

    pub(super) fn alive(&self) -> Duration {
        Duration::from_millis(self.alive_ms.max(1))
    }

    pub(super) fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.body_timeout_ms)
    }
}

/// A bearer token, which no log shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(pub(super) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
