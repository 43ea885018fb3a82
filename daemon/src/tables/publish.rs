//! Tables put in the place of others, and files added to them, so that nobody sees a half.
//!
//! What was replaced or removed is kept beside its place, under a hidden name, until the last who
//! reads it is done.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{adding, error::TableError, layout::Root, plan::Plan, unify::Unified};

/// Files that may be in a table's folder and are no part of it.
const BESIDE: &[&str] = &["_SUCCESS", "_metadata", "_common_metadata"];
/// Paths that are kept in mind before those that nobody reads are forgotten.
const MANY: usize = 256;

/// The tables that are read now, by their paths.
#[derive(Debug, Default)]
pub(super) struct Published {
    read: Mutex<HashMap<PathBuf, Weak<Held>>>,
    /// Those that have gone from their places, and are still read.
    retired: Mutex<Vec<(PathBuf, Weak<Held>)>>,
    /// Held by the one who writes, so that one change comes after the other.
    writing: Mutex<()>,
    /// Held by those who list the files of a table; alone, by the one who adds some.
    listing: Arc<RwLock<()>>,
}

/// What a table was when somebody began to read it.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Where it is kept for them since it was replaced.
    retired: Mutex<Option<PathBuf>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(path) = lock(&self.retired).take() {
            clear(&path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what nobody needs; what can't be removed now is tried again with the next change.
pub(super) fn clear(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "an old table stays");
    }
}

impl Published {
    /// Opens a table, whose files stay as long as what comes with it.
    pub(super) fn open(&self, path: &Path) -> Result<(Root, Arc<Held>), TableError> {
        if adding::is_unfinished(path) {
            let _turn = lock(&self.writing);
            adding::finish(path, &self.listing)?;
        }
        // Held so that what is opened is what others hold under this path.
        let mut read = lock(&self.read);
        let root = Root::open(path)?.listed_under(self.listing.clone());
        if read.len() > MANY {
            read.retain(|_, held| held.strong_count() > 0);
        }
        if let Some(held) = read.get(path).and_then(Weak::upgrade) {
            return Ok((root, held));
        }
        let held = Arc::new(Held::default());
        read.insert(path.to_owned(), Arc::downgrade(&held));
        Ok((root, held))
    }

    /// Puts `with` in the place of a table; its rows.
    pub(super) fn replace(&self, path: &Path, with: &Path) -> Result<u64, TableError> {
        Ok(self.replace_if(path, with, || Ok(true))?.unwrap_or_default())
    }

    /// The same, unless something is not so once nobody else writes; none then.
    pub(super) fn replace_if(
        &self,
        path: &Path,
        with: &Path,
        is_so: impl FnOnce() -> Result<bool, TableError>,
    ) -> Result<Option<u64>, TableError> {
        let rows = settled(with)?.rows();
        let _turn = lock(&self.writing);
        if !is_so()? {
            return Ok(None);
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => place(with, path)?,
            Err(error) => return Err(TableError::file("replace", path)(error)),
            Ok(_) => {
                is_table(path)?;
                self.retire(path, Some(with))?;
            }
        }
        sync_folder(path.parent());
        Ok(Some(rows))
    }

    /// Removes a table.
    pub(super) fn remove(&self, path: &Path) -> Result<(), TableError> {
        let _turn = lock(&self.writing);
        if fs::symlink_metadata(path).is_err() {
            return Err(TableError::Missing(path.into()));
        }
        is_table(path)?;
        self.retire(path, None)?;
        sync_folder(path.parent());
        Ok(())
    }

