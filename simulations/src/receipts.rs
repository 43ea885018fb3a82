//! Calls, their receipts and their repeats: hosts and callers that are killed at every step, on a
//! network that loses, doubles and delays every message.
//!
//! What must hold: an id runs at most once; what a receipt says is so, and stays so; a caller repeats
//! only what is over and brought nobody a result; and once faults have ended, every call comes to an
//! end.

use std::collections::{BTreeMap, BTreeSet};

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Asker, Heard, Known, Next, merge},
    run::RunStatus,
};
use serde::{Deserialize, Serialize};

use crate::{rng::Rng, world::Broken};

mod host;

use host::{Arrived, Host};

/// How long a caller waits for a reply or for answers before it takes them for lost.
const PATIENCE_MS: u64 = 3_000;
/// How long a host that went down stays down, at most.
const DOWN_MS: u64 = 5_000;
/// Time for everything to come to its end after the last fault.
const SETTLE_MS: u64 = 600_000;
/// The world begins here: times before it are no times.
const DAWN_MS: u64 = 1_000_000_000;

/// Something that happens to a world of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A host's daemon is killed, and starts again.
    Kill,
    /// A host's machine loses power: what was not flushed is gone.
    Power,
    /// A caller loses its daemon, and with it whatever is under way to it.
    CutOff,
}

/// A world of calls and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for.
    pub about: String,
    /// Nodes that run calls.
    pub hosts: usize,
    /// Clients that call, one call after the other.
    pub callers: usize,
    /// Calls of each.
    pub calls: u32,
    /// Repeats of a call.
    pub repeats: u32,
    /// Questions about a call before its caller gives up.
    pub patience: u32,
    /// Virtual milliseconds until faults end and the network is well.
    pub chaos_ms: u64,
    /// Mean time between two faults.
    pub fault_every_ms: u64,
    /// Messages that are lost, of a hundred.
    pub loss_percent: u64,
    /// Messages that arrive twice, of a hundred.
    pub duplicate_percent: u64,
    /// Shortest and longest way of a message.
    pub delay_ms: [u64; 2],
    /// Shortest and longest call.
    pub takes_ms: [u64; 2],
    /// Entries of one file of a journal.
    pub segment: usize,
    /// What happens, by weight.
    pub faults: BTreeMap<Fault, u64>,
}

/// What a run came to; equal for equal seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Virtual milliseconds from the end of faults until all calls had ended.
    pub settle_ms: u64,
    /// Executions that were started.
    pub started: u64,
    /// Those that came to their end.
    pub completed: u64,
    /// Calls whose result reached their caller.
    pub delivered: u64,
    /// Calls that were given up.
    pub given_up: u64,
    /// Calls that were made again under a fresh id.
    pub repeated: u64,
    /// Questions to all hosts.
    pub asked: u64,
    /// Calls that came after their host had ruled them out.
    pub too_late: u64,
}

#[derive(Debug, Clone)]
enum Message {
    Call { id: CallId },
    Ask { id: CallId, question: u64, age: u64 },
    Attach { id: CallId },
    Answer { id: CallId, question: u64, host: usize, known: Known },
    Reply { id: CallId, kept: bool },
}

#[derive(Debug)]
enum Event {
    ToHost {
        host: usize,
        from: usize,
        life: u32,
        message: Message,
    },
    ToCaller {
        caller: usize,
        message: Message,
    },
    Ended {
        host: usize,
        life: u32,
        id: CallId,
    },
    Start {
        host: usize,
    },
    /// Nothing came that a caller waits for.
    Silence {
        caller: usize,
        step: u64,
    },
    Flush,
    Fault,
}

/// A client with one call at a time.
#[derive(Debug)]
struct Caller {
    left: u32,
    asker: Asker,
    id: CallId,
    made: u64,
    /// Ids of this call, the current one included.
    ids: Vec<CallId>,
    /// Counts decisions: what was expected before the last is not waited for any more.
    step: u64,
    waits: bool,
    question: u64,
    answers: Vec<Option<Known>>,
    idle: bool,
}

/// The truth about an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Truth {
    Running,
    Completed,
    /// Its host went down in it.
    Cut,
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: u64,
    hosts: Vec<Host>,
    callers: Vec<Caller>,
    truth: BTreeMap<CallId, Truth>,
    /// Ids that a caller was told never started.
    ruled_out: BTreeSet<CallId>,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    ids: u64,
    metrics: Metrics,
}

