//! Content: project folders as snapshots, files by hash, versions of code as folders.
//!
//! ```text
//! folder --snapshot--> Manifest --missing--> hashes --transfer--> store --materialise--> folder
//! ```
//!
//! The deployer takes a [`Snapshot`], the host says what it lacks, only that moves, and the host
//! unfolds the manifest. Equal content is stored once, whatever its name, project or version.

mod config;
mod error;
mod guard;
mod materialise;
mod prune;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod transfer;
mod walk;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rhd_protocol::{
    api::LocalRoot,
    code::CodeRoot,
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    program::Target,
    wire::{Manifest, RootOffer, safe_path},
};
use tokio::{
    io::AsyncRead,
    sync::{OwnedRwLockReadGuard, RwLock},
};

pub use self::{
    config::Config,
    error::BlobError,
    prune::Pruned,
    snapshot::Snapshot,
    store::Writer,
    transfer::{Moved, send_files},
};
use crate::folders::Cache;

/// The content of a node; clones share it.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    store: store::Store,
    code: materialise::Code,
    cache: Mutex<Cache>,
    /// Versions that were held against their manifest since the start.
    intact: Mutex<HashSet<Hash>>,
    /// Held while a folder is built, so that two deployments of one version share the work.
    building: Arc<tokio::sync::Mutex<()>>,
    /// Read by deployments under way, written by pruning.
    under_way: Arc<RwLock<()>>,
}

/// Keeps content from being pruned between `missing` and `materialise`.
#[derive(Debug)]
#[must_use = "content may be pruned once it is dropped"]
pub struct Lease {
    _held: OwnedRwLockReadGuard<()>,
}

