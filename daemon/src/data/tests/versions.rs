//! Versions of names, held against a model, and what happens to those that hurry or hang up.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rhd_protocol::{
    data::{DataAsk, Input, MAX_INPUTS, Origin, Tree},
    folder::Entry,
};

use super::*;
use crate::data::versions::Held;

async fn shelf(dir: &Path, keep_versions: usize) -> Arc<Shelf> {
    let config = Config { keep_secs: 0, keep_versions, ..config() };
    Arc::new(Shelf::open(dir.join("data"), config).await.unwrap())
}

async fn save(shelf: &Arc<Shelf>, name: &str, bytes: &[u8]) -> (Version, u32) {
    let (hash, size, lease) = put::body(shelf, body(bytes)).await.unwrap();
    shelf.save(name, version(hash, size), lease).await.unwrap()
}

/// A folder of two files: one of its own, and one that is in all of them.
fn entries(content: u8) -> Vec<Entry> {
    let file = |path: &str, content| {
        let bytes = bytes(content);
        let (path, size, hash) = (path.into(), bytes.len() as u64, Hash::of(&bytes));
        Entry { path, size, hash, exec: false, link: None, dir: false }
    };
    vec![file("own", content), file("shared", SHARED)]
}

async fn save_tree(shelf: &Arc<Shelf>, name: &str, content: u8) -> Result<Version, DataError> {
    let entries = entries(content);
    let mut leases = Vec::new();
    for content in [content, SHARED] {
        leases.push(put::body(shelf, body(&bytes(content))).await?.2);
    }
    let (hash, size, lease) = put::body(shelf, body(&manifest::encode(&entries)?)).await?;
    leases.push(lease);
    let tree = Some(Tree { path: "/x".into(), table: false, entries: 2, bytes: 0 });
    let held = Held { leases, files: manifest::hashes(&entries) };
    Ok(shelf.save(name, Version { tree, ..version(hash, size) }, held).await?.0)
}

async fn roll_back(shelf: &Arc<Shelf>, name: &str, number: u64) -> Result<Version, DataError> {
    let lease = gc::lease(shelf, Hash::of(b"")).await;
    let old = shelf.version(name, number)?;
    let record = Version { tree: old.tree.clone(), ..version(Hash::of(b""), 0) };
    let files = match &old.tree {
        Some(_) => manifest::hashes(&manifest::load(&shelf.store, &old.content).await?),
        None => Vec::new(),
    };
    let held = Held { files, ..Held::from(lease) };
    Ok(shelf.roll_back(name, old, record, held).await?.0)
}

fn numbers(shelf: &Shelf, name: &str) -> Vec<u64> {
    shelf.names.all().get(name).into_iter().flatten().map(|v| v.number).collect()
}

/// What may be done to names.
#[derive(Debug, Clone)]
enum Step {
    Save(u8, u8),
    RollBack(u8, u64),
    Rename(u8, u8),
    Remove(u8),
    Reopen,
}

fn step(rng: &mut StdRng) -> Step {
    let name = rng.random_range(0..3);
    match rng.random_range(0..12) {
        0..=5 => Step::Save(name, rng.random_range(0..4) + if name == 0 { 0 } else { TREE }),
        6..=8 => Step::RollBack(name, rng.random_range(0..12)),
        9 => Step::Rename(name, rng.random_range(0..3)),
        10 => Step::Remove(name),
        _ => Step::Reopen,
    }
}

const KEEP: usize = 3;
/// From here on contents are folders, with the file that is so much less.
const TREE: u8 = 10;
/// The file that all folders have.
const SHARED: u8 = 9;

/// What names stand for: numbers with contents, and which version was restored.
type Model = BTreeMap<String, Vec<(u64, u8, Option<u64>)>>;

