//! Which files of a project are shipped.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
};

use ignore::{DirEntry, WalkBuilder};
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    wire::safe_path,
};

use super::config::Config;

/// Folders that are never code.
const SKIPPED: [&str; 8] = [
    ".git",
    "__pycache__",
    ".venv",
    "venv",
    "node_modules",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
];
/// The walk stops at this many times the files that are allowed: enough to name the offenders.
const LOOK_AHEAD: usize = 10;
/// Warnings that are kept; the rest is counted.
const WARNINGS: usize = 20;

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Relative path with `/`; regular files and links.
    pub(super) files: Vec<(String, Metadata)>,
    /// What was left out for no rule of the user's.
    pub(super) warnings: Vec<String>,
    /// Whether there is more than was looked at.
    pub(super) cut: bool,
}

/// Lists the files below `root` that are not ignored; or below `only`, which may name what is.
pub(super) fn walk(root: &Path, only: &[String], config: &Config) -> Result<Found, ErrorInfo> {
    let mut found = Found::default();
    let mut left_out = 0;
    let mut starts = Vec::new();
    for part in only {
        let start = start(root, part)?;
        match fs::symlink_metadata(&start) {
            Ok(meta) if meta.is_dir() => starts.push(start),
            // Named by the user: no rule leaves it out.
            Ok(meta) => found.files.push((part.clone(), meta)),
            Err(_) => {}
        }
    }
    if only.is_empty() {
        starts.push(root.to_path_buf());
    }
    let limit = config.max_project_files.saturating_mul(LOOK_AHEAD);
    for start in starts {
        for entry in builder(root, &start).build() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    left_out += 1;
                    found.warn(left_out, || format!("left out: {e}"));
                    continue;
                }
            };
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                continue;
            }
            let relative = entry.path().strip_prefix(root).ok().and_then(Path::to_str);
            match relative.filter(|path| safe_path(path)) {
                Some(path) if meta.is_file() || meta.is_symlink() => {
                    found.files.push((path.to_owned(), meta));
                }
                // Sockets, pipes, devices.
                Some(_) => {}
                None => {
                    left_out += 1;
                    let path = entry.path().display();
                    found
                        .warn(left_out, || format!("{path} is left out: its name does not travel"));
                }
            }
            if found.files.len() > limit {
                found.cut = true;
                return Ok(found);
            }
        }
    }
    if left_out > WARNINGS {
        found.warnings.push(format!("{} more are left out", left_out - WARNINGS));
    }
    if only.len() > 1 {
        // Parts may overlap.
        found.files.sort_by(|a, b| a.0.cmp(&b.0));
        found.files.dedup_by(|a, b| a.0 == b.0);
    }
    Ok(found)
}

impl Found {
    fn warn(&mut self, nth: usize, text: impl FnOnce() -> String) {
        if nth <= WARNINGS {
            self.warnings.push(text());
        }
    }
}

/// Where a part named by the user is: below the root, reached through no link.
fn start(root: &Path, part: &str) -> Result<PathBuf, ErrorInfo> {
    let bad = |message| Err(ErrorInfo::new(ErrorKind::BadRequest, message));
    let part = part.trim_end_matches('/');
    if matches!(part, "" | ".") {
        return Ok(root.to_path_buf());
    }
    if !safe_path(part) {
        return bad(format!("{part:?} is no path below {}", root.display()));
    }
    let path = root.join(part);
    let above = path.parent().unwrap_or(root);
    if fs::symlink_metadata(&path).is_err() {
        return bad(format!("{} has no {part}", root.display()));
    }
    if fs::canonicalize(above).ok().as_deref() != Some(above) {
        return bad(format!("{part} is reached through a link in {}", root.display()));
    }
    Ok(path)
}

fn builder(root: &Path, start: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(start);
    // Ignore files above the project count only where git would read them, or for a part of it.
    let in_git = root.ancestors().any(|dir| dir.join(".git").exists());
    builder
        .follow_links(false)
        .ignore(false)
        .require_git(false)
        .parents(in_git || start != root)
        .add_custom_ignore_filename(".rhdignore")
        .filter_entry(is_wanted);
    builder
}

/// Drops what is never code, unless it is what the user named.
fn is_wanted(entry: &DirEntry) -> bool {
    let Some(name) = entry.file_name().to_str() else { return true };
    if entry.depth() == 0 {
        return true;
    }
    if entry.file_type().is_some_and(|kind| kind.is_dir()) {
        return !SKIPPED.contains(&name) && !entry.path().join("pyvenv.cfg").exists();
    }
    // `.git` is a file in a work tree of another repository.
    !name.ends_with(".pyc") && name != ".git"
}
