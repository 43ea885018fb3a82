//! Hashes of files that outlive the daemon: a log for each folder that is looked at, read when that
//! happens first, and appended to.
//!
//! A log is blocks of a count, that many records, and a hash of both. What that does not prove is not
//! there, nor is what follows: a daemon that ends while it writes loses its last block. Nothing waits
//! for the disk.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rhd_protocol::{folder::MAX_ENTRIES, id::Hash};

use super::{
    cache::{Key, Stamp},
    error::FolderError,
    kept::Kept,
};

/// Records of a block; as soon as there are so many, they are written.
const BLOCK: usize = 4_096;
/// Bytes of files whose hashes are not written yet; reading those again takes seconds.
const UNWRITTEN: u64 = 4 << 30;
/// Bytes of a record.
const LEN: usize = 16 + 48 + 32;
/// Folders whose logs are kept, and the bytes of all.
const LOGS: usize = 256;
const BYTES: u64 = 1 << 30;
/// What one log may have.
const RECORDS: usize = 2 * MAX_ENTRIES + 2 * BLOCK;

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) stamp: Stamp,
    pub(super) hash: Hash,
}

impl Record {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.key);
        to.extend_from_slice(&self.stamp.to_bytes());
        to.extend_from_slice(self.hash.as_bytes());
    }

    fn read(bytes: &[u8; LEN]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<16>()?;
        let (stamp, hash) = rest.split_first_chunk::<48>()?;
        let hash = Hash::from_bytes(*hash.first_chunk()?);
        Some(Self { key: *key, stamp: Stamp::from_bytes(*stamp), hash })
    }
}

/// The logs of a node.
#[derive(Debug)]
pub(super) struct Logs {
    kept: Kept,
    open: HashMap<PathBuf, Log>,
}

/// A log that was read.
#[derive(Debug, Default)]
struct Log {
    /// Records that are in it.
    records: usize,
    /// Bytes that are sound; what follows is overwritten.
    len: u64,
    /// What is to be added.
    news: Vec<Record>,
    /// Bytes of those files.
    unwritten: u64,
}

impl Logs {
    pub(super) fn open(dir: PathBuf) -> Result<Self, FolderError> {
        let kept = Kept::open(dir)?;
        kept.trim(LOGS, BYTES);
        Ok(Self { kept, open: HashMap::new() })
    }

    /// Reads the log of a folder, if that has not been done.
    pub(super) fn recall(&mut self, root: &Path, mut learn: impl FnMut(Vec<Record>)) {
        if self.open.contains_key(root) {
            return;
        }
        if self.open.len() >= LOGS {
            self.open.retain(|_, log| !log.news.is_empty());
        }
        let path = self.kept.file(&name(root));
        let mut log = Log::default();
        if let Ok(file) = File::open(&path) {
            // It is in use.
            let _ = file.set_modified(SystemTime::now());
            let mut reader = BufReader::new(&file);
            while log.records < RECORDS
                && let Some(records) = block(&mut reader)
            {
                log.records += records.len();
                log.len += size(records.len());
                learn(records);
            }
            if file.metadata().is_ok_and(|meta| meta.len() != log.len) {
                tracing::info!(path = %path.display(), "hashes of files are damaged and read anew");
            }
        }
        self.open.insert(root.to_owned(), log);
    }

    /// Notes what shall be in the log of a folder.
    pub(super) fn note(&mut self, root: &Path, record: Record) {
        let Some(log) = self.open.get_mut(root) else { return };
        log.news.push(record);
        log.unwritten = log.unwritten.saturating_add(record.stamp.size);
        if log.news.len() >= BLOCK || log.unwritten >= UNWRITTEN {
            self.append(root);
        }
    }

    /// Whether something is to be added to a folder's log.
    pub(super) fn has_news(&self, root: &Path) -> bool {
        self.open.get(root).is_some_and(|log| !log.news.is_empty())
    }

    /// Whether a log is mostly of what is not in its folder any more, or of little that is.
    pub(super) fn is_astray(&self, root: &Path, files: usize) -> bool {
        self.open.get(root).is_some_and(|log| {
            let records = log.records + log.news.len();
            is_long(records, files) || 2 * records < files
        })
    }

    /// Writes what was noted of a folder.
    pub(super) fn append(&mut self, root: &Path) {
        let path = self.kept.file(&name(root));
        let Some(log) = self.open.get_mut(root) else { return };
        if log.news.is_empty() {
            return;
        }
        // Without them the files are read once more after the next start, which is all.
        let news = std::mem::take(&mut log.news);
        log.unwritten = 0;
        let is_new = log.len == 0;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let file =
                options.write(true).create(is_new).truncate(false).mode(0o600).open(&path)?;
            file.set_len(log.len)?;
            file.write_all_at(&bytes(&news), log.len)
        };
        match write() {
            Ok(()) => {
                log.records += news.len();
                log.len += size(news.len());
            }
            // It had to make room.
            Err(error) if error.kind() == io::ErrorKind::NotFound => *log = Log::default(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "hashes of files can't be kept");
            }
        }
        if is_new {
            self.kept.trim(LOGS, BYTES);
        }
    }

    /// Writes the log of a folder anew, of all that is known there.
    pub(super) fn rewrite(&mut self, root: &Path, records: &[Record]) {
        let Some(log) = self.open.get_mut(root) else { return };
        // Of files that were written just now, nothing is known yet.
        let before = log.records + log.news.len();
        if records.len() <= before && !is_long(before, records.len()) {
            return self.append(root);
        }
        let content = |file: &mut File| {
            records.chunks(BLOCK).try_for_each(|some| file.write_all(&bytes(some)))
        };
        if let Err(error) = self.kept.replace(&name(root), content) {
            tracing::warn!(%error, "hashes of files can't be kept");
            return;
        }
        log.records = records.len();
        log.len = records.chunks(BLOCK).map(|some| size(some.len())).sum();
        self.kept.trim(LOGS, BYTES);
        // What was noted meanwhile, or twice.
        self.append(root);
    }
}