    /// Takes a table out of its place, which `with` gets.
    fn retire(&self, path: &Path, with: Option<&Path>) -> Result<(), TableError> {
        let failed = || TableError::file("replace", path);
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(TableError::Request("the root of a file system is no table".into()));
        };
        let prefix = format!(".{}.rhd-old-", name.to_string_lossy());
        let mut read = lock(&self.read);
        self.sweep(above, &prefix);
        let old = above.join(format!("{prefix}{:016x}", rand::random::<u64>()));
        match with {
            None => fs::rename(path, &old).map_err(failed())?,
            Some(with) => match renameat_with(CWD, with, CWD, path, RenameFlags::EXCHANGE) {
                Ok(()) => fs::rename(with, &old).map_err(failed())?,
                // A file system that can't exchange: for a moment there is none.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    fs::rename(path, &old).map_err(failed())?;
                    if let Err(error) = place(with, path) {
                        fs::rename(&old, path).map_err(failed())?;
                        return Err(error);
                    }
                }
                Err(error) => return Err(failed()(error.into())),
            },
        }
        let held = read.remove(path).and_then(|held| held.upgrade());
        drop(read);
        match held {
            Some(held) => {
                lock(&self.retired).push((old.clone(), Arc::downgrade(&held)));
                // Removed by the last who reads it, which may be this one by now.
                *lock(&held.retired) = Some(old);
            }
            None => clear(&old),
        }
        Ok(())
    }

    /// Removes what a node left that was ended meanwhile.
    fn sweep(&self, above: &Path, prefix: &str) {
        let mut retired = lock(&self.retired);
        retired.retain(|(_, held)| held.strong_count() > 0);
        let in_use = |path: &Path| retired.iter().any(|(retired, _)| retired == path);
        for entry in fs::read_dir(above).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(prefix) && !in_use(&entry.path()) {
                clear(&entry.path());
            }
        }
    }

    /// Adds the files of `with` to a table; their rows.
    pub(super) fn append(&self, path: &Path, with: &Path) -> Result<u64, TableError> {
        let new = settled(with)?;
        let rows = new.rows();
        let _turn = lock(&self.writing);
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place(with, path)?;
                sync_folder(path.parent());
                return Ok(rows);
            }
            Err(error) => return Err(TableError::file("write to", path)(error)),
            Ok(meta) if !meta.is_dir() => {
                let text = format!("{} is one file: nothing can be added to it", path.display());
                return Err(TableError::Request(text));
            }
            Ok(_) => {}
        }
        adding::add(path, with, &new, &self.listing)?;
        Ok(rows)
    }
}

/// A folder of Parquet files that can be read, and is on its disk.
fn settled(folder: &Path) -> Result<Plan, TableError> {
    if !folder.is_dir() {
        return Err(TableError::Missing(folder.into()));
    }
    let plan = Plan::open(Root::open(folder)?, &[])?;
    for part in &plan.layout.parts {
        let path = plan.layout.full(part);
        plan.layout.file(part)?.sync().map_err(TableError::file("write", &path))?;
        sync_folder(path.parent());
    }
    Ok(plan)
}

/// Has a folder's names on its disk, where its file system can.
pub(super) fn sync_folder(folder: Option<&Path>) {
    if let Some(Ok(folder)) = folder.map(fs::File::open) {
        let _ = folder.sync_all();
    }
}

/// Renames to where nothing is yet.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), TableError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(to).is_err() => {
            fs::rename(from, to).map_err(TableError::file("write", to))
        }
        moved => moved.map_err(|e| TableError::file("write", to)(e.into())),
    }
}

/// Refuses what is more than a table: it would be lost.
fn is_table(path: &Path) -> Result<(), TableError> {
    let mut folders = vec![path.to_owned()];
    let meta = fs::symlink_metadata(path).map_err(TableError::file("replace", path))?;
    if meta.is_file() && !is_part(path) {
        return Err(TableError::NoTable(path.into()));
    }
    if !meta.is_dir() {
        return Ok(());
    }
    while let Some(folder) = folders.pop() {
        let failed = || TableError::file("list", &folder);
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let kind = entry.file_type().map_err(failed())?;
            match kind.is_dir() {
                true => folders.push(entry.path()),
                false if kind.is_file() && is_part(&entry.path()) => {}
                false => return Err(TableError::NoTable(entry.path())),
            }
        }
    }
    Ok(())
}

/// Whether a file may be in the folder of a table, by its name.
fn is_part(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let ends = |end: &&str| name.ends_with(*end);
    [".parquet", ".parq", ".pq"].iter().any(ends)
        || BESIDE.contains(&name.as_ref())
        || (name.starts_with('.') && name.ends_with(".crc"))
}

/// Refuses files that would make a table one that can't be read.
pub(super) fn fits(old: &Plan, new: &Plan) -> Result<(), TableError> {
    let (mut one, mut other) = (old.layout.keys.clone(), new.layout.keys.clone());
    one.sort();
    other.sort();
    if one != other && old.rows() > 0 && new.rows() > 0 {
        let named = |keys: &[String]| match keys {
            [] => "none".to_owned(),
            keys => keys.join(", "),
        };
        return Err(TableError::Request(format!(
            "{} has other partition columns: {} rather than {}",
            old.layout.root.display(),
            named(&one),
            named(&other)
        )));
    }
    let mut unified = Unified::default();
    unified.add(&old.schema, &old.layout.keys, &old.layout.root)?;
    for index in 0..new.files.len() {
        let (_, full, _, footer) = new.part(index)?;
        unified.add(footer.schema(), &new.layout.keys, &full)?;
    }
    Ok(())
}
