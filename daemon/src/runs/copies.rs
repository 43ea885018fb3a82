//! Records of ended runs, kept by the node of the caller, too: they outlive the node that ran.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::{CallId, NodeId},
    run::RunStatus,
};
use tokio::sync::mpsc;

use super::{
    Runs, error,
    expected::Asked,
    folder::{self, Folder, Meta},
    lock, prune,
    records::Records,
    sealed::Sealed,
};

/// Removed runs that are remembered.
const REMOVED: usize = 1024;

/// Empties the folder of copies that did not come whole.
pub(super) fn open(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

impl Records {
    /// Notes that a record is whole; its caller's node may have a copy.
    pub(super) fn seal(&self, id: CallId, from: NodeId) {
        let folder = self.folder(id);
        if from == self.admissions.me || folder.size() > self.config.copy_bytes {
            return;
        }
        let sealed = Sealed { id, to: from };
        if self.sealed.try_send(sealed).is_err() {
            tracing::warn!(run = %id, "its record is not copied before the next start: too many are");
        }
    }

    /// Whether the node of the caller of a run that has ended may yet have a copy.
    fn owes(&self, id: CallId) -> Option<Meta> {
        let folder = self.folder(id);
        if folder.is_settled() || self.is_open(id) || folder.size() > self.config.copy_bytes {
            return None;
        }
        let owed = |meta: &Meta| !meta.copy && meta.from != self.admissions.me;
        self.recorded(id).filter(owed).filter(|meta| meta.info.status != RunStatus::Running)
    }

    /// Has no copy of a run taken in from now on.
    pub(super) fn no_copy_of(&self, id: CallId) {
        let mut removed = lock(&self.removed);
        if removed.len() >= REMOVED {
            removed.pop_front();
        }
        removed.push_back(id);
    }

    /// Removes the record of a run; its name is that of the run before it then.
    pub(super) fn forget(&self, id: CallId, name: &str) -> io::Result<()> {
        self.folder(id).remove()?;
        if folder::pointed(&self.names, name) != Some(id) {
            return Ok(());
        }
        match prune::records(self).into_iter().find(|info| info.name == name) {
            Some(before) => folder::point(&self.names, name, before.id),
            None => {
                folder::unpoint(&self.names, name);
                Ok(())
            }
        }
    }
}

impl Runs {
    /// The records of runs that other nodes called, as they end; there is one reader.
    pub fn sealed(&self) -> Option<mpsc::Receiver<Sealed>> {
        lock(&self.records.told).take()
    }

    /// The records of other nodes' calls that these have yet to confirm, oldest first: those of the
    /// lives before this one, too.
    pub async fn unsettled(&self) -> Vec<Sealed> {
        let found = self.records.blocking(|records| {
            let owed = prune::ids(records).into_iter().filter_map(|id| records.owes(id));
            let mut owed: Vec<Meta> = owed.collect();
            owed.sort_unstable_by_key(|meta| meta.info.started_ms);
            Ok(owed.iter().map(|meta| Sealed { id: meta.info.id, to: meta.from }).collect())
        });
        found.await.unwrap_or_default()
    }

    /// The folder of a record that its caller's node has yet to confirm.
    pub async fn unsettled_at(&self, id: CallId) -> Option<PathBuf> {
        let found = self.records.blocking(move |records| {
            Ok(records.owes(id).map(|_| records.folder(id).path().to_owned()))
        });
        found.await.flatten()
    }

    /// Notes that the node of the caller has its copy, or wants none.
    pub async fn settle(&self, id: CallId) {
        self.records
            .blocking(move |records| match records.folder(id).settle() {
                // It was removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                settled => settled,
            })
            .await;
    }

    /// Notes that `host` is asked to run a call under this name: its record may come from there, and
    /// from nowhere else.
    pub fn expect(&self, id: CallId, host: NodeId, name: &str) {
        if let Err(error) = self.records.expected.note(id, Asked::new(host, name)) {
            tracing::warn!(%error, run = %id, "its record will not be copied here");
        }
    }

    /// The node that a call was sent to, if that is known.
    pub fn expected_from(&self, id: CallId) -> Option<NodeId> {
        self.records.expected.of(id).map(|asked| asked.host)
    }

    /// Where the copy of a record may come to, and how many bytes it may have; none where this node
    /// has it.
    pub async fn room_for(&self, id: CallId) -> Result<Option<(PathBuf, u64)>, ErrorInfo> {
        let limit = self.records.config.copy_bytes;
        if limit == 0 {
            let text = "this node keeps no copies: runs.copy_bytes is 0";
            return Err(ErrorInfo::new(ErrorKind::PermissionDenied, text));
        }
        let known = self.records.blocking(move |records| {
            Ok(records.admissions.running(id).is_some() || records.folder(id).read().is_some())
        });
        let known = known.await.unwrap_or(true);
        Ok((!known).then(|| (self.records.incoming.join(id.to_string()), limit)))
    }

    /// Takes in the copy that has come for `id` from the node `host`, if it is what it should be: the
    /// whole record of a run there that was called from here.
    pub async fn take_in(&self, id: CallId, host: String) -> Result<(), ErrorInfo> {
        let me = self.records.admissions.me;
        let taken = self.records.blocking(move |records| {
            let came = Folder::of(&records.incoming, id);
            let meta = came.read().filter(|meta| {
                let ended = meta.info.status != RunStatus::Running;
                let wanted = !lock(&records.removed).contains(&id);
                let named = records
                    .expected
                    .of(id)
                    .is_none_or(|asked| asked == Asked::new(asked.host, &meta.info.name));
                let own = meta.info.id == id && meta.from == me && meta.info.host == host;
                own && named && ended && wanted
            });
            let Some(mut meta) = meta else {
                let _ = came.remove();
                return Ok(false);
            };
            meta.copy = true;
            came.write(&meta, true)?;
            fs::rename(came.path(), records.folder(id).path())?;
            let (name, started) = (meta.info.name, meta.info.started_ms);
            let newest = folder::pointed(&records.names, &name)
                .and_then(|other| records.recorded(other))
                .is_none_or(|other| other.info.started_ms < started);
            if !name.is_empty() && newest {
                folder::point(&records.names, &name, id)?;
            }
            // Who removes it meanwhile may have looked for it before it was there.
            if lock(&records.removed).contains(&id) {
                records.forget(id, &name)?;
                return Ok(false);
            }
            records.ended.send_modify(|ended| *ended += 1);
            Ok(true)
        });
        match taken.await {
            Some(true) => Ok(()),
            Some(false) => Err(error::no_record(id)),
            None => {
                Err(error::no_room(&self.records.node(), &io::Error::other("a copy of a record")))
            }
        }
    }

    /// Removes what came of a copy that did not come whole.
    pub async fn drop_incoming(&self, id: CallId) {
        self.records.blocking(move |records| Folder::of(&records.incoming, id).remove()).await;
    }

    /// Whether this node has a copy of the record of a run of another.
    pub async fn has_copy(&self, id: CallId) -> bool {
        let copy = self
            .records
            .blocking(move |records| Ok(records.folder(id).read().is_some_and(|meta| meta.copy)));
        copy.await.unwrap_or(false)
    }
}