/// Its name, and that of its files.
pub const NAME: &str = "receipts";

/// The scenario.
pub fn scenario() -> Result<Scenario, serde_json::Error> {
    serde_json::from_str(include_str!("../scenarios/receipts.json"))
}

/// Runs a scenario from a seed until every call has ended.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Metrics, Broken> {
    let mut world = World::new(scenario, seed);
    while let Some(((at, _), event)) = world.queue.pop_first() {
        world.now = at;
        world.handle(event)?;
        if at > DAWN_MS + scenario.chaos_ms + SETTLE_MS {
            return Err(world.broken("calls go on for ever"));
        }
        if world.callers.iter().all(|caller| caller.idle) && !world.chaos() {
            world.metrics.settle_ms = at.saturating_sub(DAWN_MS + scenario.chaos_ms);
            return Ok(world.metrics);
        }
    }
    Err(world.broken("nothing happens any more"))
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        // Clocks that differ by less than receipts allow for.
        let mut hosts: Vec<Host> =
            (0..scenario.hosts).map(|_| Host::new(rng.below(4_000), scenario.segment)).collect();
        hosts.iter_mut().for_each(|host| host.start(DAWN_MS));
        let mut world = Self {
            scenario,
            rng,
            now: DAWN_MS,
            hosts,
            callers: Vec::new(),
            truth: BTreeMap::new(),
            ruled_out: BTreeSet::new(),
            queue: BTreeMap::new(),
            events: 0,
            ids: 0,
            metrics: Metrics::default(),
        };
        for caller in 0..scenario.callers {
            world.callers.push(Caller {
                left: scenario.calls,
                asker: Asker::new(0, 0),
                id: CallId::from_bytes([0; 16]),
                made: 0,
                ids: Vec::new(),
                step: 0,
                waits: false,
                question: 0,
                answers: Vec::new(),
                idle: false,
            });
            world.next_call(caller);
        }
        world.at(0, Event::Fault);
        world.at(0, Event::Flush);
        world
    }

    fn chaos(&self) -> bool {
        self.now < DAWN_MS + self.scenario.chaos_ms
    }

    fn broken(&self, what: impl Into<String>) -> Broken {
        Broken { at: self.now - DAWN_MS, what: what.into() }
    }

    fn at(&mut self, after: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    fn next_call(&mut self, caller: usize) {
        let (repeats, patience) = (self.scenario.repeats, self.scenario.patience);
        let c = &mut self.callers[caller];
        if c.left == 0 {
            c.idle = true;
            return;
        }
        c.left -= 1;
        c.asker = Asker::new(repeats, patience);
        c.ids.clear();
        self.make_call(caller);
    }

    /// Calls under a fresh id, on any host.
    fn make_call(&mut self, caller: usize) {
        self.ids += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ids.to_be_bytes());
        let id = CallId::from_bytes(bytes);
        let c = &mut self.callers[caller];
        (c.id, c.made) = (id, self.now);
        c.ids.push(id);
        let host = self.rng.below(self.hosts.len() as u64) as usize;
        self.send(caller, host, Message::Call { id });
        self.expect(caller, PATIENCE_MS);
    }

    /// Waits for the next thing to be heard, no longer than this.
    fn expect(&mut self, caller: usize, ms: u64) {
        let c = &mut self.callers[caller];
        c.step += 1;
        let step = c.step;
        self.at(ms, Event::Silence { caller, step });
    }

    /// How long a message takes: none when it is lost, two when it is doubled.
    fn ways(&mut self) -> Vec<u64> {
        let [low, high] = self.scenario.delay_ms;
        if !self.chaos() {
            return vec![low];
        }
        if self.rng.percent(self.scenario.loss_percent) {
            return vec![];
        }
        let twice = self.rng.percent(self.scenario.duplicate_percent);
        (0..=u8::from(twice)).map(|_| self.rng.within(low, high)).collect()
    }

    fn send(&mut self, from: usize, host: usize, message: Message) {
        for way in self.ways() {
            let life = self.hosts[host].life;
            // Half of them wait at the sender, and outlast a restart of the host.
            let life = if self.rng.percent(50) { 0 } else { life };
            self.at(way, Event::ToHost { host, from, life, message: message.clone() });
        }
    }

    fn tell(&mut self, caller: usize, message: &Message) {
        for way in self.ways() {
            self.at(way, Event::ToCaller { caller, message: message.clone() });
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::ToHost { host, from, life, message } => {
                if self.hosts[host].up && (life == 0 || life == self.hosts[host].life) {
                    self.at_host(host, from, message)?;
                }
            }
            Event::ToCaller { caller, message } => self.at_caller(caller, message)?,
            Event::Ended { host, life, id } => {
                if self.hosts[host].up && self.hosts[host].life == life {
                    self.metrics.completed += 1;
                    self.truth.insert(id, Truth::Completed);
                    for caller in self.hosts[host].end(id, self.now) {
                        self.tell(caller, &Message::Reply { id, kept: true });
                    }
                }
            }
            Event::Start { host } => self.hosts[host].start(self.now),
            Event::Silence { caller, step } => {
                if self.callers[caller].step == step && !self.callers[caller].idle {
                    self.silence(caller)?;
                }
            }
            Event::Flush => {
                self.hosts.iter_mut().filter(|host| host.up).for_each(Host::flush);
                self.at(2_000, Event::Flush);
            }
            Event::Fault => {
                if self.chaos() {
                    self.fault();
                    let after = self.rng.below(2 * self.scenario.fault_every_ms);
                    self.at(after, Event::Fault);
                }
            }
        }
        Ok(())
    }

    fn fault(&mut self) {
        let total: u64 = self.scenario.faults.values().sum();
        let mut at = self.rng.below(total);
        let chosen = self.scenario.faults.iter().find(|(_, weight)| {
            let hit = at < **weight;
            at = at.saturating_sub(**weight);
            hit
        });
        let Some((fault, _)) = chosen else { return };
        match fault {
            Fault::Kill | Fault::Power => {
                let host = self.rng.below(self.hosts.len() as u64) as usize;
                if !self.hosts[host].up {
                    return;
                }
                for id in self.hosts[host].stop(*fault == Fault::Power, &mut self.rng) {
                    self.truth.insert(id, Truth::Cut);
                }
                let down = self.rng.below(DOWN_MS);
                self.at(down, Event::Start { host });
            }
            Fault::CutOff => {
                let caller = self.rng.below(self.callers.len() as u64) as usize;
                let c = &self.callers[caller];
                if !c.idle && !c.waits {
                    self.at(0, Event::Silence { caller, step: c.step });
                }
            }
        }
    }

    fn at_host(&mut self, host: usize, from: usize, message: Message) -> Result<(), Broken> {
        match message {
            Message::Call { id } => match self.hosts[host].call(id, from, self.now) {
                Arrived::Starts => {
                    if self.truth.insert(id, Truth::Running).is_some() {
                        return Err(self.broken(format!("{id:?} runs a second time")));
                    }
                    if self.ruled_out.contains(&id) {
                        return Err(self.broken(format!("{id:?} runs, and was ruled out")));
                    }
                    self.metrics.started += 1;
                    let [low, high] = self.scenario.takes_ms;
                    let (takes, life) = (self.rng.within(low, high), self.hosts[host].life);
                    self.at(takes, Event::Ended { host, life, id });
                }
                Arrived::TooLate => self.metrics.too_late += 1,
                Arrived::Again => {}
            },
            Message::Ask { id, question, age } => {
                let known = self.hosts[host].ask(id, age, self.now);
                self.check(host, id, known)?;
                self.tell(from, &Message::Answer { id, question, host, known });
            }
            Message::Attach { id } => {
                if let Some(kept) = self.hosts[host].attach(id, from) {
                    self.tell(from, &Message::Reply { id, kept });
                }
            }
            Message::Answer { .. } | Message::Reply { .. } => {}
        }
        Ok(())
    }

    /// A receipt never lies.
    fn check(&self, host: usize, id: CallId, known: Known) -> Result<(), Broken> {
        let truth = self.truth.get(&id).copied();
        let here = self.hosts[host].had(id);
        let fine = match known {
            Known::Forgotten { .. } => true,
            Known::Never => !here,
            Known::Yes(receipt) => match receipt.status {
                RunStatus::Running => truth == Some(Truth::Running),
                RunStatus::Completed => truth == Some(Truth::Completed),
                // Without power, the word of its end may be lost; that it had one is not denied.
                RunStatus::Interrupted => {
                    truth == Some(Truth::Cut) || self.hosts[host].lost_end(id)
                }
                RunStatus::NotStarted => !here,
                RunStatus::Cancelled | RunStatus::Error => false,
            },
        };
        if fine {
            return Ok(());
        }
        Err(self.broken(format!("host {host} says {known:?} of {id:?}, which is {truth:?}")))
    }

    fn at_caller(&mut self, caller: usize, message: Message) -> Result<(), Broken> {
        let c = &mut self.callers[caller];
        match message {
            // Of a call that was made again since, nobody wants to hear.
            Message::Reply { id, kept } if id == c.id && !c.idle && !c.waits => {
                self.hear(caller, if kept { Heard::Reply } else { Heard::NotKept })
            }
            Message::Answer { id, question, host, known }
                if id == c.id && question == c.question && !c.answers.is_empty() =>
            {
                c.answers[host] = Some(known);
                if c.answers.iter().all(Option::is_some) {
                    return self.silence(caller);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing more is waited for.
    fn silence(&mut self, caller: usize) -> Result<(), Broken> {
        let c = &mut self.callers[caller];
        let answers = std::mem::take(&mut c.answers);
        let heard = match answers.is_empty() {
            true if std::mem::take(&mut c.waits) => Heard::Waited,
            true => Heard::Lost,
            false => merge(&answers),
        };
        self.hear(caller, heard)
    }

    fn hear(&mut self, caller: usize, heard: Heard) -> Result<(), Broken> {
        let next = self.callers[caller].asker.handle(&heard);
        self.callers[caller].answers.clear();
        let id = self.callers[caller].id;
        let never = match &heard {
            Heard::Nowhere => true,
            Heard::Known { receipt, .. } => receipt.status == RunStatus::NotStarted,
            _ => false,
        };
        if never {
            if let Some(truth) = self.truth.get(&id) {
                return Err(self.broken(format!("{id:?} is ruled out, and is {truth:?}")));
            }
            self.ruled_out.insert(id);
        }
        match next {
            Next::Deliver => {
                self.metrics.delivered += 1;
                self.check_ids(caller, Some(id))?;
                self.next_call(caller);
            }
            Next::GiveUp => {
                self.metrics.given_up += 1;
                self.check_ids(caller, None)?;
                self.next_call(caller);
            }
            Next::Repeat => {
                self.metrics.repeated += 1;
                let truth = self.truth.get(&id).copied();
                let over = truth.is_none_or(|truth| truth == Truth::Cut);
                if !over && !self.hosts.iter().any(|host| host.lost_end(id)) {
                    return Err(self.broken(format!("{id:?} is repeated, and is {truth:?}")));
                }
                self.make_call(caller);
            }
            Next::Ask => {
                self.metrics.asked += 1;
                let c = &mut self.callers[caller];
                c.question += 1;
                c.answers = vec![None; self.hosts.len()];
                let (question, age) = (c.question, self.now - c.made);
                for host in 0..self.hosts.len() {
                    self.send(caller, host, Message::Ask { id, question, age });
                }
                self.expect(caller, PATIENCE_MS);
            }
            Next::Attach { node } => {
                self.send(caller, node, Message::Attach { id });
                self.expect(caller, PATIENCE_MS);
            }
            Next::Wait { ms } => {
                self.callers[caller].waits = true;
                self.expect(caller, ms);
            }
        }
        Ok(())
    }

    /// Of all executions of one call, at most the delivered one came to its end; another only where
    /// a power cut took the word of it.
    fn check_ids(&self, caller: usize, delivered: Option<CallId>) -> Result<(), Broken> {
        let completed = self.callers[caller].ids.iter().filter(|id| {
            Some(**id) != delivered
                && self.truth.get(id) == Some(&Truth::Completed)
                && !self.hosts.iter().any(|host| host.lost_end(**id))
        });
        let earlier = completed.filter(|id| **id != self.callers[caller].id).count();
        if earlier > 0 {
            return Err(self.broken(format!("caller {caller} had a call completed twice")));
        }
        if delivered.is_some_and(|id| self.truth.get(&id) != Some(&Truth::Completed)) {
            return Err(self.broken(format!("caller {caller} believes what never was")));
        }
        Ok(())
    }
}
