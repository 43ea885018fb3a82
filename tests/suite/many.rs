//! Many calls on one connection: as the protocol says, and as the Rust client uses it.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future::join_all, stream};
use rhd_protocol::{
    VERSION,
    api::Request,
    call::{Call, Codec, Reply},
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY, PREFIX, Prefix},
    id::CallId,
    many::{CALLS, Order, WINDOW},
};
use rhd_sdk::Client;
use rhd_tests::{Node, until};
use tempfile::TempDir;

use crate::rust::node;

/// A connection that was switched over.
struct Many(UnixStream);

impl Many {
    fn open(node: &Node) -> Self {
        let mut stream = node.socket();
        stream.write_all(&frame::encode(&Request::Many { v: VERSION }, 0).unwrap()).unwrap();
        let mut many = Self(stream);
        assert!(matches!(many.reply(), Some((Reply::Done { .. }, _))));
        many
    }

    /// The next reply; none at the end.
    fn reply(&mut self) -> Option<(Reply, Vec<u8>)> {
        let mut prefix = [0; PREFIX];
        self.0.read_exact(&mut prefix).ok()?;
        let lengths = Prefix::parse(prefix, MAX_BODY).unwrap();
        let mut bytes = vec![0; lengths.header + lengths.body];
        self.0.read_exact(&mut bytes).unwrap();
        let body = bytes.split_off(lengths.header);
        Some((frame::decode(&bytes).unwrap(), body))
    }

    fn failure(&mut self) -> (Option<CallId>, ErrorInfo) {
        match self.reply() {
            Some((Reply::Fail { id, error }, _)) => (id, error),
            other => panic!("no failure: {other:?}"),
        }
    }

    /// The next value, and of which call.
    fn done(&mut self) -> (CallId, Vec<u8>) {
        match self.reply() {
            Some((Reply::Done { id: Some(id), .. }, body)) => (id, body),
            other => panic!("not done: {other:?}"),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn ends(&mut self) {
        assert_eq!(self.0.read(&mut [0]).unwrap_or(0), 0, "it is closed");
    }
}

fn id(n: usize) -> CallId {
    CallId::from_bytes((n as u128 | 1 << 100).to_be_bytes())
}

fn order(order: &Order) -> Vec<u8> {
    frame::encode(order, 0).unwrap()
}

/// A call with JSON arguments.
fn call(n: usize, service: &str, args: &serde_json::Value) -> Vec<u8> {
    let body = serde_json::to_vec(&(args, serde_json::json!({}))).unwrap();
    let parts = vec![body.len() as u64];
    let call = Call { codec: Codec::Json, parts, ..Call::new(id(n), service) };
    let mut bytes = frame::encode(&Order::Call { call: Box::new(call) }, body.len()).unwrap();
    bytes.extend(body);
    bytes
}

/// A folder in which calls tell that they run.
fn notes() -> (TempDir, impl Fn(&str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, move |name| path.join(name).to_str().unwrap().to_owned())
}

fn appears(path: &str) {
    until(&format!("{path} is there"), || Path::new(path).exists().then_some(()));
}

#[test]
fn calls_of_one_write_are_answered_by_id() {
    let node = node(&[]);
    let mut many = Many::open(&node);
    // Whole, then in pieces that end anywhere.
    for (round, piece) in [usize::MAX, 7, 1000].into_iter().enumerate() {
        let numbers = round * 200..(round + 1) * 200;
        let mut squares: HashMap<CallId, usize> = numbers.clone().map(|n| (id(n), n * n)).collect();
        let all: Vec<u8> =
            numbers.flat_map(|n| call(n, "square", &serde_json::json!([n]))).collect();
        let mut writer = many.0.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| all.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap()));
            while !squares.is_empty() {
                let (id, body) = many.done();
                let square = squares.remove(&id).unwrap();
                assert_eq!(String::from_utf8(body).unwrap(), square.to_string());
            }
        });
    }
}

