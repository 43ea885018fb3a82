//! Meshes over loopback, for the tests of rooms that ride on one.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rhd_protocol::membership::Role;

use super::{Config, Mesh, MeshTasks, PeerInfo, Route};

/// Nothing here takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(60);

/// What comes within a time.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANGS, what).await.expect("it hangs")
}

/// The mesh of a node of its own, which finds nobody by itself.
pub async fn alone(home: &Path, name: &str) -> (Mesh, MeshTasks) {
    let listen = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let config = Config { listen, mdns: false, ..Config::default() };
    Mesh::start(home, name, config).await.unwrap()
}

/// Lets `other` into the realm of `founder`, and waits until each has a link to the other.
pub async fn admit(founder: &Mesh, other: &Mesh, role: Role) {
    let hour = Duration::from_secs(3600);
    let ticket = founder.invite(role, 1, hour).await.unwrap().to_string();
    soon(other.join(&ticket, None)).await.unwrap();
    for (mesh, peer) in [(founder, other.me()), (other, founder.me())] {
        let linked = |peers: &Arc<Vec<PeerInfo>>| {
            peers.iter().any(|one| one.node == peer && one.path != Route::None)
        };
        soon(mesh.peers().wait_for(linked)).await.unwrap();
    }
}
