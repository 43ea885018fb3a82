//! Making a folder of this node like another.
//!
//! ```text
//! theirs --scan--\
//! common ---------plan--> local steps --> pieces from them --> common
//! ours ----scan--/
//! ```
//!
//! A file that changes while it comes is tried again in the next round. However it ends, what has come
//! stays, and is known to be in common.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rhd_protocol::{folder::Synced, machine::reconcile::Mode};

use super::{
    Folders, blocking,
    error::FolderError,
    fetch, local,
    place::Target,
    round::{Progress, Report as _, Round},
    scan::{scan, skip},
    source::Source,
};
use crate::asked::Meter;

/// How often a folder is looked at, when files in it change while they come.
const ROUNDS: usize = 3;

/// What shall become like what.
pub(super) struct Pull<'a> {
    pub(super) folders: &'a Folders,
    pub(super) source: &'a Source,
    pub(super) to: &'a Path,
    pub(super) mode: Mode,
    /// Whether the other side knows what both had in common.
    pub(super) they_know: bool,
    /// Whether it is done once only: what both have in common is not remembered.
    pub(super) once: bool,
    /// Bytes that the files of the other may have.
    pub(super) limit: u64,
    pub(super) meter: &'a Meter,
}

impl Pull<'_> {
    /// Does it, in as many rounds as it takes.
    pub(super) async fn run(&self) -> Result<Synced, FolderError> {
        let _turn = self.folders.turn(self.to).await;
        let mut done = Synced::default();
        for left in (0..ROUNDS).rev() {
            let (round, changed) = self.round().await?;
            done.and(round);
            if changed.is_empty() {
                break;
            }
            if left == 0 {
                for path in changed {
                    skip(&mut done.skipped, path, "it keeps changing while it is read");
                }
            }
        }
        done.node = self.folders.inner.mesh.name();
        done.path = self.to.display().to_string();
        Ok(done)
    }

    async fn round(&self) -> Result<(Synced, Vec<String>), FolderError> {
        let inner = &self.folders.inner;
        let (to, node, moment) = (PathBuf::from(self.to), inner.mesh.name(), super::moment());
        let (known, opened) = (inner.known.clone(), self.to.to_owned());
        let ours = blocking(move || {
            let target = Target::open(&opened, &node, moment)?;
            Ok((target, scan(&opened, &known)?))
        });
        let ((target, ours), (theirs, scanned)) =
            tokio::try_join!(ours, self.source.scan(self.they_know))?;
        if theirs.iter().map(|entry| entry.size).sum::<u64>() > self.limit {
            let text = format!("{} has more than {} bytes", self.source.place.path, self.limit);
            return Err(FolderError::Request(text));
        }
        let there = scanned.path.clone();
        let common = match self.they_know {
            _ if self.once => Vec::new(),
            true => self.source.common(to.display().to_string()).await?,
            false => {
                let (kept, node) = (inner.common.clone(), self.source.node);
                let (to, there) = (to.clone(), there.clone());
                blocking(move || Ok(kept.load(&to, node, &there))).await?
            }
        };
        let done = Synced {
            entries: scanned.entries,
            bytes: scanned.bytes,
            skipped: scanned.skipped,
            ..Synced::default()
        };
        let undone = vec![false; theirs.len()];
        let progress = Mutex::new(Progress { done, undone, ..Progress::default() });
        let round = Arc::new(Round { common, theirs, ours, target, there, progress });
        let worked = self.work(&round).await;
        self.remember(&round, worked.is_ok()).await?;
        worked?;
        let mut progress = round.progress();
        Ok((std::mem::take(&mut progress.done), std::mem::take(&mut progress.changed)))
    }

    async fn work(&self, round: &Arc<Round>) -> Result<(), FolderError> {
        let (mode, here) = (self.mode, round.clone());
        let fetches = blocking(move || local::apply(&here, mode)).await?;
        fetch::all(self.source, round, &self.folders.inner.known, fetches, self.meter).await
    }

    /// Keeps what is in common now, and what the files here hold; removes what was under way.
    async fn remember(&self, round: &Arc<Round>, all: bool) -> Result<(), FolderError> {
        let inner = &self.folders.inner;
        let (known, kept) = (inner.known.clone(), inner.common.clone());
        let (node, to, mode) = (self.source.node, self.to.to_owned(), self.mode);
        let once = self.once;
        let round = round.clone();
        blocking(move || {
            let (learnt, left) = {
                let mut progress = round.progress();
                (std::mem::take(&mut progress.learnt), progress.changed.is_empty())
            };
            for file in learnt {
                let entry = &round.theirs[file.theirs];
                known.learn(&to.join(&entry.path), file.stamp, entry.hash, file.values);
            }
            round.target.finish(all && left);
            let agreed = round.agreed(mode);
            if once || agreed == round.common {
                return Ok(());
            }
            kept.save(&to, node, &round.there, &agreed)
        })
        .await
    }
}
