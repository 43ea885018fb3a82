//! `rhd doctor`: looks at this machine and says what to type.

use std::{
    env, fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rhd_protocol::{
    VERSION,
    api::Status,
    error::{ErrorInfo, ErrorKind},
    wire::SOCKET_BUFFER,
};
use rhd_sdk::{Client, socket_path};
use serde::Serialize;
use tokio::{net::TcpStream, process::Command, time};

use super::{Context, ui::Ui};

/// Any one look may take this long.
const LOOK: Duration = Duration::from_secs(5);
/// The oldest Python that works.
const PYTHON: (u32, u32) = (3, 10);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to type; empty where all is well.
    hint: String,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), hint: String::new() }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let (daemon, status, python) = look_at_daemon(cx.home()).await;
    let mut findings = vec![look_at_home(cx.home()), look_at_socket(cx.home()), daemon];
    findings.extend(status.as_ref().map(look_at_port));
    findings.extend(match &status {
        Some(status) => Some(look_at_web(status).await),
        None => None,
    });
    findings.extend(look_at_python(&python).await);
    findings.push(look_at_sandbox());
    findings.extend(look_at_buffers(Path::new("/proc/sys")));
    if findings.iter().any(|f| f.verdict == Verdict::Fail) {
        ui.fail();
    }
    if args.json {
        return ui.json(&findings);
    }
    for f in findings {
        let verdict = match f.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        ui.line(&format!("{verdict}  {:8}  {}", f.check, f.found))?;
        if !f.hint.is_empty() {
            ui.line(&format!("                {}", f.hint))?;
        }
    }
    Ok(())
}

fn look_at_home(home: &Path) -> Finding {
    let shown = home.display();
    let fail = |found: String, hint: String| Finding::new("home", Verdict::Fail, found).hint(hint);
    let meta = match fs::metadata(home) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Finding::new("home", Verdict::Ok, format!("{shown} (made by rhd up)"));
        }
        Err(e) => return fail(format!("{shown}: {e}"), "name another: rhd --home DIR …".into()),
    };
    if !meta.is_dir() {
        return fail(format!("{shown} is no directory"), "name another: rhd --home DIR …".into());
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        let hint = "use a home of your own: rhd --home DIR …";
        return fail(format!("{shown} belongs to another user"), hint.into());
    }
    if let Err(e) = tempfile::tempfile_in(home) {
        return fail(format!("{shown} can't be written: {e}"), format!("chmod u+rwx {shown}"));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Finding::new(
            "home",
            Verdict::Warn,
            format!("{shown} is open to others ({mode:o})"),
        )
        .hint(format!("chmod 700 {shown}"));
    }
    Finding::new("home", Verdict::Ok, shown.to_string())
}

fn look_at_socket(home: &Path) -> Finding {
    let path = socket_path(home);
    match fs::symlink_metadata(&path) {
        Err(_) => Finding::new("socket", Verdict::Ok, "none yet"),
        Ok(meta) if meta.permissions().mode() & 0o177 != 0 => {
            let mode = meta.permissions().mode() & 0o777;
            Finding::new("socket", Verdict::Fail, format!("{} has mode {mode:o}", path.display()))
                .hint(format!("chmod 600 {}", path.display()))
        }
        Ok(_) => Finding::new("socket", Verdict::Ok, path.display().to_string()),
    }
}

/// Also says which Python the daemon uses, or would use.
async fn look_at_daemon(home: &Path) -> (Finding, Option<Status>, String) {
    let python = || env::var("RHD_WORKERS_PYTHON").unwrap_or_else(|_| "python3".into());
    let up = format!("rhd --home {} up --detach", home.display());
    let asked = time::timeout(LOOK, async {
        let client = Client::attach(home).await?;
        let status = client.status().await?;
        Ok::<_, ErrorInfo>((status, client.python().await))
    });
    match asked.await {
        Ok(Ok((status, path))) => {
            let (ours, theirs) = (env!("CARGO_PKG_VERSION"), &status.version);
            let found = format!("{} answers, version {theirs}, pid {}", status.name, status.pid);
            let finding = if theirs == ours && status.protocol == VERSION {
                Finding::new("daemon", Verdict::Ok, found)
            } else {
                Finding::new("daemon", Verdict::Warn, format!("{found}; this rhd is {ours}"))
                    .hint("restart it: rhd down, then rhd up --detach")
            };
            (finding, Some(status), path.map_or_else(|_| python(), |p| p.python))
        }
        Ok(Err(e)) if e.kind == ErrorKind::DaemonUnavailable => {
            (Finding::new("daemon", Verdict::Warn, "does not run").hint(up), None, python())
        }
        Ok(Err(e)) => {
            (Finding::new("daemon", Verdict::Fail, e.message).hint(e.hint), None, python())
        }
        Err(_) => {
            let found = format!("does not answer within {} s", LOOK.as_secs());
            (
                Finding::new("daemon", Verdict::Fail, found).hint("rhd down, or end its pid"),
                None,
                python(),
            )
        }
    }
}

