//! Calls of compiled functions, from Rust and from the command line.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use rhd_sdk::{Client, Codec, ErrorKind, Invocation, RunStatus};
use rhd_tests::{Mesh, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use super::{PROGRAM, node, run};

/// A folder to tell what runs, and when.
struct Notes(TempDir);

impl Notes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> (PathBuf, String) {
        let path = self.0.path().join(name);
        let text = path.to_str().unwrap().to_owned();
        (path, text)
    }
}

fn appears(path: &Path) {
    until(&format!("{} is there", path.display()), || path.exists().then_some(()));
}

async fn pid(client: &Client) -> u32 {
    client.function::<(), u32>("pid").call(()).await.unwrap()
}

#[test]
fn what_serde_writes_and_reads_goes_there_and_back() {
    let node = node(&[]);
    let point = json!({"x": 1.5, "y": -2.0, "tags": ["a", "b"]});
    let mirrored = json!({"times 3": {"x": -1.5, "y": 2.0, "tags": ["b", "a"]}});
    let answer = node.ask(async |client| {
        let mirror = client.function::<(serde_json::Value, u32), serde_json::Value>("mirror");
        mirror.call((point.clone(), 3)).await
    });
    assert_eq!(answer, Ok(mirrored.clone()));
    // The same by JSON, with a named argument, and with one left out.
    let (text, kw) = (point.to_string(), ["--kw", "times=3"]);
    assert_eq!(node.rhd(&["call", "mirror", &text, kw[0], kw[1]]).json(), mirrored);
    assert!(node.rhd(&["call", "mirror", &text]).ok().contains("times 1"));
    assert_eq!(node.rhd(&["call", "letters", "héy"]).ok(), "\"h\"\n\"é\"\n\"y\"\n");
    let big = serde_bytes::ByteBuf::from(vec![7; 9 << 20]);
    let back = node.ask(async |client| {
        let bytes = client.function::<(serde_bytes::ByteBuf,), serde_bytes::ByteBuf>("bytes");
        bytes.call((big.clone(),)).await
    });
    assert_eq!(back, Ok(big));
    let shown = node.rhd(&["show", "square"]).ok();
    assert!(shown.contains("(x: u64) -> u64") && shown.contains("Squares a number."), "{shown}");
    assert!(!shown.contains("Not part"), "{shown}");
}

#[test]
fn errors_and_panics_end_the_call_and_not_the_worker() {
    let node = node(&[]);
    node.ask(async |client| {
        let before = pid(&client).await;
        let parse = client.function::<(String,), i64>("parse-it");
        assert_eq!(parse.call(("12".into(),)).await, Ok(12));
        let error = parse.call(("twelve".into(),)).await.unwrap_err();
        assert_eq!((error.kind, error.node.as_str()), (ErrorKind::Remote, "box"));
        assert_eq!(error.message, "invalid digit found in string");
        assert!(error.exc_type.ends_with("ParseIntError"), "{error:?}");

        let explode = client.function::<(String,), u64>("explode");
        let error = explode.call(("now".into(),)).await.unwrap_err();
        assert_eq!((error.kind, error.exc_type.as_str()), (ErrorKind::Remote, "panic"));
        assert_eq!(error.message, "panicked: boom: now");
        assert!(error.traceback.contains("worker.rs"), "{error:?}");
        let error = client.function::<(), ()>("explode_later").call(()).await.unwrap_err();
        assert_eq!(error.message, "panicked: late boom");
        let later = client.function::<(u64, String), String>("later");
        assert_eq!(later.call((1, "x".into())).await.as_deref(), Ok("x"));
        assert_eq!(later.call((1, String::new())).await.unwrap_err().message, "nothing to say");

        let wrong = client.function::<(String,), u64>("square").call(("x".into(),)).await;
        let error = wrong.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest);
        assert!(error.message.contains("x: no u64") && error.hint.contains("(x)"), "{error:?}");
        let none = client.function::<(), u64>("square").call(()).await.unwrap_err();
        assert!(none.message.contains("x is missing"), "{none:?}");
        let method = Invocation::of("square").method("m");
        let none = client.start(&method, Codec::Msgpack, &(1,), &json!({})).await;
        assert!(none.unwrap().next().await.unwrap().unwrap().0.is_final());
        assert_eq!(pid(&client).await, before, "the worker lives on");
        Ok(())
    })
    .unwrap();
}

