//! The room without workers: replies come from the tests themselves.

use std::{collections::VecDeque, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    call::{Codec, Reply, RunOptions},
    id::CallId,
    run::{RunAsk, RunInfo, RunStatus},
};

use super::*;

struct Room {
    runs: Runs,
    _home: tempfile::TempDir,
}

impl Room {
    fn new(config: Config) -> Self {
        let home = tempfile::tempdir().unwrap();
        let me = NodeId::from_bytes([1; 32]);
        let name = || "here".to_owned();
        let runs = Runs::open(home.path(), me, name, config, CancellationToken::new()).unwrap();
        Self { runs, _home: home }
    }

    async fn record(&self, id: u8, name: &str) -> Result<Recording, ErrorInfo> {
        let run = Some(RunOptions { name: name.into(), detach: true, get: false });
        let call = Call { run, ..Call::new(CallId::from_bytes([id; 16]), "/a/f") };
        match self.call(call).await? {
            Recorded::Now(recording) => Ok(recording),
            Recorded::Before(info) => panic!("{info:?} in its place"),
        }
    }

    async fn call(&self, call: Call) -> Result<Recorded, ErrorInfo> {
        self.runs.record(&call, &Bytes::from_static(b"args"), NodeId::from_bytes([2; 32])).await
    }
}

/// Replies that are there already.
struct Ready(VecDeque<Frame>, Option<Running>);

impl Ready {
    fn new(recording: &Recording, frames: impl IntoIterator<Item = Frame>) -> Self {
        Self(frames.into_iter().collect(), Some(recording.admitted().running()))
    }
}

impl Source for Ready {
    async fn next(&mut self) -> Option<Frame> {
        let frame = self.0.pop_front();
        if self.0.is_empty() {
            drop(self.1.take());
        }
        frame
    }
}

fn log(text: &str) -> Frame {
    Frame::new(&Reply::Log { id: None, fd: 1 }, text.to_owned().into_bytes()).unwrap()
}

fn item(len: usize) -> Frame {
    let reply = Reply::Item { id: None, codec: Codec::Json, parts: vec![len as u64] };
    Frame::new(&reply, vec![b'7'; len]).unwrap()
}

fn done(len: usize) -> Frame {
    Frame::new(&Reply::done(len), vec![b'7'; len]).unwrap()
}

async fn all(mut attached: Attached) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(frame) = attached.next().await {
        frames.push(frame);
    }
    frames
}

fn attach(logs: bool) -> RunAsk {
    RunAsk::Attach { logs, timeout_ms: None }
}

#[tokio::test]
async fn readers_at_any_time_and_pace_get_the_same_replies() {
    let room = Room::new(Config::default());
    let recording = room.record(1, "r").await.unwrap();
    let id = recording.admitted().id;
    let frames: Vec<Frame> =
        [log("a"), item(3), item(600_000), log("b"), item(0), done(300_000)].into();
    let early = room.runs.attach(id, attach(true)).await.unwrap();
    let source = Ready::new(&recording, frames.clone());
    let (early, ()) = tokio::join!(all(early), recording.pump(source));
    assert_eq!(early, frames);
    let late = all(room.runs.attach(id, attach(false)).await.unwrap()).await;
    let quiet: Vec<Frame> =
        frames.iter().filter(|f| !matches!(f.header(), Ok(Reply::Log { .. }))).cloned().collect();
    assert_eq!(late, quiet);
    let mut logs = all(room.runs.attach(id, RunAsk::Logs { follow: true }).await.unwrap()).await;
    let summary: RunInfo = rhd_protocol::frame::decode(&logs.pop().unwrap().body).unwrap();
    assert_eq!((summary.status, summary.result), (RunStatus::Completed, Some(300_000)));
    assert_eq!(logs, [log("a"), log("b")]);
    assert_eq!(room.runs.inputs(id).await.unwrap().body, &b"args"[..]);
}