/// Does a step to the model; whether it may be done.
fn expected(model: &mut Model, step: &Step) -> bool {
    let key = |n: &u8| format!("/ann/{n}");
    let push = |versions: &mut Vec<(u64, u8, Option<u64>)>, content, restored| {
        versions.push((versions.last().map_or(1, |last| last.0 + 1), content, restored));
        if versions.len() > KEEP {
            versions.remove(0);
        }
    };
    match step {
        Step::Save(name, content) => {
            let versions = model.entry(key(name)).or_default();
            if versions.last().is_some_and(|last| (last.1 < TREE) != (*content < TREE)) {
                return false;
            }
            if versions.last().is_none_or(|last| last.1 != *content) {
                push(versions, *content, None);
            }
            true
        }
        Step::RollBack(name, number) => {
            let Some(versions) = model.get_mut(&key(name)) else { return false };
            let Some(old) = versions.iter().find(|v| v.0 == *number).copied() else { return false };
            if versions.last() != Some(&old) {
                push(versions, old.1, Some(*number));
            }
            true
        }
        Step::Rename(name, to) => {
            if !model.contains_key(&key(name)) || (name != to && model.contains_key(&key(to))) {
                return false;
            }
            let versions = model.remove(&key(name)).unwrap();
            model.insert(key(to), versions);
            true
        }
        Step::Remove(name) => model.remove(&key(name)).is_some(),
        Step::Reopen => true,
    }
}

fn bytes(content: u8) -> Vec<u8> {
    noise(if content == 0 { 40_000 } else { 100 }, content.into())
}

fn hash_of(content: u8) -> Hash {
    match content.checked_sub(TREE) {
        Some(own) => Hash::of(&manifest::encode(&entries(own)).unwrap()),
        None => Hash::of(&bytes(content)),
    }
}

