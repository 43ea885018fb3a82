//! What is in a folder and not in its list, as an ignore file leaves it out: it is neither sent nor
//! removed.

use std::{io, path::Path};

use ignore::{IncrementalIgnore, WalkBuilder};
use rhd_protocol::folder::STAGING;

use rustix::fs::FileType;

use super::{error::FolderError, tree::Tree};

/// What the matchers of folders may take, about, in bytes: each has its own, by its path.
const RULES: usize = 64 << 20;

/// Walks a folder, but for what is ignored.
pub(super) fn walker(root: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(root);
    builder
        .standard_filters(false)
        .follow_links(false)
        .git_ignore(true)
        .git_exclude(true)
        // Whoever names a folder means what is in it, whatever is said further up.
        .parents(false)
        .require_git(false)
        .add_custom_ignore_filename(".rhdignore")
        .filter_entry(|entry| {
            let name = entry.file_name();
            entry.depth() == 0 || (name != STAGING && name != ".git")
        });
    builder
}

/// What the ignore files of a folder say of single paths, there or not.
pub(super) struct Rules<'a> {
    root: &'a Path,
    matchers: Vec<IncrementalIgnore>,
    taken: usize,
}

impl<'a> Rules<'a> {
    pub(super) fn of(root: &'a Path) -> Self {
        Self { root, matchers: walker(root).build_matchers(), taken: 0 }
    }

    /// Whether a path is left out.
    pub(super) fn leave_out(&mut self, path: &str, dir: bool) -> bool {
        // Of each folder above it, the matchers keep the path.
        self.taken += path.len() * path.split('/').count();
        if self.taken > RULES {
            *self = Self::of(self.root);
        }
        self.matchers.iter_mut().any(|matcher| matcher.matched(path, dir).is_ignore())
    }
}

/// Whether each of these paths is in a folder after all, or left out by an ignore file.
pub(super) fn there(root: &Path, paths: &[String]) -> Result<Vec<bool>, FolderError> {
    let tree = Tree::open(root).map_err(FolderError::file("open", root))?;
    let mut rules = Rules::of(root);
    let is_there = |path: &String| match tree.stat(path) {
        // A folder is none of the files that were there.
        Ok(Some(stat)) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => true,
        Ok(_) => rules.leave_out(path, false),
        // A file or a link took the place of a folder.
        Err(e) if e.kind() == io::ErrorKind::NotADirectory || is_link(&e) => {
            rules.leave_out(path, false)
        }
        // What nobody can look at may be there.
        Err(_) => true,
    };
    Ok(paths.iter().map(is_there).collect())
}

fn is_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_hidden_or_named_is_not_gone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        fs::create_dir_all(root.join("was-a-file")).unwrap();
        fs::write(root.join(".gitignore"), "*.log\n/build/\n!keep.log\n").unwrap();
        fs::write(root.join("sub/.rhdignore"), "deep/x\n").unwrap();
        fs::write(root.join("hidden.log"), "").unwrap();
        std::os::unix::fs::symlink("sub", root.join("was-a-folder")).unwrap();
        let says = [
            ("hidden.log", true),
            ("gone.log", true),
            ("gone", false),
            ("keep.log", false),
            ("build/never", true),
            ("sub/build/gone", false),
            ("sub/deep/x", true),
            ("sub/deep/y", false),
            ("was-a-file", false),
            ("was-a-folder/x", false),
            ("was-a-folder/x.log", true),
            ("hidden.log/x", true),
        ];
        let paths: Vec<String> = says.iter().map(|(path, _)| (*path).to_owned()).collect();
        let found = there(root, &paths).unwrap();
        for ((path, expected), found) in says.iter().zip(found) {
            assert_eq!(found, *expected, "{path}");
        }
    }

    #[test]
    fn rules_are_the_same_however_much_was_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".gitignore"), "x\n").unwrap();
        let mut rules = Rules::of(dir.path());
        let deep = vec!["d"; 2000].join("/");
        for _ in 0..20 {
            assert!(!rules.leave_out(&format!("{deep}/y"), false));
            assert!(rules.leave_out(&format!("{deep}/x"), false));
            assert!(rules.taken <= RULES);
        }
    }
}
