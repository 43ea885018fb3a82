//! Names of data on this node: one file, replaced whole, so that a kill leaves the old or the new.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use rhd_protocol::{
    data::{Input, Version},
    frame,
    id::Hash,
};
use tokio::sync::OwnedMutexGuard;

use super::error::DataError;

/// Bytes that all records of a node take, at most.
const MAX_BYTES: usize = 256 << 20;

/// The names, each with its versions, the newest last.
pub(super) type Table = BTreeMap<String, Vec<Version>>;

/// The names of a node.
#[derive(Debug)]
pub(super) struct Names {
    path: PathBuf,
    keep_versions: usize,
    table: RwLock<Arc<Table>>,
    /// Held by whoever changes them.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Leave to change the names.
#[derive(Debug)]
pub(super) struct Turn {
    _held: OwnedMutexGuard<()>,
}

impl Names {
    pub(super) fn open(path: PathBuf, keep_versions: usize) -> Result<Self, DataError> {
        let mut table: Table = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Table::new(),
            Err(e) => return Err(DataError::file("read", path)(e)),
            Ok(bytes) => frame::decode(&bytes).map_err(|e| {
                DataError::file("read", &path)(io::Error::new(io::ErrorKind::InvalidData, e))
            })?,
        };
        table.values_mut().for_each(|versions| number(versions));
        let (table, turn) = (RwLock::new(Arc::new(table)), Arc::default());
        Ok(Self { path, keep_versions: keep_versions.max(1), table, turn })
    }

    /// Versions of a name that are kept.
    pub(super) fn keep_versions(&self) -> usize {
        self.keep_versions
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

    /// The versions that hold these contents: for each the earliest of its own name, else the
    /// earliest of any.
    pub(super) fn holding(&self, wanted: &[Input]) -> Vec<Option<(String, Version)>> {
        let mut places: HashMap<Hash, Vec<usize>> = HashMap::new();
        for (place, input) in wanted.iter().enumerate() {
            places.entry(input.hash).or_default().push(place);
        }
        let table = self.all();
        let mut found: Vec<Option<(bool, &String, &Version)>> = vec![None; wanted.len()];
        for (name, versions) in table.iter() {
            for version in versions {
                for place in places.get(&version.content.hash).into_iter().flatten() {
                    let other = wanted[*place].name.as_ref() != Some(name);
                    let rank = |other, version: &Version| (other, version.saved_ms);
                    if found[*place].is_none_or(|(o, _, v)| rank(other, version) < rank(o, v)) {
                        found[*place] = Some((other, name, version));
                    }
                }
            }
        }
        let owned = |(_, name, version): (bool, &String, &Version)| (name.clone(), version.clone());
        found.into_iter().map(|found| found.map(owned)).collect()
    }

    /// Waits until nobody else changes them.
    pub(super) async fn turn(&self) -> Turn {
        Turn { _held: self.turn.clone().lock_owned().await }
    }

    /// Puts these names in the place of all; on disk first. It blocks.
    pub(super) fn replace(&self, table: Table, _turn: &Turn) -> Result<(), DataError> {
        self.write(&table)?;
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(())
    }

    fn write(&self, table: &Table) -> Result<(), DataError> {
        let bytes = frame::to_vec(table).map_err(DataError::store("write names"))?;
        if bytes.len() > MAX_BYTES {
            let text = format!("the names of this node would take {} bytes", bytes.len());
            return Err(DataError::Request(format!("{text}, over {MAX_BYTES}; remove some first")));
        }
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

/// Numbers versions that are from before they had numbers.
fn number(versions: &mut [Version]) {
    let mut next = 1;
    for version in versions {
        version.number = version.number.max(next);
        next = version.number.saturating_add(1);
    }
}
