//! Content that is read once: hashed and written on all cores as it is read, and then put in its place.

use std::{
    fs::{File, Metadata},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rhd_protocol::{id::Hash, pieces};
use rustix::fs::{Mode, OFlags};
use tempfile::NamedTempFile;

use super::Large;
use crate::{
    data::error::DataError,
    folders::{self, Values},
    framed::Body,
};

/// Where content comes from.
#[derive(Debug)]
pub(in crate::data) enum Source {
    /// A client.
    Body(Body),
    /// A file of the node's disk.
    File {
        /// Where it is.
        path: PathBuf,
        /// Opened.
        file: File,
        /// As it was then.
        meta: Metadata,
    },
    /// A file of this store, which becomes the content itself.
    Temp(NamedTempFile),
}

impl Source {
    /// Opens a file of the node's disk.
    pub(in crate::data) fn open(path: &Path) -> Result<Self, DataError> {
        // A pipe without a writer would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let file = opened.map_err(|e| DataError::file("open", path)(e.into()))?;
        Self::of(path, file.into())
    }

    /// The same; a link that took its place is not followed.
    pub(in crate::data) fn open_plain(path: &Path) -> Result<Self, DataError> {
        let file = folders::open_plain(path).map_err(DataError::file("open", path))?;
        Self::of(path, file)
    }

    fn of(path: &Path, file: File) -> Result<Self, DataError> {
        let meta = file.metadata().map_err(DataError::file("read", path))?;
        match meta.is_file() {
            true => Ok(Self::File { path: path.into(), file, meta }),
            false => Err(DataError::Request(format!("{} is no regular file", path.display()))),
        }
    }

    /// Bytes of it.
    pub(in crate::data) fn size(&self) -> Result<u64, DataError> {
        Ok(match self {
            Self::Body(body) => body.len(),
            Self::File { meta, .. } => meta.len(),
            Self::Temp(temp) => {
                let meta = temp.as_file().metadata();
                meta.map_err(DataError::file("read", temp.path()))?.len()
            }
        })
    }

    /// Its hash, for content of which nothing is to be written.
    pub(in crate::data) fn hash(&self) -> Result<Hash, DataError> {
        let size = self.size()?;
        let hashed = match self {
            Self::Body(body) => {
                return digest(size, |at, bytes| read_body(body, at, bytes)).map(|d| d.0);
            }
            Self::File { file, path, .. } => folders::digest(file, size, folders::threads())
                .map_err(DataError::file("read", path)),
            Self::Temp(temp) => folders::digest(temp.as_file(), size, folders::threads())
                .map_err(DataError::file("read", temp.path())),
        };
        Ok(hashed?.0)
    }
}

/// Content that is on disk, but not in its place; dropping it removes it.
#[derive(Debug)]
pub(in crate::data) struct Staged {
    pub(super) temp: NamedTempFile,
    pub(in crate::data) hash: Hash,
    pub(in crate::data) size: u64,
    pub(super) values: Values,
}

impl Large {
    /// Reads content, whose size is that of a large one; where the file system can, it is cloned.
    pub(in crate::data) fn stage(&self, source: Source) -> Result<Staged, DataError> {
        let size = source.size()?;
        let (temp, (hash, values)) = match source {
            Source::Body(body) => {
                let temp = self.temp()?;
                let digest = copy(size, temp.as_file(), |at, bytes| read_body(&body, at, bytes))?;
                (temp, digest)
            }
            Source::File { path, file, meta } => {
                let temp = self.temp()?;
                let digest = match clone(&file, temp.as_file()) {
                    true => digest_of(temp.as_file(), size, &path)?,
                    false => copy_file(size, temp.as_file(), &file, &path)?,
                };
                let now = file.metadata().map_err(DataError::file("read", &path))?;
                let stamp = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
                if stamp(&now) != stamp(&meta) {
                    return Err(DataError::Changed(path));
                }
                (temp, digest)
            }
            Source::Temp(temp) => {
                let digest = digest_of(temp.as_file(), size, temp.path())?;
                (temp, digest)
            }
        };
        Ok(Staged { temp, hash, size, values })
    }
}

fn read_body(body: &Body, at: u64, bytes: &mut [u8]) -> Result<(), DataError> {
    match body {
        Body::Inline(all) => {
            let at = at as usize;
            bytes.copy_from_slice(&all[at..at + bytes.len()]);
            Ok(())
        }
        Body::Beside(payload) => payload.read_at(at, bytes).map_err(DataError::store("read")),
    }
}

fn digest_of(file: &File, size: u64, path: &Path) -> Result<(Hash, Values), DataError> {
    folders::digest(file, size, folders::threads()).map_err(DataError::file("read", path))
}

/// Makes a file the clone of another; whether the file system can.
fn clone(from: &File, to: &File) -> bool {
    #[cfg(target_os = "linux")]
    return rustix::fs::ioctl_ficlone(to, from).is_ok();
    #[cfg(not(target_os = "linux"))]
    return false;
}

fn copy_file(size: u64, to: &File, from: &File, path: &Path) -> Result<(Hash, Values), DataError> {
    let holes = folders::holes(from, size);
    to.set_len(size).map_err(DataError::store("write"))?;
    digest(size, |at, bytes| {
        if folders::is_hole(&holes, at / pieces::PIECE) {
            bytes.fill(0);
            return Ok(());
        }
        // Shorter than it was: it has changed.
        from.read_exact_at(bytes, at).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => DataError::Changed(path.into()),
            _ => DataError::file("read", path)(e),
        })?;
        folders::write_at(to, bytes, at).map_err(DataError::store("write"))
    })
}

fn copy(
    size: u64,
    to: &File,
    read: impl Fn(u64, &mut [u8]) -> Result<(), DataError> + Sync,
) -> Result<(Hash, Values), DataError> {
    digest(size, |at, bytes| {
        read(at, bytes)?;
        folders::write_at(to, bytes, at).map_err(DataError::store("write"))
    })
}

fn digest(
    size: u64,
    read: impl Fn(u64, &mut [u8]) -> Result<(), DataError> + Sync,
) -> Result<(Hash, Values), DataError> {
    let piece = |index, bytes: &mut [u8]| read(pieces::span(index, size).0, bytes);
    let digest = folders::digest_by(size, folders::threads(), piece)?;
    digest.ok_or_else(|| DataError::Request("it is no large content".into()))
}
