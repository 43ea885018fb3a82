//! What files hold, on its way to an object store. It is held against its hash before it is there.

use std::{os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt as _;
use rhd_protocol::{folder::Entry, id::Hash};

use super::{blocking, cache::Stamp, error::FolderError, noted::Listing, scan::Scan, tree::Tree};
use crate::{
    asked::Meter,
    stores::{About, PART, Store},
};

/// Where it comes from.
pub(super) enum Content {
    Disk(Arc<Tree>, Scan),
    Store(Listing),
}

/// What changes when the object does, and what is known of it.
type Sent = (String, Option<About>);

impl Content {
    /// Writes one object; none where its content has changed.
    pub(super) async fn send(
        &self,
        entry: &Entry,
        to: &Store,
        meter: &Meter,
    ) -> Result<Option<Sent>, FolderError> {
        match self {
            Self::Disk(tree, scan) => {
                let about = About { hash: entry.hash, exec: entry.exec };
                let stamp = scan.stamp(&entry.path);
                let tag = from_disk(tree, stamp, entry, about, to, meter).await?;
                Ok(tag.map(|tag| (tag, Some(about))))
            }
            Self::Store(from) => match from_store(from, entry, to, meter).await {
                Err(FolderError::Store(e)) if e.is_change() || e.is_missing() => Ok(None),
                sent => sent,
            },
        }
    }
}

async fn from_disk(
    tree: &Arc<Tree>,
    stamp: Option<Stamp>,
    entry: &Entry,
    about: About,
    to: &Store,
    meter: &Meter,
) -> Result<Option<String>, FolderError> {
    let (from, path) = (tree.clone(), entry.path.clone());
    let opened = blocking(move || match from.read(&path) {
        Ok(file) => {
            let meta = file.metadata().map_err(FolderError::file("read", &path))?;
            Ok((Some(Stamp::of(&meta)) == stamp).then(|| Arc::new(file)))
        }
        Err(_) => Ok(None),
    });
    let Some(file) = opened.await? else { return Ok(None) };
    let mut hasher = blake3::Hasher::new();
    let mut upload = match entry.size > PART {
        true => Some(to.upload(&entry.path, entry.size, Some(about)).await?),
        false => None,
    };
    let (mut at, mut whole) = (0, Bytes::new());
    while at < entry.size {
        let (file, len, path) = (file.clone(), PART.min(entry.size - at), entry.path.clone());
        let (bytes, hashed) = blocking(move || {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
            match file.read_exact_at(&mut bytes, at) {
                // Shorter than it was: its hash will say so.
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {}
                read => read.map_err(FolderError::file("read", path))?,
            }
            hasher.update(&bytes);
            Ok((Bytes::from(bytes), hasher))
        })
        .await?;
        hasher = hashed;
        at += len;
        match &mut upload {
            Some(upload) => {
                upload.write(&bytes).await?;
                meter.add(len);
            }
            None => whole = bytes,
        }
    }
    // Whoever reads it is told this hash.
    if found(&hasher) != entry.hash {
        return Ok(None);
    }
    Ok(Some(match upload {
        Some(upload) => upload.finish().await?,
        None => {
            let tag = to.put(&entry.path, whole, Some(about)).await?;
            meter.add(entry.size);
            tag
        }
    }))
}

async fn from_store(
    from: &Listing,
    entry: &Entry,
    to: &Store,
    meter: &Meter,
) -> Result<Option<Sent>, FolderError> {
    let Some(object) = from.object(&entry.path) else { return Ok(None) };
    let (path, known) = (entry.path.as_str(), from.about(object));
    if to.copy_from(&from.store, path, path).await? {
        meter.add(object.size);
        let now = to
            .look(path)
            .await?
            .map(|(now, said)| (now.tag, said.or(known).filter(|_| now.size == object.size)));
        return Ok(now);
    }
    let about = match known {
        Some(about) => Some(about),
        None => from.store.look(path).await?.and_then(|(_, said)| said),
    };
    let is_other = |hash| about.is_some_and(|about| about.hash != hash);
    let exec = about.is_some_and(|about| about.exec);
    if object.size <= PART {
        let (bytes, _) = from.store.take(object).await?;
        let about = About { hash: Hash::of(&bytes), exec };
        if is_other(about.hash) {
            return Ok(None);
        }
        let tag = to.put(path, bytes, Some(about)).await?;
        meter.add(object.size);
        return Ok(Some((tag, Some(about))));
    }
    let mut upload = to.upload(path, object.size, about).await?;
    let mut hasher = blake3::Hasher::new();
    let mut coming = std::pin::pin!(from.store.read(object));
    while let Some(bytes) = coming.try_next().await? {
        hasher.update(&bytes);
        upload.write(&bytes).await?;
        meter.add(bytes.len() as u64);
    }
    let about = About { hash: found(&hasher), exec };
    if is_other(about.hash) {
        return Ok(None);
    }
    Ok(Some((upload.finish().await?, Some(about))))
}

fn found(hasher: &blake3::Hasher) -> Hash {
    Hash::from_bytes(*hasher.finalize().as_bytes())
}
