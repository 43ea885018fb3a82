//! Blobs from one process to another as upstream has them: iroh-blobs with its own store on disk,
//! over its own endpoint, on loopback without relay or discovery.
//!
//! The one that serves says `ID ADDRESS HASH`; the one that fetches says `ready`, and then `done` for each
//! hash that it is given on a line. Both end when their standard input does.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use iroh::{Endpoint, EndpointAddr, EndpointId, RelayMode, endpoint::presets, protocol::Router};
use iroh_blobs::{ALPN, BlobsProtocol, Hash, HashAndFormat, store::fs::FsStore};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

/// What a step may fail with; the harness shows it as it is.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Parser)]
enum Command {
    /// Puts a file into a store and serves it
    Serve {
        /// Where the store is
        store: PathBuf,
        /// What is put into it
        file: PathBuf,
    },
    /// Fetches blobs into a store
    Fetch {
        /// Where the store is
        store: PathBuf,
        /// Who has them
        id: EndpointId,
        /// Where it listens
        address: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> Outcome<()> {
    match Command::parse() {
        Command::Serve { store, file } => serve(store, file).await,
        Command::Fetch { store, id, address } => fetch(store, id, address).await,
    }
}

/// An endpoint on loopback that nobody hears of.
async fn endpoint() -> Outcome<Endpoint> {
    let builder = Endpoint::builder(presets::Minimal)
        .relay_mode(RelayMode::Disabled)
        .clear_ip_transports()
        .bind_addr((Ipv4Addr::LOCALHOST, 0))?;
    Ok(builder.bind().await?)
}

async fn serve(store: PathBuf, file: PathBuf) -> Outcome<()> {
    let store = FsStore::load(store).await?;
    let endpoint = endpoint().await?;
    let address = endpoint.bound_sockets().first().copied().ok_or("no socket")?;
    let id = endpoint.id();
    let added = store.blobs().add_path(file).await?;
    let blobs = BlobsProtocol::new(&store, None);
    let router = Router::builder(endpoint).accept(ALPN, blobs).spawn();
    say(&format!("{id} {address} {}", added.hash))?;
    while input().next_line().await?.is_some() {}
    router.shutdown().await?;
    Ok(())
}

async fn fetch(store: PathBuf, id: EndpointId, address: SocketAddr) -> Outcome<()> {
    let store = FsStore::load(store).await?;
    let endpoint = endpoint().await?;
    let peer = EndpointAddr::new(id).with_ip_addr(address);
    let connection = endpoint.connect(peer, ALPN).await?;
    say("ready")?;
    let mut lines = input();
    while let Some(line) = lines.next_line().await? {
        let wanted = HashAndFormat::raw(line.trim().parse::<Hash>()?);
        store.remote().fetch(connection.clone(), wanted).complete().await?;
        say("done")?;
    }
    endpoint.close().await;
    Ok(())
}

fn input() -> Lines<BufReader<Stdin>> {
    BufReader::new(tokio::io::stdin()).lines()
}

fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
