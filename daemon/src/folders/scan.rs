//! What is in a folder, with hashes: those of files that have not changed are known.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, Metadata},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rhd_protocol::{
    folder::{Entry, MAX_ENTRIES, MAX_NAMED, MAX_SIZE, Skipped},
    id::Hash,
    pieces::PIECE,
    wire::{link_stays_inside, safe_path},
};

use super::{cache::Stamp, digest, error::FolderError, ignored, known::Known, tree::Tree};

/// Tries to read a file that changes meanwhile.
const TRIES: usize = 3;
/// Files larger than this are hashed one after the other, each on all cores.
const LARGE: u64 = 16 * PIECE;

/// A folder at one moment.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Sorted by path.
    pub(super) entries: Vec<Entry>,
    /// The state of each entry when it was looked at.
    pub(super) stamps: Vec<Stamp>,
    pub(super) skipped: Vec<Skipped>,
    /// The first of those that are left out as they can't be read.
    pub(super) unread: Option<Skipped>,
}

impl Scan {
    fn unread(&mut self, path: impl Into<String>, why: impl Into<String>) {
        let (path, why) = (path.into(), why.into());
        self.unread.get_or_insert_with(|| Skipped { path: path.clone(), why: why.clone() });
        skip(&mut self.skipped, path, why);
    }

    /// Adds what was found, in its order.
    fn take(&mut self, root: &Path, found: Seen, known: &Known) {
        let hashes = hashes(root, &found, known);
        for ((path, meta), hashed) in found.into_iter().zip(hashes) {
            let stamp = Stamp::of(&meta);
            let entry = match hashed {
                Hashed::Is(hash, stamp, exec) => {
                    self.stamps.push(stamp);
                    self.entries.push(Entry {
                        path,
                        size: stamp.size,
                        hash,
                        exec,
                        link: None,
                        dir: false,
                    });
                    continue;
                }
                Hashed::Gone => continue,
                Hashed::Unread(why) => {
                    self.unread(path, why);
                    continue;
                }
                Hashed::NoFile => Entry {
                    path,
                    size: 0,
                    hash: Hash::of(b""),
                    exec: false,
                    link: None,
                    dir: meta.is_dir(),
                },
            };
            if entry.dir {
                self.stamps.push(stamp);
                self.entries.push(entry);
                continue;
            }
            let target = fs::read_link(root.join(&entry.path)).ok();
            let target = target.and_then(|to| to.to_str().map(str::to_owned));
            match target.filter(|to| link_stays_inside(&entry.path, to)) {
                Some(to) => {
                    self.stamps.push(stamp);
                    self.entries.push(Entry { link: Some(to), ..entry });
                }
                None => skip(&mut self.skipped, entry.path, "it links out of the folder"),
            }
        }
    }

    /// Adds what is at some of these paths, too: what an ignore file leaves out counts where somebody
    /// brings it.
    pub(super) fn add<'a>(
        &mut self,
        tree: &Tree,
        paths: impl Iterator<Item = &'a str>,
        known: &Known,
    ) {
        let root = tree.path();
        let look = |path: &str| {
            // Reached by no link; only then by its name.
            tree.stat(path).ok()??;
            let meta = fs::symlink_metadata(root.join(path)).ok()?;
            let counts = (meta.is_file() && meta.len() <= MAX_SIZE) || meta.is_symlink();
            counts.then(|| (path.to_owned(), meta))
        };
        let found: Seen = paths.filter_map(look).collect();
        if found.is_empty() {
            return;
        }
        let above = |path: &String| -> Vec<String> {
            path.match_indices('/').map(|(end, _)| path[..end].to_owned()).collect()
        };
        let full: HashSet<String> = found.iter().flat_map(|(path, _)| above(path)).collect();
        self.take(root, found, known);
        let (entries, stamps) =
            (std::mem::take(&mut self.entries), std::mem::take(&mut self.stamps));
        let mut all: Vec<(Entry, Stamp)> = entries.into_iter().zip(stamps).collect();
        all.retain(|(entry, _)| !entry.dir || !full.contains(&entry.path));
        all.sort_unstable_by(|a, b| a.0.path.cmp(&b.0.path));
        (self.entries, self.stamps) = all.into_iter().unzip();
    }

    /// Bytes in files.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// An entry, and the state that it was in.
    pub(super) fn stamp(&self, path: &str) -> Option<Stamp> {
        let at = self.entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()?;
        self.stamps.get(at).copied()
    }
}

/// Notes what was left out, by name as long as there is room.
pub(super) fn skip(skipped: &mut Vec<Skipped>, path: impl Into<String>, why: impl Into<String>) {
    if skipped.len() < MAX_NAMED {
        skipped.push(Skipped { path: path.into(), why: why.into() });
    }
}

