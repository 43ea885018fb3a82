//! How far a transfer is, told a few times a second to whoever listens.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rhd_protocol::{call::Reply, data::Moved};
use tokio::sync::mpsc;

use crate::framed::Frame;

/// Where replies before the final one go. A full queue holds content up, and progress is left out.
pub type Out = mpsc::Sender<Frame>;

/// How often progress is told.
const EVERY: Duration = Duration::from_millis(250);
/// How far back the rate looks.
const LATELY: Duration = Duration::from_secs(3);

/// Counts what has come; clones share it.
#[derive(Debug, Default, Clone)]
pub struct Meter {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// Sets where a transfer starts, and where it ends.
    pub fn start(&self, done: u64, total: u64) {
        self.counts.done.store(done, Ordering::Relaxed);
        self.counts.total.store(total, Ordering::Relaxed);
    }

    /// Counts bytes that have come.
    pub fn add(&self, bytes: u64) {
        self.counts.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        let total = self.counts.total.load(Ordering::Relaxed);
        (self.counts.done.load(Ordering::Relaxed).min(total), total)
    }
}

/// Runs `work` and tells meanwhile how far its meter is.
pub async fn telling<T>(out: &Out, meter: &Meter, what: &str, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(EVERY);
    let mut seen = VecDeque::from([(Instant::now(), meter.read().0)]);
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            result = &mut work => return result,
            _ = tick.tick() => {
                let (now, (done, total)) = (Instant::now(), meter.read());
                seen.push_back((now, done));
                while seen.len() > 2 && seen.front().is_some_and(|(at, _)| now - *at > LATELY) {
                    seen.pop_front();
                }
                if total == 0 {
                    continue;
                }
                let (since, before) = seen.front().copied().unwrap_or((now, done));
                let moved = moved(done, total, done.saturating_sub(before), now - since);
                let reply = Reply::Progress { text: text(what, &moved), moved: Some(moved) };
                if let Ok(frame) = Frame::new(&reply, Bytes::new()) {
                    // A client that is slow to read misses some.
                    let _ = out.try_send(frame);
                }
            }
        }
    }
}

fn moved(done: u64, total: u64, lately: u64, time: Duration) -> Moved {
    let rate = (lately as f64 / time.as_secs_f64().max(1e-3)) as u64;
    let left_ms = (total - done).saturating_mul(1000).checked_div(rate);
    Moved { done, total, rate, left_ms }
}

fn text(what: &str, moved: &Moved) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let left = moved.left_ms.map_or_else(String::new, |ms| {
        let seconds = ms.div_ceil(1000);
        match seconds / 60 {
            0 => format!(", {seconds} s left"),
            minutes => format!(", {minutes} min {} s left", seconds % 60),
        }
    });
    let (done, total, rate) = (mib(moved.done), mib(moved.total), mib(moved.rate));
    format!("{what}: {done:.1} of {total:.1} MiB, {rate:.1} MiB/s{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_rate_says() {
        let half = moved(50 << 20, 100 << 20, 10 << 20, Duration::from_secs(1));
        assert_eq!((half.rate, half.left_ms), (10 << 20, Some(5000)));
        assert_eq!(text("x", &half), "x: 50.0 of 100.0 MiB, 10.0 MiB/s, 5 s left");
        let stalled = moved(1, 2, 0, Duration::from_secs(1));
        assert_eq!(stalled.left_ms, None);
    }
}
