//! A project folder as content: what is in it, by hash.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    io::Read as _,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use rhd_protocol::{
    api::LocalRoot,
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    program::{HEAD, Target},
    wire::{self, FileEntry, Manifest, RootOffer, link_stays_inside, safe_path},
};

use super::{config::Config, error::BlobError, guard, walk};
use crate::folders::{Cache, Stamp, hash_file, open_plain};

/// Tries to read a file that changes meanwhile.
const TRIES: usize = 3;

/// A project folder at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What is in it.
    pub manifest: Manifest,
    /// Where it was read.
    pub root: PathBuf,
    /// The same for every version of this folder on this node.
    pub project: String,
    /// Folders below it to put on `sys.path`.
    pub sys_path: Vec<String>,
    /// What was left out although nothing said to, a sentence each.
    pub warnings: Vec<String>,
}

impl Snapshot {
    /// What a deployment says of it.
    pub fn offer(&self) -> RootOffer {
        RootOffer {
            project: self.project.clone(),
            sys_path: self.sys_path.clone(),
            manifest: self.manifest.clone(),
        }
    }

    /// Opens the file that had this content when the snapshot was taken.
    pub fn open_file(&self, hash: Hash) -> Result<File, BlobError> {
        let mut files = self.manifest.files.iter();
        let (path, _) = files
            .find(|(_, file)| file.hash == hash && file.link.is_none())
            .ok_or(BlobError::Missing(hash))?;
        let path = self.root.join(path);
        File::open(&path).map_err(BlobError::io("open", path))
    }

    /// Every distinct content with its size and one path to it.
    pub(super) fn contents(&self) -> HashMap<Hash, (u64, PathBuf)> {
        let files = self.manifest.files.iter().filter(|(_, file)| file.link.is_none());
        files.map(|(path, file)| (file.hash, (file.size, self.root.join(path)))).collect()
    }
}

/// Reads the folder; `origin` tells this node's folders from those of another.
pub(super) fn take(
    local: &LocalRoot,
    origin: &str,
    config: &Config,
    cache: &Mutex<Cache>,
) -> Result<Snapshot, ErrorInfo> {
    let root =
        fs::canonicalize(&local.path).ok().filter(|path| path.is_dir()).ok_or_else(|| {
            ErrorInfo::new(
                ErrorKind::NotFound,
                format!("{} is no folder on this machine", local.path),
            )
            .hint("start the daemon on the machine that has the code, or give another folder")
        })?;
    if let Some(bad) = local.sys_path.iter().find(|p| !p.is_empty() && !safe_path(p)) {
        let message = format!("sys.path folder {bad:?} is not below {}", root.display());
        return Err(ErrorInfo::new(ErrorKind::BadRequest, message));
    }
    let found = walk::walk(&root, &local.only, config)?;
    let sizes: Vec<_> = found.files.iter().map(|(path, meta)| (path.clone(), meta.len())).collect();
    guard::check(&root.display().to_string(), &sizes, found.cut, config)?;

    let mut warnings = found.warnings;
    let mut files = BTreeMap::new();
    for (path, meta) in found.files {
        let full = root.join(&path);
        if meta.is_symlink() {
            let target = fs::read_link(&full).ok().and_then(|t| t.to_str().map(str::to_owned));
            match target.filter(|target| link_stays_inside(&path, target)) {
                Some(target) => {
                    let link = Some(target);
                    files.insert(
                        path,
                        FileEntry { size: 0, hash: Hash::of(b""), exec: false, link },
                    );
                }
                None => warnings.push(format!("{path} is left out: it links out of the project")),
            }
        } else if let Some(entry) = entry(full, &meta, cache, config.max_file_bytes)? {
            files.insert(path, entry);
        }
    }
    let manifest = Manifest { files };
    // Below the setting, but a peer takes no more than this.
    if !manifest.is_safe() {
        let message = format!("{} has more than {} files", root.display(), wire::MAX_FILES);
        return Err(ErrorInfo::new(ErrorKind::BadRequest, message)
            .hint(format!("list folders to leave out in {}/.rhdignore", root.display())));
    }
    let project = Hash::of(format!("{}\0{origin}", root.display()).as_bytes()).short();
    Ok(Snapshot { manifest, root, project, sys_path: local.sys_path.clone(), warnings })
}

