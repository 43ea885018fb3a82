//! Folders and tables that are kept: stored file by file as they are on disk, and brought back.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use rhd_protocol::{
    data::{Content, Origin, Saved, Tree, Version},
    error::{ErrorInfo, ErrorKind},
    folder::{Entry, Skipped},
    id::{Hash, NodeId},
    store::is_url,
};

use super::{
    Data, Shelf,
    error::DataError,
    fetch, gc,
    history::{check_name, check_origin},
    lock, manifest, put,
    versions::Held,
};
use crate::{
    asked::{Meter, Out, refused, telling, value},
    background,
    folders::{self, Contents, Kept},
};

/// How often a folder is looked at, when it changes while it is stored.
const ROUNDS: usize = 3;
/// Files that are stored at once.
const AT_ONCE: usize = 8;

/// A folder to be saved.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) table: bool,
    pub(super) origin: Origin,
}

/// A folder whose files are stored, at one moment.
struct Stored {
    entries: Vec<Entry>,
    skipped: Vec<Skipped>,
    /// The list of its files.
    content: Content,
    held: Held,
    /// Bytes that were not here yet.
    new: u64,
}

impl Stored {
    fn tree(&self, path: &Path, table: bool) -> Tree {
        Tree {
            path: path.display().to_string(),
            table,
            entries: self.entries.len() as u64,
            bytes: self.entries.iter().map(|entry| entry.size).sum(),
        }
    }
}

impl Data {
    /// Makes a folder of this node's disk the newest version of a name.
    pub(super) async fn save_folder(
        &self,
        folder: Folder,
        author: NodeId,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let Folder { path, name, table, origin } = folder;
        check_name(&name)?;
        check_origin(&origin)?;
        let path = self.place(&path)?;
        let meter = Meter::default();
        let store = self.store_folder(&path, &meter);
        let stored = telling(out, &meter, &path.display().to_string(), store).await?;
        let tree = Some(stored.tree(&path, table));
        let version = Version { tree, ..self.record(stored.content, origin, author) };
        let newest = self.shelf.save(&name, version, stored.held).await?;
        let info = self.named(name, newest);
        value(&Saved { info, stored: stored.new, skipped: stored.skipped })
    }

    /// Puts an earlier version of a folder back in its place, and on top of its name. What is there
    /// now becomes a version first, unless it is one.
    pub(super) async fn restore(
        &self,
        name: String,
        old: Version,
        path: Option<String>,
        author: NodeId,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let newest = self.shelf.names.get(&name).and_then(|(newest, _)| newest.tree);
        let Some(was) = old.tree.clone() else { return Err(refused("that is no folder")) };
        let path = self.place(&path.unwrap_or_else(|| newest.unwrap_or(was.clone()).path))?;
        let meter = Meter::default();
        let work = self.brought_back(&name, &old, &path, author, &meter);
        let held = telling(out, &meter, &path.display().to_string(), work).await?;
        let tree = Some(Tree { path: path.display().to_string(), ..was });
        let content = old.content.clone();
        let record = Version { tree, ..self.record(content, Origin::default(), author) };
        let newest = self.shelf.roll_back(&name, old, record, held).await?;
        value(&self.named(name, newest))
    }

    /// Makes the folder at a path what it was; what is kept of it from then on is held.
    async fn brought_back(
        &self,
        name: &str,
        old: &Version,
        path: &Path,
        author: NodeId,
        meter: &Meter,
    ) -> Result<Held, ErrorInfo> {
        let list = fetch::whole(self, &old.content, &[], meter).await?;
        let entries = manifest::load(&self.shelf.store, &old.content).await?;
        let mut held = Held::from(list);
        for entry in unique(&entries) {
            let Entry { hash, size, .. } = *entry;
            let content = Content { hash, size, codec: None, parts: Vec::new() };
            held.leases.push(fetch::whole(self, &content, &[], meter).await?);
        }
        held.files = manifest::hashes(&entries);
        let is_table = old.tree.as_ref().is_some_and(|tree| tree.table);
        for _ in 0..ROUNDS {
            let spare = match tokio::fs::symlink_metadata(path).await {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
                _ => self.kept_first(name, path, author, meter).await?,
            };
            if !is_table {
                self.written(path, entries, spare, meter).await?;
                return Ok(held);
            }
            let (staged, again) = (Staged::beside(path)?, entries.clone());
            let replaced = async {
                self.written(&staged.0, again, Vec::new(), meter).await?;
                self.tables.replace(path, &staged.0, spare).await
            };
            let replaced = replaced.await;
            staged.clear().await;
            if replaced? {
                return Ok(held);
            }
        }
        Err(DataError::Changed(path.into()).into())
    }

    /// Writes a folder as it was, in the place of what may be spared.
    async fn written(
        &self,
        path: &Path,
        entries: Vec<Entry>,
        spare: Vec<Entry>,
        meter: &Meter,
    ) -> Result<(), ErrorInfo> {
        let kept = Kept { entries, spare, contents: self };
        let done = self.folders.restore(path, &kept, meter).await?;
        let Some(Skipped { path: file, why }) = done.skipped.first() else { return Ok(()) };
        let text = format!("{} is not as it was: {why}", path.join(file).display());
        Err(ErrorInfo::new(ErrorKind::Conflict, text)
            .hint("what was there is a version now; see to this, and try again"))
    }

