//! The room as its users see it, on real folders.

use std::{
    fs,
    io::Read,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use rhd_protocol::{
    api::LocalRoot,
    error::ErrorKind,
    frame,
    id::Hash,
    wire::{Deploy, FileEntry, Manifest},
};
use tempfile::TempDir;

use super::*;

/// A project folder and the home of a node.
struct Bench {
    project: TempDir,
    _home: TempDir,
    blobs: Blobs,
}

impl Bench {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path(), config).unwrap();
        Self { project: tempfile::tempdir().unwrap(), _home: home, blobs }
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    async fn try_snapshot(&self, only: &[&str]) -> Result<Snapshot, ErrorInfo> {
        let only = only.iter().map(|s| (*s).into()).collect();
        let path = self.project.path().to_str().unwrap().into();
        self.blobs.snapshot(LocalRoot { path, sys_path: vec!["".into()], only }, "node").await
    }

    async fn snapshot(&self) -> Snapshot {
        self.try_snapshot(&[]).await.unwrap()
    }

    /// Moves what a snapshot needs to another node and unfolds it there.
    async fn deploy(&self, to: &Blobs) -> (Moved, PathBuf) {
        let snapshot = self.snapshot().await;
        let want = to.missing([&snapshot.manifest]).await.unwrap();
        let moved = transfer(&snapshot, to, want).await;
        let root = to.code_root(&snapshot.offer()).await.unwrap();
        (moved, root.dir.into())
    }
}

async fn transfer(from: &Snapshot, to: &Blobs, want: Vec<(Hash, u64)>) -> Moved {
    let (mut a, mut b) = tokio::io::duplex(64 * 1024);
    let hashes: Vec<_> = want.iter().map(|w| w.0).collect();
    let snapshots = [from.clone()];
    let (sent, received) =
        tokio::join!(send_files(&snapshots, &hashes, &mut a), to.receive_files(want, &mut b));
    assert_eq!(sent.unwrap(), *received.as_ref().unwrap());
    received.unwrap()
}

fn paths(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.manifest.files.keys().map(String::as_str).collect()
}

fn home() -> (TempDir, Blobs) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), Config::default()).unwrap();
    (dir, blobs)
}

