//! Workers: the Python processes that run user code, the envs that they live in, and the lanes that
//! calls take into them.
//!
//! ```text
//! ensure: spec -> build (uv or venv + pip, once) -> process -> control lane -> up
//! call:   queue (fair, bounded) -> lane -> [load the code, once a process] -> call -> replies
//! ```
//!
//! A call holds its lane itself and reads and writes the socket in the caller's own task; the env
//! only hands lanes over. Coroutines share the control lane of their process. A process that dies
//! fails the calls that had started in it, each with its last words, and repeats none.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rhd_protocol::{call::Call, code::Load};

mod build;
mod calls;
mod cancel;
mod config;
mod control;
mod env;
mod handle;
mod lanes;
mod lease;
mod load;
mod mailbox;
mod output;
mod pings;
mod process;
mod program;
mod python;
mod specs;
mod stream;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use handle::{Counts, StartError, Workers, WorkersTasks};
pub use program::targets;
pub use stream::CallStream;

use crate::framed::Body;

/// Code that a call needs, loaded into a process before the first call of its version there.
#[derive(Debug, Clone)]
pub struct LoadUnit {
    /// Canonical name that it is loaded under.
    pub service: String,
    /// Where the code is.
    pub load: Load,
    /// The pickled entry, for code by value.
    pub body: Bytes,
}

/// A call for an env.
#[derive(Debug)]
pub struct Invocation {
    /// The call.
    pub call: Call,
    /// Its body.
    pub body: Body,
    /// The code that it needs.
    pub unit: Option<Arc<LoadUnit>>,
    /// The process that it has to run in, for an instance: there is no other copy of it.
    pub incarnation: Option<u64>,
    /// Whether it runs on the event loop (coroutines and async generators).
    pub on_loop: bool,
    /// Whether it needs no state, and so may run on a replica.
    pub stateless: bool,
    /// Whether it may yield items.
    pub yields: bool,
    /// Dropped once nothing of the call runs any more.
    pub held: Option<Box<dyn Held>>,
}

/// Bodies up to this size may go over a lane that other calls use too, in bytes.
const SMALL: usize = 16 * 1024;

impl Invocation {
    /// Whether it may go over a lane that other calls use too.
    fn may_share(&self) -> bool {
        let small = matches!(&self.body, Body::Inline(body) if body.len() <= SMALL);
        small && !self.on_loop && !self.yields
    }
}

/// What somebody has held for as long as a call runs.
pub trait Held: fmt::Debug + Send + Sync {}

impl<T: fmt::Debug + Send + Sync> Held for T {}

/// Locks a mutex whose data is whole after every panic: it holds plain values only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
