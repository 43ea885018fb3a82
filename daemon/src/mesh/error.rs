//! What can go wrong in the mesh.

use std::{io, net::SocketAddr};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
};

use super::{durable::DurableError, identity::IdentityError, tls::TlsError};

/// Why the mesh can't start, or a stream can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The node's identity can't be loaded.
    #[error("load the node's identity")]
    Identity(#[from] IdentityError),
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The UDP port can't be bound.
    #[error("bind UDP port {port}")]
    Bind {
        /// Which.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// QUIC refuses its settings.
    #[error("configure QUIC: {0}")]
    Quic(String),
    /// The control plane can't start.
    #[error("start the control plane: {0}")]
    Swarm(String),
    /// Nobody fitting answers at an address.
    #[error("{addr}: {reason}")]
    Unreachable {
        /// Where.
        addr: SocketAddr,
        /// Why.
        reason: String,
    },
    /// No link to the peer, and none could be made in time.
    #[error("no connection to {peer}", peer = peer.short())]
    NoLink {
        /// To whom.
        peer: NodeId,
    },
    /// The link broke while a stream was being opened.
    #[error("open a stream to {peer}", peer = peer.short())]
    Open {
        /// To whom.
        peer: NodeId,
        /// Why.
        source: io::Error,
    },
    /// The mesh is shutting down.
    #[error("the mesh is shutting down")]
    Stopped,
}

impl From<MeshError> for ErrorInfo {
    fn from(error: MeshError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        match error {
            MeshError::Unreachable { .. } | MeshError::NoLink { .. } | MeshError::Open { .. } => {
                Self::new(ErrorKind::PeerLost, message).hint("rhd peers")
            }
            MeshError::Bind { .. } => Self::new(ErrorKind::Conflict, message)
                .hint("choose another port in the settings, or 0 for any"),
            MeshError::Stopped => Self::new(ErrorKind::DaemonUnavailable, message).hint("rhd up"),
            _ => Self::new(ErrorKind::Internal, message).hint("rhd doctor"),
        }
    }
}
