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
    /// No name of this node is this.
    #[error("this node has no data named {0}")]
    NoName(String),
    /// The name has no such version, or has it no longer.
    #[error("{name} has no version {number} here; {}", listed(kept))]
    NoVersion {
        /// Canonical name.
        name: String,
        /// Which was asked for.
        number: u64,
        /// Numbers of those that are there.
        kept: Vec<u64>,
    },
    /// Something has the name.
    #[error("{0} exists already")]
    Taken(String),
    /// It stands for something else.
    #[error("{name} is the name of a {kind}")]
    Kind {
        /// Canonical name.
        name: String,
        /// What it stands for.
        kind: &'static str,
    },
    /// What should say which files a folder had says something else.
    #[error("{hash} is no list of a folder's files: {why}")]
    List {
        /// Which.
        hash: Hash,
        /// How that shows.
        why: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
}

/// Which versions there are, for people: those next to each other as a range.
fn listed(kept: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in kept {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let shown = ranges.iter().take(20).map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first} to {last}"),
    });
    format!("there are {}", shown.collect::<Vec<_>>().join(", "))
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
            Self::Store { .. } | Self::Damaged { .. } | Self::List { .. } => ErrorKind::Internal,
            Self::DiskFull { .. } | Self::Quota { .. } => ErrorKind::QueueFull,
            Self::Nowhere(_) | Self::NoName(_) | Self::NoVersion { .. } => ErrorKind::NotFound,
            Self::GaveUp { .. } => ErrorKind::PeerLost,
            Self::Size { .. } | Self::Request(_) => ErrorKind::BadRequest,
            Self::Changed(_) | Self::Taken(_) | Self::Kind { .. } => ErrorKind::Conflict,
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
            Self::Damaged { .. } | Self::List { .. } => {
                "`rhd blob verify` finds and removes what is damaged"
            }
            Self::Changed(_) => "try again when nothing writes to it",
            Self::NoName(_) => "see `rhd ls` for what has a name, and on which node",
            Self::NoVersion { .. } => "see `rhd history NAME`; older ones go: data.keep_versions",
            Self::Taken(_) | Self::Kind { .. } => {
                "choose another name, or remove what has it with `rhd rm NAME`"
            }
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