    /// Sees to it that what is in a folder now is a version of the name; what that is.
    async fn kept_first(
        &self,
        name: &str,
        path: &Path,
        author: NodeId,
        meter: &Meter,
    ) -> Result<Vec<Entry>, ErrorInfo> {
        let stored = self.store_folder(path, meter).await?;
        let table = self.shelf.names.all();
        let versions = table.get(name).ok_or_else(|| DataError::NoName(name.into()))?;
        if !versions.iter().any(|version| version.content == stored.content) {
            let is_table = versions.last().and_then(|v| v.tree.as_ref()).is_some_and(|t| t.table);
            let tree = Some(stored.tree(path, is_table));
            let record = self.record(stored.content, Origin::default(), author);
            self.shelf.save(name, Version { tree, ..record }, stored.held).await?;
        }
        Ok(stored.entries)
    }

    /// Stores all files of a folder that are not here, and the list of them. It is what was there at
    /// one moment: where something changes meanwhile, it is looked at again.
    async fn store_folder(&self, path: &Path, meter: &Meter) -> Result<Stored, ErrorInfo> {
        let (mut new, mut leases) = (0, Vec::new());
        for _ in 0..ROUNDS {
            let look = self.folders.look(path).await?;
            new += self.store_files(path, &look.entries, &mut leases, meter).await?;
            let again = self.folders.look(path).await?;
            if again.entries != look.entries {
                continue;
            }
            let entries = look.entries;
            let bytes = manifest::encode(&entries)?;
            let (hash, size, lease) = put::body(&self.shelf, bytes.into()).await?;
            leases.push(lease);
            let held = Held { leases, files: manifest::hashes(&entries) };
            let content = Content { hash, size, codec: None, parts: Vec::new() };
            return Ok(Stored { entries, skipped: look.skipped, content, held, new });
        }
        Err(DataError::Changed(path.into()).into())
    }

    /// Stores the files that are not here; how many bytes. Those that have changed since they were
    /// listed are left for another look.
    async fn store_files(
        &self,
        root: &Path,
        entries: &[Entry],
        leases: &mut Vec<gc::Lease>,
        meter: &Meter,
    ) -> Result<u64, DataError> {
        let shelf = &self.shelf;
        let mut missing = Vec::new();
        for entry in unique(entries) {
            leases.push(gc::lease(shelf, entry.hash).await);
            if shelf.store.whole(entry.hash).await? != Some(entry.size) {
                missing.push(entry);
            }
        }
        let total = missing.iter().map(|entry| entry.size).sum();
        shelf.make_room(total).await?;
        meter.start(0, total);
        let work = missing.into_iter().cloned().map(|entry| {
            let (shelf, path) = (shelf.clone(), root.join(&entry.path));
            async move {
                let stored = put::entry(&shelf, path, &entry).await?;
                meter.add(entry.size);
                Ok(if stored { entry.size } else { 0 })
            }
        });
        let done = stream::iter(work).buffer_unordered(AT_ONCE).try_collect::<Vec<u64>>().await;
        let synced = match done {
            Ok(done) => shelf.store.sync().await.map(|()| done.iter().sum()),
            Err(error) => Err(error),
        };
        match synced {
            Ok(new) => Ok(new),
            Err(error) => Err(shelf.explained(error, total).await),
        }
    }

    /// The absolute path of a folder that may be kept: what a node stores is not stored in itself.
    fn place(&self, path: &str) -> Result<PathBuf, ErrorInfo> {
        if is_url(path) {
            return Err(refused(&format!("{path} is in an object store, which keeps no versions"))
                .hint("copy it to a node first: folder.to('a node'), then save that"));
        }
        let path = folders::absolute(path)?;
        let store = self.shelf.store.dir();
        if store.starts_with(&path) || path.starts_with(store) {
            let text = format!("this node keeps versions in {}", store.display());
            return Err(refused(&format!("{text}: {} can't be one", path.display()))
                .hint("name a folder that this is not in"));
        }
        Ok(path)
    }
}

/// A folder beside a table, of what is to be put in its place; it goes if it is not.
struct Staged(PathBuf);

impl Staged {
    fn beside(table: &Path) -> Result<Self, ErrorInfo> {
        let (Some(above), Some(name)) = (table.parent(), table.file_name()) else {
            return Err(refused("the root of a file system is no table"));
        };
        let (name, nth) = (name.to_string_lossy(), rand::random::<u64>());
        Ok(Self(above.join(format!(".{name}.rhd-new-{nth:016x}"))))
    }

    async fn clear(mut self) {
        let _ = self.removal().await;
    }

    fn removal(&mut self) -> tokio::task::JoinHandle<()> {
        let path = std::mem::take(&mut self.0);
        background::spawn(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "what was not used stays");
            }
            _ => {}
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Whoever asked for it went away.
        if !self.0.as_os_str().is_empty() {
            drop(self.removal());
        }
    }
}

impl Contents for Data {
    fn read(&self, hash: Hash, size: u64) -> BoxStream<'static, Result<Bytes, ErrorInfo>> {
        self.shelf.store.read(hash, 0, size).map_err(ErrorInfo::from).boxed()
    }
}

/// One entry for each content that has to be stored.
fn unique(entries: &[Entry]) -> Vec<&Entry> {
    let mut seen = HashSet::new();
    manifest::files(entries).filter(|entry| seen.insert(entry.hash)).collect()
}

/// Keeps what the folders need that are versions of names; a list that can't be read keeps nothing.
pub(super) async fn pin(shelf: &Shelf) {
    let table = shelf.names.all();
    for version in table.values().flatten().filter(|version| version.tree.is_some()) {
        let content = &version.content;
        if lock(&shelf.ledger).has_tree(content.hash) {
            continue;
        }
        match manifest::load(&shelf.store, content).await {
            Ok(entries) => {
                let files = manifest::hashes(&entries);
                lock(&shelf.ledger).keep_tree(content.hash, &files, std::time::Instant::now());
            }
            Err(error) => {
                let hash = content.hash.short();
                tracing::warn!(%hash, %error, "a version of a folder can't be read");
            }
        }
    }
}
