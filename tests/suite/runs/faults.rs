//! Callers, hosts, journals and disks that fail: the receipt tells the truth, and nothing runs twice.

use std::{os::unix::fs::symlink, path::Path};

use rhd_protocol::api::{PathKind, Peer};

use super::*;

/// Starts a plain call of `work` at a node; returns its id once it runs.
fn plain(node: &Node, traces: &Traces, result: &str) -> CallId {
    let (call, body) = call("work", &json!([traces.text(), result]));
    let id = call.id;
    let home = node.home().to_path_buf();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::attach(&home).await?;
            rest(client.request(&Request::Call { call }, &body).await?).await
        })
    });
    traces.until_it_runs();
    id
}

fn until_lost(node: &Node, peer: &str) {
    until(&format!("{} notices that {peer} is gone", node.name()), || {
        let lost = |other: &Peer| other.name == peer && other.path == PathKind::None;
        node.peers().iter().any(lost).then_some(())
    });
}

#[test]
fn a_run_outlives_the_node_of_its_caller() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let started = start(&mesh[0], "work", &json!([traces.text()]), "orphan").unwrap();
    let waited = Traces::new();
    let (mut second, body) = call("work", &json!([waited.text()]));
    second.run = named("waited", false);
    let home = mesh[0].home().to_path_buf();
    let waiting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::attach(&home).await?;
            rest(client.request(&Request::Call { call: second }, &body).await?).await
        })
    });
    traces.until_it_runs();
    waited.until_it_runs();
    mesh[0].kill();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind, ErrorKind::PeerLost);
    until_lost(&mesh[1], "n0");
    for (run, traces) in [("orphan", &traces), ("waited", &waited)] {
        assert_eq!(info(&mesh[2], run).unwrap().status, RunStatus::Running);
        traces.go();
        assert_eq!(result(&mesh[2], run).unwrap(), json!("done"));
        assert_eq!(traces.ran(), 1);
    }
    assert_eq!(result(&mesh[1], &started.id.to_string()).unwrap(), json!("done"));
    // Back again, it may ask as well.
    mesh[0].restart();
    mesh.until_linked();
    assert_eq!(result(&mesh[0], "orphan").unwrap(), json!("done"));
}

#[test]
fn a_plain_call_whose_callers_node_died_is_attached_to_from_another() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    // Neither fits into what is kept of every call.
    let large = "x".repeat(1 << 20);
    let (early, late) = (Traces::new(), Traces::new());
    let early_id = plain(&mesh[0], &early, &large).to_string();
    let late_id = plain(&mesh[0], &late, &large).to_string();
    mesh[0].kill();
    // Attached before the host knows that the caller is lost.
    let attached = std::thread::scope(|scope| {
        let attached = scope.spawn(|| result(&mesh[2], &early_id));
        assert_eq!(info(&mesh[2], &early_id).unwrap().status, RunStatus::Running);
        until_lost(&mesh[1], "n0");
        early.go();
        attached.join().unwrap()
    });
    assert_eq!(attached.unwrap(), json!(large));
    // Attached long after its end: the host had taken it over.
    until("it is recorded", || info(&mesh[1], &late_id).unwrap().recorded.then_some(()));
    late.go();
    until_status(&mesh[2], &late_id, RunStatus::Completed);
    mesh[1].terminate();
    mesh[1].restart();
    mesh.remove(0);
    mesh.until_linked();
    assert_eq!(result(&mesh[1], &late_id).unwrap(), json!(large));
    assert_eq!((early.ran(), late.ran()), (1, 1));
}

#[test]
fn a_small_result_waits_for_a_caller_that_died_as_it_came() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let id = plain(&mesh[0], &traces, "small").to_string();
    traces.go();
    until_status(&mesh[1], &id, RunStatus::Completed);
    mesh[0].kill();
    assert_eq!(result(&mesh[2], &id).unwrap(), json!("small"));
    assert_eq!(traces.ran(), 1);
}

#[test]
fn a_plain_generator_without_a_caller_is_closed() {
    let mut mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let (call, body) = call("items", &json!([traces.text(), 3]));
    let id = call.id.to_string();
    let home = mesh[0].home().to_path_buf();
    let items = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::attach(&home).await?;
            rest(client.request(&Request::Call { call }, &body).await?).await
        })
    });
    traces.until_it_runs();
    mesh[0].kill();
    assert!(items.join().unwrap().is_err());
    until("its finally runs", || traces.path().join("closed").exists().then_some(()));
    until_status(&mesh[1], &id, RunStatus::Cancelled);
}

