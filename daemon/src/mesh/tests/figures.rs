//! Figures, for whoever asks: `cargo test --release -p rhd --lib mesh::tests::figures -- --ignored --nocapture`.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures, asserts nothing"]
async fn figures() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let home = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let (_mesh, tasks) = Mesh::start(home.path(), "c", Config::default()).await.unwrap();
    println!("start: {:?}", start.elapsed());
    drop(tasks);
    a.admit(&b).await;
    b.serve_reverse();
    let mut times = Vec::new();
    for _ in 0..3000 {
        let start = Instant::now();
        a.reversed(&b, b"hello").await;
        times.push(start.elapsed());
    }
    times.sort();
    println!("stream per call: p50 {:?}, p99 {:?}", times[1500], times[2970]);
    let large = vec![1; 256 * 1024 * 1024];
    let start = Instant::now();
    a.reversed(&b, &large).await;
    let rate = 2.0 * 256.0 / start.elapsed().as_secs_f64();
    println!("there and back: {rate:.0} MiB/s");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|l| l.starts_with("VmRSS")).unwrap());
}
