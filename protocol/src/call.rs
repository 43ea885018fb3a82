//! A call and its replies: the same frames on every hop, client to daemon to daemon to worker.
//!
//! A caller opens a stream (or takes a connection), writes one [`Call`], and reads [`Reply`] frames
//! until one [is final](Reply::is_final). Closing the stream before that cancels the call.

use serde::{Deserialize, Serialize};

use crate::{
    code::Load,
    error::ErrorInfo,
    id::{CallId, Hash},
};

/// Parts of at least this size may stay with their host for a while, in bytes.
pub const KEPT_PART: u64 = 4 << 20;
/// How many parts of a call may be said to be with its host already.
pub const MAX_AGAIN: usize = 64;

/// What the call does to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Calls the function, or the method named by `method`.
    #[default]
    Call,
    /// Constructs an instance of a class; `instance` names it.
    New,
    /// Reads the attribute or property named by `method`.
    Get,
    /// Sets the attribute named by `method` to the one argument.
    Set,
    /// Drops an instance.
    Drop,
    /// Loads code into the worker; only a daemon sends it, with `load` set.
    Load,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// cloudpickle, protocol 5; parts after the first are its out-of-band buffers.
    #[default]
    Pickle,
    /// Plain data, language-neutral.
    Msgpack,
    /// Text for people and HTTP.
    Json,
}

/// The header of a call. The body is `(args, kwargs)` in `codec`, as the concatenation of `parts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// [`crate::VERSION`] of the writer.
    pub v: u16,
    /// Chosen by the client.
    pub id: CallId,
    /// Name or id of the node that must run it; none: whoever hosts the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Canonical name of a function, class or instance.
    pub service: String,
    /// What to do with it.
    #[serde(default)]
    pub verb: Verb,
    /// Method or attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Canonical name of the instance to construct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Encoding of the body, and of the result.
    #[serde(default)]
    pub codec: Codec,
    /// Lengths in bytes of the body's parts.
    #[serde(default)]
    pub parts: Vec<u64>,
    /// Milliseconds that the call may take from now on; none: no deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Whether stdout and stderr are wanted back.
    #[serde(default)]
    pub logs: bool,
    /// Name of the node that the call came from; set by the daemon there.
    #[serde(default)]
    pub caller: String,
    /// Tells apart the programs of that node; set by the daemon there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub client: u32,
    /// What to load, for [`Verb::Load`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Leaves a record on the host; none: a receipt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunOptions>,
    /// Whether the call goes on when its caller is lost (not when it cancels), with its replies kept
    /// for whoever attaches.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Whether payloads of replies may come [beside their frames](crate::frame).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// The trace that it belongs to, as the W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Parts that should be with the host already, by index; at most [`MAX_AGAIN`]. The payload, which
    /// is beside the frame, waits until the host has said [which of them it lacks](Ready::Lacks), and
    /// comes without the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Again>,
}

/// A part of a call that was part of another call to the same host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Again {
    /// Which part of this call; of at least [`KEPT_PART`] bytes.
    pub part: u32,
    /// The other call.
    pub call: CallId,
    /// Which part of that.
    pub of: u32,
    /// Of its bytes; the host takes nothing that it has not held against this.
    pub hash: Hash,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks this way")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Call {
    /// A call of a function without arguments, that wants nothing special.
    pub fn new(id: CallId, service: impl Into<String>) -> Self {
        Self {
            v: crate::VERSION,
            id,
            node: None,
            service: service.into(),
            verb: Verb::Call,
            method: None,
            instance: None,
            codec: Codec::default(),
            parts: Vec::new(),
            timeout_ms: None,
            logs: false,
            caller: String::new(),
            client: 0,
            load: None,
            run: None,
            keep: false,
            beside: false,
            trace: None,
            again: Vec::new(),
        }
    }
}

/// What a call asks of its host's records.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunOptions {
    /// What people call it; its caller's daemon completes a bare name by the folder that it is in.
    /// Empty: known by its call id alone.
    #[serde(default)]
    pub name: String,
    /// Whether the answer is a [`RunInfo`](crate::run::RunInfo) as soon as the host has journaled the call, rather than
    /// its replies. Either way the call outlives its caller and is ended only by a cancellation.
    #[serde(default)]
    pub detach: bool,
    /// Whether a run of this name that is under way or was completed answers in place of the call,
    /// which then does not run. Of several such calls at once, one runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub get: bool,
}

/// What a host says of a call that [names parts](Call::again), before its payload is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Ready {
    /// It takes the call, and lacks these of the parts that were named.
    Lacks {
        /// Their indices.
        parts: Vec<u32>,
    },
    /// It does not take it: [`Reply::Fail`].
    Fail {
        /// Everything that the user should know.
        error: ErrorInfo,
    },
}

/// A reply to a call or to any request of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Reply {
    /// Output of the call; the body is the bytes as written.
    Log {
        /// Which call, on connections that carry several.
        id: Option<CallId>,
        /// 1 stdout, 2 stderr.
        fd: u8,
    },
    /// One item of a generator.
    Item {
        /// Which call, on connections that carry several.
        id: Option<CallId>,
        /// Encoding of the body.
        #[serde(default)]
        codec: Codec,
        /// Lengths of the body's parts.
        #[serde(default)]
        parts: Vec<u64>,
    },
    /// What is being done on the way (building an env, sending files); for people.
    Progress {
        /// One line.
        text: String,
        /// How far it is, where content moves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved: Option<crate::data::Moved>,
    },
    /// The result. Final.
    Done {
        /// Which call, on connections that carry several.
        id: Option<CallId>,
        /// Encoding of the body.
        #[serde(default)]
        codec: Codec,
        /// Lengths of the body's parts.
        #[serde(default)]
        parts: Vec<u64>,
    },
    /// It failed; the body is the pickled exception, or empty. Final.
    Fail {
        /// Which call, on connections that carry several.
        id: Option<CallId>,
        /// Everything that the user should know.
        error: ErrorInfo,
    },
}

impl Reply {
    /// Whether no further reply follows.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Fail { .. })
    }

    /// The call it belongs to, where it says so.
    pub fn id(&self) -> Option<CallId> {
        match self {
            Self::Log { id, .. }
            | Self::Item { id, .. }
            | Self::Done { id, .. }
            | Self::Fail { id, .. } => *id,
            Self::Progress { .. } => None,
        }
    }

    /// The same reply as one to this call.
    pub fn with_id(mut self, call: CallId) -> Self {
        match &mut self {
            Self::Log { id, .. }
            | Self::Item { id, .. }
            | Self::Done { id, .. }
            | Self::Fail { id, .. } => *id = Some(call),
            Self::Progress { .. } => {}
        }
        self
    }

    /// A result in one part of msgpack, as all answers of a daemon itself are.
    pub fn done(body_len: usize) -> Self {
        Self::Done { id: None, codec: Codec::Msgpack, parts: vec![body_len as u64] }
    }

    /// A failure that belongs to the only call of its stream.
    pub fn fail(error: ErrorInfo) -> Self {
        Self::Fail { id: None, error }
    }
}

/// As much of a reply as it takes to pass it on, and read faster than a whole one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Glance {
    /// What it is.
    pub t: Kind,
    /// Which call.
    #[serde(default)]
    pub id: Option<CallId>,
}

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`Reply::Done`].
    Done,
    /// [`Reply::Fail`].
    Fail,
    /// One that others follow.
    #[serde(other)]
    Other,
}

impl Kind {
    /// Whether no further reply follows.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Other)
    }
}