/// Whether a log of these many records is mostly of other files than these.
fn is_long(records: usize, files: usize) -> bool {
    records > 2 * files + BLOCK
}

fn name(root: &Path) -> String {
    root.display().to_string()
}

/// Bytes of a block.
fn size(records: usize) -> u64 {
    (4 + records * LEN + 32) as u64
}

fn proof(bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key("rhd 2026 hashes of files", bytes)
}

fn bytes(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + records.len() * LEN + 32);
    bytes.extend_from_slice(&(records.len() as u32).to_le_bytes());
    records.iter().for_each(|record| record.write(&mut bytes));
    let proof = proof(&bytes);
    bytes.extend_from_slice(&proof);
    bytes
}

/// The next block, if it is sound.
fn block(reader: &mut impl Read) -> Option<Vec<Record>> {
    let mut count = [0; 4];
    reader.read_exact(&mut count).ok()?;
    let len =
        usize::try_from(u32::from_le_bytes(count)).ok().filter(|n| (1..=BLOCK).contains(n))?;
    let mut bytes = vec![0; 4 + len * LEN];
    bytes[..4].copy_from_slice(&count);
    reader.read_exact(&mut bytes[4..]).ok()?;
    let mut said = [0; 32];
    reader.read_exact(&mut said).ok()?;
    if proof(&bytes) != said {
        return None;
    }
    bytes[4..].as_chunks().0.iter().map(Record::read).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn record(n: u64) -> Record {
        let hash = Hash::of(&n.to_le_bytes());
        let mut stamp = [0; 48];
        stamp[..8].copy_from_slice(&n.to_le_bytes());
        Record {
            key: *hash.as_bytes().first_chunk().unwrap(),
            stamp: Stamp::from_bytes(stamp),
            hash,
        }
    }

    /// What is read of a folder by a daemon that starts.
    fn read(dir: &Path, root: &str) -> (Logs, Vec<Record>) {
        let mut logs = Logs::open(dir.to_owned()).unwrap();
        let mut read = Vec::new();
        logs.recall(Path::new(root), |mut records| read.append(&mut records));
        (logs, read)
    }

    fn add(dir: &Path, root: &str, numbers: std::ops::Range<u64>) {
        let (mut logs, _) = read(dir, root);
        numbers.for_each(|n| logs.note(Path::new(root), record(n)));
        logs.append(Path::new(root));
    }

    fn expect(numbers: std::ops::Range<u64>) -> Vec<Record> {
        numbers.map(record).collect()
    }

    #[test]
    fn what_is_added_is_read_again_by_its_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        add(dir.path(), "/a", 0..3);
        add(dir.path(), "/a", 3..10_000);
        assert!(read(dir.path(), "/b").1.is_empty());
        assert_eq!(read(dir.path(), "/a").1, expect(0..10_000));
    }

    #[test]
    fn a_full_block_does_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (mut logs, _) = read(dir.path(), "/a");
        (0..BLOCK as u64 + 5).for_each(|n| logs.note(Path::new("/a"), record(n)));
        assert_eq!(read(dir.path(), "/a").1.len(), BLOCK, "whatever becomes of this daemon");
        let large = Record { stamp: record(UNWRITTEN).stamp, ..record(7) };
        logs.note(Path::new("/a"), large);
        assert_eq!(read(dir.path(), "/a").1.len(), BLOCK + 6);
    }

    #[test]
    fn of_a_damaged_log_only_what_is_sound_before_counts() {
        let dir = tempfile::tempdir().unwrap();
        add(dir.path(), "/a", 0..5);
        let path = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let first = fs::metadata(&path).unwrap().len() as usize;
        add(dir.path(), "/a", 5..9);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(dir.path(), "/a").1, expect(0..if len < first { 0 } else { 5 }));
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x81;
            fs::write(&path, &bytes).unwrap();
            let sound = if at < first { 0 } else { 5 };
            assert_eq!(read(dir.path(), "/a").1, expect(0..sound), "{at}");
        }
        // It goes on after what is sound.
        add(dir.path(), "/a", 5..7);
        assert_eq!(read(dir.path(), "/a").1, expect(0..7));
    }

    #[test]
    fn a_log_of_other_files_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::new("/a");
        let (mut logs, _) = read(dir.path(), "/a");
        assert!(logs.is_astray(root, 1) && !logs.is_astray(root, 0));
        (0..BLOCK as u64 + 30).for_each(|n| logs.note(root, record(n)));
        assert!(logs.is_astray(root, 10) && !logs.is_astray(root, 15));
        logs.rewrite(root, &expect(0..10));
        // What was noted after the look is not lost by it.
        let all = [expect(0..10), expect(BLOCK as u64..BLOCK as u64 + 30)].concat();
        assert_eq!(read(dir.path(), "/a").1, all);
        logs.rewrite(root, &expect(0..5));
        assert_eq!(read(dir.path(), "/a").1, all, "all that is known is in it");
    }

    #[test]
    fn what_had_to_make_room_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut logs, root) = (read(dir.path(), "/a").0, Path::new("/a"));
        logs.note(root, record(1));
        logs.append(root);
        logs.kept.trim(0, 0);
        assert!(read(dir.path(), "/a").1.is_empty());
        for n in 2..4 {
            logs.note(root, record(n));
            logs.append(root);
        }
        assert_eq!(read(dir.path(), "/a").1, expect(3..4));
    }
}
