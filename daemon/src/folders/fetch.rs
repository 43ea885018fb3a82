//! Files that come from the other side: small ones many at a time, large ones by pieces.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rhd_protocol::{
    folder::{Entry, Wanted},
    id::Hash,
    pieces::PIECE,
};

use super::{
    blocking,
    cache::Stamp,
    digest::Values,
    error::FolderError,
    large,
    place::{Staged, Target},
    pull::Round,
    scan::Known,
    source::Source,
};
use crate::asked::Meter;

/// Questions under way at once.
const AT_ONCE: usize = 6;
/// Small files in one question, and their bytes.
const FILES: usize = 256;
const BYTES: u64 = 2 << 20;

/// Content that has to come, and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Fetch {
    pub(super) entry: Entry,
    pub(super) spot: Spot,
    /// Further places of the same content.
    pub(super) also: Vec<Spot>,
}

/// Where a file goes.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) path: String,
    pub(super) exec: bool,
    /// What was there when it was looked at.
    pub(super) seen: Option<Stamp>,
    /// Whether that gets another name.
    pub(super) aside: bool,
    /// Content of the file that was there.
    pub(super) older: Option<Hash>,
}

/// A file that was written, and what it holds.
#[derive(Debug)]
pub(super) struct Learnt {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    pub(super) hash: Hash,
    pub(super) values: Values,
}

impl Spot {
    /// Gives what is there another name, if that shall be.
    pub(super) fn clear(&self, target: &Target) -> Result<Option<String>, FolderError> {
        let there = self.aside && target.has(&self.path)?;
        there.then(|| target.aside(&self.path)).transpose()
    }

    /// Puts a file there; the name that something else got for it.
    pub(super) fn put(
        &self,
        target: &Target,
        staged: Staged,
    ) -> Result<(Stamp, Option<String>), FolderError> {
        let aside = self.clear(target)?;
        let seen = self.seen.filter(|_| !self.aside);
        let (stamp, moved) = target.put(staged, &self.path, seen)?;
        Ok((stamp, moved.or(aside)))
    }
}

/// Fetches all; what changed while it came is noted in the round.
pub(super) async fn all(
    source: &Source,
    round: &Arc<Round>,
    known: &Arc<Known>,
    fetches: Vec<Fetch>,
    meter: &Meter,
) -> Result<(), FolderError> {
    meter.start(0, fetches.iter().map(|fetch| fetch.entry.size).sum());
    let (large, small): (Vec<Fetch>, Vec<Fetch>) =
        fetches.into_iter().partition(|fetch| fetch.entry.size > PIECE);
    let some = batches(small).into_iter().map(|batch| together(source, round, batch, meter));
    stream::iter(some).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    for fetch in large {
        one(source, round, known, fetch, meter).await?;
    }
    Ok(())
}

fn batches(small: Vec<Fetch>) -> Vec<Vec<Fetch>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for fetch in small {
        if batch.len() >= FILES || bytes + fetch.entry.size > BYTES {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += fetch.entry.size;
        batch.push(fetch);
    }
    batches.push(batch);
    batches
}

/// Has many small files come by one question.
async fn together(
    source: &Source,
    round: &Arc<Round>,
    batch: Vec<Fetch>,
    meter: &Meter,
) -> Result<(), FolderError> {
    if batch.is_empty() {
        return Ok(());
    }
    let want = |f: &Fetch| Wanted { path: f.entry.path.clone(), size: f.entry.size, index: 0 };
    let mut replies = source.read(batch.iter().map(want).collect());
    let mut left = batch.into_iter();
    while let Some((parts, mut body)) = replies.soon().await? {
        meter.add(body.len() as u64);
        let came: Vec<(Fetch, Bytes)> = parts
            .into_iter()
            .map_while(|len| Some((left.next()?, body.split_to(len as usize))))
            .collect();
        let round = round.clone();
        blocking(move || {
            came.into_iter().try_for_each(|(fetch, bytes)| write(&round, &fetch, &bytes))
        })
        .await?;
    }
    round.progress().changed.extend(left.map(|fetch| fetch.entry.path));
    replies.end::<()>().await
}

/// Writes one small file, wherever it goes.
fn write(round: &Round, fetch: &Fetch, bytes: &[u8]) -> Result<(), FolderError> {
    if bytes.len() as u64 != fetch.entry.size || Hash::of(bytes) != fetch.entry.hash {
        round.progress().changed.push(fetch.entry.path.clone());
        return Ok(());
    }
    round.progress().done.moved += bytes.len() as u64;
    for spot in std::iter::once(&fetch.spot).chain(&fetch.also) {
        let put = round.target.stage(spot.exec).and_then(|staged| {
            staged.file.write_all_at(bytes, 0).map_err(FolderError::file("write", &spot.path))?;
            spot.put(&round.target, staged)
        });
        settle(round, spot, fetch.entry.hash, Values::new(), put)?;
    }
    Ok(())
}

/// Notes how it went with one place.
fn settle(
    round: &Round,
    spot: &Spot,
    hash: Hash,
    values: Values,
    put: Result<(Stamp, Option<String>), FolderError>,
) -> Result<(), FolderError> {
    match put {
        Ok((stamp, moved)) => {
            round.placed(&spot.path, moved);
            let path = round.target.tree().path().join(&spot.path);
            round.progress().learnt.push(Learnt { path, stamp, hash, values });
            Ok(())
        }
        Err(error) => round.note(&spot.path, error),
    }
}

/// Has one large file come.
async fn one(
    source: &Source,
    round: &Arc<Round>,
    known: &Arc<Known>,
    fetch: Fetch,
    meter: &Meter,
) -> Result<(), FolderError> {
    let older = fetch
        .spot
        .older
        .and_then(|hash| known.values(hash))
        .and_then(|values| Some((round.target.tree().read(&fetch.spot.path).ok()?, values)));
    let staged = match round.target.part(&fetch.entry) {
        Ok(staged) => staged,
        Err(error) => return round.note(&fetch.entry.path, error),
    };
    let Some(came) = large::fetch(source, &fetch.entry, &staged, older, meter).await? else {
        round.progress().changed.push(fetch.entry.path);
        return Ok(());
    };
    let round = round.clone();
    blocking(move || {
        round.progress().done.moved += came.bytes;
        let mut whole =
            staged.file.try_clone().map_err(FolderError::file("read", &fetch.entry.path))?;
        let put = fetch.spot.put(&round.target, staged);
        let values = came.values.to_vec();
        settle(&round, &fetch.spot, fetch.entry.hash, values, put)?;
        for spot in &fetch.also {
            let put = copied(&mut whole, &round.target, spot.exec)
                .and_then(|staged| spot.put(&round.target, staged));
            settle(&round, spot, fetch.entry.hash, Values::new(), put)?;
        }
        Ok(())
    })
    .await
}

fn copied(whole: &mut File, target: &Target, exec: bool) -> Result<Staged, FolderError> {
    let mut staged = target.stage(exec)?;
    if rustix::fs::ioctl_ficlone(&staged.file, &*whole).is_err() {
        let copied = io::Seek::rewind(whole).and_then(|()| io::copy(whole, &mut staged.file));
        copied.map_err(FolderError::file("copy", target.tree().path()))?;
    }
    Ok(staged)
}
