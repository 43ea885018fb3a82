//! Blobs and files that come from an object store, or go to one.

use std::os::unix::fs::FileExt as _;

use bytes::BytesMut;
use futures::{StreamExt as _, TryStreamExt as _};
use rhd_protocol::{data::Content, error::ErrorInfo, id::Hash};

use super::{
    Data,
    error::DataError,
    gc::{self, Lease},
    put,
};
use crate::{
    asked::Meter,
    background,
    stores::{About, PART},
};

/// Stores an object, unless its content is here.
pub(super) async fn import(
    data: &Data,
    url: &str,
    meter: &Meter,
) -> Result<(Hash, u64, Lease), ErrorInfo> {
    let (store, shelf) = (data.stores.open(url)?, &data.shelf);
    let (object, said) = store.find("").await?;
    meter.start(0, object.size);
    if let Some(about) = said {
        let lease = gc::lease(shelf, about.hash).await;
        if shelf.store.whole(about.hash).await? == Some(object.size) {
            return Ok((about.hash, object.size, lease));
        }
    }
    // Small ones are here twice for a moment.
    shelf.make_room(object.size).await?;
    let temp = shelf.store.temp()?;
    let mut coming = std::pin::pin!(store.read(&object));
    let mut at = 0;
    while let Some(bytes) = coming.try_next().await? {
        let len = bytes.len() as u64;
        let file = temp.as_file().try_clone().map_err(DataError::file("write", temp.path()))?;
        let written = background::spawn(move || file.write_all_at(&bytes, at)).await;
        let written = written.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        written.map_err(DataError::file("write", temp.path()))?;
        at += len;
        meter.add(len);
    }
    Ok(put::temp(shelf, temp).await?)
}

/// Writes a blob that is here to an object.
pub(super) async fn export(
    data: &Data,
    content: &Content,
    url: &str,
    meter: &Meter,
) -> Result<(), ErrorInfo> {
    let store = data.stores.open(url)?;
    let about = Some(About { hash: content.hash, exec: false });
    meter.start(0, content.size);
    let mut chunks = Box::pin(data.shelf.store.read(content.hash, 0, content.size));
    if content.size <= PART {
        let mut whole = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            whole.extend_from_slice(&chunk?);
        }
        store.put("", whole.freeze(), about).await?;
        return Ok(());
    }
    let mut upload = store.upload("", content.size, about).await?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        upload.write(&chunk).await?;
        meter.add(chunk.len() as u64);
    }
    upload.finish().await?;
    Ok(())
}
