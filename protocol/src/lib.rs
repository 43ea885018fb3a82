//! What rhd's parts say to each other, and what they decide without touching the world.
//!
//! Nothing here opens a socket, reads a file or asks for the time: the manifest lists no crate that
//! could. Time comes in as an argument, random bytes come in as arguments.

pub mod api;
pub mod call;
pub mod code;
pub mod compute;
pub mod data;
pub mod env;
pub mod error;
pub mod folder;
pub mod frame;
pub mod id;
pub mod machine;
pub mod many;
pub mod membership;
pub mod name;
pub mod pieces;
pub mod presence;
pub mod program;
pub mod run;
pub mod service;
pub mod store;
pub mod table;
pub mod ticket;
pub mod wire;
pub mod worker;

/// The version of every message in this crate; raised when a change is not just an added field.
///
/// Structs travel as maps whose unknown fields are ignored, so nodes of one version number
/// understand each other whatever fields they know.
pub const VERSION: u16 = 1;
