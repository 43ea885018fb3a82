//! The world: nodes, the network between them, and what happens next.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    id::{Hash, NodeId},
    machine::presence::Verdict,
    presence::{REFRESH_MS, Signed, TTL_MS},
    service::ServiceAd,
};

use crate::{
    node::Node,
    rng::Rng,
    scenario::{Fault, Metrics, Scenario},
};

/// How often the invariants are checked, in virtual milliseconds.
pub(crate) const CHECK_MS: u64 = 1_000;
/// Clocks differ by up to this much.
const CLOCKS_MS: u64 = 2 * 3_600_000;
/// Events of one run; more means that records chase each other for ever.
const MAX_EVENTS: u64 = 500_000;

/// A run that broke an invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at {at} ms: {what}")]
pub struct Broken {
    /// Virtual time.
    pub at: u64,
    /// Which, and how.
    pub what: String,
}

/// A record under way.
#[derive(Debug, Clone)]
struct Parcel {
    origin: NodeId,
    seq: u64,
    signed: Rc<Signed>,
    /// Shown when a link came up, or doubled by the network: gossip does not drop it as seen.
    direct: bool,
}

#[derive(Debug)]
enum Event {
    Start(usize),
    Refresh { node: usize, life: u32 },
    Deliver { from: usize, to: usize, life: u32, parcel: Parcel },
    Fault,
    Check,
}

/// A world in progress.
#[derive(Debug)]
pub struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) metrics: Metrics,
    /// What every node ever said under every number; a forgetful one says several things.
    pub(crate) said: BTreeMap<(NodeId, u64), Vec<Vec<ServiceAd>>>,
    /// The highest number that a node of this life has listed of another.
    pub(crate) listed: BTreeMap<(usize, u32, NodeId), u64>,
    cut: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    versions: u64,
}

