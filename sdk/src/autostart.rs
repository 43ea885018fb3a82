//! Starts a daemon where none runs.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use tokio::{process::Command, time};

use crate::{address, socket_path};

/// `rhd up --detach` gives up sooner by itself.
const START: Duration = Duration::from_secs(30);
/// Between two tries to connect while somebody else starts the daemon.
const RETRY: Duration = Duration::from_millis(50);

pub(crate) fn wanted() -> bool {
    std::env::var("RHD_AUTOSTART").map_or(true, |value| value != "0")
}

/// Runs `rhd up --detach`. When another client is faster its daemon serves as well.
pub(crate) async fn start(home: &Path) -> Result<(), ErrorInfo> {
    let failed = |why: String| {
        ErrorInfo::new(ErrorKind::DaemonUnavailable, format!("can't start a daemon: {why}"))
            .hint(format!("see its own words: rhd --home {} up", home.display()))
    };
    let Some(binary) = binary() else {
        return Err(failed("no rhd found".into())
            .hint("put rhd on PATH, or name it: export RHD_BIN=/path/to/rhd"));
    };
    let child = Command::new(&binary)
        .arg("--home")
        .arg(home)
        .args(["up", "--detach"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match time::timeout(START, child).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(failed(format!("{}: {source}", binary.display()))),
        Err(_) => return Err(failed(format!("not ready within {} s", START.as_secs()))),
    };
    if output.status.success() || answers(home).await {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("error: ").to_owned(),
    ))
}

async fn answers(home: &Path) -> bool {
    let path = socket_path(home);
    for _ in 0..40 {
        if address::connect(&path).await.is_ok() {
            return true;
        }
        time::sleep(RETRY).await;
    }
    false
}

/// This process itself if it is rhd, else `RHD_BIN`, else the first on `PATH`.
fn binary() -> Option<PathBuf> {
    let me = std::env::current_exe().ok();
    let named = std::env::var_os("RHD_BIN").filter(|name| !name.is_empty()).map(PathBuf::from);
    me.filter(|path| path.file_name().is_some_and(|name| name == "rhd")).or(named).or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?)
            .map(|dir| dir.join("rhd"))
            .find(|path| path.is_file())
    })
}
