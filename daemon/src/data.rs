//! Data: blobs in a verified store, under names, moving from node to node.
//!
//! ```text
//! client --ask--> answer --data/1--> answer of another node
//!                   |  \
//!    versions, lineage  fetch --blob/1, piece/1--> serve (of each holder)
//!           |            |
//!     names, ledger      |
//!            \           |
//!             gc ---> store (iroh-blobs; large contents are files of their own)
//! ```
//!
//! Content moves to whoever asked for it, straight from those who have it. It is leased before any
//! of it is written, and on disk, then named, before anybody is told that it is there. A folder that
//! is saved is a list of its files, which is content as they are.

mod answer;
mod config;
mod error;
mod far;
mod fetch;
mod gc;
mod give;
mod history;
mod large;
mod ledger;
mod lineage;
mod manifest;
mod names;
mod put;
mod serve;
mod store;
mod streams;
#[cfg(test)]
mod tests;
mod trees;
mod verify;
mod versions;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rhd_protocol::{
    error::ErrorInfo,
    id::{Hash, NodeId},
    wire,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{config::Config, error::DataError};
use self::{gc::Pressure, ledger::Ledger, names::Names, store::Store};
use crate::{
    asked::Asker, folders::Folders, mesh::Mesh, naming::Naming, stores::Stores, tables::Tables,
};

/// How long a node may take to say what it knows of data, its link included.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a node that sent wrong bytes is asked only when nobody else has what is wanted.
const DISTRUST: Duration = Duration::from_secs(600);

/// With less than this free, what fails on a disk fails as it is full, in bytes.
const LITTLE: u64 = 1 << 20;

/// The data of a node; clones share it.
#[derive(Clone)]
pub struct Data {
    shelf: Arc<Shelf>,
    mesh: Mesh,
    naming: Naming,
    peers: Asker,
    stores: Stores,
    folders: Folders,
    tables: Tables,
}

/// What is outside the store, and can be kept in it.
pub struct Outside {
    /// Folders of this node.
    pub folders: Folders,
    /// Tables of this node.
    pub tables: Tables,
    /// Object stores.
    pub stores: Stores,
}

/// What is stored, and what is known of it.
#[derive(Debug)]
struct Shelf {
    config: Config,
    store: Store,
    names: Arc<Names>,
    ledger: Mutex<Ledger>,
    gate: gc::Gate,
    /// Held by the transfer of a content, so that there is one of each.
    fetching: Mutex<HashMap<Hash, Arc<tokio::sync::Mutex<()>>>>,
    /// Nodes that sent wrong bytes, and when.
    distrusted: Mutex<HashMap<NodeId, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    async fn open(dir: PathBuf, config: Config) -> Result<Self, DataError> {
        let (store, held) = Store::open(dir.clone()).await?;
        let names = Arc::new(Names::open(dir.join("names"), config.keep_versions)?);
        let mut ledger = Ledger::new(Duration::from_secs(config.keep_secs), config.quota);
        let now = Instant::now();
        for (hash, size) in held {
            ledger.holds(hash, size, now);
        }
        for version in names.all().values().flatten() {
            ledger.name(version.content.hash, now);
        }
        let shelf = Self {
            config,
            store,
            names,
            ledger: Mutex::new(ledger),
            gate: gc::Gate::default(),
            fetching: Mutex::default(),
            distrusted: Mutex::default(),
        };
        trees::pin(&shelf).await;
        Ok(shelf)
    }

    /// Sees to it that `size` more bytes may come: by a collection, where that helps.
    async fn make_room(self: &Arc<Self>, size: u64) -> Result<(), DataError> {
        let (excess, full) = {
            let ledger = lock(&self.ledger);
            (ledger.excess(size), ledger.is_over(size))
        };
        if excess > 0 {
            return Err(DataError::Quota { size, excess, quota: self.config.quota });
        }
        if full {
            gc::collect(self, Pressure { coming: size, lacking: 0 }, false).await?;
        }
        let reserve = self.config.reserve;
        let lacking = |free: u64| size.saturating_add(reserve).saturating_sub(free);
        let lacks = lacking(self.store.free()?);
        if lacks > 0 {
            gc::collect(self, Pressure { coming: 0, lacking: lacks }, false).await?;
            let free = self.store.free()?;
            if lacking(free) > 0 {
                return Err(DataError::DiskFull { needed: size, free, reserve });
            }
        }
        Ok(())
    }

    /// Whether the disk has come so near to full that what is being written must stop.
    fn is_filling(&self) -> Result<bool, DataError> {
        Ok(self.store.free()? < self.config.reserve / 2)
    }

    /// Opens the store anew, if it has failed for good.
    async fn mend(&self) -> Result<(), DataError> {
        match self.store.mend().await {
            Ok(None) => Ok(()),
            Ok(Some(held)) => {
                lock(&self.ledger).replace(&held);
                Ok(())
            }
            Err(error) => Err(self.explained(error, 0).await),
        }
    }

    /// What an error of the store comes from, where that is a full disk.
    async fn explained(&self, error: DataError, needed: u64) -> DataError {
        if !matches!(error, DataError::Store { .. }) {
            return error;
        }
        self.store.doubt().await;
        match self.store.free() {
            Ok(free) if free < self.config.reserve.max(LITTLE) => {
                DataError::DiskFull { needed, free, reserve: self.config.reserve }
            }
            _ => error,
        }
    }

    /// Whether a node sent wrong bytes lately.
    fn distrusts(&self, node: NodeId) -> bool {
        let mut distrusted = lock(&self.distrusted);
        distrusted.retain(|_, since| since.elapsed() < DISTRUST);
        distrusted.contains_key(&node)
    }
}

impl Data {
    /// Opens what is stored below a node's home.
    pub async fn open(
        home: &Path,
        mesh: Mesh,
        naming: Naming,
        config: Config,
        outside: Outside,
    ) -> Result<Self, ErrorInfo> {
        let shelf = Arc::new(Shelf::open(home.join("data"), config).await?);
        let peers = Asker::new(mesh.clone(), naming.clone(), wire::DATA);
        let Outside { folders, tables, stores } = outside;
        Ok(Self { shelf, mesh, naming, peers, stores, folders, tables })
    }

    /// Answers peers and collects what nothing needs, until `closing`.
    pub fn serve(&self, tasks: &TaskTracker, closing: &CancellationToken) {
        let (data, closed) = (self.clone(), closing.clone());
        tokio::spawn(closed.run_until_cancelled_owned(async move { data.tend().await }));
        serve::start(self, tasks, closing);
    }

    async fn tend(&self) {
        let every = Duration::from_secs(self.shelf.config.collect_every.max(1));
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.shelf.mend().await {
                tracing::warn!(%error, "the store of data can't be opened");
                continue;
            }
            match gc::collect(&self.shelf, Pressure::default(), false).await {
                Ok(done) if done.blobs > 0 => tracing::info!(?done, "collected data"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "data could not be collected"),
            }
        }
    }

    /// Ends it: what is stored is on disk when this returns.
    pub async fn close(&self) {
        self.shelf.store.close().await;
    }
}
