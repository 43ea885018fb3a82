//! Compiled Rust functions: a program sends itself to a node and is called there.

mod calls;
mod deploys;
mod objects;
mod places;
mod python;

use std::{path::Path, process::Command};

use rhd_tests::{Node, Outcome};

/// The program of `tests/programs`.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_rhd-test-worker");

/// Runs a program with a node's home, as somebody would at its terminal.
pub(crate) fn run(program: impl AsRef<Path>, from: &Node, args: &[&str]) -> Outcome {
    let mut command = Command::new(program.as_ref());
    command.args(args).env("RHD_HOME", from.home()).env("RHD_AUTOSTART", "0");
    Outcome::of(command)
}

/// A node with the program's functions.
pub(crate) fn node(flags: &[&str]) -> Node {
    let node = Node::prepare("box").flags(flags).up();
    run(PROGRAM, &node, &["box"]).ok();
    node
}
