//! What a world of calls is made of, what happens to it, and what is counted in it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Its name, and that of its files.
pub const NAME: &str = "receipts";

/// The scenario.
pub fn scenario() -> Result<Scenario, serde_json::Error> {
    serde_json::from_str(include_str!("../../scenarios/receipts.json"))
}

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
