//! `rhd demo`: the main job from nothing, on this machine, in a minute.
//!
//! Three nodes in homes and processes of their own join by ticket; a Python program then uses them
//! as a user's would. Everything is in one temporary folder, which is removed at the end.

mod native;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rhd_protocol::{
    api::PathKind,
    error::{ErrorInfo, ErrorKind},
    membership::Role,
};
use rhd_sdk::Client;
use tokio::process::{Child, Command};

use super::{
    Context,
    ui::{Ui, interrupted},
};

/// The program that the demo runs, and the project that it sends.
const MAIN: &str = include_str!("demo/main.py");
const WORK: &str = include_str!("demo/work.py");
/// What a node may need to start, and two nodes to find each other, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);
const NAMES: [&str; 3] = ["laptop", "gpu", "cloud"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep the nodes' homes and logs, and say where they are
    #[arg(long)]
    keep: bool,
}

pub(crate) async fn run(args: Args, _: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let started = Instant::now();
    let dir = tempfile::Builder::new()
        .prefix("rhd-demo-")
        .tempdir()
        .map_err(|e| failed("make a temporary folder", &e))?;
    ui.line("rhd demo: three nodes on this machine, no server between them\n")?;
    let mut nodes = Vec::new();
    let outcome = tokio::select! {
        outcome = show(dir.path(), &mut nodes, ui) => outcome,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    };
    // Whatever happened, nothing stays behind.
    for node in &mut nodes {
        node.stop().await;
    }
    let kept = args.keep.then(|| dir.keep());
    outcome?;
    match kept {
        Some(path) => ui.line(&format!("\nkept: {}", path.display()))?,
        None => ui.line("\nnodes stopped, temporary folder removed")?,
    }
    ui.line(&format!("done in {:.1} s", started.elapsed().as_secs_f64()))
}

async fn show(dir: &Path, nodes: &mut Vec<Node>, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let mut step = Step::start(ui, "1. start three nodes: laptop, gpu, cloud")?;
    for name in NAMES {
        nodes.push(Node::start(dir, name)?);
    }
    for node in nodes.iter_mut() {
        let (took, status) = node.ready().await?;
        let (name, rss) = (&status.name, status.rss >> 20);
        step.say(&format!("{name}: ready in {} ms, {rss} MiB resident", took.as_millis()))?;
    }
    step.done()?;

    let mut step = Step::start(ui, "2. invite and join by ticket")?;
    let laptop = nodes[0].client().await?;
    for node in &nodes[1..] {
        let ticket = laptop.invite(Role::Member, 1, Duration::from_secs(600)).await?.ticket;
        step.say(&format!("$ rhd join {}…", &ticket[..ticket.len().min(24)]))?;
        node.client().await?.join(&ticket, None).await?;
    }
    for node in nodes.iter() {
        linked(&node.client().await?).await?;
    }
    step.say("every node has a direct, encrypted link to every other")?;
    step.done()?;

    python(dir, &laptop, nodes).await?;
    native::show(&laptop, ui).await
}

