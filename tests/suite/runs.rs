//! Runs and receipts: what became of a call, whoever was lost meanwhile.

use std::{fs, path::PathBuf, time::Duration};

use rhd_protocol::{
    VERSION,
    api::Request,
    call::{Call, Codec, Reply, RunOptions},
    error::ErrorInfo,
    frame,
    id::CallId,
    run::{RunAsk, RunInfo, RunStatus},
};
use rhd_sdk::{Client, ErrorKind, Replies};
use rhd_tests::{Mesh, Node, until};
use serde_json::{Value, json};
use tempfile::TempDir;

mod faults;
pub(crate) mod phases;

/// Each of them writes into `folder` how often it ran.
const SOURCE: &str = r#"
import pathlib, sys, time
import rhd as rh

def note(folder):
    with open(pathlib.Path(folder) / "ran", "a") as ran:
        ran.write("x")

def work(folder, result="done"):
    note(folder)
    print("working")
    print("still working", file=sys.stderr, flush=True)
    while not (pathlib.Path(folder) / "go").exists():
        time.sleep(0.01)
    return result

def items(folder, n):
    note(folder)
    try:
        for i in range(n):
            yield i
        while not (pathlib.Path(folder) / "go").exists():
            yield -1
            time.sleep(0.05)
    finally:
        (pathlib.Path(folder) / "closed").touch()

def fails(folder):
    note(folder)
    raise ValueError("as ever")

for fn in (work, items, fails):
    rh.function(fn, name=fn.__name__).to(sys.argv[1])
"#;

/// Puts the functions above on the node called `to`.
pub(crate) fn deploy(from: &Node, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("things.py");
    fs::write(&file, SOURCE).unwrap();
    from.rhd(&["python", file.to_str().unwrap(), to]).ok();
}

/// Where one call leaves its traces.
pub(crate) struct Traces(TempDir);

impl Traces {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    pub(crate) fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    pub(crate) fn ran(&self) -> usize {
        fs::read(self.path().join("ran")).map_or(0, |text| text.len())
    }

    pub(crate) fn until_it_runs(&self) {
        until("it runs", || (self.ran() > 0).then_some(()));
    }

    pub(crate) fn go(&self) {
        fs::write(self.path().join("go"), "").unwrap();
    }
}

pub(crate) fn fresh() -> CallId {
    CallId::from_bytes(rand::random())
}

/// A call of one of the functions above.
pub(crate) fn call(function: &str, args: &Value) -> (Call, Vec<u8>) {
    let body = serde_json::to_vec(&json!([args, {}])).unwrap();
    let call =
        Call { codec: Codec::Json, parts: vec![body.len() as u64], ..Call::new(fresh(), function) };
    (call, body)
}

fn named(name: &str, detach: bool) -> Option<RunOptions> {
    Some(RunOptions { name: name.into(), detach, get: false })
}

/// All replies but the final one, then that.
pub(crate) async fn rest(mut replies: Replies) -> Result<(Vec<(Reply, String)>, Value), ErrorInfo> {
    let mut all = Vec::new();
    while let Some((reply, body)) = replies.next().await? {
        match reply {
            Reply::Done { codec: Codec::Json, .. } => {
                return Ok((all, serde_json::from_slice(&body).unwrap()));
            }
            Reply::Done { .. } => return Ok((all, frame::decode(&body).unwrap())),
            Reply::Fail { error, .. } => return Err(error),
            other => all.push((other, String::from_utf8_lossy(&body).into_owned())),
        }
    }
    panic!("no final reply")
}

/// Starts a run and doesn't wait for it.
pub(crate) fn start(
    node: &Node,
    function: &str,
    args: &Value,
    name: &str,
) -> Result<RunInfo, ErrorInfo> {
    let (mut call, body) = call(function, args);
    call.run = named(name, true);
    node.ask(async |client| {
        let (_, info) = rest(client.request(&Request::Call { call }, &body).await?).await?;
        Ok(serde_json::from_value(info).unwrap())
    })
}