#[tokio::test]
async fn output_that_finds_no_room_is_dropped_and_items_that_find_none_end_the_run() {
    let room = Room::new(Config { max_bytes: 40_000, ..Config::default() });
    let chatty = room.record(1, "chatty").await.unwrap();
    let id = chatty.admitted().id;
    let mut frames: Vec<Frame> = (0..100).map(|_| log(&"x".repeat(1000))).collect();
    frames.push(done(5));
    let source = Ready::new(&chatty, frames);
    chatty.pump(source).await;
    let kept = all(room.runs.attach(id, attach(true)).await.unwrap()).await;
    assert!(kept.len() > 5 && kept.len() < 20, "{}", kept.len());
    assert_eq!(kept.last(), Some(&done(5)));

    let greedy = room.record(2, "greedy").await.unwrap();
    let id = greedy.admitted().id;
    let source = Ready::new(&greedy, (0..100).map(|_| item(1000)).chain([done(5)]));
    greedy.pump(source).await;
    let info = room.runs.info(id, None).await.unwrap();
    assert_eq!(info.status, RunStatus::Error, "{info:?}");
    let kept = all(room.runs.attach(id, attach(true)).await.unwrap()).await;
    let Ok(Reply::Fail { error, .. }) = kept.last().unwrap().header() else { panic!("{kept:?}") };
    assert!(error.kind == ErrorKind::QueueFull && error.hint.contains("max_bytes"), "{error:?}");
}