#[test]
fn what_ran_on_a_killed_host_was_interrupted_and_what_had_ended_is_kept() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    let (ended, recorded, unrecorded) = (Traces::new(), Traces::new(), Traces::new());
    ended.go();
    start(&mesh[0], "work", &json!([ended.text(), "kept"]), "ended").unwrap();
    assert_eq!(result(&mesh[0], "ended").unwrap(), json!("kept"));
    start(&mesh[0], "work", &json!([recorded.text()]), "ran").unwrap();
    recorded.until_it_runs();
    let id = plain(&mesh[0], &unrecorded, "lost").to_string();
    until_status(&mesh[0], "ended", RunStatus::Completed);
    mesh[1].kill();
    until_lost(&mesh[0], "n1");
    // Nobody else can say, and nobody says that it never ran.
    for run in [id.as_str(), "ran"] {
        let unsure = info(&mesh[0], run).unwrap_err();
        assert_eq!((unsure.kind, unsure.node.as_str()), (ErrorKind::PeerLost, "n1"), "{unsure:?}");
        assert_eq!(result(&mesh[2], run).unwrap_err().kind, ErrorKind::PeerLost);
    }
    mesh[1].restart();
    mesh.until_linked();
    assert_eq!(info(&mesh[0], &id).unwrap().status, RunStatus::Interrupted);
    assert_eq!(info(&mesh[2], "ran").unwrap().status, RunStatus::Interrupted);
    let error = result(&mesh[0], "ran").unwrap_err();
    assert!(error.message.contains("n1") && error.kind == ErrorKind::PeerLost, "{error:?}");
    assert_eq!(mesh[0].rhd(&["logs", "ran"]).ok(), "working\n");
    assert_eq!(result(&mesh[0], "ended").unwrap(), json!("kept"));
    for traces in [ended, recorded, unrecorded] {
        assert_eq!(traces.ran(), 1);
    }
}

#[test]
fn what_a_stopping_host_ended_was_interrupted() {
    let mut node = Node::prepare("stops").flags(&["--set", "node.grace=1"]).up();
    deploy(&node, "here");
    let traces = Traces::new();
    start(&node, "work", &json!([traces.text()]), "cut").unwrap();
    traces.until_it_runs();
    node.terminate();
    node.restart();
    assert_eq!(info(&node, "cut").unwrap().status, RunStatus::Interrupted);
    // Its name is free again.
    traces.go();
    start(&node, "work", &json!([traces.text()]), "cut").unwrap();
    assert_eq!(result(&node, "cut").unwrap(), json!("done"));
}

fn segment(home: &Path) -> PathBuf {
    let journal = home.join("runs/journal");
    let mut segments: Vec<_> =
        fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    segments.pop().unwrap()
}

#[test]
fn a_journal_cut_in_the_middle_of_an_entry_is_read_up_to_there() {
    let mut node = Node::start("cut");
    deploy(&node, "here");
    let traces = Traces::new();
    let first = plain(&node, &traces, "first").to_string();
    traces.go();
    until_status(&node, &first, RunStatus::Completed);
    node.kill();
    let path = segment(node.home());
    let bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    fs::write(&path, &bytes[..end - 10]).unwrap();
    node.restart();
    // Its end was cut off: nobody knows it any more. That it ran is known.
    assert_eq!(info(&node, &first).unwrap().status, RunStatus::Interrupted);
    let second = plain(&node, &traces, "second").to_string();
    until_status(&node, &second, RunStatus::Completed);
    // What may have been cut off is not denied.
    let asked = info(&node, &fresh().to_string()).unwrap_err();
    assert!(asked.message.contains("remember"), "{asked:?}");
}

