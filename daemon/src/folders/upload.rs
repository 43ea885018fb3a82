//! Folders on their way to an object store: from a disk here, or from another store.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rhd_protocol::{
    folder::{Entry, MAX_NAMED, Synced},
    id::Hash,
    machine::reconcile::{Fate, Mode, aside, going, is_free, plan, spare},
};

use super::{
    Folders, blocking,
    common::STORES,
    error::FolderError,
    ignored,
    noted::{Listing, as_path},
    round::{Report as _, is_skipped, rounds},
    scan::{scan, skip},
    send::Content,
    tree::Tree,
};
use crate::{
    asked::Meter,
    stores::{About, PART, Store},
};

/// Small files under way at once, and what counts as small, in bytes.
const SMALL_AT_ONCE: usize = 32;
const SMALL: u64 = 256 << 10;
/// The same for those that go in one request, of a part at most.
const AT_ONCE: usize = 4;

/// What shall be in an object store, too.
pub(super) struct Push<'a> {
    pub(super) folders: &'a Folders,
    pub(super) from: From<'a>,
    pub(super) to: &'a Store,
    pub(super) mode: Mode,
    pub(super) meter: &'a Meter,
}

/// Where it is.
pub(super) enum From<'a> {
    Disk(&'a Path),
    Store(&'a Store),
}

/// One look at both sides.
struct Round {
    content: Content,
    theirs: Vec<Entry>,
    listing: Listing,
    common: Vec<Entry>,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    done: Synced,
    /// Paths that are not there yet.
    undone: HashSet<String>,
    changed: Vec<String>,
}

/// What is to be written, and what is in its place.
struct Put {
    entry: Entry,
    /// The new name of that.
    aside: Option<String>,
}

impl Push<'_> {
    /// Does it, in as many rounds as it takes.
    pub(super) async fn run(&self) -> Result<Synced, FolderError> {
        let _turn = self.folders.turn(&as_path(self.to.at())).await;
        let mut done = rounds(|| self.round()).await?;
        done.node = self.folders.inner.mesh.name();
        done.path = self.to.at().to_string();
        Ok(done)
    }

    /// The folder as it is remembered.
    fn here(&self) -> std::path::PathBuf {
        match self.from {
            From::Disk(path) => path.to_owned(),
            From::Store(store) => as_path(store.at()),
        }
    }

    async fn round(&self) -> Result<(Synced, Vec<String>), FolderError> {
        let inner = &self.folders.inner;
        let mut skipped = Vec::new();
        let (content, theirs) = self.content(&mut skipped).await?;
        let listing = Listing::of(self.to.clone(), &inner.notes, &mut Vec::new()).await?;
        self.compare(&listing, &theirs).await?;
        let (kept, here, there) = (inner.common.clone(), self.here(), self.to.at().to_string());
        let (mode, disk) = (self.mode, matches!(self.from, From::Disk(_)));
        let (ours, listed) = (listing.entries(), theirs.clone());
        let common = blocking(move || {
            let mut common = kept.load(&here, STORES, &there);
            if disk {
                let files = going(mode, &common, &listed, &ours);
                let there = ignored::there(&here, &files)?;
                common = spare(common, &files, &there);
            }
            Ok(common)
        })
        .await?;
        let done = Synced {
            entries: theirs.len() as u64,
            bytes: theirs.iter().map(|entry| entry.size).sum(),
            skipped,
            ..Synced::default()
        };
        let progress = Mutex::new(Progress { done, ..Progress::default() });
        let round = Round { content, theirs, listing, common, progress };
        let worked = self.work(&round).await;
        round.listing.save().await?;
        self.remember(&round).await?;
        worked?;
        let mut progress = round.progress();
        Ok((std::mem::take(&mut progress.done), std::mem::take(&mut progress.changed)))
    }

    /// What is to be there. Links and empty folders are nothing that a store can have.
    async fn content(
        &self,
        skipped: &mut Vec<rhd_protocol::folder::Skipped>,
    ) -> Result<(Content, Vec<Entry>), FolderError> {
        match self.from {
            From::Disk(path) => {
                let (root, known) = (path.to_owned(), self.folders.inner.known.clone());
                let (tree, mut found) = blocking(move || {
                    let found = scan(&root, &known)?;
                    let tree = Tree::open(&root).map_err(FolderError::file("open", &root))?;
                    Ok((Arc::new(tree), found))
                })
                .await?;
                skipped.append(&mut found.skipped);
                let mut theirs = Vec::with_capacity(found.entries.len());
                for entry in &found.entries {
                    match entry.is_file() {
                        true => theirs.push(entry.clone()),
                        false if entry.dir => {
                            skip(skipped, &entry.path, "object stores keep no empty folders");
                        }
                        false => skip(skipped, &entry.path, "object stores keep no links"),
                    }
                }
                Ok((Content::Disk(tree, found), theirs))
            }
            From::Store(store) => {
                let listing =
                    Listing::of(store.clone(), &self.folders.inner.notes, skipped).await?;
                if listing.objects.is_empty() {
                    return Err(FolderError::Missing(as_path(store.at())));
                }
                let entries = listing.entries();
                Ok((Content::Store(listing), entries))
            }
        }
    }

    /// Gets to know the objects that may be what shall be there.
    async fn compare(&self, listing: &Listing, theirs: &[Entry]) -> Result<(), FolderError> {
        let alike = |at: &usize| {
            let object = &listing.objects[*at];
            let at = theirs.binary_search_by(|e| e.path.as_str().cmp(&object.path)).ok();
            let like = at.is_some_and(|at| theirs[at].size == object.size);
            like && listing.about(object).is_none()
        };
        let alike: Vec<usize> = (0..listing.objects.len()).filter(alike).collect();
        let look = alike.into_iter().map(|at| async move {
            let object = &listing.objects[at];
            let said = match self.to.look(&object.path).await? {
                Some((now, said)) if now.tag == object.tag => said,
                _ => return Ok(()),
            };
            let about = match said {
                Some(about) => about,
                // Somebody else's: to read it costs no more than to write it. It says nothing of what
                // may be executed, so that this is no difference.
                None => {
                    let like = |e: &Entry| e.path.as_str().cmp(&object.path);
                    let at = theirs.binary_search_by(like).ok();
                    let mut hasher = blake3::Hasher::new();
                    let mut coming = std::pin::pin!(self.to.read(object));
                    while let Some(bytes) = coming.try_next().await? {
                        hasher.update(&bytes);
                    }
                    let exec = at.is_some_and(|at| theirs[at].exec);
                    About { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), exec }
                }
            };
            listing.learn(&object.path, object.tag.clone(), about);
            Ok::<(), FolderError>(())
        });
        stream::iter(look).buffer_unordered(SMALL_AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn work(&self, round: &Round) -> Result<(), FolderError> {
        let (puts, gone) = self.steps(round);
        self.meter.start(0, puts.iter().map(|put| put.entry.size).sum());
        let count = gone.len() as u64;
        self.to.remove(gone).await?;
        round.progress().done.removed += count;
        let (small, rest): (Vec<Put>, Vec<Put>) =
            puts.into_iter().partition(|put| put.entry.size <= SMALL);
        let (some, large): (Vec<Put>, Vec<Put>) =
            rest.into_iter().partition(|put| put.entry.size <= PART);
        for (puts, at_once) in [(small, SMALL_AT_ONCE), (some, AT_ONCE), (large, 1)] {
            let work = puts.into_iter().map(|put| self.put(round, put));
            stream::iter(work).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
        }
        Ok(())
    }

    /// What is to be written, and what is to go.
    fn steps(&self, round: &Round) -> (Vec<Put>, Vec<String>) {
        let ours = round.listing.entries();
        let (mut puts, mut gone) = (Vec::new(), Vec::new());
        let (node, moment) = (self.folders.inner.mesh.name(), super::moment(SystemTime::now()));
        // Names of what is set aside; a copy would overwrite whatever has one of them already.
        let mut given: HashSet<String> = HashSet::new();
        let is_new = |name: &str| is_free(&ours, name) && is_free(&round.theirs, name);
        let mut progress = round.progress();
        for step in plan(self.mode, &round.common, &round.theirs, &ours) {
            match (step.fate, step.theirs) {
                (Fate::Take | Fate::Aside, Some(theirs)) => {
                    progress.undone.insert(theirs.path.clone());
                    let moved = (step.fate == Fate::Aside).then(|| {
                        let name = |nth| aside(step.path, &node, &moment, nth);
                        let mut nth = 0;
                        while !is_new(&name(nth)) || !given.insert(name(nth)) {
                            nth += 1;
                        }
                        name(nth)
                    });
                    puts.push(Put { entry: theirs.clone(), aside: moved });
                }
                // What could not be read here is not gone.
                (Fate::Remove, _) if is_skipped(&progress.done, step.path) => {}
                (Fate::Remove, _) => gone.push(step.path.to_owned()),
                (Fate::Away, _) => {
                    let why = "a file and a folder of one name: one has to be renamed";
                    skip(&mut progress.done.skipped, step.path, why);
                }
                (Fate::Keep, _) => {
                    let there = step.ours.filter(|_| progress.done.kept.len() < MAX_NAMED);
                    progress.done.kept.extend(there.map(|entry| entry.path.clone()));
                }
                (Fate::Same | Fate::Take | Fate::Aside, _) => {}
            }
        }
        (puts, gone)
    }

    async fn put(&self, round: &Round, put: Put) -> Result<(), FolderError> {
        let path = put.entry.path.clone();
        if let Some(aside) = put.aside {
            self.to.copy(&path, &aside).await?;
            round.progress().done.set_aside(Some(aside));
        }
        let sent = round.content.send(&put.entry, self.to, self.meter).await?;
        let Some((tag, about)) = sent else {
            round.progress().changed.push(path);
            return Ok(());
        };
        if let Some(about) = about {
            round.listing.learn(&path, tag, about);
        }
        let mut progress = round.progress();
        progress.undone.remove(&path);
        progress.done.written += 1;
        progress.done.moved += put.entry.size;
        Ok(())
    }

    /// Keeps what is in common now, as far as it got.
    async fn remember(&self, round: &Round) -> Result<(), FolderError> {
        let before = |path: &str| {
            let at = round.common.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
            Some(round.common[at].clone())
        };
        let now: Vec<Entry> = {
            let progress = round.progress();
            let now = round.theirs.iter().filter_map(|entry| {
                match progress.undone.contains(&entry.path) {
                    true => before(&entry.path),
                    false => Some(entry.clone()),
                }
            });
            now.collect()
        };
        let (kept, here) = (self.folders.inner.common.clone(), self.here());
        let there = self.to.at().to_string();
        blocking(move || kept.save(&here, STORES, &there, &now)).await
    }
}

impl Round {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
