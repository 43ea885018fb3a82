//! Small records of a node, a file each, by what they are of.

use std::{
    fs::{self, File},
    io,
    io::Write as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rhd_protocol::{frame, id::Hash};
use serde::{Serialize, de::DeserializeOwned};

use super::error::FolderError;

/// How long something is remembered that is not asked for any more.
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);

/// A folder of them.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
}

impl Kept {
    pub(super) fn open(dir: PathBuf) -> Result<Self, FolderError> {
        fs::create_dir_all(&dir).map_err(FolderError::file("create", &dir))?;
        for entry in fs::read_dir(&dir).map_err(FolderError::file("read", &dir))?.flatten() {
            let age = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
            let half_written = entry.file_name().to_string_lossy().starts_with(".tmp");
            if half_written || age.is_ok_and(|age| age > KEPT) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { dir })
    }

    /// Where the record of something is.
    pub(super) fn file(&self, of: &str) -> PathBuf {
        self.dir.join(Hash::of(of.as_bytes()).to_string())
    }

    /// What is kept of it, if that can be read.
    pub(super) fn load<T: DeserializeOwned>(
        &self,
        of: &str,
        sound: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let path = self.file(of);
        let found: Option<T> = match fs::read(&path) {
            Ok(bytes) => frame::decode(&bytes).ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(_) => None,
        };
        let found = found.filter(sound);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "what was kept of a folder can't be read");
        }
        found
    }

    /// Replaces it.
    pub(super) fn save<T: Serialize + ?Sized>(
        &self,
        of: &str,
        what: &T,
    ) -> Result<(), FolderError> {
        let bytes = frame::to_vec(&what).map_err(|e| FolderError::Nonsense(e.to_string()))?;
        self.replace(of, |file| file.write_all(&bytes))
    }

    /// Replaces it by what is written.
    pub(super) fn replace(
        &self,
        of: &str,
        content: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), FolderError> {
        let path = self.file(of);
        let write = || -> io::Result<()> {
            let mut temp = tempfile::Builder::new().prefix(".tmp").tempfile_in(&self.dir)?;
            content(temp.as_file_mut())?;
            temp.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(FolderError::file("write", &path))
    }

    /// Makes room: of many, or of much, only what was used last stays.
    pub(super) fn trim(&self, count: usize, bytes: u64) {
        let list = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut found: Vec<(SystemTime, u64, PathBuf)> = list
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        let mut total = 0;
        for (at, (_, len, path)) in found.into_iter().enumerate() {
            total += len;
            if at >= count || total > bytes {
                let _ = fs::remove_file(path);
            }
        }
    }
}
