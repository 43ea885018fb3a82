//! Brief calls, which share a lane.

use std::time::Duration;

use futures::future::join_all;
use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

/// A test may take this long; what it waits for comes in a fraction of it.
const LONG: Duration = Duration::from_secs(60);

/// Brief unless it is told to wait.
const SOURCE: &str = "import os, time\nheld = set()\ndef f(n, hold=None):\n    if hold:\n        print('held', flush=True)\n        held.add(hold)\n        while hold in held:\n            time.sleep(0.002)\n    return n\ndef let(hold):\n    held.discard(hold)\ndef die():\n    os._exit(3)\n";

/// A room whose calls of `f` share a lane.
async fn sharing() -> (Room, Arc<LoadUnit>) {
    let room = Room::new().await;
    let unit = room.code(SOURCE, "f");
    tokio::time::timeout(LONG, async {
        while !room.workers.shares(BASE) {
            flood(&room, &unit).await;
        }
    })
    .await
    .unwrap();
    (room, unit)
}

async fn flood(room: &Room, unit: &Arc<LoadUnit>) {
    let calls = join_all((0..100).map(|n| room.call(unit, json!([n]))));
    let outcomes = tokio::time::timeout(LONG, calls).await.unwrap();
    let values: Vec<Value> = outcomes.into_iter().map(Outcome::value).collect();
    assert_eq!(values, (0..100).map(Value::from).collect::<Vec<_>>());
}

/// Starts a call that waits, and returns once it does.
async fn held(room: &Room, unit: &Arc<LoadUnit>, name: &str) -> CallStream {
    let mut stream = room.start(room.invocation(unit, json!([name, name]))).await.unwrap();
    let told = tokio::time::timeout(LONG, stream.next()).await.unwrap().unwrap();
    assert!(matches!(told.header(), Ok(Reply::Log { .. })), "{told:?}");
    stream
}

#[tokio::test]
async fn each_of_many_gets_its_own_answer() {
    let (room, unit) = sharing().await;
    for _ in 0..5 {
        flood(&room, &unit).await;
    }
    assert_eq!(*room.workers.load().borrow(), 0);
}

#[tokio::test]
async fn one_that_takes_its_time_holds_up_no_other() {
    let (room, unit) = sharing().await;
    // The first has a lane of its own, as nothing else runs.
    let first = held(&room, &unit, "a").await;
    let second = held(&room, &unit, "b").await;
    let third = held(&room, &unit, "c").await;
    flood(&room, &unit).await;
    let release = room.code(SOURCE, "let");
    for (name, stream) in [("c", third), ("b", second), ("a", first)] {
        room.call(&release, json!([name])).await.value();
        let outcome = tokio::time::timeout(LONG, rest(stream)).await.unwrap();
        assert_eq!(outcome.value(), name);
    }
}

#[tokio::test]
async fn one_can_be_cancelled_beside_the_others() {
    let (room, unit) = sharing().await;
    let pid = room.pid();
    let first = held(&room, &unit, "a").await;
    let second = held(&room, &unit, "b").await;
    drop(second);
    flood(&room, &unit).await;
    room.call(&room.code(SOURCE, "let"), json!(["a"])).await.value();
    assert_eq!(rest(first).await.value(), "a");
    let idle = async {
        while *room.workers.load().borrow() > 0 {
            room.workers.load().changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG, idle).await.unwrap();
    assert_eq!(room.pid(), pid, "the worker lives on");
}

#[tokio::test]
async fn all_fail_with_their_process_and_the_next_ones_run() {
    let (room, unit) = sharing().await;
    let first = held(&room, &unit, "a").await;
    let second = held(&room, &unit, "b").await;
    let died = room.call(&room.code(SOURCE, "die"), json!([])).await.error();
    for error in [died, rest(first).await.error(), rest(second).await.error()] {
        assert_eq!(error.kind, ErrorKind::EnvError, "{error:?}");
        assert!(error.message.contains("exit status 3"), "{error:?}");
    }
    flood(&room, &unit).await;
}