impl Blobs {
    /// Opens the content below a node's home.
    pub fn open(home: &Path, config: Config) -> Result<Self, ErrorInfo> {
        let store = store::Store::open(home.join("blobs"), config.fsync)?;
        let code = materialise::Code::open(home.join("code"))?;
        let cache = Mutex::new(Cache::new(config.hash_cache));
        let inner = Inner {
            config,
            store,
            code,
            cache,
            intact: Mutex::default(),
            building: Arc::default(),
            under_way: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Reads a project folder. `origin` is the node's id: it tells equal paths of two nodes apart.
    pub async fn snapshot(&self, root: LocalRoot, origin: &str) -> Result<Snapshot, ErrorInfo> {
        let origin = origin.to_owned();
        self.run(move |inner| {
            snapshot::take(&root, &origin, &inner.config, &inner.cache).map_err(BlobError::from)
        })
        .await
    }

    /// Reads a program of this machine: its content, and what it was built for.
    pub async fn program(
        &self,
        path: String,
        origin: &str,
    ) -> Result<(Snapshot, Target), ErrorInfo> {
        let origin = origin.to_owned();
        self.run(move |inner| {
            snapshot::take_program(&path, &origin, &inner.config, &inner.cache)
                .map_err(BlobError::from)
        })
        .await
    }

    /// Keeps pruning away until the lease is dropped; take one before [`missing`](Self::missing).
    pub async fn lease(&self) -> Lease {
        Lease { _held: Arc::clone(&self.inner.under_way).read_owned().await }
    }

    /// The content that a deployment needs and this node lacks, with sizes. Refuses manifests that
    /// are unsafe or larger than this node takes.
    pub async fn missing(
        &self,
        manifests: impl IntoIterator<Item = &Manifest>,
    ) -> Result<Vec<(Hash, u64)>, ErrorInfo> {
        let limit = self.inner.config.max_incoming_bytes;
        let mut seen: HashMap<Hash, u64> = HashMap::new();
        let mut order = Vec::new();
        let mut total = 0u64;
        for manifest in manifests {
            if !manifest.is_safe() {
                return Err(BlobError::UnsafeManifest.into());
            }
            for file in manifest.files.values().filter(|file| file.link.is_none()) {
                if seen.insert(file.hash, file.size).is_none() {
                    total = total.saturating_add(file.size);
                    order.push((file.hash, file.size));
                }
            }
        }
        if total > limit {
            return Err(BlobError::TooLarge { size: total, limit }.into());
        }
        self.run(move |inner| {
            order.retain(|(hash, size)| !inner.store.has(*hash, *size));
            Ok(order)
        })
        .await
    }

    /// Starts to store content that is announced as `size` bytes of this hash.
    pub fn writer(&self, hash: Hash, size: u64) -> Result<Writer, BlobError> {
        let limit = self.inner.config.max_incoming_bytes;
        if size > limit {
            return Err(BlobError::TooLarge { size, limit });
        }
        self.inner.store.writer(hash, size)
    }

    /// Whether content of this hash and size is here.
    pub fn has(&self, hash: Hash, size: u64) -> bool {
        self.inner.store.has(hash, size)
    }

    /// Opens stored content.
    pub fn open_file(&self, hash: Hash) -> Result<std::fs::File, BlobError> {
        self.inner.store.file(hash)
    }

    /// Receives what [`missing`](Self::missing) said, from a peer's [`send_files`].
    pub async fn receive_files<R: AsyncRead + Unpin>(
        &self,
        want: Vec<(Hash, u64)>,
        stream: &mut R,
    ) -> Result<Moved, BlobError> {
        transfer::receive_files(self.inner.store.clone(), want, stream).await
    }

    /// Takes what [`missing`](Self::missing) said from this node's own snapshots.
    pub async fn import(
        &self,
        snapshots: Vec<Snapshot>,
        want: Vec<(Hash, u64)>,
    ) -> Result<Moved, ErrorInfo> {
        self.run(move |inner| transfer::import(&inner.store, &snapshots, &want)).await
    }

    /// The folder with exactly what the manifest lists; at once when it exists.
    pub async fn materialise(&self, manifest: &Manifest) -> Result<PathBuf, ErrorInfo> {
        if !manifest.is_safe() {
            return Err(BlobError::UnsafeManifest.into());
        }
        let version = manifest.hash();
        if self.inner.is_known_intact(version) {
            return Ok(self.inner.code.path(version));
        }
        let turn = Arc::clone(&self.inner.building).lock_owned().await;
        let manifest = manifest.clone();
        self.run(move |inner| {
            // A thread can't be cancelled: the turn ends with it, not with the caller.
            let _turn = turn;
            inner.materialise(version, &manifest)
        })
        .await
    }

    /// A deployment's project folder, ready for a worker; its content must be here.
    pub async fn code_root(&self, offer: &RootOffer) -> Result<CodeRoot, ErrorInfo> {
        if !offer.sys_path.iter().all(|path| path.is_empty() || safe_path(path)) {
            return Err(BlobError::Protocol("a sys.path folder outside of the project").into());
        }
        let dir = self.materialise(&offer.manifest).await?;
        let (project, version) = (offer.project.clone(), offer.manifest.hash());
        self.run(move |inner| prune::note(&inner.code, &project, version)).await?;
        let dir = dir.to_str().map(str::to_owned).ok_or_else(|| {
            ErrorInfo::new(ErrorKind::BadRequest, "the node's home has a name that is not UTF-8")
        })?;
        Ok(CodeRoot { project: offer.project.clone(), dir, sys_path: offer.sys_path.clone() })
    }

    /// Removes versions of code beyond the newest few of each project, except the folders in use,
    /// and content that no version needs. Does nothing while a deployment is under way.
    pub async fn prune(&self, in_use: Vec<PathBuf>) -> Result<Pruned, ErrorInfo> {
        self.prune_older(in_use, None).await
    }

    async fn prune_older(
        &self,
        in_use: Vec<PathBuf>,
        age: Option<Duration>,
    ) -> Result<Pruned, ErrorInfo> {
        let Ok(alone) = Arc::clone(&self.inner.under_way).try_write_owned() else {
            return Ok(Pruned::default());
        };
        let turn = Arc::clone(&self.inner.building).lock_owned().await;
        self.run(move |inner| {
            let _held = (alone, turn);
            let keep = inner.config.keep_versions;
            let done = prune::prune(&inner.code, &inner.store, keep, &in_use, age);
            inner.intact().retain(|version| inner.code.has(*version));
            done
        })
        .await
    }

    /// Runs blocking work on a thread for it.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, ErrorInfo> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        Ok(done.map_err(|_| BlobError::Aborted)??)
    }
}

impl Inner {
    fn intact(&self) -> std::sync::MutexGuard<'_, HashSet<Hash>> {
        self.intact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_known_intact(&self, version: Hash) -> bool {
        self.intact().contains(&version) && self.code.has(version)
    }

    fn materialise(&self, version: Hash, manifest: &Manifest) -> Result<PathBuf, BlobError> {
        if self.code.has(version) {
            if self.is_known_intact(version) || self.code.is_intact(version, manifest) {
                self.intact().insert(version);
                return Ok(self.code.path(version));
            }
            // A power cut or somebody's hand: build it again.
            self.code.remove(version)?;
        }
        let dir = self.code.build(version, manifest, &self.store)?;
        self.intact().insert(version);
        Ok(dir)
    }
}
