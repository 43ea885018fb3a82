//! A command of a build: its output as progress lines, its last words as the error.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    process::Stdio,
    time::{Duration, Instant},
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    process::Command,
    sync::broadcast,
};

use crate::workers::process::die_with_parent;

/// Lines of output that are kept for the error.
const TAIL: usize = 40;
/// Bytes of one line that are kept.
const LINE: u64 = 2_000;
/// Progress lines come no closer than this.
const PACE: Duration = Duration::from_millis(100);

/// Whether a directory has the name of a build.
pub(super) fn is_build_dir(name: &OsStr) -> bool {
    name.len() == super::HASH_CHARS
}

/// Ends the command's whole session when the build is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

/// Runs `command` to its end; `what` names it in the error, which carries its own last lines.
pub(super) async fn run(
    what: &str,
    mut command: Command,
    progress: &broadcast::Sender<String>,
) -> Result<(), ErrorInfo> {
    let fail = |text: String| ErrorInfo::new(ErrorKind::EnvError, format!("{what}: {text}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    die_with_parent(command.as_std_mut());
    let mut child = command.spawn().map_err(|e| fail(format!("can't be started: {e}")))?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid as i32)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut tail, mut shown) = (VecDeque::new(), None);
    let (tx, mut rx) = tokio::sync::mpsc::channel(16);
    let (out, err) = (lines(stdout, tx.clone()), lines(stderr, tx));
    let collect = async {
        while let Some(line) = rx.recv().await {
            if tail.len() == TAIL {
                tail.pop_front();
            }
            if shown.is_none_or(|at: Instant| at.elapsed() >= PACE) {
                shown = Some(Instant::now());
                let _ = progress.send(line.clone());
            }
            tail.push_back(line);
        }
    };
    let (_, _, (), status) = tokio::join!(out, err, collect, child.wait());
    let status = status.map_err(|e| fail(e.to_string()))?;
    group.0 = None;
    if status.success() {
        return Ok(());
    }
    let words = last_words(&tail);
    Err(fail(if words.is_empty() { format!("{status}") } else { words }))
}

/// The tool's own errors where it marks them, else its last lines.
fn last_words(tail: &VecDeque<String>) -> String {
    let marked = |line: &&String| {
        let line = line.trim_start().to_ascii_lowercase();
        line.starts_with("error") || line.starts_with("×") || line.starts_with("╰")
    };
    let first = tail.iter().position(|line| marked(&line));
    let from = first.unwrap_or(tail.len().saturating_sub(12));
    let mut lines: Vec<&str> = tail.iter().skip(from).map(String::as_str).collect();
    lines.retain(|line| !line.trim().is_empty() && !line.starts_with("[notice]"));
    lines.join("\n")
}

async fn lines(pipe: Option<impl AsyncRead + Unpin>, out: tokio::sync::mpsc::Sender<String>) {
    let Some(pipe) = pipe else { return };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut pipe).take(LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        // Bars redraw a line: what was drawn last is what it says.
        let text = text.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
        if out.send(text).await.is_err() {
            return;
        }
    }
}
