//! Which files a table has, and what the names of the folders on the way say.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use percent_encoding::percent_decode_str;
use rhd_protocol::table::{MAX_FILES, NO_VALUE, Only};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::{error::TableError, file::Source, remote::Far};
use crate::folders::Tree;

/// Folders in each other, at most.
const DEPTH: usize = 16;
/// Names in all its folders, at most: files and what else there is.
const NAMES: usize = 4 * MAX_FILES;

/// A column that the name of a folder gives: its name and value.
pub(super) type Key = (String, Option<String>);

/// A file of a table.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// Relative to the table; empty where the table is one file.
    pub(super) path: String,
    pub(super) keys: Vec<Key>,
}

/// A table's folder, or its one file, as it is when it is opened.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    opened: Opened,
    /// Held while its files are listed: none comes or goes meanwhile.
    listing: Arc<RwLock<()>>,
}

#[derive(Debug)]
enum Opened {
    Folder(Tree),
    File(File),
    Far(Far),
}

impl Root {
    /// Opens what is there now; what takes its place later is another table.
    pub(super) fn open(path: &Path) -> Result<Self, TableError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(TableError::Missing(path.into())),
            Err(error) => return Err(TableError::file("open", path)(error.into())),
        };
        let meta = file.metadata().map_err(TableError::file("open", path))?;
        let opened = if meta.is_file() {
            Opened::File(file)
        } else if meta.is_dir() {
            Opened::Folder(Tree::of(file.into(), path))
        } else {
            return Err(TableError::broken(path)(&"it is neither a file nor a folder"));
        };
        Ok(Self { path: path.into(), opened, listing: Arc::default() })
    }

    /// What is in an object store.
    pub(super) fn far(path: PathBuf, far: Far) -> Self {
        Self { path, opened: Opened::Far(far), listing: Arc::default() }
    }

    /// The same, whose files are listed while nobody holds this alone.
    pub(super) fn listed_under(self, listing: Arc<RwLock<()>>) -> Self {
        Self { listing, ..self }
    }
}

/// The files of a table.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    opened: Opened,
    /// Sorted by path.
    pub(super) parts: Vec<Part>,
    /// All partition columns, those of partitions that are not wanted among them.
    pub(super) keys: Vec<String>,
}

impl Layout {
    /// Looks for the files of the wanted partitions.
    pub(super) fn of(root: Root, only: &[Only]) -> Result<Self, TableError> {
        let Root { path, opened, listing } = root;
        let mut layout = Self { root: path, opened, parts: Vec::new(), keys: Vec::new() };
        match layout.opened {
            Opened::File(_) => layout.parts.push(Part { path: String::new(), keys: Vec::new() }),
            Opened::Folder(_) => {
                let _held = listing.read().unwrap_or_else(PoisonError::into_inner);
                layout.walk("", &mut Vec::new(), only, &mut 0)?;
            }
            Opened::Far(_) => layout.gather(only)?,
        }
        layout.parts.sort_by(|a, b| a.path.cmp(&b.path));
        // What is beside its partitions has no value in their columns.
        layout.parts.retain(|part| {
            let has = |only: &Only| part.keys.iter().any(|(key, _)| *key == only.key);
            only.iter().all(|only| has(only) || only.values.contains(&None))
        });
        // An empty table has no folders that could say what its partitions are.
        let unknown = |only: &&Only| !layout.keys.contains(&only.key);
        if let Some(only) = only.iter().find(unknown)
            && !(layout.parts.is_empty() && layout.keys.is_empty())
        {
            let known = if layout.keys.is_empty() { "none".into() } else { layout.keys.join(", ") };
            return Err(TableError::Request(format!(
                "{:?} is no partition column of {}: there are {known}",
                only.key,
                layout.root.display()
            )));
        }
        Ok(layout)
    }

