//! What this node knows of runs: by their tasks while they run, by their records, by the journal.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use rhd_protocol::{
    error::ErrorInfo,
    id::CallId,
    machine::receipt::{Known, Receipt},
    run::{RunInfo, RunStatus},
};
use tokio::sync::{mpsc, watch};

use super::{
    Config,
    admitted::Admissions,
    error,
    expected::Expected,
    folder::{Folder, Meta},
    grown::Grown,
    sealed::Sealed,
};

/// The records of this node, and what stands behind those that are being written.
pub(super) struct Records {
    pub(super) admissions: Arc<Admissions>,
    pub(super) config: Config,
    pub(super) dir: PathBuf,
    pub(super) names: PathBuf,
    /// Runs whose records have not ended.
    pub(super) recording: watch::Sender<HashMap<CallId, Claim>>,
    /// Where copies come to, until they are whole.
    pub(super) incoming: PathBuf,
    /// Whose copies are taken in.
    pub(super) expected: Expected,
    /// Runs whose records were removed lately: copies that are on their way are not taken in.
    pub(super) removed: Mutex<VecDeque<CallId>>,
    /// Records that are whole, and whoever takes them.
    pub(super) sealed: mpsc::Sender<Sealed>,
    pub(super) told: Mutex<Option<mpsc::Receiver<Sealed>>>,
    /// Runs that ended since old ones were looked for.
    pub(super) ended: watch::Sender<usize>,
}

/// What a run that is being recorded has for itself.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// Its name, if it has one; none once its final reply is known: its caller may use it again.
    name: String,
    /// How far its record goes; none until that can be read.
    grown: Option<watch::Sender<Grown>>,
}

/// Why a run can't be recorded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Taken {
    /// One of its name is under way.
    Name(CallId),
    /// One of its id.
    Id,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({})", self.admissions.me.short())
    }
}

impl Records {
    /// The name of this node.
    pub(super) fn node(&self) -> String {
        self.admissions.node()
    }

    /// Where the record of a call is.
    pub(super) fn folder(&self, id: CallId) -> Folder {
        Folder::of(&self.dir, id)
    }

