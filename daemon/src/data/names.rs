//! Names of data on this node: one file, replaced whole, so that a kill leaves the old or the new.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rhd_protocol::{data::Version, frame, id::Hash};

use super::error::DataError;

/// Names that a node keeps.
const MAX_NAMES: usize = 100_000;

type Table = BTreeMap<String, Vec<Version>>;

/// The names, each with its versions, the newest last.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    keep_versions: usize,
    table: RwLock<Arc<Table>>,
    /// Held while the file is replaced.
    writing: tokio::sync::Mutex<()>,
}

/// What a change of the names added to and took off them.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) added: Vec<Hash>,
    pub(super) dropped: Vec<Hash>,
}

impl Names {
    pub(super) fn open(path: PathBuf, keep_versions: usize) -> Result<Self, DataError> {
        let table: Table = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Table::new(),
            Err(e) => return Err(DataError::file("read", path)(e)),
            Ok(bytes) => frame::decode(&bytes).map_err(|e| {
                DataError::file("read", &path)(io::Error::new(io::ErrorKind::InvalidData, e))
            })?,
        };
        let table = RwLock::new(Arc::new(table));
        let keep_versions = keep_versions.max(1);
        Ok(Self { path, keep_versions, table, writing: tokio::sync::Mutex::default() })
    }

    /// All of them.
    pub(super) fn all(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest version of a name, and how many there are.
    pub(super) fn get(&self, name: &str) -> Option<(Version, u32)> {
        let table = self.all();
        let versions = table.get(name)?;
        Some((versions.last()?.clone(), versions.len() as u32))
    }

    /// The names that stand for this content.
    pub(super) fn of(&self, hash: Hash) -> Vec<String> {
        let stands = |versions: &Vec<Version>| versions.iter().any(|v| v.content.hash == hash);
        self.all().iter().filter(|(_, v)| stands(v)).map(|(name, _)| name.clone()).collect()
    }

    /// Puts a version on top of a name, unless the newest has the same content.
    pub(super) async fn save(
        self: &Arc<Self>,
        name: &str,
        version: Version,
    ) -> Result<Change, DataError> {
        let keep = self.keep_versions;
        self.change(|table| {
            if table.len() >= MAX_NAMES && !table.contains_key(name) {
                let text = format!("this node has {MAX_NAMES} names; remove some first");
                return Err(DataError::Request(text));
            }
            let mut change = Change::default();
            let versions = table.entry(name.to_owned()).or_default();
            if versions.last().is_some_and(|last| last.content == version.content) {
                return Ok(change);
            }
            change.added.push(version.content.hash);
            versions.push(version);
            let old = versions.len().saturating_sub(keep);
            change.dropped.extend(versions.drain(..old).map(|v| v.content.hash));
            Ok(change)
        })
        .await
    }

    /// Takes a name away, with all its versions; none when nothing has it.
    pub(super) async fn remove(self: &Arc<Self>, name: &str) -> Result<Option<Change>, DataError> {
        if !self.all().contains_key(name) {
            return Ok(None);
        }
        let change = self.change(|table| {
            let versions = table.remove(name).unwrap_or_default();
            let dropped = versions.into_iter().map(|v| v.content.hash).collect();
            Ok(Change { added: Vec::new(), dropped })
        });
        change.await.map(Some)
    }

    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Table) -> Result<Change, DataError>,
    ) -> Result<Change, DataError> {
        let _turn = self.writing.lock().await;
        let mut table = Table::clone(&self.all());
        let change = change(&mut table)?;
        if change.added.is_empty() && change.dropped.is_empty() {
            return Ok(change);
        }
        let table = Arc::new(table);
        let (names, written) = (self.clone(), table.clone());
        let write = tokio::task::spawn_blocking(move || names.write(&written));
        write.await.map_err(DataError::store("write names"))??;
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        Ok(change)
    }

    fn write(&self, table: &Table) -> Result<(), DataError> {
        let bytes = frame::to_vec(table).map_err(DataError::store("write names"))?;
        let write = || -> io::Result<()> {
            let temp = self.path.with_extension("tmp");
            let mut options = OpenOptions::new();
            let mut file =
                options.create(true).write(true).truncate(true).mode(0o600).open(&temp)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temp, &self.path)?;
            File::open(self.path.parent().unwrap_or(std::path::Path::new(".")))?.sync_all()
        };
        write().map_err(DataError::file("write", &self.path))
    }
}
