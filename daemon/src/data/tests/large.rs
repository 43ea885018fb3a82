//! Contents that are files of their own, and come piece by piece.

use std::{
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicU64, Ordering},
};

use rhd_protocol::{
    call::{Codec, Reply},
    data::PieceAsk,
    error::ErrorKind,
    folder::Pieces,
    pieces::{self, PIECE},
    wire,
};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::{
    asked, framed,
    mesh::{Priority, Stream},
};

const SIZE: usize = 12 * PIECE as usize + 7;

/// What a peer does with questions about pieces.
#[derive(Debug, Clone, Copy)]
enum Acts {
    Honest,
    /// Changes a byte of this piece.
    Flips(u64),
    /// Gives another piece for this one.
    Swaps(u64),
    /// Gives so many pieces in all, then nothing.
    Stalls(u64),
    /// Gives so many pieces in all, then breaks off.
    Cuts(u64),
    /// Proves it with values that are not its own.
    ProvesWrong,
    /// Says that it has far more than it has.
    ProvesMore,
    /// Sends items that are too long.
    Floods,
}

/// Answers in this way from now on; counts the pieces it gives.
fn act(node: &Node, acts: Acts) -> Arc<AtomicU64> {
    let mut streams = node.data.mesh.accept(wire::PIECE);
    let (shelf, given) = (node.data.shelf.clone(), Arc::new(AtomicU64::new(0)));
    let counted = given.clone();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let (shelf, given) = (shelf.clone(), counted.clone());
            tokio::spawn(async move { serve(&shelf, stream, acts, &given).await });
        }
    });
    given
}

async fn item(to: &mut crate::mesh::SendHalf, bytes: Vec<u8>) -> bool {
    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts: vec![bytes.len() as u64] };
    framed::send(to, &reply, bytes).await.is_ok()
}

async fn serve(shelf: &Shelf, stream: Stream, acts: Acts, given: &AtomicU64) -> Option<()> {
    let Stream { send: mut to, mut recv, .. } = stream;
    let ask = framed::read(&mut recv, 0).await.ok()??.header::<PieceAsk>().ok()?;
    let last = match ask {
        PieceAsk::Prove { hash } => {
            let opened = shelf.store.large(hash)?.open().ok()?;
            let mut values = opened.values().clone();
            match acts {
                Acts::ProvesWrong => values.swap(0, 1),
                Acts::ProvesMore => values.resize(1 << 15, [7; 32]),
                _ => {}
            }
            item(&mut to, values.as_flattened().to_vec()).await.then_some(())?;
            asked::value(&Some(Pieces { holes: opened.holes() })).ok()?
        }
        PieceAsk::Read { hash, first, count } => {
            let opened = shelf.store.large(hash)?.open().ok()?;
            for index in first..first + count {
                let mut bytes = opened.read(index).ok()?.to_vec();
                match acts {
                    Acts::Flips(at) if at == index => bytes[5] ^= 1,
                    Acts::Swaps(at) if at == index => bytes = opened.read(index + 1).ok()?.to_vec(),
                    Acts::Stalls(after) if given.load(Ordering::Relaxed) >= after => {
                        std::future::pending().await
                    }
                    Acts::Cuts(after) if given.load(Ordering::Relaxed) >= after => {
                        // In the middle of a piece.
                        bytes.truncate(1000);
                        let reply =
                            Reply::Item { id: None, codec: Codec::Msgpack, parts: vec![PIECE] };
                        let frame = framed::Frame::new(&reply, bytes).ok()?;
                        to.write_all(&frame.parts().concat()[..40]).await.ok()?;
                        return to.shutdown().await.ok();
                    }
                    Acts::Floods => bytes.resize(2 * PIECE as usize, 0),
                    _ => {}
                }
                item(&mut to, bytes).await.then_some(())?;
                given.fetch_add(1, Ordering::Relaxed);
            }
            asked::value(&()).ok()?
        }
    };
    framed::send(&mut to, &Reply::done(last.len()), last).await.ok()?;
    to.shutdown().await.ok()
}

fn large_file(node: &Node, hash: Hash) -> PathBuf {
    node.home.path().join("data/large").join(hash.to_string())
}

