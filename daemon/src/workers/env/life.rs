//! The life of a process: start, up, end.

use std::{collections::HashMap, ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use rhd_protocol::{
    env::EnvSpec,
    error::ErrorInfo,
    id::{Hash, encode_base32},
};

use super::Env;
use crate::workers::{
    build::{Built, path_with},
    lock,
    process::{Launch, Process},
};

/// Variables of the daemon's environment that would mislead an interpreter.
const OF_ANOTHER_PYTHON: [&str; 4] =
    ["PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"];

/// Which GPUs a process sees, by index or name.
const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Why a process did not come up.
struct NotStarted {
    error: ErrorInfo,
    /// Whether another try may go better.
    again: bool,
}

impl From<ErrorInfo> for NotStarted {
    fn from(error: ErrorInfo) -> Self {
        Self { error, again: false }
    }
}

impl Env {
    /// One life of one process, from its start to its end.
    pub(super) async fn run_slot(self: Arc<Self>, index: usize, generation: u64, after: Duration) {
        tokio::time::sleep(after).await;
        let mut final_word = false;
        let (failure, expected) = match self.launch(index, generation).await {
            Ok(process) => {
                self.is_up(&process);
                let status = process.over().await;
                let failure = process.death_error(status).on(&self.shared.node);
                tracing::info!(env = %self.key, pid = process.pid, "{}", failure.message);
                self.shared.registry.remove(&process);
                (failure, process.ended_by_us())
            }
            Err(NotStarted { error, again }) => {
                final_word = !again;
                (error, false)
            }
        };
        {
            let mut state = lock(&self.state);
            if state.generation != generation || state.closed.is_some() {
                return;
            }
            let Some(slot) = state.slots.get_mut(index) else { return };
            slot.clear();
            slot.supervision.exited(self.shared.now(), expected, rand::random());
            state.failure = Some(failure.clone());
        }
        self.shared.lost.send_modify(|n| *n += 1);
        if final_word && index == 0 {
            self.refuse_all(&failure);
        }
        self.demand();
    }

    fn is_up(self: &Arc<Self>, process: &Arc<Process>) {
        let starting = {
            let mut state = lock(&self.state);
            let Some((index, slot)) = state.slot_of(process) else {
                return process.kill("its env was changed");
            };
            slot.ready = true;
            slot.supervision.ready();
            if index == 0 { std::mem::take(&mut state.starting) } else { Vec::new() }
        };
        for waiter in starting {
            let _ = waiter.send(Ok(()));
        }
        self.settle();
    }

    async fn launch(
        self: &Arc<Self>,
        index: usize,
        generation: u64,
    ) -> Result<Arc<Process>, NotStarted> {
        let spec = self.spec();
        let built = self.shared.builder.build(&spec, None).await?;
        let overlay = self.shared.builder.overlay(&built);
        let launch =
            self.launch_of(index, &spec, &built, overlay).map_err(|e| self.start_error(&e))?;
        let (registry, worker) = (&self.shared.registry, launch.worker.clone());
        registry.announce(&worker);
        let process = Process::start(launch).await.map_err(|e| {
            registry.withdraw(&worker);
            self.start_error(&e)
        })?;
        {
            let mut state = lock(&self.state);
            if state.generation != generation || state.closed.is_some() {
                process.kill("it is not needed any more");
                registry.withdraw(&worker);
                return Err(self.gone_error().into());
            }
            state.built = Some(built);
            if let Some(slot) = state.slots.get_mut(index) {
                slot.process = Some(process.clone());
            }
        }
        self.shared.registry.insert(self, &process);
        let limit = self.shared.config.start_timeout();
        let mut again = true;
        let status = tokio::select! {
            () = process.connected() => return Ok(process),
            status = process.over() => status,
            () = tokio::time::sleep(limit) => {
                process.kill(&format!("it did not come up within {} s", limit.as_secs_f32()));
                again = false;
                process.over().await
            }
        };
        self.shared.registry.remove(&process);
        let error = process.death_error(status).on(&self.shared.node);
        let error = error.hint("its last lines say why; `rhd env build` tries again at once");
        if spec.binary.is_some() {
            // Whatever it did instead of serving, it will do again.
            return Err(NotStarted { error: no_worker(error), again: false });
        }
        Err(NotStarted { error, again })
    }

    fn launch_of(
        &self,
        index: usize,
        spec: &EnvSpec,
        built: &Built,
        overlay: Option<PathBuf>,
    ) -> std::io::Result<Launch> {
        let shared = &self.shared;
        let cwd = shared.home.join("scratch").join(Hash::of(self.key.as_bytes()).short());
        std::fs::create_dir_all(&cwd)?;
        let worker = encode_base32(&rand::random::<[u8; 10]>());
        let token = encode_base32(&rand::random::<[u8; 32]>());
        let native = spec.binary.is_some();
        let mut vars: HashMap<OsString, OsString> =
            spec.env_vars.iter().map(|(k, v)| (k.into(), v.into())).collect();
        vars.retain(|name, value| is_var(name, value));
        if let Some(devices) = lock(&shared.devices).get(&self.key) {
            let visible = || visible(devices, std::env::var(VISIBLE).ok().as_deref()).into();
            vars.entry(VISIBLE.into()).or_insert_with(visible);
        }
        if !native {
            self.python_vars(built, overlay, &mut vars);
        }
        vars.extend([
            ("RHD_HOME".into(), shared.home.clone().into()),
            ("RHD_ENV".into(), self.key.clone().into()),
            ("RHD_WORKER_FIRST".into(), u8::from(index == 0).to_string().into()),
            ("RHD_WORKER".into(), worker.clone().into()),
            ("RHD_WORKER_TOKEN".into(), token.clone().into()),
            ("RHD_WORKER_SOCKET".into(), shared.socket.clone().into()),
        ]);
        Ok(Launch {
            env: self.key.clone(),
            program: built.interpreter.path.clone(),
            args: if native { &[] } else { &["-m", "rhd.worker"] },
            vars,
            unset: if native { Vec::new() } else { OF_ANOTHER_PYTHON.to_vec() },
            cwd,
            worker,
            token,
            incarnation: shared.next_incarnation(),
        })
    }

    /// What a Python needs to find the SDK and its env's packages.
    fn python_vars(
        &self,
        built: &Built,
        overlay: Option<PathBuf>,
        vars: &mut HashMap<OsString, OsString>,
    ) {
        let sdk = &self.shared.sdk;
        let theirs = vars.remove(&OsString::from("PYTHONPATH"));
        let path = std::iter::once(sdk.clone()).chain(overlay);
        let path = path.chain(theirs.iter().flat_map(std::env::split_paths));
        let path = std::env::join_paths(path).unwrap_or_else(|_| sdk.clone().into());
        if let Some(bin) = built.interpreter.path.parent() {
            vars.entry("PATH".into()).or_insert_with(|| path_with(bin));
        }
        if let Some(venv) = &built.venv {
            vars.insert("VIRTUAL_ENV".into(), venv.into());
        }
        vars.extend([("PYTHONPATH".into(), path), ("PYTHONUNBUFFERED".into(), "1".into())]);
    }
}

/// The error for a program that ended, or was ended, before it connected.
fn no_worker(mut error: ErrorInfo) -> ErrorInfo {
    error.message.push_str("\nit never connected: a program serves only as its main begins with rhd::worker::run_if_worker()");
    error.hint("begin main with rhd::worker::run_if_worker(), build it again and deploy that")
}

/// These devices, of those that the daemon itself sees.
fn visible(devices: &[u32], own: Option<&str>) -> String {
    let own: Vec<&str> = own.map(|own| own.split(',').map(str::trim).collect()).unwrap_or_default();
    let name = |device: &u32| match own.get(*device as usize) {
        Some(name) => (*name).to_owned(),
        None => device.to_string(),
    };
    devices.iter().map(name).collect::<Vec<_>>().join(",")
}

/// Whether the system takes it as an environment variable.
fn is_var(name: &OsString, value: &OsString) -> bool {
    let (name, value) = (name.as_encoded_bytes(), value.as_encoded_bytes());
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_those_that_the_daemon_sees() {
        assert_eq!(visible(&[0, 2], None), "0,2");
        assert_eq!(visible(&[0, 1], Some("5, GPU-8f2c")), "5,GPU-8f2c");
        assert_eq!(visible(&[1], Some("")), "1");
    }
}
