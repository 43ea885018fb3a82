//! Settings of the node itself.

use std::collections::BTreeMap;

use rhd_protocol::frame::MAX_PAYLOAD;
use serde::Deserialize;

/// The node's own settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the node is called; none: the host's name.
    pub name: Option<String>,
    /// Whose folder bare names go to; none: the user who runs the daemon.
    pub user: Option<String>,
    /// Seconds that running calls get to end when the node stops.
    pub grace: u64,
    /// How much there is of what envs may need, in place of what the system says: `{gpus = 2}`.
    pub resources: BTreeMap<String, f64>,
    /// What the node is like, for envs that ask: `{zone = "eu"}`.
    pub labels: BTreeMap<String, String>,
    /// Largest argument list or result of a call, in bytes.
    pub max_payload: u64,
}

impl Default for Config {
    fn default() -> Self {
        let (resources, labels) = (BTreeMap::new(), BTreeMap::new());
        Self { name: None, user: None, grace: 10, resources, labels, max_payload: MAX_PAYLOAD }
    }
}
