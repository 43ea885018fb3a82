//! Talks to the local rhd daemon from Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), rhd_sdk::ErrorInfo> {
//! use rhd_sdk::Client;
//!
//! #[rhd_sdk::function]
//! async fn add(a: i64, b: i64) -> i64;
//!
//! let client = Client::connect(&rhd_sdk::default_home()).await?;
//! let sum = add(&client, 2, 3).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each request has a connection to the daemon of its own while it is under way; connections are
//! kept for the next. Dropping [`Replies`] before the last one cancels the request.

mod address;
mod args;
mod autostart;
mod calls;
mod client;
mod cluster;
mod connection;
mod deploy;
mod env;
mod function;
mod items;
mod module;
mod requests;
mod run;
pub mod worker;

use std::path::{Path, PathBuf};

pub use args::Args;
pub use calls::{Invocation, body_of, value_of};
pub use client::{Client, Replies};
pub use cluster::Cluster;
pub use deploy::{Deploy, Native};
pub use env::Env;
pub use function::Function;
pub use items::Items;
pub use module::Module;
pub use rhd_macros::function;
pub use rhd_protocol::{
    self as protocol,
    call::Codec,
    error::{ErrorInfo, ErrorKind},
    run::{RunInfo, RunStatus},
};
pub use run::Run;
pub use worker::{Cancellation, cancellation, cancelled};

/// The name of the daemon's socket in its home.
pub const SOCKET: &str = "rhd.sock";

/// Names the socket of the daemon of `home`.
pub fn socket_path(home: &Path) -> PathBuf {
    home.join(SOCKET)
}

/// The home that `RHD_HOME` names, else `~/.rhd`.
pub fn default_home() -> PathBuf {
    match std::env::var_os("RHD_HOME") {
        Some(home) if !home.is_empty() => home.into(),
        _ => std::env::home_dir().unwrap_or_default().join(".rhd"),
    }
}
