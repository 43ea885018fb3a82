//! Real nodes for tests: every one in a home and a process of its own.
//!
//! ```no_run
//! use rhd_tests::Mesh;
//! let mesh = Mesh::of(3);
//! let listed = mesh[1].rhd(&["ls", "--json"]).ok();
//! ```
//!
//! Verbs settle: they return when what they ask for is so, and panic with the node's log when it
//! does not come to be in time. Dropping a node ends the processes that it started, and no others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod binary;
mod mesh;
mod node;
mod outcome;
mod settle;

pub use binary::binary;
pub use mesh::Mesh;
pub use node::{Node, Unstarted};
pub use outcome::{Outcome, command, rhd};
pub use settle::{DEADLINE, until};
