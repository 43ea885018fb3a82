//! Data under what happens to machines: killed daemons, full disks.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::StdRng};
use rhd_protocol::{
    data::{BlobInfo, Collected, Content, DataAsk, Origin, Verified},
    error::{ErrorInfo, ErrorKind},
    id::Hash,
};
use rhd_sdk::Client;
use rhd_tests::{Mesh, Node, until};

fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Asks the daemon of a home, from any thread.
fn ask<T>(
    home: &Path,
    question: impl AsyncFnOnce(Client) -> Result<T, ErrorInfo>,
) -> Result<T, ErrorInfo> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { question(Client::attach(home).await?).await })
}

fn put(home: &Path, bytes: &[u8], name: Option<&str>) -> Result<Content, ErrorInfo> {
    ask(home, async |client| Ok(client.put_blob(bytes, name).await?.info().content.clone()))
}

fn fetch(home: &Path, content: &Content, name: Option<&str>) -> Result<BlobInfo, ErrorInfo> {
    let (content, name) = (content.clone(), name.map(str::to_owned));
    let ask_for = DataAsk::Fetch { content, name, from: vec![], origin: Origin::default() };
    ask(home, async |client| client.data(None, ask_for, &[], |_, _| ()).await)
}

fn verify(node: &Node) -> Verified {
    node.ask(async |client| client.data(None, DataAsk::Verify {}, &[], |_, _| ()).await).unwrap()
}

fn hash_of_name(node: &Node, name: &str) -> Result<Hash, ErrorInfo> {
    let bytes = node.ask(async |client| client.blob(name, None).await?.fetch().await)?;
    Ok(Hash::of(&bytes))
}

/// How often daemons are killed here; more where `RHD_KILLS` says so.
fn kills() -> u64 {
    std::env::var("RHD_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5)
}

#[test]
fn killed_at_any_moment_a_node_has_all_that_it_said_it_has() {
    let mut mesh = Mesh::with(2, &["--set", "data.keep_secs=0", "--set", "data.reserve=0"]);
    let far: Vec<Content> = (0..4)
        .map(|n| {
            let name = format!("far{n}");
            // Of the one store and of the other.
            let size = if n % 2 == 0 { 12 << 20 } else { 3 << 20 };
            put(mesh[1].home(), &noise(size, 1000 + n), Some(&name)).unwrap()
        })
        .collect();
    let acknowledged: Mutex<Vec<(String, Hash)>> = Mutex::default();
    // What was under way may have been done, and not been said.
    let attempted: Mutex<Vec<(String, Hash)>> = Mutex::default();
    for round in 0..kills() {
        let mut rng = StdRng::seed_from_u64(round);
        let (home, over) = (mesh[0].home().to_owned(), AtomicBool::new(false));
        let done = AtomicUsize::new(0);
        let running = || !over.load(Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut rng = StdRng::seed_from_u64(round);
                for n in 0.. {
                    if !running() {
                        return;
                    }
                    let more = if n % 4 == 3 { 10 << 20 } else { 0 };
                    let bytes = noise(more + rng.random_range(1..600_000), round * 1000 + n);
                    let name = format!("w{}", n % 5);
                    *attempted.lock().unwrap() = vec![(name.clone(), Hash::of(&bytes))];
                    let Ok(content) = put(&home, &bytes, Some(&name)) else { return };
                    assert_eq!(content.hash, Hash::of(&bytes));
                    done.fetch_add(1, Ordering::Relaxed);
                    let mut all = acknowledged.lock().unwrap();
                    all.retain(|(known, _)| *known != name);
                    all.push((name, content.hash));
                }
            });
            scope.spawn(|| {
                let content = &far[(round % 4) as usize];
                while running() {
                    let name = format!("fetched{}", round % 4);
                    if fetch(&home, content, Some(&name)).is_ok() {
                        done.fetch_add(1, Ordering::Relaxed);
                        acknowledged.lock().unwrap().push((name.clone(), content.hash));
                        // And away with it, so that the next round fetches it again.
                        let removed = DataAsk::Remove { name: name.clone() };
                        let remove = async |client: Client| {
                            client.data::<()>(None, removed, &[], |_, _| ()).await
                        };
                        acknowledged.lock().unwrap().retain(|(known, _)| *known != name);
                        let _ = ask(&home, remove);
                    }
                }
            });
            scope.spawn(|| {
                while running() {
                    let collect = DataAsk::Collect { dry_run: false };
                    let _ = ask(&home, async |client| {
                        client.data::<Collected>(None, collect, &[], |_, _| ()).await
                    });
                }
            });
            // At some moment, whatever is under way then.
            until("something is done", || (done.load(Ordering::Relaxed) > 0).then_some(()));
            thread::sleep(Duration::from_millis(rng.random_range(0..400)));
            mesh[0].kill();
            over.store(true, Ordering::Relaxed);
        });
        mesh[0].restart();
        let found = verify(&mesh[0]);
        assert_eq!(found.damaged, [], "round {round}");
        for (name, hash) in acknowledged.lock().unwrap().iter() {
            let held = hash_of_name(&mesh[0], name).unwrap_or_else(|e| panic!("{name}: {e}"));
            let attempt = (name.clone(), held);
            assert!(held == *hash || attempted.lock().unwrap().contains(&attempt), "{name}");
        }
        for (name, hash) in attempted.lock().unwrap().drain(..) {
            if hash_of_name(&mesh[0], &name).is_ok_and(|held| held == hash) {
                let mut all = acknowledged.lock().unwrap();
                all.retain(|(known, _)| *known != name);
                all.push((name, hash));
            }
        }
        mesh.until_linked();
    }
}

