//! What calls get back.

use std::time::Duration;

use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

/// A test may take this long; what it waits for comes in a fraction of it.
const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_function_runs_and_its_code_is_loaded_once() {
    let room = Room::new().await;
    let unit = room
        .code("print('loading')\ndef add(a, b):\n    print('adding')\n    return a + b\n", "add");
    let first = room.call(&unit, json!([1, 2])).await;
    assert_eq!(first.logs, "loading\nadding\n");
    assert_eq!(first.value(), 3);
    for _ in 0..20 {
        let again = room.call(&unit, json!([3, 4])).await;
        assert_eq!((again.logs.as_str(), again.end.unwrap().unwrap()), ("adding\n", json!(7)));
    }
    assert_eq!(*room.workers.load().borrow(), 0);
}

#[tokio::test]
async fn new_code_replaces_old_and_code_that_fails_to_load_fails_its_calls_only() {
    let room = Room::new().await;
    let one = room.code("def f():\n    return 1\n", "f");
    let two = room.code("def f():\n    return 2\n", "f");
    let bad = room.code("print('on the way')\nimport nothing_of_this_name\n", "f");
    assert_eq!(room.call(&one, json!([])).await.value(), 1);
    assert_eq!(room.call(&two, json!([])).await.value(), 2);
    let failed = room.call(&bad, json!([])).await;
    assert_eq!(failed.logs, "on the way\n");
    let error = failed.error();
    assert!(error.message.contains("nothing_of_this_name"), "{error:?}");
    assert_eq!(error.node, "here");
    assert_eq!(room.call(&two, json!([])).await.value(), 2);
}

