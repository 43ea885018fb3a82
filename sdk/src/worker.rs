//! Serves the functions of this program to a daemon, which started it as the worker of an env.
//!
//! ```text
//! daemon --call lane--> lane     a thread: read a call, run a plain function, write its reply
//!        --shared-----> shared   a few threads that take brief calls in turn, many at once
//!        --control----> control  orders, and calls of async functions on a tokio runtime
//!                          |
//!          registry: every #[function] of the program     services: those that the daemon loaded
//! ```
//!
//! A program needs one line for it, the first of its `main`:
//!
//! ```no_run
//! rhd_sdk::worker::run_if_worker();
//! // What the program does otherwise.
//! ```

mod args;
mod cancel;
mod control;
mod failure;
mod lane;
mod outbox;
mod registry;
mod runtime;
mod services;
mod shared;
mod wire;

use std::io::Write;

pub use cancel::{Cancellation, cancellation, cancelled};

/// What the code that `#[function]` writes refers to.
#[doc(hidden)]
pub mod macros {
    pub use super::{
        args::{Input, arguments, write},
        failure::{failed, refused},
        registry::{Future, Handler, Items, Registered, Stream, items, stream},
    };
    pub use futures;
    pub use inventory;
    pub use rhd_protocol::service::Flavor;
}

/// Whether a daemon started this process as a worker.
pub(crate) fn is_worker() -> bool {
    std::env::var_os(TOKEN).is_some()
}

const WORKER: &str = "RHD_WORKER";
const TOKEN: &str = "RHD_WORKER_TOKEN";
const SOCKET: &str = "RHD_WORKER_SOCKET";

/// Serves and never returns, when a daemon started this process as a worker; else does nothing.
///
/// Call it first in `main`: whatever comes before it runs in every worker, too.
pub fn run_if_worker() {
    let (Some(worker), Some(token), Some(socket)) =
        (std::env::var_os(WORKER), std::env::var_os(TOKEN), std::env::var_os(SOCKET))
    else {
        return;
    };
    forget_token();
    let (worker, token) = (worker.to_string_lossy(), token.to_string_lossy());
    let error = match runtime::Runtime::start(&worker, &token, socket.as_ref()) {
        Ok((runtime, control)) => control::run(&runtime, control),
        Err(error) => error,
    };
    // The last words of a process are part of its daemon's error.
    let _ = writeln!(std::io::stderr(), "rhd worker: {error}");
    // Nobody would ever end what runs here, nor what it started.
    let _ = rustix::process::kill_current_process_group(rustix::process::Signal::KILL);
    #[allow(clippy::disallowed_methods, reason = "nothing of the program's own has run yet")]
    std::process::exit(1);
}

/// Processes that the program starts are no workers.
#[allow(unsafe_code)]
fn forget_token() {
    // SAFETY: std's own lock keeps readers of the environment in Rust apart from this; at the start
    // of `main` no C code reads it on another thread.
    unsafe {
        std::env::remove_var(TOKEN);
        std::env::remove_var(SOCKET);
    }
}
