//! The `FsStore`, as it is opened.

use std::{collections::HashSet, ffi::OsStr, fs, path::Path, sync::Arc};

use iroh_blobs::{
    api::blobs::BlobStatus,
    store::fs::{
        FsStore,
        options::{BatchOptions, InlineOptions, Options, PathOptions},
    },
};
use tokio::runtime::Handle;

use super::{Held, our_hash};
use crate::{
    background,
    data::{error::DataError, gc::Sweeper},
};

#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) files: FsStore,
    pub(super) sweeper: Arc<Sweeper>,
}

impl Opened {
    /// Opens it, and says what is in it.
    pub(super) async fn open(dir: &Path) -> Result<(Self, Held), DataError> {
        let (sweeper, collector) = Sweeper::new();
        let options = Options {
            path: PathOptions::new(dir),
            inline: InlineOptions::default(),
            batch: BatchOptions::default(),
            gc: Some(collector),
        };
        // It makes threads of its own, which are like the one that makes them.
        let (runtime, path) = (Handle::current(), dir.join("blobs.db"));
        let load = move || runtime.block_on(FsStore::load_with_opts(path, options));
        let files = background::spawn(load).await.map_err(DataError::store("open"))?;
        let files = files.map_err(DataError::store("open"))?;
        let hashes = files.list().hashes().await.map_err(DataError::store("list"))?;
        remove_orphans(dir, &hashes.iter().map(|hash| hash.to_hex()).collect())?;
        let mut held = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let size = match files.status(hash).await.map_err(DataError::store("list"))? {
                BlobStatus::Complete { size } => size,
                BlobStatus::Partial { size } => size.unwrap_or(0),
                BlobStatus::NotFound => continue,
            };
            held.push((our_hash(hash), size));
        }
        Ok((Self { files, sweeper: Arc::new(sweeper) }, held))
    }
}

/// Removes files that a killed process left, which the store's table does not know.
fn remove_orphans(dir: &Path, known: &HashSet<String>) -> Result<(), DataError> {
    for (folder, any) in [("temp", true), ("data", false)] {
        let folder = dir.join(folder);
        for entry in fs::read_dir(&folder).map_err(DataError::file("read", &folder))? {
            let path = entry.map_err(DataError::file("read", &folder))?.path();
            let of = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if any || !known.contains(of) {
                tracing::debug!(path = %path.display(), "left behind, removed");
                fs::remove_file(&path).map_err(DataError::file("remove", &path))?;
            }
        }
    }
    Ok(())
}