#[test]
fn a_call_that_is_cancelled_takes_no_other_with_it() {
    let node = node(&[]);
    let (_folder, file) = notes();
    let mut many = Many::open(&node);
    many.write(&call(1, "forever", &serde_json::json!([file("one")])));
    many.write(&call(2, "forever", &serde_json::json!([file("two")])));
    appears(&file("one"));
    appears(&file("two"));
    // Of no call, of one twice, and then of one whose id is taken again.
    for n in [9, 1, 1] {
        many.write(&order(&Order::Cancel { id: id(n) }));
        many.write(&order(&Order::Credit { id: id(n), items: u32::MAX }));
    }
    appears(&file("one.end"));
    many.write(&call(3, "square", &serde_json::json!([3])));
    assert_eq!(many.done(), (id(3), b"9".to_vec()));
    assert!(!Path::new(&file("two.end")).exists());
    drop(many);
    // A client that is gone cancels all.
    appears(&file("two.end"));
    until("nothing runs", || (node.status().calls == 0).then_some(()));
}

#[test]
fn a_reader_that_is_behind_holds_back_its_own_call_only() {
    let node = node(&[]);
    let (_folder, file) = notes();
    let mut many = Many::open(&node);
    many.write(&call(1, "count", &serde_json::json!([100_000_000_u64, file("count")])));
    for n in 0..WINDOW {
        let Some((Reply::Item { id: Some(of), .. }, body)) = many.reply() else { panic!() };
        assert_eq!((of, body), (id(1), n.to_string().into_bytes()));
    }
    // Nothing further comes of it, while other calls go on.
    for n in 10..40 {
        many.write(&call(n, "square", &serde_json::json!([n])));
        assert_eq!(many.done().0, id(n));
    }
    many.write(&order(&Order::Credit { id: id(1), items: 2 }));
    for n in [WINDOW, WINDOW + 1] {
        let Some((Reply::Item { .. }, body)) = many.reply() else { panic!() };
        assert_eq!(body, n.to_string().into_bytes());
    }
    many.write(&call(50, "square", &serde_json::json!([5])));
    assert_eq!(many.done().0, id(50));
}

#[test]
fn what_is_wrong_with_a_call_fails_that_call() {
    let node = node(&[]);
    let (_folder, file) = notes();
    let mut many = Many::open(&node);
    many.write(&call(1, "forever", &serde_json::json!([file("one")])));
    many.write(&call(1, "forever", &serde_json::json!([file("again")])));
    let (of, error) = many.failure();
    assert_eq!((of, error.kind), (Some(id(1)), ErrorKind::Conflict), "{error:?}");
    many.write(&call(2, "nowhere", &serde_json::json!([])));
    let (of, error) = many.failure();
    assert_eq!((of, error.kind), (Some(id(2)), ErrorKind::NotFound), "{error:?}");
    let newer = Call { v: VERSION + 1, ..Call::new(id(3), "square") };
    many.write(&order(&Order::Call { call: Box::new(newer) }));
    let (of, error) = many.failure();
    assert_eq!((of, error.kind), (Some(id(3)), ErrorKind::VersionMismatch), "{error:?}");
    appears(&file("one"));
    assert!(!Path::new(&file("again")).exists());
}

#[test]
fn what_is_no_order_ends_the_connection_with_a_reason_and_all_its_calls() {
    let node = node(&[]);
    let no_order = [
        frame::encode(&Request::Status { v: VERSION }, 0).unwrap(),
        frame::encode(&serde_json::json!({"op": "call", "call": 7}), 0).unwrap(),
        frame::encode(&serde_json::json!({"op": "cancel", "id": "short"}), 0).unwrap(),
        frame::encode(&serde_json::json!([1]), 0).unwrap(),
        vec![0xff; 64],
    ];
    for (n, bytes) in no_order.iter().enumerate() {
        let (_folder, file) = notes();
        let mut many = Many::open(&node);
        many.write(&call(n, "forever", &serde_json::json!([file("one")])));
        appears(&file("one"));
        many.write(bytes);
        let (of, error) = many.failure();
        assert_eq!((of, error.kind), (None, ErrorKind::BadRequest), "{n}: {error:?}");
        many.ends();
        appears(&file("one.end"));
    }
    let newer = serde_json::json!({"op": "fly", "v": VERSION + 1});
    let mut many = Many::open(&node);
    many.write(&frame::encode(&newer, 0).unwrap());
    assert_eq!(many.failure().1.kind, ErrorKind::VersionMismatch);
}

