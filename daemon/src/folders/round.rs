//! One look at two folders, and how far one is on its way to be like the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rhd_protocol::{
    folder::{Entry, MAX_NAMED, Synced},
    machine::reconcile::{Mode, agreed, plan},
};

use super::{
    cache::Stamp,
    digest::Values,
    error::FolderError,
    place::Target,
    scan::{Scan, skip},
};

/// How often a folder is looked at, when files in it change while they come.
const ROUNDS: usize = 3;

/// Looks at both sides again as long as something changed while it came, within bounds. A round says
/// what it did, and what changed.
pub(super) async fn rounds<F>(round: impl Fn() -> F) -> Result<Synced, FolderError>
where
    F: Future<Output = Result<(Synced, Vec<String>), FolderError>>,
{
    let mut done = Synced::default();
    let mut changed = Vec::new();
    for _ in 0..ROUNDS {
        let (did, left) = round().await?;
        done.and(did);
        changed = left;
        if changed.is_empty() {
            break;
        }
    }
    for path in changed {
        skip(&mut done.skipped, path, "it keeps changing while it is read");
    }
    Ok(done)
}

/// One look at both sides, and what came of it.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) common: Vec<Entry>,
    pub(super) theirs: Vec<Entry>,
    pub(super) ours: Scan,
    pub(super) target: Arc<Target>,
    /// The absolute path of the other folder.
    pub(super) there: String,
    pub(super) progress: Mutex<Progress>,
}

/// How far a round is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) done: Synced,
    /// For each of their entries, whether it is not here yet.
    pub(super) undone: Vec<bool>,
    /// Paths that changed while they came.
    pub(super) changed: Vec<String>,
    /// Files that were written, to be known next time.
    pub(super) learnt: Vec<Learnt>,
}

/// A file that was written, and what it holds.
#[derive(Debug)]
pub(super) struct Learnt {
    /// Which of their entries it is.
    pub(super) theirs: usize,
    pub(super) stamp: Stamp,
    pub(super) values: Values,
}

impl Round {
    /// How far it is; not to be held while anything is waited for.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one path can't be brought about, and goes on; what stops all is an error.
    pub(super) fn note(&self, path: &str, error: FolderError) -> Result<(), FolderError> {
        if let FolderError::File { source, .. } = &error
            && !matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::ReadOnlyFilesystem
            )
        {
            let why =
                std::error::Error::source(&error).map_or_else(String::new, |e| format!(": {e}"));
            skip(&mut self.progress().done.skipped, path, format!("{error}{why}"));
            return Ok(());
        }
        Err(error)
    }

    /// Notes that an entry is here; and under which name, if anything had to make room for it.
    pub(super) fn placed(&self, theirs: usize, moved: Option<String>) {
        let mut progress = self.progress();
        progress.done.written += 1;
        progress.undone[theirs] = false;
        progress.done.set_aside(moved);
    }

    /// What is in common now, as far as it got.
    pub(super) fn agreed(&self, mode: Mode) -> Vec<Entry> {
        let steps = plan(mode, &self.common, &self.theirs, &self.ours.entries);
        let progress = self.progress();
        let before = |path: &str| {
            let at = self.common.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
            Some(self.common[at].clone())
        };
        // A step for each of theirs, in the same order.
        let now = agreed(&steps).into_iter().zip(&progress.undone);
        now.filter_map(|(entry, undone)| if *undone { before(&entry.path) } else { Some(entry) })
            .collect()
    }
}

/// Whether something was left out, rather than not there.
pub(super) fn is_skipped(done: &Synced, path: &str) -> bool {
    done.skipped.iter().any(|skipped| skipped.path == path)
}

/// What is said of a folder that is brought together with another.
pub(super) trait Report {
    /// Notes the new name of something.
    fn set_aside(&mut self, name: Option<String>);
    /// Adds what another round did.
    fn and(&mut self, round: Synced);
}

impl Report for Synced {
    fn set_aside(&mut self, name: Option<String>) {
        self.conflicts.extend(name.filter(|_| self.conflicts.len() < MAX_NAMED));
    }

    fn and(&mut self, round: Synced) {
        let before = std::mem::replace(self, round);
        self.written += before.written;
        self.removed += before.removed;
        self.moved += before.moved;
        self.conflicts.splice(0..0, before.conflicts);
        self.conflicts.truncate(MAX_NAMED);
    }
}
