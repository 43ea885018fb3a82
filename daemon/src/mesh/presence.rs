//! This node's own presence record, and how records travel on a link.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use rhd_protocol::{
    compute::Offer,
    frame::{self, FrameError},
    membership::Cert,
    presence::{MAX_ADDRS, MAX_RECORD, MAX_SERVICES, Record, Signed},
    service::ServiceAd,
};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    durable::{self, DurableError},
    stream::{FIRST_TIMEOUT, Stream},
};
use crate::framed::{self, FramedError};

/// Bytes of a record that its services may take; the rest is for the certificate and addresses.
const ROOM: usize = MAX_RECORD - 8 * 1024;

/// What this node hosts and has to give.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Announced {
    pub(super) services: Vec<ServiceAd>,
    pub(super) load: u32,
    pub(super) offer: Offer,
}

/// What this node says of itself.
pub(super) struct Own {
    key: SigningKey,
    boots: PathBuf,
    record: Record,
}

impl Own {
    /// Counts this start of the node, for good.
    pub(super) fn start(home: &Path, key: SigningKey, cert: Cert) -> Result<Self, DurableError> {
        let boots = home.join("mesh").join("boots");
        let before = last_boot(&boots).unwrap_or_else(first_boot);
        let boot = before.saturating_add(1);
        durable::write(&boots, boot.to_string().as_bytes())?;
        let record = Record {
            cert,
            seq: u64::from(boot) << 32,
            leaving: false,
            version: env!("CARGO_PKG_VERSION").into(),
            addrs: Vec::new(),
            services: Vec::new(),
            load: 0,
            offer: Offer::default(),
            beside: true,
            keeps: true,
        };
        Ok(Self { key, boots, record })
    }

    /// The number of the last record.
    pub(super) fn seq(&self) -> u64 {
        self.record.seq
    }

    /// Goes on above a number that others have seen from a life this node has forgotten.
    pub(super) fn jump(&mut self, seq: u64) -> Result<(), DurableError> {
        self.record.seq = seq;
        let boot = u32::try_from(seq >> 32).unwrap_or(u32::MAX).saturating_add(1);
        durable::write(&self.boots, boot.to_string().as_bytes())
    }

    /// Belongs to a realm from now on.
    pub(super) fn adopt(&mut self, cert: Cert) {
        self.record.cert = cert;
    }

    /// Sets what is hosted; whether that changes anything, and whether more than the load.
    pub(super) fn announce(&mut self, said: Announced) -> (bool, bool) {
        let Announced { mut services, load, offer } = said;
        services.truncate(MAX_SERVICES);
        let said = services.len();
        while frame::to_vec(&services).is_ok_and(|bytes| bytes.len() > ROOM) {
            services.pop();
        }
        if services.len() < said {
            tracing::warn!(said, fit = services.len(), "more services than presence can carry");
        }
        let more = services != self.record.services || offer != self.record.offer;
        self.record.offer = offer;
        let changed = more || load != self.record.load;
        self.record.services = services;
        self.record.load = load;
        (changed, more)
    }

    /// Sets where it can be reached.
    pub(super) fn set_addrs(&mut self, mut addrs: Vec<String>) -> bool {
        addrs.truncate(MAX_ADDRS);
        let changed = addrs != self.record.addrs;
        self.record.addrs = addrs;
        changed
    }

    /// Says good-bye from now on.
    pub(super) fn leave(&mut self) {
        self.record.leaving = true;
        self.record.services.clear();
    }

    /// Signs the next record.
    pub(super) fn next(&mut self) -> Result<Signed, FrameError> {
        self.record.seq += 1;
        Signed::new(&self.record, &self.key)
    }
}

/// The count of starts, unless it was lost.
fn last_boot(path: &Path) -> Option<u32> {
    let bytes = durable::read(path).unwrap_or_else(|error| {
        tracing::warn!(%error, "the count of starts is lost and begins anew");
        None
    });
    String::from_utf8(bytes?).ok()?.trim().parse().ok()
}

/// Where a count begins: Unix seconds, so that one that was lost goes on above itself, as no node
/// starts once a second for long.
///
/// Clocks need not agree for this: a number is only ever compared with numbers of the same node. A
/// node whose own clock was set back, and which has lost its count, begins below what its peers
/// remember; they show it its last record on the first link, and it goes on above that.
fn first_boot() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// Shows records to a peer and ends the stream.
pub(super) async fn show(mut stream: Stream, records: &[Signed]) -> Result<(), FramedError> {
    let show = async {
        for record in records {
            framed::send(&mut stream.send, record, Bytes::new()).await?;
        }
        stream.send.shutdown().await?;
        // Until the peer has read it all, or there is no use in waiting.
        let _ = framed::read(&mut stream.recv, 0).await;
        Ok(())
    };
    timeout(FIRST_TIMEOUT, show).await.map_err(late)?
}

/// Reads the next record that a peer shows; `None` at the end.
pub(super) async fn read(stream: &mut Stream) -> Result<Option<Signed>, FramedError> {
    let frame = timeout(FIRST_TIMEOUT, framed::read(&mut stream.recv, 0)).await.map_err(late)??;
    Ok(frame.map(|frame| frame.header()).transpose()?)
}

fn late(_: tokio::time::error::Elapsed) -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}