    /// Does what waits for the disk; what fails is logged.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let records = self.clone();
        match tokio::task::spawn_blocking(move || work(&records)).await {
            Ok(Ok(done)) => Some(done),
            Ok(Err(error)) => {
                tracing::warn!(%error, "records of runs");
                None
            }
            Err(error) => {
                tracing::error!(%error, "records of runs");
                None
            }
        }
    }

    /// Takes a name for a run that is about to be recorded, while no other has it.
    pub(super) fn claim(&self, name: &str, id: CallId) -> Result<(), Taken> {
        let mut claimed = Ok(());
        self.recording.send_if_modified(|recording| {
            let same = |of: &&CallId| !name.is_empty() && recording[*of].name == name;
            claimed = match recording.keys().find(same) {
                Some(other) => Err(Taken::Name(*other)),
                None if recording.contains_key(&id) => Err(Taken::Id),
                None => Ok(()),
            };
            if claimed.is_ok() {
                recording.insert(id, Claim { name: name.to_owned(), grown: None });
            }
            claimed.is_ok()
        });
        claimed
    }

    /// The record of a run is there, and grows.
    pub(super) fn opened(&self, id: CallId, grown: watch::Sender<Grown>) {
        self.recording.send_modify(|recording| {
            recording.entry(id).or_default().grown = Some(grown);
        });
    }

    /// How far the record of a run goes that has not ended. One that is about to be made is waited
    /// for: it has yet to say anything.
    pub(super) async fn growing(&self, id: CallId) -> Option<watch::Receiver<Grown>> {
        self.settled(id).await;
        self.recording.borrow().get(&id)?.grown.as_ref().map(watch::Sender::subscribe)
    }

    /// Waits until the record of a run can be read, or never will.
    pub(super) async fn settled(&self, id: CallId) {
        let open =
            |of: &HashMap<CallId, Claim>| of.get(&id).is_none_or(|claim| claim.grown.is_some());
        let _ = self.recording.subscribe().wait_for(open).await;
    }

    /// Lets go of a run that is not recorded any more.
    pub(super) fn unclaim(&self, id: CallId) {
        self.recording.send_modify(|recording| drop(recording.remove(&id)));
    }

    /// Frees the name of a run whose final reply is known.
    pub(super) fn unname(&self, id: CallId) {
        self.recording.send_if_modified(|recording| {
            recording.get_mut(&id).map(|claim| claim.name.clear()).is_some()
        });
    }

    /// A recorded run has ended, and its record says so.
    pub(super) fn finished(&self, id: CallId) {
        self.unclaim(id);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// Whether a run is under way, or the end of its record.
    pub(super) fn is_open(&self, id: CallId) -> bool {
        self.admissions.running(id).is_some() || self.is_recording(id)
    }

    fn is_recording(&self, id: CallId) -> bool {
        self.recording.borrow().contains_key(&id)
    }

    /// The run, if it can stand for another of its name: it is under way, or has a result.
    pub(super) fn reusable(&self, id: CallId) -> Option<RunInfo> {
        self.told(id).filter(|info| info.recorded).filter(|info| match info.status {
            RunStatus::Running => true,
            RunStatus::Completed => info.result.is_some(),
            _ => false,
        })
    }

    /// How far a call got that was made `age_ms` ago. One that never was here never will be.
    pub(super) async fn info(
        self: &Arc<Self>,
        id: CallId,
        age_ms: Option<u64>,
    ) -> Result<RunInfo, ErrorInfo> {
        let found = self.blocking(move |records| {
            if let Some(info) = records.told(id) {
                return Ok(Ok(info));
            }
            Ok(Err(records.admissions.journal.ask(id, age_ms)?))
        });
        match found.await {
            Some(Ok(info)) => Ok(info),
            Some(Err(Known::Yes(receipt))) => Ok(self.receipt(id, receipt)),
            Some(Err(Known::Never)) => {
                let status = RunStatus::NotStarted;
                let never = Receipt { status, started_ms: 0, ended_ms: 0 };
                Ok(RunInfo { host: String::new(), ..self.receipt(id, never) })
            }
            Some(Err(Known::Forgotten { .. })) => Err(error::forgotten(&self.node(), id)),
            None => {
                let unwritable = io::Error::other("the journal can't be written");
                Err(error::no_room(&self.node(), &unwritable))
            }
        }
    }

    /// A run that is known here, or the error for one that is not.
    pub(super) async fn known(self: &Arc<Self>, id: CallId) -> Result<RunInfo, ErrorInfo> {
        let info = self.info(id, None).await?;
        match info.status {
            RunStatus::NotStarted if info.host.is_empty() => {
                Err(error::unknown(&self.node(), &id.to_string()))
            }
            _ => Ok(info),
        }
    }

    /// What a call's own task or record says about it.
    fn told(&self, id: CallId) -> Option<RunInfo> {
        let running = self.admissions.running(id).map(|call| call.info());
        running.or_else(|| Some(self.recorded(id)?.info))
    }

    /// What the record of a run says; of one that this daemon doesn't run, how it ended.
    pub(super) fn recorded(&self, id: CallId) -> Option<Meta> {
        let folder = self.folder(id);
        let mut meta = folder.read()?;
        if meta.info.status == RunStatus::Running {
            if let Some(call) = self.admissions.running(id) {
                meta.info.status = call.info().status;
                return Some(meta);
            }
            folder.mend(&mut meta, self.admissions.journal.look(id));
            // Once is enough, unless its own task is about to say it.
            if !self.is_recording(id)
                && let Err(error) = folder.write(&meta, false)
            {
                tracing::debug!(%error, run = %id, "a record stays as it is");
            }
        }
        Some(meta)
    }

    fn receipt(&self, id: CallId, receipt: Receipt) -> RunInfo {
        RunInfo {
            id,
            name: String::new(),
            status: receipt.status,
            host: self.node(),
            caller: String::new(),
            service: String::new(),
            verb: Default::default(),
            method: None,
            started_ms: receipt.started_ms,
            ended_ms: receipt.ended_ms,
            recorded: false,
            result: self.admissions.recent.get(id).map(|frame| frame.body.len() as u64),
            error: None,
        }
    }
}
