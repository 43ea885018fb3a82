//! Calls, their receipts and their repeats: hosts and callers that are killed at every step, on a
//! network that loses, doubles and delays every message.
//!
//! What must hold: an id runs at most once; what a receipt says is so, and stays so; a caller repeats
//! only what is over and brought nobody a result; and once faults have ended, every call comes to an
//! end.

use std::collections::BTreeMap;

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Asker, Heard, Known, Next},
};

use crate::{rng::Rng, world::Broken};

mod caller;
mod fate;
mod host;
mod scenario;
mod truth;

pub use fate::{FATES, Fate, run_with_fate};
pub use scenario::{Fault, Metrics, NAME, Scenario, scenario};

use caller::Caller;
use host::{Arrived, Host};
use truth::Truth;

/// How long a caller waits for a reply or for answers before it takes them for lost.
const PATIENCE_MS: u64 = 3_000;
/// How long a host that went down stays down, at most.
const DOWN_MS: u64 = 5_000;
/// Time for everything to come to its end after the last fault.
const SETTLE_MS: u64 = 600_000;
/// The world begins here: times before it are no times.
const DAWN_MS: u64 = 1_000_000_000;

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

struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: u64,
    hosts: Vec<Host>,
    callers: Vec<Caller>,
    truth: Truth,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    ids: u64,
    metrics: Metrics,
    /// Messages so far, and what becomes of one of them.
    messages: u64,
    fate: Option<(u64, Fate)>,
}

/// Runs a scenario from a seed until every call has ended.
pub fn run(scenario: &Scenario, seed: u64) -> Result<Metrics, Broken> {
    World::new(scenario, seed, None).run()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, fate: Option<(u64, Fate)>) -> Self {
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
            truth: Truth::default(),
            queue: BTreeMap::new(),
            events: 0,
            ids: 0,
            metrics: Metrics::default(),
            messages: 0,
            fate,
        };
        for caller in 0..scenario.callers {
            world.callers.push(Caller::new(scenario.calls));
            world.next_call(caller);
        }
        world.at(0, Event::Fault);
        world.at(0, Event::Flush);
        world
    }

    fn run(&mut self) -> Result<Metrics, Broken> {
        let chaos_ends = DAWN_MS + self.scenario.chaos_ms;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            self.handle(event)?;
            if at > chaos_ends + SETTLE_MS {
                return Err(self.broken("calls go on for ever"));
            }
            if self.callers.iter().all(|caller| caller.idle) && !self.chaos() {
                self.metrics.settle_ms = at.saturating_sub(chaos_ends);
                return Ok(self.metrics.clone());
            }
        }
        Err(self.broken("nothing happens any more"))
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
        if self.callers[caller].next(Asker::new(repeats, patience)) {
            self.make_call(caller);
        }
    }

    /// Calls under a fresh id, on any host.
    fn make_call(&mut self, caller: usize) {
        self.ids += 1;
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ids.to_be_bytes());
        let id = CallId::from_bytes(bytes);
        self.callers[caller].make(id, self.now);
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
        let ways = self.chance();
        self.fated(ways)
    }

    fn chance(&mut self) -> Vec<u64> {
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
                    self.truth.completes(id);
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
                let down = self.hosts[host].stop(*fault == Fault::Power, &mut self.rng);
                self.truth.cut(down.ran, down.lost_ends);
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
                    self.truth.starts(id).map_err(|e| self.broken(e))?;
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
                let here = self.hosts[host].had(id);
                let checked = self.truth.check(id, known, here);
                checked.map_err(|e| self.broken(format!("host {host}: {e}")))?;
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

    fn at_caller(&mut self, caller: usize, message: Message) -> Result<(), Broken> {
        let c = &mut self.callers[caller];
        match message {
            Message::Reply { id, kept } if c.wants_reply(id) => {
                self.hear(caller, if kept { Heard::Reply } else { Heard::NotKept })
            }
            Message::Answer { id, question, host, known }
                if c.answered(id, question, host, known) =>
            {
                self.silence(caller)
            }
            _ => Ok(()),
        }
    }

    /// Nothing more is waited for.
    fn silence(&mut self, caller: usize) -> Result<(), Broken> {
        let heard = self.callers[caller].silence();
        self.hear(caller, heard)
    }

    fn hear(&mut self, caller: usize, heard: Heard) -> Result<(), Broken> {
        let c = &mut self.callers[caller];
        let next = c.asker.handle(&heard);
        c.heard();
        let (id, made) = (c.id, c.made);
        self.truth.hears(id, &heard).map_err(|e| self.broken(e))?;
        match next {
            Next::Deliver => {
                self.metrics.delivered += 1;
                self.over(caller, Some(id))?;
                self.next_call(caller);
            }
            Next::GiveUp => {
                self.metrics.given_up += 1;
                self.over(caller, None)?;
                self.next_call(caller);
            }
            Next::Repeat => {
                self.metrics.repeated += 1;
                self.truth.repeats(id).map_err(|e| self.broken(e))?;
                self.make_call(caller);
            }
            Next::Ask => {
                self.metrics.asked += 1;
                let question = self.callers[caller].asks(self.hosts.len());
                let age = self.now - made;
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

    fn over(&self, caller: usize, delivered: Option<CallId>) -> Result<(), Broken> {
        let over = self.truth.over(&self.callers[caller].ids, delivered);
        over.map_err(|e| self.broken(format!("caller {caller}: {e}")))
    }
}
