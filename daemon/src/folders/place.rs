//! The folder that is written to: each entry is whole before it is seen, and what it replaces is what
//! was looked at, or is set aside.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rhd_protocol::{
    folder::{Entry, STAGING},
    machine::reconcile::{aside, is_free},
};
use rustix::fs::FileType;
use tokio::sync::OwnedMutexGuard;

use super::{cache::Stamp, error::FolderError, tree::Tree};

/// What the name of a large file under way ends in; what came of it is used again.
const PART: &str = ".part";

fn part_of(entry: &Entry) -> String {
    let exec = if entry.exec { "-x" } else { "" };
    format!("{STAGING}/{}{exec}{PART}", entry.hash)
}

/// A folder that becomes like another.
#[derive(Debug)]
pub(super) struct Target {
    tree: Tree,
    /// Name of this node, for what is set aside.
    node: String,
    /// When, for the same.
    moment: String,
    staged: AtomicU64,
    /// Nobody else begins before the last of what was begun here has ended, also where nobody waits
    /// for that any more.
    _turn: Turn,
}

/// The right to write to a folder.
pub(super) type Turn = Arc<OwnedMutexGuard<()>>;

/// A file that is whole, and not yet in its place.
#[derive(Debug)]
pub(super) struct Staged {
    name: String,
    pub(super) file: File,
}

impl Staged {
    /// Lets those execute it who may read it.
    pub(super) fn make_executable(&self) -> io::Result<()> {
        let mode = self.file.metadata()?.permissions().mode();
        self.file.set_permissions(fs::Permissions::from_mode(mode | (mode & 0o444) >> 2))
    }
}

impl Target {
    /// Opens it; a folder is made where there is none. What a killed process left is removed, but for
    /// large files.
    pub(super) fn open(
        path: &Path,
        node: &str,
        moment: String,
        turn: Turn,
    ) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(FolderError::file("create", path))?;
        let tree = Tree::open(path).map_err(FolderError::file("open", path))?;
        let staging = path.join(STAGING);
        tree.make(STAGING).map_err(FolderError::file("create", &staging))?;
        for entry in fs::read_dir(&staging).map_err(FolderError::file("read", &staging))? {
            let entry = entry.map_err(FolderError::file("read", &staging))?.path();
            if !entry.to_string_lossy().ends_with(PART) {
                fs::remove_file(&entry).map_err(FolderError::file("remove", entry))?;
            }
        }
        let (node, staged) = (node.into(), AtomicU64::default());
        Ok(Self { tree, node, moment, staged, _turn: turn })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    fn failed(&self, what: &'static str, path: &str) -> impl FnOnce(io::Error) -> FolderError {
        FolderError::file(what, self.tree.path().join(path))
    }

    /// A file to write to, beside the folder's own.
    pub(super) fn stage(&self, exec: bool) -> Result<Staged, FolderError> {
        let nth = self.staged.fetch_add(1, Ordering::Relaxed);
        let name = format!("{STAGING}/{nth}");
        let file = self.tree.write(&name, exec, false).map_err(self.failed("write", &name))?;
        Ok(Staged { name, file })
    }

    /// The same for a large one, with what came of it before.
    pub(super) fn part(&self, entry: &Entry) -> Result<Staged, FolderError> {
        let name = part_of(entry);
        let file = self.tree.write(&name, entry.exec, true).map_err(self.failed("write", &name))?;
        file.set_len(entry.size).map_err(self.failed("write", &name))?;
        Ok(Staged { name, file })
    }

    /// Keeps a file that is whole until it is asked for, as a [`part`](Self::part).
    pub(super) fn keep(&self, staged: Staged, entry: &Entry) -> Result<(), FolderError> {
        let name = part_of(entry);
        self.tree.rename(&staged.name, &name, true).map_err(self.failed("write", &name))
    }

    /// Puts a file in its place, where `seen` was when it was looked at; the new name of what has
    /// changed since, or was not there to be seen. It is none of `theirs`, which may still come.
    pub(super) fn put(
        &self,
        staged: Staged,
        path: &str,
        seen: Option<Stamp>,
        theirs: &[Entry],
    ) -> Result<(Stamp, Option<String>), FolderError> {
        let moved = self.clear(path, seen, theirs)?;
        // Replacing what was seen; anything else has been moved out of the way.
        let placed = self.tree.rename(&staged.name, path, seen.is_some() && moved.is_none());
        placed.map_err(self.failed("write", path))?;
        let meta = staged.file.metadata().map_err(self.failed("read", path))?;
        Ok((Stamp::of(&meta), moved))
    }

