//! The store: an iroh-blobs `FsStore`, which verifies all that it writes and all that it serves.

use std::{
    collections::HashSet,
    ffi::OsStr,
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
    api::{Store as Content, TempTag, blobs::Bitfield, blobs::EncodedItem},
    protocol::{ChunkRanges, ChunkRangesExt as _},
    store::fs::{
        FsStore,
        options::{BatchOptions, InlineOptions, Options, PathOptions},
    },
};
use rhd_protocol::{data::CHUNK, id::Hash};
use rustix::fs::{Mode, OFlags};
use tokio::runtime::Handle;

use super::{error::DataError, gc::Sweeper};
use crate::{background, framed::Body};

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
    dir: PathBuf,
    /// Partial contents that are kept open.
    lingering: Arc<Mutex<HashSet<Hash>>>,
    /// Whether it failed, and may have to be opened anew; held while it is.
    failed: Arc<tokio::sync::Mutex<bool>>,
}

#[derive(Debug, Clone)]
struct Opened {
    files: FsStore,
    sweeper: Arc<Sweeper>,
}

/// Every content of a store with its size, partial ones included.
pub(super) type Held = Vec<(Hash, u64)>;

impl Opened {
    async fn open(dir: &Path) -> Result<(Self, Held), DataError> {
        let (sweeper, collector) = Sweeper::new();
        let options = Options {
            path: PathOptions::new(dir),
            inline: InlineOptions::default(),
            batch: BatchOptions::default(),
            gc: Some(collector),
        };
        // It makes threads of its own, which are like the one that makes them.
        let (runtime, path) = (Handle::current(), dir.join("blobs.db"));
        let load = move || runtime.block_on(FsStore::load_with_opts(path, options));
        let files = background::spawn(load).await.map_err(DataError::store("open"))?;
        let files = files.map_err(DataError::store("open"))?;
        let hashes = files.list().hashes().await.map_err(DataError::store("list"))?;
        remove_orphans(dir, &hashes.iter().map(|hash| hash.to_hex()).collect())?;
        let mut held = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let size = match files.status(hash).await.map_err(DataError::store("list"))? {
                BlobStatus::Complete { size } => size,
                BlobStatus::Partial { size } => size.unwrap_or(0),
                BlobStatus::NotFound => continue,
            };
            held.push((our_hash(hash), size));
        }
        Ok((Self { files, sweeper: Arc::new(sweeper) }, held))
    }
}

/// Removes files that a killed process left, which the store's table does not know.
fn remove_orphans(dir: &Path, known: &HashSet<String>) -> Result<(), DataError> {
    for (folder, any) in [("temp", true), ("data", false)] {
        let folder = dir.join(folder);
        for entry in fs::read_dir(&folder).map_err(DataError::file("read", &folder))? {
            let path = entry.map_err(DataError::file("read", &folder))?.path();
            let of = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if any || !known.contains(of) {
                tracing::debug!(path = %path.display(), "left behind, removed");
                fs::remove_file(&path).map_err(DataError::file("remove", &path))?;
            }
        }
    }
    Ok(())
}

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
        let (opened, held) = Opened::open(&dir).await?;
        let opened = Arc::new(RwLock::new(opened));
        let (lingering, failed) = (Arc::default(), Arc::default());
        Ok((Self { opened, dir, lingering, failed }, held))
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

    /// What collects in it.
    pub(super) fn sweeper(&self) -> Arc<Sweeper> {
        self.opened().sweeper
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
        let (opened, held) = Opened::open(&self.dir).await?;
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
        let status = self.files().status(iroh_hash(hash)).await;
        Ok(match status.map_err(DataError::store("look"))? {
            BlobStatus::Complete { size } => Some(size),
            _ => None,
        })
    }

    /// Which chunks are here.
    pub(super) async fn chunks(&self, hash: Hash) -> Result<Bitfield, DataError> {
        self.files().observe(iroh_hash(hash)).await.map_err(DataError::store("look"))
    }

    /// Stores bytes; they are whole and on disk before this returns.
    pub(super) async fn add(&self, body: Body) -> Result<Added, DataError> {
        let store = DataError::store::<iroh_blobs::api::RequestError>;
        let tag = match body {
            Body::Inline(bytes) => self.files().add_bytes(bytes).temp_tag().await,
            beside => self.files().add_stream(chunks_of(beside)).await.temp_tag().await,
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
        let ranges = ChunkRanges::bytes(at..end);
        let items = Box::pin(self.files().export_bao(iroh_hash(hash), ranges).stream());
        items.filter_map(move |item| async move {
            match item {
                EncodedItem::Leaf(leaf) => {
                    let (first, last) = (leaf.offset, leaf.offset + leaf.data.len() as u64);
                    let (from, to) = (at.clamp(first, last), end.clamp(first, last));
                    let cut = leaf.data.slice((from - first) as usize..(to - first) as usize);
                    (!cut.is_empty()).then_some(Ok(cut))
                }
                EncodedItem::Error(error) => {
                    Some(Err(DataError::Damaged { hash, why: error.to_string() }))
                }
                _ => None,
            }
        })
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

/// Content that was just stored.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) hash: Hash,
    _tag: TempTag,
}

/// A payload in pieces, read on a thread for it.
fn chunks_of(body: Body) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + 'static {
    let (tx, mut rx) = tokio::sync::mpsc::channel(2);
    background::spawn(move || {
        let mut at = 0;
        while at < body.len() {
            let chunk = match &body {
                Body::Inline(bytes) => Ok(bytes.slice(at as usize..)),
                Body::Beside(payload) => payload.chunk(at, CHUNK),
            };
            at += chunk.as_ref().map_or(u64::MAX - at, |chunk| chunk.len() as u64);
            if tx.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    futures::stream::poll_fn(move |cx| rx.poll_recv(cx))
}

/// The hash of a body; on a thread for it where that takes a while.
pub(super) async fn hash_of(body: &Body) -> Result<Hash, DataError> {
    if let Body::Inline(bytes) = body
        && bytes.len() <= CHUNK
    {
        return Ok(Hash::of(bytes));
    }
    let body = body.clone();
    let work = background::spawn(move || {
        let mut hasher = blake3::Hasher::new();
        match &body {
            Body::Inline(bytes) => {
                hasher.update(bytes);
            }
            Body::Beside(payload) => {
                let mut at = 0;
                while at < payload.len() {
                    let chunk = payload.chunk(at, CHUNK)?;
                    at += chunk.len() as u64;
                    hasher.update(&chunk);
                }
            }
        }
        std::io::Result::Ok(Hash::from_bytes(*hasher.finalize().as_bytes()))
    });
    work.await.map_err(DataError::store("read"))?.map_err(DataError::store("read"))
}

/// The hash and the size of a file.
pub(super) async fn hash_file(path: &Path) -> Result<(Hash, u64), DataError> {
    let path: Arc<Path> = path.into();
    let work = background::spawn(move || {
        use std::io::Read as _;
        // A pipe without a writer would be waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&*path, flags, Mode::empty());
        let mut file: fs::File =
            opened.map_err(|e| DataError::file("open", &*path)(e.into()))?.into();
        let meta = file.metadata().map_err(DataError::file("read", &*path))?;
        if !meta.is_file() {
            return Err(DataError::Request(format!("{} is no regular file", path.display())));
        }
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.read(&mut buffer).map_err(DataError::file("read", &*path))?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
        Ok((Hash::from_bytes(*hasher.finalize().as_bytes()), size))
    });
    work.await.map_err(DataError::store("read"))?
}
