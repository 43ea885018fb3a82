//! Real worker processes, driven through the handle.

use std::{path::PathBuf, sync::Arc};

use rhd_protocol::{
    call::{Codec, Reply, Verb},
    code::{CodeRoot, Entry, Load},
    env::{BASE, EnvSpec},
    error::ErrorInfo,
    id::{CallId, Hash},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

mod calls;
mod deaths;
mod envs;
mod hangs;
mod sharing;
mod strangers;

/// A workers room in a home of its own.
struct Room {
    home: TempDir,
    workers: Workers,
    tasks: Option<WorkersTasks>,
}

/// All that came back from a call.
#[derive(Debug, Default)]
struct Outcome {
    logs: String,
    items: Vec<Value>,
    end: Option<Result<Value, ErrorInfo>>,
}

impl Outcome {
    fn value(self) -> Value {
        self.end.unwrap().unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn error(self) -> ErrorInfo {
        self.end.unwrap().expect_err("the call was to fail")
    }
}

impl Room {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (workers, tasks) = Workers::start(home.path(), "here", config).await.unwrap();
        Self { home, workers, tasks: Some(tasks) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The function `name` of a module with this source.
    fn code(&self, source: &str, name: &str) -> Arc<LoadUnit> {
        let version = Hash::of(source.as_bytes());
        let dir = self.path("code").join(version.short());
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("code_under_test.py"), source).unwrap();
        let root = CodeRoot {
            project: "tests".into(),
            dir: dir.display().to_string(),
            sys_path: vec![String::new()],
        };
        let entry = Entry::Import { module: "code_under_test".into(), qualname: name.into() };
        let load = Load { roots: vec![root], entry, version };
        Arc::new(LoadUnit { service: format!("/ann/{name}"), load, body: Bytes::new() })
    }

    fn invocation(&self, unit: &Arc<LoadUnit>, args: Value) -> Invocation {
        let body = rmp_serde::to_vec(&(args, serde_json::json!({}))).unwrap();
        let call = Call {
            codec: Codec::Msgpack,
            parts: vec![body.len() as u64],
            logs: true,
            caller: "tests".into(),
            ..Call::new(CallId::from_bytes(rand::random()), unit.service.clone())
        };
        Invocation {
            held: None,
            call,
            body: body.into(),
            unit: Some(unit.clone()),
            incarnation: None,
            on_loop: false,
            stateless: true,
            yields: false,
        }
    }

    async fn start(&self, inv: Invocation) -> Result<CallStream, ErrorInfo> {
        self.workers.call(BASE, inv).await
    }

    async fn run(&self, inv: Invocation) -> Outcome {
        match self.start(inv).await {
            Ok(stream) => rest(stream).await,
            Err(e) => Outcome { end: Some(Err(e)), ..Outcome::default() },
        }
    }

    async fn call(&self, unit: &Arc<LoadUnit>, args: Value) -> Outcome {
        self.run(self.invocation(unit, args)).await
    }

    async fn ensure(&self, spec: &EnvSpec) -> (Result<EnvInfo, ErrorInfo>, Vec<String>) {
        let (tx, mut rx) = mpsc::channel(1_000);
        let info = self.workers.ensure(spec, tx).await;
        let mut lines = Vec::new();
        while let Ok(line) = rx.try_recv() {
            lines.push(line);
        }
        (info, lines)
    }

    fn pid(&self) -> Option<u32> {
        self.workers.envs().into_iter().find(|env| env.key == BASE).and_then(|env| env.pid)
    }

    async fn shutdown(&mut self, grace_ms: u64) -> Vec<String> {
        let tasks = self.tasks.take().unwrap();
        tasks.shutdown(std::time::Duration::from_millis(grace_ms), &Default::default()).await
    }
}

use rhd_protocol::api::EnvInfo;

/// Reads a call to its end.
async fn rest(mut stream: CallStream) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(frame) = stream.next().await {
        assert!(outcome.end.is_none(), "nothing follows the final reply");
        match frame.header().unwrap() {
            Reply::Log { .. } => outcome.logs.push_str(&String::from_utf8_lossy(&frame.body)),
            Reply::Item { .. } => outcome.items.push(rmp_serde::from_slice(&frame.body).unwrap()),
            Reply::Done { .. } => {
                outcome.end = Some(Ok(rmp_serde::from_slice(&frame.body).unwrap()));
            }
            Reply::Fail { error, .. } => outcome.end = Some(Err(error)),
            Reply::Progress { .. } => {}
        }
    }
    assert!(outcome.end.is_some(), "a stream ends with a final reply");
    outcome
}
