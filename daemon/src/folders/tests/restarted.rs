//! What is known of files when the daemon starts again.

use std::{os::unix::fs::MetadataExt as _, time::Duration};

use super::{
    known::Known,
    scan::{Scan, scan},
    *,
};

/// A folder as it is seen by a daemon that has just started, and what that knew before it looked.
struct Seen {
    known: Arc<Known>,
    scan: Scan,
}

fn start(node: &Node) -> Seen {
    let known = Arc::new(Known::open(node.home.path().join("hashes"), 100).unwrap());
    let scan = scan(&node.at("x"), &known).unwrap();
    // It is kept soon, or here.
    known.kept_now(&node.at("x"));
    Seen { known, scan }
}

/// Files that are known without a look at what is in them.
fn recalled(node: &Node) -> Vec<String> {
    let known = Arc::new(Known::open(node.home.path().join("hashes"), 100).unwrap());
    known.recall(&node.at("x"));
    let names = node.read("x").into_keys();
    let is_known = |name: &String| {
        let path = node.at("x").join(name);
        known.current(&path, Stamp::of(&fs::metadata(&path).unwrap())).is_some()
    };
    names.filter(is_known).collect()
}

/// Until a write gets another stamp than the last one, whatever the clock of the file system is.
fn until_settled(node: &Node) {
    let probe = node.at("probe");
    fs::create_dir_all(node.home.path().join("files")).unwrap();
    let changed = |path: &Path| {
        let meta = fs::metadata(path).unwrap();
        Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32)
    };
    fs::write(&probe, b"").unwrap();
    let first = changed(&probe);
    while changed(&probe) < first + Duration::from_millis(60) {
        fs::write(&probe, b"").unwrap();
    }
}

#[tokio::test]
async fn files_are_known_until_they_change() {
    let node = Node::start("one").await;
    let large = noise(3 << 20, 1);
    node.write("x", &[("a", b"1"), ("sub/b", b"2"), ("large", &large)]);
    until_settled(&node);
    let before = start(&node);
    assert_eq!(recalled(&node), ["a", "large", "sub/b"]);
    let again = start(&node);
    assert_eq!(again.scan.entries, before.scan.entries);
    let hash = again.scan.entries[1].hash;
    assert!(before.known.values(hash).is_some() && again.known.values(hash).is_none(), "not read");
    // Of the same size, at the same time.
    let meta = fs::metadata(node.at("x/a")).unwrap();
    fs::write(node.at("x/a"), b"3").unwrap();
    let file = fs::File::options().write(true).open(node.at("x/a")).unwrap();
    file.set_modified(meta.modified().unwrap()).unwrap();
    assert_eq!(recalled(&node), ["large", "sub/b"]);
    until_settled(&node);
    assert_eq!(start(&node).scan.entries[0].hash, rhd_protocol::id::Hash::of(b"3"));
    assert_eq!(recalled(&node), ["a", "large", "sub/b"]);
}

#[tokio::test]
async fn a_damaged_log_is_as_none() {
    let node = Node::start("one").await;
    node.write("x", &[("a", b"1"), ("b", b"2")]);
    until_settled(&node);
    let before = start(&node);
    let log = fs::read_dir(node.home.path().join("hashes")).unwrap().next().unwrap().unwrap();
    let mut bytes = fs::read(log.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(log.path(), bytes).unwrap();
    assert!(recalled(&node).is_empty());
    assert_eq!(start(&node).scan.entries, before.scan.entries);
    assert_eq!(recalled(&node), ["a", "b"], "and is mended");
}

#[tokio::test]
async fn what_is_known_by_the_folder_above_is_known_by_its_own_start() {
    let node = Node::start("one").await;
    node.write("x", &[("a", b"1"), ("b", b"2")]);
    until_settled(&node);
    let known = Arc::new(Known::open(node.home.path().join("hashes"), 100).unwrap());
    scan(&node.home.path().join("files"), &known).unwrap();
    scan(&node.at("x"), &known).unwrap();
    let kept = async {
        while recalled(&node) != ["a", "b"] {
            tokio::task::yield_now().await;
        }
    };
    soon(kept).await;
}

#[tokio::test]
async fn of_a_large_file_only_what_changed_comes_after_a_start() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    let mut large = noise(20 << 20, 1);
    one.write("x", &[("large", &large)]);
    other.pull(&one, "x").await.unwrap();
    large[5 << 20] ^= 1;
    one.write("x", &[("large", &large)]);
    until_settled(&other);
    start(&other);
    assert_eq!(recalled(&other), ["large"]);
    // As one that has just started: nothing proves the pieces of what is there.
    let home = other.home.path();
    let inner = &other.folders.inner;
    let (mesh, naming) = (inner.mesh.clone(), inner.naming.clone());
    let folders = Folders::open(home, mesh, naming, Stores::default()).unwrap();
    let done = Node { folders, ..other }.pull(&one, "x").await.unwrap();
    assert_eq!((done.written, done.moved), (1, 1 << 20), "{done:?}");
}
