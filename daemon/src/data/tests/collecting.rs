//! Collection that runs all the time, held against a model.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// Contents that the tasks fight over; few, so that they meet.
const CONTENTS: u64 = 12;
const TASKS: u64 = 6;
const STEPS: usize = 60;

/// Some fit into the store's table, some have files of their own.
fn content(n: u64) -> Vec<u8> {
    noise(if n.is_multiple_of(2) { 500 } else { 40_000 }, n)
}

async fn shelf(dir: &Path, keep_secs: u64, quota: u64) -> Arc<Shelf> {
    let config = Config { keep_secs, quota, keep_versions: 1, ..config() };
    Arc::new(Shelf::open(dir.join("data"), config).await.unwrap())
}

async fn name(shelf: &Arc<Shelf>, name: &str, hash: Hash, size: u64) {
    let lease = gc::lease(shelf, hash).await;
    shelf.save(name, version(hash, size), lease).await.unwrap();
}

/// Puts, names, reads and forgets for as long as its steps last; what it holds must be there.
async fn task(shelf: Arc<Shelf>, me: u64) -> BTreeMap<String, u64> {
    let mut rng = StdRng::seed_from_u64(me);
    let (mut model, mut held) = (BTreeMap::new(), Vec::new());
    for _ in 0..STEPS {
        let n = rng.random_range(0..CONTENTS);
        match rng.random_range(0..6) {
            0 | 1 => {
                let (hash, size, lease) = put::body(&shelf, body(&content(n))).await.unwrap();
                if rng.random() {
                    let key = format!("/t{me}/{}", rng.random_range(0..4));
                    name(&shelf, &key, hash, size).await;
                    model.insert(key, n);
                }
                if rng.random() {
                    held.push((n, lease));
                }
            }
            2 => drop(held.pop()),
            3 => {
                if let Some((key, _)) = model.pop_first() {
                    shelf.remove(&key).await.unwrap();
                }
            }
            4 => {
                // A name given to what is there already: the race that tags lose.
                let (hash, size, lease) = put::body(&shelf, body(&content(n))).await.unwrap();
                tokio::task::yield_now().await;
                let key = format!("/t{me}/{}", rng.random_range(0..4));
                name(&shelf, &key, hash, size).await;
                drop(lease);
                model.insert(key, n);
            }
            _ => {
                let named = model.values().copied();
                for n in named.chain(held.iter().map(|(n, _)| *n)).collect::<Vec<_>>() {
                    let bytes = content(n);
                    let (hash, size) = (Hash::of(&bytes), bytes.len() as u64);
                    assert_eq!(read(&shelf, hash, size).await.unwrap(), bytes);
                }
            }
        }
    }
    model
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_named_or_leased_is_ever_collected() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 0, 0).await;
    let (over, sweeps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let collector = {
        let (shelf, over, sweeps) = (shelf.clone(), over.clone(), sweeps.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                gc::collect(&shelf, Pressure::default(), false).await.unwrap();
                sweeps.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let tasks: Vec<_> = (0..TASKS).map(|me| tokio::spawn(task(shelf.clone(), me))).collect();
    let mut model = BTreeMap::new();
    for task in tasks {
        model.extend(soon(task).await.unwrap());
    }
    over.store(true, Ordering::Relaxed);
    soon(collector).await.unwrap();
    assert!(sweeps.load(Ordering::Relaxed) > 10, "hardly anything was collected meanwhile");

    // At rest, exactly what has a name is left.
    gc::collect(&shelf, Pressure::default(), false).await.unwrap();
    let named: BTreeMap<String, Hash> =
        model.iter().map(|(name, n)| (name.clone(), Hash::of(&content(*n)))).collect();
    let mut expected: Vec<Hash> = named.values().copied().collect();
    let listed = shelf.store.content().list().hashes().await.unwrap();
    let mut left: Vec<Hash> = listed.into_iter().map(store::our_hash).collect();
    expected.sort_unstable();
    expected.dedup();
    left.sort_unstable();
    assert_eq!(left, expected);
    for (key, hash) in named {
        assert_eq!(shelf.names.get(&key).unwrap().0.content.hash, hash);
    }
}

/// Content that is there, needed by nobody, and wanted again just as it is swept: the moment that
/// tags lose. (Without the gate this fails within a few rounds.)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_again_while_it_is_swept_is_there() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 0, 0).await;
    let over = Arc::new(AtomicBool::new(false));
    let collector = {
        let (shelf, over) = (shelf.clone(), over.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                gc::collect(&shelf, Pressure::default(), false).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let wanted = |n: u64| {
        let shelf = shelf.clone();
        tokio::spawn(async move {
            let (bytes, mut rng) = (content(n), StdRng::seed_from_u64(n));
            for round in 0..150 {
                let (hash, size, lease) = put::body(&shelf, body(&bytes)).await.unwrap();
                // Long enough for a sweep to have begun or ended, whatever comes.
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3000))).await;
                let read = read(&shelf, hash, size).await;
                assert!(read.is_ok_and(|read| read == bytes), "content {n}, round {round}");
                drop(lease);
                tokio::time::sleep(Duration::from_micros(rng.random_range(0..3000))).await;
            }
        })
    };
    let tasks: Vec<_> = (0..4).map(wanted).collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    soon(collector).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_makes_room_of_what_was_not_used_and_refuses_the_rest() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 3600, 100_000).await;
    let put = async |n: u64| put::body(&shelf, body(&noise(40_000, n))).await;
    let (first, _, lease) = put(1).await.unwrap();
    drop(lease);
    let (second, size, lease) = put(2).await.unwrap();
    name(&shelf, "/ann/second", second, size).await;
    drop(lease);
    let (third, _, lease) = put(3).await.unwrap();
    assert_eq!(shelf.store.whole(first).await.unwrap(), None, "nobody needed it");
    assert_eq!(shelf.store.whole(second).await.unwrap(), Some(40_000));
    let refused = put(4).await.unwrap_err();
    assert!(matches!(refused, DataError::Quota { excess: 20_000, .. }), "{refused}");
    drop(lease);
    drop(put(4).await.unwrap());
    assert_eq!(shelf.store.whole(third).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_go_and_leaves_it() {
    let home = tempfile::tempdir().unwrap();
    let shelf = shelf(home.path(), 0, 0).await;
    let (hash, size, lease) = put::body(&shelf, body(&noise(40_000, 1))).await.unwrap();
    drop(lease);
    for dry_run in [true, true, false] {
        let done = gc::collect(&shelf, Pressure::default(), dry_run).await.unwrap();
        assert_eq!((done.blobs, done.bytes), (1, size));
    }
    assert_eq!(shelf.store.whole(hash).await.unwrap(), None);
}
