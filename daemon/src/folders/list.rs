//! A folder as its node's own file system has it: listed, made, moved, removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rhd_protocol::{folder::Listed, wire::safe_path};

use super::error::FolderError;

/// Names that one list has at most.
const MAX: usize = 100_000;

/// What is in a folder, sorted by name.
pub(super) fn list(path: &Path) -> Result<Vec<Listed>, FolderError> {
    let failed = || FolderError::file("list", path);
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(FolderError::Missing(path.into()));
        }
        entries => entries.map_err(failed())?,
    };
    let mut listed = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let Ok(meta) = entry.metadata() else { continue };
        if listed.len() >= MAX {
            return Err(FolderError::TooMany { path: path.into(), limit: MAX });
        }
        let changed = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        listed.push(Listed {
            name: entry.file_name().to_string_lossy().into_owned(),
            dir: meta.is_dir(),
            size: if meta.is_file() { meta.len() } else { 0 },
            changed_ms: changed.map_or(0, |at| at.as_millis() as u64),
        });
    }
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Moves a folder; copied where it goes to another file system is not among what this does.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FolderError> {
    if fs::symlink_metadata(from).is_err() {
        return Err(FolderError::Missing(from.into()));
    }
    if let Some(above) = to.parent() {
        fs::create_dir_all(above).map_err(FolderError::file("create", above))?;
    }
    let cwd = rustix::fs::CWD;
    match rustix::fs::renameat_with(cwd, from, cwd, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
            Err(FolderError::Taken(to.into()))
        }
        moved => moved.map_err(|e| FolderError::file("move", from)(e.into())),
    }
}

/// Removes a folder, or some of what is in it. Links are removed, not what they lead to.
pub(super) fn remove(path: &Path, contents: Option<&[String]>) -> Result<(), FolderError> {
    let parts: Vec<PathBuf> = match contents {
        None => vec![path.to_owned()],
        Some(names) => {
            if let Some(bad) = names.iter().find(|name| !safe_path(name)) {
                let text = format!("{bad:?} is no path in {}", path.display());
                return Err(FolderError::Request(text));
            }
            names.iter().map(|name| path.join(name)).collect()
        }
    };
    if path.parent().is_none() {
        return Err(FolderError::Request("the root of a file system is not removed".into()));
    }
    for part in parts {
        let meta = fs::symlink_metadata(&part).map_err(FolderError::file("remove", &part))?;
        // A link on the way would lead out.
        let inside = part.parent().and_then(|above| fs::canonicalize(above).ok());
        let root = fs::canonicalize(path.parent().unwrap_or(path)).ok();
        if inside.zip(root).is_none_or(|(inside, root)| !inside.starts_with(root)) {
            let text = format!("{} leads out of {}", part.display(), path.display());
            return Err(FolderError::Request(text));
        }
        let removed =
            if meta.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
        removed.map_err(FolderError::file("remove", &part))?;
    }
    Ok(())
}
