//! Processes that die, hang, fork and flood.

use std::time::Duration;

use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

const LONG: Duration = Duration::from_secs(60);

async fn dies(body: &str) -> ErrorInfo {
    let room = Room::new().await;
    let source =
        format!("import os, sys, signal, ctypes\ndef f():\n    {body}\ndef g():\n    return 1\n");
    let error = tokio::time::timeout(LONG, room.call(&room.code(&source, "f"), json!([])))
        .await
        .unwrap()
        .error();
    let unit = room.code(&source, "g");
    let after = tokio::time::timeout(LONG, room.call(&unit, json!([])));
    assert_eq!(after.await.unwrap().value(), 1, "the next call runs in a new worker");
    assert_eq!(error.kind, ErrorKind::EnvError);
    assert!(!error.hint.is_empty() && error.node == "here" && !error.call.is_empty(), "{error:?}");
    error
}

#[tokio::test]
async fn a_crash_is_named_with_its_last_words() {
    let error = dies("os.write(2, b'last words\\n'); ctypes.string_at(0)").await;
    assert!(error.message.contains("signal 11, SIGSEGV"), "{}", error.message);
    assert!(error.message.contains("last words"), "{}", error.message);
}

#[tokio::test]
async fn an_exit_is_named() {
    assert!(dies("os._exit(3)").await.message.contains("exit status 3"));
}

#[tokio::test]
async fn a_kill_hints_at_memory() {
    assert!(dies("os.kill(os.getpid(), 9)").await.hint.contains("memory"));
}

#[tokio::test]
async fn a_child_in_a_session_of_its_own_that_holds_the_lanes_hides_no_death() {
    // The child escapes the group and keeps every descriptor open.
    let body = "r = ctypes.CDLL(None).fork()\n    if r == 0:\n        os.setsid()\n        import time; time.sleep(5); os._exit(0)\n    os._exit(4)";
    assert!(dies(body).await.message.contains("exit status 4"));
}

#[tokio::test]
async fn closed_lanes_fail_the_call() {
    let error = dies("os.closerange(3, 100)\n    import time; time.sleep(60)").await;
    assert!(error.message.contains("worker of env base"), "{}", error.message);
}

#[tokio::test]
async fn junk_on_a_lane_ends_the_worker() {
    let body = "[os.write(fd, b'x' * 64) for fd in range(3, 64) if os.path.exists(f'/proc/self/fd/{fd}') and os.readlink(f'/proc/self/fd/{fd}').startswith('socket')]\n    import time; time.sleep(60)";
    let error = dies(body).await;
    assert!(error.message.contains("was ended"), "{}", error.message);
}

#[tokio::test]
async fn calls_that_wait_go_on_in_the_next_process() {
    let room = Room::with(Config { lanes: 1, ..Config::default() }).await;
    let source = "import os\ndef f(die):\n    if die:\n        os._exit(1)\n    return 1\n";
    let unit = room.code(source, "f");
    let calls = [true, false, false, true, false].map(|die| room.call(&unit, json!([die])));
    let ends = tokio::time::timeout(LONG, futures::future::join_all(calls)).await.unwrap();
    let fine: Vec<bool> = ends.into_iter().map(|outcome| outcome.end.unwrap().is_ok()).collect();
    assert_eq!(fine, [false, true, true, false, true]);
}

#[tokio::test]
async fn a_death_that_a_busy_runtime_has_not_heard_of_costs_no_call() {
    let room = Room::new().await;
    let unit = room.code("def f():\n    return 1\n", "f");
    let stream = room.start(room.invocation(&unit, json!([]))).await.unwrap();
    let incarnation = stream.incarnation;
    assert_eq!(rest(stream).await.value(), 1);
    let pid = rustix::process::Pid::from_raw(room.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    // Without an await, the end of the lanes stays unread.
    while room.workers.holds(BASE, incarnation) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(room.call(&unit, json!([])).await.value(), 1);
}

#[tokio::test]
async fn restarts_are_given_up_with_the_cause_and_tried_again_on_request() {
    let room = Room::new().await;
    let spec = EnvSpec::base();
    let unit = room.code("import os\ndef f():\n    os.write(2, b'the cause\\n')\n    os._exit(9)\ndef g():\n    return 1\n", "f");
    let ended = async {
        loop {
            let error = room.call(&unit, json!([])).await.error();
            if error.message.contains("given up") {
                break error;
            }
        }
    };
    let error = tokio::time::timeout(LONG, ended).await.unwrap();
    assert_eq!(error.kind, ErrorKind::EnvError);
    assert!(error.message.contains("5 times") && error.message.contains("the cause"), "{error:?}");
    room.ensure(&spec).await.0.unwrap();
    assert!(room.pid().is_some());
}

#[tokio::test]
async fn a_worker_that_hangs_on_start_is_ended() {
    let room = Room::with(Config { start_timeout_ms: 300, ..Config::default() }).await;
    let site = room.path("site");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("sitecustomize.py"), "import time; time.sleep(100)").unwrap();
    let mut spec = EnvSpec { name: "hangs".into(), ..EnvSpec::default() };
    spec.env_vars.insert("PYTHONPATH".into(), site.display().to_string());
    let error = tokio::time::timeout(LONG, room.ensure(&spec)).await.unwrap().0.unwrap_err();
    assert!(error.message.contains("did not come up within 0.3 s"), "{}", error.message);
}

