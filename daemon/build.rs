//! Notices new files of the Python SDK, which is embedded in the daemon.

#![allow(clippy::print_stdout)]

fn main() {
    println!("cargo:rerun-if-changed=../sdk/python/rhd");
}
