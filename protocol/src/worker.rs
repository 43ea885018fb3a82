//! Daemon and worker.
//!
//! A worker process opens connections to its daemon's worker socket. Each starts with a [`Hello`].
//! A `call` lane then carries one call at a time: the daemon writes a [`Call`](crate::call::Call),
//! the worker answers with [`Reply`](crate::call::Reply) frames until a final one. The one `control`
//! lane carries [`Control`] frames to the worker, and the replies of coroutines and the answers to
//! pings from it. A `shared` lane, opened when the daemon asks for it, carries many short calls at
//! once, so that they cost few system calls and wake-ups: [`Control::Call`] frames to the worker,
//! whose threads take them in turn, and replies in any order from it.

use serde::{Deserialize, Serialize};

use crate::{call::Call, id::CallId, service::Interface};

/// What a connection of a worker is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// One call at a time, on a thread of its own.
    Call,
    /// Orders to the process, and all calls of coroutines.
    Control,
    /// Short calls, many at once; at most one such lane a process.
    Shared,
}

/// The first frame of a worker's connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::VERSION`] of the writer.
    pub v: u16,
    /// Id of the worker, from its environment (`RHD_WORKER`).
    pub worker: String,
    /// Secret of this worker process, from its environment (`RHD_WORKER_TOKEN`).
    pub token: String,
    /// What the connection is for.
    pub lane: Lane,
    /// The interpreter, as `3.11.7`.
    #[serde(default)]
    pub python: String,
    /// Whether payloads of calls may come [beside their frames](crate::frame).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
}

/// What a daemon writes on the control lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Control {
    /// Opens this many further call lanes.
    Lanes {
        /// How many.
        count: u32,
    },
    /// Runs a coroutine or async generator on the event loop; on the shared lane, any call on a
    /// thread. The body is the call's.
    Call {
        /// The call.
        call: Box<Call>,
    },
    /// Cancels a call, on whichever lane it runs.
    Cancel {
        /// Which.
        id: CallId,
    },
    /// Allows this many further items of a call on a lane that others use too (the first [`ITEM_CREDIT`] are free).
    Credit {
        /// Which.
        id: CallId,
        /// How many.
        items: u32,
    },
    /// Has this many more threads take calls off the shared lane, which is opened if there is none.
    /// Sent again when calls wait there and none ends: those that run are not short.
    Share {
        /// How many.
        threads: u32,
    },
    /// Asks whether the process still takes orders: answered at once with an empty
    /// [`Done`](crate::call::Reply::Done) of this id, unless native code holds the interpreter.
    Ping {
        /// Of no call.
        id: CallId,
    },
}

/// Items of one call on the control or the shared lane that may be under way before the first [`Control::Credit`].
pub const ITEM_CREDIT: u32 = 16;

/// The result of a load, as msgpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// What callers may do.
    pub interface: Interface,
    /// Whether it is a class.
    pub class: bool,
}
