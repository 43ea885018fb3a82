//! Settings of the workers room.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How envs are built and workers are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's interpreter: a path or a command; none: the newest fitting one on `PATH`.
    pub python: Option<String>,
    /// Calls that may wait in one env; beyond this they are refused.
    pub queue: usize,
    /// Most call lanes of one process: calls that run side by side on threads.
    pub lanes: u32,
    /// Most coroutines that run side by side in one process.
    pub coroutines: u32,
    /// Milliseconds that a cancelled call has to end before its process is killed.
    pub cancel_grace_ms: u64,
    /// The same, while other calls run in that process.
    pub shared_grace_ms: u64,
    /// Milliseconds that a worker has to come up.
    pub start_timeout_ms: u64,
    /// Milliseconds that building an env may take.
    pub build_timeout_ms: u64,
    /// Largest body of a call or reply, in bytes.
    pub max_body: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            python: None,
            queue: 256,
            lanes: 64,
            coroutines: 1024,
            cancel_grace_ms: 5_000,
            shared_grace_ms: 30_000,
            start_timeout_ms: 30_000,
            build_timeout_ms: 30 * 60_000,
            max_body: rhd_protocol::frame::MAX_BODY,
        }
    }
}

impl Config {
    pub(super) fn cancel_grace(&self) -> Duration {
        Duration::from_millis(self.cancel_grace_ms)
    }

    pub(super) fn shared_grace(&self) -> Duration {
        Duration::from_millis(self.shared_grace_ms)
    }

    pub(super) fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_timeout_ms)
    }

    pub(super) fn build_timeout(&self) -> Duration {
        Duration::from_millis(self.build_timeout_ms)
    }
}
