//! Content that comes from this node: bytes of a client, files of its disk.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use rhd_protocol::{data::CHUNK, folder::Entry, id::Hash};

use super::{
    Shelf,
    error::DataError,
    gc::{self, Lease},
    lock, store,
};
use crate::{background, folders::open_plain, framed::Body};

/// Stores bytes, unless they are here.
pub(super) async fn body(shelf: &Arc<Shelf>, body: Body) -> Result<(Hash, u64, Lease), DataError> {
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
    let (hash, size) = store::hash_file(path).await?;
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

/// Stores a file of a folder, if it still is what it was; whether it was. It is on disk when the store
/// is synced. Whoever calls it holds a lease, and has made room.
pub(super) async fn entry(
    shelf: &Arc<Shelf>,
    path: PathBuf,
    entry: &Entry,
) -> Result<bool, DataError> {
    let (hash, size) = (entry.hash, entry.size);
    lock(&shelf.ledger).holds(hash, size, Instant::now());
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
