//! Calls that nobody wants any more and that go on all the same.

use std::time::Duration;

use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_ignores_cancellation_is_ended_with_its_process() {
    let config = Config { cancel_grace_ms: 200, ..Config::default() };
    let room = Room::with(config).await;
    // The cancellation may come before the sleep does: it is swallowed wherever it comes.
    let source = "import time\ndef f():\n    while True:\n        try:\n            print('begun')\n            time.sleep(60)\n        except BaseException:\n            pass\ndef g():\n    return 1\n";
    let unit = room.code(source, "f");
    let mut stream = room.start(room.invocation(&unit, json!([]))).await.unwrap();
    stream.next().await.unwrap();
    let pid = room.pid();
    drop(stream);
    let mut load = room.workers.load();
    tokio::time::timeout(LONG, load.wait_for(|load| *load == 0)).await.unwrap().unwrap();
    assert_eq!(room.call(&room.code(source, "g"), json!([])).await.value(), 1);
    assert_ne!(room.pid(), pid);
}

#[tokio::test]
async fn calls_beside_a_stuck_one_are_spared() {
    let config = Config { cancel_grace_ms: 100, shared_grace_ms: 500, ..Config::default() };
    let room = Room::with(config).await;
    let source = "import os, time\ndef stuck():\n    print('begun')\n    time.sleep(60)\ndef f(path):\n    print('begun')\n    while not os.path.exists(path):\n        time.sleep(0.01)\n    return 1\n";
    let gate = room.path("gate");
    let mut beside =
        room.start(room.invocation(&room.code(source, "f"), json!([gate]))).await.unwrap();
    beside.next().await.unwrap();
    let mut stuck =
        room.start(room.invocation(&room.code(source, "stuck"), json!([]))).await.unwrap();
    stuck.next().await.unwrap();
    drop(stuck);
    let early = tokio::time::timeout(Duration::from_millis(1_500), beside.next()).await;
    assert!(early.is_err(), "it was not spared: {early:?}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rest(beside).await.value(), 1);
    let mut load = room.workers.load();
    tokio::time::timeout(LONG, load.wait_for(|load| *load == 0)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_hangs_in_native_code_is_ended_whatever_runs_beside() {
    let config = Config { cancel_grace_ms: 100, shared_grace_ms: 500, ..Config::default() };
    let room = Room::with(config).await;
    let source = "import asyncio, ctypes, time\ndef hang():\n    while True:\n        try:\n            print('begun')\n            ctypes.PyDLL(None).sleep(600)\n        except BaseException:\n            pass\ndef f():\n    print('begun')\n    time.sleep(60)\nasync def g():\n    print('begun')\n    await asyncio.sleep(60)\ndef fine():\n    return 1\n";
    let fine = room.code(source, "fine");
    assert_eq!(room.call(&fine, json!([])).await.value(), 1);
    let on_lane = room.invocation(&room.code(source, "f"), json!([]));
    let on_loop =
        Invocation { on_loop: true, ..room.invocation(&room.code(source, "g"), json!([])) };
    // Before the process hangs: it opens no lanes and takes no coroutines after that.
    let mut beside = Vec::new();
    for inv in [on_lane, on_loop] {
        let mut stream = room.start(inv).await.unwrap();
        stream.next().await.unwrap();
        beside.push(stream);
    }
    let hang = room.invocation(&room.code(source, "hang"), json!([]));
    let mut hang = room.start(hang).await.unwrap();
    hang.next().await.unwrap();
    let pid = room.pid();
    drop(hang);
    let ends = futures::future::join_all(beside.into_iter().map(rest));
    for outcome in tokio::time::timeout(LONG, ends).await.unwrap() {
        let error = outcome.error();
        assert_eq!(error.kind, ErrorKind::EnvError);
        assert!(error.message.contains("hung in native code"), "{}", error.message);
        assert!(error.hint.contains("env of its own"), "{}", error.hint);
    }
    let again = room.call(&fine, json!([]));
    assert_eq!(tokio::time::timeout(LONG, again).await.unwrap().value(), 1);
    assert_ne!(room.pid(), pid);
}

#[tokio::test]
async fn an_instance_that_nobody_waits_for_any_more_is_dropped() {
    let room = Room::new().await;
    let source = "import time\nclass C:\n    def __init__(self, stubborn):\n        try:\n            while stubborn:\n                print('begun')\n                time.sleep(0.01)\n        except BaseException:\n            pass\n    def serve(self):\n        return 1\n";
    let unit = room.code(source, "C");
    let new = |stubborn: bool| {
        let mut inv = room.invocation(&unit, json!([stubborn]));
        (inv.call.verb, inv.call.instance) = (Verb::New, Some("/ann/c".into()));
        inv
    };
    let mut stream = room.start(new(true)).await.unwrap();
    stream.next().await.unwrap();
    let pid = room.pid();
    drop(stream);
    let mut load = room.workers.load();
    tokio::time::timeout(LONG, load.wait_for(|load| *load == 0)).await.unwrap().unwrap();
    // The name is free again; and what was waited for stays.
    assert_eq!(room.run(new(false)).await.value(), Value::Null);
    let mut serve = Invocation { unit: None, ..room.invocation(&unit, json!([])) };
    (serve.call.service, serve.call.method) = ("/ann/c".into(), Some("serve".into()));
    assert_eq!(room.run(serve).await.value(), 1);
    assert_eq!(room.pid(), pid);
}