/// What the small one takes when it is not made smaller.
const SIZE: &str = "96m";

/// A small file system of its own, gone with this.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at);
        assert!(mount.status().unwrap().success(), "no tmpfs: this needs root, like the networks");
        Self(at)
    }

    /// Takes all the room that is left but so many bytes.
    fn fill(&self, but: u64) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let filler = File::create(self.0.join("filler")).unwrap();
        let size = (stat.f_bavail * stat.f_frsize).saturating_sub(but);
        let block = vec![1; 1 << 20];
        for at in (0..size).step_by(1 << 20) {
            let len = (size - at).min(1 << 20) as usize;
            // Somebody else may take the last of it.
            if filler.write_all_at(&block[..len], at).is_err() {
                break;
            }
        }
    }

    /// Leaves only a few MiB more than is written: at once, however fast somebody else writes.
    fn shrink(&self) {
        until("the disk is smaller", || {
            let stat = rustix::fs::statvfs(&self.0).unwrap();
            let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
            // What is used by then does not go: then it fails, and is tried again.
            self.resize(&(used + (8 << 20)).to_string()).then_some(())
        });
    }

    fn resize(&self, size: &str) -> bool {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        mount.stderr(Stdio::null()).status().unwrap().success()
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
        assert!(self.resize(SIZE));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// What of parts of large contents is on disk.
fn come(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let parts = files.filter(|entry| entry.path().extension().is_some_and(|end| end == "part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.blocks()).sum()
}

#[test]
fn a_disk_that_fills_up_under_a_transfer_is_said_and_the_rest_comes_later() {
    let source = Node::start("source");
    let target = Node::prepare("target").flags(&["--set", "data.reserve=4000000"]);
    let disk = Small::mount(target.home().join("data"), SIZE);
    let target = target.up();
    target.join(&source.invite(1));
    let bytes = noise(60 << 20, 1);
    let content = put(source.home(), &bytes, Some("large")).unwrap();
    let small = put(target.home(), b"named before", Some("before")).unwrap();

    // Too little from the start: nothing is written.
    disk.fill(20 << 20);
    let full = fetch(target.home(), &content, None).unwrap_err();
    assert_eq!(full.kind, ErrorKind::QueueFull, "{full}");
    assert!(full.message.contains("no room on disk"), "{full}");
    let full = put(target.home(), &bytes, None).unwrap_err();
    assert_eq!(full.kind, ErrorKind::QueueFull, "{full}");
    disk.free();

    // It fills while the transfer runs: nearly, then to the last byte.
    for but in [1_500_000, 0] {
        let parts = disk.0.join("large");
        let before = come(&parts);
        let failed = thread::scope(|scope| {
            scope.spawn(|| {
                until("more has come", || (come(&parts) > before).then_some(()));
                disk.shrink();
                disk.fill(but);
            });
            fetch(target.home(), &content, None)
        });
        let failed = failed.expect_err("there was no room for it");
        assert_eq!(failed.kind, ErrorKind::QueueFull, "{failed}");
        assert!(failed.hint.contains("free some space"), "{failed:?}");
        if but > 0 {
            // What was there is there.
            assert_eq!(hash_of_name(&target, "before").unwrap(), small.hash);
        }
        disk.free();
        // What is not whole is not shown.
        let have = DataAsk::Have { hashes: vec![content.hash] };
        let have =
            target.ask(async |c| c.data::<Vec<Option<u64>>>(None, have, &[], |_, _| ()).await);
        assert_eq!(have.unwrap(), [None]);
        assert_eq!(hash_of_name(&target, "before").unwrap(), small.hash);
    }

    fetch(target.home(), &content, Some("large")).unwrap();
    assert_eq!(hash_of_name(&target, "large").unwrap(), Hash::of(&bytes));
    assert_eq!(verify(&target).damaged, []);
    drop(target);
}
