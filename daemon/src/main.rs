//! `rhd`: one binary for the daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    rhd::cli::main()
}
