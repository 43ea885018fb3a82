//! Reading back what is stored, and removing what is not what it should be.

use std::sync::Arc;

use futures::StreamExt as _;
use rhd_protocol::{
    data::{Damaged, Verified},
    id::Hash,
};

use super::{Shelf, error::DataError, gc, lock};
use crate::asked::{Meter, Out, telling};

/// Reads all content that is here and holds it against its hashes. What is damaged is removed, so
/// that it can be fetched anew.
pub(super) async fn all(shelf: &Arc<Shelf>, out: &Out) -> Result<Verified, DataError> {
    let all = lock(&shelf.ledger).all();
    let meter = Meter::default();
    meter.start(0, all.iter().map(|(_, size)| size).sum());
    let work = async {
        let mut found = Verified::default();
        for (hash, _) in all {
            let lease = gc::lease(shelf, hash).await;
            let Some(size) = shelf.store.whole(hash).await? else {
                found.partial += 1;
                continue;
            };
            let checked = one(shelf, hash, size, &meter).await;
            drop(lease);
            match checked {
                Ok(()) => {
                    found.blobs += 1;
                    found.bytes += size;
                }
                // It could not be read; it may be as it should be.
                Err(error) if !is_damage(&error) => return Err(error),
                Err(error) => {
                    gc::forget(shelf, hash).await?;
                    let names = shelf.names.of(hash);
                    found.damaged.push(Damaged { hash, names, why: error.to_string() });
                }
            }
        }
        Ok(found)
    };
    telling(out, &meter, "reading", work).await
}

async fn one(shelf: &Shelf, hash: Hash, size: u64, meter: &Meter) -> Result<(), DataError> {
    let mut chunks = Box::pin(shelf.store.read(hash, 0, size));
    let mut read = 0;
    while let Some(chunk) = chunks.next().await {
        let bytes = chunk?.len() as u64;
        read += bytes;
        meter.add(bytes);
    }
    match read == size {
        true => Ok(()),
        false => Err(DataError::Damaged { hash, why: format!("{read} of {size} bytes are there") }),
    }
}

fn is_damage(error: &DataError) -> bool {
    matches!(error, DataError::Damaged { .. })
}

/// Removes content that a read has found to be damaged, so that the next one fetches it anew.
pub(super) async fn found(shelf: &Arc<Shelf>, hash: Hash, error: &DataError) {
    if !is_damage(error) {
        return;
    }
    tracing::warn!(hash = %hash.short(), %error, "removed, to be fetched anew");
    if let Err(error) = gc::forget(shelf, hash).await {
        tracing::warn!(hash = %hash.short(), %error, "could not be removed");
    }
}
