//! What can go wrong with tables.

use std::{
    io,
    path::{Path, PathBuf},
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};

use crate::stores::StoreError;

/// Why a table can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
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
    #[error("there is no table {}", .0.display())]
    Missing(PathBuf),
    /// A file that is no Parquet, or a broken one.
    #[error("{} can't be read as Parquet: {why}", path.display())]
    Broken {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file whose column can't be one with that of the others.
    #[error("{}: column {column:?} {why}", path.display())]
    Drift {
        /// Which file.
        path: PathBuf,
        /// Which column.
        column: String,
        /// What it is, and what it is elsewhere.
        why: String,
    },
    /// No such column.
    #[error("there is no column {column:?} in {}", path.display())]
    NoColumn {
        /// Which table.
        path: PathBuf,
        /// Which column.
        column: String,
        /// What there is.
        known: String,
    },
    /// A folder that holds something else too.
    #[error("{} is no part of a table", .0.display())]
    NoTable(PathBuf),
    /// It is more than is taken.
    #[error("{0}")]
    TooMuch(String),
    /// The request makes no sense.
    #[error("{0}")]
    Request(String),
    /// An object store failed at its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody reads it any more.
    #[error("nobody reads it any more")]
    Gone,
    /// A defect of ours.
    #[error("{0}")]
    Defect(String),
}

impl TableError {
    /// Names what was tried with which file.
    pub(super) fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// Names the file that a decoder can't read.
    pub(super) fn broken(path: &Path) -> impl Fn(&dyn std::fmt::Display) -> Self + '_ {
        |why| Self::Broken { path: path.to_owned(), why: why.to_string() }
    }
}

impl From<TableError> for ErrorInfo {
    fn from(error: TableError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        let mut hint = String::new();
        let kind = match error {
            TableError::Store(error) => return error.into(),
            TableError::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::QueueFull,
                _ => ErrorKind::BadRequest,
            },
            TableError::Missing(_) => {
                hint = "`rhd folder ls` shows what is in the folder above it".into();
                ErrorKind::NotFound
            }
            TableError::Broken { .. } => {
                hint = "write that file again, or take it out of the table's folder".into();
                ErrorKind::BadRequest
            }
            TableError::Drift { .. } => {
                hint = "write that file again with the type that the column has elsewhere".into();
                ErrorKind::BadRequest
            }
            TableError::NoColumn { known, .. } => {
                hint = format!("there are {known}");
                ErrorKind::NotFound
            }
            TableError::NoTable(_) => {
                hint = "name a folder that holds nothing but the table".into();
                ErrorKind::Conflict
            }
            TableError::TooMuch(_) => ErrorKind::QueueFull,
            TableError::Request(_) => ErrorKind::BadRequest,
            TableError::Gone => ErrorKind::Cancelled,
            TableError::Defect(_) => ErrorKind::Internal,
        };
        Self::new(kind, text).hint(hint)
    }
}
