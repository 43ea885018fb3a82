//! A short run of every scenario: kept seeds, baselines and a few more.

#![allow(clippy::unwrap_used)]

use rhd_simulations::{
    baseline::{self, Seeded},
    receipts, scenario,
};

fn hold(name: &str) {
    let all = scenario::all().unwrap();
    let (_, scenario) = all.iter().find(|(of, _)| *of == name).unwrap();
    holds(name, scenario);
}

fn holds<S: Seeded>(name: &str, scenario: &S) {
    for (_, seed) in baseline::kept().filter(|(of, _)| *of == name) {
        baseline::run(name, scenario, seed).unwrap_or_else(|e| panic!("{e}"));
    }
    baseline::compare(name, scenario).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn deploys_hold() {
    hold("deploys");
}

#[test]
fn crashes_hold() {
    hold("crashes");
}

#[test]
fn churn_holds() {
    hold("churn");
}

#[test]
fn receipts_hold() {
    holds(receipts::NAME, &receipts::scenario().unwrap());
}

/// Every message of small worlds, lost, doubled and late, one at a time: with hosts that stay up, and
/// with hosts that are killed meanwhile.
#[test]
fn no_message_is_needed_and_none_is_too_many() {
    let small = receipts::Scenario {
        hosts: 2,
        callers: 2,
        calls: 3,
        chaos_ms: 20_000,
        loss_percent: 0,
        duplicate_percent: 0,
        delay_ms: [5, 400],
        ..receipts::scenario().unwrap()
    };
    let calm = receipts::Scenario {
        faults: [(receipts::Fault::CutOff, 1)].into(),
        fault_every_ms: 1 << 40,
        ..small.clone()
    };
    for (scenario, is_calm) in [(small, false), (calm, true)] {
        for seed in 0..20 {
            let (plain, messages) = receipts::run_with_fate(&scenario, seed, None).unwrap();
            let mut differ = 0;
            for number in 0..messages {
                for fate in receipts::FATES {
                    let run = receipts::run_with_fate(&scenario, seed, Some((number, fate)));
                    let (metrics, _) = run
                        .unwrap_or_else(|e| panic!("seed {seed}, message {number} {fate:?}: {e}"));
                    differ += u64::from(metrics != plain);
                    // One message that misses costs nobody a result where nobody fails.
                    assert!(!is_calm || metrics.given_up == 0, "seed {seed}, {number} {fate:?}");
                }
            }
            assert!(differ > messages / 2, "seed {seed}: fates are felt");
        }
    }
}

#[test]
fn kept_seeds_name_scenarios() {
    let all = scenario::all().unwrap();
    for (name, _) in baseline::kept() {
        let known = all.iter().any(|(of, _)| *of == name) || name == receipts::NAME;
        assert!(known, "{name}");
    }
}
