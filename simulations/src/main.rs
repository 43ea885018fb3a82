//! Runs seeded worlds: kept seeds, baselines, then fresh seeds.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use rhd_simulations::{
    baseline::{self, Failure},
    scenario,
};

const USAGE: &str = "usage: rhd-simulations [--scenario NAME] [--seed N | --seeds N | --write]";

#[derive(Debug, Default)]
struct Args {
    scenario: Option<String>,
    seed: Option<u64>,
    seeds: Option<u64>,
    write: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--scenario" => args.scenario = Some(words.next()?),
            "--seed" => args.seed = Some(words.next()?.parse().ok()?),
            "--seeds" => args.seeds = Some(words.next()?.parse().ok()?),
            "--write" => args.write = true,
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse(std::env::args().skip(1)) else {
        let _ = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    };
    match run(&args, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let all = scenario::all().map_err(io::Error::other)?;
    let chosen = |name: &str| args.scenario.as_deref().is_none_or(|wanted| wanted == name);
    if !all.iter().any(|(name, _)| chosen(name)) {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        return Err(io::Error::other(format!("scenarios: {}", names.join(", "))).into());
    }
    for (name, scenario) in all.iter().filter(|(name, _)| chosen(name)) {
        if args.write {
            baseline::write(name, scenario)?;
            writeln!(out, "{name}: baseline written")?;
            continue;
        }
        if let Some(seed) = args.seed {
            writeln!(out, "{name}, seed {seed}: {:?}", baseline::run(name, scenario, seed)?)?;
            continue;
        }
        let kept = baseline::kept().filter(|(of, _)| of == name);
        let kept = kept.map(|(_, seed)| baseline::run(name, scenario, seed).map(drop));
        kept.collect::<Result<(), _>>()?;
        baseline::compare(name, scenario)?;
        let fresh = args.seeds.unwrap_or(20);
        let (mut slowest, mut stalest) = (0, 0);
        for seed in (1_000..).take(fresh as usize) {
            let metrics = baseline::run(name, scenario, seed)?;
            slowest = slowest.max(metrics.converge_ms);
            stalest = stalest.max(metrics.stalest_ms);
        }
        writeln!(
            out,
            "{name}: {fresh} fresh seeds hold; slowest agreement {slowest} ms, a dead node listed for \
             at most {stalest} ms"
        )?;
    }
    Ok(())
}
