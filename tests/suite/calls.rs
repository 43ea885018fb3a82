//! Python put on a node, called from the command line and from Rust; and nodes that end meanwhile.

use std::{fs, path::Path, thread};

use rhd_protocol::{
    api::Request,
    call::{Call, Reply},
};
use rhd_sdk::ErrorKind;
use rhd_tests::{Mesh, Node, until};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use tempfile::TempDir;

#[rhd_sdk::function]
async fn add(a: i64, b: i64) -> i64;

const SOURCE: &str = r#"
import pathlib, sys, time
import rhd as rh

def add(a, b=10):
    print("adding", file=sys.stderr)
    return a + b

def count(n):
    yield from range(n)

def explode(text):
    raise ValueError(text)

def wait(folder):
    folder = pathlib.Path(folder)
    (folder / "started").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    return "done"

class Counter:
    def __init__(self, value):
        self.value = value

    def increment(self, by=1):
        self.value += by
        return self.value

    @property
    def double(self):
        return 2 * self.value

to = sys.argv[1]
for fn in (add, count, explode, wait):
    rh.function(fn, name=fn.__name__).to(to)
rh.module(Counter).to(to)(10, name="counter")
"#;

/// Puts the functions above on the node called `to`.
fn deploy(from: &Node, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("things.py");
    fs::write(&file, SOURCE).unwrap();
    from.rhd(&["python", file.to_str().unwrap(), to]).ok();
}

#[test]
fn values_items_logs_and_failures_reach_the_command_line() {
    let node = Node::start("box");
    deploy(&node, "here");
    let sum = node.rhd(&["call", "add", "2", "3"]);
    assert_eq!((sum.stdout.as_str(), sum.stderr.as_str()), ("5\n", "adding\n"));
    assert_eq!(node.rhd(&["call", "add", "-2", "--kw", "b=1"]).ok(), "-1\n");
    assert_eq!(node.rhd(&["call", "add", "x", "\"y\""]).ok(), "\"xy\"\n");
    assert_eq!(node.rhd(&["call", "count", "3"]).ok(), "0\n1\n2\n");
    assert_eq!(node.rhd(&["call", "count", "0"]).ok(), "");

    let failed = node.rhd(&["call", "explode", "boom"]).fails(1);
    assert!(failed.contains("ValueError") && failed.contains("boom"), "{failed}");
    assert!(failed.contains("in explode"), "no traceback: {failed}");
    let wrong = node.rhd(&["call", "add", "1", "2", "3"]).fails(1);
    assert!(wrong.contains("TypeError"), "{wrong}");

    assert_eq!(node.rhd(&["call", "counter.increment", "--kw", "by=5"]).ok(), "15\n");
    assert_eq!(node.rhd(&["call", "counter.double"]).ok(), "30\n");
    let hint = node.rhd(&["call", "counter"]).fails(2);
    assert!(hint.contains("counter.METHOD"), "{hint}");
    let missing = node.rhd(&["call", "counter.nothing"]);
    assert!(missing.code != 0 && missing.stderr.contains("nothing"), "{missing:?}");
}

#[test]
fn what_is_hosted_is_listed_shown_and_removed() {
    let node = Node::start("box");
    deploy(&node, "here");
    let listed = node.rhd(&["ls", "--json"]).json();
    let named = |name: &str| {
        let mut all = listed.as_array().unwrap().iter();
        all.find(|l| l["service"]["name"].as_str().unwrap().ends_with(name)).cloned()
    };
    assert_eq!(named("/add").unwrap()["service"]["kind"], "function");
    assert_eq!(named("/counter").unwrap()["service"]["kind"], "instance");
    let shown = node.rhd(&["show", "add"]).ok();
    assert!(shown.contains("(a, b=10)"), "{shown}");
    let envs = node.rhd(&["env", "ls", "--json"]).json();
    assert_eq!((&envs[0]["key"], &envs[0]["running"]), (&json!("base"), &json!(true)));
    node.rhd(&["rm", "add"]).ok();
    node.rhd(&["call", "add", "1"]).fails(5);
    assert_eq!(node.rhd(&["call", "count", "1"]).ok(), "0\n");
}

#[test]
fn rust_calls_python_on_another_node() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let sum = mesh[0].ask(async |client| add(&client, 2, 3).await);
    assert_eq!(sum, Ok(5));
    let listed = mesh[0].rhd(&["ls", "--json"]).json();
    assert!(listed.as_array().unwrap().iter().all(|l| l["node"] == "n1"), "{listed}");
    let far = mesh[0].rhd(&["call", "add", "1", "1", "--node", "n1"]).ok();
    assert_eq!(far, "2\n");
    let nobody = mesh[0].rhd(&["call", "add", "1", "1", "--node", "n7"]).fails(5);
    assert!(nobody.contains("n7"), "{nobody}");
}

