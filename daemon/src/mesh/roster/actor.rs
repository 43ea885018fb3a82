//! The task that owns the roster.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rhd_protocol::{
    id::NodeId,
    machine::presence::Table,
    membership::{Cert, Membership},
    presence::Signed,
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

use super::{
    Msg, Parts, PeerInfo, Route,
    peer::{Peer, State, dial},
};
use crate::mesh::{
    addrs,
    book::{Book, Known},
    error::MeshError,
    link::{LinkEvent, code},
    presence::Own,
};

mod talk;

/// Changes of what is hosted within this time make one record.
const SOON: Duration = Duration::from_millis(20);
/// Changes of load alone within this time make one record.
const LATER: Duration = Duration::from_millis(500);
/// Round trips and the book are brought up to date this often, if anything changed.
const TIDY: Duration = Duration::from_secs(2);
/// Of two nodes that learn of each other at once, the higher one lets the lower one dial first.
const AFTER_YOU: Duration = Duration::from_millis(100);
/// Addresses at which others saw this node.
const OBSERVED: usize = 4;

pub(super) struct Actor {
    parts: Owned,
    me: NodeId,
    tx: mpsc::Sender<Msg>,
    publish: watch::Sender<Arc<Vec<PeerInfo>>>,
    book: Book,
    own: Own,
    table: Table,
    peers: HashMap<NodeId, Peer>,
    observed: Vec<SocketAddr>,
    started: Instant,
    /// When the next own record is due.
    due: Instant,
    tidy: Instant,
    /// Whether peers must be published, and the book be saved.
    changed: bool,
    unsaved: bool,
}

/// [`Parts`] without what is needed at the start only.
struct Owned {
    max_peers: usize,
    credentials: watch::Receiver<Arc<crate::mesh::tls::Credentials>>,
    endpoint: crate::mesh::endpoint::Endpoint,
    links: crate::mesh::link::Links,
    link_events: mpsc::Receiver<LinkEvent>,
    addrs: watch::Receiver<Vec<SocketAddr>>,
    gossip: mpsc::Sender<Signed>,
    stop: tokio_util::sync::CancellationToken,
}

impl Actor {
    pub(super) fn new(
        parts: Parts<'_>,
        tx: mpsc::Sender<Msg>,
        publish: watch::Sender<Arc<Vec<PeerInfo>>>,
    ) -> Result<Self, MeshError> {
        let cert = parts.credentials.borrow().membership.cert.clone();
        let (me, realm) = (cert.body.node, cert.body.realm);
        let book = Book::new(parts.home);
        let now = Instant::now();
        let mut actor = Self {
            me,
            tx,
            publish,
            own: Own::start(parts.home, parts.key, cert)?,
            table: Table::new(me, realm, parts.config.max_peers),
            peers: HashMap::new(),
            observed: Vec::new(),
            started: now,
            due: now,
            tidy: now + TIDY,
            changed: true,
            unsaved: false,
            parts: Owned {
                max_peers: parts.config.max_peers,
                credentials: parts.credentials,
                endpoint: parts.endpoint,
                links: parts.links,
                link_events: parts.link_events,
                addrs: parts.addrs,
                gossip: parts.gossip,
                stop: parts.stop,
            },
            book,
        };
        for known in actor.book.load()? {
            if known.cert.verify(realm).is_ok() {
                actor.learn(known.cert.body.node, Some(known.cert), &known.addrs);
            }
        }
        actor.unsaved = false;
        Ok(actor)
    }