#[test]
fn items_come_as_they_are_read_and_end_with_their_reader() {
    let node = node(&[]);
    let notes = Notes::new();
    let (count, count_text) = notes.file("count");
    let (ticks, ticks_text) = notes.file("ticks");
    let (ended, _) = notes.file("ticks.end");
    node.ask(async |client| {
        let falter = client.function::<(u32,), u32>("falter").stream((3,)).await?;
        let all: Vec<_> = falter.collect().await;
        assert_eq!(all[..3], [Ok(0), Ok(1), Ok(2)]);
        assert_eq!(all[3].as_ref().unwrap_err().message, "lost at 3");
        assert_eq!(all.len(), 4);

        for (name, file, text) in [("count", &count, count_text), ("ticks", &ticks, ticks_text)] {
            let many = 100_000_000_u64;
            let numbers = client.function::<(u64, String), u64>(name);
            let mut items = numbers.stream((many, text.clone())).await?;
            for n in 0..3 {
                assert_eq!(items.next().await, Some(Ok(n)));
            }
            // A reader that stops stops it.
            let mut last = String::new();
            until("it stands still", || {
                std::thread::sleep(Duration::from_millis(300));
                let now = fs::read_to_string(file).unwrap_or_default();
                let still = !now.is_empty() && now == last;
                last = now;
                still.then_some(())
            });
            assert!(last.parse::<u64>().unwrap() < many / 10);
            assert_eq!(items.next().await, Some(Ok(3)));
        }
        Ok(())
    })
    .unwrap();
    // Both readers went away.
    appears(&ended);
    let stopped = fs::read_to_string(&count).unwrap();
    assert_eq!(node.rhd(&["call", "square", "2"]).ok(), "4\n");
    until("nothing runs", || (node.status().calls == 0).then_some(()));
    assert!(fs::read_to_string(&count).unwrap().parse::<u64>().unwrap() < 90_000_000, "{stopped}");
}

#[test]
fn a_caller_that_leaves_cancels() {
    let node = node(&["--set", "workers.cancel_grace_ms=500"]);
    let notes = Notes::new();
    let (began, text) = notes.file("async");
    let (plain, plain_text) = notes.file("plain");
    let (stubborn, stubborn_text) = notes.file("stubborn");
    node.ask(async |client| {
        let before = pid(&client).await;
        // What is awaited is dropped.
        let forever = client.function::<(String,), ()>("forever");
        leave(async { forever.call((text,)).await.map(drop) }, &began).await;
        appears(&began.with_extension("end"));
        // What runs on a thread is told.
        let wait = client.function::<(String, String), u64>("wait_for");
        leave(async { wait.call((plain_text, "/nowhere".into())).await.map(drop) }, &plain).await;
        let end = plain.with_extension("end");
        until("it notes its end", || {
            (fs::read_to_string(&end).unwrap_or_default() == "cancelled").then_some(())
        });
        assert_eq!(pid(&client).await, before);
        // A deadline is the same, with an error for its caller.
        let late = client.function::<(u64, String), String>("later");
        let late = late.timeout(Duration::from_millis(50)).call((600_000, "x".into())).await;
        assert_eq!(late.unwrap_err().kind, ErrorKind::Timeout);
        assert_eq!(pid(&client).await, before);
        // What does not listen ends with its process.
        let deaf = client.function::<(String,), ()>("stubborn");
        leave(async { deaf.call((stubborn_text,)).await.map(drop) }, &stubborn).await;
        until("its worker was ended", || {
            let log = node.log();
            log.contains("a cancelled call did not stop").then_some(())
        });
        assert_ne!(pid(&client).await, before);
        Ok(())
    })
    .unwrap();
}

/// Drops a call once it has begun.
async fn leave(call: impl Future<Output = Result<(), rhd_sdk::ErrorInfo>>, began: &Path) {
    let begun = async {
        while !began.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = call => panic!("it ended: {ended:?}"),
        () = begun => {}
    }
}

