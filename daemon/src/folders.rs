//! Folders: brought from node to node, each file verified as it arrives, nothing sent that is there.
//!
//! ```text
//! client --ask--> answer --folder/1--> answer of another node
//!                   |
//!                 pull --folder/1--> give (of the node that has the folder)
//!                   |                  |
//!   place <-- local, fetch, large    scan, digest
//! ```
//!
//! The node that gets a folder asks for what it lacks. It writes beside the folder's own files and
//! renames, so that nobody sees a half, and it sets aside what it would else have to overwrite.

mod answer;
mod cache;
mod common;
mod digest;
mod download;
mod error;
mod far;
mod fetch;
mod give;
mod grants;
mod ignored;
mod kept;
mod known;
mod large;
mod list;
mod local;
mod logged;
mod noted;
mod place;
mod pull;
mod round;
mod saved;
mod scan;
mod send;
mod source;
mod sync;
#[cfg(test)]
mod tests;
mod tree;
mod upload;
mod watch;

use std::{
    collections::{HashMap, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    folder::{Entry, Place, Synced},
    id::NodeId,
    machine::reconcile::Mode,
    wire,
};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    cache::{Cache, Stamp},
    digest::{hash_file, open_plain},
    error::FolderError,
    saved::{Contents, Kept, Look},
};
use self::{
    common::Common, grants::Grants, known::Known, noted::Notes, pull::Pull, source::Source,
};
pub(crate) use self::{
    digest::{Values, digest, digest_by, holes, is_hole, threads, write_at},
    tree::Tree,
};
use crate::{
    asked::{self, Asker, Meter},
    background,
    mesh::{Mesh, Priority},
    naming::Naming,
    stores::Stores,
};

/// Files whose hash is remembered while they don't change.
const REMEMBERED: usize = 1_000_000;
/// Questions of peers that are answered at once; beyond this they wait.
const ANSWERED: usize = 256;
/// Of these, how many read the disk at once: each holds a few MiB.
const READ: usize = 16;
/// Lists that are kept in mind to be settled.
const GIVEN: usize = 2;

/// The folders of a node; clones share it.
#[derive(Clone)]
pub struct Folders {
    inner: Arc<Inner>,
}

struct Inner {
    mesh: Mesh,
    naming: Naming,
    peers: Asker,
    known: Arc<Known>,
    common: Arc<Common>,
    /// What is known of objects in stores.
    notes: Arc<Notes>,
    stores: Stores,
    grants: Grants,
    /// Where folders go that are given no place.
    places: PathBuf,
    /// Held while a folder is written to, so that there is one writer of each.
    writing: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>,
    given: Mutex<VecDeque<Given>>,
    reading: Semaphore,
}

/// A list that a node was given of a folder.
struct Given {
    path: PathBuf,
    to: NodeId,
    entries: Arc<Vec<Entry>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what waits for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FolderError> + Send + 'static,
) -> Result<T, FolderError> {
    match background::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(FolderError::Nonsense(format!("a thread failed: {error}"))),
    }
}

/// A time to the second, as part of a name.
fn moment(at: SystemTime) -> String {
    let now = time::OffsetDateTime::from(at);
    format!(
        "{:04}{:02}{:02}-{:02}{:02}{:02}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

impl Folders {
    /// Opens what is remembered of folders below a node's home.
    pub fn open(
        home: &Path,
        mesh: Mesh,
        naming: Naming,
        stores: Stores,
    ) -> Result<Self, ErrorInfo> {
        let common = Arc::new(Common::open(home.join("common"))?);
        let notes = Arc::new(Notes::open(home.join("objects"))?);
        let inner = Inner {
            peers: Asker::new(mesh.clone(), naming.clone(), wire::FOLDER),
            known: Arc::new(Known::open(home.join("hashes"), REMEMBERED)?),
            common,
            notes,
            stores,
            grants: Grants::default(),
            places: home.join("folders"),
            writing: Mutex::default(),
            given: Mutex::default(),
            reading: Semaphore::new(READ),
            mesh,
            naming,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Answers peers, until `closing`.
    pub fn serve(&self, tasks: &TaskTracker, closing: &CancellationToken) {
        let folders = self.clone();
        let asks = self.inner.mesh.accept(wire::FOLDER);
        asked::accept(asks, ANSWERED, tasks, closing, move |stream| {
            let folders = folders.clone();
            async move {
                let (peer, here) = (stream.peer, folders.inner.mesh.name());
                // Calls on the same link go first.
                stream.set_priority(Priority::Bulk);
                asked::answer(&here, stream, |ask, out| async move {
                    folders.give(peer, ask, &out).await
                })
                .await
            }
        });
    }

    /// Lets a node read a folder of this one for a day, by what it is given here.
    pub fn grant(&self, path: PathBuf, to: NodeId) -> String {
        self.inner.grants.give(path, to)
    }

    /// Has a folder of another node at a path here, unless its files have more bytes than `limit`.
    pub async fn fetch(
        &self,
        node: NodeId,
        from: Place,
        to: &Path,
        limit: u64,
    ) -> Result<Synced, ErrorInfo> {
        let (source, meter) = (Source::new(self, node, from), Meter::default());
        let mode = Mode::Copy;
        let pull = Pull {
            folders: self,
            source: pull::From::Node(&source),
            to,
            mode,
            they_know: false,
            once: true,
            limit,
            meter: &meter,
        };
        Ok(pull.run().await?)
    }

    /// The right to write to a folder, once nobody else does.
    async fn turn(&self, path: &Path) -> OwnedMutexGuard<()> {
        let turn = {
            let mut writing = lock(&self.inner.writing);
            // What nobody holds or waits for.
            writing.retain(|_, turn| Arc::strong_count(turn) > 1);
            writing.entry(path.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn keep_given(&self, path: PathBuf, to: NodeId, entries: Vec<Entry>) {
        let mut given = lock(&self.inner.given);
        given.retain(|given| (&given.path, given.to) != (&path, to));
        if given.len() >= GIVEN {
            given.pop_front();
        }
        given.push_back(Given { path, to, entries: Arc::new(entries) });
    }

    fn take_given(&self, path: &Path, to: NodeId) -> Option<Arc<Vec<Entry>>> {
        let mut given = lock(&self.inner.given);
        let at = given.iter().position(|given| (given.path.as_path(), given.to) == (path, to))?;
        given.remove(at).map(|given| given.entries)
    }
}

/// The absolute path that a request names.
pub(crate) fn absolute(path: &str) -> Result<PathBuf, ErrorInfo> {
    let refused = |why: &str| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("{path:?} {why}"))
            .hint("name an absolute path, or one that starts with ~/")
    };
    let full = match path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'))
    {
        Some(rest) => {
            let home = std::env::var_os("HOME").ok_or_else(|| refused("needs HOME to be set"))?;
            Path::new(&home).join(rest.trim_start_matches('/'))
        }
        None => PathBuf::from(path),
    };
    let plain = full.components().all(|part| part != std::path::Component::ParentDir);
    match full.is_absolute() && plain && !path.contains('\0') {
        // Without a slash at the end or two in a row: one folder, one name.
        true => Ok(full.components().collect()),
        false => Err(refused("is no absolute path")),
    }
}
