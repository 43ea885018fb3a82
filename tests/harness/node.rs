//! One node: a home and the daemon process in it.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rhd_protocol::{
    api::{Peer, Status},
    error::ErrorInfo,
};
use rhd_sdk::Client;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    outcome::{Outcome, command, command_within, rhd},
    settle::until,
};

/// What the daemon writes outside its own log.
const OUTPUT: &str = "output";

/// A home with no daemon yet.
#[derive(Debug)]
pub struct Unstarted {
    home: TempDir,
    name: String,
    flags: Vec<String>,
    vars: Vec<(String, String)>,
    netns: Option<String>,
}

impl Unstarted {
    /// The state directory.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Adds arguments to `rhd up`.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Sets a variable in the daemon's environment.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the daemon run in this network namespace; its socket is a file, and reached from here.
    #[must_use]
    pub fn within(mut self, netns: &str) -> Self {
        self.netns = Some(netns.to_owned());
        self
    }

    /// Starts the daemon and waits until it answers.
    pub fn up(self) -> Node {
        let child = self.spawn();
        let mut node = Node { setup: self, child };
        node.ready();
        node
    }

    fn spawn(&self) -> Child {
        let output =
            File::options().create(true).append(true).open(self.home().join(OUTPUT)).unwrap();
        // `ip` becomes the daemon: the process that is started is the one to end.
        let wrapper = self.netns.iter().flat_map(|ns| ["ip", "netns", "exec", ns]);
        let mut command = command_within(&wrapper.collect::<Vec<_>>());
        command.arg("--home").arg(self.home()).args(["up", "--name", &self.name]);
        command.args(&self.flags).envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        command.spawn().unwrap()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    setup: Unstarted,
    child: Child,
}

impl Node {
    /// Starts a node of this name and waits until it answers.
    pub fn start(name: &str) -> Self {
        Self::prepare(name).up()
    }

    /// Makes the home of a node, for tests that put something there or add flags.
    pub fn prepare(name: &str) -> Unstarted {
        // A socket's path has to fit into 107 bytes.
        let home = tempfile::Builder::new().prefix("rhd-").tempdir().unwrap();
        let flags = ["--port", "0", "--set", "mesh.mdns=false"].map(str::to_owned).to_vec();
        Unstarted { home, name: name.to_owned(), flags, vars: Vec::new(), netns: None }
    }

    /// The state directory.
    pub fn home(&self) -> &Path {
        self.setup.home()
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// Process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs `rhd --home <its home>` with these arguments.
    pub fn rhd(&self, args: &[&str]) -> Outcome {
        self.rhd_with(args, "")
    }

    /// As [`rhd`](Self::rhd), with this on standard input.
    pub fn rhd_with(&self, args: &[&str], stdin: &str) -> Outcome {
        let home = self.home().to_str().unwrap();
        rhd(&[&["--home", home], args].concat(), stdin)
    }

    /// The same command, not yet run, for tests that send it signals.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.arg("--home").arg(self.home()).args(args).stdin(Stdio::null());
        command
    }

    /// Asks the daemon through the Rust SDK.
    pub fn ask<T>(
        &self,
        question: impl AsyncFnOnce(Client) -> Result<T, ErrorInfo>,
    ) -> Result<T, ErrorInfo> {
        ask(self.home(), question)
    }

    /// How it is.
    pub fn status(&self) -> Status {
        self.ask(async |client| client.status().await).unwrap()
    }

    /// Whom it knows, itself included.
    pub fn peers(&self) -> Vec<Peer> {
        self.ask(async |client| client.peers().await).unwrap()
    }

    /// Makes a ticket for this many nodes.
    pub fn invite(&self, uses: usize) -> String {
        self.rhd(&["invite", "--uses", &uses.to_string()]).ok().trim().to_owned()
    }

    /// Joins the realm of a ticket.
    pub fn join(&self, ticket: &str) {
        self.rhd(&["join", ticket]).ok();
    }

    /// Opens the socket as any program could, with a limit on every wait.
    pub fn socket(&self) -> UnixStream {
        let stream = UnixStream::connect(rhd_sdk::socket_path(self.home())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Has the daemon stand still, and waits until it does: the signal stops a process when a thread of
    /// it next runs, and until then the others go on.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.pid());
        until("all its threads stand still", || {
            let mut tasks = fs::read_dir(&tasks).unwrap();
            tasks.all(|task| stands_still(&task.unwrap().path())).then_some(())
        });
    }

    /// Has it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the daemon as a power cut would, and waits for its process to be gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the daemon to end, as a service manager would, and waits for its process to be gone.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.gone()
    }

    /// Waits for its process to be gone.
    pub fn gone(&mut self) -> ExitStatus {
        until(&format!("{} ends\n{}", self.name(), self.log()), || self.child.try_wait().unwrap())
    }

    /// Starts the daemon again in the same home; the old one must be gone.
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "{} still runs", self.name());
        self.child = self.setup.spawn();
        self.ready();
    }

    /// All that the daemon wrote, its log files included.
    pub fn log(&self) -> String {
        let mut text = String::new();
        collect(self.home(), 2, &mut text);
        text
    }

    fn ready(&mut self) {
        let (home, child) = (self.setup.home(), &mut self.child);
        let ended = until("the daemon answers", || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Some(status));
            }
            ask(home, async |client| client.status().await).ok().map(|_| None)
        });
        if let Some(status) = ended {
            panic!("{} ended with {status}\n{}", self.name(), self.log());
        }
    }
}

/// Whether a thread is stopped, or gone; its state is what follows its name, see proc_pid_stat(5).
fn stands_still(task: &Path) -> bool {
    fs::read_to_string(task.join("stat"))
        .map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            // Straight to the process's stderr: nextest shows it with the failure.
            let text = format!("--- log of {}\n{}\n---\n", self.name(), self.log());
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::TERM);
            for _ in 0..250 {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn ask<T>(
    home: &Path,
    question: impl AsyncFnOnce(Client) -> Result<T, ErrorInfo>,
) -> Result<T, ErrorInfo> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { question(Client::attach(home).await?).await })
}

/// The ends of the daemon's text files, down to `depth` folders.
fn collect(dir: &Path, depth: usize, text: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && depth > 0 {
            collect(&path, depth - 1, text);
        } else if path.is_file() && (name == OUTPUT || name.contains("log")) {
            let mut bytes = Vec::new();
            let _ = File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes));
            let tail = &bytes[bytes.len().saturating_sub(16 * 1024)..];
            text.push_str(&format!("[{name}]\n{}\n", String::from_utf8_lossy(tail)));
        }
    }
}
