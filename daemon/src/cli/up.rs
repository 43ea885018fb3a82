//! `rhd up`: the daemon in the foreground, or detached from this terminal.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rhd_protocol::{
    api::Status,
    error::{ErrorInfo, ErrorKind},
};
use rhd_sdk::Client;
use tokio::time;

use super::{Context, ui::Ui};
use crate::node;

/// What the daemon writes before its own log works, and if it can't start, why.
const START_LOG: &str = "start.log";
/// How much of it is read.
const START_LOG_TAIL: u64 = 64 * 1024;
/// A daemon that does not answer by now will not.
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run in the background; returns when the daemon answers
    #[arg(long, short)]
    detach: bool,
    /// Name of this node, unique in its realm
    #[arg(long)]
    name: Option<String>,
    /// UDP port of the mesh; 0 takes a free one
    #[arg(long)]
    port: Option<u16>,
    /// Interpreter for code that names none
    #[arg(long, value_name = "PATH")]
    python: Option<String>,
    /// A setting, as in the config file; may be given again
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Started by `up --detach`: leave the terminal, write a failure as JSON
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
}

impl Args {
    /// Whether this very process becomes the daemon.
    pub(super) fn runs_here(&self) -> bool {
        !self.detach
    }

    /// The flags as settings.
    fn overrides(&self) -> Vec<String> {
        let text = |key: &str, value: &String| format!("{key}={}", serde_json::json!(value));
        let mut set = Vec::new();
        set.extend(self.name.as_ref().map(|name| text("node.name", name)));
        set.extend(self.port.map(|port| format!("mesh.port={port}")));
        set.extend(self.python.as_ref().map(|python| text("workers.python", python)));
        set.extend(self.set.iter().cloned());
        set
    }
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let overrides = args.overrides();
    if args.detach {
        let status = detach(cx.home(), &overrides).await?;
        ui.note(&format!("{} is up (pid {}, home {})", status.name, status.pid, status.home));
        return Ok(());
    }
    if args.detached {
        ui.json_errors();
        // Fails only where the process leads a group already, and then it has no terminal to leave.
        let _ = rustix::process::setsid();
    }
    let options = node::Options { home: cx.home().to_path_buf(), set: overrides };
    let aborted = node::run(options, |_| ui.note("up; Ctrl-C ends it")).await?;
    for call in aborted {
        ui.note(&format!("aborted: {call}"));
    }
    Ok(())
}

/// Starts this program once more, in a session of its own, and waits until it answers.
async fn detach(home: &Path, overrides: &[String]) -> Result<Status, ErrorInfo> {
    let wrong = |what: &str, source: io::Error| {
        ErrorInfo::new(ErrorKind::Internal, format!("{what}: {source}"))
            .hint("check the directory: rhd doctor")
    };
    private_dir(home).map_err(|source| {
        let message = format!("home {} can't be used: {source}", home.display());
        ErrorInfo::new(ErrorKind::BadRequest, message)
            .hint("choose another with --home DIR or RHD_HOME")
    })?;
    let path = home.join(START_LOG);
    // Appended to: a second daemon must not wipe what the first one says.
    let log = File::options().create(true).append(true).open(&path);
    let log = log.map_err(|e| wrong(&format!("open {}", path.display()), e))?;
    let start = log.metadata().map_or(0, |meta| meta.len());
    let (out, err) = (log.try_clone().map_err(|e| wrong("open the log", e))?, log);
    let binary = std::env::current_exe().map_err(|e| wrong("find this program", e))?;
    let mut command = Command::new(binary);
    command.arg("--home").arg(home).args(["up", "--detached"]);
    for setting in overrides {
        command.arg("--set").arg(setting);
    }
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    let mut child = command.spawn().map_err(|e| wrong("start the daemon", e))?;
    match time::timeout(READY, ready(home, &mut child)).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(status)) => Err(why(&path, start, status)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(ErrorInfo::new(
                ErrorKind::Timeout,
                format!("the daemon did not answer within {} s", READY.as_secs()),
            )
            .hint(format!("see its own words: rhd --home {} up", home.display())))
        }
    }
}

/// Waits until the child answers, and not some other daemon of this home.
async fn ready(home: &Path, child: &mut Child) -> Result<Status, ExitStatus> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(status);
        }
        if let Ok(client) = Client::attach(home).await
            && let Ok(status) = client.status().await
            && status.pid == child.id()
        {
            return Ok(status);
        }
        time::sleep(POLL).await;
    }
}

/// The daemon's own error, from what it wrote since `start`.
fn why(path: &Path, start: u64, status: ExitStatus) -> ErrorInfo {
    let text = tail(path, start).unwrap_or_default();
    let own = text.lines().rev().find_map(|line| serde_json::from_str::<ErrorInfo>(line).ok());
    own.unwrap_or_else(|| {
        let said = text.trim();
        let said = if said.is_empty() { "it said nothing" } else { said };
        ErrorInfo::new(ErrorKind::Internal, format!("the daemon ended with {status}: {said}"))
            .hint("check this machine: rhd doctor")
    })
}

fn tail(path: &Path, start: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(start.max(length.saturating_sub(START_LOG_TAIL))))?;
    let mut bytes = Vec::new();
    file.take(START_LOG_TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
