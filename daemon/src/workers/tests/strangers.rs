//! Who connects to the worker socket without being a worker.

use std::{path::Path, time::Duration};

use rhd_protocol::worker::{Hello, Lane};
use serde_json::json;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::UnixStream};

use super::*;
use crate::framed;

const LONG: Duration = Duration::from_secs(30);

async fn connect(room: &Room) -> UnixStream {
    UnixStream::connect(room.path("run/workers.sock")).await.unwrap()
}

async fn is_closed(mut stream: UnixStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(LONG, stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn junk_silence_and_wrong_tokens_are_closed_and_workers_still_get_through() {
    let room = Room::new().await;
    let silent: Vec<UnixStream> = futures::future::join_all((0..30).map(|_| connect(&room))).await;
    let mut junk = connect(&room).await;
    junk.write_all(&[0xff; 64]).await.unwrap();
    assert!(is_closed(junk).await);
    let mut liar = connect(&room).await;
    let hello = Hello {
        v: rhd_protocol::VERSION,
        worker: "aaaa".into(),
        token: "bbbb".into(),
        lane: Lane::Control,
        python: String::new(),
        beside: false,
    };
    framed::send(&mut liar, &hello, Bytes::new()).await.unwrap();
    assert!(is_closed(liar).await);
    let mut huge = connect(&room).await;
    huge.write_all(&[0, 0, 0, 1, 0x10, 0, 0, 0, 0xc0]).await.unwrap();
    assert!(is_closed(huge).await);
    let unit = room.code("def f():\n    return 1\n", "f");
    assert_eq!(room.call(&unit, json!([])).await.value(), 1);
    for stream in silent {
        assert!(is_closed(stream).await, "silence is bounded");
    }
}

#[tokio::test]
async fn a_right_id_with_a_wrong_token_is_refused() {
    let room = Room::new().await;
    let source = "import os\ndef f():\n    return os.environ.get('RHD_WORKER', '')\n";
    let worker = room.call(&room.code(source, "f"), json!([])).await.value();
    let mut liar = connect(&room).await;
    let hello = Hello {
        v: rhd_protocol::VERSION,
        worker: worker.as_str().unwrap().into(),
        token: "bbbb".into(),
        lane: Lane::Call,
        python: String::new(),
        beside: false,
    };
    assert!(!hello.worker.is_empty());
    framed::send(&mut liar, &hello, Bytes::new()).await.unwrap();
    assert!(is_closed(liar).await);
}

#[tokio::test]
async fn only_this_user_may_open_the_socket_and_a_stale_one_is_replaced() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&room.path("run/workers.sock")), 0o600);
    assert_eq!(mode(&room.path("run")), 0o700);
    let (_again, _tasks) =
        Workers::start(room.home.path(), "here", Config::default()).await.unwrap();
}

#[tokio::test]
async fn a_home_too_deep_for_a_socket_address_works() {
    let home = tempfile::tempdir().unwrap();
    let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let (workers, _tasks) = Workers::start(&deep, "here", Config::default()).await.unwrap();
    let (tx, _rx) = mpsc::channel(16);
    assert!(workers.ensure(&EnvSpec::base(), tx).await.unwrap().running);
}
