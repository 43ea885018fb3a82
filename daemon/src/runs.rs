//! Runs: what became of the calls that this node executed.
//!
//! ```text
//!                      journal: a receipt for every call, before it starts and when it ended
//!  calls --admit-----> |
//!        --record----> journal + folder (inputs, replies, result) --pump--> disk --> attached
//!        --adopt-----> the same, from the middle of a plain call whose caller was lost
//! ```
//!
//! Who ends a call, other than itself and its deadline:
//!
//! - `Cancel` ends every call.
//! - A caller that closes its connection, or dies, ends a call that it waits for. Not one that was
//!   detached or is to be kept.
//! - A caller's node that is lost, with no word from it, ends nothing at once: a recorded run goes
//!   on; a plain call is adopted, so that somebody may attach, and ended after a grace time if
//!   nobody did. A plain generator is ended: its items were not kept.
//!
//! A disk that is full refuses calls before they run: a receipt that can't be written would lie.

mod admitted;
mod asked;
mod attached;
mod config;
mod copies;
mod error;
mod expected;
mod folder;
mod grown;
mod journal;
mod live;
mod prune;
mod recent;
mod records;
mod sealed;
#[cfg(test)]
mod tests;

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rhd_protocol::{
    call::{Call, RunOptions},
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    run::{Kept, RunInfo},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use admitted::{Admitted, Running};
pub use attached::Attached;
pub use config::Config;
pub use error::no_name;
pub use live::{Recording, Source};
pub use sealed::Sealed;

use admitted::Admissions;
use attached::answer;
use expected::Expected;
use journal::Journal;
use recent::Recent;
use records::{Records, Taken};

use crate::framed::Frame;

/// How often what was journaled is flushed to disk.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How often old records are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// Runs that end before old records are looked for out of turn.
const PRUNE_AFTER: usize = 64;

/// Cloneable handle to the runs of this node.
#[derive(Debug, Clone)]
pub struct Runs {
    records: Arc<Records>,
}

/// What became of a call that is to leave a record.
#[derive(Debug)]
pub enum Recorded {
    /// It starts.
    Now(Recording),
    /// It does not: this run, of its name, answers in its place.
    Before(RunInfo),
}

/// Locks a mutex whose data is whole after every panic: it holds plain values only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runs {
    /// Opens the room below `home`, for the node `me` of this name. What was recorded is not read
    /// until somebody asks.
    pub fn open(
        home: &Path,
        me: NodeId,
        name: impl Fn() -> String + Send + Sync + 'static,
        config: Config,
        closing: CancellationToken,
    ) -> io::Result<Self> {
        let dir = home.join("runs");
        let (records, names) = (dir.join("records"), dir.join("names"));
        for dir in [&records, &names] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let incoming = dir.join("incoming");
        copies::open(&incoming)?;
        let expected = Expected::open(&dir.join("expected"))?;
        let (sealed, told) = sealed::queue();
        let journal = Journal::open(&dir.join("journal"), config.journal_bytes)?;
        let admissions = Arc::new(Admissions {
            me,
            name: Box::new(name),
            journal,
            recent: Recent::default(),
            running: Mutex::default(),
            closing,
        });
        let records = Records {
            admissions,
            config,
            dir: records,
            names,
            incoming,
            expected,
            removed: Mutex::default(),
            sealed,
            told: Mutex::new(Some(told)),
            recording: watch::Sender::default(),
            ended: watch::Sender::new(0),
        };
        Ok(Self { records: Arc::new(records) })
    }

    /// Flushes the journal and removes old records, until the node drains.
    pub fn tend(&self) {
        let (records, closing) = self.tended();
        tokio::spawn(async move {
            while !closing.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(FLUSH_EVERY) => {}
                    () = closing.cancelled() => return,
                }
                records.blocking(|records| records.admissions.journal.sync()).await;
            }
        });
        let (records, closing) = self.tended();
        tokio::spawn(async move {
            let mut ended = records.ended.subscribe();
            loop {
                records.blocking(|records| Ok(prune::prune(records))).await;
                records.ended.send_modify(|ended| *ended = 0);
                tokio::select! {
                    () = tokio::time::sleep(PRUNE_EVERY) => {}
                    enough = ended.wait_for(|ended| *ended >= PRUNE_AFTER) => if enough.is_err() {
                        return;
                    },
                    () = closing.cancelled() => return,
                }
            }
        });
    }

    fn tended(&self) -> (Arc<Records>, CancellationToken) {
        (self.records.clone(), self.records.admissions.closing.clone())
    }

    /// Lets a call start that leaves no more than a receipt.
    pub fn admit(&self, call: &Call, from: NodeId) -> Result<Arc<Admitted>, ErrorInfo> {
        self.records.admissions.admit(call, from)
    }

    /// Lets a call start that leaves a record: on disk before this returns. Where the call asks for
    /// it, finds the run that has its name instead.
    pub async fn record(
        &self,
        call: &Call,
        body: &Bytes,
        from: NodeId,
    ) -> Result<Recorded, ErrorInfo> {
        let RunOptions { name, get, .. } = call.run.clone().unwrap_or_default();
        let (records, get) = (&self.records, get && !name.is_empty());
        error::check_name(&name).map_err(|e| e.on(&records.node()))?;
        while let Err(taken) = records.claim(&name, call.id) {
            match taken {
                Taken::Name(other) if get => {
                    records.settled(other).await;
                    let found = records.blocking(move |records| Ok(records.reusable(other)));
                    if let Some(info) = found.await.flatten() {
                        return Ok(Recorded::Before(info));
                    }
                }
                Taken::Name(other) => {
                    return Err(error::name_taken(&records.node(), &name, call.id, other));
                }
                Taken::Id => return Err(error::known(&records.node(), call.id, None)),
            }
        }
        let recorded = match get {
            true => self.before(&name).await,
            false => None,
        };
        let recorded = match recorded {
            Some(info) => Ok(Recorded::Before(info)),
            None => self.begin(call, body, from, &name).await.map(Recorded::Now),
        };
        match &recorded {
            Ok(Recorded::Now(recording)) => records.opened(call.id, recording.grown.clone()),
            _ => records.unclaim(call.id),
        }
        recorded
    }

    /// The newest run of a name, if it can stand for another.
    async fn before(&self, name: &str) -> Option<RunInfo> {
        let name = name.to_owned();
        let found = self.records.blocking(move |records| {
            Ok(folder::pointed(&records.names, &name).and_then(|id| records.reusable(id)))
        });
        found.await.flatten()
    }

    async fn begin(
        &self,
        call: &Call,
        body: &Bytes,
        from: NodeId,
        name: &str,
    ) -> Result<Recording, ErrorInfo> {
        if self.records.folder(call.id).read().is_some() {
            return Err(error::known(&self.records.node(), call.id, None));
        }
        let admitted = self.records.admissions.admit(call, from)?;
        let inputs = Kept { codec: call.codec, parts: call.parts.clone() };
        let recording = Recording::begin(&self.records, &admitted, Some((inputs, body.clone())));
        let refuse = |error: io::Error| {
            let error = error::no_room(&self.records.node(), &error).call(call.id);
            drop(admitted.running());
            admitted.refused(&error);
            error
        };
        let recording = recording.await.map_err(refuse)?;
        let (name, id) = (name.to_owned(), call.id);
        let durable = self.records.blocking(move |records| {
            records.admissions.journal.sync()?;
            if name.is_empty() { Ok(()) } else { folder::point(&records.names, &name, id) }
        });
        match durable.await {
            Some(()) => Ok(recording),
            None => {
                let _ = recording.folder.remove();
                Err(refuse(io::Error::other("it could not be flushed")))
            }
        }
    }

    /// Begins to record a call in its middle, as its caller was lost.
    pub async fn adopt(&self, admitted: &Arc<Admitted>) -> io::Result<Recording> {
        // Nobody named it, and one call is adopted once.
        let _ = self.records.claim("", admitted.id);
        let recording = Recording::begin(&self.records, admitted, None).await;
        match &recording {
            Ok(recording) => self.records.opened(admitted.id, recording.grown.clone()),
            Err(_) => self.records.unclaim(admitted.id),
        }
        recording
    }

    /// Cancels an adopted call that nobody attached to in time; returns when it has.
    pub async fn desert(&self, admitted: &Arc<Admitted>) {
        let grace = Duration::from_secs(self.records.config.orphan_grace.max(1));
        loop {
            tokio::time::sleep(grace).await;
            if !admitted.is_attended() {
                tracing::info!(call = %admitted.id, "its caller was lost and nobody attached");
                return admitted.cancel();
            }
        }
    }

    /// Makes the journal durable, at the node's end.
    pub async fn close(&self) {
        self.records.blocking(|records| records.admissions.journal.bye()).await;
    }
}

/// A final reply about a run.
pub fn reply(value: &impl serde::Serialize) -> Result<Frame, ErrorInfo> {
    answer(value)?.map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))
}
