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

#[test]
fn kept_seeds_name_scenarios() {
    let all = scenario::all().unwrap();
    for (name, _) in baseline::kept() {
        let known = all.iter().any(|(of, _)| *of == name) || name == receipts::NAME;
        assert!(known, "{name}");
    }
}
