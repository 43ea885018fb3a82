//! Runs: what became of a call, kept by the node that executed it.
//!
//! Every call leaves a receipt: its host journals the id before the call starts and again when it
//! ends. A call that asks for it ([`RunOptions`](crate::call::RunOptions)) leaves a record besides: inputs, output, result.

use serde::{Deserialize, Serialize};

use crate::{
    call::{Codec, Verb},
    error::ErrorInfo,
    folder::Place,
    id::CallId,
};

/// How far a call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunStatus {
    /// It never ran, and never will under this id.
    NotStarted,
    /// It waits for a lane, or runs.
    Running,
    /// It returned.
    Completed,
    /// It was cancelled, or its deadline passed.
    Cancelled,
    /// It raised, or its worker died.
    Error,
    /// Its host went down before it ended: it may have run in part, and nobody knows how far.
    Interrupted,
}

impl RunStatus {
    /// Whether nothing about it will change.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }
}

/// A run as its host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunInfo {
    /// The call.
    pub id: CallId,
    /// What people call it, `/user/x`; empty when nobody named it.
    #[serde(default)]
    pub name: String,
    /// How far it got.
    pub status: RunStatus,
    /// Name of the node that runs or ran it; empty when none did.
    #[serde(default)]
    pub host: String,
    /// Name of the node that the call came from.
    #[serde(default)]
    pub caller: String,
    /// Canonical name of the function, class or instance.
    #[serde(default)]
    pub service: String,
    /// What was done with it.
    #[serde(default)]
    pub verb: Verb,
    /// Method or attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Unix time in milliseconds at which the host journaled it, by the host's clock; 0: never.
    #[serde(default)]
    pub started_ms: u64,
    /// The same of its end; 0: it has not ended.
    #[serde(default)]
    pub ended_ms: u64,
    /// Whether inputs, output and result were kept, or are being kept.
    #[serde(default)]
    pub recorded: bool,
    /// Bytes of its result, where that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
}

/// A question about one run, or an order to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum RunAsk {
    /// How far it got. The answer is a [`RunInfo`]; one of a call that no node knows has the status
    /// [`RunStatus::NotStarted`], unless a node that might know it can't be reached or has forgotten.
    Info {
        /// How long ago the caller made the call, in milliseconds; none: unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age_ms: Option<u64>,
    },
    /// Its arguments, as they came: a final reply with the codec and parts of the call.
    Inputs,
    /// What it wrote, as log replies; the answer is a [`RunInfo`].
    Logs {
        /// Whether to go on until it ends.
        #[serde(default)]
        follow: bool,
    },
    /// Its replies from the start, as its caller would have had them, waiting for its end.
    Attach {
        /// Whether what it wrote is wanted too.
        #[serde(default)]
        logs: bool,
        /// Milliseconds to wait for the end; none: as long as it takes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
    },
    /// Cancels it and waits for that; the answer is a [`RunInfo`].
    Cancel,
    /// Forgets what was kept of it; fails while it runs. The answer is nil.
    Remove,
    /// Keeps a copy of its record, as it has ended on the node that asks. The answer is nil.
    Keep {
        /// The record, as a folder of that node.
        from: Place,
    },
}

/// The header of what was kept of a payload: arguments, an item or a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its encoding.
    pub codec: Codec,
    /// Lengths in bytes of its parts.
    pub parts: Vec<u64>,
}
