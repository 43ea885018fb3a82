//! cloudpickle and msgpack for interpreters that are used as they are.
//!
//! The SDK carries pure-Python copies of both, so a worker never waits for this; compiled msgpack is
//! merely faster.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Mutex,
    time::Duration,
};

use tokio::process::Command;

use crate::workers::{lock, process::die_with_parent, python::Interpreter};

const PACKAGES: [&str; 2] = ["cloudpickle", "msgpack"];
/// All that fetching them may take.
const FETCH_WAIT: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Overlay {
    root: PathBuf,
    /// Folders that were tried since the daemon started, with whatever success.
    tried: Mutex<HashSet<PathBuf>>,
}

impl Overlay {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), tried: Mutex::default() }
    }

    /// The folder for this interpreter; where there is none it is made in the background, and
    /// running workers find it when it is whole.
    pub(super) fn folder(&self, interpreter: &Interpreter) -> PathBuf {
        let id = rhd_protocol::id::Hash::of(interpreter.path.as_os_str().as_encoded_bytes());
        let name = format!("overlay-{}-{}", interpreter.minor(), &id.short()[..6]);
        let folder = self.root.join(name);
        if !folder.is_dir() && lock(&self.tried).insert(folder.clone()) {
            let (root, python) = (self.root.clone(), interpreter.path.clone());
            let folder = folder.clone();
            tokio::spawn(async move {
                if let Some(why) = fetch(&root, &folder, &python).await {
                    tracing::info!("the SDK's own copies of its packages are used: {why}");
                }
            });
        }
        folder
    }
}

async fn fetch(root: &Path, folder: &Path, python: &Path) -> Option<String> {
    let mut missing = Vec::new();
    for package in PACKAGES {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {package}")]).current_dir("/");
        if !finish(import).await {
            missing.push(package);
        }
    }
    let fresh = match tempfile::Builder::new().prefix(".overlay-").tempdir_in(root) {
        Ok(fresh) => fresh,
        Err(e) => return Some(e.to_string()),
    };
    if !missing.is_empty() {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps"])
            .args(["--disable-pip-version-check", "--retries", "0", "--timeout", "5"])
            .args(["--only-binary", ":all:", "--target"])
            .arg(fresh.path())
            .args(&missing)
            .current_dir("/");
        if !finish(pip).await {
            return Some(format!("{} could not be fetched", missing.join(" and ")));
        }
    }
    match fs::rename(fresh.path(), folder) {
        Ok(()) => {
            let _ = fresh.keep();
            None
        }
        Err(e) => Some(e.to_string()),
    }
}

async fn finish(mut command: Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    die_with_parent(command.as_std_mut());
    let Ok(mut child) = command.spawn() else { return false };
    matches!(tokio::time::timeout(FETCH_WAIT, child.wait()).await, Ok(Ok(status)) if status.success())
}
