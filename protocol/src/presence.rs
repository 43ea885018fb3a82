//! Presence: who is up, what they host, how loaded they are. Short-lived, signed, never stored.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::{compute::Offer, id::NodeId, membership::Cert, service::ServiceAd};

/// The longest signed record that is read, in bytes.
pub const MAX_RECORD: usize = 64 * 1024;
/// Services that one record may list; a node refuses to host more.
pub const MAX_SERVICES: usize = 256;
/// Addresses that one record may list.
pub const MAX_ADDRS: usize = 16;
/// Time to live of a record after its node sent it, in milliseconds; receivers count it on their own
/// clock, from its receipt and its age.
pub const TTL_MS: u64 = 45_000;
/// How often a record is sent again unchanged, in milliseconds.
pub const REFRESH_MS: u64 = 15_000;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who; its certificate, so that anybody in the realm can hold it against the realm's key.
    pub cert: Cert,
    /// Starts of the node so far, counted from any number, in the upper 32 bits; changes since this
    /// start in the lower. Compared with other records of the same node only.
    pub seq: u64,
    /// Whether it says good-bye.
    #[serde(default)]
    pub leaving: bool,
    /// Version of its software.
    #[serde(default)]
    pub version: String,
    /// Multiaddresses where it may be reached.
    #[serde(default)]
    pub addrs: Vec<String>,
    /// What it hosts.
    #[serde(default)]
    pub services: Vec<ServiceAd>,
    /// Calls that run or wait there.
    #[serde(default)]
    pub load: u32,
    /// What it has to give.
    #[serde(default, skip_serializing_if = "Offer::is_empty")]
    pub offer: Offer,
    /// Whether payloads of calls may come [beside their frames](crate::frame).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub beside: bool,
    /// Whether it [keeps large parts](crate::call::Call::again) of calls for a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
}

impl Record {
    /// The node it is about.
    pub fn node(&self) -> NodeId {
        self.cert.body.node
    }
}

/// A record as it travels: the exact bytes that were signed, and the node's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// A [`Record`] as msgpack.
    #[serde(with = "serde_bytes")]
    pub record: Vec<u8>,
    /// Ed25519 by the node's key over `"rhd presence 1" || record`.
    #[serde(with = "serde_bytes")]
    pub sig: Vec<u8>,
    /// How old the sender holds it to be, in milliseconds since its node sent it; no part of what is
    /// signed. Shown by others, a record has only the rest of its time to live, or nodes that come
    /// up one after another would hand a dead node on. A member that lies here can hide a peer until
    /// that peer's next record, or list it for as long as a record may be listed at all.
    #[serde(default, skip_serializing_if = "is_new")]
    pub age_ms: u32,
}

fn is_new(age_ms: &u32) -> bool {
    *age_ms == 0
}

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresenceError {
    /// Longer than the limits.
    #[error("presence record over the limits")]
    TooLarge,
    /// Not understood.
    #[error("presence record is not understood")]
    Garbled,
    /// Not signed by the node it is about.
    #[error("presence record with a wrong signature")]
    Signature,
}

const CONTEXT: &[u8] = b"rhd presence 1";

impl Signed {
    /// Signs `record` with its node's key.
    pub fn new(record: &Record, key: &SigningKey) -> Result<Self, crate::frame::FrameError> {
        let record = crate::frame::to_vec(record)?;
        let sig = ed25519_dalek::Signer::sign(key, &[CONTEXT, &record].concat());
        Ok(Self { record, sig: sig.to_bytes().to_vec(), age_ms: 0 })
    }

    /// Opens it: checks size, form and the node's own signature. Whether the node is a member is
    /// [`Cert::verify`]'s to say.
    pub fn open(&self) -> Result<Record, PresenceError> {
        if self.record.len() > MAX_RECORD {
            return Err(PresenceError::TooLarge);
        }
        let record: Record =
            crate::frame::decode(&self.record).map_err(|_| PresenceError::Garbled)?;
        if record.services.len() > MAX_SERVICES
            || record.addrs.len() > MAX_ADDRS
            || !record.offer.is_bounded()
        {
            return Err(PresenceError::TooLarge);
        }
        let key = VerifyingKey::from_bytes(record.node().as_bytes())
            .map_err(|_| PresenceError::Signature)?;
        let sig = Signature::from_slice(&self.sig).map_err(|_| PresenceError::Signature)?;
        key.verify_strict(&[CONTEXT, &self.record].concat(), &sig)
            .map_err(|_| PresenceError::Signature)?;
        Ok(record)
    }
}
