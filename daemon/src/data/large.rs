//! Large contents: a file each, and beside it what proves its pieces, so that any piece can be written,
//! read and sent by itself, on any thread, held against the hash of the whole.
//!
//! ```text
//! HASH.part --its last piece came--> HASH          HASH.tree: its size, and the values of its pieces
//! ```
//!
//! Which pieces of a part are here is not written down: after a restart they are read and hashed. All
//! of this waits for the disk.

mod item;
mod stage;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rhd_protocol::{
    id::Hash,
    pieces::{self, PIECE},
};

pub(super) use self::{
    item::{Item, Opened},
    stage::{Source, Staged},
};
use super::{error::DataError, lock};
use crate::folders::Values;

/// Content of at most so many bytes is the other store's.
pub(super) const SMALL: u64 = 8 * PIECE;
/// So is content of more than so many, whose pieces would take 64 MiB of memory to prove.
const LARGEST: u64 = 2 << 40;
/// Bytes of a value, and of the size before the first.
const VALUE: usize = 32;
const SIZE: usize = 8;

/// Whether content of this size is kept here.
pub(super) fn is_large(size: u64) -> bool {
    size > SMALL && size <= LARGEST
}

/// Every large content of a node; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Large {
    dir: Arc<Path>,
    items: Arc<Mutex<HashMap<Hash, Arc<Item>>>>,
}

/// What the names of files end with that are not whole contents.
const PART: &str = "part";
const TREE: &str = "tree";
const TEMP: &str = ".tmp-";