#[tokio::test]
async fn a_worker_that_fails_to_start_says_why() {
    let room = Room::new().await;
    let site = room.path("site");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(
        site.join("sitecustomize.py"),
        "import os; os.write(2, b'no, never\\n'); os._exit(7)",
    )
    .unwrap();
    let mut spec = EnvSpec { name: "fails".into(), ..EnvSpec::default() };
    spec.env_vars.insert("PYTHONPATH".into(), site.display().to_string());
    let error = tokio::time::timeout(LONG, room.ensure(&spec)).await.unwrap().0.unwrap_err();
    assert!(error.message.contains("no, never"), "{}", error.message);
    assert!(error.message.contains("exit status 7"), "{}", error.message);
}

#[tokio::test]
async fn a_flood_on_the_descriptors_stalls_nobody() {
    let room = Room::new().await;
    let source = "import os\ndef flood(mb, path):\n    print('begun')\n    for _ in range(mb):\n        os.write(1, b'x' * 1048576)\n    open(path, 'w').close()\n    return mb\ndef g():\n    return 1\n";
    let quick = room.code(source, "g");
    let over = room.path("over");
    let inv = room.invocation(&room.code(source, "flood"), json!([300, over]));
    let mut flooding = room.start(inv).await.unwrap();
    flooding.next().await.unwrap();
    // Nobody reads the flood: it ends all the same, and others are served meanwhile.
    let served = async {
        for _ in 0..5 {
            assert_eq!(room.call(&quick, json!([])).await.value(), 1);
        }
        while !over.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, served).await.unwrap();
    // What is kept is bounded, and the loss is told.
    let outcome = tokio::time::timeout(LONG, rest(flooding)).await.unwrap();
    assert!(outcome.logs.len() < 4 * 1024 * 1024, "{}", outcome.logs.len());
    assert!(outcome.logs.contains("pieces of output dropped here"));
    assert_eq!(outcome.value(), 300);
}

#[tokio::test]
async fn shutdown_waits_then_aborts_and_says_what() {
    let mut room = Room::new().await;
    let unit = room.code("import time\ndef f():\n    print('begun')\n    time.sleep(60)\n", "f");
    let mut stream = room.start(room.invocation(&unit, json!([]))).await.unwrap();
    stream.next().await.unwrap();
    let aborted = tokio::time::timeout(LONG, room.shutdown(50)).await.unwrap();
    assert_eq!(aborted.len(), 1);
    assert!(aborted[0].contains("/ann/f"), "{aborted:?}");
    let error = rest(stream).await.error();
    assert!(error.message.contains("shutting down"), "{}", error.message);
    let refused = room.call(&unit, json!([])).await.error();
    assert_eq!(refused.kind, ErrorKind::DaemonUnavailable);
}

/// Not a test of its own: what the next one runs in a process that it kills.
#[tokio::test]
#[ignore = "run by the test below"]
async fn daemon_to_be_killed() {
    let Some(home) = std::env::var_os("RHD_TEST_ORPHAN_HOME") else { return };
    let home = PathBuf::from(home);
    let (workers, _tasks) = Workers::start(&home, "here", Config::default()).await.unwrap();
    let (tx, _rx) = mpsc::channel(16);
    let info = workers.ensure(&EnvSpec::base(), tx).await.unwrap();
    specs::write_atomically(&home.join("pid"), info.pid.unwrap().to_string().as_bytes()).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_daemon_leaves_no_worker() {
    let home = tempfile::tempdir().unwrap();
    let mut daemon = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "workers::tests::deaths::daemon_to_be_killed"])
        .env("RHD_TEST_ORPHAN_HOME", home.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let gone = async {
        let pid = loop {
            match std::fs::read_to_string(home.path().join("pid")) {
                Ok(pid) => break pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let worker = PathBuf::from(format!("/proc/{pid}/environ"));
        assert!(worker.exists());
        daemon.kill().await.unwrap();
        // A zombie that nobody reaps yet has no environment left.
        while std::fs::read(&worker).is_ok_and(|environ| !environ.is_empty()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.unwrap();
}
