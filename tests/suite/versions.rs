//! Versions of names under what happens to machines, and as the Rust SDK has them.

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rhd_protocol::{
    data::{Collected, DataAsk, Input, Origin, Verified, Version},
    error::{ErrorInfo, ErrorKind},
    id::Hash,
};
use rhd_sdk::Client;
use rhd_tests::{Mesh, Node, until};

/// Asks the daemon of a home, from any thread.
fn ask<T>(
    home: &Path,
    question: impl AsyncFnOnce(Client) -> Result<T, ErrorInfo>,
) -> Result<T, ErrorInfo> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { question(Client::attach(home).await?).await })
}

fn history(node: &Node, name: &str) -> Result<Vec<Version>, ErrorInfo> {
    node.ask(async |client| client.blob(name, None).await?.history(None).await)
}

fn content(me: usize, n: usize) -> Vec<u8> {
    format!("{me} {n} ").repeat(3000).into_bytes()
}

/// Versions of each name that are kept.
const KEEP: usize = 4;
const WRITERS: usize = 3;

#[test]
fn killed_while_it_saves_a_node_has_each_version_or_has_it_not() {
    let flags = ["--set", "data.keep_secs=0", "--set", "data.keep_versions=4"];
    let mut node = Node::prepare("killed").flags(&flags).up();
    // The last number that was acknowledged, and with which content.
    let newest: Mutex<Option<(u64, Hash)>> = Mutex::default();
    for round in 0..4 {
        let (home, over) = (node.home().to_owned(), AtomicBool::new(false));
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for me in 0..WRITERS {
                let (home, over, done, newest) = (&home, &over, &done, &newest);
                scope.spawn(move || {
                    for n in 0.. {
                        if over.load(Ordering::Relaxed) {
                            return;
                        }
                        let bytes = content(me, round * 10_000 + n);
                        let put = async |c: Client| c.put_blob(&bytes, Some("many")).await;
                        let Ok(blob) = ask(home, put) else { return };
                        let saved = (blob.info().version, blob.info().content.hash);
                        assert_eq!(saved.1, Hash::of(&bytes));
                        let mut newest = newest.lock().unwrap();
                        *newest = newest.take().max(Some(saved));
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let collect = DataAsk::Collect { dry_run: false };
                    let _ = ask(&home, async |client| {
                        client.data::<Collected>(None, collect, &[], |_, _| ()).await
                    });
                }
            });
            // In the middle of it, wherever that is: each round at another time.
            let enough = 3 + round * 4;
            until("some are saved", || (done.load(Ordering::Relaxed) > enough).then_some(()));
            node.kill();
            over.store(true, Ordering::Relaxed);
        });
        node.restart();
        let versions = history(&node, "many").unwrap();
        let numbers: Vec<u64> = versions.iter().map(|version| version.number).collect();
        let (last, hash) = newest.lock().unwrap().unwrap();
        // What was acknowledged is there, unless newer ones took its place: one each may have been
        // saved and not been said.
        assert!(numbers[0] >= last && numbers[0] <= last + WRITERS as u64, "{numbers:?}, {last}");
        let rest: Vec<u64> = (0..numbers.len() as u64).map(|n| numbers[0] - n).collect();
        assert_eq!(numbers, rest, "a number was left out or used again");
        assert!(numbers.len() <= KEEP);
        let known = versions.iter().find(|version| version.number == last);
        assert_eq!(known.map(|version| version.content.hash), Some(hash), "round {round}");
        let verify =
            async |c: Client| c.data::<Verified>(None, DataAsk::Verify {}, &[], |_, _| ()).await;
        assert_eq!(node.ask(verify).unwrap().damaged, []);
        // Each kept version has its content, also when all that nothing needs has gone.
        let collect = DataAsk::Collect { dry_run: false };
        node.ask(async |c| c.data::<Collected>(None, collect, &[], |_, _| ()).await).unwrap();
        for version in &versions {
            let wanted = version.content.hash.to_string();
            let read = node.ask(async |c| c.blob(&wanted, Some("here")).await?.fetch().await);
            assert_eq!(Hash::of(&read.unwrap()), version.content.hash);
        }
    }
}

#[test]
fn the_rust_client_saves_rolls_back_renames_and_tells() {
    let mesh = Mesh::of(2);
    let far = mesh[1].name().to_owned();
    mesh[0]
        .ask(async |client| {
            let raw = client.put_blob(b"raw", Some("raw")).await?;
            let input = Input { name: raw.info().name.clone(), hash: raw.info().content.hash };
            let origin = Origin { inputs: vec![input.to_string()], ..Origin::default() };
            let made = client.put_blob_made(b"made", "made", origin.clone()).await?;
            assert_eq!((made.info().version, &made.info().origin), (1, &origin));
            // A copy has the record of what it is a copy of.
            let copy = made.to(&far, |_, _| ()).await?;
            assert_eq!((copy.info().node.as_str(), &copy.info().origin), (far.as_str(), &origin));
            let lineage = copy.lineage(10).await?;
            let names: Vec<_> =
                lineage.made.iter().map(|made| made.record.clone().unwrap()).collect();
            assert_eq!(names[0].node, far);
            assert_eq!(names[1].name, raw.info().name.clone().unwrap());

            let name = made.info().name.clone().unwrap();
            client.put_blob(b"other", Some(&name)).await?;
            let back = made.rollback(1).await?;
            assert_eq!((back.info().version, back.fetch().await?), (3, b"made".to_vec()));
            assert_eq!(back.history(Some(1)).await?[0].restored, Some(1));
            let gone = made.rollback(9).await.unwrap_err();
            assert_eq!(gone.kind, ErrorKind::NotFound);
            assert!(gone.message.contains("there are 1 to 3"), "{gone}");
            let moved = back.rename("moved").await?;
            assert_eq!(moved.history(None).await?.len(), 3);
            assert_eq!(
                client.blob(&name, Some("here")).await.unwrap_err().kind,
                ErrorKind::NotFound
            );
            let taken = raw.rename("moved").await.unwrap_err();
            assert_eq!(taken.kind, ErrorKind::Conflict, "{taken}");
            let unnamed = client.put_blob(b"unnamed", None).await?;
            assert_eq!(unnamed.history(None).await.unwrap_err().kind, ErrorKind::BadRequest);
            assert_eq!(unnamed.save("named").await?.info().version, 1);
            let names = client.data_names(None).await?;
            let listed: Vec<_> = names
                .iter()
                .map(|i| i.name.as_deref().unwrap().rsplit('/').next().unwrap())
                .collect();
            assert_eq!(listed, ["made", "moved", "named", "raw"]);
            Ok(())
        })
        .unwrap();
}
