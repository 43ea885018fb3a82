//! One worker process: started in its own session, killed with all its children.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    worker::Hello,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::sync::{mpsc, oneshot, watch};

use super::{calls::Running, lock, output::Output, pings::Pings};
use crate::framed::Frame;

/// How long a process whose lanes broke may take to end by itself.
const EXIT_WAIT: Duration = Duration::from_secs(2);

/// A program that was written a moment ago is busy while another thread's child, between fork and
/// exec, has a copy of the descriptor that it was written through.
const BUSY_TRIES: u32 = 50;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) env: String,
    pub(super) program: PathBuf,
    pub(super) args: &'static [&'static str],
    pub(super) vars: HashMap<OsString, OsString>,
    pub(super) unset: Vec<&'static str>,
    pub(super) cwd: PathBuf,
    pub(super) worker: String,
    pub(super) token: String,
    pub(super) incarnation: u64,
}

/// A worker process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) env: String,
    pub(super) worker: String,
    pub(super) token: String,
    pub(super) incarnation: u64,
    pub(super) pid: u32,
    pub(super) calls: Arc<Running>,
    pub(super) output: Arc<Output>,
    pub(super) pings: Pings,
    /// Version of each service that is loaded; the lock is held while one is being loaded.
    loads: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Hash>>>>>,
    control: OnceLock<mpsc::Sender<Frame>>,
    shared: OnceLock<mpsc::Sender<Frame>>,
    /// Whether it takes payloads beside frames.
    beside: AtomicBool,
    connected: watch::Sender<bool>,
    exit: watch::Receiver<Option<ExitStatus>>,
    group: Arc<Group>,
    ended_by_us: AtomicBool,
    reason: Mutex<Option<Reason>>,
}

/// Why it was ended, and what to do about it if the usual hint says too little.
#[derive(Debug, Clone)]
struct Reason {
    text: String,
    hint: Option<&'static str>,
}

