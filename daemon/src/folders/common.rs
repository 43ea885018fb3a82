//! What two folders last had in common: a file for each pair, at the one that was brought to the other.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rhd_protocol::{
    folder::{Entry, is_sound},
    frame,
    id::{Hash, NodeId},
};

use super::error::FolderError;

/// How long a pair is remembered that is not brought together any more.
const KEPT: Duration = Duration::from_secs(180 * 24 * 3600);

/// The pairs of a node.
#[derive(Debug)]
pub(super) struct Common {
    dir: PathBuf,
}

impl Common {
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

    fn file(&self, here: &Path, node: NodeId, there: &str) -> PathBuf {
        let pair = format!("{}\0{node}\0{there}", here.display());
        self.dir.join(Hash::of(pair.as_bytes()).to_string())
    }

    /// What the folder `here` and the one of `node` last had in common; nothing, if they never met.
    pub(super) fn load(&self, here: &Path, node: NodeId, there: &str) -> Vec<Entry> {
        let path = self.file(here, node, there);
        let entries: Option<Vec<Entry>> = match fs::read(&path) {
            Ok(bytes) => frame::decode(&bytes).ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(_) => None,
        };
        entries.filter(|entries| is_sound(entries)).unwrap_or_else(|| {
            // Without it, what differs is set aside instead of replaced: nothing is lost.
            tracing::warn!(path = %path.display(), "what two folders had in common can't be read");
            Vec::new()
        })
    }

    /// Remembers what they have in common now.
    pub(super) fn save(
        &self,
        here: &Path,
        node: NodeId,
        there: &str,
        entries: &[Entry],
    ) -> Result<(), FolderError> {
        let path = self.file(here, node, there);
        let bytes = frame::to_vec(&entries).map_err(|e| FolderError::Nonsense(e.to_string()))?;
        let write = || -> io::Result<()> {
            let mut temp = tempfile::Builder::new().prefix(".tmp").tempfile_in(&self.dir)?;
            temp.write_all(&bytes)?;
            temp.persist(&path).map_err(|e| e.error)?;
            Ok(())
        };
        write().map_err(FolderError::file("write", &path))
    }
}
