//! Peers that send wrong bytes, stop, break off, or leave.

use std::sync::atomic::{AtomicU64, Ordering};

use iroh_blobs::{protocol::Request, provider::StreamPair, provider::events::EventSender};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::mesh::{Priority, Stream};
use rhd_protocol::wire;

/// What a peer does with requests for chunks.
#[derive(Debug, Clone, Copy)]
enum Acts {
    /// As it should.
    Honest,
    /// Changes a byte so far from the start.
    Flips(usize),
    /// Sends so many bytes in all, then nothing.
    Stalls(usize),
    /// Sends so many bytes in all, then ends every stream.
    Cuts(usize),
}

/// Serves chunks in this way from now on; counts the bytes it sends.
fn act(node: &Node, acts: Acts) -> Arc<AtomicU64> {
    let mut streams = node.data.mesh.accept(wire::BLOB);
    let (shelf, sent) = (node.data.shelf.clone(), Arc::new(AtomicU64::new(0)));
    let counted = sent.clone();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            tokio::spawn(serve(shelf.clone(), stream, acts, counted.clone()));
        }
    });
    sent
}

async fn serve(shelf: Arc<Shelf>, stream: Stream, acts: Acts, sent: Arc<AtomicU64>) {
    let Stream { send: mut to, recv, .. } = stream;
    let mut unused = streams::Reader::new(recv);
    let mut sink = Sink;
    let mut pair = StreamPair::new(0, &mut unused, &mut sink, EventSender::DEFAULT);
    let Ok(Request::Get(get)) = pair.read_request().await else { return };
    let ranges = get.ranges.iter().next().unwrap().clone();
    let mut bytes = shelf.store.content().export_bao(get.hash, ranges).bao_to_vec().await.unwrap();
    match acts {
        Acts::Honest => {}
        Acts::Flips(at) => {
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
        }
        Acts::Stalls(after) | Acts::Cuts(after) => {
            bytes.truncate(after.saturating_sub(sent.load(Ordering::Relaxed) as usize));
        }
    }
    for chunk in bytes.chunks(64 * 1024) {
        if to.write_all(chunk).await.is_err() {
            return;
        }
        sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
    }
    match acts {
        Acts::Stalls(_) => std::future::pending().await,
        _ => drop(to.shutdown().await),
    }
}

/// Takes nothing: answers are written by hand.
struct Sink;

