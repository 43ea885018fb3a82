//! A program that sends itself to a node of the realm and calls its functions there.
//!
//! ```sh
//! cargo run -p rhd-sdk --example functions -- gpu    # a node's name; without one, this machine's
//! ```

#![allow(clippy::print_stdout, reason = "a program prints")]

use std::time::{Duration, Instant};

use rhd::{Cluster, ErrorInfo};
use rhd_sdk as rhd;

/// Does nothing: what remains is the way there and back.
#[rhd::function]
fn noop() {}

/// Estimates pi from `samples` random points.
#[rhd::function]
fn pi(samples: u64, seed: u64) -> f64 {
    let mut state = seed | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let inside = (0..samples).filter(|_| random().hypot(random()) <= 1.0).count();
    4.0 * inside as f64 / samples as f64
}

/// Fails, if the text is no number.
#[rhd::function]
fn parse(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

/// Waits without holding a thread.
#[rhd::function]
async fn later(millis: u64, text: String) -> String {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    text
}

/// Gives square numbers, one by one.
#[rhd::function]
fn squares(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|n| n * n)
}

#[tokio::main]
async fn main() -> Result<(), ErrorInfo> {
    // On a node this very program serves its functions, and goes no further.
    rhd::worker::run_if_worker();

    let cluster = match std::env::args().nth(1) {
        Some(node) => Cluster::named(&node).await?,
        None => Cluster::here().await?,
    };
    let pi = pi::to(&cluster).await?;
    println!("pi is about {}", pi.call(1_000_000, 42).await?);

    let parse = parse::to(&cluster).await?;
    println!("{}", parse.call("12".into()).await?);
    if let Err(error) = parse.call("twelve".into()).await {
        println!("{error} (on {})", error.node);
    }
    println!("{}", later::to(&cluster).await?.call(100, "a moment later".into()).await?);

    let mut squares = squares::to(&cluster).await?.call(5).await?;
    while let Some(square) = squares.next().await {
        print!("{} ", square?);
    }
    println!();

    let noop = noop::to(&cluster).await?;
    noop.call().await?;
    let started = Instant::now();
    for _ in 0..1_000 {
        noop.call().await?;
    }
    println!("{:?} for a call that does nothing", started.elapsed() / 1_000);
    Ok(())
}