/// Whether the names of the shelf did what is asked.
async fn done(shelf: &mut Arc<Shelf>, dir: &Path, step: &Step) -> bool {
    let key = |n: &u8| format!("/ann/{n}");
    match step {
        Step::Save(name, content) if *content >= TREE => {
            save_tree(shelf, &key(name), content - TREE).await.is_ok()
        }
        Step::Save(name, content) => {
            let (hash, size, lease) = put::body(shelf, body(&bytes(*content))).await.unwrap();
            shelf.save(&key(name), version(hash, size), lease).await.is_ok()
        }
        Step::RollBack(name, number) => roll_back(shelf, &key(name), *number).await.is_ok(),
        Step::Rename(name, to) => shelf.rename(&key(name), &key(to)).await.is_ok(),
        Step::Remove(name) => shelf.remove(&key(name)).await.is_ok(),
        Step::Reopen => {
            shelf.store.close().await;
            *shelf = self::shelf(dir, KEEP).await;
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_what_was_done_to_them_and_pin_what_they_hold() {
    for seed in 0..12 {
        let mut rng = StdRng::seed_from_u64(seed);
        let home = tempfile::tempdir().unwrap();
        let mut shelf = shelf(home.path(), KEEP).await;
        let mut model = Model::new();
        for n in 0..40 {
            let step = step(&mut rng);
            let at = format!("seed {seed}, step {n}: {step:?}");
            let done = soon(done(&mut shelf, home.path(), &step)).await;
            assert_eq!(done, expected(&mut model, &step), "{at}");
            gc::collect(&shelf, Pressure::default(), false).await.unwrap();
            let content_of = |hash| (0..4).chain(TREE..TREE + 4).find(|n| hash_of(*n) == hash);
            let stands = |v: &Version| (v.number, content_of(v.content.hash).unwrap(), v.restored);
            let now: Model = shelf
                .names
                .all()
                .iter()
                .map(|(name, versions)| (name.clone(), versions.iter().map(stands).collect()))
                .collect();
            assert_eq!(now, model, "{at}");
            let is = |wanted: u8| model.values().flatten().any(|v| v.1 == wanted);
            let has = async |hash| shelf.store.whole(hash).await.unwrap().is_some();
            for content in 0..4 {
                let file = Hash::of(&bytes(content));
                let (alone, listed) = (is(content), is(TREE + content));
                assert_eq!(has(file).await, alone || listed, "content {content} after {at}");
                let list = hash_of(TREE + content);
                assert_eq!(has(list).await, listed, "list {content} after {at}");
            }
            let any = (TREE..TREE + 4).any(is);
            assert_eq!(has(Hash::of(&bytes(SHARED))).await, any, "shared after {at}");
        }
        shelf.store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_none_keeps_nothing_and_takes_nothing_from_others() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 10).await;
    save_tree(&shelf, "/ann/good", 1).await.unwrap();
    let hostile = vec![Entry { path: "../../etc/passwd".into(), ..entries(1)[0].clone() }];
    let (hash, size, lease) =
        put::body(&shelf, body(&manifest::encode(&hostile).unwrap())).await.unwrap();
    let tree = Some(Tree { path: "/x".into(), table: false, entries: 1, bytes: 0 });
    shelf.save("/ann/bad", Version { tree, ..version(hash, size) }, lease).await.unwrap();
    shelf.store.close().await;
    drop(shelf);
    let shelf = self::shelf(home.path(), 10).await;
    assert!(!lock(&shelf.ledger).has_tree(hash));
    let old = shelf.version("/ann/bad", 1).unwrap();
    let read = manifest::load(&shelf.store, &old.content).await;
    assert!(matches!(read, Err(DataError::List { .. })), "{read:?}");
    shelf.remove("/ann/bad").await.unwrap();
    gc::collect(&shelf, Pressure::default(), false).await.unwrap();
    assert_eq!(shelf.store.whole(hash).await.unwrap(), None);
    for entry in entries(1) {
        assert_eq!(shelf.store.whole(entry.hash).await.unwrap(), Some(entry.size));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_name_at_once_lose_nothing_and_leave_nothing() {
    let home = tempfile::tempdir().unwrap();
    // Each one's version is pruned by the next one's, as soon as it can be.
    let shelf = shelf(home.path(), 1).await;
    let writers: Vec<_> = (0..8u64)
        .map(|me| {
            let shelf = shelf.clone();
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                for n in 0..25 {
                    let saved = save(&shelf, "/ann/x", &noise(20_000, me * 100 + n)).await;
                    numbers.push(saved.0.number);
                }
                numbers
            })
        })
        .collect();
    let mut given = Vec::new();
    for writer in writers {
        given.extend(soon(writer).await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(given, (1..=200).collect::<Vec<_>>(), "each version has a number of its own");
    assert_eq!(numbers(&shelf, "/ann/x"), [200]);
    gc::collect(&shelf, Pressure::default(), false).await.unwrap();
    let kept: Vec<Hash> =
        shelf.names.all()["/ann/x"].iter().map(|version| version.content.hash).collect();
    for hash in &kept {
        assert_eq!(shelf.store.whole(*hash).await.unwrap(), Some(20_000));
    }
    // Nothing stays pinned that no version holds, in whichever order they came and went.
    assert_eq!(lock(&shelf.ledger).all().len(), kept.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_leaves_the_names_as_the_disk_has_them() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 1000).await;
    for n in 0..60u64 {
        let (hash, size, lease) = put::body(&shelf, body(&noise(100, n))).await.unwrap();
        let mut saving = Box::pin(shelf.save("/ann/x", version(hash, size), lease));
        // As far as it gets before it has to wait for the disk.
        let _ = futures::poll!(saving.as_mut());
        drop(saving);
        gc::collect(&shelf, Pressure::default(), false).await.unwrap();
        // What was begun has ended when the next one may begin.
        drop(shelf.names.turn().await);
    }
    let versions = shelf.names.all()["/ann/x"].clone();
    assert_eq!(versions.len(), 60);
    for version in &versions {
        assert_eq!(shelf.store.whole(version.content.hash).await.unwrap(), Some(100));
    }
    assert_eq!(numbers(&shelf, "/ann/x"), (1..=60).collect::<Vec<_>>());
    shelf.store.close().await;
    drop(shelf);
    let shelf = self::shelf(home.path(), 1000).await;
    assert_eq!(shelf.names.all()["/ann/x"], versions);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_before_versions_had_numbers_are_read() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    std::fs::create_dir_all(&dir).unwrap();
    // As it was written then.
    #[derive(serde::Serialize)]
    struct Old {
        content: Content,
        saved_ms: u64,
        author: &'static str,
    }
    let old = |n: u8| Old {
        content: Content { hash: Hash::of(&[n]), size: 1, codec: None, parts: vec![] },
        saved_ms: n.into(),
        author: "box",
    };
    let table = BTreeMap::from([("/ann/x", vec![old(1), old(2)])]);
    std::fs::write(dir.join("names"), rhd_protocol::frame::to_vec(&table).unwrap()).unwrap();
    let shelf = shelf(home.path(), 10).await;
    assert_eq!(numbers(&shelf, "/ann/x"), [1, 2]);
    assert_eq!(save(&shelf, "/ann/x", b"three").await.0.number, 3);
    assert_eq!(roll_back(&shelf, "/ann/x", 1).await.unwrap().number, 4);
    let gone = roll_back(&shelf, "/ann/x", 7).await.unwrap_err();
    assert_eq!(gone.to_string(), "/ann/x has no version 7 here; there are 1 to 4");
}

fn ask_of(origin: Origin, content: &Content) -> DataAsk {
    DataAsk::Fetch { content: content.clone(), name: Some("/ann/x".into()), from: vec![], origin }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_says_too_much_of_what_made_something_is_refused() {
    let nodes = Node::linked(&["one", "two"]).await;
    let [one, two] = &nodes[..] else { unreachable!() };
    let content = two.put(b"x").await;
    let input = |n: usize| Input { name: None, hash: Hash::of(&n.to_le_bytes()) }.to_string();
    for bad in [
        Origin { inputs: (0..=MAX_INPUTS).map(input).collect(), ..Origin::default() },
        Origin { inputs: vec!["x".repeat(100_000)], ..Origin::default() },
        Origin { inputs: vec!["../x@y".into()], ..Origin::default() },
        Origin { run: Some("r".repeat(100_000)), ..Origin::default() },
        Origin { service: Some("s".repeat(100_000)), ..Origin::default() },
        Origin { service: Some("\u{1b}[2J".into()), ..Origin::default() },
    ] {
        let refused = two.tell::<rhd_protocol::data::BlobInfo>(one, ask_of(bad, &content)).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, rhd_protocol::error::ErrorKind::BadRequest, "{refused}");
    }
    for name in ["", "bare", "/ann/\u{1b}[2J", &format!("/ann/{}", "x".repeat(100_000))] {
        let DataAsk::Fetch { content, from, origin, .. } = ask_of(Origin::default(), &content)
        else {
            unreachable!()
        };
        let ask = DataAsk::Fetch { content, from, origin, name: Some(name.into()) };
        let refused = two.tell::<rhd_protocol::data::BlobInfo>(one, ask).await.unwrap_err();
        assert_eq!(refused.kind, rhd_protocol::error::ErrorKind::BadRequest, "{refused}");
    }
    assert!(one.data.shelf.names.all().is_empty());
    let good = Origin { inputs: (0..MAX_INPUTS).map(input).collect(), ..Origin::default() };
    let saved: rhd_protocol::data::BlobInfo =
        two.tell(one, ask_of(good.clone(), &content)).await.unwrap();
    assert_eq!((saved.version, saved.origin), (1, good));
    // Its author is who asked, whatever it says.
    assert_eq!(one.data.shelf.names.get("/ann/x").unwrap().0.author, "two");
    let many = DataAsk::Records { inputs: vec![input(0); MAX_INPUTS + 1] };
    assert!(two.tell::<Vec<Option<rhd_protocol::data::Record>>>(one, many).await.is_err());
    for node in nodes {
        node.stop().await;
    }
}