fn names(node: &Node) -> Vec<String> {
    let names = std::fs::read_dir(node.home.path().join("data/large")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_content_is_stored_once_read_in_ranges_and_there_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let bytes = noise(SIZE, 1);
    let shelf = Arc::new(Shelf::open(dir.clone(), config()).await.unwrap());
    let (hash, size, lease) = put::body(&shelf, body(&bytes)).await.unwrap();
    assert_eq!((hash, size), (Hash::of(&bytes), SIZE as u64));
    let path = home.path().join("source");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(put::file(&shelf, &path).await.unwrap().0, hash);
    drop(lease);
    shelf.store.close().await;
    drop(shelf);
    let stranger = Hash::of(b"somebody else's");
    for name in [format!("{stranger}.part"), format!("{stranger}.tree"), ".tmp-x".into()] {
        std::fs::write(dir.join("large").join(name), b"left by a killed process").unwrap();
    }
    let shelf = Arc::new(Shelf::open(dir.clone(), config()).await.unwrap());
    assert_eq!(lock(&shelf.ledger).bytes(), SIZE as u64);
    let left: Vec<_> = std::fs::read_dir(dir.join("large")).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "the content and its tree: {left:?}");
    let ranges = [(0, 1), (PIECE - 1, 2), (5, 3 * PIECE), (SIZE as u64 - 1, 9), (SIZE as u64, 1)];
    for (at, len) in ranges {
        let read = shelf.store.read(hash, at, len);
        let read = read.try_fold(Vec::new(), async |all, some| Ok([&all[..], &some].concat()));
        let end = (at + len).min(SIZE as u64);
        assert_eq!(read.await.unwrap(), bytes[at as usize..end as usize], "{at} {len}");
    }
    // What proves it can be made anew.
    shelf.store.close().await;
    drop(shelf);
    std::fs::write(dir.join("large").join(format!("{hash}.tree")), b"torn").unwrap();
    let shelf = Arc::new(Shelf::open(dir, config()).await.unwrap());
    assert_eq!(read(&shelf, hash, SIZE as u64).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_stay_holes_wherever_it_goes() {
    use std::os::unix::fs::MetadataExt as _;
    let nodes = Node::linked(&["a", "b"]).await;
    let source = nodes[1].home.path().join("sparse");
    let file = std::fs::File::create(&source).unwrap();
    file.set_len(200 * PIECE).unwrap();
    file.write_all_at(&noise(100_000, 2), 150 * PIECE).unwrap();
    let (hash, size, _lease) = put::file(&nodes[1].data.shelf, &source).await.unwrap();
    let given = act(&nodes[1], Acts::Honest);
    let content = Content { hash, size, codec: None, parts: vec![] };
    drop(nodes[0].fetch(&content).await.unwrap());
    assert_eq!(given.load(Ordering::Relaxed), 1, "zeros were sent");
    let out = nodes[0].home.path().join("out");
    let ask = DataAsk::Export { content, path: out.display().to_string(), from: vec![] };
    let (told, _replies) = tokio::sync::mpsc::channel(100);
    nodes[0].data.request(None, ask, Body::default(), &told).await.unwrap();
    let same = std::fs::read(&source).unwrap() == std::fs::read(&out).unwrap();
    assert!(same, "other bytes came out");
    for path in [&out, &large_file(&nodes[0], hash), &large_file(&nodes[1], hash)] {
        let blocks = std::fs::metadata(path).unwrap().blocks();
        assert!(blocks * 512 < 4 * PIECE, "{} has {blocks} blocks", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_pieces_are_caught_and_asked_elsewhere() {
    for acts in [Acts::Flips(7), Acts::Swaps(3), Acts::Floods] {
        let nodes = Node::linked(&["a", "liar", "honest"]).await;
        let bytes = noise(SIZE, 3);
        let content = nodes[1].put(&bytes).await;
        act(&nodes[1], acts);
        let refused = nodes[0].fetch(&content).await.unwrap_err();
        assert!(matches!(refused, DataError::GaveUp { .. }), "{acts:?}: {refused}");
        assert_eq!(nodes[0].data.shelf.store.whole(content.hash).await.unwrap(), None);
        assert!(nodes[0].data.shelf.distrusts(nodes[1].id()), "{acts:?}");
        nodes[2].put(&bytes).await;
        let lied = act(&nodes[1], acts);
        drop(nodes[0].fetch(&content).await.unwrap());
        assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
        assert_eq!(lied.load(Ordering::Relaxed), 0, "the liar was asked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_proof_begins_nothing() {
    for acts in [Acts::ProvesWrong, Acts::ProvesMore] {
        let nodes = Node::linked(&["a", "liar", "honest"]).await;
        let bytes = noise(SIZE, 4);
        let content = nodes[1].put(&bytes).await;
        act(&nodes[1], acts);
        nodes[0].fetch(&content).await.unwrap_err();
        assert_eq!(names(&nodes[0]), [""; 0], "{acts:?}");
        nodes[2].put(&bytes).await;
        drop(nodes[0].fetch(&content).await.unwrap());
        assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stalls_or_breaks_off_costs_nothing_that_came() {
    for after in [0, 1, 5, 12] {
        for acts in [Acts::Cuts(after), Acts::Stalls(after)] {
            let nodes = Node::linked(&["a", "bad", "good"]).await;
            let bytes = noise(SIZE, 5);
            let content = nodes[1].put(&bytes).await;
            let came = act(&nodes[1], acts);
            let given = act(&nodes[2], Acts::Honest);
            let fetch = nodes[0].fetch(&content);
            // The good one has it only when the bad one has done its worst.
            let later = async {
                while came.load(Ordering::Relaxed) < after {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                nodes[2].put(&bytes).await;
            };
            let (fetched, ()) = tokio::join!(fetch, soon(later));
            drop(fetched.unwrap());
            assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
            let again = given.load(Ordering::Relaxed);
            assert!(again <= 13 - after, "{acts:?}: {again} pieces came again");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_holders_give_a_part_and_none_gives_the_same() {
    let nodes = Node::linked(&["a", "b", "c"]).await;
    let bytes = noise(200 << 20, 3);
    let content = nodes[1].put(&bytes).await;
    nodes[2].put(&bytes).await;
    let given = [act(&nodes[1], Acts::Honest), act(&nodes[2], Acts::Honest)];
    drop(nodes[0].fetch(&content).await.unwrap());
    let given = given.map(|given| given.load(Ordering::Relaxed));
    assert!(given.iter().all(|given| *given > 16), "{given:?}");
    assert_eq!(given.iter().sum::<u64>(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_left_is_gone_on_with_after_a_restart() {
    let nodes = Node::linked(&["a", "b"]).await;
    let bytes = noise(SIZE, 6);
    let content = nodes[1].put(&bytes).await;
    let came = act(&nodes[1], Acts::Stalls(6));
    let meter = Meter::default();
    let fetch = fetch::whole(&nodes[0].data, &content, &[], &meter);
    let six = async {
        let store = &nodes[0].data.shelf.store;
        let left = || {
            let opened = store.large(content.hash)?.open().ok()?;
            Some(opened.missing(&(0..SIZE as u64)).unwrap().iter().map(|r| r.end - r.start).sum())
        };
        while came.load(Ordering::Relaxed) < 6
            || left().unwrap_or(u64::MAX) > SIZE as u64 - 6 * PIECE
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = fetch => panic!("it can't be done: {done:?}"),
        () = soon(six) => {}
    }
    // What a restart does: nobody knows which pieces are here.
    let dir = nodes[0].home.path().join("data/large");
    let (again, held) = crate::data::large::Large::open(&dir).unwrap();
    assert_eq!(held, [(content.hash, SIZE as u64)]);
    let opened = again.get(content.hash).unwrap().open().unwrap();
    let missing = opened.missing(&(0..SIZE as u64)).unwrap();
    assert_eq!(missing.iter().map(|r| r.end - r.start).sum::<u64>(), SIZE as u64 - 6 * PIECE);
    let unread = opened.read(missing[0].start / PIECE).unwrap_err();
    assert!(matches!(unread, DataError::Damaged { .. }), "{unread}");
    let given = act(&nodes[1], Acts::Honest);
    drop(nodes[0].fetch(&content).await.unwrap());
    assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
    assert_eq!(given.load(Ordering::Relaxed), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_somebody_removed_comes_anew() {
    let nodes = Node::linked(&["a", "b"]).await;
    let bytes = noise(SIZE, 12);
    let content = nodes[1].put(&bytes).await;
    for ending in ["part", "tree"] {
        act(&nodes[1], Acts::Cuts(2));
        nodes[0].fetch(&content).await.unwrap_err();
        let path = large_file(&nodes[0], content.hash).with_extension(ending);
        std::fs::remove_file(path).unwrap();
    }
    act(&nodes[1], Acts::Honest);
    drop(nodes[0].fetch(&content).await.unwrap());
    assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_removed_and_mended_by_a_peer() {
    let truncate =
        |path: &Path| std::fs::File::options().write(true).open(path).unwrap().set_len(99).unwrap();
    let flip = |path: &Path| {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(b"!!", 5 * PIECE).unwrap();
    };
    let gone = |path: &Path| std::fs::remove_file(path).unwrap();
    for hurt in [&truncate as &dyn Fn(&Path), &flip, &gone] {
        let nodes = Node::linked(&["a", "b", "c"]).await;
        let bytes = noise(SIZE, 8);
        let content = nodes[0].put(&bytes).await;
        nodes[1].put(&bytes).await;
        hurt(&large_file(&nodes[0], content.hash));
        // A holder with damage is passed over, and knows of it then.
        drop(nodes[2].fetch_from(&nodes[0], &content).await);
        let handed = nodes[0].read(&content).await;
        assert!(handed.is_err(), "damage was handed out");
        let (out, _told) = tokio::sync::mpsc::channel(100);
        soon(verify::all(&nodes[0].data.shelf, &out)).await.unwrap();
        assert_eq!(nodes[0].data.shelf.store.whole(content.hash).await.unwrap(), None);
        drop(nodes[0].fetch(&content).await.unwrap());
        assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_is_on_the_disk_before_its_name_is_and_a_copy_soon_after() {
    let nodes = Node::linked(&["a", "b"]).await;
    let content = nodes[1].put(&noise(SIZE, 13)).await;
    let copy = nodes[0].fetch(&content).await.unwrap();
    let item = |node: &Node| node.data.shelf.store.large(content.hash).unwrap();
    assert!(nodes.iter().all(|node| !item(node).is_flushed()), "nothing asked for it");
    let shelf = &nodes[1].data.shelf;
    let lease = gc::lease(shelf, content.hash).await;
    shelf.save("/ann/x", version(content.hash, content.size), lease).await.unwrap();
    assert!(item(&nodes[1]).is_flushed());
    let shelf = &nodes[0].data.shelf;
    shelf.save("/ann/x", version(content.hash, content.size), copy).await.unwrap();
    soon(async {
        while !item(&nodes[0]).is_flushed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_for_now_is_no_damage() {
    // Neither can be read, as with too many open files: one fails to open, one to read.
    let looped = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
    let folder = |path: &Path| std::fs::create_dir(path).unwrap();
    for hide in [&looped as &dyn Fn(&Path), &folder] {
        let nodes = Node::linked(&["a", "b"]).await;
        let (shelf, bytes) = (&nodes[0].data.shelf, noise(SIZE, 13));
        let content = nodes[0].put(&bytes).await;
        let (path, aside) = (large_file(&nodes[0], content.hash), nodes[0].home.path().join("x"));
        std::fs::rename(&path, &aside).unwrap();
        hide(&path);
        let (out, _told) = tokio::sync::mpsc::channel(100);
        let errors = [
            nodes[0].read(&content).await.unwrap_err(),
            soon(verify::all(shelf, &out)).await.unwrap_err(),
        ];
        for error in errors {
            assert!(!matches!(error, DataError::Damaged { .. }), "{error}");
        }
        // Who asks for it is passed on, and has nothing removed.
        nodes[1].fetch_from(&nodes[0], &content).await.unwrap_err();
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!(shelf.store.whole(content.hash).await.unwrap(), Some(SIZE as u64));
        assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
        drop(nodes[1].fetch_from(&nodes[0], &content).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_that_is_needed_and_the_rest_leaves_no_file() {
    let node = Node::start("n").await;
    let (named, unnamed) = (node.put(&noise(SIZE, 9)).await, node.put(&noise(SIZE, 10)).await);
    let shelf = &node.data.shelf;
    let lease = gc::lease(shelf, named.hash).await;
    shelf.save("/ann/x", version(named.hash, named.size), lease).await.unwrap();
    let pressure = gc::Pressure { coming: 0, lacking: u64::MAX };
    let done = gc::collect(shelf, pressure, false).await.unwrap();
    assert_eq!((done.blobs, done.bytes), (1, SIZE as u64));
    assert_eq!(shelf.store.whole(unnamed.hash).await.unwrap(), None);
    assert_eq!(shelf.store.whole(named.hash).await.unwrap(), Some(SIZE as u64));
    assert_eq!(names(&node).len(), 2);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_questions_are_refused_or_answered_in_bounds() {
    let nodes = Node::linked(&["a", "b"]).await;
    let content = nodes[1].put(&noise(SIZE, 11)).await;
    let hash = content.hash;
    let ask = async |ask: PieceAsk| {
        let (peer, mesh) = (nodes[1].id(), &nodes[0].data.mesh);
        let mut stream = mesh.open(peer, wire::PIECE, Priority::Bulk).await.unwrap();
        framed::send(&mut stream.send, &ask, Body::default()).await.unwrap();
        let mut items = 0;
        loop {
            let frame = framed::read(&mut stream.recv, 1 << 20).await.unwrap().unwrap();
            match frame.header::<Reply>().unwrap() {
                Reply::Item { .. } => items += 1,
                Reply::Fail { error, .. } => return Err(error.kind),
                _ => return Ok(items),
            }
        }
    };
    let most = u64::MAX;
    assert_eq!(
        ask(PieceAsk::Read { hash, first: 0, count: most }).await,
        Err(ErrorKind::BadRequest)
    );
    assert_eq!(ask(PieceAsk::Read { hash, first: most, count: 64 }).await, Ok(0));
    assert_eq!(ask(PieceAsk::Read { hash, first: 10, count: 64 }).await, Ok(3));
    let unknown = Hash::of(b"nobody has it");
    let missed = ask(PieceAsk::Read { hash: unknown, first: 0, count: 1 }).await;
    assert_eq!(missed, Err(ErrorKind::NotFound));
    assert_eq!(ask(PieceAsk::Prove { hash: unknown }).await, Ok(0));
    assert_eq!(pieces::count(content.size), 13);
}
