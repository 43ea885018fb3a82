//! Baselines: the metrics of some seeds, compared exactly, and the seeds that failed once.

use std::{collections::BTreeMap, fmt::Debug, fs, io, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

use crate::{receipts, scenario, world};

/// What makes a world from a seed.
pub trait Seeded {
    /// What a run comes to.
    type Metrics: Debug + PartialEq + Serialize + DeserializeOwned;

    /// Runs one world.
    fn world(&self, seed: u64) -> Result<Self::Metrics, world::Broken>;
}

impl Seeded for scenario::Scenario {
    type Metrics = scenario::Metrics;

    fn world(&self, seed: u64) -> Result<Self::Metrics, world::Broken> {
        world::run(self, seed)
    }
}

impl Seeded for receipts::Scenario {
    type Metrics = receipts::Metrics;

    fn world(&self, seed: u64) -> Result<Self::Metrics, world::Broken> {
        receipts::run(self, seed)
    }
}

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
        "{scenario}, seed {seed}: {now}, baseline {then}\n  if that is meant: cargo run -p rhd-simulations -- --write"
    )]
    Changed {
        /// Name of the scenario.
        scenario: String,
        /// Of the run.
        seed: u64,
        /// As stored.
        then: String,
        /// As measured.
        now: String,
    },
    /// A file can't be read, written or understood.
    #[error("{0}")]
    File(#[from] io::Error),
}

/// Runs one world.
pub fn run<S: Seeded>(name: &str, scenario: &S, seed: u64) -> Result<S::Metrics, Failure> {
    scenario.world(seed).map_err(|source| Failure::Broken { scenario: name.into(), seed, source })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baselines").join(format!("{name}.json"))
}

/// Runs the seeds that have a baseline and compares.
pub fn compare<S: Seeded>(name: &str, scenario: &S) -> Result<(), Failure> {
    let stored: BTreeMap<u64, S::Metrics> = match fs::read(path(name)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::other)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(e) => return Err(e.into()),
    };
    for seed in SEEDS {
        let (now, then) = (run(name, scenario, seed)?, stored.get(&seed));
        if then != Some(&now) {
            let (now, then) = (format!("{now:?}"), format!("{then:?}"));
            return Err(Failure::Changed { scenario: name.into(), seed, then, now });
        }
    }
    Ok(())
}

/// Runs the seeds that have a baseline and stores what they come to.
pub fn write<S: Seeded>(name: &str, scenario: &S) -> Result<(), Failure> {
    let metrics: Result<BTreeMap<u64, S::Metrics>, Failure> =
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
