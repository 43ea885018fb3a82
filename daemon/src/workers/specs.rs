//! The envs that this node knows, kept over restarts: one small file each.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use rhd_protocol::{env::EnvSpec, id::Hash};

/// A spec file may have this many bytes.
const MAX_SPEC: u64 = 1024 * 1024;

/// Where an env's spec is.
fn path(home: &Path, key: &str) -> PathBuf {
    home.join("envs").join("specs").join(format!("{}.json", Hash::of(key.as_bytes()).short()))
}

/// Remembers an env.
pub(super) fn save(home: &Path, spec: &EnvSpec) -> io::Result<()> {
    write_atomically(&path(home, &spec.key()), &serde_json::to_vec_pretty(spec)?)
}

/// Forgets an env.
pub(super) fn remove(home: &Path, key: &str) {
    let _ = fs::remove_file(path(home, key));
}

/// Every env that was remembered; files that are not understood are left alone.
pub(super) fn load(home: &Path) -> Vec<EnvSpec> {
    let Ok(dir) = fs::read_dir(home.join("envs").join("specs")) else { return Vec::new() };
    let mut specs = Vec::new();
    for file in dir.flatten().map(|entry| entry.path()) {
        if file.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let fits = fs::metadata(&file).is_ok_and(|meta| meta.len() <= MAX_SPEC);
        let bytes = if fits { fs::read(&file).ok() } else { None };
        match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(spec) => specs.push(spec),
            None => tracing::warn!(file = %file.display(), "not the spec of an env"),
        }
    }
    specs
}

/// Writes a file so that it is there whole or not at all, whatever ends the daemon.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(dir)?.sync_all()
}
