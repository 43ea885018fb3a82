//! The conversation with the harness: one JSON line each way.

use std::{io::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Outcome, tally::Found};

/// What the harness wants measured.
#[derive(Debug, Deserialize)]
pub(crate) struct Request {
    /// Which measurement.
    pub(crate) case: String,
    /// How long.
    pub(crate) seconds: f64,
    /// Operations under way at once.
    #[serde(default = "one")]
    pub(crate) width: usize,
    /// What to call, each on its node; callers take them in turn.
    #[serde(default)]
    pub(crate) services: Vec<(String, String)>,
}

fn one() -> usize {
    1
}

impl Request {
    /// How long.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Answers of a driver, `error` where it failed.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Ready { ready: bool, version: &'static str },
    Found(Found),
    Failed { error: String },
}

/// Something that can be measured.
pub(crate) trait Measured {
    /// Carries out one request.
    async fn measure(&mut self, request: Request) -> Outcome<Found>;
}

/// Answers requests until standard input ends.
pub(crate) async fn serve(mut system: impl Measured) -> Outcome<()> {
    say(&Answer::Ready { ready: true, version: env!("CARGO_PKG_VERSION") })?;
    // Blocks this one thread only, while there is nothing to measure.
    for line in std::io::stdin().lines() {
        say(&match system.measure(serde_json::from_str(&line?)?).await {
            Ok(found) => Answer::Found(found),
            Err(e) => Answer::Failed { error: e.to_string() },
        })?;
    }
    Ok(())
}

fn say(answer: &Answer) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
