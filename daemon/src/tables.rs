//! Tables: folders of Parquet files, read as Arrow record batches, replaced and added to as a whole.
//!
//! ```text
//! client --ask--> answer --table/1--> answer of the node that has the table
//!                                       |
//!               layout (which files) -> plan (footers, one schema) -> read -> items
//!                                                                      |
//!                                                            fit, shuffle, pack
//! ```
//!
//! Files are decoded on threads of their own, a few pages at a time. Whatever a file holds, the
//! answer is an error that names it: decoders that panic are caught.

mod adding;
mod answer;
mod cells;
mod error;
mod far;
mod file;
mod fit;
mod layout;
mod pack;
mod plan;
mod publish;
mod read;
mod remote;
mod shuffle;
mod stats;
#[cfg(test)]
mod tests;
mod unify;

use std::{path::Path, sync::Arc, time::Duration};

use rhd_protocol::{error::ErrorInfo, folder::Entry, wire};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{error::TableError, publish::Published};
use crate::{
    asked::{self, Asker},
    folders::Folders,
    mesh::{Mesh, Priority},
    naming::Naming,
    stores::Stores,
};

/// Questions of peers that are answered at once; beyond this they wait.
const ANSWERED: usize = 256;
/// Tables that are read at once; beyond this we refuse.
const READS: usize = 64;
/// How long a reader may pause, as a training does between its epochs.
const PAUSE: Duration = Duration::from_secs(3600);

/// The tables of a node; clones share it.
#[derive(Clone)]
pub struct Tables {
    mesh: Mesh,
    naming: Naming,
    folders: Folders,
    peers: Asker,
    published: Arc<Published>,
    stores: Stores,
    reads: Arc<Semaphore>,
}

impl Tables {
    /// Serves the tables in a node's folders.
    pub fn new(mesh: Mesh, naming: Naming, folders: Folders, stores: Stores) -> Self {
        let peers = Asker::new(mesh.clone(), naming.clone(), wire::TABLE);
        let (published, reads) = (Arc::default(), Arc::new(Semaphore::new(READS)));
        Self { mesh, naming, folders, peers, published, stores, reads }
    }

    /// Puts a folder of Parquet files in the place of a table, if what is there is this, or nothing;
    /// whether it did. Who reads the old one reads it to its end.
    pub async fn replace(
        &self,
        path: &Path,
        with: &Path,
        spare: Vec<Entry>,
    ) -> Result<bool, ErrorInfo> {
        let (published, folders) = (self.published.clone(), self.folders.clone());
        let (path, with, runtime) = (path.to_owned(), with.to_owned(), Handle::current());
        let replaced = answer::blocking(move || {
            published.replace_if(&path, &with, || {
                if !path.try_exists().unwrap_or(true) {
                    return Ok(spare.is_empty());
                }
                let look = runtime.block_on(folders.look(&path));
                let look = look.map_err(|error| TableError::Request(error.message))?;
                Ok(look.entries == spare)
            })
        });
        Ok(replaced.await?.is_some())
    }

    /// Answers peers, until `closing`.
    pub fn serve(&self, tasks: &TaskTracker, closing: &CancellationToken) {
        let tables = self.clone();
        let asks = self.mesh.accept(wire::TABLE);
        asked::accept(asks, ANSWERED, tasks, closing, move |stream| {
            let tables = tables.clone();
            async move {
                let (peer, here) = (stream.peer, tables.mesh.name());
                // Calls on the same link go first.
                stream.set_priority(Priority::Bulk);
                asked::answer_within(PAUSE, &here, stream, |ask, out| async move {
                    tables.give(peer, ask, &out).await
                })
                .await
            }
        });
    }
}
