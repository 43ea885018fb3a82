//! What the daemon answers.

use serde::{Deserialize, Serialize};

use crate::{
    compute::Offer,
    env::EnvSpec,
    membership::Role,
    service::{Interface, Service, ServiceAd, ServiceKind},
};

/// A deployment that is ready to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// Canonical name.
    pub name: String,
    /// What it is.
    pub kind: ServiceKind,
    /// Name of the node.
    pub node: String,
    /// Id of the node.
    pub node_id: String,
    /// Key of the env.
    pub env: String,
    /// Hash of code and entry.
    pub version: String,
    /// What callers may do.
    pub interface: Interface,
    /// Files that had to be sent.
    pub files_sent: u64,
    /// Bytes that had to be sent.
    pub bytes_sent: u64,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its realm.
    pub realm: String,
    /// Its role.
    pub role: Role,
    /// Whether it founded the realm.
    pub founder: bool,
    /// The user whose folder bare names go to.
    pub user: String,
    /// Software version.
    pub version: String,
    /// [`crate::VERSION`].
    pub protocol: u16,
    /// Process id.
    pub pid: u32,
    /// State directory.
    pub home: String,
    /// Addresses it listens on.
    pub listen: Vec<String>,
    /// Seconds since it started.
    pub uptime: u64,
    /// Peers with a link.
    pub peers: u32,
    /// Calls that run or wait here.
    pub calls: u32,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Envs with a running worker.
    pub workers: u32,
    /// Whether payloads of calls may come [beside their frames](crate::frame).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// URL of its HTTP endpoint, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web: Option<String>,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathKind {
    /// This node itself.
    Here,
    /// A QUIC connection.
    Direct,
    /// Over another node.
    Relayed,
    /// Known, not connected.
    None,
}

/// A node of the realm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its role.
    pub role: Role,
    /// How it is reached.
    pub path: PathKind,
    /// Round trip in microseconds, where measured.
    pub rtt_us: Option<u64>,
    /// Where.
    pub addr: Option<String>,
    /// Its software version.
    pub version: String,
    /// Calls that run or wait there.
    pub load: u32,
    /// Services that it hosts.
    pub services: u32,
    /// What it has to give.
    #[serde(default, skip_serializing_if = "crate::compute::Offer::is_empty")]
    pub offer: Offer,
    /// Whether it has gone: it said good-bye, or has not been heard of for longer than presence
    /// lasts. One that can't be reached and has not may be back in a moment.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// A fresh ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// Its text.
    pub ticket: String,
}

/// A service and a host of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Name of the node.
    pub node: String,
    /// What it hosts.
    pub service: ServiceAd,
}

/// A service with all that callers may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described {
    /// Name of the node.
    pub node: String,
    /// Id of the node.
    pub node_id: String,
    /// The service.
    pub service: Service,
}

/// How an env is on its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvInfo {
    /// Its key.
    pub key: String,
    /// Its spec.
    pub spec: EnvSpec,
    /// Version of its interpreter, once built.
    pub python: String,
    /// Where it was built.
    pub dir: String,
    /// Whether a worker runs.
    pub running: bool,
    /// Process id of the worker.
    pub pid: Option<u32>,
    /// Services that live in it.
    pub services: u32,
}

/// What a Python needs to import the daemon's own SDK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonPath {
    /// The node's interpreter.
    pub python: String,
    /// For `PYTHONPATH`, first first.
    pub path: Vec<String>,
}
