//! What can go wrong with object stores.

use rhd_protocol::error::{ErrorInfo, ErrorKind};

/// Why something can't be done in an object store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The text names nothing in a store.
    #[error("{0}")]
    Url(String),
    /// The store did not do it.
    #[error("{operation} {what}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// With which object, as URL.
        what: String,
        /// Why not.
        source: Box<object_store::Error>,
    },
    /// What is read is not what was listed any more.
    #[error("{0} changed while it was read")]
    Changed(String),
}

impl StoreError {
    /// Whether there is no such object, or no such bucket.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Failed { source, .. } if Class::of(source) == Class::Missing)
    }

    /// Whether it is another object now.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Changed(_))
    }
}

impl From<StoreError> for ErrorInfo {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let source = match error {
            StoreError::Url(_) => {
                return Self::new(ErrorKind::BadRequest, text)
                    .hint("name it as s3://bucket/path, gs://bucket/path or az://container/path");
            }
            StoreError::Changed(_) => {
                return Self::new(ErrorKind::Conflict, text).hint("try again");
            }
            StoreError::Failed { source, .. } => source,
        };
        let why = said(&source);
        let (kind, hint) = match Class::of(&source) {
            Class::Missing if is_of_bucket(&why) => {
                (ErrorKind::NotFound, "make the bucket first, with the tools of the store")
            }
            Class::Missing => (ErrorKind::NotFound, "`rhd folder ls URL` shows what is there"),
            Class::Denied => (
                ErrorKind::PermissionDenied,
                "give the node that asks credentials that may: in the environment of its `rhd up`, or \
                 in the files that the tools of the store read",
            ),
            Class::Unreachable => (
                ErrorKind::PeerLost,
                "what has come is kept, and not sent again: try again when the store answers",
            ),
            Class::Refused => (ErrorKind::BadRequest, ""),
        };
        Self::new(kind, format!("{text}: {why}")).hint(hint)
    }
}

/// What a store's answer comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Missing,
    Denied,
    Unreachable,
    Refused,
}

impl Class {
    fn of(error: &object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => Self::Denied,
            // Of lists, only the text has the status of the answer.
            object_store::Error::Generic { .. } => {
                let text = said(error);
                let status = |status: &[&str]| status.iter().any(|status| text.contains(status));
                if status(&["404 Not Found"]) {
                    Self::Missing
                } else if status(&["403 Forbidden", "401 Unauthorized"]) {
                    Self::Denied
                } else if status(&["400 Bad Request", "405 Method Not Allowed"]) {
                    Self::Refused
                } else {
                    Self::Unreachable
                }
            }
            _ => Self::Refused,
        }
    }
}

fn is_of_bucket(why: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|s| why.contains(s))
}

/// What the store itself said; the error around it says which object that was, which we did.
fn said(error: &object_store::Error) -> String {
    /// Bytes of what it says: some answer with a page of HTML.
    const ENOUGH: usize = 600;
    let mut deepest: &dyn std::error::Error = error;
    let mut text = error.to_string();
    while let Some(source) = deepest.source() {
        deepest = source;
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
    }
    let mut end = text.len().min(ENOUGH);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.replace('\n', " ")
}
