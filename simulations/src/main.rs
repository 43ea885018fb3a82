//! Runs seeded worlds: kept seeds, baselines, then fresh seeds.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use rhd_simulations::{
    baseline::{self, Failure, Seeded},
    receipts, scenario,
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
    let calls = receipts::scenario().map_err(io::Error::other)?;
    let chosen = |name: &str| args.scenario.as_deref().is_none_or(|wanted| wanted == name);
    if !all.iter().any(|(name, _)| chosen(name)) && !chosen(receipts::NAME) {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        let names = format!("scenarios: {}, {}", names.join(", "), receipts::NAME);
        return Err(io::Error::other(names).into());
    }
    for (name, scenario) in all.iter().filter(|(name, _)| chosen(name)) {
        let Some(metrics) = hold(args, name, scenario, out)? else { continue };
        let slowest = metrics.iter().map(|m| m.converge_ms).max().unwrap_or(0);
        let stalest = metrics.iter().map(|m| m.stalest_ms).max().unwrap_or(0);
        writeln!(
            out,
            "{name}: {} fresh seeds hold; slowest agreement {slowest} ms, a dead node listed for \
             at most {stalest} ms",
            metrics.len()
        )?;
    }
    if chosen(receipts::NAME)
        && let Some(metrics) = hold(args, receipts::NAME, &calls, out)?
    {
        let sum = |of: fn(&receipts::Metrics) -> u64| metrics.iter().map(of).sum::<u64>();
        writeln!(
            out,
            "{}: {} fresh seeds hold; {} calls delivered, {} given up, {} repeated, {} came too late",
            receipts::NAME,
            metrics.len(),
            sum(|m| m.delivered),
            sum(|m| m.given_up),
            sum(|m| m.repeated),
            sum(|m| m.too_late),
        )?;
    }
    Ok(())
}

/// Does what is asked with one scenario; the metrics of its fresh seeds, where these are run.
fn hold<S: Seeded>(
    args: &Args,
    name: &str,
    scenario: &S,
    out: &mut impl Write,
) -> Result<Option<Vec<S::Metrics>>, Failure> {
    if args.write {
        baseline::write(name, scenario)?;
        writeln!(out, "{name}: baseline written")?;
        return Ok(None);
    }
    if let Some(seed) = args.seed {
        writeln!(out, "{name}, seed {seed}: {:?}", baseline::run(name, scenario, seed)?)?;
        return Ok(None);
    }
    let kept = baseline::kept().filter(|(of, _)| *of == name);
    let kept = kept.map(|(_, seed)| baseline::run(name, scenario, seed).map(drop));
    kept.collect::<Result<(), _>>()?;
    baseline::compare(name, scenario)?;
    let fresh = (1_000..).take(args.seeds.unwrap_or(20) as usize);
    fresh.map(|seed| baseline::run(name, scenario, seed)).collect::<Result<_, _>>().map(Some)
}