pub(crate) fn info(node: &Node, run: &str) -> Result<RunInfo, ErrorInfo> {
    node.ask(async |client| client.run_info(run, None).await)
}

fn until_status(node: &Node, run: &str, status: RunStatus) -> RunInfo {
    until(&format!("{run} is {status:?}, and is {:?}", info(node, run)), || {
        info(node, run).ok().filter(|info| info.status == status)
    })
}

async fn attach(client: &Client, run: &str) -> Result<(Vec<(Reply, String)>, Value), ErrorInfo> {
    rest(client.run_attach(run, None, true, Some(Duration::from_secs(30))).await?).await
}

pub(crate) fn result(node: &Node, run: &str) -> Result<Value, ErrorInfo> {
    node.ask(async |client| attach(&client, run).await.map(|(_, value)| value))
}

fn asked(run: &str, ask: RunAsk) -> Request {
    Request::Run { v: VERSION, run: run.into(), node: None, ask }
}

#[test]
fn a_run_leaves_inputs_output_result_and_times() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let started = start(&mesh[0], "work", &json!([traces.text(), "fine"]), "first").unwrap();
    assert_eq!((started.status, started.recorded), (RunStatus::Running, true));
    assert_eq!((started.host.as_str(), started.caller.as_str()), ("n1", "n0"));
    traces.until_it_runs();
    let again = start(&mesh[0], "work", &json!([traces.text()]), "first").unwrap_err();
    assert_eq!(again.kind, ErrorKind::Conflict, "{again:?}");
    let waited = mesh[0].ask(async |client| {
        let wait = Some(Duration::from_millis(50));
        rest(client.run_attach("first", None, false, wait).await?).await
    });
    assert_eq!(waited.unwrap_err().kind, ErrorKind::Timeout);
    let follow = mesh[0].command(&["logs", "-f", "first"]);
    let follow = std::thread::spawn(move || { follow }.output().unwrap());
    assert_eq!(info(&mesh[1], "first").unwrap().status, RunStatus::Running);
    traces.go();
    // Whoever asks, and whatever they call it.
    for node in [&mesh[0], &mesh[1]] {
        assert_eq!(result(node, "first").unwrap(), json!("fine"));
        assert_eq!(result(node, &started.id.to_string()).unwrap(), json!("fine"));
    }
    let followed = follow.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&followed.stdout), "working\n");
    assert_eq!(String::from_utf8_lossy(&followed.stderr), "still working\n");
    let ended = until_status(&mesh[0], "first", RunStatus::Completed);
    assert!(ended.ended_ms >= ended.started_ms && ended.started_ms > 0, "{ended:?}");
    assert_eq!(ended.result, Some("\"fine\"".len() as u64));
    let (_, inputs) = mesh[0]
        .ask(async |client| rest(client.request(&asked("first", RunAsk::Inputs), &[]).await?).await)
        .unwrap();
    assert_eq!(inputs, json!([[traces.text(), "fine"], {}]));
    assert_eq!(traces.ran(), 1);

    let listed = mesh[0].rhd(&["ps", "--json"]).json();
    assert!(listed[0]["name"].as_str().unwrap().ends_with("/first"), "{listed}");
    assert_eq!(listed[0]["status"], "COMPLETED", "{listed}");
    let table = mesh[0].rhd(&["ps"]).ok();
    assert!(table.contains("first") && table.contains("COMPLETED"), "{table}");
    mesh[0].ask(async |client| client.run_remove("first", None).await).unwrap();
    assert_eq!(mesh[0].rhd(&["ps", "--json"]).json(), json!([]));
    mesh[0].rhd(&["logs", "first"]).fails(5);
    // Its receipt is not forgotten with it.
    let receipt = info(&mesh[0], &started.id.to_string()).unwrap();
    assert_eq!((receipt.status, receipt.recorded), (RunStatus::Completed, false));
}