#[test]
fn output_is_that_of_the_call() {
    let node = node(&[]);
    let said = node.rhd(&["call", "speak", "hello"]);
    assert_eq!(said.stdout, "null\n");
    // Two pipes have no order between them.
    let mut lines: Vec<&str> = said.stderr.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["hello err", "hello out"]);
}

#[test]
fn a_worker_that_is_killed_in_a_call_fails_it_and_the_next_finds_another() {
    let node = node(&[]);
    let notes = Notes::new();
    let (began, text) = notes.file("began");
    node.ask(async |client| {
        let before = pid(&client).await;
        let stubborn = client.function::<(String,), ()>("stubborn");
        let kill = async {
            while !began.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            kill_process(Pid::from_raw(before.cast_signed()).unwrap(), Signal::KILL).unwrap();
        };
        let (ended, ()) = tokio::join!(stubborn.call((text,)), kill);
        let error = ended.unwrap_err();
        assert_eq!(error.kind, ErrorKind::EnvError);
        assert!(
            error.message.contains("SIGKILL") && error.hint.contains("not repeated"),
            "{error:?}"
        );
        assert_ne!(pid(&client).await, before);
        Ok(())
    })
    .unwrap();
}

#[test]
fn many_calls_at_a_time_share_one_client() {
    let mesh = Mesh::of(2);
    run(PROGRAM, &mesh[0], &["n1"]).ok();
    mesh[0]
        .ask(async |client| {
            let square = client.function::<(u64,), u64>("square");
            let squares: Vec<u64> = square.map((0..500).map(|n| (n,)), 64).try_collect().await?;
            assert_eq!(squares, (0..500).map(|n| n * n).collect::<Vec<_>>(), "in order");
            let later = client.function::<(u64, String), String>("later");
            let all = stream::iter(0..200).map(|n| later.call((20, n.to_string())));
            let all: Vec<String> = all.buffer_unordered(200).try_collect().await?;
            assert_eq!(all.len(), 200);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_run_goes_on_by_itself_and_is_asked_for_later() {
    let mesh = Mesh::of(2);
    run(PROGRAM, &mesh[0], &["n1"]).ok();
    let notes = Notes::new();
    let (began, text) = notes.file("began");
    let (gate, gate_text) = notes.file("gate");
    let id = mesh[0]
        .ask(async |client| {
            let wait = client.function::<(String, String), u64>("wait_for");
            let run = wait.run_named("gated", (text, gate_text)).await?;
            assert_eq!(run.status().await?, RunStatus::Running);
            let early = run.result(Some(Duration::from_millis(50))).await.unwrap_err();
            assert_eq!(early.kind, ErrorKind::Timeout);
            Ok(run.id().to_owned())
        })
        .unwrap();
    appears(&began);
    fs::write(gate, "").unwrap();
    // Another program, by the name or the id alone, from another node too.
    for node in [&mesh[0], &mesh[1]] {
        node.ask(async |client| {
            let run = client.run::<u64>(&id);
            assert!(run.result(None).await? > 0);
            assert_eq!(run.status().await?, RunStatus::Completed);
            Ok(())
        })
        .unwrap();
    }
    let speak = mesh[0].ask(async |client| {
        let run = client.function::<(String,), ()>("speak").run(("so".into(),)).await?;
        run.result(None).await?;
        let mut said = Vec::new();
        run.logs(true, |fd, bytes| said.push((fd, bytes))).await?;
        let failed = client.function::<(String,), i64>("parse-it").run(("x".into(),)).await?;
        assert!(failed.result(None).await.unwrap_err().message.contains("invalid digit"));
        assert_eq!(failed.status().await?, RunStatus::Error);
        let forever = client.function::<(String, String), u64>("wait_for");
        let run = forever.run((notes.file("b2").1, "/nowhere".into())).await?;
        assert_eq!(run.cancel().await?.status, RunStatus::Cancelled);
        Ok(said)
    });
    let said = speak.unwrap();
    assert!(said.iter().any(|(fd, bytes)| *fd == 1 && &bytes[..] == b"so out\n"), "{said:?}");
}