    pub(super) async fn run(mut self, mut rx: mpsc::Receiver<Msg>) {
        self.readdress();
        loop {
            self.dial_due();
            if self.changed {
                self.publish();
            }
            let wake = self.wake().into();
            tokio::select! {
                () = self.parts.stop.cancelled() => return,
                Some(msg) = rx.recv() => self.handle(msg).await,
                Some(event) = self.parts.link_events.recv() => self.link(event),
                Ok(()) = self.parts.addrs.changed() => self.readdress(),
                () = sleep_until(wake) => self.tick().await,
            }
        }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// When something is to be done next.
    fn wake(&self) -> Instant {
        let expiry = self.table.next_expiry().map(|ms| self.started + Duration::from_millis(ms));
        let dials = self.peers.values().filter_map(|peer| match peer.state {
            State::Waiting(at) if !peer.addrs.is_empty() => Some(at),
            _ => None,
        });
        dials.chain(expiry).chain([self.due, self.tidy]).min().unwrap_or(self.tidy)
    }

    async fn tick(&mut self) {
        let now = Instant::now();
        if !self.table.expire(self.now()).is_empty() {
            self.changed = true;
        }
        if now >= self.due {
            self.say();
        }
        if now >= self.tidy {
            self.tidy = now + TIDY;
            self.changed = true;
            if std::mem::take(&mut self.unsaved) {
                self.save().await;
            }
        }
    }

    async fn handle(&mut self, msg: Msg) {
        match msg {
            Msg::Learned { node, cert, addrs } => self.learn(node, cert, &addrs),
            Msg::Records { from, records } => self.records(from, &records),
            Msg::Announce(announced) => {
                let (changed, more) = self.own.announce(announced);
                if changed {
                    self.due = self.due.min(Instant::now() + if more { SOON } else { LATER });
                }
            }
            Msg::Dialed { node, failed } => self.dialed(node, failed),
            Msg::Relayed { node, relayed } => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.relayed = relayed;
                    self.changed = true;
                }
            }
            Msg::Subscribed { node, subscribed } => {
                if let Some(peer) = self.peers.get_mut(&node) {
                    peer.subscribed = subscribed;
                    self.changed = true;
                }
            }
            Msg::Observed { addr } => {
                if !self.observed.contains(&addr) {
                    self.observed.insert(0, addr);
                    self.observed.truncate(OBSERVED);
                    self.readdress();
                }
            }
            Msg::Rejoined => self.rejoin(),
            Msg::Leave { done } => {
                self.leave().await;
                let _ = done.send(());
            }
        }
    }

    /// Notes that `node` may be found at `addrs`.
    fn learn(&mut self, node: NodeId, cert: Option<Cert>, addrs: &[SocketAddr]) {
        if node == self.me || !self.has_room(node) {
            return;
        }
        let now = Instant::now();
        let first = if self.me < node { now } else { now + AFTER_YOU };
        let own: Vec<SocketAddr> = self.parts.addrs.borrow().clone();
        let addrs: Vec<SocketAddr> = addrs.iter().filter(|a| !own.contains(a)).copied().collect();
        let peer = self.peers.entry(node).or_insert_with(|| Peer::new(first));
        let new_addrs = peer.learn(&addrs);
        let new_cert = cert.is_some() && peer.cert != cert;
        if let Some(cert) = cert {
            peer.cert = Some(cert);
        }
        if new_addrs && let State::Waiting(at) = &mut peer.state {
            *at = (*at).min(first);
        }
        self.unsaved |= new_addrs || new_cert;
        self.changed |= new_cert;
        if new_cert {
            // A node that is killed right after it joined must find its realm again.
            self.tidy = now;
        }
    }

    /// Whether `node` is known or can be; the peer that failed longest makes room.
    fn has_room(&mut self, node: NodeId) -> bool {
        if self.peers.contains_key(&node) || self.peers.len() < self.parts.max_peers {
            return true;
        }
        let gone = self.peers.iter().filter(|(node, peer)| {
            matches!(peer.state, State::Waiting(_)) && self.table.get(**node).is_none()
        });
        let worst = gone.max_by_key(|(_, peer)| peer.backoff.failures()).map(|(node, _)| *node);
        worst.is_some_and(|worst| self.peers.remove(&worst).is_some())
    }

    fn readdress(&mut self) {
        let mut addrs = self.parts.addrs.borrow_and_update().clone();
        addrs.extend(
            self.observed.iter().filter(|a| !addrs.contains(a)).copied().collect::<Vec<_>>(),
        );
        let addrs = addrs.into_iter().map(|a| addrs::to_multiaddr(a).to_string()).collect();
        if self.own.set_addrs(addrs) {
            self.due = self.due.min(Instant::now() + SOON);
        }
    }

    fn link(&mut self, event: LinkEvent) {
        self.changed = true;
        match event {
            LinkEvent::Up(link) => {
                tracing::info!(peer = %link.peer.short(), name = link.cert.body.name, addr = %link.addr(), "linked");
                self.learn(link.peer, Some(link.cert.clone()), &[link.addr()]);
                if let Some(peer) = self.peers.get_mut(&link.peer) {
                    peer.state = State::Linked;
                    peer.backoff.succeed();
                }
                // Its end may have been heard before its start.
                self.settle(link.peer);
                let mut records: Vec<Signed> = self.table.shown_to(link.peer, self.now()).collect();
                records.extend(self.own.next());
                tokio::spawn(talk::show(link, records));
            }
            LinkEvent::Down(node) => self.settle(node),
        }
    }

    /// Dials a peer again, soon, if it has lost its link.
    fn settle(&mut self, node: NodeId) {
        let linked = self.parts.links.get(node).is_some();
        if let Some(peer) = self.peers.get_mut(&node)
            && matches!(peer.state, State::Linked)
            && !linked
        {
            let wait = peer.backoff.fail(rand::random());
            peer.state = State::Waiting(Instant::now() + Duration::from_millis(wait));
        }
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        for (node, peer) in &mut self.peers {
            let due = matches!(peer.state, State::Waiting(at) if at <= now);
            if !due || peer.addrs.is_empty() {
                continue;
            }
            peer.state = State::Dialing;
            let (node, addrs, tx) = (*node, peer.addrs.clone(), self.tx.clone());
            let (endpoint, links) = (self.parts.endpoint.clone(), self.parts.links.clone());
            tokio::spawn(async move {
                let arrival = match links.get(node) {
                    Some(_) => return drop(tx.send(Msg::Dialed { node, failed: false }).await),
                    None => dial(&endpoint, node, addrs).await,
                };
                let failed = arrival.is_none();
                if let Some(arrival) = arrival {
                    links.add(arrival, true);
                }
                let _ = tx.send(Msg::Dialed { node, failed }).await;
            });
        }
    }

    fn dialed(&mut self, node: NodeId, failed: bool) {
        let linked = self.parts.links.get(node).is_some();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if linked {
            peer.state = State::Linked;
        } else if failed && peer.cert.is_none() {
            // Not a member, or not there: only an address that somebody shouted.
            self.peers.remove(&node);
        } else if !matches!(peer.state, State::Waiting(_)) {
            let wait = peer.backoff.fail(rand::random());
            peer.state = State::Waiting(Instant::now() + Duration::from_millis(wait));
        }
    }

    /// Starts anew in another realm.
    fn rejoin(&mut self) {
        let Membership { cert } = self.parts.credentials.borrow().membership.clone();
        self.parts.links.close_all(code::REALM, b"joined another realm");
        self.table = Table::new(self.me, cert.body.realm, self.parts.max_peers);
        self.peers
            .retain(|_, peer| peer.cert.as_ref().is_some_and(|c| c.body.realm == cert.body.realm));
        self.own.adopt(cert);
        self.due = Instant::now();
        self.changed = true;
        self.unsaved = true;
    }

    async fn save(&mut self) {
        let known: Vec<Known> = (self.peers.values())
            .filter_map(|peer| Some(Known { cert: peer.cert.clone()?, addrs: peer.addrs.clone() }))
            .collect();
        let book = self.book.clone();
        match tokio::task::spawn_blocking(move || book.save(&known)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "known peers can't be saved"),
            Err(error) => tracing::warn!(%error, "known peers can't be saved"),
        }
    }

    fn publish(&mut self) {
        self.changed = false;
        let before = self.publish.borrow().clone();
        let mut now: Vec<PeerInfo> = Vec::new();
        for (node, peer) in &self.peers {
            let Some(cert) = &peer.cert else { continue };
            let link = self.parts.links.get(*node);
            let same = before.iter().find(|info| info.node == *node).and_then(|i| i.record.clone());
            let record = self.table.get(*node).map(|record| match same {
                Some(same) if same.seq == record.seq => same,
                _ => Arc::new(record.clone()),
            });
            now.push(PeerInfo {
                node: *node,
                name: cert.body.name.clone(),
                role: cert.body.role,
                record,
                path: match (&link, peer.relayed) {
                    (Some(_), _) => Route::Direct,
                    (None, true) => Route::Relayed,
                    (None, false) => Route::None,
                },
                rtt: link.as_ref().map(|link| link.connection.rtt()),
                addr: link.as_ref().map(|link| link.addr()),
                gossips: peer.subscribed,
            });
        }
        now.sort_by(|a, b| a.name.cmp(&b.name).then(a.node.cmp(&b.node)));
        self.publish.send_replace(Arc::new(now));
    }
}
