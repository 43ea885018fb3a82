//! The content-addressed store: `blobs/ab/<hash>`, one file each.
//!
//! A file is written below `blobs/tmp`, hashed on the way, and renamed into place, so that what has
//! its final name is whole. Code folders hold hard links to these files; each gets a fixed
//! modification time and no write permission, so that a file which somebody changed through such a
//! link is noticed and counts as missing.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rhd_protocol::id::Hash;
use tempfile::NamedTempFile;

use super::error::BlobError;

/// Modification time of every stored file, in seconds since 1970; another one means tampering.
const STORED_AT: u64 = 1_000_000_000;
/// Permissions of every stored file.
const MODE: u32 = 0o444;

/// A directory of content.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
    fsync: bool,
}

impl Store {
    /// Opens the store, and removes what a killed process left half-written.
    pub(super) fn open(dir: PathBuf, fsync: bool) -> Result<Self, BlobError> {
        let store = Self { dir, fsync };
        let tmp = store.tmp();
        match fs::remove_dir_all(&tmp) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(BlobError::io("empty", tmp)(e));
            }
            _ => fs::create_dir_all(&tmp).map_err(BlobError::io("create", tmp))?,
        }
        Ok(store)
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Where content of this hash is, if it is.
    pub(super) fn path(&self, hash: Hash) -> PathBuf {
        let name = hash.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    /// Whether content of this hash and size is here and untouched.
    pub(super) fn has(&self, hash: Hash, size: u64) -> bool {
        fs::symlink_metadata(self.path(hash)).is_ok_and(|meta| is_stored(&meta, size))
    }

    /// Opens stored content.
    pub(super) fn file(&self, hash: Hash) -> Result<File, BlobError> {
        let path = self.path(hash);
        File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => BlobError::Missing(hash),
            _ => BlobError::io("open", path)(e),
        })
    }

    /// Starts to write content that is announced as `size` bytes of this hash.
    pub(super) fn writer(&self, hash: Hash, size: u64) -> Result<Writer, BlobError> {
        let tmp = self.tmp();
        let file = NamedTempFile::new_in(&tmp).map_err(BlobError::io("write in", tmp))?;
        let hasher = Box::new(blake3::Hasher::new());
        Ok(Writer { file, hasher, left: size, hash, to: self.path(hash), fsync: self.fsync })
    }

    /// Removes all content that `keep` says no to and that is older than `age`; returns how many.
    pub(super) fn sweep(&self, keep: impl Fn(Hash) -> bool, age: Duration) -> usize {
        let before = SystemTime::now().checked_sub(age).and_then(|t| {
            t.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs() as i64)
        });
        let old = |path: &Path| {
            // ctime, as the modification time is fixed.
            fs::symlink_metadata(path).is_ok_and(|meta| before.is_some_and(|t| meta.ctime() <= t))
        };
        entries(&self.dir)
            .filter(|dir| dir.file_name().is_some_and(|name| name.len() == 2))
            .flat_map(|dir| entries(&dir))
            .filter(|path| {
                let hash = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok());
                hash.is_some_and(|hash| !keep(hash)) && old(path) && fs::remove_file(path).is_ok()
            })
            .count()
    }
}

/// The paths in a directory; none when it can't be read.
pub(super) fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a file is as the store wrote it, going by its size and fixed time.
pub(super) fn is_stored(meta: &fs::Metadata, size: u64) -> bool {
    meta.is_file() && meta.len() == size && meta.mtime() == STORED_AT as i64
}

/// Marks a finished file as untouched since.
pub(super) fn seal(file: &File, mode: u32) -> std::io::Result<()> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(STORED_AT);
    file.set_permissions(Permissions::from_mode(mode))?;
    file.set_times(FileTimes::new().set_modified(at).set_accessed(at))
}

/// Content on its way into the store; dropping it unfinished leaves nothing.
#[derive(Debug)]
pub struct Writer {
    file: NamedTempFile,
    hasher: Box<blake3::Hasher>,
    left: u64,
    hash: Hash,
    to: PathBuf,
    fsync: bool,
}

impl Writer {
    /// Appends bytes; refuses more than were announced.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let rest = self.left.checked_sub(bytes.len() as u64);
        self.left = rest.ok_or(BlobError::WrongLength(self.hash))?;
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(BlobError::io("write", self.file.path()))
    }

    /// Puts the content in its place, if it is what was announced.
    pub fn finish(self) -> Result<(), BlobError> {
        if self.left > 0 {
            return Err(BlobError::WrongLength(self.hash));
        }
        if self.hasher.finalize().as_bytes() != self.hash.as_bytes() {
            return Err(BlobError::WrongContent(self.hash));
        }
        seal(self.file.as_file(), MODE).map_err(BlobError::io("seal", self.file.path()))?;
        if self.fsync {
            self.file.as_file().sync_all().map_err(BlobError::io("flush", self.file.path()))?;
        }
        let file = match self.file.persist(&self.to) {
            Ok(_) => return Ok(()),
            Err(e) if e.error.kind() == std::io::ErrorKind::NotFound => e.file,
            Err(e) => return Err(BlobError::io("write", self.to)(e.error)),
        };
        if let Some(dir) = self.to.parent() {
            fs::create_dir_all(dir).map_err(BlobError::io("create", dir))?;
        }
        file.persist(&self.to).map_err(|e| BlobError::io("write", self.to)(e.error))?;
        Ok(())
    }
}