/// Waits until this node has a link to both others.
async fn linked(client: &Client) -> Result<(), ErrorInfo> {
    let all = async {
        loop {
            let peers = client.peers().await?;
            if peers.iter().filter(|p| p.path == PathKind::Direct).count() == NAMES.len() - 1 {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| {
        Err(ErrorInfo::new(ErrorKind::Timeout, "the nodes did not find each other")
            .hint("does a firewall drop UDP on the loopback interface? try `rhd doctor`"))
    })
}

/// Runs the Python half, which speaks for itself.
async fn python(dir: &Path, laptop: &Client, nodes: &[Node]) -> Result<(), ErrorInfo> {
    let project = dir.join("project");
    let write = |file: &str, text: &str| std::fs::write(project.join(file), text);
    std::fs::create_dir_all(&project)
        .and_then(|()| write("main.py", MAIN))
        .and_then(|()| write("work.py", WORK))
        .and_then(|()| write("pyproject.toml", "[project]\nname = \"demo\"\nversion = \"0\"\n"))
        .map_err(|e| failed("write the demo's project", &e))?;
    let python = laptop.python().await?;
    let path = std::env::join_paths(python.path.iter().map(PathBuf::from))
        .map_err(|e| failed("set PYTHONPATH", &e))?;
    let pids: BTreeMap<&str, u32> =
        nodes.iter().filter_map(|n| Some((n.name, n.child.id()?))).collect();
    let status = Command::new(&python.python)
        .arg("main.py")
        .current_dir(&project)
        .env("PYTHONPATH", path)
        .env("PYTHONUNBUFFERED", "1")
        .env("TMPDIR", dir)
        .env("RHD_HOME", &nodes[0].home)
        .env("RHD_AUTOSTART", "0")
        .env("RHD_DEMO_PIDS", serde_json::json!(pids).to_string())
        .env("RHD_DEMO_BINARY", this_program()?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|e| failed(&format!("run {}", python.python), &e))?;
    if status.success() {
        return Ok(());
    }
    Err(ErrorInfo::new(
        ErrorKind::Internal,
        format!("the demo's Python program ended with {status}"),
    )
    .hint("run it again with --keep and read the nodes' logs"))
}

/// A step of the demo, with its time.
struct Step<'a> {
    ui: &'a mut Ui,
    started: Instant,
}

impl<'a> Step<'a> {
    fn start(ui: &'a mut Ui, title: &str) -> Result<Self, ErrorInfo> {
        ui.line(title)?;
        Ok(Self { ui, started: Instant::now() })
    }

    fn say(&mut self, line: &str) -> Result<(), ErrorInfo> {
        self.ui.line(&format!("     {line}"))
    }

    fn done(self) -> Result<(), ErrorInfo> {
        self.ui.line(&format!("     [{:.2} s]\n", self.started.elapsed().as_secs_f64()))
    }
}

/// A daemon of the demo.
struct Node {
    name: &'static str,
    home: PathBuf,
    child: Child,
    started: Instant,
}

impl Node {
    fn start(dir: &Path, name: &'static str) -> Result<Self, ErrorInfo> {
        let home = dir.join(name);
        std::fs::create_dir_all(&home).map_err(|e| failed("make a home", &e))?;
        let log = std::fs::File::create(home.join("start.log"))
            .map_err(|e| failed("open the start log", &e))?;
        let child = Command::new(this_program()?)
            .arg("--home")
            .arg(&home)
            .args(["up", "--name", name, "--set", "node.grace=1"])
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("start a node", &e))?;
        Ok(Self { name, home, child, started: Instant::now() })
    }

    /// Waits until the node answers; how long that took since its start, and its status.
    async fn ready(&mut self) -> Result<(Duration, rhd_protocol::api::Status), ErrorInfo> {
        loop {
            if let Ok(client) = self.client().await
                && let Ok(status) = client.status().await
            {
                return Ok((self.started.elapsed(), status));
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || self.started.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(self.home.join("start.log")).unwrap_or_default();
                return Err(ErrorInfo::new(
                    ErrorKind::DaemonUnavailable,
                    format!("node {} did not start: {}", self.name, said.trim()),
                )
                .hint("`rhd doctor` says what this machine lacks"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn client(&self) -> Result<Client, ErrorInfo> {
        Client::attach(&self.home).await
    }

    /// Asks the node to end, and waits; one that doesn't is killed.
    async fn stop(&mut self) {
        if let Ok(client) = self.client().await {
            let _ = client.shutdown().await;
        }
        if tokio::time::timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        // The one that the demo started again is no child of this process.
        let gone = async {
            while self.client().await.is_ok() {
                tokio::time::sleep(POLL).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, gone).await;
    }
}

fn this_program() -> Result<PathBuf, ErrorInfo> {
    std::env::current_exe().map_err(|e| failed("find this program", &e))
}

fn failed(what: &str, error: &dyn std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("{what}: {error}"))
}
