//! Settings of the data room.

use serde::{Deserialize, Serialize};

/// Limits on what is stored and moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes that may be stored; 0: as many as the disk has room for.
    pub quota: u64,
    /// Bytes of the disk that stay free.
    pub reserve: u64,
    /// Seconds that content without a name is kept after its last use.
    pub keep_secs: u64,
    /// Versions of a name that are kept.
    pub keep_versions: usize,
    /// Seconds between collections of what nothing needs.
    pub collect_every: u64,
    /// Seconds that a peer may send nothing before another is asked.
    pub stall_secs: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            quota: 0,
            reserve: 256 << 20,
            keep_secs: 24 * 3600,
            keep_versions: 10,
            collect_every: 600,
            stall_secs: 10,
        }
    }
}
