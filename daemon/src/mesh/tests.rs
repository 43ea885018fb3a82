//! Real meshes in one process, over loopback.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::Hash,
    service::ServiceKind,
    ticket::{JoinReply, Ticket},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{link::Link, *};

mod calls;
mod counts;
mod joins;
mod planes;
mod strangers;

/// Nothing here takes this long unless it hangs.
const HANGS: Duration = Duration::from_secs(30);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(HANGS, what).await.expect("it hangs")
}

/// A node with a home of its own.
struct Node {
    home: TempDir,
    name: String,
    config: Config,
    mesh: Mesh,
    tasks: Option<MeshTasks>,
}

impl Node {
    async fn start(name: &str) -> Self {
        let config = Config {
            listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            mdns: false,
            ..Config::default()
        };
        Self::with(name, config).await
    }

    async fn with(name: &str, config: Config) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer();
        let _ = log.try_init();
        let home = tempfile::tempdir().unwrap();
        let (mesh, tasks) = Mesh::start(home.path(), name, config.clone()).await.unwrap();
        Self { home, name: name.into(), config, mesh, tasks: Some(tasks) }
    }

    /// Lets `other` in by a ticket of this node, and waits until both are linked.
    async fn admit(&self, other: &Self) {
        let ticket = self.ticket(1).await;
        soon(other.mesh.join(&ticket, None)).await.unwrap();
        self.until_linked(other).await;
        other.until_linked(self).await;
    }

    async fn ticket(&self, uses: u32) -> String {
        let hour = Duration::from_secs(3600);
        self.mesh.invite(Role::Node, uses, hour).await.unwrap().to_string()
    }

    async fn until(&self, peer: NodeId, what: impl Fn(Option<&PeerInfo>) -> bool) {
        let mut peers = self.mesh.peers();
        let is = |peers: &Arc<Vec<PeerInfo>>| what(peers.iter().find(|p| p.node == peer));
        soon(peers.wait_for(is)).await.unwrap();
    }

    async fn until_linked(&self, other: &Self) {
        self.until(other.mesh.me(), |p| p.is_some_and(|p| p.path == Route::Direct)).await;
    }

    /// The link to `other`, once it is this one.
    async fn link_to(&self, other: &Self, is: impl Fn(&Arc<Link>) -> bool) -> Arc<Link> {
        soon(async {
            loop {
                match self.mesh.inner.links.get(other.mesh.me()) {
                    Some(link) if is(&link) => return link,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    /// Ends every stream with what came on it, reversed.
    fn serve_reverse(&self) {
        let mut streams = self.mesh.accept("reverse/1");
        tokio::spawn(async move {
            while let Some(mut stream) = streams.recv().await {
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    stream.recv.read_to_end(&mut bytes).await.unwrap();
                    bytes.reverse();
                    stream.send.write_all(&bytes).await.unwrap();
                    stream.send.shutdown().await.unwrap();
                });
            }
        });
    }

    async fn reversed(&self, by: &Self, bytes: &[u8]) -> Vec<u8> {
        let ask = async {
            let mut stream =
                self.mesh.open(by.mesh.me(), "reverse/1", Priority::Call).await.unwrap();
            stream.send.write_all(bytes).await.unwrap();
            stream.send.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.recv.read_to_end(&mut answer).await.unwrap();
            answer
        };
        soon(ask).await
    }

    /// Makes `other` unreachable from here except through others.
    fn wall_off(&self, other: &Self) {
        let walled = &self.mesh.inner.endpoint.walled;
        walled.write().unwrap().extend(other.mesh.listen_addrs());
    }

    async fn stop(&mut self) {
        let addr = self.mesh.listen_addrs()[0];
        soon(self.tasks.take().unwrap().shutdown()).await;
        // A process that ends frees its port; here the last connections drain first.
        let free = async {
            while std::net::UdpSocket::bind(addr).is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(free).await;
    }

    async fn restart(&mut self) {
        if self.tasks.is_some() {
            self.stop().await;
        }
        let (mesh, tasks) =
            Mesh::start(self.home.path(), &self.name, self.config.clone()).await.unwrap();
        self.mesh = mesh;
        self.tasks = Some(tasks);
    }
}

fn ad(name: &str) -> ServiceAd {
    ServiceAd {
        name: name.into(),
        kind: ServiceKind::Function,
        env: "base".into(),
        version: Hash::of(name.as_bytes()),
        generation: 1,
    }
}
