//! Interpreters: the node's own, and the SDK that they import.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, UNIX_EPOCH},
};

use include_dir::{Dir, DirEntry, include_dir};
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
};
use serde::{Deserialize, Serialize};

static PACKAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../sdk/python/rhd");

/// The oldest Python that the SDK runs on.
const OLDEST: (u32, u32) = (3, 10);
/// Commands that may be a Python, in order.
const CANDIDATES: [&str; 6] =
    ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];
/// How long an interpreter may take to say its version.
const PROBE_WAIT: Duration = Duration::from_secs(10);
const PROBE: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable)";

/// An interpreter that answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Interpreter {
    /// Its own path, behind whatever shim led to it.
    pub(super) path: PathBuf,
    /// `3.11.7`.
    pub(super) version: String,
}

impl Interpreter {
    /// `3.11`.
    pub(super) fn minor(&self) -> String {
        minor(&self.version)
    }
}

/// `3.11` of `3.11.7`.
pub(super) fn minor(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Puts the SDK below `home/python`, once for each version of it; returns the folder for `PYTHONPATH`.
pub(super) fn extract_sdk(home: &Path) -> io::Result<PathBuf> {
    let mut files = Vec::new();
    collect(&PACKAGE, &mut files);
    let mut hasher = blake3::Hasher::new();
    for (path, contents) in &files {
        hasher.update(&Hash::of(path.as_os_str().as_encoded_bytes()).as_bytes()[..]);
        hasher.update(&Hash::of(contents).as_bytes()[..]);
    }
    let hash = Hash::from_bytes(*hasher.finalize().as_bytes());
    let all = home.join("python");
    let target = all.join(hash.short());
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(&all)?;
    let fresh = tempfile::Builder::new().prefix(".sdk-").tempdir_in(&all)?;
    for (path, contents) in files {
        let path = fresh.path().join("rhd").join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, contents)?;
    }
    match fs::rename(fresh.path(), &target) {
        Ok(()) => {
            let _gone = fresh.keep();
        }
        // Another daemon of this home's copy was faster.
        Err(_) if target.is_dir() => {}
        Err(e) => return Err(e),
    }
    Ok(target)
}

fn collect<'a>(dir: &'a Dir<'a>, files: &mut Vec<(&'a Path, &'a [u8])>) {
    for entry in dir.entries() {
        let name = entry.path().file_name().unwrap_or_default().to_string_lossy();
        let skipped = name.starts_with('.')
            || ["__pycache__", "tests"].contains(&name.as_ref())
            || name.ends_with(".pyc");
        match entry {
            _ if skipped => {}
            DirEntry::Dir(dir) => collect(dir, files),
            DirEntry::File(file) => files.push((file.path(), file.contents())),
        }
    }
    files.sort_unstable_by_key(|(path, _)| *path);
}

/// What a probe found, kept over restarts as long as the file is the same.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    asked: Option<String>,
    found: Interpreter,
    stamp: (u64, u64),
}

fn stamp(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((meta.len(), modified.as_nanos() as u64))
}

/// Finds the node's interpreter: the one of the settings, else the first on `PATH` that fits.
pub(super) async fn find(home: &Path, asked: Option<&str>) -> Result<Interpreter, ErrorInfo> {
    let cache = home.join("python").join("interpreter.json");
    if let Ok(bytes) = fs::read(&cache)
        && let Ok(known) = serde_json::from_slice::<Remembered>(&bytes)
        && known.asked.as_deref() == asked
        && stamp(&known.found.path) == Some(known.stamp)
    {
        return Ok(known.found);
    }
    let found = search(asked).await?;
    if let Some(stamp) = stamp(&found.path) {
        let known = Remembered { asked: asked.map(Into::into), found: found.clone(), stamp };
        // Only saves a probe; without it the next start asks again.
        if let Ok(bytes) = serde_json::to_vec(&known) {
            let _ = super::specs::write_atomically(&cache, &bytes);
        }
    }
    Ok(found)
}

async fn search(asked: Option<&str>) -> Result<Interpreter, ErrorInfo> {
    if let Some(asked) = asked {
        return match probe(Path::new(asked)).await {
            Some(found) if fits(&found) => Ok(found),
            Some(found) => Err(too_old(asked, &found)),
            None => Err(ErrorInfo::new(
                ErrorKind::EnvError,
                format!("the interpreter {asked} can't be run"),
            )
            .hint("name a Python of at least 3.10 in the setting `workers.python`")),
        };
    }
    let mut old = None;
    for candidate in CANDIDATES {
        match probe(Path::new(candidate)).await {
            Some(found) if fits(&found) => return Ok(found),
            Some(found) => old = old.or(Some(found)),
            None => {}
        }
    }
    Err(match old {
        Some(found) => too_old(&found.path.display().to_string(), &found),
        None => ErrorInfo::new(ErrorKind::EnvError, "no Python was found on PATH")
            .hint("install Python 3.10 or later, or name one in the setting `workers.python`"),
    })
}

fn too_old(asked: &str, found: &Interpreter) -> ErrorInfo {
    let text = format!("{asked} is Python {}; at least 3.10 is needed", found.version);
    ErrorInfo::new(ErrorKind::EnvError, text)
        .hint("install Python 3.10 or later, or name one in the setting `workers.python`")
}

fn fits(found: &Interpreter) -> bool {
    let mut parts = found.version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= OLDEST
}

/// Asks a command what it is; none when it is no Python that runs (a shim for one that is not
/// chosen, for instance).
pub(super) async fn probe(command: &Path) -> Option<Interpreter> {
    let child = tokio::process::Command::new(command)
        .args(["-c", PROBE])
        .current_dir("/")
        .env_remove("PYTHONHOME")
        .env_remove("PYTHONPATH")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PROBE_WAIT, child).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    let (version, path) = (lines.next()?.to_owned(), PathBuf::from(lines.next()?));
    path.is_absolute().then_some(Interpreter { path, version })
}
