//! Settings of the runs' room.

use serde::{Deserialize, Serialize};

/// How much of what ran is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Records of finished runs.
    pub keep: usize,
    /// Days that a record of a finished run is kept.
    pub keep_days: u64,
    /// Bytes of all records together, and so of each one.
    pub max_bytes: u64,
    /// Bytes of a record that is copied to the node of its caller, at most; 0: none are.
    pub copy_bytes: u64,
    /// Bytes of each of the two files that hold receipts; 64 for each call.
    pub journal_bytes: u64,
    /// Seconds, at least one, that a call goes on after the node of its caller was lost, with nobody
    /// attached.
    pub orphan_grace: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep: 1000,
            keep_days: 30,
            max_bytes: 4 * 1024 * 1024 * 1024,
            copy_bytes: 256 * 1024 * 1024,
            journal_bytes: 4 * 1024 * 1024,
            orphan_grace: 60,
        }
    }
}
