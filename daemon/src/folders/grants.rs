//! Who may read which folder, although it may not read by itself.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use rhd_protocol::id::{NodeId, encode_base32};

use super::lock;

/// How long a grant holds: a transfer takes no longer.
const HOLDS: Duration = Duration::from_secs(24 * 3600);
/// Grants at once; the oldest ends when there are more.
const MAX: usize = 10_000;

/// The grants of a node, by their texts.
#[derive(Debug, Default)]
pub(super) struct Grants {
    given: Mutex<HashMap<String, Grant>>,
}

#[derive(Debug)]
struct Grant {
    path: PathBuf,
    to: NodeId,
    since: Instant,
}

impl Grants {
    /// Lets a node read a folder; what it has to show for it.
    pub(super) fn give(&self, path: PathBuf, to: NodeId) -> String {
        let text = encode_base32(&rand::random::<[u8; 20]>());
        let mut given = lock(&self.given);
        given.retain(|_, grant| grant.since.elapsed() < HOLDS);
        if given.len() >= MAX {
            let oldest =
                given.iter().min_by_key(|(_, grant)| grant.since).map(|(text, _)| text.clone());
            oldest.and_then(|text| given.remove(&text));
        }
        given.insert(text.clone(), Grant { path, to, since: Instant::now() });
        text
    }

    /// Whether a text lets a node read a folder.
    pub(super) fn lets(&self, text: &str, path: &Path, node: NodeId) -> bool {
        lock(&self.given).get(text).is_some_and(|grant| {
            grant.path == path && grant.to == node && grant.since.elapsed() < HOLDS
        })
    }
}
