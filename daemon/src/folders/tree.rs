//! A folder, and what is in it, reached by no link: step by step from its own descriptor.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rhd_protocol::wire::safe_path;
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags, Stat},
    io::Errno,
};

use super::digest::plain;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open folder.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Arc<OwnedFd>,
    path: PathBuf,
    /// The folder that was used last: what is sorted by path is mostly in the same one.
    last: Mutex<Option<(String, Arc<OwnedFd>)>>,
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = Arc::new(fs::open(path, FOLDER, Mode::empty())?);
        Ok(Self { root, path: path.into(), last: Mutex::default() })
    }

    /// The folder that is open already.
    pub(crate) fn of(folder: OwnedFd, path: &Path) -> Self {
        Self { root: Arc::new(folder), path: path.into(), last: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that something is in, and its name there; made where there is none, if `make`.
    fn at<'a>(&self, path: &'a str, make: bool) -> io::Result<(Arc<OwnedFd>, &'a str)> {
        // Whoever asks: `..` would lead out of it.
        if !safe_path(path) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Some((folder, name)) = path.rsplit_once('/') else {
            return Ok((self.root.clone(), path));
        };
        Ok((self.folder(folder, make)?, name))
    }

    fn folder(&self, folder: &str, make: bool) -> io::Result<Arc<OwnedFd>> {
        if !safe_path(folder) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((path, fd)) = &*last()
            && path == folder
        {
            return Ok(fd.clone());
        }
        let mut at = self.root.clone();
        for name in folder.split('/') {
            let open = || fs::openat(&at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            let next = match open() {
                Err(Errno::NOENT) if make => {
                    match fs::mkdirat(&at, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => open(),
                        Err(error) => Err(error),
                    }
                }
                opened => opened,
            };
            at = Arc::new(next?);
        }
        *last() = Some((folder.to_owned(), at.clone()));
        Ok(at)
    }

    /// Forgets the folder that was used last, as it may not be there any more.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens a regular file to read.
    pub(crate) fn read(&self, path: &str) -> io::Result<File> {
        let (at, name) = self.at(path, false)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        plain(fs::openat(&at, name, flags, Mode::empty())?.into())
    }

    /// Opens a file to write, and to read back; a new one, unless `again`.
    pub(super) fn write(&self, path: &str, exec: bool, again: bool) -> io::Result<File> {
        let (at, name) = self.at(path, true)?;
        let new = if again { OFlags::empty() } else { OFlags::EXCL };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | new;
        let mode = if exec { 0o777 } else { 0o666 };
        plain(fs::openat(&at, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Names in a folder, in no order; `""` is the root.
    pub(crate) fn names(&self, folder: &str) -> io::Result<Vec<OsString>> {
        let fd = if folder.is_empty() { self.root.clone() } else { self.folder(folder, false)? };
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(&fd)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// What is there, if anything is.
    pub(crate) fn stat(&self, path: &str) -> io::Result<Option<Stat>> {
        let found = self
            .at(path, false)
            .and_then(|(at, name)| Ok(fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?));
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a folder, with those above it.
    pub(super) fn make(&self, path: &str) -> io::Result<()> {
        self.folder(path, true).map(drop)
    }

    /// Makes a symbolic link; nothing may be there.
    pub(super) fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (at, name) = self.at(path, true)?;
        Ok(fs::symlinkat(target, &at, name)?)
    }

    /// Renames; if `over`, what is there is replaced, else it must be free.
    pub(super) fn rename(&self, from: &str, to: &str, over: bool) -> io::Result<()> {
        let ((source, name), (target, new)) = (self.at(from, false)?, self.at(to, true)?);
        if over {
            return Ok(fs::renameat(&source, name, &target, new)?);
        }
        match fs::renameat_with(&source, name, &target, new, RenameFlags::NOREPLACE) {
            // A file system that can't say no.
            Err(Errno::INVAL | Errno::NOSYS) => match self.stat(to)? {
                Some(_) => Err(Errno::EXIST.into()),
                None => Ok(fs::renameat(&source, name, &target, new)?),
            },
            renamed => Ok(renamed?),
        }
    }

    /// Removes a file, link or empty folder, and the folders above it that are empty then.
    pub(super) fn remove(&self, path: &str, dir: bool) -> io::Result<()> {
        let flags = if dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let (at, name) = self.at(path, false)?;
        match fs::unlinkat(&at, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            // It is not empty: what is in it doesn't count, or came meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) if dir => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.forget();
        let mut above = path;
        while let Some((folder, _)) = above.rsplit_once('/') {
            let (at, name) = self.at(folder, false)?;
            if fs::unlinkat(&at, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            self.forget();
            above = folder;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_is_followed_on_the_way() {
        let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(out.path().join("secret"), b"x").unwrap();
        symlink(out.path(), dir.path().join("out")).unwrap();
        symlink(out.path().join("secret"), dir.path().join("secret")).unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        for out in ["../x", "..", ".", "a/../../x", "/etc/passwd", ""] {
            assert!(tree.read(out).is_err() && tree.stat(out).is_err(), "{out}");
            assert!(tree.write(out, false, true).is_err() && tree.make(out).is_err(), "{out}");
            assert!(tree.remove(out, false).is_err() && tree.link(out, "x").is_err(), "{out}");
            assert!(tree.rename("secret", out, true).is_err(), "{out}");
        }
        assert!(tree.read("out/secret").is_err());
        assert!(tree.read("secret").is_err());
        assert!(tree.write("out/new", false, false).is_err());
        assert!(tree.write("secret", false, true).is_err());
        assert!(tree.make("out/folder").is_err());
        tree.write("a", false, false).unwrap();
        assert!(tree.rename("a", "out/a", false).is_err());
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_come_and_go_with_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        tree.write("a/b/c", true, false).unwrap();
        tree.write("a/d", false, false).unwrap();
        assert!(tree.rename("a/d", "a/b/c", false).is_err(), "taken");
        tree.remove("a/b/c", false).unwrap();
        assert!(!dir.path().join("a/b").exists() && dir.path().join("a").exists());
        tree.rename("a/d", "x/y", false).unwrap();
        assert!(dir.path().join("x/y").exists());
        tree.remove("a", true).unwrap();
        tree.write("a/b/c", false, false).unwrap();
        assert!(
            dir.path().join("a/b/c").exists(),
            "the folder used last is not the one that is gone"
        );
    }
}