#[test]
fn calls_on_one_connection_are_bounded() {
    let node = node(&["--set", "workers.coroutines=10000"]);
    let (_folder, file) = notes();
    let mut many = Many::open(&node);
    let args = serde_json::json!([file("began")]);
    for n in 0..CALLS {
        many.write(&call(n, "forever", &args));
    }
    for n in CALLS..CALLS + 3 {
        many.write(&call(n, "forever", &args));
        let (of, error) = many.failure();
        assert_eq!((of, error.kind), (Some(id(n)), ErrorKind::QueueFull), "{error:?}");
    }
    many.write(&order(&Order::Cancel { id: id(0) }));
    many.write(&call(CALLS + 9, "square", &serde_json::json!([3])));
    assert_eq!(many.done().0, id(CALLS + 9));
}

#[test]
fn a_node_that_drains_waits_for_every_call() {
    let mut node = node(&[]);
    let (_folder, file) = notes();
    let mut many = Many::open(&node);
    let gate = file("gate");
    let mut waiting: HashSet<CallId> = (0..3).map(id).collect();
    for n in 0..3 {
        many.write(&call(n, "wait_for", &serde_json::json!([file(&n.to_string()), gate])));
    }
    (0..3).for_each(|n| appears(&file(&n.to_string())));
    node.signal(rustix::process::Signal::TERM);
    until("it drains", || {
        many.write(&call(9, "square", &serde_json::json!([1])));
        (many.reply()?.0.is_final()).then_some(())
    });
    fs::write(gate, "").unwrap();
    while !waiting.is_empty() {
        if let (Reply::Done { id: Some(id), .. }, _) = many.reply().unwrap() {
            waiting.remove(&id);
        }
    }
    assert!(node.gone().success());
}

// --- the Rust client

#[test]
fn slow_items_beside_fast_calls_and_one_that_is_dropped() {
    let node = node(&[]);
    let (_folder, file) = notes();
    node.ask(async |client| {
        let forever = client.function::<(String,), ()>("forever");
        let count = client.function::<(u64, String), u64>("count");
        let square = client.function::<(u64,), u64>("square");
        let held = forever.call((file("held"),));
        let left = forever.call((file("left"),));
        let rest = async {
            appears_on_loop(&file("held")).await;
            appears_on_loop(&file("left")).await;
            let mut items = count.stream((100_000_000, file("count"))).await?;
            assert_eq!(items.next().await, Some(Ok(0)));
            let squares: Vec<u64> = square.map((0..300).map(|n| (n,)), 32).try_collect().await?;
            assert_eq!(squares, (0..300).map(|n| n * n).collect::<Vec<_>>());
            for n in 1..200 {
                assert_eq!(items.next().await, Some(Ok(n)), "what was not read was kept");
            }
            Ok::<_, ErrorInfo>(())
        };
        tokio::select! {
            _ = held => panic!("it ended"),
            rest = async { tokio::select! { _ = left => panic!("it ended"), rest = rest => rest } } => rest?,
        }
        // Dropped, both of them and the items.
        appears_on_loop(&file("left.end")).await;
        appears_on_loop(&file("held.end")).await;
        let again = square.map((0..100).map(|n| (n,)), 16).try_collect::<Vec<_>>().await?;
        assert_eq!(again.len(), 100);
        Ok(())
    })
    .unwrap();
    until("nothing runs", || (node.status().calls == 0).then_some(()));
}

