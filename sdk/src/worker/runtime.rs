//! The worker process: its lanes, its services, and the calls under way.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use rhd_protocol::{
    VERSION, frame,
    worker::{Hello, Lane},
};

use super::{cancel::Calls, failure, lane, services::Services, shared::Shared, wire::invalid};

/// Call lanes opened at the start; the daemon asks for more.
const FIRST_LANES: u32 = 4;
/// Call lanes of one process, at most.
const MAX_LANES: u32 = 256;

/// What all lanes share.
#[derive(Debug)]
pub(super) struct Runtime {
    worker: String,
    token: String,
    socket: PathBuf,
    lanes: AtomicU32,
    shared: OnceLock<Arc<Shared>>,
    pub(super) services: Services,
    pub(super) calls: Calls,
    /// Runs async functions.
    pub(super) tasks: tokio::runtime::Handle,
}

impl Runtime {
    /// Connects the control lane, then the first call lanes.
    pub(super) fn start(
        worker: &str,
        token: &str,
        socket: &Path,
    ) -> io::Result<(Arc<Self>, UnixStream)> {
        failure::watch_panics();
        let tasks = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let runtime = Arc::new(Self {
            worker: worker.into(),
            token: token.into(),
            socket: socket.into(),
            lanes: AtomicU32::new(0),
            shared: OnceLock::new(),
            services: Services::default(),
            calls: Calls::default(),
            tasks: tasks.handle().clone(),
        });
        // It lives as long as the process.
        std::mem::forget(tasks);
        let control = runtime.connect(Lane::Control)?;
        runtime.open_lanes(FIRST_LANES)?;
        Ok((runtime, control))
    }

    fn connect(&self, lane: Lane) -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.socket)?;
        let hello = Hello {
            v: VERSION,
            worker: self.worker.clone(),
            token: self.token.clone(),
            lane,
            python: String::new(),
            beside: false,
        };
        stream.write_all(&frame::encode(&hello, 0).map_err(invalid)?)?;
        Ok(stream)
    }

    /// Opens further call lanes, as many as are allowed.
    pub(super) fn open_lanes(self: &Arc<Self>, count: u32) -> io::Result<()> {
        for _ in 0..count.min(MAX_LANES) {
            if self.lanes.fetch_add(1, Ordering::Relaxed) >= MAX_LANES {
                self.closed();
                return Ok(());
            }
            let opened = self.connect(Lane::Call).and_then(|stream| {
                let runtime = self.clone();
                std::thread::Builder::new()
                    .name("rhd-lane".into())
                    .spawn(move || lane::run(&runtime, stream))
            });
            if let Err(error) = opened {
                self.closed();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has threads take calls off the shared lane, which is opened the first time. For the control
    /// lane's thread alone.
    pub(super) fn share(self: &Arc<Self>, threads: u32) -> io::Result<()> {
        let shared = match self.shared.get() {
            Some(shared) => shared,
            None => {
                let opened = Arc::new(Shared::new(self.connect(Lane::Shared)?)?);
                self.shared.get_or_init(|| opened)
            }
        };
        shared.more(self, threads)
    }

    /// Notes that a lane ended.
    pub(super) fn closed(&self) {
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}