/// Runs a scenario from a seed until all agree again.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Metrics, Broken> {
    let mut world = World::new(scenario, seed);
    loop {
        let Some(((at, _), event)) = world.queue.pop_first() else {
            return Err(world.broken("nothing happens any more"));
        };
        world.now = at;
        if world.events > MAX_EVENTS {
            return Err(world.broken("records chase each other"));
        }
        if world.handle(event)? {
            return Ok(world.metrics);
        }
    }
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let realm = SigningKey::from_bytes(&[7; 32]);
        let nodes: Vec<_> =
            (0..scenario.nodes).map(|n| Node::new(n, &realm, rng.below(CLOCKS_MS))).collect();
        let mut world = Self {
            scenario,
            rng,
            now: 0,
            nodes,
            metrics: Metrics::default(),
            said: BTreeMap::new(),
            listed: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            versions: 0,
        };
        for node in 0..scenario.nodes {
            let at = world.rng.below(2_000);
            world.at(at, Event::Start(node));
        }
        world.at(0, Event::Fault);
        world.at(0, Event::Check);
        world
    }

    pub(crate) fn broken(&self, what: impl Into<String>) -> Broken {
        Broken { at: self.now, what: what.into() }
    }

    fn at(&mut self, after: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    /// Whether the time of faults is over.
    pub(crate) fn is_quiet(&self) -> bool {
        self.now >= self.scenario.chaos_ms
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|n| self.nodes[*n].life.is_some()).collect()
    }

    fn down(&self) -> Vec<usize> {
        let started = |n: &usize| self.nodes[*n].lives > 0 && self.nodes[*n].life.is_none();
        (0..self.nodes.len()).filter(started).collect()
    }

    /// Handles one event; whether the run is over.
    fn handle(&mut self, event: Event) -> Result<bool, Broken> {
        match event {
            Event::Start(node) => self.start(node)?,
            Event::Refresh { node, life } => {
                if self.nodes[node].lives == life && self.nodes[node].life.is_some() {
                    self.publish(node)?;
                    let jitter = self.rng.below(1_000);
                    self.at(REFRESH_MS - jitter, Event::Refresh { node, life });
                }
            }
            Event::Deliver { from, to, life, parcel } => self.deliver(from, to, life, parcel)?,
            Event::Fault if self.is_quiet() => {
                for (a, b) in std::mem::take(&mut self.cut) {
                    self.link_up(a, b);
                }
            }
            Event::Fault => {
                self.fault()?;
                let wait = self.rng.within(0, 2 * self.scenario.fault_every_ms);
                let left = self.scenario.chaos_ms - self.now;
                self.at(wait.min(left), Event::Fault);
            }
            Event::Check => {
                if self.check()? {
                    return Ok(true);
                }
                self.at(CHECK_MS, Event::Check);
            }
        }
        Ok(false)
    }

    fn start(&mut self, node: usize) -> Result<(), Broken> {
        let nodes = self.nodes.len();
        self.nodes[node].start(nodes, self.now);
        let life = self.nodes[node].lives;
        self.publish(node)?;
        self.at(REFRESH_MS, Event::Refresh { node, life });
        (0..nodes).filter(|peer| *peer != node).for_each(|peer| self.link_up(node, peer));
        Ok(())
    }

    /// Signs a new record and gossips it.
    fn publish(&mut self, node: usize) -> Result<(), Broken> {
        let Some(signed) = self.nodes[node].sign() else { return Ok(()) };
        let signed = signed.map_err(|e| self.broken(format!("a record can't be signed: {e}")))?;
        let Some(life) = &mut self.nodes[node].life else { return Ok(()) };
        let (origin, seq) = (life.record.node(), life.record.seq);
        life.seen.insert((origin, seq));
        self.said.entry((origin, seq)).or_default().push(life.record.services.clone());
        self.metrics.records += 1;
        self.gossip(node, &Parcel { origin, seq, signed: Rc::new(signed), direct: false });
        Ok(())
    }

    fn gossip(&mut self, from: usize, parcel: &Parcel) {
        for to in (0..self.nodes.len()).filter(|to| *to != from) {
            if !self.is_quiet() && self.rng.percent(self.scenario.loss_percent) {
                self.metrics.lost += 1;
                continue;
            }
            self.send(from, to, parcel.clone());
            if self.rng.percent(self.scenario.duplicate_percent) {
                self.send(from, to, Parcel { direct: true, ..parcel.clone() });
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, parcel: Parcel) {
        if self.nodes[to].life.is_none() || self.is_cut(from, to) {
            return;
        }
        let [low, high] = self.scenario.delay_ms;
        let delay = self.rng.within(low, high);
        let life = self.nodes[to].lives;
        self.at(delay, Event::Deliver { from, to, life, parcel });
    }

    /// Two nodes show each other all that they know.
    fn link_up(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let (clock, peer) = (self.nodes[from].clock(self.now), self.nodes[to].id());
            let Some(life) = &self.nodes[from].life else { return };
            let shown = life.table.shown_to(peer, clock).chain(life.signed.clone());
            let shown: Vec<_> = shown
                .filter_map(|signed| {
                    let record = signed.open().ok()?;
                    let (origin, seq) = (record.node(), record.seq);
                    Some(Parcel { origin, seq, signed: Rc::new(signed), direct: true })
                })
                .collect();
            shown.into_iter().for_each(|parcel| self.send(from, to, parcel));
        }
    }

    fn deliver(&mut self, from: usize, to: usize, life: u32, parcel: Parcel) -> Result<(), Broken> {
        let now = self.now;
        if self.nodes[to].lives != life || self.is_cut(from, to) {
            return Ok(());
        }
        let clock = self.nodes[to].clock(now);
        let Some(at) = &mut self.nodes[to].life else { return Ok(()) };
        self.metrics.delivered += 1;
        if !at.seen.insert((parcel.origin, parcel.seq)) && !parcel.direct {
            return Ok(());
        }
        at.table.expire(clock);
        match at.table.accept(&parcel.signed, at.record.seq, clock) {
            Ok(Verdict::News { .. }) => {
                self.gossip(to, &Parcel { direct: false, ..parcel });
            }
            Ok(Verdict::Known) => {}
            Ok(Verdict::Ahead { seq }) => {
                at.record.seq = seq;
                self.nodes[to].boots = Some((seq >> 32) as u32 + 1);
                self.publish(to)?;
            }
            Err(e) => return Err(self.broken(format!("node {to} refused an honest record: {e}"))),
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), Broken> {
        let weights = self.scenario.faults.iter();
        let all: Vec<Fault> = weights
            .flat_map(|(fault, weight)| std::iter::repeat_n(*fault, *weight as usize))
            .collect();
        let (alive, down) = (self.alive(), self.down());
        let Some(fault) = self.rng.choose(&all).copied() else { return Ok(()) };
        match fault {
            Fault::Deploy => {
                let (from, to) =
                    (self.rng.choose(&alive).copied(), self.rng.choose(&alive).copied());
                if let (Some(from), Some(to)) = (from, to)
                    && !self.is_cut(from, to)
                {
                    self.deploy(from, to)?;
                }
            }
            Fault::Crash | Fault::Leave => {
                // Two are left: with fewer there is nobody to be wrong.
                if let Some(node) = self.rng.choose(&alive).copied().filter(|_| alive.len() > 2) {
                    if fault == Fault::Leave
                        && let Some(life) = &mut self.nodes[node].life
                    {
                        life.record.leaving = true;
                        life.record.services.clear();
                        self.publish(node)?;
                    }
                    self.nodes[node].life = None;
                    self.nodes[node].died = self.now;
                }
            }
            Fault::Restart | Fault::Forget => {
                if let Some(node) = self.rng.choose(&down).copied() {
                    if fault == Fault::Forget {
                        let clock = self.rng.percent(50);
                        self.nodes[node].forget(clock);
                    }
                    self.start(node)?;
                }
            }
            Fault::Cut => {
                let nodes = self.nodes.len() as u64;
                let (a, b) = (self.rng.below(nodes) as usize, self.rng.below(nodes) as usize);
                if a != b {
                    self.cut.insert((a.min(b), a.max(b)));
                }
            }
            Fault::Heal => {
                let cut: Vec<_> = self.cut.iter().copied().collect();
                if let Some((a, b)) = self.rng.choose(&cut).copied() {
                    self.cut.remove(&(a, b));
                    self.link_up(a, b);
                }
            }
        }
        Ok(())
    }

    fn deploy(&mut self, from: usize, to: usize) -> Result<(), Broken> {
        let service = self.service();
        let known = |n: usize| self.nodes[n].life.as_ref().map_or(0, |l| l.generation(&service));
        let generation = known(from).max(known(to)) + 1;
        self.versions += 1;
        let version = Hash::of(&self.versions.to_be_bytes());
        if let Some(life) = &mut self.nodes[to].life {
            life.host(service, generation, version);
        }
        self.publish(to)
    }

    /// Any service.
    pub(crate) fn service(&mut self) -> String {
        format!("/ann/s{}", self.rng.below(self.scenario.services))
    }

    /// How long a record may be under way, over all nodes one after another: that is not counted
    /// into its age.
    pub(crate) fn way(&self) -> u64 {
        self.scenario.nodes as u64 * self.scenario.delay_ms[1]
    }

    /// When all must agree at the latest.
    pub(crate) fn deadline(&self) -> u64 {
        self.scenario.chaos_ms + TTL_MS + REFRESH_MS + self.way() + 2 * CHECK_MS
    }
}
