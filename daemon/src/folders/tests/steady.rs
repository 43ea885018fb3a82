//! Folders that change under way, and what is in the way.

use std::{os::unix::fs::symlink, time::Duration};

use rhd_protocol::{machine::reconcile::aside, pieces::PIECE};

use super::*;

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    one.write("x", &[("sub/a", b"theirs"), ("b", b"theirs")]);
    other.write("elsewhere", &[("a", b"precious"), ("b", b"precious")]);
    fs::create_dir_all(other.at("x")).unwrap();
    symlink(other.at("elsewhere"), other.at("x").join("sub")).unwrap();
    symlink(other.at("elsewhere/b"), other.at("x").join("b")).unwrap();
    other.pull(&one, "x").await.unwrap();
    let elsewhere = other.read("elsewhere");
    assert!(elsewhere.len() == 2 && elsewhere.values().all(|bytes| bytes == b"precious"));
    assert_eq!(other.read("x")["b"], b"theirs");
}

#[tokio::test]
async fn what_appears_under_way_is_set_aside() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    one.write("x", &[("a", b"theirs"), ("b", b"theirs")]);
    other.write("x", &[("b", b"was")]);
    other.pull(&one, "x").await.unwrap();
    one.write("x", &[("b", b"theirs again"), ("c", b"theirs")]);
    // As if somebody wrote between the look and the write: the stamps that were seen are of no file.
    let turn = Arc::new(other.folders.turn(&other.at("x")).await);
    let target = place::Target::open(&other.at("x"), "other", "now".into(), turn).unwrap();
    other.write("x", &[("c", b"mine")]);
    let staged = |bytes: &[u8]| {
        use std::os::unix::fs::FileExt as _;
        let staged = target.stage(false).unwrap();
        staged.file.write_all_at(bytes, 0).unwrap();
        staged
    };
    let (_, moved) = target.put(staged(b"theirs"), "c", None, &[]).unwrap();
    assert_eq!(moved.as_deref(), Some("c.conflict-other-now"));
    let seen = Stamp::of(&fs::metadata(other.at("x/b")).unwrap());
    other.write("x", &[("b", b"written meanwhile")]);
    let (_, moved) = target.put(staged(b"theirs again"), "b", Some(seen), &[]).unwrap();
    assert_eq!(moved.as_deref(), Some("b.conflict-other-now"));
    target.finish(true);
    let files = other.read("x");
    assert_eq!(files["c.conflict-other-now"], b"mine");
    assert_eq!(files["b.conflict-other-now"], b"written meanwhile");
    assert_eq!(
        (files["c"].as_slice(), files["b"].as_slice()),
        (&b"theirs"[..], &b"theirs again"[..])
    );
}

#[tokio::test]
async fn what_they_set_aside_and_what_is_set_aside_here_have_two_names() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    // Whenever it is done: theirs has the names of each second, one listed before what differs, one after.
    let now = SystemTime::now();
    let stamps: Vec<String> = (0..120).map(|s| moment(now + Duration::from_secs(s))).collect();
    let name = |path: &str, stamp: &str| aside(path, "other", stamp, 0);
    let before: Vec<String> =
        stamps.iter().flat_map(|at| [name("a.txt", at), name("b", at)]).collect();
    let files: Vec<(&str, &[u8])> = before.iter().map(|n| (n.as_str(), n.as_bytes())).collect();
    one.write("x", &files);
    one.write("x", &[("a.txt", b"theirs"), ("b", b"theirs")]);
    other.write("x", &[("a.txt", b"mine"), ("b", b"mine")]);
    let done = other.pull(&one, "x").await.unwrap();
    assert!(done.skipped.is_empty(), "{done:?}");
    let mut expected = one.read("x");
    let asides = &done.conflicts;
    assert!(asides.len() == 2 && asides.iter().all(|name| !before.contains(name)), "{done:?}");
    expected.extend(asides.iter().map(|name| (name.clone(), b"mine".to_vec())));
    assert_eq!(other.read("x"), expected);
}