async fn appears_on_loop(path: &str) {
    while !Path::new(path).exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn large_arguments_and_results_go_and_come_beside_small_ones() {
    let node = node(&[]);
    node.ask(async |client| {
        let bytes = client.function::<(serde_bytes::ByteBuf,), serde_bytes::ByteBuf>("bytes");
        let sizes = (0..40_usize).map(|n| [10, 60_000, 70_000, 3 << 20][n % 4]);
        let calls = sizes.map(|size| {
            let bytes = bytes.clone();
            async move {
                let data = serde_bytes::ByteBuf::from(vec![7; size]);
                assert!(bytes.call((data.clone(),)).await? == data);
                Ok::<_, ErrorInfo>(())
            }
        });
        stream::iter(calls).buffer_unordered(16).try_collect::<Vec<_>>().await
    })
    .unwrap();
}

#[test]
fn calls_under_way_are_lost_with_their_daemon_and_later_ones_find_the_next() {
    let mut node = node(&[]);
    let (_folder, file) = notes();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(Client::attach(node.home())).unwrap();
    let forever = client.function::<(String,), ()>("forever");
    let errors = runtime.block_on(async {
        let names: Vec<String> = (0..20).map(|n| file(&n.to_string())).collect();
        let calls = join_all(names.iter().map(|name| forever.call((name.clone(),))));
        let kill = async {
            for name in &names {
                appears_on_loop(name).await;
            }
            node.kill();
        };
        tokio::join!(calls, kill).0
    });
    let mut lost = HashSet::new();
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind, ErrorKind::PeerLost, "{error:?}");
        assert!(error.message.contains("may have run"), "{error:?}");
        lost.insert(error.call);
    }
    assert_eq!(lost.len(), 20, "each names its call");
    node.restart();
    crate::rust::run(crate::rust::PROGRAM, &node, &[node.name()]).ok();
    let square = client.function::<(u64,), u64>("square");
    let squares = square.map((0..50).map(|n| (n,)), 8).try_collect::<Vec<_>>();
    assert_eq!(runtime.block_on(squares).unwrap().len(), 50);
    // It ends and comes again while nobody looks at the connection: what was not sent has not run.
    node.kill();
    node.restart();
    crate::rust::run(crate::rust::PROGRAM, &node, &[node.name()]).ok();
    let squares = square.map((0..50).map(|n| (n,)), 8).try_collect::<Vec<_>>();
    assert_eq!(runtime.block_on(squares).unwrap().len(), 50);
}

/// A daemon of before: it refuses what it does not know, and takes one call at a time.
#[test]
fn an_old_daemon_gets_a_connection_for_each_call() {
    let home = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(rhd_sdk::socket_path(home.path())).unwrap();
    let old = thread::spawn(move || {
        let mut refused = 0;
        let mut serving = Vec::new();
        // One to attach, then one for each call at a time.
        for stream in listener.incoming().take(4) {
            serving.push(thread::spawn(move || serve_as_of_old(stream.unwrap())));
        }
        for one in serving {
            refused += one.join().unwrap();
        }
        refused
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::attach(home.path()).await.unwrap();
        let nothing = client.function::<(), ()>("nothing");
        for _ in 0..3 {
            let calls = join_all((0..4).map(|_| nothing.call(()))).await;
            assert!(calls.iter().all(Result::is_ok), "{calls:?}");
        }
    });
    assert_eq!(old.join().unwrap(), 1, "it is asked once");
}

/// Answers calls with nil and refuses the rest; returns how often it did.
fn serve_as_of_old(stream: UnixStream) -> usize {
    let mut connection = Many(stream);
    let mut refused = 0;
    loop {
        let mut prefix = [0; PREFIX];
        if connection.0.read_exact(&mut prefix).is_err() {
            return refused;
        }
        let lengths = Prefix::parse(prefix, MAX_BODY).unwrap();
        let mut bytes = vec![0; lengths.header + lengths.body];
        connection.0.read_exact(&mut bytes).unwrap();
        let any: rhd_protocol::api::AnyRequest = frame::decode(&bytes[..lengths.header]).unwrap();
        if any.op == "call" {
            let mut done = frame::encode(&Reply::done(1), 1).unwrap();
            done.push(0xc0);
            connection.write(&done);
        } else {
            refused += 1;
            let error = ErrorInfo::new(ErrorKind::BadRequest, "request is not understood");
            connection.write(&frame::encode(&Reply::fail(error), 0).unwrap());
        }
    }
}
