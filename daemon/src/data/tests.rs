//! Real stores, on real meshes over loopback, in one process.

use std::path::PathBuf;

use futures::TryStreamExt as _;
use rhd_protocol::{
    data::{Content, DataAsk, Version},
    membership::Role,
};
use tempfile::TempDir;

use super::*;
use crate::{
    asked::Meter,
    framed::Body,
    mesh::{
        MeshTasks,
        testing::{admit, alone, soon},
    },
};

mod collecting;
mod damage;
mod large;
mod lineage;
mod peers;
mod versions;

/// A node with a home of its own.
struct Node {
    home: TempDir,
    data: Data,
    tasks: MeshTasks,
    closing: CancellationToken,
}

fn config() -> Config {
    Config { reserve: 0, stall_secs: 1, collect_every: 3600, ..Config::default() }
}

impl Node {
    async fn start(name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (mesh, tasks) = alone(home.path(), name).await;
        let naming = Naming::open(home.path(), mesh.clone(), "ann").unwrap();
        let stores = Stores::default();
        let folders =
            Folders::open(home.path(), mesh.clone(), naming.clone(), stores.clone()).unwrap();
        let tables = Tables::new(mesh.clone(), naming.clone(), folders.clone(), stores.clone());
        let outside = Outside { folders, tables, stores };
        let data = Data::open(home.path(), mesh, naming, self::config(), outside).await.unwrap();
        let closing = CancellationToken::new();
        data.serve(&TaskTracker::new(), &closing);
        Self { home, data, tasks, closing }
    }

    /// So many nodes, all linked to the first.
    async fn linked(names: &[&str]) -> Vec<Self> {
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(Self::start(name).await);
        }
        for node in &nodes[1..] {
            admit(&nodes[0].data.mesh, &node.data.mesh, Role::Member).await;
        }
        nodes
    }

    fn id(&self) -> NodeId {
        self.data.mesh.me()
    }

    async fn put(&self, bytes: &[u8]) -> Content {
        let (hash, size, _) = put::body(&self.data.shelf, body(bytes)).await.unwrap();
        Content { hash, size, codec: None, parts: vec![] }
    }

    /// Asks another node, as a peer.
    async fn tell<T: serde::de::DeserializeOwned>(
        &self,
        other: &Self,
        ask: DataAsk,
    ) -> Result<T, ErrorInfo> {
        soon(self.data.peers.value(other.id(), &ask)).await
    }

    async fn fetch(&self, content: &Content) -> Result<gc::Lease, DataError> {
        soon(fetch::whole(&self.data, content, &[], &Meter::default())).await
    }

    /// The same, from one node that is said to have it.
    async fn fetch_from(&self, node: &Self, content: &Content) -> Result<gc::Lease, DataError> {
        let from = [node.id()];
        soon(fetch::whole(&self.data, content, &from, &Meter::default())).await
    }

    async fn read(&self, content: &Content) -> Result<Vec<u8>, DataError> {
        read(&self.data.shelf, content.hash, content.size).await
    }

    /// The file that the store keeps a content in.
    fn file(&self, hash: Hash) -> PathBuf {
        let name = format!("{}.data", store::iroh_hash(hash).to_hex());
        self.home.path().join("data/data").join(name)
    }

    async fn stop(self) -> TempDir {
        self.closing.cancel();
        self.data.close().await;
        soon(self.tasks.shutdown()).await;
        self.home
    }
}

async fn read(shelf: &Shelf, hash: Hash, size: u64) -> Result<Vec<u8>, DataError> {
    let chunks = shelf.store.read(hash, 0, size);
    let read = chunks.try_fold(Vec::new(), async |mut all, chunk| {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    soon(read).await
}

fn body(bytes: &[u8]) -> Body {
    Body::from(bytes.to_vec())
}

/// A version as one without a story is saved.
fn version(hash: Hash, size: u64) -> Version {
    Version {
        number: 0,
        content: Content { hash, size, codec: None, parts: vec![] },
        saved_ms: 0,
        author: String::new(),
        author_id: String::new(),
        run: None,
        inputs: vec![],
        service: None,
        more: false,
        restored: None,
        tree: None,
    }
}

/// Bytes that don't repeat, the same for the same seed.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_after_a_restart_and_orphans_are_not() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("data");
    let (small, large) = (noise(100, 1), noise(3 << 20, 2));
    let shelf = Arc::new(Shelf::open(dir.clone(), config()).await.unwrap());
    let mut stored = Vec::new();
    for bytes in [&small, &large] {
        let (hash, size, _) = put::body(&shelf, body(bytes)).await.unwrap();
        stored.push((hash, size, bytes));
    }
    shelf.store.close().await;
    drop(shelf);
    let stranger = dir.join("data").join(format!("{}.data", "ab".repeat(32)));
    let half = dir.join("temp").join("x.temp");
    for path in [&stranger, &half] {
        std::fs::write(path, b"left by a killed process").unwrap();
    }
    let shelf = Shelf::open(dir, config()).await.unwrap();
    for (hash, size, bytes) in stored {
        assert_eq!(&read(&shelf, hash, size).await.unwrap(), bytes);
    }
    assert_eq!(lock(&shelf.ledger).bytes(), 100 + (3 << 20));
    assert!(!stranger.exists() && !half.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_written_once() {
    let node = Node::start("n").await;
    let bytes = noise(1 << 20, 3);
    let first = node.put(&bytes).await;
    let written = std::fs::metadata(node.file(first.hash)).unwrap().modified().unwrap();
    assert_eq!(node.put(&bytes).await, first);
    let path = node.home.path().join("source");
    std::fs::write(&path, &bytes).unwrap();
    let (hash, _, _lease) = put::file(&node.data.shelf, &path).await.unwrap();
    assert_eq!(hash, first.hash);
    let after = std::fs::metadata(node.file(first.hash)).unwrap().modified().unwrap();
    assert_eq!(written, after);
    node.stop().await;
}
