//! Content that comes from this node: bytes of a client, files of its disk.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rhd_protocol::{data::CHUNK, folder::Entry, id::Hash};
use tempfile::NamedTempFile;

use super::{
    Shelf,
    error::DataError,
    gc::{self, Lease},
    large::{self, Source},
    lock, store,
};
use crate::{background, folders::open_plain, framed::Body};

/// Stores bytes, unless they are here.
pub(super) async fn body(shelf: &Arc<Shelf>, body: Body) -> Result<(Hash, u64, Lease), DataError> {
    if large::is_large(body.len()) {
        return once(shelf, Source::Body(body)).await;
    }
    let (hash, size) = (store::hash_of(&body).await?, body.len());
    let lease = gc::lease(shelf, hash).await;
    if shelf.store.whole(hash).await? != Some(size) {
        shelf.make_room(size).await?;
        lock(&shelf.ledger).holds(hash, size, Instant::now());
        let added = match shelf.store.add(body).await {
            Ok(added) => added,
            Err(error) => return Err(shelf.explained(error, size).await),
        };
        if added.hash != hash {
            return Err(DataError::Request("the payload changed while it was read".into()));
        }
    }
    Ok((hash, size, lease))
}

/// Stores a file, unless its content is here.
pub(super) async fn file(shelf: &Arc<Shelf>, path: &Path) -> Result<(Hash, u64, Lease), DataError> {
    let of = path.to_owned();
    let source = store::blocking(move || Source::open(&of)).await?;
    let size = source.size()?;
    if large::is_large(size) {
        return once(shelf, source).await;
    }
    let hash = store::blocking(move || source.hash()).await?;
    let lease = gc::lease(shelf, hash).await;
    if shelf.store.whole(hash).await? != Some(size) {
        shelf.make_room(size).await?;
        lock(&shelf.ledger).holds(hash, size, Instant::now());
        let added = match shelf.store.add_path(path).await {
            Ok(added) => added,
            Err(error) => return Err(shelf.explained(error, size).await),
        };
        if added.hash != hash {
            return Err(DataError::Changed(path.into()));
        }
    }
    Ok((hash, size, lease))
}

/// Stores a file of the store's own folder, which goes.
pub(super) async fn temp(
    shelf: &Arc<Shelf>,
    temp: NamedTempFile,
) -> Result<(Hash, u64, Lease), DataError> {
    let meta = temp.as_file().metadata().map_err(DataError::file("read", temp.path()))?;
    match large::is_large(meta.len()) {
        true => once(shelf, Source::Temp(temp)).await,
        false => file(shelf, temp.path()).await,
    }
}

/// Stores a large content, which is read once: what it is shows when all of it has been read.
async fn once(shelf: &Arc<Shelf>, source: Source) -> Result<(Hash, u64, Lease), DataError> {
    let size = source.size()?;
    let coming = if matches!(source, Source::Temp(_)) { 0 } else { size };
    if let Err(error) = shelf.make_room(coming).await {
        // It may be here.
        let hash = store::blocking(move || source.hash()).await?;
        let lease = gc::lease(shelf, hash).await;
        return match shelf.store.whole(hash).await? == Some(size) {
            true => Ok((hash, size, lease)),
            false => Err(error),
        };
    }
    let staged = match shelf.store.stage(source).await {
        Ok(staged) => staged,
        Err(error) => return Err(shelf.explained(error, size).await),
    };
    let hash = staged.hash;
    let lease = gc::lease(shelf, hash).await;
    if shelf.store.whole(hash).await? != Some(size) {
        lock(&shelf.ledger).holds(hash, size, Instant::now());
        if let Err(error) = shelf.store.place(staged).await {
            return Err(shelf.explained(error, size).await);
        }
    }
    Ok((hash, size, lease))
}

/// Stores a file of a folder, if it still is what it was; whether it was. It is on disk when the store
/// is synced. Whoever calls it holds a lease, and has made room.
pub(super) async fn entry(
    shelf: &Arc<Shelf>,
    path: PathBuf,
    entry: &Entry,
) -> Result<bool, DataError> {
    let (hash, size) = (entry.hash, entry.size);
    lock(&shelf.ledger).holds(hash, size, Instant::now());
    if large::is_large(size) {
        let of = path.clone();
        let source = store::blocking(move || Source::open_plain(&of)).await;
        let staged = match source {
            Ok(source) if source.size()? == size => shelf.store.stage(source).await,
            // It is gone, or another one.
            _ => return Ok(false),
        };
        return match staged {
            Ok(staged) if staged.hash == hash => shelf.store.place(staged).await.map(|()| true),
            Ok(_) | Err(DataError::Changed(_)) => Ok(false),
            Err(error) => Err(error),
        };
    }
    if size > CHUNK as u64 {
        return match shelf.store.take_path(&path).await {
            Ok(added) => Ok(added == hash),
            // It is gone, or no file any more.
            Err(_) if !tokio::fs::symlink_metadata(&path).await.is_ok_and(|m| m.is_file()) => {
                Ok(false)
            }
            Err(error) => Err(error),
        };
    }
    let of = path.clone();
    let work = background::spawn(move || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(size as usize);
        open_plain(&path)?.take(size + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = match work.await.map_err(DataError::store("read"))? {
        Ok(bytes) if Hash::of(&bytes) == hash => bytes,
        Ok(_) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(DataError::file("read", of)(e)),
    };
    shelf.store.take(bytes.into()).await?;
    Ok(true)
}