/// The process group, as long as its leader has not been reaped: its id can't mean another.
#[derive(Debug)]
struct Group(Mutex<Option<Pid>>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = *lock(&self.0) {
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Process {
    /// Starts the process. Pipes are drained and its end is watched from here on.
    pub(super) async fn start(launch: Launch) -> Result<Arc<Self>, io::Error> {
        let (started_tx, started_rx) = oneshot::channel();
        let (exit_tx, exit) = watch::channel(None);
        let (env, worker, token, incarnation) =
            (launch.env.clone(), launch.worker.clone(), launch.token.clone(), launch.incarnation);
        // The death signal of the child fires when the *thread* that started it ends, so the thread
        // stays until the child is gone.
        std::thread::Builder::new()
            .name("worker".into())
            .stack_size(256 * 1024)
            .spawn(move || own_child(&launch, started_tx, &exit_tx))?;
        let started = started_rx.await.map_err(|_| io::Error::other("thread ended"))??;
        let calls = Arc::new(Running::default());
        let output = Output::new(&env, started.pid, started.stdout, started.stderr, calls.clone());
        let output = match output {
            Ok(output) => Arc::new(output),
            Err(e) => {
                started.group.kill();
                return Err(e);
            }
        };
        for pipe in [0, 1] {
            let (output, mut exit) = (output.clone(), exit.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = output.drain(pipe) => {}
                    _ = exit.wait_for(Option::is_some) => output.pump(),
                }
            });
        }
        Ok(Arc::new(Self {
            env,
            worker,
            token,
            incarnation,
            pid: started.pid,
            calls,
            output,
            pings: Pings::default(),
            loads: Mutex::default(),
            control: OnceLock::new(),
            shared: OnceLock::new(),
            beside: AtomicBool::new(false),
            connected: watch::Sender::new(false),
            exit,
            group: started.group,
            ended_by_us: AtomicBool::new(false),
            reason: Mutex::new(None),
        }))
    }

    /// Notes what a connection of it said of itself.
    pub(super) fn greeted(&self, hello: &Hello) {
        self.beside.store(hello.beside, Ordering::Relaxed);
    }

    /// Whether it takes payloads beside frames.
    pub(super) fn takes_beside(&self) -> bool {
        self.beside.load(Ordering::Relaxed)
    }

    /// Ends the process and its group for good; `reason` goes into the errors of calls that ran.
    pub(super) fn kill(&self, reason: &str) {
        self.end(Reason { text: reason.to_owned(), hint: None });
    }

    /// The same, with a hint of its own for those calls.
    pub(super) fn kill_with_hint(&self, reason: &str, hint: &'static str) {
        self.end(Reason { text: reason.to_owned(), hint: Some(hint) });
    }

    fn end(&self, reason: Reason) {
        lock(&self.reason).get_or_insert(reason);
        self.ended_by_us.store(true, Ordering::Relaxed);
        self.group.kill();
    }

    /// Whether [`Process::kill`] ended it.
    pub(super) fn ended_by_us(&self) -> bool {
        self.ended_by_us.load(Ordering::Relaxed)
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Whether calls may still be given to it: one that is being killed fails them all.
    pub(super) fn takes_calls(&self) -> bool {
        !self.ended_by_us() && !self.is_over()
    }

    /// Waits for the end.
    pub(super) async fn over(&self) -> Option<ExitStatus> {
        self.exit.clone().wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// Takes the queue of the control lane; false when there is one already.
    pub(super) fn set_control(&self, control: mpsc::Sender<Frame>) -> bool {
        let first = self.control.set(control).is_ok();
        self.connected.send_replace(true);
        first
    }

    /// The queue of the control lane, once it is connected.
    pub(super) fn control(&self) -> Option<&mpsc::Sender<Frame>> {
        self.control.get()
    }

    /// Takes the queue of the shared lane; false when there is one already.
    pub(super) fn set_shared(&self, shared: mpsc::Sender<Frame>) -> bool {
        self.shared.set(shared).is_ok()
    }

    /// The queue of the shared lane, once it is connected.
    pub(super) fn shared(&self) -> Option<&mpsc::Sender<Frame>> {
        self.shared.get()
    }

    /// Waits for the control lane.
    pub(super) async fn connected(&self) {
        let _ = self.connected.subscribe().wait_for(|connected| *connected).await;
    }

    /// What is loaded under a name: the lock is held while loading.
    pub(super) fn loaded(&self, service: &str) -> Arc<tokio::sync::Mutex<Option<Hash>>> {
        lock(&self.loads).entry(service.to_owned()).or_default().clone()
    }

    /// The error for a call whose lane broke: waits for the process to end. One that goes on is
    /// ended, unless other calls run in it.
    pub(super) async fn death(&self) -> ErrorInfo {
        if tokio::time::timeout(EXIT_WAIT, self.over()).await.is_err() {
            if self.calls.wanted() > 1 {
                let text =
                    format!("the worker of env {} closed the connection of the call", self.env);
                return ErrorInfo::new(ErrorKind::EnvError, text).hint(
                    "the call was not repeated; look for code that closes files it did not open",
                );
            }
            self.kill("it closed its connection in the middle of a call");
        }
        let status = tokio::time::timeout(EXIT_WAIT, self.over()).await.ok().flatten();
        self.death_error(status)
    }

    /// The error for a process that ended.
    pub(super) fn death_error(&self, status: Option<ExitStatus>) -> ErrorInfo {
        self.output.pump();
        let reason = lock(&self.reason).clone();
        let how = match (&reason, status) {
            (Some(reason), _) => format!("was ended: {}", reason.text),
            (None, Some(status)) => format!("died ({})", describe(status)),
            (None, None) => "died".into(),
        };
        let mut message = format!("the worker of env {} {how}", self.env);
        let lines = self.output.last_lines();
        if !lines.is_empty() {
            message.push_str("; the last lines of its stderr:\n");
            message.push_str(&lines);
        }
        let hint = match (reason.and_then(|reason| reason.hint), status.and_then(|s| s.signal())) {
            (Some(hint), _) => hint,
            (None, Some(9)) if !self.ended_by_us() => {
                "the system may have killed it for using too much memory; the call was not repeated, the next call starts a new worker"
            }
            _ => {
                "the call was not repeated; the next call starts a new worker, without the instances that lived in this one"
            }
        };
        ErrorInfo::new(ErrorKind::EnvError, message).hint(hint)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.group.kill();
    }
}

struct Started {
    pid: u32,
    stdout: ChildStdout,
    stderr: ChildStderr,
    group: Arc<Group>,
}

/// The thread of one child: starts it, waits for its end, then ends what it left behind.
fn own_child(
    launch: &Launch,
    started: oneshot::Sender<io::Result<Started>>,
    exit: &watch::Sender<Option<ExitStatus>>,
) {
    let mut child = match spawn(launch) {
        Ok(child) => child,
        Err(e) => {
            let _ = started.send(Err(e));
            return;
        }
    };
    let pid = Pid::from_child(&child);
    let group = Arc::new(Group(Mutex::new(Some(pid))));
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else { return };
    let handover = Started { pid: child.id(), stdout, stderr, group: group.clone() };
    if started.send(Ok(handover)).is_err() {
        group.kill();
    }
    // Without reaping, so that the group's id still is the group's when it is killed.
    while let Err(rustix::io::Errno::INTR) =
        rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {
    }
    group.kill();
    *lock(&group.0) = None;
    exit.send_replace(Some(child.wait().unwrap_or_default()));
}

fn spawn(launch: &Launch) -> io::Result<Child> {
    let mut command = Command::new(&launch.program);
    command
        .args(launch.args)
        .current_dir(&launch.cwd)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in &launch.unset {
        command.env_remove(name);
    }
    command.envs(&launch.vars);
    die_with_parent(&mut command);
    for _ in 0..BUSY_TRIES {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(BUSY_WAIT);
            }
            spawned => return spawned,
        }
    }
    command.spawn()
}

/// Puts the child into a session of its own, and on Linux has the kernel kill it when this thread
/// ends, however that comes about.
#[allow(unsafe_code)]
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        rustix::process::setsid()?;
        #[cfg(target_os = "linux")]
        {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        let _ = parent;
        Ok(())
    };
    // SAFETY: runs between fork and exec; makes three system calls, allocates nothing, takes no lock.
    unsafe { command.pre_exec(prepare) };
}

/// `signal 11 (SIGSEGV)` or `exit status 3`.
fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal}, {name}")
}
