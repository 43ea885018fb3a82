//! What `tests/bench/run` needs in Rust: the floors under a call, and callers that cost little.
//!
//! A driver reads one JSON request a line and answers each with one line; an echo serves a driver
//! of another process and ends when its standard input does.

mod bulk;
mod callers;
mod driver;
mod floors;
mod quic;
mod tally;
mod unix;

use std::{io::Write as _, path::PathBuf};

use clap::Parser;

/// What a step may fail with; the harness shows it as it is.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
enum Command {
    /// Measures the floors: an echo over QUIC and one over a Unix socket, each in another process
    Floors,
    /// Calls functions through the daemon of a home
    Callers {
        /// The daemon's home
        #[arg(long)]
        home: PathBuf,
        /// The node that runs the functions of this program
        #[arg(long)]
        far: String,
    },
    /// Sends bytes over QUIC to another process; says how many milliseconds they took
    Bulk {
        /// How many MiB
        mib: usize,
    },
    /// Echoes every stream of every QUIC connection; says `PORT CERTIFICATE` first
    EchoQuic,
    /// Echoes every message of every connection to this socket
    EchoUnix {
        /// Where to listen
        path: PathBuf,
    },
}

#[tokio::main]
async fn main() -> Outcome<()> {
    rhd_sdk::worker::run_if_worker();
    match Command::parse() {
        Command::Floors => driver::serve(floors::Floors::start().await?).await,
        Command::Callers { home, far } => {
            driver::serve(callers::Callers::attach(&home, far).await?).await
        }
        Command::Bulk { mib } => {
            let took = quic::Peer::start().await?.bulk(mib).await?;
            Ok(writeln!(std::io::stdout(), "{}", took.as_secs_f64() * 1e3)?)
        }
        Command::EchoQuic => quic::echo().await,
        Command::EchoUnix { path } => unix::echo(&path),
    }
}
