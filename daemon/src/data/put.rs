//! Content that comes from this node: bytes of a client, files of its disk.

use std::{path::Path, sync::Arc, time::Instant};

use rhd_protocol::id::Hash;

use super::{
    Shelf,
    error::DataError,
    gc::{self, Lease},
    lock, store,
};
use crate::framed::Body;

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
