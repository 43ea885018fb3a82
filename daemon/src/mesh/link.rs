//! Links: the one data connection to each peer, and the streams on it.
//!
//! Two nodes may dial each other at the same moment. Then both keep the connection that the lower
//! node id dialed and open nothing more on the other one, which the lower node closes once nothing
//! runs on it. A connection from a new incarnation of a peer (it started anew, or joined) always
//! takes the place of the old one.
//!
//! Who dials several addresses at once keeps the connection that it hears of first, and the other side
//! can't tell which that is: it uses the last, and when that closes, the one before.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rhd_protocol::{
    id::NodeId,
    membership::Cert,
    wire::{self, Open},
};
use tokio::{
    io::AsyncWriteExt,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    endpoint::{Arrival, widen},
    stream::{Priority, Stream, read_first},
};

/// Streams of one protocol that wait to be taken; beyond this, streams wait at their senders.
const ACCEPTED: usize = 64;
/// Two connections within this time of each other come from both sides dialing at once.
const SIMULTANEOUS: Duration = Duration::from_secs(10);
/// How often a connection that lost is looked at, to close it when nothing runs on it.
const LINGER: Duration = Duration::from_secs(2);

/// Open connections to one peer that are remembered.
const WAYS: usize = 8;

/// Codes with which connections are closed.
pub(super) mod code {
    /// Both sides dialed; another connection is in use.
    pub(in crate::mesh) const DUPLICATE: u32 = 2;
    /// The peer has started anew.
    pub(in crate::mesh) const REPLACED: u32 = 3;
    /// This node belongs to another realm now.
    pub(in crate::mesh) const REALM: u32 = 4;
    /// Nobody takes streams of this protocol.
    pub(in crate::mesh) const PROTOCOL: u32 = 5;
}

/// The data connection to a peer.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: NodeId,
    pub(super) cert: Cert,
    pub(super) connection: quinn::Connection,
    dialed: bool,
    since: Instant,
    incarnation: [u8; 32],
    /// Held by each stream, and by nobody else but the link.
    streams: Arc<()>,
}

impl Link {
    /// Where the peer is.
    pub(super) fn addr(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.streams) == 1
    }

    pub(super) async fn open(&self, proto: &str, priority: Priority) -> std::io::Result<Stream> {
        let halves = self.connection.open_bi().await?;
        let mut stream = Stream::direct(self.peer, halves, Some(self.streams.clone()));
        stream.set_priority(priority);
        let open = Open { proto: proto.into(), cert: None };
        stream.send.start_with(&open).map_err(std::io::Error::other)?;
        // A call is written at once, and takes it along.
        if proto != wire::CALL {
            stream.send.flush().await?;
        }
        Ok(stream)
    }
}

/// What happens to links.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// A peer is linked.
    Up(Arc<Link>),
    /// A peer's link is gone.
    Down(NodeId),
}

