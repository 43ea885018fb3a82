//! A simulated node: what it keeps on disk, and what it has while it lives.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    frame::FrameError,
    id::{Hash, NodeId, RealmId},
    machine::{presence::Table, routing::Candidate},
    membership::{Cert, CertBody, Role},
    presence::{Record, Signed},
    service::{ServiceAd, ServiceKind},
};

/// A node, alive or not.
#[derive(Debug)]
pub(crate) struct Node {
    key: SigningKey,
    cert: Cert,
    /// Added to the world's time: no two clocks agree.
    clock: u64,
    /// Starts so far, as its disk knows, if it does.
    pub(crate) boots: Option<u32>,
    /// What it has in memory; none while it is down.
    pub(crate) life: Option<Life>,
    /// Counts its lives, so that what was meant for an earlier one is told apart.
    pub(crate) lives: u32,
    /// When it went down.
    pub(crate) died: u64,
}

/// What a node forgets when it stops.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) table: Table,
    pub(crate) record: Record,
    /// The last record that it signed.
    pub(crate) signed: Option<Signed>,
    /// Whose records it has passed on, as gossip would.
    pub(crate) seen: BTreeSet<(NodeId, u64)>,
}

impl Node {
    pub(crate) fn new(n: usize, realm: &SigningKey, clock: u64) -> Self {
        let seed = Hash::of(format!("node {n}").as_bytes());
        let key = SigningKey::from_bytes(seed.as_bytes());
        let body = CertBody {
            realm: RealmId::from_bytes(realm.verifying_key().to_bytes()),
            node: NodeId::from_bytes(key.verifying_key().to_bytes()),
            name: format!("n{n}"),
            role: Role::Member,
        };
        let cert = Cert::sign(body, realm);
        Self { key, cert, clock, boots: None, life: None, lives: 0, died: 0 }
    }

    pub(crate) fn id(&self) -> NodeId {
        self.cert.body.node
    }

    /// The world's time on this node's clock.
    pub(crate) fn clock(&self, now: u64) -> u64 {
        self.clock + now
    }

    /// Loses the count of its starts, and with `clock` its time as well, as a machine does whose
    /// clock has no battery.
    pub(crate) fn forget(&mut self, clock: bool) {
        self.boots = None;
        if clock {
            self.clock = 0;
        }
    }

    pub(crate) fn start(&mut self, nodes: usize, now: u64) {
        let seconds = self.clock(now) / 1_000;
        let boots = self.boots.unwrap_or(seconds as u32) + 1;
        self.boots = Some(boots);
        self.lives += 1;
        let record = Record {
            cert: self.cert.clone(),
            seq: u64::from(boots) << 32,
            leaving: false,
            version: String::new(),
            addrs: Vec::new(),
            services: Vec::new(),
            load: 0,
            offer: rhd_protocol::compute::Offer::default(),
            beside: false,
            keeps: false,
        };
        let table = Table::new(self.id(), self.cert.body.realm, nodes);
        self.life = Some(Life { table, record, signed: None, seen: BTreeSet::new() });
    }

    /// Signs the next record.
    pub(crate) fn sign(&mut self) -> Option<Result<Signed, FrameError>> {
        let life = self.life.as_mut()?;
        life.record.seq += 1;
        let signed = Signed::new(&life.record, &self.key);
        life.signed = signed.as_ref().ok().cloned();
        Some(signed)
    }
}

impl Life {
    /// The hosts of a service that this node knows of, itself included.
    pub(crate) fn candidates(
        &self,
        service: &str,
        linked: impl Fn(NodeId) -> bool,
    ) -> Vec<Candidate> {
        let me = self.record.node();
        let records = self.table.records().chain([&self.record]);
        let hosts =
            records.filter_map(|r| Some((r, r.services.iter().find(|s| s.name == service)?)));
        hosts
            .map(|(record, ad)| Candidate {
                node: record.node(),
                generation: ad.generation,
                version: ad.version,
                load: record.load,
                rtt_us: None,
                linked: linked(record.node()),
                here: record.node() == me,
            })
            .collect()
    }

    /// The highest generation of a service that this node knows of.
    pub(crate) fn generation(&self, service: &str) -> u64 {
        self.candidates(service, |_| false).iter().map(|c| c.generation).max().unwrap_or(0)
    }

    /// Hosts a new version of a service.
    pub(crate) fn host(&mut self, service: String, generation: u64, version: Hash) {
        self.record.services.retain(|ad| ad.name != service);
        self.record.services.push(ServiceAd {
            name: service,
            kind: ServiceKind::Function,
            env: "base".into(),
            version,
            generation,
        });
    }
}