fn files_below(dir: &Path) -> usize {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    below.map(|e| if e.path().is_dir() { files_below(&e.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn what_git_or_rhd_ignores_is_left_out_without_a_repository() {
    let bench = Bench::new();
    bench.write(".gitignore", "*.log\n/data/\n");
    bench.write(".rhdignore", "big/\n!keep.log\n");
    for path in ["main.py", "pkg/__init__.py", "x.egg-info/PKG-INFO", "keep.log", "target/x.rs"] {
        bench.write(path, path);
    }
    for path in [
        "a.log",
        "data/1",
        "big/1",
        ".env",
        ".git/config",
        "__pycache__/main.pyc",
        "pkg/x.pyc",
        ".venv/lib/x.py",
        "venv/lib/x.py",
        "other/pyvenv.cfg",
        "other/lib/x.py",
        "node_modules/x.js",
        ".ruff_cache/x",
    ] {
        bench.write(path, path);
    }
    let expected = ["keep.log", "main.py", "pkg/__init__.py", "target/x.rs", "x.egg-info/PKG-INFO"];
    assert_eq!(paths(&bench.snapshot().await), expected);
}

#[tokio::test]
async fn parts_that_are_named_come_alone_even_if_hidden() {
    let bench = Bench::new();
    for path in ["main.py", "pkg/a.py", "pkg/__pycache__/a.pyc", "rest/b.py", ".secrets/key"] {
        bench.write(path, path);
    }
    let only = bench.try_snapshot(&["pkg", "main.py", "pkg/a.py", ".secrets/"]).await.unwrap();
    assert_eq!(paths(&only), [".secrets/key", "main.py", "pkg/a.py"]);
    for bad in ["../x", "/etc/passwd", "nothing.py"] {
        let error = bench.try_snapshot(&[bad]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadRequest, "{bad}");
    }
}

#[tokio::test]
async fn links_stay_links_and_never_lead_out() {
    let bench = Bench::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "s").unwrap();
    bench.write("pkg/a.py", "a");
    let at = |path: &str| bench.project.path().join(path);
    symlink("pkg/a.py", at("inside")).unwrap();
    symlink("pkg", at("folder")).unwrap();
    symlink(outside.path(), at("outside")).unwrap();
    symlink("../../etc/passwd", at("pkg/up")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let snapshot = bench.snapshot().await;
    assert_eq!(paths(&snapshot), ["folder", "inside", "pkg/a.py"]);
    assert_eq!(snapshot.manifest.files["inside"].link.as_deref(), Some("pkg/a.py"));
    assert_eq!(snapshot.warnings.len(), 2, "{:?}", snapshot.warnings);
    let through = bench.try_snapshot(&["outside/secret"]).await.unwrap_err();
    assert!(through.message.contains("through a link"), "{through}");

    let (_dir, host) = home();
    let (_, dir) = bench.deploy(&host).await;
    assert_eq!(fs::read_to_string(dir.join("inside")).unwrap(), "a");
    assert!(fs::symlink_metadata(dir.join("folder")).unwrap().is_symlink());
}

#[tokio::test]
async fn a_project_that_is_too_large_is_refused_with_its_offenders() {
    let bench = Bench::with(Config { max_file_bytes: 1_000, ..Config::default() });
    bench.write("a.py", "a");
    bench.write("model.bin", [0; 2_000]);
    let error = bench.try_snapshot(&[]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::BadRequest);
    assert!(error.message.contains("model.bin 2.0 KiB"), "{error}");
    assert!(error.hint.contains(".rhdignore"), "{}", error.hint);
    bench.write(".rhdignore", "*.bin");
    assert_eq!(paths(&bench.snapshot().await), ["a.py"]);
}

#[tokio::test]
async fn a_walk_without_end_is_cut_and_says_where_the_files_are() {
    let bench = Bench::with(Config { max_project_files: 5, ..Config::default() });
    (0..80).for_each(|i| drop(bench.write(&format!("data/{i}"), "x")));
    let error = bench.try_snapshot(&[]).await.unwrap_err();
    assert!(error.message.contains("more than 51 files (limit 5)"), "{error}");
    assert!(error.message.contains("data/ 51 files"), "{error}");
}

#[tokio::test]
async fn only_a_changed_file_moves_and_the_rest_is_shared() {
    let bench = Bench::new();
    (0..30).for_each(|i| drop(bench.write(&format!("pkg/m{i}.py"), format!("x = {i}"))));
    bench.write("pkg/empty.py", "");
    bench.write("pkg/empty_too.py", "");
    let (_dir, host) = home();
    let (moved, first) = bench.deploy(&host).await;
    assert_eq!(moved.files, 31);
    assert_eq!(bench.deploy(&host).await, (Moved::default(), first.clone()));

    bench.write("pkg/m7.py", "x = 'new'");
    let (moved, second) = bench.deploy(&host).await;
    assert_eq!(moved, Moved { files: 1, bytes: 9 });
    assert_eq!(fs::read_to_string(first.join("pkg/m7.py")).unwrap(), "x = 7");
    assert_eq!(fs::read_to_string(second.join("pkg/m7.py")).unwrap(), "x = 'new'");
    let inode = |dir: &Path| fs::metadata(dir.join("pkg/m8.py")).unwrap().ino();
    assert_eq!(inode(&first), inode(&second), "one file on disk");
}

#[tokio::test]
async fn files_of_several_chunks_and_their_permissions_arrive() {
    let bench = Bench::new();
    let large: Vec<u8> = (0..2_500_000u32).map(|i| (i / 7) as u8).collect();
    bench.write("large.bin", &large);
    let script = bench.write("run.sh", "#!/bin/sh\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    bench.write("same.txt", "#!/bin/sh\n");
    let (_dir, host) = home();
    let (moved, dir) = bench.deploy(&host).await;
    assert_eq!(moved.files, 2, "equal content moves once");
    assert_eq!(fs::read(dir.join("large.bin")).unwrap(), large);
    let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().mode() & 0o777;
    assert_eq!((mode("run.sh"), mode("same.txt")), (0o555, 0o444));
}

#[tokio::test]
async fn this_nodes_own_snapshots_need_no_stream() {
    let bench = Bench::new();
    bench.write("a.py", "a");
    let snapshot = bench.snapshot().await;
    let want = bench.blobs.missing([&snapshot.manifest]).await.unwrap();
    let moved = bench.blobs.import(vec![snapshot.clone()], want).await.unwrap();
    assert_eq!(moved, Moved { files: 1, bytes: 1 });
    let dir = bench.blobs.materialise(&snapshot.manifest).await.unwrap();
    assert_eq!(fs::read(dir.join("a.py")).unwrap(), b"a");
}

#[tokio::test]
async fn an_edit_of_equal_size_is_seen_and_an_untouched_file_is_not_read_again() {
    let bench = Bench::new();
    let path = bench.write("a.py", "one");
    let first = bench.snapshot().await;
    for text in ["two", "six", "ten"] {
        bench.write("a.py", text);
        assert_eq!(bench.snapshot().await.manifest.files["a.py"].hash, Hash::of(text.as_bytes()));
    }
    // A file from long ago; what it is cached as shows that the cache is asked.
    let old = std::time::SystemTime::now() - Duration::from_secs(3_600);
    fs::File::open(&path).unwrap().set_modified(old).unwrap();
    let meta = fs::metadata(&path).unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    let fake = Hash::of(b"cached");
    let root = fs::canonicalize(bench.project.path()).unwrap();
    let stamp = crate::folders::Stamp::of(&meta);
    bench.blobs.inner.cache.lock().unwrap().insert(&root.join("a.py"), stamp, fake, later);
    let second = bench.snapshot().await;
    assert_eq!(second.manifest.files["a.py"].hash, fake);
    assert_eq!(first.project, second.project, "one project, two versions");
}

#[tokio::test]
async fn a_file_that_changes_after_the_snapshot_is_not_passed_off_as_the_old_one() {
    let bench = Bench::new();
    bench.write("a.py", "one");
    let snapshot = bench.snapshot().await;
    let mut text = String::new();
    let hash = Hash::of(b"one");
    snapshot.open_file(hash).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "one");
    bench.write("a.py", "two");
    let mut wire = Vec::new();
    let sent = send_files(std::slice::from_ref(&snapshot), &[hash], &mut wire).await;
    assert!(matches!(sent, Err(BlobError::Changed(_))), "{sent:?}");
    assert!(wire.is_empty());
    let imported = bench.blobs.import(vec![snapshot], vec![(hash, 3)]).await.unwrap_err();
    assert_eq!(imported.kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn wishes_for_what_was_not_offered_are_refused() {
    let bench = Bench::new();
    bench.write("a.py", "a");
    let snapshots = [bench.snapshot().await];
    let mut wire = Vec::new();
    for want in [vec![Hash::of(b"/etc/passwd")], vec![Hash::of(b"a"), Hash::of(b"a")]] {
        let sent = send_files(&snapshots, &want, &mut wire).await;
        assert!(matches!(sent, Err(BlobError::Protocol(_))), "{sent:?}");
    }
    assert!(wire.is_empty());
}

/// The bytes of chunk frames.
fn chunks(chunks: &[(&[u8], &[u8], bool)]) -> Vec<u8> {
    let frame = |(content, bytes, last): &(&[u8], &[u8], bool)| {
        let header = Deploy::File { hash: Hash::of(content), last: *last };
        [frame::encode(&header, bytes.len()).unwrap(), bytes.to_vec()].concat()
    };
    chunks.iter().flat_map(frame).collect()
}

#[tokio::test]
async fn wrong_long_short_and_unordered_content_is_refused_and_leaves_nothing() {
    let (dir, host) = home();
    let want = vec![(Hash::of(b"one"), 3), (Hash::of(b"two"), 3)];
    let cases: [(&str, Vec<u8>); 8] = [
        ("wrong", chunks(&[(b"one", b"eno", true)])),
        ("long", chunks(&[(b"one", b"onee", true)])),
        ("long in parts", chunks(&[(b"one", b"on", false), (b"one", b"ee", true)])),
        ("short", chunks(&[(b"one", b"on", true)])),
        ("unordered", chunks(&[(b"two", b"two", true)])),
        ("without end", chunks(&[(b"one", b"", false)])),
        ("cut", chunks(&[(b"one", b"one", false)])),
        ("another frame", frame::encode(&rhd_protocol::wire::Want { count: 1 }, 0).unwrap()),
    ];
    for (name, wire) in cases {
        let received = host.receive_files(want.clone(), &mut &wire[..]).await;
        assert!(received.is_err(), "{name}");
        assert_eq!(files_below(&dir.path().join("blobs")), 0, "{name}");
    }
    // What came whole before the cut need not come again.
    let wire = chunks(&[(b"one", b"one", true), (b"two", b"t", false)]);
    let error = ErrorInfo::from(host.receive_files(want, &mut &wire[..]).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::PeerLost);
    assert!(host.has(Hash::of(b"one"), 3));
    assert_eq!(files_below(&dir.path().join("blobs")), 1);
}

#[tokio::test]
async fn a_hostile_manifest_writes_nothing() {
    let (dir, host) = home();
    let mut writer = host.writer(Hash::of(b"x"), 1).unwrap();
    writer.write(b"x").unwrap();
    writer.finish().unwrap();
    let plain = FileEntry { size: 1, hash: Hash::of(b"x"), exec: false, link: None };
    let link = |to: &str| FileEntry { link: Some(to.into()), size: 0, ..plain.clone() };
    let manifests = [
        vec![("../x", plain.clone())],
        vec![("/tmp/x", plain.clone())],
        vec![("a/../../x", plain.clone())],
        vec![("a", link("/etc"))],
        vec![("a", link("..")), ("b", plain.clone())],
        vec![("a", link("b")), ("a/x", plain.clone())],
        vec![("a/b/c", link("../..")), ("d", link("a/b/c/../../.."))],
    ];
    for files in manifests {
        let files = files.into_iter().map(|(path, file)| (path.into(), file)).collect();
        let manifest = Manifest { files };
        assert!(host.missing([&manifest]).await.is_err(), "{manifest:?}");
        assert!(host.materialise(&manifest).await.is_err(), "{manifest:?}");
    }
    assert_eq!(files_below(dir.path()), 1, "only the store's own file");
    let huge = FileEntry { size: u64::MAX, ..plain.clone() };
    let two = FileEntry { hash: Hash::of(b"y"), ..huge.clone() };
    let manifest = Manifest { files: [("a".into(), huge), ("b".into(), two)].into() };
    assert!(host.missing([&manifest]).await.unwrap_err().message.contains("at most"));
    assert!(host.writer(Hash::of(b"x"), u64::MAX).is_err());
    let root = RootOffer {
        project: "p".into(),
        sys_path: vec!["../..".into()],
        manifest: Manifest { files: [("a".into(), plain)].into() },
    };
    assert!(host.code_root(&root).await.is_err());
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_that_counts() {
    let bench = Bench::new();
    bench.write("a.py", "a");
    let (dir, host) = home();
    let mut writer = host.writer(Hash::of(b"abc"), 3).unwrap();
    writer.write(b"ab").unwrap();
    std::mem::forget(writer);
    fs::create_dir_all(dir.path().join("code/tmp/build1/pkg")).unwrap();
    fs::write(dir.path().join("code/tmp/build1/pkg/a.py"), "x").unwrap();
    drop(host);
    let host = Blobs::open(dir.path(), Config::default()).unwrap();
    assert_eq!(files_below(dir.path()), 0);
    assert_eq!(bench.deploy(&host).await.0.files, 1);
}

#[tokio::test]
async fn what_somebody_changed_on_disk_is_fetched_again() {
    let bench = Bench::new();
    bench.write("a.py", "good");
    let (dir, host) = home();
    let (_, code) = bench.deploy(&host).await;
    let file = code.join("a.py");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "evil").unwrap();
    drop(host);
    let host = Blobs::open(dir.path(), Config::default()).unwrap();
    let (moved, code) = bench.deploy(&host).await;
    assert_eq!(moved.files, 1);
    assert_eq!(fs::read_to_string(code.join("a.py")).unwrap(), "good");
}

#[tokio::test]
async fn concurrent_deployments_of_one_version_share_its_folder() {
    let bench = Bench::new();
    (0..50).for_each(|i| drop(bench.write(&format!("m{i}.py"), format!("{i}"))));
    let (_dir, host) = home();
    let all = futures::future::join_all((0..8).map(|_| bench.deploy(&host))).await;
    assert!(all.iter().all(|(_, dir)| *dir == all[0].1));
    assert_eq!(files_below(&all[0].1), 50);
}

#[tokio::test]
async fn pruning_keeps_the_newest_versions_and_those_in_use() {
    let bench = Bench::new();
    let dir = tempfile::tempdir().unwrap();
    let host = Blobs::open(dir.path(), Config { keep_versions: 2, ..Config::default() }).unwrap();
    bench.write("same.py", "same");
    let mut versions = Vec::new();
    for i in 0..5 {
        bench.write("a.py", format!("version {i}"));
        versions.push(bench.deploy(&host).await.1);
    }
    let lease = host.lease().await;
    let none = host.prune_older(vec![], Some(Duration::ZERO)).await.unwrap();
    assert_eq!(none, Pruned::default(), "a deployment is under way");
    drop(lease);
    assert_eq!(host.prune(vec![versions[0].clone()]).await.unwrap().blobs, 0, "too young");
    let left: Vec<_> = versions.iter().map(|v| v.is_dir()).collect();
    assert_eq!(left, [true, false, false, true, true]);
    let pruned = host.prune_older(vec![versions[0].clone()], Some(Duration::ZERO)).await.unwrap();
    assert_eq!(pruned, Pruned { versions: 0, blobs: 2 });
    bench.write("a.py", "version 1");
    assert_eq!(bench.deploy(&host).await.0, Moved { files: 1, bytes: 9 });
}
