//! Calls, their replies, and what is kept of them.

use rhd_protocol::{
    api::Request,
    call::{Again, Call, Codec, Ready, Reply, RunOptions, Verb},
    error::ErrorKind,
    folder::Place,
    id::Hash,
    run::{Kept, RunAsk, RunInfo, RunStatus},
};

use super::{Sample, values::*};

pub(super) fn full_call() -> Call {
    Call {
        v: 1,
        id: id(),
        node: Some(text("gpu")),
        service: text("/ann/Model"),
        verb: Verb::New,
        method: Some(text("fit")),
        instance: Some(text("/ann/m1")),
        codec: Codec::Msgpack,
        parts: vec![3, 70_000, 5_000_000_000],
        timeout_ms: Some(1_500),
        logs: true,
        caller: text("laptop"),
        client: 0,
        load: Some(load()),
        run: None,
        keep: false,
        trace: None,
        beside: false,
        again: vec![],
    }
}

pub(super) fn plain_call() -> Call {
    Call {
        node: None,
        verb: Verb::Call,
        method: None,
        instance: None,
        codec: Codec::Pickle,
        parts: vec![],
        timeout_ms: None,
        logs: false,
        caller: String::new(),
        load: None,
        ..full_call()
    }
}

pub(super) fn large_call() -> Call {
    Call { parts: vec![200, 5_000_000_000], beside: true, ..plain_call() }
}

pub(super) fn again_call() -> Call {
    let again = Again { part: 1, call: id(), of: 2, hash: Hash::of(b"part") };
    Call { again: vec![again], ..large_call() }
}

pub(super) fn run_call() -> Call {
    Call {
        run: Some(RunOptions { name: text("night"), detach: true, get: false }),
        keep: true,
        trace: Some(text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ..plain_call()
    }
}

pub(super) fn get_call() -> Call {
    let run = RunOptions { name: text("/ann/night"), detach: false, get: true };
    Call { run: Some(run), ..plain_call() }
}

pub(super) fn run_info() -> RunInfo {
    RunInfo {
        id: id(),
        name: text("night"),
        status: RunStatus::Error,
        host: text("gpu"),
        caller: text("laptop"),
        service: text("/ann/train"),
        verb: Verb::Call,
        method: Some(text("fit")),
        started_ms: 1_790_000_000_000,
        ended_ms: 1_790_000_001_000,
        recorded: true,
        result: Some(7),
        error: Some(error()),
    }
}

pub(super) fn calls() -> Vec<Sample> {
    let id = Some(id());
    let verbs = vec![Verb::Call, Verb::New, Verb::Get, Verb::Set, Verb::Drop, Verb::Load];
    let reply = |name, reply: Reply| Sample::new("reply", name, reply);
    let parts = vec![1, 1 << 20];
    vec![
        Sample::new("call", "full", full_call()),
        Sample::new("call", "plain", plain_call()),
        Sample::new("call", "large", large_call()),
        Sample::new("call", "again", again_call()),
        Sample::new("call", "client", Call { client: 4_242, ..plain_call() }),
        Sample::new("call", "verbs", verbs),
        Sample::new("call", "codecs", vec![Codec::Pickle, Codec::Msgpack, Codec::Json]),
        reply("log", Reply::Log { id, fd: 2 }),
        reply("item", Reply::Item { id, codec: Codec::Json, parts: parts.clone() }),
        Sample::new("ready", "lacks", Ready::Lacks { parts: vec![1, 300] }),
        Sample::new("ready", "fail", Ready::Fail { error: error() }),
        reply("progress", Reply::Progress { text: text("building"), moved: None }),
        reply("done", Reply::Done { id, codec: Codec::Pickle, parts }),
        reply("done_own", Reply::done(9)),
        reply("fail", Reply::Fail { id, error: error() }),
        Sample::new("error", "kinds", {
            use ErrorKind::*;
            vec![
                Remote,
                PeerLost,
                Timeout,
                Cancelled,
                PermissionDenied,
                NotFound,
                Conflict,
                EnvError,
                VersionMismatch,
                QueueFull,
                DaemonUnavailable,
                BadRequest,
                Internal,
            ]
        }),
    ]
}

pub(super) fn run_requests() -> Vec<Sample> {
    let ask = |name, ask| {
        let request = Request::Run { v: 1, run: text("night"), node: Some(text("gpu")), ask };
        Sample::new("request", name, request)
    };
    let runs = Request::Runs { v: 1, node: None, name: Some(text("night")), limit: 10 };
    vec![
        Sample::new("request", "runs", runs),
        ask("run_info", RunAsk::Info { age_ms: Some(9) }),
        ask("run_inputs", RunAsk::Inputs),
        ask("run_logs", RunAsk::Logs { follow: true }),
        ask("run_attach", RunAsk::Attach { logs: true, timeout_ms: Some(5) }),
        ask("run_cancel", RunAsk::Cancel),
        ask("run_remove", RunAsk::Remove),
        ask(
            "run_keep",
            RunAsk::Keep { from: Place { node: None, path: text("/r"), grant: Some(text("g")) } },
        ),
        Sample::new("answer", "run", run_info()),
        Sample::new(
            "run",
            "statuses",
            vec![
                RunStatus::NotStarted,
                RunStatus::Running,
                RunStatus::Completed,
                RunStatus::Cancelled,
                RunStatus::Error,
                RunStatus::Interrupted,
            ],
        ),
        Sample::new("run", "kept", Kept { codec: Codec::Json, parts: vec![1, 2] }),
        Sample::new("call", "run", run_call()),
        Sample::new("call", "run_get", get_call()),
    ]
}
