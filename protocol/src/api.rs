//! Client and daemon: requests on the Unix socket.
//!
//! A connection carries one request at a time: a [`Request`] frame, then [`Reply`](crate::call::Reply)
//! frames until a final one; or [many calls](crate::many), once that was asked for. Answers of the
//! daemon itself are msgpack bodies of the types below.

mod answer;
mod request;

pub use answer::{
    Deployed, Described, EnvInfo, Invited, Listed, PathKind, Peer, PythonPath, Status,
};
pub use request::{AnyRequest, DeployRequest, LocalRoot, Nested, Request};
