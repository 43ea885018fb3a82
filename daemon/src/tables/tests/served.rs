//! Two nodes of one realm, of which one only serves.

use std::time::Duration;

use rhd_protocol::{error::ErrorKind, frame, membership::Role, table::TableAsk};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    folders::Folders,
    mesh::{self, Mesh, MeshTasks},
    naming::Naming,
    stores::Stores,
    tables::Tables,
};

struct Node {
    _home: TempDir,
    mesh: Mesh,
    tables: Tables,
    _tasks: MeshTasks,
}

impl Node {
    async fn start(name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listen = vec![std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)];
        let config = mesh::Config { listen, mdns: false, ..mesh::Config::default() };
        let (mesh, tasks) = Mesh::start(home.path(), name, config).await.unwrap();
        let naming = Naming::open(home.path(), mesh.clone(), "ann").unwrap();
        let stores = Stores::default();
        let opened = Folders::open(home.path(), mesh.clone(), naming.clone(), stores.clone());
        let folders = opened.unwrap();
        let tables = Tables::new(mesh.clone(), naming, folders, stores);
        tables.serve(&TaskTracker::new(), &CancellationToken::new());
        Self { _home: home, mesh, tables, _tasks: tasks }
    }

    async fn sees(&self, other: &Self) {
        let (mut peers, id) = (self.mesh.peers(), other.mesh.me());
        let linked = |peers: &Arc<Vec<mesh::PeerInfo>>| {
            peers.iter().any(|one| one.node == id && one.path != mesh::Route::None)
        };
        soon(peers.wait_for(linked)).await.unwrap();
    }

    async fn asks(
        &self,
        other: &Self,
        ask: TableAsk,
    ) -> Result<Vec<u8>, rhd_protocol::error::ErrorInfo> {
        let (out, mut items) = mpsc::channel(4);
        let node = other.mesh.me().to_string();
        let reading = tokio::spawn(async move { while items.recv().await.is_some() {} });
        let answer = soon(self.tables.request(Some(&node), ask, &out)).await;
        drop(out);
        soon(reading).await.unwrap();
        answer
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("it hangs")
}

#[tokio::test]
async fn only_members_read_and_write_tables() {
    let (one, other) = (Node::start("one").await, Node::start("other").await);
    let ticket = one.mesh.invite(Role::Node, 1, Duration::from_secs(3600)).await.unwrap();
    soon(other.mesh.join(&ticket.to_string(), None)).await.unwrap();
    one.sees(&other).await;
    other.sees(&one).await;
    let dir = table();
    let path = dir.path().display().to_string();
    let asks = || {
        let path = path.clone();
        [
            TableAsk::Count { path: path.clone(), only: vec![] },
            TableAsk::Stats { path: path.clone() },
            TableAsk::Schema { path: path.clone() },
            TableAsk::Head { path: path.clone(), rows: 1, columns: None },
            TableAsk::Read { path: path.clone(), read: Read::default() },
            TableAsk::Exists { path: path.clone() },
            TableAsk::Remove { path: path.clone() },
            TableAsk::Replace { path: path.clone(), with: path.clone() },
            TableAsk::Append { path: path.clone(), with: path },
        ]
    };
    for ask in asks() {
        let denied = other.asks(&one, ask).await.unwrap_err();
        assert_eq!(denied.kind, ErrorKind::PermissionDenied);
    }
    // The founder may, on the node that only serves.
    for ask in asks().into_iter().take(6) {
        one.asks(&other, ask).await.unwrap();
    }
    let count = TableAsk::Count { path: path.clone(), only: vec![] };
    let body = one.asks(&other, count).await.unwrap();
    assert_eq!(frame::decode::<u64>(&body).unwrap(), 1500);
    let dots = TableAsk::Count { path: format!("{path}/../x"), only: vec![] };
    assert_eq!(one.asks(&other, dots).await.unwrap_err().kind, ErrorKind::BadRequest);
}