fn look_at_port(status: &Status) -> Finding {
    if status.listen.is_empty() {
        return Finding::new("mesh", Verdict::Fail, "no UDP port is open")
            .hint("take a free one: rhd down, then rhd up --detach --port 0");
    }
    let found = format!("UDP {}, {} peers linked", status.listen.join(" "), status.peers);
    Finding::new("mesh", Verdict::Ok, found)
}

/// Whether somebody answers HTTP where the daemon says that it does.
async fn look_at_web(status: &Status) -> Finding {
    let Some(url) = &status.web else {
        return Finding::new("http", Verdict::Warn, "not answered").hint(
            "web.enabled=false, or all ports from web.port on are taken: the log says which",
        );
    };
    let address = url.trim_start_matches("http://");
    match time::timeout(LOOK, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::new("http", Verdict::Ok, url.clone()),
        Ok(Err(e)) => Finding::new("http", Verdict::Fail, format!("{url}: {e}"))
            .hint("a firewall on this machine may keep even loopback out"),
        Err(_) => Finding::new("http", Verdict::Fail, format!("{url} does not answer"))
            .hint("restart it: rhd down, then rhd up --detach"),
    }
}

async fn look_at_python(python: &str) -> Vec<Finding> {
    const SCRIPT: &str = "import sys, importlib.util as u\n\
        print(*sys.version_info[:3], *[int(u.find_spec(m) is not None) for m in ('venv','pip')])";
    let hint = "install Python 3.10 or newer, or name one: rhd up --python PATH";
    let fail = |found| vec![Finding::new("python", Verdict::Fail, found).hint(hint)];
    let words = match output(python, &["-c", SCRIPT]).await {
        Ok(words) => words,
        Err(why) => return fail(format!("{python}: {why}")),
    };
    let numbers: Vec<u32> = words.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    let &[major, minor, patch, venv, pip] = &numbers[..] else {
        return fail(format!("{python} says {words:?}"));
    };
    let version = format!("{python} is {major}.{minor}.{patch}");
    if (major, minor) < PYTHON {
        return fail(format!("{version}; 3.10 is the oldest that works"));
    }
    let builder = if let Some(uv) = on_path("uv") {
        Finding::new("builder", Verdict::Ok, uv.display().to_string())
    } else if venv == 1 && pip == 1 {
        Finding::new("builder", Verdict::Ok, "venv and pip (uv would be faster)")
    } else {
        Finding::new(
            "builder",
            Verdict::Warn,
            "neither uv nor venv with pip: no envs with packages",
        )
        .hint("install uv, or the python3-venv and python3-pip packages")
    };
    vec![Finding::new("python", Verdict::Ok, version), builder]
}

fn look_at_sandbox() -> Finding {
    match on_path("bwrap") {
        Some(path) => Finding::new("sandbox", Verdict::Ok, path.display().to_string()),
        None => {
            Finding::new("sandbox", Verdict::Ok, "no bubblewrap; code of others runs without one")
        }
    }
}

/// Whether sockets get the room that the mesh asks for; nothing where the system doesn't say.
fn look_at_buffers(sys: &Path) -> Option<Finding> {
    let limit = |name: &str| -> Option<usize> {
        let path = sys.join(name.replace('.', "/"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    let names = ["net.core.rmem_max", "net.core.wmem_max"];
    let limits: Vec<_> = names.into_iter().filter_map(|n| Some((n, limit(n)?))).collect();
    let small: Vec<_> = limits.iter().filter(|(_, bytes)| *bytes < SOCKET_BUFFER).collect();
    if limits.is_empty() {
        return None;
    }
    if small.is_empty() {
        return Some(Finding::new("buffers", Verdict::Ok, "sockets hold what the mesh asks for"));
    }
    let found: Vec<_> = small.iter().map(|(name, bytes)| format!("{name} is {bytes}")).collect();
    let raise: Vec<_> = small.iter().map(|(name, _)| format!("{name}={SOCKET_BUFFER}")).collect();
    let found = format!("{}: large payloads lose packets on a busy machine", found.join(", "));
    let hint = format!("sudo sysctl -w {}, then rhd down and rhd up --detach", raise.join(" "));
    Some(Finding::new("buffers", Verdict::Warn, found).hint(hint))
}

async fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let run = Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    match time::timeout(LOOK, run).await {
        Ok(Ok(out)) if out.status.success() => {
            Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
        }
        Ok(Ok(out)) => Err(format!("ended with {}", out.status)),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOK.as_secs())),
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_buffers_are_named_with_what_raises_them() {
        let sys = tempfile::tempdir().unwrap();
        assert!(look_at_buffers(sys.path()).is_none(), "a system that doesn't say");
        let core = sys.path().join("net/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("rmem_max"), "212992\n").unwrap();
        fs::write(core.join("wmem_max"), format!("{SOCKET_BUFFER}\n")).unwrap();
        let finding = look_at_buffers(sys.path()).unwrap();
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.found.contains("rmem_max is 212992"), "{}", finding.found);
        assert!(finding.hint.contains(&format!("net.core.rmem_max={SOCKET_BUFFER}")));
        assert!(!finding.hint.contains("wmem_max"), "{}", finding.hint);
        fs::write(core.join("rmem_max"), "8388608\n").unwrap();
        assert_eq!(look_at_buffers(sys.path()).unwrap().verdict, Verdict::Ok);
    }
}
