//! The store: an iroh-blobs `FsStore`, and beside it large contents in files of their own. Both verify
//! all that they write and all that they serve.

mod content;
mod opened;

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use iroh_blobs::{
    BlobFormat,
    api::blobs::{AddPathOptions, BlobStatus, ImportMode},
    api::{Store as Content, TempTag, blobs::Bitfield},
    store::fs::FsStore,
};
use rhd_protocol::id::Hash;

pub(super) use self::content::hash_of;
use self::opened::Opened;
use super::{
    error::DataError,
    large::{Item, Large, Source, Staged},
};
use crate::{background, folders::Values, framed::Body};

/// Partial contents that are kept open at once.
const OPEN: usize = 64;
/// How long one stays open after it was read.
const LINGER: Duration = Duration::from_secs(5);

/// The same hash as the store writes it.
pub(super) fn iroh_hash(hash: Hash) -> iroh_blobs::Hash {
    iroh_blobs::Hash::from_bytes(*hash.as_bytes())
}

/// What the names of files begin with that are on their way here.
const TEMP: &str = ".tmp-rhd-";

/// The same hash as rhd writes it.
pub(super) fn our_hash(hash: iroh_blobs::Hash) -> Hash {
    Hash::from_bytes(*hash.as_bytes())
}

/// What is stored on this node.
///
/// Its table of contents closes itself for good when a write to it fails, as on a disk that is full;
/// then the store is opened anew.
#[derive(Debug, Clone)]
pub(super) struct Store {
    opened: Arc<RwLock<Opened>>,
    large: Large,
    dir: PathBuf,
    /// Partial contents that are kept open.
    lingering: Arc<Mutex<HashSet<Hash>>>,
    /// Whether it failed, and may have to be opened anew; held while it is.
    failed: Arc<tokio::sync::Mutex<bool>>,
}

/// Every content of a store with its size, partial ones included.
pub(super) type Held = Vec<(Hash, u64)>;

