//! Nodes that send what they should not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use rhd_protocol::{
    call::{Codec, Reply},
    error::ErrorInfo,
    folder::Scanned,
    id::Hash,
    pieces::PIECE,
};

use super::*;
use crate::framed::Frame;

/// Answers as the folder room would, but for what `lie` makes of each item.
fn serve_lies(node: &Node, lie: impl Fn(&FolderAsk, Vec<u8>) -> Vec<u8> + Clone + Send + 'static) {
    let asks = node.folders.inner.mesh.accept(wire::FOLDER);
    let folders = node.folders.clone();
    asked::accept(asks, 8, &TaskTracker::new(), &node.closing, move |stream| {
        let (folders, lie) = (folders.clone(), lie.clone());
        async move {
            let peer = stream.peer;
            let told = |ask: FolderAsk, out: Out| async move {
                let (tx, mut items) = tokio::sync::mpsc::channel(4);
                let asked = ask.clone();
                let work = tokio::spawn(async move { folders.give(peer, asked, &tx).await });
                while let Some(item) = items.recv().await {
                    let Ok(Reply::Item { parts, .. }) = item.header() else { continue };
                    let body = lie(&ask, item.body.to_vec());
                    let parts = if parts.len() == 1 { vec![body.len() as u64] } else { parts };
                    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts };
                    let _ = out.send(Frame::new(&reply, Bytes::from(body)).unwrap()).await;
                }
                work.await.unwrap()
            };
            asked::answer("liar", stream, told).await
        }
    });
}

#[tokio::test]
async fn wrong_bytes_are_never_seen() {
    let [liar, node] = Node::pair(Role::Member).await;
    let large = noise(3 * PIECE as usize + 5, 1);
    liar.write("x", &[("a/good", b"good"), ("b/bad", b"bad!"), ("large", &large)]);
    let lying = Arc::new(AtomicBool::new(true));
    let now = lying.clone();
    serve_lies(&liar, move |ask, mut body| {
        let len = body.len();
        if matches!(ask, FolderAsk::Read { .. }) && now.load(Ordering::Relaxed) {
            // The last byte: of the small ones the second's, of the large one the last piece's.
            if let Some(byte) = body.last_mut().filter(|_| len < PIECE as usize) {
                *byte ^= 1;
            }
        }
        body
    });
    let done = node.pull(&liar, "x").await.unwrap();
    let skipped: Vec<&str> = done.skipped.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(skipped, ["b/bad", "large"], "{done:?}");
    assert_eq!(node.read("x").keys().filter(|name| !name.starts_with(".rhd")).count(), 1);
    assert_eq!(node.read("x")["a/good"], b"good");
    lying.store(false, Ordering::Relaxed);
    let done = node.pull(&liar, "x").await.unwrap();
    assert!(done.skipped.is_empty(), "{done:?}");
    assert_eq!(node.read("x"), liar.read("x"), "and nothing is left of what was under way");
    assert_eq!(done.moved, 4 + 5, "pieces that were right are not sent again: {done:?}");
}

#[tokio::test]
async fn a_list_that_leads_out_is_refused_whole() {
    let [liar, node] = Node::pair(Role::Member).await;
    liar.write("x", &[("a", b"1"), ("b", b"2")]);
    let outside = node.at("outside");
    let evil: Vec<Vec<Entry>> = {
        let file = |path: &str| Entry {
            path: path.into(),
            size: 1,
            hash: Hash::of(b"1"),
            exec: false,
            link: None,
            dir: false,
        };
        let link = |to: &str| Entry { size: 0, link: Some(to.into()), ..file("a") };
        vec![
            vec![file("../outside")],
            vec![file(outside.to_str().unwrap())],
            vec![link("../outside")],
            vec![link("/etc")],
            vec![link("b"), file("a/x")],
            vec![file("b"), file("a")],
            vec![file(".rhd-sync/0")],
        ]
    };
    let turn = Arc::new(AtomicUsize::new(0));
    let (next, lists) = (turn.clone(), evil.clone());
    serve_lies(&liar, move |ask, body| match ask {
        FolderAsk::Scan { .. } => frame::to_vec(&lists[next.load(Ordering::Relaxed)]).unwrap(),
        _ => body,
    });
    for (at, list) in evil.iter().enumerate() {
        turn.store(at, Ordering::Relaxed);
        let error = node.pull(&liar, "x").await.unwrap_err();
        assert!(matches!(error, FolderError::Nonsense(_)), "{list:?}: {error}");
    }
    assert!(!outside.exists() && node.read("x").is_empty());
}

#[tokio::test]
async fn more_than_was_asked_for_is_refused() {
    let [liar, node] = Node::pair(Role::Member).await;
    liar.write("x", &[("a", &noise(2 * PIECE as usize, 2))]);
    serve_lies(&liar, |ask, mut body| {
        if matches!(ask, FolderAsk::Pieces { .. }) {
            body.extend_from_slice(&[0; 32]);
        }
        body
    });
    let error = node.pull(&liar, "x").await.unwrap_err();
    assert!(matches!(error, FolderError::Nonsense(_)), "{error}");
    let [liar, node] = Node::pair(Role::Member).await;
    liar.write("x", &[("a", b"1")]);
    serve_lies(&liar, |ask, body| match ask {
        FolderAsk::Scan { .. } => frame::to_vec(&Scanned::default()).unwrap(),
        _ => body,
    });
    assert!(matches!(node.pull(&liar, "x").await.unwrap_err(), FolderError::Nonsense(_)));
}

#[tokio::test]
async fn a_node_that_dies_at_any_reply_costs_nothing_that_came() {
    let [liar, node] = Node::pair(Role::Member).await;
    let files: Vec<(String, Vec<u8>)> =
        (0..40).map(|n| (format!("f{n}"), noise(100_000, n))).collect();
    let mut files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let large = noise(20 * PIECE as usize, 3);
    files.push(("large", &large));
    liar.write("x", &files);
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let left = Arc::new(AtomicUsize::new(0));
    let budget = left.clone();
    let spent = move || {
        budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err()
    };
    let asks = liar.folders.inner.mesh.accept(wire::FOLDER);
    let folders = liar.folders.clone();
    asked::accept(asks, 8, &TaskTracker::new(), &liar.closing, move |stream| {
        let (folders, spent) = (folders.clone(), spent.clone());
        async move {
            let peer = stream.peer;
            asked::answer("one", stream, |ask: FolderAsk, out: Out| async move {
                let (tx, mut items) = tokio::sync::mpsc::channel(1);
                let work = tokio::spawn(async move { folders.give(peer, ask, &tx).await });
                while let Some(item) = items.recv().await {
                    if spent() {
                        return Err(ErrorInfo::new(ErrorKind::PeerLost, "it died"));
                    }
                    let _ = out.send(item).await;
                }
                work.await.unwrap()
            })
            .await
        }
    });
    let (mut moved, mut tries) = (0, 0);
    loop {
        left.store(8, Ordering::Relaxed);
        tries += 1;
        match node.pull(&liar, "x").await {
            Ok(done) => {
                moved += done.moved;
                break;
            }
            Err(error) => assert!(matches!(error, FolderError::Peer(_)), "{error}"),
        }
        for (name, bytes) in node.read("x").iter().filter(|(name, _)| !name.starts_with(".rhd")) {
            assert!(files.contains(&(name.as_str(), bytes.as_slice())), "{name} is half there");
        }
        assert!(tries < 50, "it gets nowhere");
    }
    assert!(tries > 2 && moved < total / 2, "{moved} of {total} in the last of {tries}");
    assert_eq!(node.read("x"), liar.read("x"));
}
