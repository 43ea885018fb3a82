//! Folders of object stores, on their way to a disk here.

use std::{
    collections::HashSet,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rhd_protocol::{
    folder::{Entry, Scanned},
    id::Hash,
    pieces::PIECE,
};

use super::{
    blocking,
    error::FolderError,
    fetch::{self, Fetch},
    noted::{Listing, Notes},
    place::{Staged, Target},
    round::Round,
};
use crate::{
    asked::Meter,
    stores::{About, Object, Store},
};

/// Objects that are read at once; each takes a few MiB.
const AT_ONCE: usize = 8;

/// A folder of an object store that one here shall be like.
pub(super) struct Far {
    store: Store,
    notes: Arc<Notes>,
}

/// What is in it, and what of that is here already.
pub(super) struct Found {
    listing: Listing,
    /// Content that had to be read to be known, whole and beside the folder.
    staged: Mutex<HashSet<Hash>>,
    moved: u64,
}

impl Far {
    pub(super) fn new(store: Store, notes: Arc<Notes>) -> Self {
        Self { store, notes }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        self.store.at().to_string()
    }

    /// What is in it, with hashes. What none is known of is read, and kept to be put in its place.
    pub(super) async fn scan(
        &self,
        target: &Arc<Target>,
        meter: &Meter,
    ) -> Result<(Vec<Entry>, Scanned, Found), FolderError> {
        let mut skipped = Vec::new();
        let listing = Listing::of(self.store.clone(), &self.notes, &mut skipped).await?;
        // Also where somebody emptied it: what is here stays.
        if listing.objects.is_empty() {
            return Err(FolderError::Missing(self.url().into()));
        }
        let found = Found { listing, staged: Mutex::default(), moved: 0 };
        let objects = &found.listing.objects;
        let is_unknown = |at: &usize| found.listing.about(&objects[*at]).is_none();
        let unknown: Vec<usize> = (0..objects.len()).filter(is_unknown).collect();
        meter.start(0, unknown.iter().map(|at| objects[*at].size).sum());
        let learn = unknown.into_iter().map(|at| found.learn(at, target, meter));
        let learnt: Result<Vec<u64>, _> =
            stream::iter(learn).buffer_unordered(AT_ONCE).try_collect().await;
        // What was read need not be read again, whatever else went wrong.
        found.listing.save().await?;
        let moved = learnt?.into_iter().sum();
        let entries = found.listing.entries();
        let said = Scanned {
            path: self.url(),
            entries: entries.len() as u64,
            bytes: entries.iter().map(|entry| entry.size).sum(),
            skipped,
        };
        Ok((entries, said, Found { moved, ..found }))
    }
}

impl Found {
    /// Gets to know what an object holds; returns the bytes that came.
    async fn learn(
        &self,
        at: usize,
        target: &Arc<Target>,
        meter: &Meter,
    ) -> Result<u64, FolderError> {
        let object = &self.listing.objects[at];
        // For a small one, to ask what it is takes as long as to have it.
        if object.size == 0 || object.size > PIECE {
            let looked = self.listing.store.look(&object.path).await?;
            let said = looked.filter(|(now, _)| now.tag == object.tag).and_then(|(_, said)| said);
            let said = said
                .or_else(|| (object.size == 0).then(|| About { hash: Hash::of(b""), exec: false }));
            if let Some(about) = said {
                self.listing.learn(&object.path, object.tag.clone(), about);
                meter.add(object.size);
                return Ok(0);
            }
        }
        let (about, staged) = self.take(object, target, meter).await?;
        let (path, size) = (object.path.clone(), object.size);
        let entry =
            Entry { path, size, hash: about.hash, exec: about.exec, link: None, dir: false };
        let target = target.clone();
        blocking(move || target.keep(staged, &entry)).await?;
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).insert(about.hash);
        self.listing.learn(&object.path, object.tag.clone(), about);
        Ok(object.size)
    }

    /// Reads an object to a file beside the folder, and hashes it.
    async fn take(
        &self,
        object: &Object,
        target: &Arc<Target>,
        meter: &Meter,
    ) -> Result<(About, Staged), FolderError> {
        if object.size <= PIECE {
            let (bytes, said) = self.listing.store.take(object).await?;
            meter.add(bytes.len() as u64);
            let exec = said.is_some_and(|said| said.exec);
            let about = About { hash: Hash::of(&bytes), exec };
            let (target, path) = (target.clone(), object.path.clone());
            let staged = blocking(move || {
                let staged = target.stage(exec)?;
                staged.file.write_all_at(&bytes, 0).map_err(FolderError::file("write", path))?;
                Ok(staged)
            });
            return Ok((about, staged.await?));
        }
        let (staging, mut at, mut hasher) = (target.clone(), 0, blake3::Hasher::new());
        let mut staged = blocking(move || staging.stage(false)).await?;
        let mut coming = std::pin::pin!(self.listing.store.read(object));
        while let Some(bytes) = coming.try_next().await? {
            meter.add(bytes.len() as u64);
            let len = bytes.len() as u64;
            (staged, hasher) = write(staged, hasher, bytes, at, &object.path).await?;
            at += len;
        }
        let hash = Hash::from_bytes(*hasher.finalize().as_bytes());
        Ok((About { hash, exec: false }, staged))
    }

    /// Has all that is wanted of it come.
    pub(super) async fn bring(
        &self,
        round: &Arc<Round>,
        fetches: Vec<Fetch>,
        meter: &Meter,
    ) -> Result<(), FolderError> {
        let staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        round.progress().done.moved += self.moved;
        let coming = |fetch: &&Fetch| !staged.contains(&fetch.entry(round).hash);
        meter.start(0, fetches.iter().filter(coming).map(|fetch| fetch.entry(round).size).sum());
        let staged = &staged;
        let work = fetches.into_iter().map(|fetch| self.one(round, fetch, staged, meter));
        let done = stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
        self.listing.save().await?;
        done.map(drop)
    }

    async fn one(
        &self,
        round: &Arc<Round>,
        fetch: Fetch,
        staged: &HashSet<Hash>,
        meter: &Meter,
    ) -> Result<(), FolderError> {
        let entry = fetch.entry(round).clone();
        if staged.contains(&entry.hash) {
            let (target, wanted) = (round.clone(), entry.clone());
            let part = blocking(move || target.target.part(&wanted)).await?;
            return fetch::land(round, fetch, part, 0, Vec::new()).await;
        }
        let changed = || round.progress().changed.push(entry.path.clone());
        let Some(object) = self.listing.object(&entry.path) else { return Ok(()) };
        let taken = self.take(object, &round.target, meter).await;
        let (about, part) = match taken {
            Ok(taken) => taken,
            Err(FolderError::Store(error)) if error.is_change() || error.is_missing() => {
                changed();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if about.hash != entry.hash {
            // What was said of it was wrong: from now on we know better.
            let about = About { exec: entry.exec, ..about };
            self.listing.learn(&entry.path, object.tag.clone(), about);
            changed();
            return Ok(());
        }
        if entry.exec {
            let path = entry.path.clone();
            let made = blocking(move || {
                let made = part.make_executable();
                made.map_err(FolderError::file("write", path)).map(|()| part)
            });
            return fetch::land(round, fetch, made.await?, entry.size, Vec::new()).await;
        }
        fetch::land(round, fetch, part, entry.size, Vec::new()).await
    }
}

async fn write(
    staged: Staged,
    mut hasher: blake3::Hasher,
    bytes: Bytes,
    at: u64,
    path: &str,
) -> Result<(Staged, blake3::Hasher), FolderError> {
    let path = path.to_owned();
    blocking(move || {
        hasher.update(&bytes);
        staged.file.write_all_at(&bytes, at).map_err(FolderError::file("write", path))?;
        Ok((staged, hasher))
    })
    .await
}
