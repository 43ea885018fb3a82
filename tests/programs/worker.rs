//! A program as its author would write it, for the tests of compiled functions: it sends itself to
//! a node, and there serves its functions.
//!
//! `worker NODE [ENV]` deploys every function, prints what the node said of it, and ends.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program prints")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use rhd::{Client, Cluster, Env, ErrorInfo};
use rhd_sdk as rhd;
use serde::{Deserialize, Serialize};

/// Something with a shape.
#[derive(Debug, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    tags: Vec<String>,
}

/// Squares a number.
///
/// Not part of what is shown.
#[rhd::function]
fn square(x: u64) -> u64 {
    x * x
}

/// Mirrors a point.
#[rhd::function]
fn mirror(point: Point, times: Option<u32>) -> BTreeMap<String, Point> {
    let tags = point.tags.into_iter().rev().collect();
    let point = Point { x: -point.x, y: -point.y, tags };
    [(format!("times {}", times.unwrap_or(1)), point)].into()
}

/// Gives bytes back.
#[rhd::function]
fn bytes(data: serde_bytes::ByteBuf) -> serde_bytes::ByteBuf {
    data
}

/// Fails, if the text is no number.
#[rhd::function(name = "parse-it")]
fn parse(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

/// Panics.
#[rhd::function]
fn explode(how: String) -> u64 {
    panic!("boom: {how}")
}

/// Which process runs it.
#[rhd::function]
fn pid() -> u32 {
    std::process::id()
}

/// Says something on both outputs.
#[rhd::function]
fn speak(word: String) {
    println!("{word} out");
    eprintln!("{word} err");
}

/// The size of the program that runs it: another build has another.
#[rhd::function]
fn build() -> u64 {
    fs::metadata("/proc/self/exe").map_or(0, |meta| meta.len())
}

/// Notes that it began, then waits for `gate` to appear.
#[rhd::function]
fn wait_for(began: String, gate: String) -> u64 {
    let _ = fs::write(&began, "");
    while !Path::new(&gate).exists() && !rhd::cancelled() {
        thread::sleep(Duration::from_millis(5));
    }
    let _ = fs::write(format!("{began}.end"), if rhd::cancelled() { "cancelled" } else { "gate" });
    build()
}

/// Notes that it began, then never looks up.
#[rhd::function]
fn stubborn(began: String) {
    let _ = fs::write(began, "");
    thread::sleep(Duration::from_secs(600));
}

/// Notes when it is dropped.
struct Note(String);

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::write(&self.0, "");
    }
}

/// Notes that it began, and its end, which only a cancellation brings.
#[rhd::function]
async fn forever(began: String) {
    let _note = Note(format!("{began}.end"));
    let _ = fs::write(began, "");
    std::future::pending::<()>().await;
}

/// Waits without holding a thread, then answers.
#[rhd::function]
async fn later(millis: u64, text: String) -> Result<String, String> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    if text.is_empty() { Err("nothing to say".into()) } else { Ok(text) }
}

/// Panics after a while.
#[rhd::function]
async fn explode_later() {
    tokio::task::yield_now().await;
    panic!("late boom");
}

/// Counts, and notes how far it got.
#[rhd::function]
fn count(upto: u64, note: String) -> impl Iterator<Item = u64> {
    (0..upto).inspect(move |n| {
        let _ = fs::write(&note, n.to_string());
    })
}

/// The same, in time.
#[rhd::function]
fn ticks(upto: u64, note: String) -> impl Stream<Item = u64> + Send {
    let end = Note(format!("{note}.end"));
    stream::iter(0..upto).then(move |n| {
        let _ = (fs::write(&note, n.to_string()), &end);
        async move { n }
    })
}

/// Yields until it fails.
#[rhd::function]
fn falter(after: u32) -> impl Iterator<Item = Result<u32, String>> {
    (0..=after).map(move |n| if n < after { Ok(n) } else { Err(format!("lost at {n}")) })
}

/// Yields what is in a list.
#[rhd::function(stream)]
fn letters(word: String) -> Vec<char> {
    word.chars().collect()
}

/// Calls a function of another language by its name, from within.
#[rhd::function]
async fn relay(name: String, x: i64) -> Result<i64, ErrorInfo> {
    let client = Client::connect(&rhd::default_home()).await?;
    client.function::<(i64,), i64>(&name).call((x,)).await
}

/// Calls one from a plain function.
#[rhd::function]
fn relay_plainly(name: String, x: i64) -> Result<i64, ErrorInfo> {
    tokio::runtime::Handle::current().block_on(relay(name, x))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ErrorInfo> {
    rhd::worker::run_if_worker();
    let mut args = std::env::args().skip(1);
    let node = args.next().unwrap_or_default();
    let cluster = Cluster::named(&node).await?;
    let env = args.next().map_or_else(Env::new, |name| Env::new().name(&name));
    let started = Instant::now();
    macro_rules! deploy {
        ($($function:ident)*) => {
            $($function::deploy().env(&env).on_progress(|line| eprintln!("{line}")).to(&cluster).await?;)*
        };
    }
    deploy!(square mirror bytes parse explode pid speak build wait_for stubborn forever later);
    deploy!(explode_later count ticks falter letters relay relay_plainly);
    // As its own code calls it.
    assert_eq!(square(3), 9);
    println!("{} in {:?}", square::to(&cluster).await?.call(7).await?, started.elapsed());
    Ok(())
}
