//! Runs functions on any node of the realm, and serves those of this program, from Rust.
//!
//! A program marks what nodes may run, and begins its `main` with one line:
//!
//! ```no_run
//! use rhd_sdk as rhd;
//!
//! /// Squares a number.
//! #[rhd::function]
//! fn square(x: u64) -> u64 {
//!     x * x
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), rhd::ErrorInfo> {
//!     // On a node, this very program serves its functions, and goes no further.
//!     rhd::worker::run_if_worker();
//!
//!     let gpu = rhd::Cluster::named("gpu").await?;
//!     let remote = square::to(&gpu).await?;
//!     assert_eq!(remote.call(7).await?, 49);
//!     assert_eq!(square(7), 49); // here, as ever
//!     Ok(())
//! }
//! ```
//!
//! Iterators and streams are read as they come, and end with their reader; a `Result` fails the call
//! with its error; a plain function that takes long asks whether anybody still waits:
//!
//! ```
//! use rhd_sdk as rhd;
//!
//! #[rhd::function]
//! fn primes(upto: u64) -> impl Iterator<Item = u64> {
//!     (2..upto).filter(|n| (2..*n).all(|d| n % d != 0)).take_while(|_| !rhd::cancelled())
//! }
//!
//! #[rhd::function]
//! async fn lines(path: String) -> Result<usize, std::io::Error> {
//!     Ok(tokio::fs::read_to_string(path).await?.lines().count())
//! }
//!
//! # async fn example(gpu: rhd::Cluster) -> Result<(), rhd::ErrorInfo> {
//! let mut primes = primes::to(&gpu).await?.call(1_000_000).await?;
//! while let Some(prime) = primes.next().await {
//!     if prime? > 100 {
//!         break; // dropping them ends it there, too
//!     }
//! }
//! let lines = lines::deploy().name("line-count").env(&rhd::Env::new().workers(2)).to(&gpu).await?;
//! let run = lines.run("/etc/hosts".into()).await?; // goes on by itself
//! println!("{} lines", run.result(None).await?);
//! # Ok(())
//! # }
//! ```
//!
//! What others host, in Python or in Rust, is called by name, with or without a declaration:
//!
//! ```no_run
//! use futures::TryStreamExt;
//! use rhd_sdk::Client;
//!
//! #[rhd_sdk::function]
//! async fn add(a: i64, b: i64) -> i64;
//!
//! # async fn example() -> Result<(), rhd_sdk::ErrorInfo> {
//! let client = Client::connect(&rhd_sdk::default_home()).await?;
//! assert_eq!(add(&client, 2, 3).await?, 5);
//!
//! let double = client.function::<(i64,), i64>("double");
//! let doubled: Vec<i64> = double.map((0..100).map(|n| (n,)), 16).try_collect().await?;
//! let visits = client.module("visits");
//! let total: i64 = visits.call("add", (doubled[1],)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A function goes where its env's needs are met, or to several nodes at once; objects stay in the
//! memory of a node for whatever runs there:
//!
//! ```no_run
//! # use futures::TryStreamExt;
//! use rhd_sdk as rhd;
//!
//! # #[rhd::function]
//! # fn square(x: u64) -> u64 { x * x }
//! # async fn example(client: rhd::Client) -> Result<(), rhd::ErrorInfo> {
//! let anywhere = square::deploy().env(&rhd::Env::new().need("gpus", 1_000)).place(&client).await?;
//! println!("on {}", anywhere.remote().node().unwrap_or("any node"));
//!
//! let nodes = [client.cluster("box"), client.cluster("gpu")];
//! let everywhere = square::deploy().to_all(&nodes).await?;
//! let squares: Vec<u64> = everywhere.map((0..100).map(|n| (n,)), 16).try_collect().await?;
//!
//! nodes[0].put("squares", &squares).await?;
//! let same: Option<Vec<u64>> = nodes[0].get("squares").await?;
//! let nightly = anywhere.remote().get_or_call("nightly", (7,)).await?; // calls once, by this name
//! # Ok(())
//! # }
//! ```
//!
//! A request has a connection to the daemon of its own while it is under way; small calls that are
//! made meanwhile share one. Connections are kept for later requests. Dropping a call's future, its
//! [`Items`] or its [`Replies`] cancels it.

mod address;
mod args;
mod autostart;
mod blob;
mod calls;
mod client;
mod cluster;
mod connection;
mod deploy;
mod env;
mod folder;
mod function;
mod items;
mod many;
mod module;
mod objects;
mod ordered;
mod replies;
mod requests;
mod run;
mod saved;
mod spread;
mod table;
pub mod worker;

use std::path::{Path, PathBuf};

pub use args::Args;
pub use blob::Blob;
pub use calls::{Invocation, body_of, value_of};
pub use client::Client;
pub use cluster::Cluster;
pub use deploy::{Deploy, Native};
pub use env::Env;
pub use folder::Folder;
pub use function::Function;
pub use items::Items;
pub use module::Module;
pub use objects::Objects;
pub use replies::Replies;
pub use rhd_macros::function;
pub use rhd_protocol::{
    self as protocol,
    call::Codec,
    error::{ErrorInfo, ErrorKind},
    run::{RunInfo, RunStatus},
};
pub use run::Run;
pub use saved::Saved;
pub use spread::Spread;
pub use table::{Batches, Table};
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