#[test]
fn a_run_is_cancelled_from_the_command_line() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    start(&mesh[0], "work", &json!([traces.text()]), "slow").unwrap();
    traces.until_it_runs();
    mesh[0].rhd(&["cancel", "slow"]).ok();
    assert_eq!(info(&mesh[0], "slow").unwrap().status, RunStatus::Cancelled);
    assert_eq!(result(&mesh[0], "slow").unwrap_err().kind, ErrorKind::Cancelled);
    until("nothing of it runs", || (mesh[1].status().calls == 0).then_some(()));
    mesh[0].rhd(&["cancel", "nothing"]).fails(5);
    let failed = start(&mesh[0], "fails", &json!([traces.text()]), "bad").unwrap();
    let ended = until_status(&mesh[0], &failed.id.to_string(), RunStatus::Error);
    assert!(ended.error.unwrap().message.contains("as ever"));
    assert_eq!(result(&mesh[0], "bad").unwrap_err().kind, ErrorKind::Remote);
}

#[test]
fn a_closed_connection_cancels_a_run_that_somebody_waits_for_and_no_other() {
    let node = Node::start("box");
    deploy(&node, "here");
    let begin = |name: &str, keep: bool, traces: &Traces| {
        let (mut call, body) = call("work", &json!([traces.text()]));
        (call.run, call.keep) = (named(name, false), keep);
        node.ask(async |client| {
            let replies = client.request(&Request::Call { call }, &body).await?;
            traces.until_it_runs();
            drop(replies);
            Ok(())
        })
        .unwrap();
    };
    let (waited, kept) = (Traces::new(), Traces::new());
    begin("waited", false, &waited);
    until_status(&node, "waited", RunStatus::Cancelled);
    begin("kept", true, &kept);
    assert_eq!(info(&node, "kept").unwrap().status, RunStatus::Running);
    kept.go();
    assert_eq!(result(&node, "kept").unwrap(), json!("done"));
}

#[test]
fn items_of_a_run_are_replayed_from_the_start() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    traces.go();
    start(&mesh[0], "items", &json!([traces.text(), 500]), "many").unwrap();
    for _ in 0..2 {
        let (all, _) = mesh[0].ask(async |client| attach(&client, "many").await).unwrap();
        let items: Vec<String> = all
            .into_iter()
            .filter(|(reply, _)| matches!(reply, Reply::Item { .. }))
            .map(|(_, body)| body)
            .collect();
        assert_eq!(items, (0..500).map(|i| i.to_string()).collect::<Vec<_>>());
    }
    assert_eq!(traces.ran(), 1);
}

#[test]
fn an_id_runs_once_and_one_that_was_ruled_out_never() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    traces.go();
    let (first, body) = call("work", &json!([traces.text()]));
    let send = |call: &Call| {
        let call = call.clone();
        mesh[0]
            .ask(async |client| rest(client.request(&Request::Call { call }, &body).await?).await)
    };
    send(&first).unwrap();
    assert_eq!(send(&first).unwrap_err().kind, ErrorKind::Conflict);
    let mut recorded = first.clone();
    recorded.run = named("again", true);
    assert_eq!(send(&recorded).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(info(&mesh[0], &first.id.to_string()).unwrap().status, RunStatus::Completed);

    // A promise: whatever comes late under this id does not run.
    let late = Call { id: fresh(), ..first };
    assert_eq!(info(&mesh[0], &late.id.to_string()).unwrap().status, RunStatus::NotStarted);
    assert_eq!(send(&late).unwrap_err().kind, ErrorKind::Conflict);
    assert_eq!(traces.ran(), 1);
}

#[test]
fn names_of_runs_are_checked() {
    let node = Node::start("box");
    deploy(&node, "here");
    let traces = Traces::new();
    for name in ["..", "/a", "~/x", "^x", "x y", &"a".repeat(201), &fresh().to_string()] {
        let refused = start(&node, "work", &json!([traces.text()]), name).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::BadRequest, "{name}: {refused:?}");
    }
    assert_eq!(info(&node, "nobody").unwrap().status, RunStatus::NotStarted);
    assert_eq!(traces.ran(), 0);
}
