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
    folder::{self, Folder},
    lock,
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
        let sealed = Sealed { id, to: from, path: folder.path().to_owned() };
        if self.sealed.try_send(sealed).is_err() {
            tracing::warn!(run = %id, "its record stays here only: too many wait to be copied");
        }
    }

    /// Has no copy of a run taken in from now on.
    pub(super) fn no_copy_of(&self, id: CallId) {
        let mut removed = lock(&self.removed);
        if removed.len() >= REMOVED {
            removed.pop_front();
        }
        removed.push_back(id);
    }
}

impl Runs {
    /// The records of runs that other nodes called, as they end; there is one reader.
    pub fn sealed(&self) -> Option<mpsc::Receiver<Sealed>> {
        lock(&self.records.told).take()
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
                meta.info.id == id && meta.from == me && meta.info.host == host && ended && wanted
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
