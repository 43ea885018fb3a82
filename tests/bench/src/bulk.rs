//! The floor under a transfer: raw quinn, bytes from memory on one stream to another process.

use std::time::{Duration, Instant};

use quinn::Connection;
use tokio::io::AsyncWriteExt as _;

use crate::Outcome;

const MIB: usize = 1 << 20;
/// Until then a connection learns what it may send at once.
const WARM_MIB: usize = 16;

/// Sends so many MiB, and waits until the other side has all of them.
pub(crate) async fn send(connection: &Connection, mib: usize) -> Outcome<Duration> {
    one(connection, WARM_MIB).await?;
    let start = Instant::now();
    one(connection, mib).await?;
    Ok(start.elapsed())
}

async fn one(connection: &Connection, mib: usize) -> Outcome<()> {
    let block = vec![7; MIB];
    let mut stream = connection.open_uni().await?;
    for _ in 0..mib {
        stream.write_all(&block).await?;
    }
    stream.shutdown().await?;
    match stream.stopped().await? {
        None => Ok(()),
        Some(code) => Err(format!("the other side stopped it: {code}").into()),
    }
}

/// Reads what comes on one stream after the other, and drops it.
pub(crate) async fn take(connection: Connection) -> Outcome<()> {
    loop {
        let mut stream = connection.accept_uni().await?;
        while stream.read_chunk(MIB, true).await?.is_some() {}
    }
}
