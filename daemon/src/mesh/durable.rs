//! Small files that survive a kill at any point: a reader sees the old content or the new, whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// No file of the mesh is longer, in bytes; a longer one is not ours.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Why a file of the node's state can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", path.display())]
pub struct DurableError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DurableError {
    /// Names what was tried with which file.
    pub(super) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.into(), source }
    }
}

/// Creates `dir` for this user only.
pub(super) fn create_dir(dir: &Path) -> Result<(), DurableError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| DurableError::new("create directory", dir, e))
}

/// Reads `path`; `None` when it doesn't exist.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, DurableError> {
    let read = || -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "not a file of this node"));
        }
        Ok(Some(bytes))
    };
    read().map_err(|e| DurableError::new("read", path, e))
}

/// Replaces `path` by `bytes`, readable by this user only.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), DurableError> {
    let write = || -> io::Result<()> {
        let temp = path.with_extension("tmp");
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        // The rename itself lasts only once the directory is on disk.
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|e| DurableError::new("write", path, e))
}
