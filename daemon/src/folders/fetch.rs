//! Files that come from the other side: small ones many at a time, large ones by pieces.

use std::{fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

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
    digest::{Values, digest, threads},
    error::FolderError,
    known::Known,
    large,
    place::{Staged, Target},
    round::{Learnt, Round},
    source::Source,
};
use crate::asked::Meter;

/// Questions under way at once.
const AT_ONCE: usize = 6;
/// Small files in one question, and their bytes.
const FILES: usize = 256;
const BYTES: u64 = 2 << 20;
/// Bytes of their paths: a question is the header of a frame.
const PATHS: usize = 64 << 10;

/// Content that has to come, and where it goes.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) spot: Spot,
    /// Further places of the same content.
    pub(super) also: Vec<Spot>,
}

impl Fetch {
    pub(super) fn entry<'a>(&self, round: &'a Round) -> &'a Entry {
        self.spot.entry(round)
    }
}

/// Where a file goes: there are many of these.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    /// Which of their entries it is.
    pub(super) theirs: usize,
    /// Which of ours was there when it was looked at.
    pub(super) ours: Option<usize>,
    /// Whether that gets another name.
    pub(super) aside: bool,
}

impl Spot {
    /// What shall be there.
    pub(super) fn entry<'a>(&self, round: &'a Round) -> &'a Entry {
        &round.theirs[self.theirs]
    }

    /// What was there, in which state.
    pub(super) fn seen(&self, round: &Round) -> Option<Stamp> {
        self.ours.map(|ours| round.ours.stamps[ours])
    }

    /// Content of the file that was there.
    fn older(&self, round: &Round) -> Option<Hash> {
        let ours = &round.ours.entries[self.ours?];
        ours.is_file().then_some(ours.hash)
    }

    /// Gives what is there another name, if that shall be.
    pub(super) fn clear(&self, round: &Round) -> Result<Option<String>, FolderError> {
        let path = &self.entry(round).path;
        let there = self.aside && round.target.has(path)?;
        there.then(|| round.target.aside(path, &round.theirs)).transpose()
    }

    /// Puts a file there; the name that something else got for it.
    pub(super) fn put(
        &self,
        round: &Round,
        staged: Staged,
    ) -> Result<(Stamp, Option<String>), FolderError> {
        let aside = self.clear(round)?;
        let seen = self.seen(round).filter(|_| !self.aside);
        let path = &self.entry(round).path;
        let (stamp, moved) = round.target.put(staged, path, seen, &round.theirs)?;
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
    meter.start(0, fetches.iter().map(|fetch| fetch.entry(round).size).sum());
    let (large, small): (Vec<Fetch>, Vec<Fetch>) =
        fetches.into_iter().partition(|fetch| fetch.entry(round).size > PIECE);
    let some = batches(round, small).into_iter().map(|batch| together(source, round, batch, meter));
    stream::iter(some).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    for fetch in large {
        one(source, round, known, fetch, meter).await?;
    }
    Ok(())
}

fn batches(round: &Round, small: Vec<Fetch>) -> Vec<Vec<Fetch>> {
    let (mut batches, mut batch, mut bytes, mut paths) = (Vec::new(), Vec::new(), 0, 0);
    for fetch in small {
        let (size, path) = (fetch.entry(round).size, fetch.entry(round).path.len());
        if batch.len() >= FILES || bytes + size > BYTES || paths + path > PATHS {
            batches.push(std::mem::take(&mut batch));
            (bytes, paths) = (0, 0);
        }
        bytes += size;
        paths += path;
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
    let want = |fetch: &Fetch| {
        let entry = fetch.entry(round);
        Wanted { path: entry.path.clone(), size: entry.size, index: 0 }
    };
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
    round.progress().changed.extend(left.map(|fetch| fetch.entry(round).path.clone()));
    replies.end::<()>().await
}

/// Writes one small file, wherever it goes.
fn write(round: &Round, fetch: &Fetch, bytes: &[u8]) -> Result<(), FolderError> {
    let entry = fetch.entry(round);
    if bytes.len() as u64 != entry.size || Hash::of(bytes) != entry.hash {
        round.progress().changed.push(entry.path.clone());
        return Ok(());
    }
    round.progress().done.moved += bytes.len() as u64;
    for spot in std::iter::once(&fetch.spot).chain(&fetch.also) {
        let entry = spot.entry(round);
        let put = round.target.stage(entry.exec).and_then(|staged| {
            staged.file.write_all_at(bytes, 0).map_err(FolderError::file("write", &entry.path))?;
            spot.put(round, staged)
        });
        settle(round, spot, Values::new(), put)?;
    }
    Ok(())
}

/// Notes how it went with one place.
fn settle(
    round: &Round,
    spot: &Spot,
    values: Values,
    put: Result<(Stamp, Option<String>), FolderError>,
) -> Result<(), FolderError> {
    match put {
        Ok((stamp, moved)) => {
            round.placed(spot.theirs, moved);
            round.progress().learnt.push(Learnt { theirs: spot.theirs, stamp, values });
            Ok(())
        }
        Err(error) => round.note(&spot.entry(round).path, error),
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
    let entry = fetch.entry(round);
    let older = older(round, known, &fetch.spot).await?;
    let staged = match round.target.part(entry) {
        Ok(staged) => staged,
        Err(error) => return round.note(&entry.path, error),
    };
    let Some(came) = large::fetch(source, entry, &staged, older, meter).await? else {
        round.progress().changed.push(entry.path.clone());
        return Ok(());
    };
    land(round, fetch, staged, came.bytes, came.values.to_vec()).await
}

/// The file that was there, and what proves its pieces, which may have to be read for it.
async fn older(
    round: &Arc<Round>,
    known: &Arc<Known>,
    spot: &Spot,
) -> Result<Option<(File, Arc<Values>)>, FolderError> {
    let Some(hash) = spot.older(round) else { return Ok(None) };
    let (round, known, spot) = (round.clone(), known.clone(), *spot);
    blocking(move || {
        let older = || {
            let file = round.target.tree().read(&spot.entry(&round).path).ok()?;
            let values = match known.values(hash) {
                Some(values) => values,
                None => digest(&file, file.metadata().ok()?.len(), threads()).ok()?.1.into(),
            };
            Some((file, values))
        };
        Ok(older())
    })
    .await
}

/// Puts content that is whole where it goes, with what proves its pieces.
pub(super) async fn land(
    round: &Arc<Round>,
    fetch: Fetch,
    staged: Staged,
    bytes: u64,
    values: Values,
) -> Result<(), FolderError> {
    let round = round.clone();
    blocking(move || {
        round.progress().done.moved += bytes;
        let path = &fetch.entry(&round).path;
        let mut whole = staged.file.try_clone().map_err(FolderError::file("read", path))?;
        let put = fetch.spot.put(&round, staged);
        settle(&round, &fetch.spot, values, put)?;
        for spot in &fetch.also {
            let put = copied(&mut whole, &round.target, spot.entry(&round).exec)
                .and_then(|staged| spot.put(&round, staged));
            settle(&round, spot, Values::new(), put)?;
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