/// All links of a node; a cloneable handle.
#[derive(Clone)]
pub(super) struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    me: NodeId,
    /// The open connections to each peer; the last one is its link.
    table: RwLock<HashMap<NodeId, Vec<Arc<Link>>>>,
    /// Counts changes of the table, for those who wait for a link.
    changed: watch::Sender<u64>,
    acceptors: Mutex<HashMap<String, mpsc::Sender<Stream>>>,
    events: mpsc::Sender<LinkEvent>,
    stop: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    pub(super) fn new(
        me: NodeId,
        events: mpsc::Sender<LinkEvent>,
        stop: CancellationToken,
    ) -> Self {
        let inner = Inner {
            me,
            table: RwLock::default(),
            changed: watch::Sender::new(0),
            acceptors: Mutex::default(),
            events,
            stop,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes the streams of a protocol.
    pub(super) fn accept(&self, proto: &str) -> mpsc::Receiver<Stream> {
        let (tx, rx) = mpsc::channel(ACCEPTED);
        lock(&self.inner.acceptors).insert(proto.into(), tx);
        rx
    }

    /// The link to a peer.
    pub(super) fn get(&self, peer: NodeId) -> Option<Arc<Link>> {
        let table = self.inner.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(&peer)?.last().cloned()
    }

    /// All links.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        let table = self.inner.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().filter_map(|ways| ways.last().cloned()).collect()
    }

    /// Waits for a link to `peer`.
    pub(super) async fn wait(&self, peer: NodeId) -> Arc<Link> {
        let mut changed = self.inner.changed.subscribe();
        loop {
            if let Some(link) = self.get(peer) {
                return link;
            }
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Opens a stream on the link to `peer`, if there is one.
    pub(super) async fn open(
        &self,
        peer: NodeId,
        proto: &str,
        priority: Priority,
    ) -> Option<std::io::Result<Stream>> {
        Some(self.get(peer)?.open(proto, priority).await)
    }

    /// Takes a connection whose peer is proved to be a member.
    pub(super) fn add(&self, arrival: Arrival, dialed: bool) {
        let Some(cert) = arrival.peer.cert else { return };
        let peer = arrival.peer.node;
        if peer == self.inner.me {
            return;
        }
        widen(&arrival.connection);
        let link = Arc::new(Link {
            peer,
            cert,
            connection: arrival.connection,
            dialed,
            since: Instant::now(),
            incarnation: arrival.peer.incarnation,
            streams: Arc::new(()),
        });
        let used = self.place(&link);
        tokio::spawn(serve(self.clone(), link.clone()));
        if used {
            let links = self.clone();
            tokio::spawn(async move { links.tell(LinkEvent::Up(link)).await });
        }
    }

    async fn tell(&self, event: LinkEvent) {
        self.inner.changed.send_modify(|n| *n += 1);
        let _ = self.inner.events.send(event).await;
    }

    /// Puts the link into the table; whether it is the one that is used.
    fn place(&self, link: &Arc<Link>) -> bool {
        let mut table = self.inner.table.write().unwrap_or_else(PoisonError::into_inner);
        let ways = table.entry(link.peer).or_default();
        ways.retain(|way| way.connection.close_reason().is_none());
        ways.retain(|way| {
            let same = way.incarnation == link.incarnation;
            if !same {
                way.connection.close(code::REPLACED.into(), b"replaced");
            }
            same
        });
        let lower_dialed = |l: &Link| l.dialed == (self.inner.me < l.peer);
        let mut used = true;
        if let Some(old) = ways.last().cloned() {
            let at_once = old.since.elapsed() < SIMULTANEOUS;
            used = !(at_once && lower_dialed(&old) && !lower_dialed(link));
            let loser = if used { old } else { link.clone() };
            if self.inner.me < link.peer {
                tokio::spawn(close_when_idle(self.clone(), loser));
            }
        }
        ways.insert(if used { ways.len() } else { 0 }, link.clone());
        if ways.len() > WAYS {
            ways.remove(0);
        }
        used
    }

    /// Takes a link that has closed out of the table; what that changes.
    fn remove(&self, link: &Arc<Link>) -> Option<LinkEvent> {
        let mut table = self.inner.table.write().unwrap_or_else(PoisonError::into_inner);
        let ways = table.get_mut(&link.peer)?;
        let was_used = ways.last().is_some_and(|used| Arc::ptr_eq(used, link));
        // Another one that has closed takes itself out, and says what that changes.
        ways.retain(|way| !Arc::ptr_eq(way, link));
        let next = ways.last().cloned();
        if next.is_none() {
            table.remove(&link.peer);
        }
        was_used.then(|| next.map_or(LinkEvent::Down(link.peer), LinkEvent::Up))
    }

    /// Hands a stream to those who take its protocol.
    pub(super) async fn dispatch(&self, proto: &str, stream: Stream) -> Result<(), Stream> {
        let acceptor = lock(&self.inner.acceptors).get(proto).cloned();
        match acceptor {
            Some(acceptor) => acceptor.send(stream).await.map_err(|e| e.0),
            None => Err(stream),
        }
    }

    /// Closes all links and lets go of them.
    pub(super) fn close_all(&self, code: u32, reason: &[u8]) {
        let mut table = self.inner.table.write().unwrap_or_else(PoisonError::into_inner);
        for link in table.drain().flat_map(|(_, ways)| ways) {
            link.connection.close(code.into(), reason);
        }
    }
}

async fn close_when_idle(links: Links, link: Arc<Link>) {
    loop {
        tokio::select! {
            _ = link.connection.closed() => return,
            () = tokio::time::sleep(LINGER) => {}
        }
        if links.get(link.peer).is_some_and(|used| Arc::ptr_eq(&used, &link)) {
            // The one that it had lost to has closed.
            return;
        }
        if link.is_idle() {
            link.connection.close(code::DUPLICATE.into(), b"duplicate");
            return;
        }
    }
}

/// Takes the streams of a link until it closes.
async fn serve(links: Links, link: Arc<Link>) {
    let reason = loop {
        tokio::select! {
            () = links.inner.stop.cancelled() => return,
            stream = link.connection.accept_bi() => match stream {
                // The peer's limit on open streams bounds these tasks.
                Ok(halves) => {
                    let stream = Stream::direct(link.peer, halves, Some(link.streams.clone()));
                    stream.set_priority(Priority::Call);
                    tokio::spawn(take(links.clone(), link.clone(), stream));
                }
                Err(reason) => break reason,
            }
        }
    };
    if let Some(event) = links.remove(&link) {
        tracing::debug!(peer = %link.peer.short(), %reason, "link down");
        links.tell(event).await;
    }
}

async fn take(links: Links, link: Arc<Link>, mut stream: Stream) {
    let proto = match read_first::<Open>(&mut stream.recv).await {
        Ok(open) => open.proto,
        Err(error) => {
            tracing::debug!(peer = %link.peer.short(), %error, "stream without a protocol");
            return;
        }
    };
    if let Err(stream) = links.dispatch(&proto, stream).await {
        tracing::debug!(peer = %link.peer.short(), proto, "nobody takes this protocol");
        stream.send.refuse(code::PROTOCOL);
    }
}
