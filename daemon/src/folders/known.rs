//! What is known of files from before: their hashes, and what proves the pieces of large ones.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rhd_protocol::{folder::Entry, id::Hash};

use super::{
    cache::{Cache, Stamp, key},
    digest::Values,
    error::FolderError,
    logged::{Logs, Record},
    scan::Scan,
};
use crate::background;

/// Pieces whose proof is kept: 32 bytes each, so that a TiB takes 32 MiB.
const PROOFS: usize = 1 << 20;

/// What is known of files from before.
#[derive(Debug)]
pub(super) struct Known {
    hashes: Mutex<Cache>,
    values: Mutex<Proofs>,
    /// Locked before the hashes.
    logs: Mutex<Logs>,
}

/// What proves the pieces of large files, by their hashes; bounded, and forgotten all at once.
#[derive(Debug, Default)]
struct Proofs {
    of: HashMap<Hash, Arc<Values>>,
    pieces: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Known {
    /// Remembers this many files, and in a folder what they are when the daemon starts again.
    pub(super) fn open(dir: PathBuf, files: usize) -> Result<Self, FolderError> {
        let logs = Mutex::new(Logs::open(dir)?);
        Ok(Self { hashes: Mutex::new(Cache::new(files)), values: Mutex::default(), logs })
    }

    /// What proves the pieces of a large file, if it was read since the daemon started.
    pub(super) fn values(&self, hash: Hash) -> Option<Arc<Values>> {
        lock(&self.values).of.get(&hash).cloned()
    }

    /// The hash of a file in this state.
    pub(super) fn current(&self, path: &Path, stamp: Stamp) -> Option<Hash> {
        lock(&self.hashes).get(path, stamp)
    }

    /// Notes what the hash is of a file in a folder.
    pub(super) fn learn(&self, root: &Path, path: &Path, stamp: Stamp, hash: Hash, values: Values) {
        if !values.is_empty() {
            let mut proofs = lock(&self.values);
            if proofs.pieces + values.len() > PROOFS {
                *proofs = Proofs::default();
            }
            proofs.pieces += values.len();
            proofs.of.insert(hash, Arc::new(values));
        }
        if lock(&self.hashes).insert(path, stamp, hash, SystemTime::now()) {
            lock(&self.logs).note(root, Record { key: key(path), stamp, hash });
        }
    }

    /// Reads what was known of a folder's files before the daemon started, if it has not been yet.
    pub(super) fn recall(&self, root: &Path) {
        let mut logs = lock(&self.logs);
        logs.recall(root, |records| {
            let mut hashes = lock(&self.hashes);
            for Record { key, stamp, hash } in records {
                hashes.put(key, (stamp, hash));
            }
        });
    }

    /// Keeps what was learnt of a folder's files for the next start; who asked for them does not wait.
    pub(super) fn keep(self: &Arc<Self>, root: &Path) {
        if lock(&self.logs).has_news(root) {
            let (known, root) = (self.clone(), root.to_owned());
            background::spawn(move || lock(&known.logs).append(&root));
        }
    }

    /// The same after a look at all of a folder: what is kept of it is written anew, where that is
    /// mostly of other files.
    pub(super) fn keep_all(self: &Arc<Self>, root: &Path, scan: &Scan) {
        let files = scan.entries.iter().filter(|entry| entry.is_file()).count();
        if !lock(&self.logs).is_astray(root, files) {
            return self.keep(root);
        }
        let all = scan.entries.iter().zip(&scan.stamps).filter(|(entry, _)| entry.is_file());
        let record = |(entry, stamp): (&Entry, &Stamp)| {
            let path = root.join(&entry.path);
            let hash = self.current(&path, *stamp)?;
            Some(Record { key: key(&path), stamp: *stamp, hash })
        };
        let records: Vec<Record> = all.filter_map(record).collect();
        let (known, root) = (self.clone(), root.to_owned());
        background::spawn(move || lock(&known.logs).rewrite(&root, &records));
    }

    /// Returns when it is kept.
    #[cfg(test)]
    pub(super) fn kept_now(&self, root: &Path) {
        lock(&self.logs).append(root);
    }
}
