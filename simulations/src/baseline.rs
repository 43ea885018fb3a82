//! Baselines: the metrics of some seeds, compared exactly, and the seeds that failed once.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use crate::{
    scenario::{Metrics, Scenario},
    world,
};

/// Seeds with a baseline, for each scenario.
pub const SEEDS: std::ops::Range<u64> = 0..3;

/// Why a run is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// An invariant broke.
    #[error(
        "{scenario}, seed {seed}: {source}\n  again: cargo run -p rhd-simulations -- --scenario {scenario} --seed {seed}"
    )]
    Broken {
        /// Name of the scenario.
        scenario: String,
        /// Of the run.
        seed: u64,
        /// Which.
        source: world::Broken,
    },
    /// The metrics are others than the stored ones.
    #[error(
        "{scenario}, seed {seed}: {now:?}, baseline {then:?}\n  if that is meant: cargo run -p rhd-simulations -- --write"
    )]
    Changed {
        /// Name of the scenario.
        scenario: String,
        /// Of the run.
        seed: u64,
        /// As stored.
        then: Option<Metrics>,
        /// As measured.
        now: Metrics,
    },
    /// A file can't be read, written or understood.
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Runs one world.
pub fn run(name: &str, scenario: &Scenario, seed: u64) -> Result<Metrics, Failure> {
    world::run(scenario, seed).map_err(|source| Failure::Broken {
        scenario: name.into(),
        seed,
        source,
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baselines").join(format!("{name}.json"))
}

/// Runs the seeds that have a baseline and compares.
pub fn compare(name: &str, scenario: &Scenario) -> Result<(), Failure> {
    let stored: BTreeMap<u64, Metrics> = match fs::read(path(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(e.into()),
    };
    for seed in SEEDS {
        let (now, then) = (run(name, scenario, seed)?, stored.get(&seed).cloned());
        if then.as_ref() != Some(&now) {
            return Err(Failure::Changed { scenario: name.into(), seed, then, now });
        }
    }
    Ok(())
}

/// Runs the seeds that have a baseline and stores what they come to.
pub fn write(name: &str, scenario: &Scenario) -> Result<(), Failure> {
    let metrics: Result<BTreeMap<u64, Metrics>, Failure> =
        SEEDS.map(|seed| Ok((seed, run(name, scenario, seed)?))).collect();
    let text = serde_json::to_string_pretty(&metrics?).map_err(io::Error::other)?;
    Ok(fs::write(path(name), text + "\n")?)
}

/// The seeds that failed once, with their scenarios: lines of `SCENARIO SEED`, `#` starts a comment.
pub fn kept() -> impl Iterator<Item = (&'static str, u64)> {
    include_str!("../kept_seeds.txt").lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        Some((words.next()?, words.next()?.parse().ok()?))
    })
}
