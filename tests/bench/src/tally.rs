//! Counting calls, and how long each took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::Outcome;

/// What a measurement found; the Python drivers answer in the same form.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Operations that were done.
    count: usize,
    /// How long they took together, in seconds.
    seconds: f64,
    /// Median of one operation, in microseconds.
    p50_us: f64,
    /// The 99th percentile.
    p99_us: f64,
}

impl Found {
    /// Sums up the times of operations that ran side by side.
    pub(crate) fn of(mut times: Vec<Duration>, took: Duration) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
            times.get(index).map_or(f64::NAN, |t| t.as_secs_f64() * 1e6)
        };
        Self { count: times.len(), seconds: took.as_secs_f64(), p50_us: at(0.5), p99_us: at(0.99) }
    }
}

/// Repeats an operation for some time, so many at once, each in a task of its own.
pub(crate) async fn repeat<F>(
    width: usize,
    span: Duration,
    one: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Outcome<Found>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let one = Arc::new(one);
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for index in 0..width {
        let one = one.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < span {
                let begin = Instant::now();
                one(index).await?;
                times.push(begin.elapsed());
            }
            Outcome::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        times.extend(ended??);
    }
    Ok(Found::of(times, start.elapsed()))
}
