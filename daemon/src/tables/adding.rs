//! Files added to a table: all of them from one moment on, or none.
//!
//! ```text
//! with/year=1/x     rename    table/.rhd-adding/year=1/x    renames, until     table/year=1/x
//! with/year=2/y   --------->  table/.rhd-adding/year=2/y  ----------------->   table/year=2/y
//! ```
//!
//! The first rename decides. What a node that is ended in the middle leaves to be done is done before
//! the table is opened again; readers list a table's files before the first of the others, or after the
//! last.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use super::{
    error::TableError,
    layout::{Layout, Root},
    plan::Plan,
    publish::{clear, fits, place, sync_folder},
};

/// Where files wait that belong to the table and are not in their places yet; no reader looks there.
const ADDING: &str = ".rhd-adding";

/// Whether files were added that are not in their places.
pub(super) fn is_unfinished(table: &Path) -> bool {
    fs::symlink_metadata(table.join(ADDING)).is_ok()
}

/// Adds the files of `with`, which is a table by itself, to another. For one at a time; `listing` is
/// held by those who list the files of tables.
pub(super) fn add(
    table: &Path,
    with: &Path,
    new: &Plan,
    listing: &RwLock<()>,
) -> Result<(), TableError> {
    finish(table, listing)?;
    fits(&Plan::open(Root::open(table)?, &[])?, new)?;
    // What may fail fails before anything was added; folders without files are no part of a table.
    for part in &new.layout.parts {
        let to = table.join(&part.path);
        if fs::symlink_metadata(&to).is_ok() {
            let taken = std::io::ErrorKind::AlreadyExists.into();
            return Err(TableError::file("write", &to)(taken));
        }
        let folder = to.parent().map_or(Ok(()), fs::create_dir_all);
        folder.map_err(TableError::file("create the folder of", &to))?;
    }
    let adding = table.join(ADDING);
    place(with, &adding)?;
    sync_folder(Some(table));
    sync_folder(with.parent());
    finish(table, listing)
}

/// Puts files that were added in their places, if any wait for that.
pub(super) fn finish(table: &Path, listing: &RwLock<()>) -> Result<(), TableError> {
    if !is_unfinished(table) {
        return Ok(());
    }
    let adding = table.join(ADDING);
    let parts = Layout::of(Root::open(&adding)?, &[])?.parts;
    let mut places: Vec<PathBuf> = Vec::new();
    let alone = listing.write().unwrap_or_else(PoisonError::into_inner);
    for part in &parts {
        let to = free(table.join(&part.path));
        let folder = to.parent().map_or(Ok(()), fs::create_dir_all);
        folder.map_err(TableError::file("finish adding", &to))?;
        place(&adding.join(&part.path), &to)?;
        places.push(to);
    }
    drop(alone);
    // The names are on disk before those that they replace are gone from it.
    for to in &places {
        sync_folder(to.parent());
    }
    clear(&adding);
    sync_folder(Some(table));
    Ok(())
}

/// The path, or one beside it where somebody else has put a file of that name meanwhile.
fn free(path: PathBuf) -> PathBuf {
    match (fs::symlink_metadata(&path), path.file_name()) {
        (Ok(_), Some(name)) => {
            let number = rand::random::<u64>();
            path.with_file_name(format!("{number:016x}-{}", name.to_string_lossy()))
        }
        _ => path,
    }
}