    fn walk(
        &mut self,
        folder: &str,
        keys: &mut Vec<Key>,
        only: &[Only],
        seen: &mut usize,
    ) -> Result<(), TableError> {
        let full = self.root.join(folder);
        if folder.split('/').count() > DEPTH {
            let text = format!("{} is more than {DEPTH} folders deep", full.display());
            return Err(TableError::TooMuch(text));
        }
        let Opened::Folder(tree) = &self.opened else { return Ok(()) };
        let names = tree.names(folder).map_err(TableError::file("list", &full))?;
        *seen += names.len();
        if *seen > NAMES {
            let text = format!("{} has more than {MAX_FILES} files", self.root.display());
            return Err(TableError::TooMuch(text));
        }
        for name in names {
            let at = full.join(&name);
            let name = name.into_string().map_err(|_| unnamed(&at))?;
            if name.starts_with(['.', '_']) {
                continue;
            }
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let Opened::Folder(tree) = &self.opened else { return Ok(()) };
            let stat = tree.stat(&path).map_err(TableError::file("read", &at))?;
            match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                Some(FileType::Directory) => {
                    let key = key(&name);
                    if let Some((column, value)) = &key {
                        if !self.keys.contains(column) {
                            self.keys.push(column.clone());
                        }
                        if !wanted(only, column, value.as_deref()) {
                            continue;
                        }
                    }
                    let depth = keys.len();
                    keys.extend(key);
                    self.walk(&path, keys, only, seen)?;
                    keys.truncate(depth);
                }
                Some(FileType::RegularFile) => {
                    if self.parts.len() >= MAX_FILES {
                        let text =
                            format!("{} has more than {MAX_FILES} files", self.root.display());
                        return Err(TableError::TooMuch(text));
                    }
                    self.parts.push(Part { path, keys: keys.clone() });
                }
                // It went meanwhile.
                None => {}
                Some(_) => {
                    let why = "it is no plain file, and links are not followed".to_owned();
                    return Err(TableError::Broken { path: at, why });
                }
            }
        }
        Ok(())
    }

    /// The same of an object store, which lists all of it at once.
    fn gather(&mut self, only: &[Only]) -> Result<(), TableError> {
        let Opened::Far(far) = &self.opened else { return Ok(()) };
        for path in far.paths() {
            if path.split('/').any(|name| name.starts_with(['.', '_'])) {
                continue;
            }
            let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
            let keys: Vec<Key> = folders.split('/').filter_map(key).collect();
            for (column, _) in &keys {
                if !self.keys.contains(column) {
                    self.keys.push(column.clone());
                }
            }
            if keys.iter().all(|(column, value)| wanted(only, column, value.as_deref())) {
                if self.parts.len() >= MAX_FILES {
                    let text = format!("{} has more than {MAX_FILES} files", self.root.display());
                    return Err(TableError::TooMuch(text));
                }
                self.parts.push(Part { path: path.to_owned(), keys });
            }
        }
        Ok(())
    }

    /// The full path of a part, for people.
    pub(super) fn full(&self, part: &Part) -> PathBuf {
        if part.path.is_empty() { self.root.clone() } else { self.root.join(&part.path) }
    }

    /// Opens a part's file, even where the table was replaced meanwhile.
    pub(super) fn file(&self, part: &Part) -> Result<Source, TableError> {
        let disk = |file| Source::Disk(Arc::new(file));
        let opened = match &self.opened {
            Opened::File(file) => file.try_clone().map(disk),
            Opened::Folder(tree) => tree.read(&part.path).map(disk),
            Opened::Far(far) => far.open(&part.path).map(Source::Store),
        };
        opened.map_err(TableError::file("open", self.full(part)))
    }
}

fn unnamed(path: &Path) -> TableError {
    TableError::Request(format!("{} has a name that is not UTF-8", path.display()))
}

/// The column and value in the name of a folder.
fn key(name: &str) -> Option<Key> {
    let (column, value) = name.split_once('=')?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let value = (value != NO_VALUE).then(|| decoded(value));
    Some((decoded(column), value)).filter(|(column, _)| !column.is_empty())
}

fn wanted(only: &[Only], column: &str, value: Option<&str>) -> bool {
    only.iter().filter(|only| only.key == column).all(|only| {
        only.values.iter().any(|wanted| {
            let same = wanted.as_deref() == value;
            // `month=01` is wanted by 1, too.
            let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
            same || number(value).is_some_and(|value| number(wanted.as_deref()) == Some(value))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_folders_say_what_is_in_them() {
        assert_eq!(key("year=2024"), Some(("year".into(), Some("2024".into()))));
        assert_eq!(key("a%20b=x%2Fy=z"), Some(("a b".into(), Some("x/y=z".into()))));
        assert_eq!(key(&format!("year={NO_VALUE}")), Some(("year".into(), None)));
        assert_eq!((key("plain"), key("=x")), (None, None));
    }

    #[test]
    fn numbers_are_wanted_by_value() {
        let only = |value: Option<&str>| {
            vec![Only { key: "m".into(), values: vec![value.map(str::to_owned)] }]
        };
        assert!(wanted(&only(Some("1")), "m", Some("01")));
        assert!(!wanted(&only(Some("1")), "m", Some("11")) && !wanted(&only(Some("1")), "m", None));
        assert!(wanted(&only(None), "m", None) && wanted(&only(Some("1")), "other", Some("2")));
    }
}
