//! Settings of the blobs room.

use serde::{Deserialize, Serialize};

/// Limits on what is shipped and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes that one project may have when it is shipped.
    pub max_project_bytes: u64,
    /// Bytes that one file of a project may have when it is shipped.
    pub max_file_bytes: u64,
    /// Bytes that one program may have when it is shipped.
    pub max_program_bytes: u64,
    /// Files that one project may have when it is shipped.
    pub max_project_files: usize,
    /// Bytes that one deployment of a peer may claim.
    pub max_incoming_bytes: u64,
    /// Versions of each project that are kept besides those in use.
    pub keep_versions: usize,
    /// Files whose hash is remembered while they don't change.
    pub hash_cache: usize,
    /// Whether received files are flushed to disk one by one.
    pub fsync: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_project_bytes: 100 * 1024 * 1024,
            max_file_bytes: 20 * 1024 * 1024,
            max_program_bytes: 1024 * 1024 * 1024,
            max_project_files: 10_000,
            max_incoming_bytes: 4 * 1024 * 1024 * 1024,
            keep_versions: 8,
            hash_cache: 100_000,
            fsync: false,
        }
    }
}
