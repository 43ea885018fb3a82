//! What two folders last had in common: a record for each pair, at the one that was brought to the
//! other.

use std::path::{Path, PathBuf};

use rhd_protocol::{
    folder::{Entry, is_sound},
    id::NodeId,
};

use super::{error::FolderError, kept::Kept};

/// The pairs of a node.
#[derive(Debug)]
pub(super) struct Common(Kept);

/// Stands for all object stores, whose folders are told apart by their URLs.
pub(super) const STORES: NodeId = NodeId::from_bytes([0; 32]);

impl Common {
    pub(super) fn open(dir: PathBuf) -> Result<Self, FolderError> {
        Kept::open(dir).map(Self)
    }

    /// What the folder `here` and the one of `node` last had in common; nothing, if they never met.
    /// Without it, what differs is set aside instead of replaced: nothing is lost.
    pub(super) fn load(&self, here: &Path, node: NodeId, there: &str) -> Vec<Entry> {
        let sound = |entries: &Vec<Entry>| is_sound(entries);
        self.0.load(&pair(here, node, there), sound).unwrap_or_default()
    }

    /// Remembers what they have in common now.
    pub(super) fn save(
        &self,
        here: &Path,
        node: NodeId,
        there: &str,
        entries: &[Entry],
    ) -> Result<(), FolderError> {
        self.0.save(&pair(here, node, there), entries)
    }
}

fn pair(here: &Path, node: NodeId, there: &str) -> String {
    format!("{}\0{node}\0{there}", here.display())
}
