//! Who belongs to a realm: a certificate for each node, signed by the realm's founder.
//!
//! This is the whole of authority for now. The authority DAG of users, devices and grants takes the
//! place of [`Membership`], here and nowhere else: the rest asks only [`Membership::admits`].

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, RealmId};

/// The longest encoded certificate that is read, in bytes.
pub const MAX_CERT: usize = 1024;
/// The longest node name, in characters.
pub const MAX_NODE_NAME: usize = 63;

/// What a node may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A person's device: may deploy, call and change what is hosted.
    Member,
    /// A machine that serves: is deployed to and called. It may call too, as what runs there does,
    /// but puts nothing on other nodes.
    Node,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Member => "member",
            Self::Node => "node",
        })
    }
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertBody {
    /// The realm.
    pub realm: RealmId,
    /// The node.
    pub node: NodeId,
    /// The node's name, unique in the realm.
    pub name: String,
    /// What it may do.
    pub role: Role,
}

/// A certificate: [`CertBody`] and the realm key's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cert {
    /// What it says.
    pub body: CertBody,
    /// Ed25519 by the realm's key over `"rhd member 1" || msgpack(body)`.
    #[serde(with = "serde_bytes")]
    pub sig: Vec<u8>,
}

/// Why a node is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAMember {
    /// It showed no certificate.
    #[error("no certificate of this realm")]
    Missing,
    /// What it showed is no certificate.
    #[error("certificate is not understood")]
    Garbled,
    /// The certificate is for another node.
    #[error("certificate belongs to another node")]
    OtherNode,
    /// The certificate is for another realm.
    #[error("certificate belongs to another realm")]
    OtherRealm,
    /// The realm's key did not sign it.
    #[error("certificate is not signed by the realm's founder")]
    Signature,
}

const CONTEXT: &[u8] = b"rhd member 1";

impl Cert {
    /// Signs `body` with the realm's key.
    pub fn sign(body: CertBody, realm_key: &SigningKey) -> Self {
        let sig = ed25519_dalek::Signer::sign(realm_key, &signed_bytes(&body));
        Self { body, sig: sig.to_bytes().to_vec() }
    }

    /// Holds the certificate against the realm's key.
    pub fn verify(&self, realm: RealmId) -> Result<(), NotAMember> {
        if self.body.realm != realm {
            return Err(NotAMember::OtherRealm);
        }
        if !is_node_name(&self.body.name) {
            return Err(NotAMember::Garbled);
        }
        let key = VerifyingKey::from_bytes(realm.as_bytes()).map_err(|_| NotAMember::Signature)?;
        let sig = Signature::from_slice(&self.sig).map_err(|_| NotAMember::Signature)?;
        key.verify_strict(&signed_bytes(&self.body), &sig).map_err(|_| NotAMember::Signature)
    }

    /// As bytes, for a TLS certificate's extension.
    pub fn to_bytes(&self) -> Vec<u8> {
        crate::frame::to_vec(self).unwrap_or_default()
    }

    /// Reads [`to_bytes`](Self::to_bytes); checks size and form only.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAMember> {
        if bytes.len() > MAX_CERT {
            return Err(NotAMember::Garbled);
        }
        crate::frame::decode(bytes).map_err(|_| NotAMember::Garbled)
    }
}

fn signed_bytes(body: &CertBody) -> Vec<u8> {
    let mut bytes = CONTEXT.to_vec();
    bytes.extend(crate::frame::to_vec(body).unwrap_or_default());
    bytes
}

/// Whether `name` can name a node: letters, digits, `-`, `_`, `.`, not `here`, at most 63 characters.
pub fn is_node_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NODE_NAME
        && !matches!(name, "here" | "." | "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A node's own place in its realm, and its judgement of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// This node's certificate.
    pub cert: Cert,
}

impl Membership {
    /// The realm.
    pub fn realm(&self) -> RealmId {
        self.cert.body.realm
    }

    /// Decides whether the node that proved to be `node` and shows `cert` belongs to this realm.
    pub fn admits(&self, node: NodeId, cert: &Cert) -> Result<(), NotAMember> {
        if cert.body.node != node {
            return Err(NotAMember::OtherNode);
        }
        cert.verify(self.realm())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cert(seed: u8, node: u8) -> Cert {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let body = CertBody {
            realm: RealmId::from_bytes(key.verifying_key().to_bytes()),
            node: NodeId::from_bytes([node; 32]),
            name: "laptop".into(),
            role: Role::Member,
        };
        Cert::sign(body, &key)
    }

    #[test]
    fn only_the_realms_own_certificates_admit_and_only_their_node() {
        let here = Membership { cert: cert(1, 7) };
        let (good, stranger) = (cert(1, 8), cert(2, 8));
        let node = |n| NodeId::from_bytes([n; 32]);
        assert_eq!(here.admits(node(8), &good), Ok(()));
        assert_eq!(here.admits(node(9), &good), Err(NotAMember::OtherNode));
        assert_eq!(here.admits(node(8), &stranger), Err(NotAMember::OtherRealm));
        let mut forged = good.clone();
        forged.body.role = Role::Node;
        assert_eq!(here.admits(node(8), &forged), Err(NotAMember::Signature));
        let mut claimed = stranger;
        claimed.body.realm = here.realm();
        assert_eq!(here.admits(node(8), &claimed), Err(NotAMember::Signature));
    }

    #[test]
    fn a_certificate_fits_its_limit_and_round_trips() {
        let mut long = cert(1, 1);
        long.body.name = "n".repeat(MAX_NODE_NAME);
        assert!(long.to_bytes().len() < MAX_CERT);
        assert_eq!(Cert::from_bytes(&long.to_bytes()), Ok(long));
        assert_eq!(Cert::from_bytes(&[0xc1; 30]), Err(NotAMember::Garbled));
    }
}
