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
    time::SystemTime,
};

use rhd_protocol::{
    folder::{Entry, Synced},
    id::NodeId,
    machine::reconcile::{Mode, going, spare},
};

use super::{
    Folders, blocking,
    common::STORES,
    download::{Far, Found},
    error::FolderError,
    fetch,
    ignored::Rules,
    local,
    place::{Target, Turn},
    round::{Progress, Round, rounds},
    saved::Kept,
    scan::{Scan, scan, skip},
    source::Source,
};
use crate::asked::Meter;

/// Where the folder is that one here shall be like.
#[derive(Clone, Copy)]
pub(super) enum From<'a> {
    Node(&'a Source),
    Store(&'a Far),
    /// It was here before, and is stored.
    Kept(&'a Kept<'a>),
}

/// What shall become like what.
pub(super) struct Pull<'a> {
    pub(super) folders: &'a Folders,
    pub(super) source: From<'a>,
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
        let turn = Arc::new(self.folders.turn(self.to).await);
        let mut done = rounds(|| self.round(&turn)).await?;
        done.node = self.folders.inner.mesh.name();
        done.path = self.to.display().to_string();
        Ok(done)
    }

    async fn round(&self, turn: &Turn) -> Result<(Synced, Vec<String>), FolderError> {
        let inner = &self.folders.inner;
        let (to, node, moment) =
            (PathBuf::from(self.to), inner.mesh.name(), super::moment(SystemTime::now()));
        let (known, opened) = (inner.known.clone(), self.to.to_owned());
        let turn = turn.clone();
        let ours = blocking(move || {
            let target = Target::open(&opened, &node, moment, turn)?;
            Ok((Arc::new(target), scan(&opened, &known)?))
        });
        let (target, ours, theirs, scanned, found) = match self.source {
            From::Node(source) => {
                let looked = tokio::try_join!(ours, source.scan(self.they_know))?;
                let ((target, ours), (theirs, scanned)) = looked;
                (target, ours, theirs, scanned, None)
            }
            From::Store(far) => {
                let (target, ours) = ours.await?;
                let (theirs, scanned, found) = far.scan(&target, self.meter).await?;
                (target, ours, theirs, scanned, Some(found))
            }
            From::Kept(kept) => {
                let (target, ours) = ours.await?;
                let (theirs, scanned) = kept.scanned();
                (target, ours, theirs, scanned, None)
            }
        };
        if theirs.iter().map(|entry| entry.size).sum::<u64>() > self.limit {
            let text = format!("{} has more than {} bytes", scanned.path, self.limit);
            return Err(FolderError::Request(text));
        }
        let (ours, theirs, left) = self.looked(&target, ours, theirs).await?;
        let there = scanned.path.clone();
        let mut common = match self.source {
            From::Kept(kept) => kept.spare.clone(),
            _ if self.once => Vec::new(),
            From::Node(source) if self.they_know => source.common(to.display().to_string()).await?,
            _ => {
                let (kept, node) = (inner.common.clone(), self.node());
                let (to, there) = (to.clone(), there.clone());
                blocking(move || Ok(kept.load(&to, node, &there))).await?
            }
        };
        if let From::Node(source) = self.source {
            let files = going(self.mode, &common, &theirs, &ours.entries);
            let there = source.there(&files).await?;
            common = spare(common, &files, &there);
        }
        let mut skipped = scanned.skipped;
        for entry in &left {
            skip(
                &mut skipped,
                &entry.path,
                format!("an ignore file on {} names it", inner.mesh.name()),
            );
        }
        let done =
            Synced { entries: scanned.entries, bytes: scanned.bytes, skipped, ..Synced::default() };
        let undone = vec![false; theirs.len()];
        let progress = Mutex::new(Progress { done, undone, ..Progress::default() });
        let round = Arc::new(Round { common, theirs, ours, target, there, progress });
        let worked = self.work(&round, found).await;
        self.remember(&round, worked.is_ok()).await?;
        worked?;
        let all = left.is_empty();
        let again = self.wanted_now(left).await?;
        let mut progress = round.progress();
        let came = all && progress.changed.is_empty() && !progress.undone.contains(&true);
        progress.done.whole = self.they_know && came && progress.done.kept.is_empty();
        progress.changed.extend(again);
        Ok((std::mem::take(&mut progress.done), std::mem::take(&mut progress.changed)))
    }

    /// Both lists, as far as they count here: of what an ignore file here leaves out, what they have is
    /// left out, too, and returned apart, unless all of theirs shall come. Then what is here of it counts.
    async fn looked(
        &self,
        target: &Arc<Target>,
        mut ours: Scan,
        mut theirs: Vec<Entry>,
    ) -> Result<(Scan, Vec<Entry>, Vec<Entry>), FolderError> {
        let (known, target, mode) = (self.folders.inner.known.clone(), target.clone(), self.mode);
        blocking(move || {
            let here =
                |entry: &Entry| ours.entries.binary_search_by(|e| e.path.cmp(&entry.path)).is_ok();
            let mut left = Vec::new();
            match mode {
                Mode::Both => {
                    let mut rules = Rules::of(target.tree().path());
                    let out = |e: &mut Entry| !here(e) && rules.leave_out(&e.path, e.dir);
                    left.extend(theirs.extract_if(.., out));
                }
                Mode::Copy => {
                    let unseen: Vec<&str> =
                        theirs.iter().filter(|e| !here(e)).map(|e| e.path.as_str()).collect();
                    ours.add(target.tree(), unseen.into_iter(), &known);
                }
            }
            Ok((ours, theirs, left))
        })
        .await
    }

    /// Which of those that were left out are not any more, as an ignore file has come.
    async fn wanted_now(&self, left: Vec<Entry>) -> Result<Vec<String>, FolderError> {
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let to = self.to.to_owned();
        blocking(move || {
            let mut rules = Rules::of(&to);
            let wanted = left.into_iter().filter(|e| !rules.leave_out(&e.path, e.dir));
            Ok(wanted.map(|entry| entry.path).collect())
        })
        .await
    }

    async fn work(&self, round: &Arc<Round>, found: Option<Found>) -> Result<(), FolderError> {
        let (mode, here) = (self.mode, round.clone());
        let fetches = blocking(move || local::apply(&here, mode)).await?;
        match (self.source, found) {
            (From::Node(source), _) => {
                fetch::all(source, round, &self.folders.inner.known, fetches, self.meter).await
            }
            (From::Store(_), Some(found)) => found.bring(round, fetches, self.meter).await,
            (From::Store(_), None) => Ok(()),
            (From::Kept(kept), _) => kept.bring(round, fetches, self.meter).await,
        }
    }

    /// The node that the other folder is remembered by.
    fn node(&self) -> NodeId {
        match self.source {
            From::Node(source) => source.node,
            From::Store(_) => STORES,
            From::Kept(_) => self.folders.inner.mesh.me(),
        }
    }

    /// Keeps what is in common now, and what the files here hold; removes what was under way.
    async fn remember(&self, round: &Arc<Round>, all: bool) -> Result<(), FolderError> {
        let inner = &self.folders.inner;
        let (known, kept) = (inner.known.clone(), inner.common.clone());
        let (node, to, mode) = (self.node(), self.to.to_owned(), self.mode);
        let once = self.once;
        let round = round.clone();
        blocking(move || {
            let (learnt, left) = {
                let mut progress = round.progress();
                (std::mem::take(&mut progress.learnt), progress.changed.is_empty())
            };
            for file in learnt {
                let entry = &round.theirs[file.theirs];
                known.learn(&to, &to.join(&entry.path), file.stamp, entry.hash, file.values);
            }
            known.keep(&to);
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
