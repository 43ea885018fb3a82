//! Seeded worlds over the protocol's pure machines: nodes with tables of presence and routing, and
//! callers with hosts that keep receipts, on a network that loses, doubles and reorders, under a
//! virtual clock.
//!
//! ```text
//! cargo run -p rhd-simulations                          kept seeds, baselines, 20 fresh seeds
//! cargo run -p rhd-simulations -- --scenario churn --seed 7       one world again
//! cargo run -p rhd-simulations -- --write               accept new baselines
//! ```
//!
//! A world is a function of scenario and seed. `baselines/` has the metrics of some seeds, compared
//! exactly; `kept_seeds.txt` has the seeds that failed once and are run for good.

pub mod baseline;
mod check;
mod node;
pub mod receipts;
pub mod rng;
pub mod scenario;
pub mod world;