impl Large {
    /// Opens it, and says what is in it. What a killed process left unfinished goes, but for parts.
    pub(super) fn open(dir: &Path) -> Result<(Self, super::store::Held), DataError> {
        fs::create_dir_all(dir).map_err(DataError::file("create", dir))?;
        let dir: Arc<Path> = dir.into();
        let mut found: HashMap<Hash, Vec<String>> = HashMap::new();
        for entry in fs::read_dir(&dir).map_err(DataError::file("read", &*dir))? {
            let path = entry.map_err(DataError::file("read", &*dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
            match stem.parse::<Hash>() {
                Ok(hash) if ["", PART, TREE].contains(&ending) => {
                    found.entry(hash).or_default().push(ending.to_owned());
                }
                _ if name.starts_with(TEMP) => remove(&path)?,
                _ => {}
            }
        }
        let (mut items, mut held) = (HashMap::new(), Vec::new());
        for (hash, endings) in found {
            let has = |ending: &str| endings.iter().any(|one| one == ending);
            let of = |ending: &str| path(&dir, hash, ending);
            let tree = size_in(&of(TREE));
            let item = match (has(""), has(PART), tree) {
                (true, _, Some(size)) => Item::whole(&dir, hash, size),
                // What proves it can be made again.
                (true, _, None) => {
                    let meta = fs::metadata(of("")).map_err(DataError::file("read", of("")))?;
                    Item::whole(&dir, hash, meta.len())
                }
                (false, true, Some(size)) => Item::part(&dir, hash, size),
                _ => {
                    for ending in endings {
                        remove(&of(&ending))?;
                    }
                    continue;
                }
            };
            held.push((hash, item.size()));
            items.insert(hash, Arc::new(item));
        }
        Ok((Self { dir, items: Arc::new(Mutex::new(items)) }, held))
    }

    /// What is here of a content, or of a part of it.
    pub(super) fn get(&self, hash: Hash) -> Option<Arc<Item>> {
        lock(&self.items).get(&hash).cloned()
    }

    /// Every content, with its size.
    pub(super) fn held(&self) -> super::store::Held {
        lock(&self.items).iter().map(|(hash, item)| (*hash, item.size())).collect()
    }

    /// Begins a content whose pieces are to come; `values` prove them.
    pub(super) fn begin(
        &self,
        hash: Hash,
        size: u64,
        values: Values,
    ) -> Result<Arc<Item>, DataError> {
        if let Some(item) = self.get(hash) {
            return Ok(item);
        }
        self.write_tree(hash, size, &values)?;
        let part = path(&self.dir, hash, PART);
        let made = File::create(&part).and_then(|file| file.set_len(size));
        made.map_err(DataError::store("write"))?;
        let item = Arc::new(Item::begun(&self.dir, hash, size));
        lock(&self.items).insert(hash, item.clone());
        Ok(item)
    }

    /// Puts in its place what was read once.
    pub(super) fn place(&self, staged: Staged) -> Result<(), DataError> {
        let Staged { temp, hash, size, values } = staged;
        self.write_tree(hash, size, &values)?;
        temp.persist(path(&self.dir, hash, "")).map_err(|e| DataError::store("write")(e.error))?;
        // A part that was on its way.
        remove(&path(&self.dir, hash, PART))?;
        let item = Arc::new(Item::whole(&self.dir, hash, size));
        lock(&self.items).insert(hash, item);
        Ok(())
    }

    /// Has these on the disk itself, where a power cut leaves them.
    pub(super) fn flush(&self, hashes: &[Hash]) -> Result<(), DataError> {
        let mut any = false;
        for item in hashes.iter().filter_map(|hash| self.get(*hash)) {
            any |= item.flush()?;
        }
        let flushed = match any {
            true => File::open(&self.dir).and_then(|dir| dir.sync_all()),
            false => Ok(()),
        };
        flushed.map_err(DataError::store("write"))
    }

    /// Removes all but these.
    pub(super) fn sweep(&self, spared: &HashSet<Hash>) -> Result<(), DataError> {
        let gone: Vec<Hash> = {
            let mut items = lock(&self.items);
            let gone = items.keys().filter(|hash| !spared.contains(hash)).copied().collect();
            items.retain(|hash, _| spared.contains(hash));
            gone
        };
        for hash in gone {
            for ending in ["", PART, TREE] {
                remove(&path(&self.dir, hash, ending))?;
            }
        }
        Ok(())
    }

    /// A file for what is on its way here.
    fn temp(&self) -> Result<tempfile::NamedTempFile, DataError> {
        let temp = tempfile::Builder::new().prefix(TEMP).tempfile_in(&*self.dir);
        temp.map_err(DataError::store("write"))
    }

    fn write_tree(&self, hash: Hash, size: u64, values: &Values) -> Result<(), DataError> {
        write_tree(&self.dir, hash, size, values).map_err(DataError::store("write"))
    }
}

/// Where a content, a part of it or what proves it is.
fn path(dir: &Path, hash: Hash, ending: &str) -> PathBuf {
    match ending {
        "" => dir.join(hash.to_string()),
        ending => dir.join(format!("{hash}.{ending}")),
    }
}

fn remove(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::file("remove", path)(e)),
        _ => Ok(()),
    }
}

fn write_tree(dir: &Path, hash: Hash, size: u64, values: &Values) -> io::Result<()> {
    let mut temp = tempfile::Builder::new().prefix(TEMP).tempfile_in(dir)?;
    temp.write_all(&size.to_le_bytes())?;
    temp.write_all(values.as_flattened())?;
    temp.persist(path(dir, hash, TREE)).map_err(|e| e.error)?;
    Ok(())
}

/// The size that a tree is of; none where it can't be one.
fn size_in(path: &Path) -> Option<u64> {
    let len = fs::metadata(path).ok()?.len();
    let mut size = [0; SIZE];
    io::Read::read_exact(&mut File::open(path).ok()?, &mut size).ok()?;
    let size = u64::from_le_bytes(size);
    let whole = SIZE as u64 + pieces::count(size) * VALUE as u64;
    (is_large(size) && len == whole).then_some(size)
}

/// The values of a tree, if they prove this content.
fn values_in(path: &Path, hash: Hash) -> Option<Values> {
    // As long as the size in it says, which is bounded.
    size_in(path)?;
    let bytes = fs::read(path).ok()?;
    let (values, []) = bytes.get(SIZE..)?.as_chunks::<VALUE>() else { return None };
    (pieces::root(values) == Some(hash)).then(|| values.to_vec())
}