#[tokio::test]
async fn a_result_that_can_not_be_kept_reaches_those_who_wait_and_is_not_invented_later() {
    let room = Room::new(Config::default());
    let mut recording = room.record(1, "full").await.unwrap();
    let id = recording.admitted().id;
    recording.replies = Arc::new(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let waiting = room.runs.attach(id, attach(true)).await.unwrap();
    let source = Ready::new(&recording, [log("a"), done(9)]);
    let (got, ()) = tokio::join!(all(waiting), recording.pump(source));
    assert_eq!(got, [done(9)]);
    let info = room.runs.info(id, None).await.unwrap();
    assert_eq!((info.status, info.result), (RunStatus::Completed, None));
    let later = all(room.runs.attach(id, attach(true)).await.unwrap()).await;
    let Ok(Reply::Fail { error, .. }) = later[0].header() else { panic!("{later:?}") };
    assert!(error.message.contains("could not be kept"), "{error:?}");
}

#[tokio::test]
async fn a_name_is_free_again_when_its_run_has_ended_and_means_the_newest() {
    let room = Room::new(Config::default());
    let first = room.record(1, "r").await.unwrap();
    assert_eq!(room.record(2, "r").await.unwrap_err().kind, ErrorKind::Conflict);
    let (one, two) = (first.admitted().id, CallId::from_bytes([3; 16]));
    let source = Ready::new(&first, [done(1)]);
    first.pump(source).await;
    assert_eq!(room.runs.id_of("r").unwrap(), Some(one));
    let second = room.record(3, "r").await.unwrap();
    let source = Ready::new(&second, [done(2)]);
    assert_eq!(room.runs.remove(two).await.unwrap_err().kind, ErrorKind::Conflict);
    second.pump(source).await;
    assert_eq!(room.runs.id_of("r").unwrap(), Some(two));
    room.runs.remove(two).await.unwrap();
    assert_eq!(room.runs.id_of("r").unwrap(), Some(one));
    room.runs.remove(one).await.unwrap();
    assert_eq!(room.runs.id_of("r").unwrap(), None);
    // Removed or not: no id runs twice.
    assert_eq!(room.record(3, "other").await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn old_records_go_by_number_age_and_size_and_what_runs_stays() {
    let room = Room::new(Config { keep: 2, ..Config::default() });
    let running = room.record(9, "runs").await.unwrap();
    for id in 1..=4 {
        let recording = room.record(id, &format!("r{id}")).await.unwrap();
        let source = Ready::new(&recording, [done(1000)]);
        recording.pump(source).await;
        // A millisecond between them: they go by time.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let left =
        |records: &Records| prune::records(records).into_iter().map(|i| i.name).collect::<Vec<_>>();
    prune::prune(&room.runs.records);
    assert_eq!(left(&room.runs.records), ["r4", "r3", "runs"]);
    assert_eq!(room.runs.id_of("r1").unwrap(), None);
    let mut meta = room.runs.records.folder(CallId::from_bytes([4; 16])).read().unwrap();
    (meta.info.started_ms, meta.info.ended_ms) = (1, 2);
    room.runs.records.folder(meta.info.id).write(&meta, false).unwrap();
    prune::prune(&room.runs.records);
    assert_eq!(
        left(&room.runs.records),
        ["runs", "r3"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>()
    );
    drop(running);
}

#[tokio::test]
async fn a_call_ends_when_its_outcome_is_known_and_nothing_of_it_runs() {
    let room = Room::new(Config::default());
    let call = Call::new(CallId::from_bytes([1; 16]), "/a/f");
    let admitted = room.runs.admit(&call, room.runs.records.admissions.me).unwrap();
    let running = admitted.running();
    admitted.dropped();
    let status = async || room.runs.info(call.id, None).await.unwrap().status;
    assert_eq!(status().await, RunStatus::Running, "its worker has not let go of it");
    drop(running);
    assert_eq!(status().await, RunStatus::Cancelled);
    // Too late for another word.
    admitted.replied(&done(1));
    assert_eq!(status().await, RunStatus::Cancelled);
    assert!(lock(&room.runs.records.admissions.running).is_empty());
}

/// A call that another run of its name may answer.
fn shared(id: u8) -> Call {
    let run = RunOptions { name: "/a/r".into(), detach: false, get: true };
    Call { run: Some(run), ..Call::new(CallId::from_bytes([id; 16]), "/a/f") }
}

#[tokio::test]
async fn of_many_calls_at_once_for_one_name_one_runs_and_all_get_it() {
    let room = Room::new(Config::default());
    let calls = (1..=20).map(|id| room.call(shared(id)));
    let mut recorded = futures::future::try_join_all(calls).await.unwrap();
    let now = |recorded: &Recorded| matches!(recorded, Recorded::Now(_));
    assert_eq!(recorded.iter().filter(|r| now(r)).count(), 1);
    let at = recorded.iter().position(now).unwrap();
    let Recorded::Now(recording) = recorded.swap_remove(at) else { panic!() };
    let id = recording.admitted().id;
    let mut waiting = Vec::new();
    for before in recorded {
        let Recorded::Before(info) = before else { panic!("{before:?}") };
        assert_eq!((info.id, info.status), (id, RunStatus::Running));
        waiting.push(all(room.runs.attach(info.id, attach(true)).await.unwrap()));
    }
    let source = Ready::new(&recording, [done(7)]);
    let (got, ()) = tokio::join!(futures::future::join_all(waiting), recording.pump(source));
    assert!(got.iter().all(|frames| *frames == [done(7)]), "{got:?}");
    // Later, too; the ids that did not run are none.
    let Recorded::Before(info) = room.call(shared(30)).await.unwrap() else { panic!() };
    assert_eq!((info.id, info.status), (id, RunStatus::Completed));
    let never = room.runs.info(CallId::from_bytes([30; 16]), None).await.unwrap();
    assert_eq!(never.status, RunStatus::NotStarted);
}

#[tokio::test]
async fn what_failed_or_was_not_kept_answers_no_call() {
    let room = Room::new(Config::default());
    let error = ErrorInfo::new(ErrorKind::Remote, "as ever");
    let failed = Frame::new(&Reply::fail(error), Bytes::new()).unwrap();
    for (id, last) in [(1, failed), (2, done(3))] {
        let Recorded::Now(recording) = room.call(shared(id)).await.unwrap() else { panic!("{id}") };
        let source = Ready::new(&recording, [last]);
        recording.pump(source).await;
    }
    let Recorded::Before(info) = room.call(shared(3)).await.unwrap() else { panic!() };
    assert_eq!(info.id, CallId::from_bytes([2; 16]));
    room.runs.remove(info.id).await.unwrap();
    let Recorded::Now(mut recording) = room.call(shared(4)).await.unwrap() else { panic!() };
    recording.replies = Arc::new(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let source = Ready::new(&recording, [done(3)]);
    recording.pump(source).await;
    assert!(matches!(room.call(shared(5)).await, Ok(Recorded::Now(_))));
}

#[tokio::test]
async fn a_name_that_could_not_be_claimed_in_the_end_is_free() {
    let room = Room::new(Config::default());
    // The disk says no to the first of them; those who wait for it go on by themselves.
    let folder = room.runs.records.dir.join(CallId::from_bytes([1; 16]).to_string());
    fs::create_dir(&folder).unwrap();
    let (first, second) = tokio::join!(room.call(shared(1)), room.call(shared(2)));
    assert_eq!(first.unwrap_err().kind, ErrorKind::QueueFull);
    assert!(matches!(second, Ok(Recorded::Now(_))), "{second:?}");
}

#[tokio::test]
async fn only_the_whole_record_of_an_own_call_is_taken_in() {
    let (host, caller) = (Room::new(Config::default()), Room::new(Config::default()));
    let mut sealed = host.runs.sealed().unwrap();
    let me = caller.runs.records.admissions.me;
    let mut send = async |id: u8, from: NodeId, tear: bool, as_id: u8, host_name: &str| {
        let mut call = Call::new(CallId::from_bytes([id; 16]), "/a/f");
        call.run = Some(RunOptions { name: format!("/a/n{id}"), detach: true, get: false });
        let recorded = host.runs.record(&call, &Bytes::new(), from).await.unwrap();
        let Recorded::Now(recording) = recorded else { panic!("there was one before") };
        let replies = Ready::new(&recording, [log("hello"), done(5)]);
        recording.pump(replies).await;
        let path = host.runs.records.folder(call.id).path().to_owned();
        if from != host.runs.records.admissions.me {
            let told = sealed.recv().await.unwrap();
            assert_eq!((told.id, told.to), (call.id, from));
        }
        let id = CallId::from_bytes([as_id; 16]);
        let (to, _) = caller.runs.room_for(id).await.unwrap().unwrap();
        fs::create_dir(&to).unwrap();
        for name in ["meta", "replies", "inputs"] {
            fs::copy(path.join(name), to.join(name)).unwrap();
        }
        if tear {
            fs::write(to.join("meta"), b"half").unwrap();
        }
        let taken = caller.runs.take_in(id, host_name.to_owned()).await;
        assert!(!to.exists(), "nothing is left of it");
        taken.map(|()| id)
    };
    let stranger = NodeId::from_bytes([9; 32]);
    // The host has the id of the caller, as both rooms are node 1: its own calls are not told of.
    let id = send(1, me, false, 1, "here").await.unwrap();
    assert!(send(2, stranger, false, 2, "here").await.is_err(), "called by another node");
    assert!(send(3, me, true, 3, "here").await.is_err(), "torn");
    assert!(send(4, me, false, 5, "here").await.is_err(), "another run");
    assert!(send(6, me, false, 6, "another").await.is_err(), "run by another node");
    caller.runs.expect(CallId::from_bytes([7; 16]), stranger, "/a/other");
    assert!(send(7, me, false, 7, "here").await.is_err(), "of another name");
    assert!(caller.runs.has_copy(id).await);
    assert_eq!(caller.runs.room_for(id).await.unwrap(), None, "it is here");
    let info = caller.runs.info(id, None).await.unwrap();
    assert_eq!((info.status, info.host.as_str()), (RunStatus::Completed, "here"));
    assert_eq!(caller.runs.id_of("/a/n1").unwrap(), Some(id));
    assert_eq!(caller.runs.list(None, 0).await.len(), 1);
    let frames = all(caller.runs.attach(id, attach(true)).await.unwrap()).await;
    assert_eq!(frames, [log("hello"), done(5)]);
    caller.runs.remove(id).await.unwrap();
    assert!(!caller.runs.has_copy(id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_removed_as_its_copy_comes_is_gone() {
    let (host, caller) = (Room::new(Config::default()), Room::new(Config::default()));
    let me = caller.runs.records.admissions.me;
    for n in 0..100 {
        let mut call = Call::new(CallId::from_bytes([n; 16]), "/a/f");
        call.run = Some(RunOptions { name: "/a/one".into(), detach: true, get: false });
        let recorded = host.runs.record(&call, &Bytes::new(), me).await.unwrap();
        let Recorded::Now(recording) = recorded else { panic!("there was one before") };
        let id = call.id;
        let replies = Ready::new(&recording, [done(5)]);
        recording.pump(replies).await;
        let (to, _) = caller.runs.room_for(id).await.unwrap().unwrap();
        fs::create_dir(&to).unwrap();
        let from = host.runs.records.folder(id).path().to_owned();
        for name in ["meta", "replies", "inputs"] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
        let meta = fs::metadata(to.join("meta")).unwrap().ino();
        let runs = caller.runs.clone();
        let taken = tokio::spawn(async move { runs.take_in(id, "here".into()).await });
        // It is wanted, and on its way to its place.
        while fs::metadata(to.join("meta")).is_ok_and(|now| now.ino() == meta) {}
        // There may be none yet; then it is not taken in.
        let _ = caller.runs.remove(id).await;
        let _ = taken.await.unwrap();
        assert!(!caller.runs.has_copy(id).await, "{n}: it is there again");
        assert_eq!(caller.runs.id_of("/a/one").unwrap(), None, "{n}");
        host.runs.remove(id).await.unwrap();
    }
}

#[tokio::test]
async fn a_result_that_is_yet_being_written_is_waited_for() {
    let room = Room::new(Config::default());
    let recording = room.record(1, "one").await.unwrap();
    let id = recording.info().id;
    let len = 64 * 1024 * 1024;
    let source = Ready::new(&recording, [done(len)]);
    let pumped = tokio::spawn(recording.pump(source));
    while room.runs.records.admissions.running(id).is_some() {
        tokio::task::yield_now().await;
    }
    // The call has ended. Its reply is most likely on its way to the disk.
    let ask = RunAsk::Attach { logs: false, timeout_ms: None };
    let frames = all(room.runs.attach(id, ask).await.unwrap()).await;
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].body.len(), len);
    pumped.await.unwrap();
}
