//! What is said of this node, and what is heard of others.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rhd_protocol::{
    id::NodeId,
    machine::presence::Verdict,
    presence::{REFRESH_MS, Signed},
    wire,
};
use tokio::{task::JoinSet, time::timeout};

use super::Actor;
use crate::mesh::{addrs, link::Link, presence, stream::Priority};

/// How long a good-bye may take.
const GOODBYE: Duration = Duration::from_millis(500);

impl Actor {
    pub(super) fn records(&mut self, from: Option<NodeId>, records: &[Signed]) {
        for signed in records {
            match self.table.accept(signed, self.own.seq(), self.now()) {
                Ok(Verdict::News { node, leaving }) => {
                    self.changed = true;
                    if let Some(record) = self.table.get(node) {
                        let addrs: Vec<SocketAddr> = (record.addrs.iter())
                            .filter_map(|a| addrs::from_multiaddr(&a.parse().ok()?))
                            .collect();
                        let cert = record.cert.clone();
                        self.learn(node, Some(cert), &addrs);
                    }
                    // Gossip passes on what came by gossip; a stream's news is ours to pass on.
                    self.spread(signed, [from, Some(node)], from.is_some());
                    if leaving {
                        tracing::debug!(peer = %node.short(), "peer says good-bye");
                    }
                }
                Ok(Verdict::Known) => {}
                Ok(Verdict::Ahead { seq }) => {
                    if let Err(error) = self.own.jump(seq) {
                        tracing::warn!(%error, "the count of starts can't be saved");
                    }
                    self.due = Instant::now();
                }
                Err(error) => tracing::debug!(%error, "presence record refused"),
            }
        }
    }

    /// Tells a record to all but `known`: by gossip, and by a stream to those who can't hear it.
    fn spread(&self, signed: &Signed, known: [Option<NodeId>; 2], gossip: bool) {
        if gossip && self.parts.gossip.try_send(signed.clone()).is_err() {
            tracing::debug!("gossip is busy; the next refresh will do");
        }
        for link in self.parts.links.all() {
            let hears = self.peers.get(&link.peer).is_some_and(|peer| peer.subscribed);
            if !hears && !known.contains(&Some(link.peer)) {
                tokio::spawn(show(link, vec![signed.clone()]));
            }
        }
    }

    /// Says what this node is and hosts.
    pub(super) fn say(&mut self) {
        self.due = Instant::now() + Duration::from_millis(REFRESH_MS);
        match self.own.next() {
            Ok(signed) => self.spread(&signed, [None, None], true),
            Err(error) => tracing::warn!(%error, "presence record can't be made"),
        }
    }

    /// Says good-bye on every link, and by gossip to those beyond them, who may not hear it: the
    /// swarm ends with this node.
    pub(super) async fn leave(&mut self) {
        self.own.leave();
        match self.own.next() {
            Ok(signed) => {
                let _ = self.parts.gossip.try_send(signed.clone());
                let links = self.parts.links.all().into_iter();
                let shown: JoinSet<()> =
                    links.map(|link| show(link, vec![signed.clone()])).collect();
                let _ = timeout(GOODBYE, shown.join_all()).await;
            }
            Err(error) => tracing::warn!(%error, "presence record can't be made"),
        }
        self.save().await;
    }
}

/// Shows records on a link.
pub(super) async fn show(link: Arc<Link>, records: Vec<Signed>) {
    let shown = match link.open(wire::PRESENCE, Priority::Sync).await {
        Ok(stream) => presence::show(stream, &records).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = shown {
        tracing::debug!(peer = %link.peer.short(), error, "presence not shown");
    }
}