    /// Makes a link or an empty folder, as [`put`](Self::put) does a file.
    pub(super) fn make(
        &self,
        entry: &Entry,
        seen: Option<Stamp>,
        theirs: &[Entry],
    ) -> Result<Option<String>, FolderError> {
        let path = entry.path.as_str();
        let moved = self.clear(path, seen, theirs)?;
        if seen.is_some() && moved.is_none() {
            self.tree.remove(path, false).map_err(self.failed("remove", path))?;
        }
        match &entry.link {
            Some(target) => self.tree.link(path, target),
            None => self.tree.make(path),
        }
        .map_err(self.failed("create", path))?;
        Ok(moved)
    }

    /// Whether anything is at a path.
    pub(super) fn has(&self, path: &str) -> Result<bool, FolderError> {
        Ok(self.tree.stat(path).map_err(self.failed("look at", path))?.is_some())
    }

    /// Sees to it that a file can be put at a path: what is there is as it was seen, or moves away.
    fn clear(
        &self,
        path: &str,
        seen: Option<Stamp>,
        theirs: &[Entry],
    ) -> Result<Option<String>, FolderError> {
        let failed = |what| self.failed(what, path);
        let Some(stat) = self.tree.stat(path).map_err(failed("look at"))? else { return Ok(None) };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // Only an empty one is in the way of nobody.
            self.tree.remove(path, true).map_err(failed("remove"))?;
            return match self.tree.stat(path).map_err(failed("look at"))? {
                Some(_) => self.aside(path, theirs).map(Some),
                None => Ok(None),
            };
        }
        match seen {
            Some(seen) if seen == Stamp::of_stat(&stat) => Ok(None),
            _ => self.aside(path, theirs).map(Some),
        }
    }

    /// Gives what is at a path another name, which it returns.
    pub(super) fn aside(&self, path: &str, theirs: &[Entry]) -> Result<String, FolderError> {
        self.away(path, path, theirs)
    }

    /// Moves what is at a path away from `blocked`, which is that or a folder above it: the new name is
    /// beside that. What they set aside within the same second may have come to have such a name, too.
    pub(super) fn away(
        &self,
        path: &str,
        blocked: &str,
        theirs: &[Entry],
    ) -> Result<String, FolderError> {
        let mut nth = 0;
        loop {
            let beside = aside(blocked, &self.node, &self.moment, nth);
            let name = format!("{beside}{}", &path[blocked.len()..]);
            let moved = match is_free(theirs, &beside) {
                true => self.tree.rename(path, &name, false),
                false => Err(io::ErrorKind::AlreadyExists.into()),
            };
            match moved {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && nth < 1000 => nth += 1,
                done => {
                    self.tree.forget();
                    return done.map(|()| name).map_err(self.failed("set aside", path));
                }
            }
        }
    }

    /// Removes what is as it was seen; whether it did.
    pub(super) fn remove(&self, entry: &Entry, seen: Option<Stamp>) -> Result<bool, FolderError> {
        let path = entry.path.as_str();
        let Some(stat) = self.tree.stat(path).map_err(self.failed("look at", path))? else {
            return Ok(true);
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir != entry.dir || (!is_dir && seen != Some(Stamp::of_stat(&stat))) {
            return Ok(false);
        }
        self.tree.remove(path, is_dir).map_err(self.failed("remove", path))?;
        Ok(true)
    }

    /// Removes what is left of what was under way; large files too, if `all` came.
    pub(super) fn finish(&self, all: bool) {
        let staging = self.tree.path().join(STAGING);
        for entry in fs::read_dir(&staging).into_iter().flatten().flatten() {
            if all || !entry.file_name().to_string_lossy().ends_with(PART) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(&staging);
    }
}

impl Drop for Target {
    /// Where it was given up, too.
    fn drop(&mut self) {
        self.finish(false);
    }
}
