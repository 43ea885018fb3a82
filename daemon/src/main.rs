//! `rhd`: one binary for the daemon and its command line.

fn main() {}
