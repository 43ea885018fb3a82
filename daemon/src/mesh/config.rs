//! The mesh's section of the settings.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How fast a connection sends when packets get lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 9002.
    NewReno,
    /// By measured bandwidth rather than by loss.
    Bbr,
}

/// Settings of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// UDP port; 0: the one used before, else any.
    pub port: u16,
    /// Addresses to listen on; none: all.
    pub listen: Vec<IpAddr>,
    /// Whether peers are looked for, and answered, on the local network.
    pub mdns: bool,
    /// Whether this node relays for peers of its realm that can't reach each other.
    pub relay: bool,
    /// Congestion control.
    pub congestion: Congestion,
    /// Peers that this node keeps in mind and linked.
    pub max_peers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            listen: Vec::new(),
            mdns: true,
            relay: true,
            congestion: Congestion::default(),
            max_peers: 256,
        }
    }
}
