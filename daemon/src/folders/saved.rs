//! Folders that are kept as versions: looked at to be stored, and brought back as they were.

use std::{os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use rhd_protocol::{
    error::ErrorInfo,
    folder::{Entry, Scanned, Skipped, Synced, is_sound},
    id::Hash,
    machine::reconcile::Mode,
    pieces::PIECE,
};

use super::{
    Folders, blocking,
    digest::Values,
    error::FolderError,
    fetch::{self, Fetch},
    pull::{From, Pull},
    round::Round,
    scan::scan,
};
use crate::asked::Meter;

/// Files that are written at once; each takes a piece.
const AT_ONCE: usize = 8;

/// What is in a folder at one moment.
#[derive(Debug)]
pub struct Look {
    /// Sound, so sorted by path.
    pub entries: Vec<Entry>,
    /// What is in it and does not travel, and why.
    pub skipped: Vec<Skipped>,
}

/// Where the bytes of files come from, by their hashes.
pub trait Contents: Send + Sync {
    /// All bytes of one, verified as they come.
    fn read(&self, hash: Hash, size: u64) -> BoxStream<'static, Result<Bytes, ErrorInfo>>;
}

/// What a folder was, and is to be again.
pub struct Kept<'a> {
    /// Sound.
    pub entries: Vec<Entry>,
    /// What may be replaced or removed for it: the rest is set aside, or stays.
    pub spare: Vec<Entry>,
    /// Where the files are.
    pub contents: &'a dyn Contents,
}

impl Folders {
    /// What is in a folder. What can't be read is an error: a version without it would be no version
    /// of the folder.
    pub async fn look(&self, path: &Path) -> Result<Look, ErrorInfo> {
        let (path, known) = (path.to_owned(), self.inner.known.clone());
        let looked = blocking(move || {
            let scan = scan(&path, &known)?;
            if let Some(Skipped { path: file, why }) = scan.unread {
                let text = format!("{} can't be read: {why}", path.join(file).display());
                return Err(FolderError::Request(text));
            }
            if !is_sound(&scan.entries) {
                let text = format!("{} changed while it was looked at", path.display());
                return Err(FolderError::Request(text));
            }
            Ok(Look { entries: scan.entries, skipped: scan.skipped })
        });
        Ok(looked.await?)
    }

    /// Makes a folder what it was: each file is whole before it is seen, and what is not to spare is
    /// not lost.
    pub async fn restore(
        &self,
        to: &Path,
        kept: &Kept<'_>,
        meter: &Meter,
    ) -> Result<Synced, ErrorInfo> {
        let pull = Pull {
            folders: self,
            source: From::Kept(kept),
            to,
            mode: Mode::Copy,
            they_know: false,
            once: true,
            limit: u64::MAX,
            meter,
        };
        Ok(pull.run().await?)
    }
}

impl Kept<'_> {
    /// What a look at it says.
    pub(super) fn scanned(&self) -> (Vec<Entry>, Scanned) {
        let said = Scanned {
            entries: self.entries.len() as u64,
            bytes: self.entries.iter().map(|entry| entry.size).sum(),
            ..Scanned::default()
        };
        (self.entries.clone(), said)
    }

    /// Writes all that is wanted of it.
    pub(super) async fn bring(
        &self,
        round: &Arc<Round>,
        fetches: Vec<Fetch>,
        meter: &Meter,
    ) -> Result<(), FolderError> {
        meter.start(0, fetches.iter().map(|fetch| fetch.entry(round).size).sum());
        let work = fetches.into_iter().map(|fetch| self.one(round, fetch, meter));
        stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn one(
        &self,
        round: &Arc<Round>,
        fetch: Fetch,
        meter: &Meter,
    ) -> Result<(), FolderError> {
        let Entry { path, size, hash, exec, .. } = fetch.entry(round).clone();
        let target = round.target.clone();
        let mut staged = match blocking(move || target.stage(exec)).await {
            Ok(staged) => staged,
            Err(error) => return round.note(&path, error),
        };
        let mut coming = self.contents.read(hash, size);
        let (mut at, mut gathered) = (0, BytesMut::new());
        loop {
            let next = coming.try_next().await.map_err(FolderError::Peer)?;
            let is_last = next.is_none();
            gathered.extend_from_slice(&next.unwrap_or_default());
            if gathered.len() as u64 >= PIECE || (is_last && !gathered.is_empty()) {
                let (bytes, offset, of) = (gathered.split().freeze(), at, path.clone());
                at += bytes.len() as u64;
                meter.add(bytes.len() as u64);
                let written = blocking(move || {
                    let written = staged.file.write_all_at(&bytes, offset);
                    written.map_err(FolderError::file("write", of)).map(|()| staged)
                });
                staged = match written.await {
                    Ok(staged) => staged,
                    Err(error) => return round.note(&path, error),
                };
            }
            if is_last {
                break;
            }
        }
        if at != size {
            let text = format!("{at} bytes of {path} are stored, not {size}");
            return Err(FolderError::Nonsense(text));
        }
        fetch::land(round, fetch, staged, size, Values::new()).await
    }
}
