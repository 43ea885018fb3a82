//! From a manifest to a folder of files: `code/<hash of the manifest>/`.
//!
//! It is built beside its place and renamed, so that a folder with its final name is whole. Files
//! are hard links into the store; executable ones are copies, as a link shares its permissions.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use rhd_protocol::{frame, id::Hash, wire::Manifest};

use super::{
    error::BlobError,
    store::{Store, is_stored, seal},
};
use crate::framed::FramedError;

/// Where versions of code are unfolded.
#[derive(Debug, Clone)]
pub(super) struct Code {
    dir: PathBuf,
}

impl Code {
    /// Opens it, and removes what a killed process left half-built.
    pub(super) fn open(dir: PathBuf) -> Result<Self, BlobError> {
        let code = Self { dir };
        let tmp = code.tmp();
        remove_tree(&tmp).map_err(BlobError::io("empty", &tmp))?;
        fs::create_dir_all(&tmp).map_err(BlobError::io("create", tmp))?;
        Ok(code)
    }

    fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Where all versions are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of a version.
    pub(super) fn path(&self, version: Hash) -> PathBuf {
        self.dir.join(version.to_string())
    }

    /// Whether a folder of this version is there.
    pub(super) fn has(&self, version: Hash) -> bool {
        self.path(version).is_dir()
    }

    /// Where the manifest of a version is kept.
    pub(super) fn manifest_path(&self, version: Hash) -> PathBuf {
        self.dir.join(format!("{version}.manifest"))
    }

    /// Whether the folder has all that the manifest lists, with nothing changed.
    pub(super) fn is_intact(&self, version: Hash, manifest: &Manifest) -> bool {
        let dir = self.path(version);
        manifest.files.iter().all(|(path, file)| {
            let path = dir.join(path);
            match &file.link {
                Some(target) => fs::read_link(path).is_ok_and(|to| to == Path::new(target)),
                None => fs::symlink_metadata(path).is_ok_and(|meta| is_stored(&meta, file.size)),
            }
        })
    }

    /// Builds the folder from what is in the store; the manifest must be safe.
    pub(super) fn build(
        &self,
        version: Hash,
        manifest: &Manifest,
        store: &Store,
    ) -> Result<PathBuf, BlobError> {
        let tmp = tempfile::Builder::new()
            .prefix("build")
            .tempdir_in(self.tmp())
            .map_err(BlobError::io("write in", self.tmp()))?;
        let root = tmp.path();
        let parents: BTreeSet<&str> =
            manifest.files.keys().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
        for parent in parents {
            let dir = root.join(parent);
            fs::create_dir_all(&dir).map_err(BlobError::io("create", dir))?;
        }
        for (path, file) in &manifest.files {
            let to = root.join(path);
            if let Some(target) = &file.link {
                symlink(target, &to).map_err(BlobError::io("create", to))?;
                continue;
            }
            if !store.has(file.hash, file.size) {
                return Err(BlobError::Missing(file.hash));
            }
            if file.exec {
                copy(store, file.hash, &to, 0o555)?;
            } else if fs::hard_link(store.path(file.hash), &to).is_err() {
                // Too many links to one file, or a file system without.
                copy(store, file.hash, &to, 0o444)?;
            }
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))
            .map_err(BlobError::io("finish", root))?;
        self.write_manifest(version, manifest)?;
        let place = self.path(version);
        let tmp = tmp.keep();
        let placed = fs::rename(&tmp, &place);
        match placed {
            Ok(()) => Ok(place),
            // Somebody else was first.
            Err(_) if place.is_dir() => {
                let _ = remove_tree(&tmp);
                Ok(place)
            }
            Err(e) => {
                let _ = remove_tree(&tmp);
                Err(BlobError::io("finish", place)(e))
            }
        }
    }

    /// Keeps the manifest, which says what content the folder stands on.
    fn write_manifest(&self, version: Hash, manifest: &Manifest) -> Result<(), BlobError> {
        let bytes = frame::to_vec(manifest).map_err(FramedError::from)?;
        let place = self.manifest_path(version);
        let mut file = tempfile::NamedTempFile::new_in(self.tmp())
            .map_err(BlobError::io("write in", self.tmp()))?;
        file.write_all(&bytes).map_err(BlobError::io("write", &place))?;
        file.persist(&place).map_err(|e| BlobError::io("write", place)(e.error))?;
        Ok(())
    }

    /// Removes a version, so that no half of it is ever seen.
    pub(super) fn remove(&self, version: Hash) -> Result<(), BlobError> {
        let (place, away) = (self.path(version), self.tmp().join(format!("gone-{version}")));
        remove_tree(&away).map_err(BlobError::io("remove", &away))?;
        match fs::rename(&place, &away) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(BlobError::io("remove", place)(e)),
            Ok(()) => remove_tree(&away).map_err(BlobError::io("remove", away))?,
        }
        let _ = fs::remove_file(self.manifest_path(version));
        Ok(())
    }
}

/// Copies stored content, as a clone where the file system can.
fn copy(store: &Store, hash: Hash, to: &Path, mode: u32) -> Result<(), BlobError> {
    let mut from = store.file(hash)?;
    let mut file = File::create_new(to).map_err(BlobError::io("create", to))?;
    io::copy(&mut from, &mut file)
        .and_then(|_| seal(&file, mode))
        .map_err(BlobError::io("write", to))
}

/// Removes a tree that may not be there.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