#[test]
fn sigterm_lets_a_running_call_end() {
    let mut node = Node::start("drains");
    deploy(&node, "here");
    let folder = tempfile::tempdir().unwrap();
    let home = node.home().to_str().unwrap().to_owned();
    let call = call_wait(&home, &folder);
    node.signal(Signal::TERM);
    fs::write(folder.path().join("go"), "").unwrap();
    assert_eq!(node.gone().code(), Some(0));
    assert_eq!(call.join().unwrap().ok(), "\"done\"\n");
}

#[test]
fn a_second_signal_waits_for_nothing() {
    let mut node = Node::prepare("hurries").flags(&["--set", "node.grace=3600"]).up();
    deploy(&node, "here");
    let folder = tempfile::tempdir().unwrap();
    let home = node.home().to_str().unwrap().to_owned();
    let call = call_wait(&home, &folder);
    node.signal(Signal::TERM);
    until("it drains", || node.log().contains("draining").then_some(()));
    node.signal(Signal::INT);
    assert_eq!(node.gone().code(), Some(0));
    assert_ne!(call.join().unwrap().code, 0);
    assert!(node.log().contains("aborted: "), "{}", node.log());
}

#[test]
fn sigterm_aborts_what_outlasts_the_grace_period_and_says_so() {
    let mut node = Node::prepare("aborts").flags(&["--set", "node.grace=1"]).up();
    deploy(&node, "here");
    let worker = worker(&node);
    let folder = tempfile::tempdir().unwrap();
    let home = node.home().to_str().unwrap().to_owned();
    let call = call_wait(&home, &folder);
    assert_eq!(node.terminate().code(), Some(0));
    let ended = call.join().unwrap();
    assert!(ended.code != 0 && ended.stderr.contains("hint: "), "{ended:?}");
    assert!(node.log().contains("aborted: "), "{}", node.log());
    dies(worker);
}

#[test]
fn kill_9_leaves_no_worker_and_the_caller_hears_of_it() {
    let mut mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let worker = worker(&mesh[1]);
    let folder = tempfile::tempdir().unwrap();
    let home = mesh[0].home().to_str().unwrap().to_owned();
    let call = call_wait(&home, &folder);
    mesh[1].kill();
    let ended = call.join().unwrap();
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.stderr.contains("hint: "), "{ended:?}");
    dies(worker);
    // It comes back with what it hosted, and the call was not repeated.
    fs::remove_file(folder.path().join("started")).unwrap();
    mesh[1].restart();
    mesh.until_linked();
    until("the function answers again", || {
        mesh[0].ask(async |client| add(&client, 2, 3).await).ok()
    });
    assert!(!folder.path().join("started").exists(), "the lost call ran again");
}