/// Reads one program, as a folder with nothing else in it, and what it was built for.
pub(super) fn take_program(
    path: &str,
    origin: &str,
    config: &Config,
    cache: &Mutex<Cache>,
) -> Result<(Snapshot, Target), ErrorInfo> {
    let refuse = |why: &str| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("{path} {why}"))
            .hint("name a program that was built for the node, such as target/release/app")
    };
    let full = fs::canonicalize(path).map_err(|e| refuse(&format!("can't be read: {e}")))?;
    let mut file = open_plain(&full).map_err(|e| refuse(&format!("can't be read: {e}")))?;
    let meta = file.metadata().map_err(BlobError::io("read", &full))?;
    if meta.len() > config.max_program_bytes {
        return Err(refuse(&format!("has {} MiB", meta.len() >> 20)).hint(format!(
            "build it with less debug information, or raise blobs.max_program_bytes ({} MiB)",
            config.max_program_bytes >> 20
        )));
    }
    let mut head = Vec::new();
    let read = file.by_ref().take(HEAD as u64).read_to_end(&mut head);
    read.map_err(BlobError::io("read", &full))?;
    let target = Target::of(&head).ok_or_else(|| refuse("is no program"))?;
    let (Some(root), Some(name)) = (full.parent(), full.file_name().and_then(|n| n.to_str()))
    else {
        return Err(refuse("has a name that does not travel"));
    };
    let entry = entry(full.clone(), &meta, cache, config.max_program_bytes)?
        .ok_or_else(|| refuse("vanished"))?;
    let files = [(name.to_owned(), FileEntry { exec: true, ..entry })].into();
    let project = Hash::of(format!("{}\0{origin}", full.display()).as_bytes()).short();
    let root = root.to_owned();
    let manifest = Manifest { files };
    Ok((Snapshot { manifest, root, project, sys_path: vec![], warnings: vec![] }, target))
}

/// Hashes a file, unless its hash is known; `None` when it vanished since it was listed.
fn entry(
    path: PathBuf,
    meta: &Metadata,
    cache: &Mutex<Cache>,
    limit: u64,
) -> Result<Option<FileEntry>, BlobError> {
    let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
    let stamp = Stamp::of(meta);
    let exec = |meta: &Metadata| meta.permissions().mode() & 0o111 != 0;
    if let Some(hash) = lock().get(&path, stamp) {
        return Ok(Some(FileEntry { size: stamp.size, hash, exec: exec(meta), link: None }));
    }
    for _ in 0..TRIES {
        let Some((hash, meta)) = read(&path, limit)? else { return Ok(None) };
        let Some(hash) = hash else { continue };
        let stamp = Stamp::of(&meta);
        lock().insert(&path, stamp, hash, SystemTime::now());
        return Ok(Some(FileEntry { size: stamp.size, hash, exec: exec(&meta), link: None }));
    }
    Err(BlobError::Changed(path))
}

/// Reads a file once: its hash, or none if it changed meanwhile.
fn read(path: &Path, limit: u64) -> Result<Option<(Option<Hash>, Metadata)>, BlobError> {
    let file = match open_plain(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(BlobError::io("read", path)(e)),
    };
    let stat = |file: &File| file.metadata().map_err(BlobError::io("read", path));
    let before = stat(&file)?;
    if before.len() > limit {
        return Err(BlobError::Changed(path.into()));
    }
    let hash = match hash_file(&file, before.len()) {
        Ok(hash) => Some(hash),
        // It is shorter than it was.
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => None,
        Err(e) => return Err(BlobError::io("read", path)(e)),
    };
    let after = stat(&file)?;
    let same = Stamp::of(&before) == Stamp::of(&after);
    Ok(Some((hash.filter(|_| same), after)))
}