#[tokio::test]
async fn output_below_python_belongs_to_the_only_call_and_precedes_its_end() {
    let room = Room::new().await;
    let unit =
        room.code("import os\ndef f():\n    os.system('echo from a child; echo too >&2')\n", "f");
    for _ in 0..5 {
        let outcome = room.call(&unit, json!([])).await;
        assert!(outcome.logs.contains("from a child\n"), "{outcome:?}");
        assert!(outcome.logs.contains("too\n"), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_generator_waits_for_its_reader() {
    let room = Room::new().await;
    let source = "made = 0\ndef f(n):\n    global made\n    for i in range(n):\n        made = i + 1\n        yield 'x' * 100_000\ndef count():\n    return made\n";
    let count = room.code(source, "count");
    let mut stream =
        room.start(room.invocation(&room.code(source, "f"), json!([200]))).await.unwrap();
    stream.next().await.unwrap();
    // The rest is held up by the socket's own buffers, long before the end.
    let made = loop {
        let now = room.call(&count, json!([])).await.value();
        if now == room.call(&count, json!([])).await.value() {
            break now.as_u64().unwrap();
        }
    };
    assert!(made < 150, "{made} items were made for nobody");
    let outcome = tokio::time::timeout(LONG, rest(stream)).await.unwrap();
    assert_eq!(outcome.items.len(), 199);
}

#[tokio::test]
async fn an_unread_async_generator_neither_runs_ahead_nor_stalls_others() {
    let room = Room::new().await;
    let source = "made = 0\nasync def items(n):\n    global made\n    for i in range(n):\n        made = i + 1\n        yield i\nasync def count():\n    return made\n";
    let items = room.code(source, "items");
    let count = room.code(source, "count");
    let on_loop = |unit, args| Invocation { on_loop: true, ..room.invocation(unit, args) };
    let mut slow = room.start(on_loop(&items, json!([1_000]))).await.unwrap();
    slow.next().await.unwrap();
    let made = loop {
        let now = room.run(on_loop(&count, json!([]))).await.value();
        tokio::task::yield_now().await;
        let later = room.run(on_loop(&count, json!([]))).await.value();
        if now == later {
            break now.as_u64().unwrap();
        }
    };
    assert!(made <= 2 * u64::from(rhd_protocol::worker::ITEM_CREDIT), "{made}");
    let outcome = tokio::time::timeout(LONG, rest(slow)).await.unwrap();
    assert_eq!(outcome.items.len(), 999);
}

#[tokio::test]
async fn coroutines_run_side_by_side_beyond_the_number_of_lanes() {
    let room = Room::with(Config { lanes: 1, ..Config::default() }).await;
    let source = "import asyncio\nhere = 0\nall_here = asyncio.Event()\nasync def meet(n):\n    global here\n    here += 1\n    if here == n:\n        all_here.set()\n    await all_here.wait()\n    return here\n";
    let unit = room.code(source, "meet");
    let calls = (0..50)
        .map(|_| room.run(Invocation { on_loop: true, ..room.invocation(&unit, json!([50])) }));
    for outcome in tokio::time::timeout(LONG, futures::future::join_all(calls)).await.unwrap() {
        assert_eq!(outcome.value(), 50);
    }
}

#[tokio::test]
async fn calls_wait_for_lanes_up_to_a_bound() {
    let room = Room::with(Config { lanes: 2, queue: 3, ..Config::default() }).await;
    let source = "import os, time\ndef f(path):\n    while not os.path.exists(path):\n        time.sleep(0.01)\n    return 1\n";
    let unit = room.code(source, "f");
    let gate = room.path("gate");
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(room.start(room.invocation(&unit, json!([gate]))).await.unwrap());
    }
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(room.call(&unit, json!([gate])))).collect();
    for call in &mut waiting {
        assert!(futures::poll!(call).is_pending());
    }
    let refused = room.call(&unit, json!([gate])).await.error();
    assert_eq!(refused.kind, ErrorKind::QueueFull);
    assert!(refused.message.contains("3 calls wait"), "{}", refused.message);
    assert_eq!(*room.workers.load().borrow(), 5);
    // Whoever goes away makes room.
    drop(waiting.pop());
    waiting.push(Box::pin(room.call(&unit, json!([gate]))));
    assert!(futures::poll!(waiting.last_mut().unwrap()).is_pending());
    std::fs::write(&gate, "").unwrap();
    for stream in running {
        assert_eq!(rest(stream).await.value(), 1);
    }
    let all = futures::future::join_all(waiting);
    for outcome in tokio::time::timeout(LONG, all).await.unwrap() {
        assert_eq!(outcome.value(), 1);
    }
}

#[tokio::test]
async fn callers_take_turns() {
    let room = Room::with(Config { lanes: 1, ..Config::default() }).await;
    let source = "order = []\ndef f(who):\n    order.append(who)\n    return order\n";
    let unit = room.code(source, "f");
    let call = |who: &str| {
        let mut inv = room.invocation(&unit, json!([who]));
        inv.call.caller = who.into();
        room.run(inv)
    };
    // All are queued before the worker is up.
    let flood = futures::future::join_all((0..10).map(|_| call("flood")));
    let ann = futures::future::join_all((0..2).map(|_| call("ann")));
    let (flood, ann) = tokio::time::timeout(LONG, futures::future::join(flood, ann)).await.unwrap();
    assert!(flood.into_iter().all(|outcome| outcome.end.unwrap().is_ok()));
    let seen: Vec<_> = ann.into_iter().map(|outcome| outcome.value()).collect();
    assert_eq!(seen[1], json!(["flood", "ann", "flood", "ann"]));
}

#[tokio::test]
async fn a_timeout_is_answered_and_the_code_is_interrupted() {
    let room = Room::new().await;
    let source = "import time\ndef f(path):\n    try:\n        while True:\n            time.sleep(0.01)\n    finally:\n        open(path, 'w').close()\ndef g():\n    return 1\n";
    let unit = room.code(source, "f");
    let path = room.path("interrupted");
    room.call(&room.code(source, "g"), json!([])).await.value();
    let mut inv = room.invocation(&unit, json!([path]));
    inv.call.timeout_ms = Some(200);
    let pid = room.pid();
    let error = tokio::time::timeout(LONG, room.run(inv)).await.unwrap().error();
    assert_eq!(error.kind, ErrorKind::Timeout);
    let mut load = room.workers.load();
    tokio::time::timeout(LONG, load.wait_for(|load| *load == 0)).await.unwrap().unwrap();
    assert!(path.exists());
    assert_eq!(room.pid(), pid, "the worker lives on");
}

#[tokio::test]
async fn a_dropped_call_is_interrupted_and_its_lane_serves_again() {
    let room = Room::with(Config { lanes: 1, ..Config::default() }).await;
    let source = "import time\ndef f():\n    print('begun')\n    while True:\n        time.sleep(0.01)\ndef g():\n    return 1\n";
    let unit = room.code(source, "f");
    let mut stream = room.start(room.invocation(&unit, json!([]))).await.unwrap();
    stream.next().await.unwrap();
    let pid = room.pid();
    drop(stream);
    let other = room.code(source, "g");
    let outcome = tokio::time::timeout(LONG, room.call(&other, json!([]))).await.unwrap();
    assert_eq!(outcome.value(), 1);
    assert_eq!(room.pid(), pid);
}

#[tokio::test]
async fn one_id_runs_once_at_a_time() {
    let room = Room::new().await;
    let unit = room.code("import time\ndef f():\n    print('begun')\n    time.sleep(60)\n", "f");
    let inv = room.invocation(&unit, json!([]));
    let same = Invocation { call: inv.call.clone(), ..room.invocation(&unit, json!([])) };
    let mut stream = room.start(inv).await.unwrap();
    stream.next().await.unwrap();
    assert_eq!(room.start(same).await.unwrap_err().kind, ErrorKind::BadRequest);
}

#[tokio::test]
async fn replicas_serve_stateless_functions_only() {
    let room = Room::with(Config { lanes: 1, ..Config::default() }).await;
    let spec = EnvSpec { workers: Some(2), name: "pair".into(), ..EnvSpec::default() };
    room.ensure(&spec).await.0.unwrap();
    let source = "import os, time\ndef f(path):\n    print('begun')\n    while not os.path.exists(path):\n        time.sleep(0.01)\n    return os.getpid()\n";
    let unit = room.code(source, "f");
    let gate = room.path("gate");
    let inv = || room.invocation(&unit, json!([gate]));
    let first = room.workers.call("pair", Invocation { stateless: false, ..inv() }).await.unwrap();
    // The only lane of the first process is taken.
    let second =
        tokio::time::timeout(LONG, room.workers.call("pair", inv())).await.unwrap().unwrap();
    assert_ne!(first.incarnation, second.incarnation);
    std::fs::write(&gate, "").unwrap();
    assert_ne!(rest(first).await.value(), rest(second).await.value());
}

#[tokio::test]
async fn a_call_may_move_between_threads() {
    let room = Room::new().await;
    let unit = room.code("def f():\n    return 1\n", "f");
    let inv = room.invocation(&unit, json!([]));
    let workers = room.workers.clone();
    let call = async move { rest(workers.call(BASE, inv).await.unwrap()).await };
    assert_eq!(tokio::spawn(call).await.unwrap().value(), 1);
}
