//! What goes wrong with content, and how users are told.

use std::{io, path::PathBuf};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
};

use crate::framed::FramedError;

/// A failure of the blobs room.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The file system refused.
    #[error("{what} {}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not what its hash says.
    #[error("content of {} does not match its hash", .0.short())]
    WrongContent(Hash),
    /// There is more or less of it than was announced.
    #[error("{} has another length than announced", .0.short())]
    WrongLength(Hash),
    /// It was announced as longer than this node takes.
    #[error("{size} bytes announced; this node takes at most {limit}")]
    TooLarge {
        /// As announced.
        size: u64,
        /// As set.
        limit: u64,
    },
    /// Not in the store.
    #[error("{} is not in the store", .0.short())]
    Missing(Hash),
    /// A manifest that would write outside its folder.
    #[error("the list of files has a path that leaves its folder, or too many files")]
    UnsafeManifest,
    /// A file that kept changing.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The other side asked for, or sent, what was not agreed.
    #[error("the peer broke the transfer's rules: {0}")]
    Protocol(&'static str),
    /// The stream broke, or carried no frames.
    #[error("transfer of files broke")]
    Stream(#[from] FramedError),
    /// A thread of this room ended early.
    #[error("a file operation was aborted")]
    Aborted,
    /// Ready for the user as it is.
    #[error(transparent)]
    Told(#[from] ErrorInfo),
}

impl BlobError {
    /// Names the operation and the path of an I/O error.
    pub(super) fn io(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }
}

impl From<BlobError> for ErrorInfo {
    fn from(error: BlobError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        match error {
            BlobError::Told(info) => info,
            BlobError::Io { ref source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::new(ErrorKind::Internal, message).hint("free some disk space and repeat")
                }
                io::ErrorKind::PermissionDenied => Self::new(ErrorKind::BadRequest, message)
                    .hint("make it readable, or list it in .rhdignore"),
                _ => Self::new(ErrorKind::Internal, message),
            },
            BlobError::WrongContent(_) | BlobError::WrongLength(_) | BlobError::Changed(_) => {
                Self::new(ErrorKind::Conflict, message)
                    .hint("a file changed on the way; repeat the command")
            }
            BlobError::TooLarge { .. } => Self::new(ErrorKind::BadRequest, message)
                .hint("raise blobs.max_incoming_bytes on that node, or ship less (.rhdignore)"),
            BlobError::UnsafeManifest | BlobError::Protocol(_) => {
                Self::new(ErrorKind::BadRequest, message)
            }
            BlobError::Stream(_) => Self::new(ErrorKind::PeerLost, message)
                .hint("nothing was deployed; repeat the command"),
            BlobError::Missing(_) | BlobError::Aborted => {
                Self::new(ErrorKind::Internal, message).hint("repeat the command")
            }
        }
    }
}