impl iroh_blobs::util::SendStream for Sink {
    async fn send_bytes(&mut self, _: bytes::Bytes) -> std::io::Result<()> {
        Ok(())
    }
    async fn send(&mut self, _: &[u8]) -> std::io::Result<()> {
        Ok(())
    }
    async fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn reset(&mut self, _: iroh::endpoint::VarInt) -> std::io::Result<()> {
        Ok(())
    }
    async fn stopped(&mut self) -> std::io::Result<Option<iroh::endpoint::VarInt>> {
        std::future::pending().await
    }
    fn id(&self) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_caught_asked_elsewhere_and_remembered() {
    // The size, a hash of the tree, content at the start, content far in.
    for at in [3, 20, 200, 300_000] {
        let nodes = Node::linked(&["a", "liar", "honest"]).await;
        let bytes = noise(1 << 20, 1);
        let content = nodes[1].put(&bytes).await;
        act(&nodes[1], Acts::Flips(at));
        // While nobody else has it, it does not come.
        let refused = nodes[0].fetch(&content).await.unwrap_err();
        assert!(matches!(refused, DataError::GaveUp { .. }), "{refused}");
        assert_eq!(nodes[0].data.shelf.store.whole(content.hash).await.unwrap(), None);
        nodes[2].put(&bytes).await;
        let lied = act(&nodes[1], Acts::Flips(at));
        drop(nodes[0].fetch(&content).await.unwrap());
        assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
        if at >= 20 {
            assert!(nodes[0].data.shelf.distrusts(nodes[1].id()));
            assert_eq!(lied.load(Ordering::Relaxed), 0, "the liar was asked again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stalls_or_breaks_off_anywhere_costs_nothing_that_came() {
    let bytes = noise(2 << 20, 2);
    for after in [0, 1, 8, 70, 100_000, 1 << 20] {
        for acts in [Acts::Cuts(after), Acts::Stalls(after)] {
            let nodes = Node::linked(&["a", "bad", "good"]).await;
            let content = nodes[1].put(&bytes).await;
            let came = act(&nodes[1], acts);
            let sent = act(&nodes[2], Acts::Honest);
            let fetch = nodes[0].fetch(&content);
            // The good one has it only when the bad one has done its worst.
            let later = async {
                while (came.load(Ordering::Relaxed) as usize) < after {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                nodes[2].put(&bytes).await;
            };
            let (fetched, ()) = tokio::join!(fetch, soon(later));
            drop(fetched.unwrap());
            assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
            // What came before is kept, but for the chunk it was cut in and the hashes above.
            let most = bytes.len().saturating_sub(after) + 200_000;
            let sent = sent.load(Ordering::Relaxed);
            assert!(sent < most as u64, "{acts:?}: {sent} bytes came again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_answers_is_given_up() {
    let nodes = Node::linked(&["a", "bad"]).await;
    let content = nodes[1].put(&noise(1 << 20, 7)).await;
    act(&nodes[1], Acts::Cuts(0));
    let missed = nodes[0].fetch(&content).await.unwrap_err();
    assert!(matches!(missed, DataError::GaveUp { .. }), "{missed}");
    assert!(missed.to_string().contains("bad can't be reached"), "{missed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cancelled_stops_and_what_came_is_kept() {
    let nodes = Node::linked(&["a", "b"]).await;
    let bytes = noise(2 << 20, 4);
    let content = nodes[1].put(&bytes).await;
    act(&nodes[1], Acts::Stalls(1 << 20));
    let meter = Meter::default();
    let fetch = fetch::whole(&nodes[0].data, &content, &[], &meter);
    let came = async {
        let shelf = &nodes[0].data.shelf;
        // Well over what may come again, as what proves it is sent along.
        while shelf.store.chunks(content.hash).await.unwrap().total_bytes() < 3 << 18 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = fetch => panic!("it can't be done: {done:?}"),
        () = soon(came) => {}
    }
    let sent = act(&nodes[1], Acts::Honest);
    drop(nodes[0].fetch(&content).await.unwrap());
    assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
    assert!(sent.load(Ordering::Relaxed) < 3 << 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_want_the_same_share_one_transfer() {
    let nodes = Node::linked(&["a", "b"]).await;
    let bytes = noise(8 << 20, 5);
    let content = nodes[1].put(&bytes).await;
    let sent = act(&nodes[1], Acts::Honest);
    let (one, other) = tokio::join!(nodes[0].fetch(&content), nodes[0].fetch(&content));
    drop((one.unwrap(), other.unwrap()));
    assert!(sent.load(Ordering::Relaxed) < 9 << 20);
    assert!(lock(&nodes[0].data.shelf.fetching).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_refused() {
    use tokio::io::AsyncReadExt as _;
    let nodes = Node::linked(&["a", "b"]).await;
    let content = nodes[1].put(&noise(1 << 20, 6)).await;
    let requests: [&[u8]; 5] = [
        b"",
        b"\xff\xff\xff\xff",
        &[0; 4096],
        // A push, and a watch, of nothing in particular.
        &[3, 0xff, 0xff, 0xff, 0x7f],
        &[2; 40],
    ];
    for request in requests {
        let (peer, mesh) = (nodes[1].id(), &nodes[0].data.mesh);
        let mut stream = mesh.open(peer, wire::BLOB, Priority::Bulk).await.unwrap();
        stream.send.write_all(request).await.unwrap();
        stream.send.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(stream.recv.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"", "{request:?}");
    }
    // It serves on.
    drop(nodes[0].fetch(&content).await.unwrap());
}
