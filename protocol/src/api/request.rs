//! What clients ask.

use serde::{Deserialize, Serialize};

use crate::{
    call::Call, code::Entry, data::DataAsk, env::EnvSpec, folder::FolderAsk, id::CallId,
    membership::Role, run::RunAsk, table::TableAsk,
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
    /// is a [`Deployed`](super::Deployed).
    Deploy {
        /// What and where.
        deploy: DeployRequest,
    },
    /// How the node is. The answer is a [`Status`](super::Status).
    Status {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// The nodes of the realm. The answer is a list of [`Peer`](super::Peer).
    Peers {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// Makes a ticket. The answer is [`Invited`](super::Invited).
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
    /// Joins the realm of a ticket. The answer is a [`Status`](super::Status).
    Join {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The ticket's text.
        ticket: String,
        /// The name that this node would like; none: the one it has.
        name: Option<String>,
    },
    /// The services that are known. The answer is a list of [`Listed`](super::Listed).
    Services {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Only names below this folder.
        prefix: Option<String>,
    },
    /// One service. The answer is a [`Described`](super::Described).
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
    /// The envs of a node. The answer is a list of [`EnvInfo`](super::EnvInfo).
    Envs {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node; none: this one.
        node: Option<String>,
    },
    /// Builds an env and starts its worker. The answer is an [`EnvInfo`](super::EnvInfo).
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
    /// A question about one run; what the answer is, [`RunAsk`] says.
    Run {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Its name, or the id of its call.
        run: String,
        /// The node that ran it; none: whoever knows it.
        #[serde(default)]
        node: Option<String>,
        /// What about it.
        ask: RunAsk,
    },
    /// A question about data, or something to do with it; what the body and the answer are,
    /// [`DataAsk`] says.
    Data {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node that does it; none: this one.
        #[serde(default)]
        node: Option<String>,
        /// What.
        ask: DataAsk,
    },
    /// A question about folders, or something to do with one; what the answer is, [`FolderAsk`] says.
    Folder {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node that does it; none: this one.
        #[serde(default)]
        node: Option<String>,
        /// What.
        ask: FolderAsk,
    },
    /// A question about tables, or something to do with one; what the answer is, [`TableAsk`] says.
    Table {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// The node that does it; none: this one.
        #[serde(default)]
        node: Option<String>,
        /// What.
        ask: TableAsk,
    },
    /// Has this connection carry [many calls](crate::many) from now on. The answer is nil.
    Many {
        /// [`crate::VERSION`] of the writer.
        v: u16,
    },
    /// What a Python needs to import the daemon's own SDK. The answer is a [`PythonPath`](super::PythonPath).
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
            | Self::Data { v, .. }
            | Self::Folder { v, .. }
            | Self::Table { v, .. }
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