impl Store {
    /// Opens it, and says what is in it.
    pub(super) async fn open(dir: PathBuf) -> Result<(Self, Held), DataError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&dir).map_err(DataError::file("create", &dir))?;
        for entry in fs::read_dir(&dir).map_err(DataError::file("read", &dir))?.flatten() {
            // What was on its way when the daemon was killed.
            if entry.file_name().to_string_lossy().starts_with(TEMP) {
                let _ = fs::remove_file(entry.path());
            }
        }
        let (opened, mut held) = Opened::open(&dir).await?;
        let at = dir.join("large");
        let (large, besides) = blocking(move || Large::open(&at)).await?;
        held.extend(besides);
        let opened = Arc::new(RwLock::new(opened));
        let (lingering, failed) = (Arc::default(), Arc::default());
        Ok((Self { opened, large, dir, lingering, failed }, held))
    }

    fn opened(&self) -> Opened {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn files(&self) -> FsStore {
        self.opened().files
    }

    /// What iroh-blobs' own functions take.
    pub(super) fn content(&self) -> Content {
        self.files().into()
    }

    /// Removes all but these.
    pub(super) async fn sweep(&self, spared: &HashSet<Hash>) -> Result<(), DataError> {
        let (large, kept) = (self.large.clone(), spared.clone());
        blocking(move || large.sweep(&kept)).await?;
        self.opened().sweeper.sweep(spared).await
    }

    /// Notes that something failed in it, which may be for good.
    pub(super) async fn doubt(&self) {
        *self.failed.lock().await = true;
    }

    /// Opens it anew if it has failed for good; what is in it then, if so.
    pub(super) async fn mend(&self) -> Result<Option<Held>, DataError> {
        let mut failed = self.failed.lock().await;
        if !*failed {
            return Ok(None);
        }
        if self.files().sync_db().await.is_ok() {
            *failed = false;
            return Ok(None);
        }
        let (opened, mut held) = Opened::open(&self.dir).await?;
        held.extend(self.large.held());
        tracing::warn!("the store of data had failed, and was opened anew");
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened;
        *failed = false;
        Ok(Some(held))
    }

    /// Bytes that are free on its disk.
    pub(super) fn free(&self) -> Result<u64, DataError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|e| DataError::file("ask how full the disk is of", &self.dir)(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file for what is on its way here, on the same file system.
    pub(super) fn temp(&self) -> Result<tempfile::NamedTempFile, DataError> {
        let temp = tempfile::Builder::new().prefix(TEMP).tempfile_in(&self.dir);
        temp.map_err(DataError::file("write in", &self.dir))
    }

    /// Size of content that is here whole.
    pub(super) async fn whole(&self, hash: Hash) -> Result<Option<u64>, DataError> {
        if let Some(item) = self.large.get(hash).filter(|item| item.is_whole()) {
            return Ok(Some(item.size()));
        }
        let status = self.files().status(iroh_hash(hash)).await;
        Ok(match status.map_err(DataError::store("look"))? {
            BlobStatus::Complete { size } => Some(size),
            _ => None,
        })
    }

    /// What is here of a large content, or of a part of it.
    pub(super) fn large(&self, hash: Hash) -> Option<Arc<Item>> {
        self.large.get(hash)
    }

    /// Begins a large content whose pieces are to come.
    pub(super) async fn begin(
        &self,
        hash: Hash,
        size: u64,
        values: Values,
    ) -> Result<Arc<Item>, DataError> {
        let large = self.large.clone();
        blocking(move || large.begin(hash, size, values)).await
    }

    /// Reads a large content once; it is here when it is [placed](Self::place).
    pub(super) async fn stage(&self, source: Source) -> Result<Staged, DataError> {
        let large = self.large.clone();
        blocking(move || large.stage(source)).await
    }

    /// Puts a large content in its place.
    pub(super) async fn place(&self, staged: Staged) -> Result<(), DataError> {
        let large = self.large.clone();
        blocking(move || large.place(staged)).await
    }

    /// Has the large ones of these on the disk itself, where a power cut leaves them. Copies of what
    /// another node has are not waited for: reading them shows whether they are what they should be.
    pub(super) async fn flush(&self, mut hashes: Vec<Hash>) -> Result<(), DataError> {
        hashes.retain(|hash| self.large.get(*hash).is_some());
        let is_copy = |hash: &Hash| self.large.get(*hash).is_some_and(|item| item.is_copy());
        let (copies, new): (Vec<Hash>, Vec<Hash>) = hashes.into_iter().partition(is_copy);
        if !copies.is_empty() {
            let large = self.large.clone();
            tokio::spawn(async move {
                if let Err(error) = blocking(move || large.flush(&copies)).await {
                    tracing::warn!(%error, "a copy is not on the disk yet, a power cut may take it");
                }
            });
        }
        if new.is_empty() {
            return Ok(());
        }
        let large = self.large.clone();
        blocking(move || large.flush(&new)).await
    }

    /// Which chunks are here of content that is not kept as pieces.
    pub(super) async fn chunks(&self, hash: Hash) -> Result<Bitfield, DataError> {
        self.files().observe(iroh_hash(hash)).await.map_err(DataError::store("look"))
    }

    /// Stores bytes; they are whole and on disk before this returns.
    pub(super) async fn add(&self, body: Body) -> Result<Added, DataError> {
        let store = DataError::store::<iroh_blobs::api::RequestError>;
        let tag = match body {
            Body::Inline(bytes) => self.files().add_bytes(bytes).temp_tag().await,
            beside => self.files().add_stream(content::of_body(beside)).await.temp_tag().await,
        };
        self.added(tag.map_err(store("write"))?).await
    }

    /// Stores a file: as a clone where the file system can, else as a copy.
    pub(super) async fn add_path(&self, path: &Path) -> Result<Added, DataError> {
        let (path, mode) = (path.to_owned(), ImportMode::Copy);
        let options = AddPathOptions { path, mode, format: BlobFormat::Raw };
        let tag = self.files().add_path_with_opts(options).temp_tag().await;
        self.added(tag.map_err(DataError::store("write"))?).await
    }

    /// Stores bytes, which are on disk after the next [`sync`](Self::sync).
    pub(super) async fn take(&self, bytes: Bytes) -> Result<(), DataError> {
        let tag = self.files().add_bytes(bytes).temp_tag().await;
        tag.map(drop).map_err(DataError::store("write"))
    }

    /// The same with a file; its hash.
    pub(super) async fn take_path(&self, path: &Path) -> Result<Hash, DataError> {
        let (path, mode) = (path.to_owned(), ImportMode::Copy);
        let options = AddPathOptions { path, mode, format: BlobFormat::Raw };
        let tag = self.files().add_path_with_opts(options).temp_tag().await;
        Ok(our_hash(tag.map_err(DataError::store("write"))?.hash()))
    }

    async fn added(&self, tag: TempTag) -> Result<Added, DataError> {
        self.sync().await?;
        Ok(Added { hash: our_hash(tag.hash()), _tag: tag })
    }

    /// Returns when all that was written before is on disk, as far as the table of contents goes.
    pub(super) async fn sync(&self) -> Result<(), DataError> {
        self.files().sync_db().await.map_err(DataError::store("write"))
    }

    /// Bytes from `at` on, verified, as they are read; what is not here ends it with an error.
    pub(super) fn read(
        &self,
        hash: Hash,
        at: u64,
        len: u64,
    ) -> impl Stream<Item = Result<Bytes, DataError>> + Send + use<> {
        let end = at.saturating_add(len);
        match self.large.get(hash) {
            Some(item) => content::of_pieces(item, at..end).left_stream(),
            None => content::of_chunks(&self.files(), hash, at..end).right_stream(),
        }
    }

    /// Writes a large content to a file that is empty; whether it is one.
    pub(super) async fn export(
        &self,
        hash: Hash,
        to: &fs::File,
        path: &Path,
    ) -> Result<bool, DataError> {
        let Some(item) = self.large.get(hash) else { return Ok(false) };
        let to = to.try_clone().map_err(DataError::file("write", path))?;
        let path = path.to_owned();
        blocking(move || item.open()?.export(&to, &path)).await?;
        Ok(true)
    }

    /// Keeps a partial content open for a while: each time that one is closed it is synced to disk.
    pub(super) fn linger(&self, hash: Hash) {
        let mut open = super::lock(&self.lingering);
        if open.len() < OPEN && open.insert(hash) {
            let store = self.clone();
            tokio::spawn(async move {
                let watched = store.files().observe(iroh_hash(hash)).stream().await;
                tokio::time::sleep(LINGER).await;
                drop(watched);
                super::lock(&store.lingering).remove(&hash);
            });
        }
    }

    /// Ends it: what is under way fails, what is stored is on disk.
    pub(super) async fn close(&self) {
        if let Err(error) = self.files().shutdown().await {
            tracing::warn!(%error, "the store of data did not close as it should");
        }
    }
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, DataError> {
    background::spawn(work).await.map_err(DataError::store("use a thread"))?
}

/// Content that was just stored.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) hash: Hash,
    _tag: TempTag,
}
