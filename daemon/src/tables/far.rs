//! Tables in object stores: read where they are, and written so that what was there goes last.

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;

use super::{error::TableError, layout::Root, plan::Plan, publish::fits, remote::Far};
use crate::stores::Store;

/// Opens what a store has; what takes its place later is another table. On a thread that may wait.
pub(super) fn open(store: &Store, runtime: &Handle) -> Result<Root, TableError> {
    let mut objects = runtime.block_on(store.list())?;
    if objects.is_empty() {
        objects = match runtime.block_on(store.look(""))? {
            Some((object, _)) => vec![object],
            None => return Err(TableError::Missing(as_path(store))),
        };
    }
    let far = Far::new(store.clone(), objects, runtime.clone());
    Ok(Root::far(as_path(store), far))
}

/// Puts the objects of another place in the bucket where a table is; its rows. First they come, then
/// what was there goes: who reads meanwhile may see both.
pub(super) fn replace(table: &Store, with: &Store, runtime: &Handle) -> Result<u64, TableError> {
    let new = Plan::open(open(with, runtime)?, &[])?;
    let old = runtime.block_on(table.list())?;
    if let Some(odd) = old.iter().find(|object| !is_of_table(&object.path)) {
        return Err(TableError::NoTable(as_path(table).join(&odd.path)));
    }
    let came = bring(table, with, runtime)?;
    let old = old.into_iter().map(|object| object.path).filter(|path| !came.contains(path));
    runtime.block_on(table.remove(old.collect()))?;
    Ok(new.rows())
}

/// Adds the objects of another place to a table; their rows.
pub(super) fn append(table: &Store, with: &Store, runtime: &Handle) -> Result<u64, TableError> {
    let new = Plan::open(open(with, runtime)?, &[])?;
    if !runtime.block_on(table.list())?.is_empty() {
        fits(&Plan::open(open(table, runtime)?, &[])?, &new)?;
    }
    bring(table, with, runtime)?;
    Ok(new.rows())
}

/// Removes a table.
pub(super) fn remove(table: &Store, runtime: &Handle) -> Result<(), TableError> {
    let all = runtime.block_on(table.list())?;
    let one = || runtime.block_on(table.look(""));
    if all.is_empty() && one()?.is_none() {
        return Err(TableError::Missing(as_path(table)));
    }
    if let Some(odd) = all.iter().find(|object| !is_of_table(&object.path)) {
        return Err(TableError::NoTable(as_path(table).join(&odd.path)));
    }
    let paths = match all.is_empty() {
        true => vec![String::new()],
        false => all.into_iter().map(|object| object.path).collect(),
    };
    Ok(runtime.block_on(table.remove(paths))?)
}

fn bring(table: &Store, with: &Store, runtime: &Handle) -> Result<Vec<String>, TableError> {
    let staged: Vec<String> =
        runtime.block_on(with.list())?.into_iter().map(|object| object.path).collect();
    runtime.block_on(async {
        for path in &staged {
            if !table.copy_from(with, path, path).await? {
                let text = format!("{} and {} are in different buckets", with.at(), table.at());
                return Err(TableError::Request(text));
            }
        }
        with.remove(staged.clone()).await?;
        Ok(staged)
    })
}

fn is_of_table(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with(['.', '_']) || Path::new(name).extension().is_some_and(|end| end == "parquet")
}

fn as_path(store: &Store) -> PathBuf {
    PathBuf::from(store.at().to_string())
}
