//! What can go wrong with folders.

use std::{io, path::PathBuf};

use rhd_protocol::error::{ErrorInfo, ErrorKind};

use crate::stores::StoreError;

/// Why a folder can't be read, written or moved.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file or folder can't be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not there.
    #[error("there is no folder {}", .0.display())]
    Missing(PathBuf),
    /// Something is there already.
    #[error("{} is there already", .0.display())]
    Taken(PathBuf),
    /// It has too much in it.
    #[error("{} has more than {limit} entries", path.display())]
    TooMany {
        /// Which.
        path: PathBuf,
        /// How many it may have.
        limit: usize,
    },
    /// Another node failed at its part.
    #[error("{0}")]
    Peer(ErrorInfo),
    /// A node sent what makes no sense.
    #[error("{0}")]
    Nonsense(String),
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// An object store failed at its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody may ask that.
    #[error("{0}")]
    Denied(String),
}

impl FolderError {
    /// Names what was tried with which file.
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }
}

impl From<FolderError> for ErrorInfo {
    fn from(error: FolderError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let (kind, hint) = match error {
            FolderError::Peer(info) => return info,
            FolderError::Store(error) => return error.into(),
            FolderError::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => (ErrorKind::NotFound, ""),
                io::ErrorKind::PermissionDenied => (ErrorKind::PermissionDenied, ""),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
                    ErrorKind::QueueFull,
                    "free some space and try again: what has come is kept, and not sent again",
                ),
                _ => (ErrorKind::BadRequest, ""),
            },
            FolderError::Missing(_) => {
                (ErrorKind::NotFound, "`rhd folder ls` shows what is in the folder above it")
            }
            FolderError::Taken(_) => (ErrorKind::Conflict, "move it away, or name another place"),
            FolderError::TooMany { .. } => (
                ErrorKind::BadRequest,
                "list what to leave out in .rhdignore, or move the folders in it one by one",
            ),
            FolderError::Nonsense(_) => (
                ErrorKind::Internal,
                "the logs of both nodes say more: `rhd doctor` shows where they are",
            ),
            FolderError::Request(_) => (ErrorKind::BadRequest, ""),
            FolderError::Denied(_) => {
                (ErrorKind::PermissionDenied, "invite it with `rhd invite --role member`")
            }
        };
        Self::new(kind, text).hint(hint)
    }
}