#[tokio::test]
async fn two_who_write_to_one_folder_take_turns() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    let files: Vec<(String, Vec<u8>)> =
        (0..200).map(|n| (format!("f{n}"), noise(3000, n))).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    one.write("x", &files);
    let (first, second) = tokio::join!(other.pull(&one, "x"), other.pull(&one, "x"));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.written + second.written, 200, "{first:?} {second:?}");
    assert!(first.conflicts.is_empty() && second.conflicts.is_empty());
    assert_eq!(other.read("x"), one.read("x"));
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing_and_the_next_has_its_turn() {
    let [one, other] = Node::pair(Role::Member).await;
    one.write("x", &[("a", b"theirs")]);
    // It takes the question, and does not answer.
    let mut streams = one.folders.inner.mesh.accept(wire::FOLDER);
    let asked = tokio::select! {
        done = other.pull(&one, "x") => panic!("nobody answered: {done:?}"),
        asked = async {
            let asked = streams.recv().await;
            soon(async {
                while !other.at("x/.rhd-sync").exists() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            asked
        } => asked,
    };
    // What looks at the folder goes on for a moment.
    drop(soon(other.folders.turn(&other.at("x"))).await);
    assert!(!other.at("x/.rhd-sync").exists());
    drop(asked);
    one.serve();
    other.pull(&one, "x").await.unwrap();
    assert_eq!(other.read("x"), one.read("x"));
}

#[tokio::test]
async fn a_file_that_changes_all_the_time_is_named_and_the_rest_comes() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    one.write("x", &[("calm", b"calm"), ("log", b"0")]);
    let (path, new) = (one.at("x").join("log"), one.at("new"));
    let version = |n: u64| [&n.to_le_bytes(), noise(2 * PIECE as usize, n).as_slice()].concat();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut n = 0u64;
        while !stopped.is_cancelled() {
            n += 1;
            fs::write(&new, version(n)).unwrap();
            fs::rename(&new, &path).unwrap();
        }
    });
    let done = other.pull(&one, "x").await.unwrap();
    stop.cancel();
    writer.join().unwrap();
    assert_eq!(other.read("x")["calm"], b"calm");
    let came = other.read("x").get("log").cloned();
    let whole = came.as_ref().is_none_or(|bytes| {
        let n = bytes.first_chunk().map(|n| u64::from_le_bytes(*n));
        bytes == b"0" || n.is_some_and(|n| *bytes == version(n))
    });
    assert!(whole, "no half of it is seen, nor a mix");
    let named = done.skipped.iter().any(|one| one.path == "log" && one.why.contains("changing"));
    assert!(named || came.is_some(), "{done:?}");
    let done = other.pull(&one, "x").await.unwrap();
    assert!(done.skipped.is_empty());
    assert_eq!(other.read("x"), one.read("x"));
}

#[tokio::test]
async fn a_path_may_be_longer_than_the_system_takes_at_once() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    let deep = vec!["d".repeat(200); 12].join("/");
    one.write("x", &[(&format!("{deep}/a"), b"1")]);
    let to = other.at("y").join(&deep);
    let done = other.pull_to(&one, "x", &to).await.unwrap();
    assert!(done.skipped.is_empty(), "{done:?}");
    // Below one another they are beyond what one name may have.
    let file = tree::Tree::open(&to).unwrap().read(&format!("{deep}/a")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1);
    fs::read(to.join(deep).join("a")).unwrap_err();
}

#[tokio::test]
async fn what_can_not_be_written_is_named_and_the_rest_comes() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    one.write("x", &[("a/b", b"1"), ("c", b"2"), ("d/e", b"3")]);
    other.write("x", &[("mine", b"mine")]);
    // A link in place of a folder, which is not followed: ignored there, so that nobody looks at it.
    other.write("x", &[(".rhdignore", b"a\n")]);
    symlink("/nowhere", other.at("x").join("a")).unwrap();
    let done = other.pull(&one, "x").await.unwrap();
    let named: Vec<&str> = done.skipped.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(named, ["a/b"], "{done:?}");
    let files = other.read("x");
    assert_eq!((files["c"].as_slice(), files["d/e"].as_slice()), (&b"2"[..], &b"3"[..]));
    assert_eq!(done.kept, [".rhdignore", "mine"]);
}

#[tokio::test]
async fn of_what_is_fetched_once_nothing_is_remembered() {
    let [one, other] = Node::pair(Role::Member).await;
    one.serve();
    one.write("x", &[("a", b"1")]);
    let from = Place { node: None, path: one.at("x").display().to_string(), grant: None };
    soon(other.folders.fetch(one.id(), from, &other.at("x"), 1)).await.unwrap();
    assert_eq!(other.read("x"), one.read("x"));
    let remembered = || fs::read_dir(other.home.path().join("common")).unwrap().count();
    assert_eq!(remembered(), 0);
    other.pull(&one, "x").await.unwrap();
    assert_eq!(remembered(), 1);
    one.write("x", &[("b", b"22")]);
    let from = Place { node: None, path: one.at("x").display().to_string(), grant: None };
    soon(other.folders.fetch(one.id(), from, &other.at("y"), 2)).await.unwrap_err();
    assert!(other.read("y").is_empty(), "more than it may have");
}
