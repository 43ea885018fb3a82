//! The peers a node knows, kept over restarts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use rhd_protocol::{frame, membership::Cert};
use serde::{Deserialize, Serialize};

use super::durable::{self, DurableError};

/// A member, and where it was last reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) cert: Cert,
    pub(super) addrs: Vec<SocketAddr>,
}

/// The file.
#[derive(Debug, Clone)]
pub(super) struct Book {
    path: PathBuf,
}

impl Book {
    pub(super) fn new(home: &Path) -> Self {
        Self { path: home.join("mesh").join("peers") }
    }

    /// Reads it; a file that is not understood counts as empty, as peers tell again.
    pub(super) fn load(&self) -> Result<Vec<Known>, DurableError> {
        let Some(bytes) = durable::read(&self.path)? else { return Ok(Vec::new()) };
        Ok(frame::decode(&bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "the list of known peers is damaged and starts empty");
            Vec::new()
        }))
    }

    /// Replaces it.
    pub(super) fn save(&self, known: &[Known]) -> Result<(), DurableError> {
        durable::write(&self.path, &frame::to_vec(&known).unwrap_or_default())
    }
}