#[test]
fn ctrl_c_cancels_the_call_and_ends_with_130() {
    let node = Node::start("box");
    deploy(&node, "here");
    let folder = tempfile::tempdir().unwrap();
    let mut call =
        node.command(&["call", "wait", folder.path().to_str().unwrap()]).spawn().unwrap();
    let started = folder.path().join("started");
    until("the call runs", || started.exists().then_some(()));
    kill_process(Pid::from_raw(call.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert_eq!(call.wait().unwrap().code(), Some(130));
    until("the call is cancelled", || (node.status().calls == 0).then_some(()));
    assert_eq!(node.rhd(&["call", "add", "1", "2"]).ok(), "3\n");
}

#[test]
fn a_call_whose_caller_went_away_while_it_waited_never_runs() {
    let node = Node::prepare("busy").flags(&["--set", "workers.lanes=1"]).up();
    deploy(&node, "here");
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let running = call_wait(node.home().to_str().unwrap(), &first);
    let mut waiting =
        node.command(&["call", "wait", second.path().to_str().unwrap()]).spawn().unwrap();
    until("the second call waits for the only lane", || (node.status().calls == 2).then_some(()));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    until("it left the queue", || (node.status().calls == 1).then_some(()));
    fs::write(first.path().join("go"), "").unwrap();
    assert_eq!(running.join().unwrap().ok(), "\"done\"\n");
    assert_eq!(node.rhd(&["call", "add", "1", "2"]).ok(), "3\n");
    assert!(!second.path().join("started").exists(), "it ran for nobody");
}

#[test]
fn instances_are_forgotten_on_every_node_when_their_worker_ends() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let instances = |node: &Node| {
        let listed = node.rhd(&["ls", "--json"]).json();
        let kinds = listed.as_array().unwrap().iter().map(|l| l["service"]["kind"].clone());
        kinds.filter(|kind| kind == "instance").count()
    };
    until("it is seen on both", || (instances(&mesh[0]) == 1).then_some(()));
    kill_process(worker(&mesh[1]), Signal::KILL).unwrap();
    for node in [&mesh[1], &mesh[0]] {
        until("it is forgotten", || (instances(node) == 0).then_some(()));
    }
    let said = mesh[0].rhd(&["call", "counter.increment"]).fails(5);
    assert!(said.contains("counter"), "{said}");
    assert_eq!(mesh[0].rhd(&["call", "add", "1", "2"]).ok(), "3\n", "functions are loaded again");
}

#[test]
fn a_refused_call_is_answered_before_its_arguments_are_sent() {
    let mesh = Mesh::of(2);
    let call: Call = serde_json::from_value(json!({
        "v": rhd_protocol::VERSION, "id": "a".repeat(26), "service": "/nobody/nothing",
        "node": "n1", "parts": [64 << 20],
    }))
    .unwrap();
    // More than the peer takes in before it reads.
    let body = vec![0; 64 << 20];
    let reply = mesh[0].ask(async |client| {
        let mut replies = client.request(&Request::Call { call }, &body).await?;
        replies.next().await
    });
    match reply.unwrap() {
        Some((Reply::Fail { error, .. }, _)) => {
            assert_eq!((error.kind, &*error.node), (ErrorKind::NotFound, "n1"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_last_deployment_of_a_name_is_the_one_that_is_called() {
    let mesh = Mesh::of(2);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("where.py");
    let deploy = |value: u8, to: &str| {
        let source = format!(
            "import rhd as rh\ndef which():\n    return {value}\nrh.function(which, name='which').to({to:?})\n"
        );
        fs::write(&file, source).unwrap();
        mesh[0].rhd(&["python", file.to_str().unwrap()]).ok();
    };
    let says = |value: &str| {
        until(&format!("it is {value}"), || {
            (mesh[0].rhd(&["call", "which"]).stdout == value).then_some(())
        });
    };
    deploy(1, "n0");
    says("1\n");
    deploy(2, "n1");
    says("2\n");
    // What n0 has had all along.
    deploy(1, "n0");
    says("1\n");
}

#[test]
fn a_peer_that_joined_as_a_node_changes_nothing_elsewhere() {
    let (host, guest) = (Node::start("host"), Node::start("guest"));
    deploy(&host, "here");
    guest.join(host.rhd(&["invite", "--role", "node"]).ok().trim());
    until("the guest sees what is hosted", || {
        guest.rhd(&["ls", "--json"]).stdout.contains("/counter").then_some(())
    });
    let name = host.ask(async |client| client.describe("counter", None).await).unwrap();
    let drop: Call = serde_json::from_value(json!({
        "v": rhd_protocol::VERSION, "id": "a".repeat(26), "service": name.service.name,
        "verb": "drop", "node": "host",
    }))
    .unwrap();
    let reply = guest
        .ask(async |client| client.request(&Request::Call { call: drop }, &[]).await?.next().await);
    match reply.unwrap() {
        Some((Reply::Fail { error, .. }, _)) => {
            assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    guest.rhd(&["rm", "counter", "--node", "host"]).fails(4);
    guest.rhd(&["env", "build", "--node", "host", "--name", "theirs"]).fails(4);
    assert_eq!(host.rhd(&["call", "counter.increment"]).ok(), "11\n");
}

#[test]
fn a_killed_caller_cancels_its_call_after_a_time_of_grace() {
    let mut mesh = Mesh::with(2, &["--set", "runs.orphan_grace=1"]);
    deploy(&mesh[0], "n1");
    let folder = tempfile::tempdir().unwrap();
    let home = mesh[0].home().to_str().unwrap().to_owned();
    let call = call_wait(&home, &folder);
    assert_eq!(mesh[1].status().calls, 1);
    mesh[0].kill();
    assert_ne!(call.join().unwrap().code, 0);
    until("the call is cancelled", || (mesh[1].status().calls == 0).then_some(()));
    let error = mesh[0].ask(async |client| client.status().await).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DaemonUnavailable);
}

/// Calls `wait` in a thread; returns when it runs.
fn call_wait(home: &str, folder: &TempDir) -> thread::JoinHandle<rhd_tests::Outcome> {
    let args = ["--home", home, "call", "wait", folder.path().to_str().unwrap()].map(str::to_owned);
    let call = thread::spawn(move || rhd_tests::rhd(&args.each_ref().map(String::as_str), ""));
    let started = folder.path().join("started");
    until("the call runs", || (started.exists() || call.is_finished()).then_some(()));
    assert!(started.exists(), "{:?}", call.join().unwrap());
    call
}

/// Process id of the worker of the base env.
fn worker(node: &Node) -> Pid {
    let envs = node.rhd(&["env", "ls", "--json"]).json();
    Pid::from_raw(i32::try_from(envs[0]["pid"].as_i64().unwrap()).unwrap()).unwrap()
}

/// Waits until a process is gone, or dead and not yet waited for.
fn dies(pid: Pid) {
    until("the worker is gone", || {
        let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
        let dead = stat.unwrap_or_default().contains(") Z ");
        (dead || test_kill_process(pid).is_err()).then_some(())
    });
}
