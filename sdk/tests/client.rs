//! The client against a daemon that says exactly what a test wants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

use rhd_sdk::{
    Client, ErrorKind, Invocation,
    protocol::{
        VERSION,
        api::Request,
        call::{Codec, Reply},
        error::ErrorInfo,
        frame::{self, MAX_BODY, PREFIX, Prefix},
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// A declared function: its arguments arrive as a list.
#[rhd_sdk::function]
async fn add(a: i64, b: i64) -> i64;

#[rhd_sdk::function(name = "/ann/now")]
async fn now() -> String;

struct Fake {
    home: TempDir,
    listener: UnixListener,
}

impl Fake {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(rhd_sdk::socket_path(home.path())).unwrap();
        Self { home, listener }
    }

    /// The client, and the daemon's end of its first connection.
    async fn client(&self) -> (Client, UnixStream) {
        let client = Client::attach(self.home.path()).await.unwrap();
        (client, self.listener.accept().await.unwrap().0)
    }
}

async fn request(stream: &mut UnixStream) -> (Request, Vec<u8>) {
    let mut prefix = [0; PREFIX];
    stream.read_exact(&mut prefix).await.unwrap();
    let lengths = Prefix::parse(prefix, MAX_BODY).unwrap();
    let mut bytes = vec![0; lengths.header + lengths.body];
    stream.read_exact(&mut bytes).await.unwrap();
    let body = bytes.split_off(lengths.header);
    (frame::decode(&bytes).unwrap(), body)
}

async fn say(stream: &mut UnixStream, reply: &Reply, body: &[u8]) {
    let mut bytes = frame::encode(reply, body.len()).unwrap();
    bytes.extend(body);
    stream.write_all(&bytes).await.unwrap();
}

#[tokio::test]
async fn a_declared_function_sends_a_list_and_reads_its_own_type() {
    let fake = Fake::new();
    let (client, mut daemon) = fake.client().await;
    let serve = async {
        let (asked, body) = request(&mut daemon).await;
        let Request::Call { call } = asked else { panic!("{asked:?}") };
        assert_eq!((call.v, call.service.as_str(), call.codec), (VERSION, "add", Codec::Msgpack));
        assert_eq!(call.parts, [body.len() as u64]);
        let (args, kwargs): (Vec<i64>, std::collections::BTreeMap<String, i64>) =
            rmp_serde::from_slice(&body).unwrap();
        assert_eq!((args, kwargs.len()), (vec![2, 3], 0));
        let five = frame::to_vec(&5).unwrap();
        say(&mut daemon, &Reply::done(five.len()), &five).await;

        // On the same connection: it was kept.
        let (asked, body) = request(&mut daemon).await;
        let Request::Call { call } = asked else { panic!("{asked:?}") };
        let (args, _): (Vec<i64>, std::collections::BTreeMap<String, i64>) =
            rmp_serde::from_slice(&body).unwrap();
        assert_eq!((call.service.as_str(), args), ("/ann/now", vec![]));
        say(&mut daemon, &Reply::done(1), &frame::to_vec(&7).unwrap()).await;
    };
    let ask = async {
        assert_eq!(add(&client, 2, 3).await, Ok(5));
        // A result of another type is an error, not a wrong value.
        assert_eq!(now(&client).await.unwrap_err().kind, ErrorKind::BadRequest);
    };
    tokio::join!(serve, ask);
}

#[tokio::test]
async fn replies_come_in_order_and_dropping_them_hangs_up() {
    let fake = Fake::new();
    let (client, mut daemon) = fake.client().await;
    let invocation = Invocation::of("count");
    let mut replies =
        client.start(&invocation, Codec::Json, &[(); 0], &serde_json::json!({})).await.unwrap();
    let (_, body) = request(&mut daemon).await;
    assert_eq!(body, b"[[],{}]");
    let item = Reply::Item { id: None, codec: Codec::Json, parts: vec![1] };
    say(&mut daemon, &item, b"1").await;
    say(&mut daemon, &item, b"2").await;
    for expected in [b"1", b"2"] {
        let (reply, body) = replies.next().await.unwrap().unwrap();
        assert_eq!((reply, &body[..]), (item.clone(), &expected[..]));
    }
    drop(replies);
    assert_eq!(daemon.read(&mut [0]).await.unwrap(), 0, "the daemon sees that nobody listens");
}

#[tokio::test]
async fn a_daemon_that_goes_away_is_told_apart_from_an_answer() {
    let fake = Fake::new();
    let (client, mut daemon) = fake.client().await;
    let (asked, ()) = tokio::join!(client.status(), async {
        request(&mut daemon).await;
        // Half of an answer.
        let whole = frame::encode(&Reply::done(0), 0).unwrap();
        daemon.write_all(&whole[..whole.len() / 2]).await.unwrap();
        drop(daemon);
    });
    assert_eq!(asked.unwrap_err().kind, ErrorKind::DaemonUnavailable);

    let (called, ()) = tokio::join!(add(&client, 1, 1), async {
        let mut daemon = fake.listener.accept().await.unwrap().0;
        request(&mut daemon).await;
    });
    let error = called.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PeerLost);
    assert!(!error.call.is_empty() && !error.hint.is_empty(), "{error:?}");
}

#[tokio::test]
async fn failures_and_nonsense_become_errors() {
    let fake = Fake::new();
    let (client, mut daemon) = fake.client().await;
    let refused = ErrorInfo::new(ErrorKind::PermissionDenied, "no").hint("ask").on("box");
    let (asked, ()) = tokio::join!(client.peers(), async {
        request(&mut daemon).await;
        say(&mut daemon, &Reply::fail(refused.clone()), b"").await;
    });
    assert_eq!(asked.unwrap_err(), refused);
    let (asked, ()) = tokio::join!(client.peers(), async {
        request(&mut daemon).await;
        daemon.write_all(&[0xff; 64]).await.unwrap();
    });
    assert_eq!(asked.unwrap_err().kind, ErrorKind::VersionMismatch);
}

#[tokio::test]
async fn without_a_daemon_the_error_says_how_to_start_one() {
    let home = tempfile::tempdir().unwrap();
    let error = Client::attach(home.path()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DaemonUnavailable);
    let command = format!("rhd --home {} up --detach", home.path().display());
    assert!(error.hint.contains(&command), "{error:?}");
}
