//! What is kept of old versions: the newest few of each project, and those in use.
//!
//! `code/projects/<project>/<version>` is an empty file whose time says when the version was last
//! deployed. Content goes when no version that is kept stands on it.

use std::{
    collections::HashSet,
    fs::{self, File, FileTimes},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rhd_protocol::{frame, id::Hash, wire::Manifest};

use super::{
    error::BlobError,
    materialise::Code,
    store::{Store, entries},
};

/// Content younger than this is kept, whoever needs it.
const CONTENT_AGE: Duration = Duration::from_secs(3_600);

/// What a pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Versions of code.
    pub versions: usize,
    /// Pieces of content.
    pub blobs: usize,
}

fn projects(code: &Code) -> PathBuf {
    code.dir().join("projects")
}

/// Notes that a project is at this version now. `project` comes from a peer: its hash names the
/// folder.
pub(super) fn note(code: &Code, project: &str, version: Hash) -> Result<(), BlobError> {
    let dir = projects(code).join(Hash::of(project.as_bytes()).short());
    fs::create_dir_all(&dir).map_err(BlobError::io("create", &dir))?;
    let path = dir.join(version.to_string());
    File::create(&path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(SystemTime::now())))
        .map_err(BlobError::io("write", path))
}

/// Removes what nobody needs. The caller sees to it that no deployment is under way.
pub(super) fn prune(
    code: &Code,
    store: &Store,
    keep: usize,
    in_use: &[PathBuf],
    content_age: Option<Duration>,
) -> Result<Pruned, BlobError> {
    let mut kept: HashSet<Hash> = HashSet::new();
    for project in entries(&projects(code)) {
        let mut notes: Vec<_> = entries(&project)
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        notes.sort_by(|a, b| b.cmp(a));
        for (nth, (_, path)) in notes.iter().enumerate() {
            let version: Option<Hash> = named(path);
            match version {
                Some(version) if nth < keep || in_use.contains(&code.path(version)) => {
                    kept.insert(version);
                }
                _ => {
                    let _ = fs::remove_file(path);
                }
            }
        }
    }
    let mut pruned = Pruned::default();
    let mut needed: HashSet<Hash> = HashSet::new();
    for dir in entries(code.dir()).filter(|path| path.is_dir()) {
        let Some(version) = named(&dir) else { continue };
        if !kept.contains(&version) && !in_use.contains(&dir) {
            code.remove(version)?;
            pruned.versions += 1;
            continue;
        }
        let path = code.manifest_path(version);
        let bytes = fs::read(&path).map_err(BlobError::io("read", &path))?;
        // Without knowing what a kept version stands on, no content may go.
        let Ok(manifest) = frame::decode::<Manifest>(&bytes) else { return Ok(pruned) };
        needed.extend(manifest.files.values().map(|file| file.hash));
    }
    pruned.blobs = store.sweep(|hash| needed.contains(&hash), content_age.unwrap_or(CONTENT_AGE));
    Ok(pruned)
}

fn named(path: &std::path::Path) -> Option<Hash> {
    path.file_name()?.to_str()?.parse().ok()
}