#[test]
fn a_full_disk_refuses_calls_before_they_run() {
    let mut node = Node::start("full");
    deploy(&node, "here");
    node.terminate();
    let path = segment(node.home());
    let whole = path.with_file_name("kept");
    fs::rename(&path, &whole).unwrap();
    symlink("/dev/full", &path).unwrap();
    node.restart();
    let traces = Traces::new();
    traces.go();
    let full = start(&node, "work", &json!([traces.text()]), "named").unwrap_err();
    assert!(full.kind == ErrorKind::QueueFull && full.hint.contains("disk"), "{full:?}");
    let (call, body) = call("work", &json!([traces.text()]));
    let send = async |client: Client| {
        rest(client.request(&Request::Call { call: call.clone() }, &body).await?).await
    };
    let full = node.ask(send).unwrap_err();
    assert!(full.message.contains("can't note") && full.hint.contains("nothing ran"), "{full:?}");
    assert_eq!(traces.ran(), 0);
    // With room again it goes on.
    node.terminate();
    fs::rename(&whole, &path).unwrap();
    node.restart();
    node.ask(send).unwrap();
    assert_eq!(traces.ran(), 1);
}

/// A folder on a disk that is memory, where there is one with room.
fn in_memory() -> Option<TempDir> {
    let stat = rustix::fs::statvfs("/dev/shm").ok()?;
    let room = stat.f_bavail * stat.f_frsize >= 256 << 20;
    room.then(|| tempfile::tempdir_in("/dev/shm").ok()).flatten()
}

#[test]
fn ten_thousand_runs_at_start_are_listed_and_pruned_and_weigh_nothing() {
    const RUNS: usize = 10_000;
    let mut node = Node::start("many");
    fs::write(node.home().join("config.toml"), "[runs]\nkeep = 20000\n").unwrap();
    deploy(&node, "here");
    let traces = Traces::new();
    let first = start(&node, "work", &json!([traces.text()]), "first").unwrap();
    traces.until_it_runs();
    node.kill();
    // Where a file costs microseconds, wherever homes are: only their number is of interest here.
    let (records, fast) = (node.home().join("runs/records"), in_memory());
    if let Some(fast) = &fast {
        let moved = fast.path().join(first.id.to_string());
        fs::create_dir(&moved).unwrap();
        for file in fs::read_dir(records.join(first.id.to_string())).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), moved.join(file.file_name())).unwrap();
        }
        fs::remove_dir_all(&records).unwrap();
        symlink(fast.path(), &records).unwrap();
    }
    let of = |id: CallId| records.join(id.to_string());
    let meta: Value = rmp_serde::from_slice(&fs::read(of(first.id).join("meta")).unwrap()).unwrap();
    for at in 1..RUNS {
        let id = fresh();
        let mut meta = meta.clone();
        meta["info"]["id"] = json!(id.to_string());
        meta["info"]["name"] = json!(format!("run-{at}"));
        fs::create_dir(of(id)).unwrap();
        fs::write(of(id).join("meta"), rmp_serde::to_vec_named(&meta).unwrap()).unwrap();
    }
    node.restart();
    assert!(node.status().rss < 120 << 20, "{} bytes", node.status().rss);
    let listed = node.rhd(&["ps", "--all", "--json"]).json();
    assert_eq!(listed.as_array().unwrap().len(), RUNS);
    assert!(listed.as_array().unwrap().iter().all(|run| run["status"] == "INTERRUPTED"));
    assert_eq!(node.rhd(&["ps", "--json"]).json().as_array().unwrap().len(), 50);
    node.terminate();
    let fewer = RUNS - 50;
    let settings = format!("[runs]\nkeep = {fewer}\n");
    fs::write(node.home().join("config.toml"), settings).unwrap();
    node.restart();
    until("old ones are removed", || {
        (fs::read_dir(&records).unwrap().count() == fewer).then_some(())
    });
}

#[test]
fn a_node_whose_runs_can_not_be_listed_is_named() {
    // Else its caller's node has a copy, and lists that.
    let mut mesh = Mesh::with(3, &["--set", "runs.copy_bytes=0"]);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    traces.go();
    start(&mesh[0], "work", &json!([traces.text()]), "there").unwrap();
    until_status(&mesh[0], "there", RunStatus::Completed);
    let listed = mesh[0].rhd(&["ps"]);
    assert!(listed.stderr.is_empty(), "{listed:?}");
    assert!(listed.ok().contains("/there"));
    mesh[1].kill();
    until_lost(&mesh[0], "n1");
    let listed = mesh[0].rhd(&["ps", "--json"]);
    assert!(listed.stderr.contains("n1") && !listed.stderr.contains("n2"), "{listed:?}");
    assert_eq!(listed.json(), json!([]));
}
