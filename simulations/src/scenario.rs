//! Scenarios: what a world is made of and what happens to it, as files of `scenarios/`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that happens to a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A node puts a new version of a service on a node that it reaches.
    Deploy,
    /// A node stops without a word.
    Crash,
    /// A node says good-bye and stops.
    Leave,
    /// A node that stopped starts again.
    Restart,
    /// The same, but its disk has forgotten how often it started, and half of them the time.
    Forget,
    /// Two nodes stop reaching each other.
    Cut,
    /// They reach each other again.
    Heal,
}

/// A world and what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is for.
    pub about: String,
    /// Nodes of the realm.
    pub nodes: usize,
    /// Services that are deployed again and again.
    pub services: u64,
    /// Virtual milliseconds until faults end and the network is well.
    pub chaos_ms: u64,
    /// Mean time between two faults.
    pub fault_every_ms: u64,
    /// Gossiped records that are lost, of a hundred.
    pub loss_percent: u64,
    /// Records that arrive twice, of a hundred.
    pub duplicate_percent: u64,
    /// Shortest and longest way of a record; differing ones reorder them.
    pub delay_ms: [u64; 2],
    /// What happens, by weight.
    pub faults: BTreeMap<Fault, u64>,
}

/// What a run came to; equal for equal seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Virtual milliseconds from the end of faults until all agree.
    pub converge_ms: u64,
    /// Records that nodes signed.
    pub records: u64,
    /// Records that arrived.
    pub delivered: u64,
    /// Records that were lost.
    pub lost: u64,
    /// Calls that were routed.
    pub calls: u64,
    /// Calls that were routed to a node that had died within the time to live.
    pub calls_to_dead: u64,
    /// Calls for which no host was known.
    pub refused: u64,
    /// The longest that a dead node stayed in a table.
    pub stalest_ms: u64,
}

macro_rules! scenarios {
    ($($name:literal),*) => {
        /// All scenarios by name.
        pub fn all() -> Result<Vec<(&'static str, Scenario)>, serde_json::Error> {
            Ok(vec![$((
                $name,
                serde_json::from_str(include_str!(concat!("../scenarios/", $name, ".json")))?,
            )),*])
        }
    };
}

scenarios!("deploys", "crashes", "churn");
