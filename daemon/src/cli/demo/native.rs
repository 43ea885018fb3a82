//! The Rust half of the demo: `rhd` is a compiled program like any other, and sends itself.

use std::{
    future::ready,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use rhd_protocol::error::{ErrorInfo, ErrorKind};
use rhd_sdk::Client;

use super::{Step, Ui};

/// How long calls are counted, and how many are made at a time.
const SPAN: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 64;

/// Estimates pi from random points.
#[rhd_sdk::function(name = "estimate-pi")]
fn estimate_pi(points: u64) -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    // Its caller may be gone.
    let wanted = |n: &u64| !n.is_multiple_of(0x10000) || !rhd_sdk::cancelled();
    let points_inside = (0..points).take_while(wanted).filter(|_| random().hypot(random()) <= 1.0);
    let inside = points_inside.count();
    4.0 * inside as f64 / points as f64
}

/// Does nothing.
#[rhd_sdk::function(name = "do-nothing")]
fn do_nothing() {}

/// Counts until nobody listens.
#[rhd_sdk::function(name = "count-up")]
fn count_up() -> impl Iterator<Item = u64> {
    0_u64..
}

pub(super) async fn show(laptop: &Client, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let gpu = laptop.cluster("gpu");
    let mut step = Step::start(ui, "15. functions in Rust: this very program, as a worker on gpu")?;
    let pi = estimate_pi::to(&gpu).await?;
    step.say("let pi = estimate_pi::to(&gpu).await?")?;
    step.say(&format!("pi.call(1_000_000).await? -> {}", pi.call(1_000_000).await?))?;

    let nothing = do_nothing::to(&gpu).await?;
    nothing.call().await?;
    let started = Instant::now();
    let calls = stream::repeat(()).take_while(|()| ready(started.elapsed() < SPAN));
    let calls = calls.map(|()| nothing.call()).buffer_unordered(AT_ONCE);
    let done: Vec<()> = calls.try_collect().await?;
    let rate = done.len() as f64 / started.elapsed().as_secs_f64();
    step.say(&format!("no-op calls, {AT_ONCE} at a time: {rate:.0} a second"))?;

    let mut items = count_up::to(&gpu).await?.call().await?;
    let mut first = Vec::new();
    while first.len() < 5
        && let Some(item) = items.next().await
    {
        first.push(item?);
    }
    drop(items);
    step.say(&format!("an endless iterator, left after {first:?}: it ends there, too"))?;
    let pi = pi.remote().clone().timeout(Duration::from_millis(100));
    match pi.call((u64::MAX,)).await {
        Err(error) if error.kind == ErrorKind::Timeout => step.say(&format!("Timeout: {error}"))?,
        Err(error) => return Err(error),
        Ok(pi) => {
            let text = format!("a call that takes for ever returned {pi}");
            return Err(ErrorInfo::new(ErrorKind::Internal, text));
        }
    }
    step.done()
}
