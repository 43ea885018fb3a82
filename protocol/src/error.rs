//! The one error that reaches users: what failed, where, and what to type next.

use serde::{Deserialize, Serialize};

/// What kind of failure it was: sets the exit code of the CLI and the exception in an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The user's own code raised.
    Remote,
    /// The peer that ran the call went away; the call may or may not have run, and was not repeated.
    PeerLost,
    /// The deadline passed.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// Not allowed.
    PermissionDenied,
    /// No such name, node, method or ticket.
    NotFound,
    /// It exists already, or somebody else holds it.
    Conflict,
    /// The env can't be built or its worker can't start.
    EnvError,
    /// Two sides are of versions that can't work together.
    VersionMismatch,
    /// The target is full.
    QueueFull,
    /// No daemon answers.
    DaemonUnavailable,
    /// The request itself is wrong.
    BadRequest,
    /// A defect of ours, or a kind this version doesn't know.
    #[serde(other)]
    Internal,
}

/// A failure as it travels: in `Reply::Fail`, on the CLI, in an SDK's exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorInfo {
    /// Sets exit code and exception.
    pub kind: ErrorKind,
    /// What failed, in a sentence.
    pub message: String,
    /// What to type next; empty when there is nothing to do.
    #[serde(default)]
    pub hint: String,
    /// The name of the node where it failed.
    #[serde(default)]
    pub node: String,
    /// The call it belongs to.
    #[serde(default)]
    pub call: String,
    /// `module.Class` of the remote exception, when the user's code raised.
    #[serde(default)]
    pub exc_type: String,
    /// The remote traceback as text, when there is one.
    #[serde(default)]
    pub traceback: String,
}

impl ErrorInfo {
    /// A failure of this kind, with no hint yet.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            hint: String::new(),
            node: String::new(),
            call: String::new(),
            exc_type: String::new(),
            traceback: String::new(),
        }
    }

    /// Adds what to type next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Names the node where it happened, unless one is named already.
    pub fn on(mut self, node: &str) -> Self {
        if self.node.is_empty() {
            node.clone_into(&mut self.node);
        }
        self
    }

    /// Names the call it belongs to.
    pub fn call(mut self, call: impl ToString) -> Self {
        self.call = call.to_string();
        self
    }
}
