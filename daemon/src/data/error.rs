//! What can go wrong with stored and moving content.

use std::{io, path::PathBuf};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
};

/// Why content can't be stored, read or moved.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file can't be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The store failed.
    #[error("{operation} in the store: {reason}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        reason: String,
    },
    /// The disk is full, or nearly so.
    #[error("no room on disk for {needed} bytes: {free} are free, of which {reserve} stay free")]
    DiskFull {
        /// Bytes that were to come.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to stay free.
        reserve: u64,
    },
    /// More than the settings allow.
    #[error("{size} bytes are {excess} more than the quota of {quota} leaves")]
    Quota {
        /// Bytes that were to come.
        size: u64,
        /// Bytes too many.
        excess: u64,
        /// The quota.
        quota: u64,
    },
    /// Nobody who can be reached has it.
    #[error("no node that can be reached has blob {0}")]
    Nowhere(Hash),
    /// Everybody who has it failed.
    #[error("blob {hash} did not come: {why}")]
    GaveUp {
        /// Which.
        hash: Hash,
        /// What each holder did.
        why: String,
    },
    /// Its size is another one.
    #[error("blob {hash} has {size} bytes, not {claimed}")]
    Size {
        /// Which.
        hash: Hash,
        /// How many there are.
        size: u64,
        /// How many there should be.
        claimed: u64,
    },
    /// What is on disk is not what was stored.
    #[error("blob {hash} is damaged on disk: {why}")]
    Damaged {
        /// Which.
        hash: Hash,
        /// How that shows.
        why: String,
    },
    /// The file changed while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
}

impl DataError {
    /// Names what was tried with which file.
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Names what was tried in the store.
    pub(super) fn store<E: std::fmt::Display>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Store { operation, reason: format!("{source:#}") }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::QueueFull,
                _ => ErrorKind::BadRequest,
            },
            Self::Store { .. } | Self::Damaged { .. } => ErrorKind::Internal,
            Self::DiskFull { .. } | Self::Quota { .. } => ErrorKind::QueueFull,
            Self::Nowhere(_) => ErrorKind::NotFound,
            Self::GaveUp { .. } => ErrorKind::PeerLost,
            Self::Size { .. } | Self::Request(_) => ErrorKind::BadRequest,
            Self::Changed(_) => ErrorKind::Conflict,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::DiskFull { .. } => {
                "free some space, or try `rhd blob gc`; what has come is kept, and not sent again"
            }
            Self::Quota { .. } => "raise data.quota, or remove names: see `rhd blob ls`",
            Self::Nowhere(_) => "see `rhd peers`: a node that has it may be down",
            Self::GaveUp { .. } => "try again: what has come is kept, and not sent again",
            Self::Damaged { .. } => "`rhd blob verify` finds and removes what is damaged",
            Self::Changed(_) => "try again when nothing writes to it",
            Self::Store { .. } => "the daemon's log says more: `rhd doctor` shows where it is",
            Self::File { .. } | Self::Size { .. } | Self::Request(_) => "",
        }
    }
}

impl From<DataError> for ErrorInfo {
    fn from(error: DataError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        Self::new(error.kind(), text).hint(error.hint())
    }
}
