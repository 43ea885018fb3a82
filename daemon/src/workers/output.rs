//! What a worker process writes to file descriptors 1 and 2: always drained, never kept.
//!
//! Python's own `print` does not come this way, the worker sends it as frames of its call. This is
//! the output of C libraries and child processes, and a dying process's last words.

use std::{
    io,
    os::fd::AsFd,
    process::{ChildStderr, ChildStdout},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rhd_protocol::{call::Reply, id::CallId};
use tokio::net::unix::pipe::Receiver;

use super::{calls::Running, lock};
use crate::framed::Frame;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks read before others get their turn.
const BURST: usize = 16;
/// Bytes of stderr that are kept for the error message when the process dies.
const TAIL: usize = 4 * 1024;
/// Lines of it that are shown.
const TAIL_LINES: usize = 20;
/// Lines a second that go to the daemon's own log.
const LOG_RATE: u32 = 20;

/// Both pipes of one process.
#[derive(Debug)]
pub(super) struct Output {
    env: String,
    pid: u32,
    pipes: [Receiver; 2],
    state: Mutex<State>,
    calls: Arc<Running>,
}

#[derive(Debug)]
struct State {
    tail: Vec<u8>,
    buffer: Box<[u8]>,
    window: Instant,
    logged: u32,
    muted: u64,
}

impl Output {
    /// Takes over the pipes. Needs the runtime's I/O driver.
    pub(super) fn new(
        env: &str,
        pid: u32,
        stdout: ChildStdout,
        stderr: ChildStderr,
        calls: Arc<Running>,
    ) -> io::Result<Self> {
        Ok(Self {
            env: env.to_owned(),
            pid,
            pipes: [
                Receiver::from_owned_fd(stdout.into())?,
                Receiver::from_owned_fd(stderr.into())?,
            ],
            state: Mutex::new(State {
                tail: Vec::new(),
                buffer: vec![0; CHUNK].into(),
                window: Instant::now(),
                logged: 0,
                muted: 0,
            }),
            calls,
        })
    }

    /// Drains one of the pipes (0 stdout, 1 stderr) until its last writer closes it.
    pub(super) async fn drain(&self, pipe: usize) {
        loop {
            if self.pipes[pipe].readable().await.is_err() {
                return;
            }
            if self.read(pipe, |buffer| self.pipes[pipe].try_read(buffer)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Reads what is there now, so that output written before a call's end precedes its end; beside
    /// other calls it can't be told whose it is.
    pub(super) fn pump_for(&self, id: &CallId) {
        if self.calls.sole().is_some_and(|(sole, ..)| sole == *id) {
            self.pump();
        }
    }

    /// Reads what is there now. Asks the system: the runtime may not have heard of the newest bytes.
    pub(super) fn pump(&self) {
        for pipe in [0, 1] {
            let fd = self.pipes[pipe].as_fd();
            self.read(pipe, |buffer| Ok(rustix::io::read(fd, buffer)?));
        }
    }

    /// The last lines of stderr.
    pub(super) fn last_lines(&self) -> String {
        let state = lock(&self.state);
        let text = String::from_utf8_lossy(&state.tail);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Takes one burst off a pipe; true when it has ended. Reading and attributing happen under one
    /// lock: nobody sees the pipe empty and the call without what was in it.
    fn read(&self, pipe: usize, read: impl Fn(&mut [u8]) -> io::Result<usize>) -> bool {
        let mut state = lock(&self.state);
        let mut buffer = std::mem::take(&mut state.buffer);
        let mut ended = false;
        for _ in 0..BURST {
            match read(&mut buffer) {
                Ok(0) => ended = true,
                Ok(n) => {
                    self.attribute(&mut state, pipe, &buffer[..n]);
                    continue;
                }
                Err(e) => ended = e.kind() != io::ErrorKind::WouldBlock,
            }
            break;
        }
        state.buffer = buffer;
        ended
    }

    fn attribute(&self, state: &mut State, pipe: usize, bytes: &[u8]) {
        let fd = pipe as u8 + 1;
        if fd == 2 {
            state.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
            let excess = state.tail.len().saturating_sub(TAIL);
            state.tail.drain(..excess);
        }
        match self.calls.sole() {
            Some((id, mailbox, true)) => {
                let log = Reply::Log { id: Some(id), fd };
                if let Ok(frame) = Frame::new(&log, Bytes::copy_from_slice(bytes)) {
                    mailbox.push_log(frame);
                }
            }
            other => self.log(state, fd, bytes, other.map(|(id, ..)| id)),
        }
    }

    fn log(&self, state: &mut State, fd: u8, bytes: &[u8], call: Option<CallId>) {
        if state.window.elapsed() >= Duration::from_secs(1) {
            if state.muted > 0 {
                tracing::info!(env = %self.env, pid = self.pid, bytes = state.muted, "more output of the worker left out");
            }
            (state.window, state.logged, state.muted) = (Instant::now(), 0, 0);
        }
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            if state.logged >= LOG_RATE {
                state.muted += line.len() as u64;
                continue;
            }
            state.logged += 1;
            let text = String::from_utf8_lossy(&line[..line.len().min(500)]);
            tracing::info!(env = %self.env, pid = self.pid, fd, call = call.map(tracing::field::display), "worker: {text}");
        }
    }
}
