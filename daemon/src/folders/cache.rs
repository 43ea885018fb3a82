//! Hashes of files that have not changed since they were read.

use std::{
    collections::HashMap,
    fs::Metadata,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use rhd_protocol::id::Hash;

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// That of a file.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.len(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// The same of what the system itself says.
    pub(super) fn of_stat(stat: &rustix::fs::Stat) -> Self {
        // Widths differ between systems.
        #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
        Self {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            inode: stat.st_ino as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// As it is kept in files.
    pub(super) fn to_bytes(self) -> [u8; 48] {
        let Self { size, inode, modified, changed } = self;
        let mut bytes = [0; 48];
        let parts = [size, inode]
            .map(u64::to_le_bytes)
            .into_iter()
            .chain([modified.0, modified.1, changed.0, changed.1].map(i64::to_le_bytes));
        for (to, part) in bytes.as_chunks_mut().0.iter_mut().zip(parts) {
            *to = part;
        }
        bytes
    }

    /// The same, read again.
    pub(super) fn from_bytes(bytes: [u8; 48]) -> Self {
        let parts = bytes.as_chunks().0;
        let unsigned = |at: usize| u64::from_le_bytes(parts[at]);
        let signed = |at: usize| i64::from_le_bytes(parts[at]);
        Self {
            size: unsigned(0),
            inode: unsigned(1),
            modified: (signed(2), signed(3)),
            changed: (signed(4), signed(5)),
        }
    }

    /// Whether a later write would surely get another stamp: file systems stamp in ticks, so a file
    /// written just now may be written again within the same one.
    fn is_settled(&self, now: SystemTime) -> bool {
        let whole_seconds = self.changed.1 == 0 && self.modified.1 == 0;
        let tick = Duration::from_millis(if whole_seconds { 2_000 } else { 50 });
        let Ok(since) = u64::try_from(self.changed.0) else { return true };
        let changed = SystemTime::UNIX_EPOCH
            + Duration::from_secs(since)
            + Duration::from_nanos(self.changed.1.unsigned_abs());
        now.duration_since(changed).is_ok_and(|age| age > tick)
    }
}

/// Stands for a path: there may be a million of them, and paths are long.
pub(super) type Key = [u8; 16];

pub(super) fn key(path: &Path) -> Key {
    let hash = Hash::of(path.as_os_str().as_bytes());
    *hash.as_bytes().first_chunk().unwrap_or(&[0; 16])
}

/// A bounded map from path and stamp to hash; the half not used lately is forgotten first.
#[derive(Debug)]
pub struct Cache {
    recent: HashMap<Key, (Stamp, Hash)>,
    older: HashMap<Key, (Stamp, Hash)>,
    half: usize,
}

impl Cache {
    /// Remembers at most this many.
    pub fn new(limit: usize) -> Self {
        Self { recent: HashMap::new(), older: HashMap::new(), half: (limit / 2).max(1) }
    }

    /// The hash of a file, if it is in this state still.
    pub fn get(&mut self, path: &Path, stamp: Stamp) -> Option<Hash> {
        let key = key(path);
        let known = match self.recent.get(&key) {
            Some(known) => *known,
            None => {
                let known = self.older.remove(&key)?;
                self.put(key, known);
                known
            }
        };
        (known.0 == stamp).then_some(known.1)
    }

    /// Remembers a file, if its state says when it changes; whether it does.
    pub fn insert(&mut self, path: &Path, stamp: Stamp, hash: Hash, now: SystemTime) -> bool {
        let settled = stamp.is_settled(now);
        if settled {
            self.put(key(path), (stamp, hash));
        }
        settled
    }

    /// Remembers what is known of a settled state.
    pub(super) fn put(&mut self, key: Key, known: (Stamp, Hash)) {
        if self.recent.len() >= self.half {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: Hash = Hash::from_bytes([7; 32]);

    fn stamp(size: u64, changed: (i64, i64)) -> Stamp {
        Stamp { size, inode: 1, modified: changed, changed }
    }

    #[test]
    fn it_is_bounded_and_forgets_what_is_not_used() {
        let mut cache = Cache::new(8);
        let old = stamp(1, (1_000, 5));
        let path = |i: usize| std::path::PathBuf::from(i.to_string());
        for i in 0..100 {
            cache.insert(&path(i), old, HASH, SystemTime::now());
            assert_eq!(cache.get(&path(0), old), Some(HASH), "in use at {i}");
            assert!(cache.recent.len() + cache.older.len() <= 8);
        }
        assert_eq!(cache.get(&path(1), old), None);
        assert_eq!(cache.get(&path(0), stamp(2, (1_000, 5))), None, "another stamp");
    }

    #[test]
    fn a_file_written_within_the_clocks_last_tick_is_not_trusted() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert!(!stamp(1, (999_999, 990_000_000)).is_settled(now));
        assert!(stamp(1, (999_999, 900_000_000)).is_settled(now));
        assert!(!stamp(1, (999_999, 0)).is_settled(now), "a clock of whole seconds");
        assert!(!stamp(1, (1_000_500, 1)).is_settled(now), "from the future");
    }
}