/// Looks at a folder; what an ignore file leaves out is not looked at.
pub(super) fn scan(root: &Path, known: &Arc<Known>) -> Result<Scan, FolderError> {
    if !root.is_dir() {
        return Err(FolderError::Missing(root.into()));
    }
    known.recall(root);
    let mut scan = Scan::default();
    let mut found = walk(root, &mut scan)?;
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    leave_out_full_folders(&mut found);
    scan.take(root, found, known);
    known.keep_all(root, &scan);
    note_collisions(&mut scan);
    Ok(scan)
}

type Seen = Vec<(String, Metadata)>;

fn walk(root: &Path, scan: &mut Scan) -> Result<Seen, FolderError> {
    let mut found = Seen::new();
    for entry in ignored::walker(root).build() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                scan.unread(root.display().to_string(), error.to_string());
                continue;
            }
        };
        if entry.depth() == 0 {
            continue;
        }
        // Gone since it was listed.
        let Ok(meta) = entry.metadata() else { continue };
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        match below.to_str().filter(|path| safe_path(path)) {
            None => skip(&mut scan.skipped, below.to_string_lossy(), "its name does not travel"),
            Some(path) if meta.is_file() && meta.len() > MAX_SIZE => {
                skip(&mut scan.skipped, path, format!("it has more than {MAX_SIZE} bytes"));
            }
            Some(path) if meta.is_file() || meta.is_dir() || meta.is_symlink() => {
                found.push((path.to_owned(), meta));
            }
            Some(path) => skip(&mut scan.skipped, path, "it is no file, folder or link"),
        }
        // As many folders again, which only count when they are empty.
        if found.len() > 2 * MAX_ENTRIES {
            return Err(FolderError::TooMany { path: root.into(), limit: MAX_ENTRIES });
        }
    }
    Ok(found)
}

/// A folder with something in it is there by what is in it.
fn leave_out_full_folders(found: &mut Seen) {
    let parents: HashSet<String> =
        found.iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.0.to_owned())).collect();
    found.retain(|(path, meta)| !meta.is_dir() || !parents.contains(path));
}

enum Hashed {
    Is(Hash, Stamp, bool),
    NoFile,
    Gone,
    Unread(String),
}

fn hashes(root: &Path, found: &Seen, known: &Known) -> Vec<Hashed> {
    let mut hashed: Vec<Option<Hashed>> = Vec::with_capacity(found.len());
    let mut unknown = Vec::new();
    for (at, (path, meta)) in found.iter().enumerate() {
        let stamp = Stamp::of(meta);
        hashed.push(match meta.is_file() {
            false => Some(Hashed::NoFile),
            true => match known.current(&root.join(path), stamp) {
                Some(hash) => Some(Hashed::Is(hash, stamp, is_executable(meta))),
                None => {
                    unknown.push(at);
                    None
                }
            },
        });
    }
    let (large, small): (Vec<usize>, Vec<usize>) =
        unknown.into_iter().partition(|at| found[*at].1.len() > LARGE);
    let one = |at: usize, threads| hash(root, &found[at].0, known, threads);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(at) = small.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((*at, one(*at, 1)));
        }
        done
    };
    // A thread costs more than a few small files.
    let threads = digest::threads().min(small.len().div_ceil(64)).max(1);
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        done.extend(others.into_iter().flat_map(|other| other.join().unwrap_or_default()));
        done
    });
    done.extend(large.into_iter().map(|at| (at, one(at, digest::threads()))));
    for (at, hash) in done {
        hashed[at] = Some(hash);
    }
    let failed = || Hashed::Unread("the thread that read it failed".into());
    hashed.into_iter().map(|hash| hash.unwrap_or_else(failed)).collect()
}

fn hash(root: &Path, path: &str, known: &Known, threads: usize) -> Hashed {
    let path = root.join(path);
    let read = || -> std::io::Result<Option<Hashed>> {
        let file = digest::open_plain(&path)?;
        let before = Stamp::of(&file.metadata()?);
        let (hash, values) = match digest::digest(&file, before.size, threads) {
            Ok(read) => read,
            // It is shorter than it was.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e),
        };
        let after = file.metadata()?;
        if Stamp::of(&after) != before {
            return Ok(None);
        }
        known.learn(root, &path, before, hash, values);
        Ok(Some(Hashed::Is(hash, before, is_executable(&after))))
    };
    for _ in 0..TRIES {
        match read() {
            Ok(Some(hashed)) => return hashed,
            Ok(None) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Hashed::Gone,
            Err(e) => return Hashed::Unread(e.to_string()),
        }
    }
    Hashed::Unread("it keeps changing while it is read".into())
}

fn is_executable(meta: &Metadata) -> bool {
    meta.permissions().mode() & 0o111 != 0
}

/// Names what would be one file where names ignore case: there one would take the other's place.
fn note_collisions(scan: &mut Scan) {
    let mut folded: HashMap<String, usize> = HashMap::new();
    for (at, entry) in scan.entries.iter().enumerate() {
        if let Some(first) = folded.insert(entry.path.to_lowercase(), at) {
            let why = format!("its name differs from {} only in case", scan.entries[first].path);
            skip(&mut scan.skipped, entry.path.clone(), why);
        }
    }
}
