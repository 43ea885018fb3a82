//! Client and daemon: requests on the Unix socket.
//!
//! A connection carries one request at a time: a [`Request`] frame, then [`Reply`](crate::call::Reply)
//! frames until a final one; or [many calls](crate::many), once that was asked for. Answers of the daemon itself are msgpack bodies of the types below.

use serde::{Deserialize, Serialize};

use crate::{
    call::Call,
    env::EnvSpec,
    id::CallId,
    membership::Role,
    service::{Interface, ServiceAd, ServiceKind},
    worker::Entry,
};

/// A request; the name of its variant is field `op`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Calls a service. Body: as [`Call`] says.
    Call {
        /// The call.
        call: Call,
    },
    /// Puts a function or class on a node. Body: the pickled entry, for [`Entry::Value`]. The answer
    /// is a [`Deployed`].
    Deploy {
        /// What and where.
        deploy: DeployRequest,
    },
    /// How the node is. The answer is a [`Status`].
    Status {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// The nodes of the realm. The answer is a list of [`Peer`].
    Peers {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// Makes a ticket. The answer is [`Invited`].
    Invite {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// What the joining node may do.
        role: Role,
        /// How many nodes may use it.
        uses: u32,
        /// Seconds until it expires.
        expires: u64,
    },
    /// Joins the realm of a ticket. The answer is a [`Status`].
    Join {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The ticket's text.
        ticket: String,
        /// The name that this node would like; none: the one it has.
        name: Option<String>,
    },
    /// The services that are known. The answer is a list of [`Listed`].
    Services {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Only names below this folder.
        prefix: Option<String>,
    },
    /// One service. The answer is a [`Described`].
    Describe {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Its name.
        name: String,
        /// The node that hosts it; none: whoever does.
        node: Option<String>,
    },
    /// Takes a service off its node. The answer is nil.
    Remove {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Its name.
        name: String,
        /// The node; none: every node that hosts it.
        node: Option<String>,
    },
    /// The envs of a node. The answer is a list of [`EnvInfo`].
    Envs {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node; none: this one.
        node: Option<String>,
    },
    /// Builds an env and starts its worker. The answer is an [`EnvInfo`].
    EnvBuild {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node; none: this one.
        node: Option<String>,
        /// The env.
        env: EnvSpec,
    },
    /// Stops an env's worker and removes what was built. The answer is nil.
    EnvRemove {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node; none: this one.
        node: Option<String>,
        /// Key of the env.
        key: String,
    },
    /// The runs that nodes have records of, newest first. The answer is a list of
    /// [`RunInfo`](crate::run::RunInfo).
    Runs {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node; none: every node that can be reached.
        #[serde(default)]
        node: Option<String>,
        /// Only runs of this name.
        #[serde(default)]
        name: Option<String>,
        /// How many at most; 0: as many as an answer holds.
        #[serde(default)]
        limit: u32,
    },
    /// A question about one run; what the answer is, [`RunAsk`](crate::run::RunAsk) says.
    Run {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Its name, or the id of its call.
        run: String,
        /// The node that ran it; none: whoever knows it.
        #[serde(default)]
        node: Option<String>,
        /// What about it.
        ask: crate::run::RunAsk,
    },
    /// Has this connection carry [many calls](crate::many) from now on. The answer is nil.
    Many {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// What a Python needs to import the daemon's own SDK. The answer is a [`PythonPath`].
    Python {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// Ends the daemon after running calls, within its grace period. The answer is nil.
    Shutdown {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
}

impl Request {
    /// The protocol version that the client speaks.
    pub fn version(&self) -> u16 {
        match self {
            Self::Call { call } => call.v,
            Self::Deploy { deploy } => deploy.v,
            Self::Status { v }
            | Self::Peers { v }
            | Self::Invite { v, .. }
            | Self::Join { v, .. }
            | Self::Services { v, .. }
            | Self::Describe { v, .. }
            | Self::Remove { v, .. }
            | Self::Envs { v, .. }
            | Self::EnvBuild { v, .. }
            | Self::EnvRemove { v, .. }
            | Self::Runs { v, .. }
            | Self::Run { v, .. }
            | Self::Many { v }
            | Self::Python { v }
            | Self::Shutdown { v } => *v,
        }
    }
}

/// What every request has, whatever its version: enough to answer a newer client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AnyRequest {
    /// Name of the operation.
    #[serde(default)]
    pub op: String,
    /// The client's version, on all but calls and deployments.
    #[serde(default)]
    pub v: u16,
    /// The call, where it is one.
    #[serde(default)]
    pub call: Nested,
    /// The deployment, where it is one.
    #[serde(default)]
    pub deploy: Nested,
}

/// The version inside a call or deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Nested {
    /// The client's version.
    #[serde(default)]
    pub v: u16,
}

impl AnyRequest {
    /// The protocol version that the client speaks; 0 when it says none.
    pub fn version(&self) -> u16 {
        self.v.max(self.call.v).max(self.deploy.v)
    }
}

/// A project folder on the client's own machine, for the daemon to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRoot {
    /// Absolute path.
    pub path: String,
    /// Folders below it to put on `sys.path` (`""` is the root itself).
    pub sys_path: Vec<String>,
    /// Only these files and folders below it; empty: everything that is not ignored.
    #[serde(default)]
    pub only: Vec<String>,
}

/// Puts a function or class on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployRequest {
    /// [`crate::VERSION`] of the writer.
    pub v: u16,
    /// Names it in logs and errors.
    pub id: CallId,
    /// Name or id of the node; none: this one.
    #[serde(default)]
    pub node: Option<String>,
    /// Whether the daemon chooses the node by what the env needs; then `node` is none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub place: bool,
    /// Its name; a bare one is put into the user's folder.
    pub name: String,
    /// Where it lives.
    #[serde(default)]
    pub env: EnvSpec,
    /// Project folders, the entry's own first.
    #[serde(default)]
    pub roots: Vec<LocalRoot>,
    /// The function or class.
    pub entry: Entry,
    /// A program on the client's own machine that becomes the env's: for [`Entry::Native`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
}

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
    pub offer: crate::compute::Offer,
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
    pub service: crate::service::Service,
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
