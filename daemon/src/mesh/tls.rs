//! TLS 1.3 that proves who a peer is and that it belongs to the realm.
//!
//! The certificate is libp2p's (a self-signed one whose extension binds it to the node's key), with
//! one more extension of ours that carries the node's membership. Both sides check it within the
//! handshake, so a stranger gets no further than TLS.

use std::sync::Arc;

use libp2p::identity::Keypair;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{crypto, transport_parameters::TransportParameters};
use rhd_protocol::{
    id::{NodeId, RealmId},
    membership::{Cert, MAX_CERT, Membership, NotAMember},
};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::sync::watch;
use x509_parser::{
    asn1_rs::{FromDer as _, OctetString, Oid},
    prelude::parse_x509_certificate,
};

use super::identity;

mod verify;
use verify::{Admission, Hello, Rule};

/// The control plane: libp2p, members only.
pub(super) const ALPN_LIBP2P: &[u8] = b"libp2p";
/// The data plane, members only.
pub(super) const ALPN_DATA: &[u8] = b"rhd/1";
/// Asking to become a member.
pub(super) const ALPN_JOIN: &[u8] = b"rhd-join/1";

/// libp2p's extension: the node's public key, and its signature over the certificate's.
/// <https://github.com/libp2p/specs/blob/master/tls/tls.md>
const LIBP2P_EXTENSION: [u64; 9] = [1, 3, 6, 1, 4, 1, 53594, 1, 1];
/// Our extension, under the arc that needs no registration: an octet string with a [`Cert`].
const MEMBER_EXTENSION: [u64; 3] = [2, 25, 0x52c1_9d7e_83b4_06fa];

/// Why no TLS configuration can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate can't be made.
    #[error("make a TLS certificate")]
    Certificate(#[from] rcgen::Error),
    /// The node's key does not sign.
    #[error("sign the TLS certificate")]
    Sign,
    /// rustls does not take it.
    #[error("configure TLS")]
    Rustls(#[from] rustls::Error),
    /// quinn does not take it.
    #[error("configure TLS for QUIC")]
    Cipher(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// What this node shows, and by what it judges others; replaced when it joins another realm.
pub(super) struct Credentials {
    pub(super) membership: Membership,
    chain: Arc<CertifiedKey>,
}

impl Credentials {
    /// Makes a new TLS certificate for the node that `keypair` belongs to.
    pub(super) fn new(keypair: &Keypair, membership: Membership) -> Result<Self, TlsError> {
        let inner = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let binding = [&b"libp2p-tls-handshake:"[..], &inner.public_key_der()].concat();
        let signature = keypair.sign(&binding).map_err(|_| TlsError::Sign)?;
        let public = keypair.public().encode_protobuf();
        let signed_key = der(0x30, &[der(4, &public), der(4, &signature)].concat());
        let mut libp2p = rcgen::CustomExtension::from_oid_content(&LIBP2P_EXTENSION, signed_key);
        libp2p.set_criticality(true);
        // Not critical: stock libp2p ignores it.
        let member = rcgen::CustomExtension::from_oid_content(
            &MEMBER_EXTENSION,
            der(4, &membership.cert.to_bytes()),
        );
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.custom_extensions = vec![libp2p, member];
        let certificate = params.self_signed(&inner)?;
        let key = PrivatePkcs8KeyDer::from(inner.serialize_der()).into();
        let key = aws_lc_rs::sign::any_ecdsa_type(&key)?;
        let chain = Arc::new(CertifiedKey::new(vec![certificate.into()], key));
        Ok(Self { membership, chain })
    }
}

/// Encodes one DER element; contents here are shorter than 64 KiB.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut out = match content.len() {
        0..128 => vec![tag, low],
        128..256 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    out.extend_from_slice(content);
    out
}

/// Reads the membership out of a peer's TLS certificate.
fn member_cert(certificate: &CertificateDer<'_>) -> Result<Cert, NotAMember> {
    let (_, x509) = parse_x509_certificate(certificate).map_err(|_| NotAMember::Garbled)?;
    let oid = Oid::from(&MEMBER_EXTENSION).map_err(|_| NotAMember::Garbled)?;
    let extension = x509
        .get_extension_unique(&oid)
        .map_err(|_| NotAMember::Garbled)?
        .ok_or(NotAMember::Missing)?;
    if extension.value.len() > MAX_CERT + 8 {
        return Err(NotAMember::Garbled);
    }
    let (_, octets) = OctetString::from_der(extension.value).map_err(|_| NotAMember::Garbled)?;
    Cert::from_bytes(octets.as_ref())
}

/// A peer as the handshake proved it.
#[derive(Debug, Clone)]
pub(super) struct Proved {
    /// Who.
    pub(super) node: NodeId,
    /// Its membership; none on `rhd-join/1`.
    pub(super) cert: Option<Cert>,
    /// Changes each time the peer starts or joins: a hash of its TLS certificate.
    pub(super) incarnation: [u8; 32],
}

impl Proved {
    /// Reads the peer of a connection whose handshake is complete.
    pub(super) fn of(connection: &quinn::Connection) -> Option<Self> {
        let identity = connection.peer_identity()?;
        let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let certificate = chain.first()?;
        let parsed = libp2p_tls::certificate::parse(certificate).ok()?;
        Some(Self {
            node: identity::node_id(&parsed.peer_id())?,
            cert: member_cert(certificate).ok(),
            incarnation: *blake3::hash(certificate).as_bytes(),
        })
    }
}

/// The protocol that a handshake agreed on.
pub(super) fn alpn(data: Option<Box<dyn std::any::Any>>) -> Option<Vec<u8>> {
    data?.downcast::<quinn::crypto::rustls::HandshakeData>().ok()?.protocol
}

/// TLS for every connection of the node, always with its current credentials.
#[derive(Clone)]
pub(super) struct Tls {
    credentials: watch::Receiver<Arc<Credentials>>,
    provider: Arc<CryptoProvider>,
    /// Answers what doesn't depend on credentials.
    stateless: Arc<QuicServerConfig>,
}

impl Tls {
    pub(super) fn new(credentials: watch::Receiver<Arc<Credentials>>) -> Result<Self, TlsError> {
        use aws_lc_rs::cipher_suite::*;
        let provider = Arc::new(CryptoProvider {
            // AES first: on processors with AES instructions it carries half as much again.
            cipher_suites: vec![
                TLS13_AES_128_GCM_SHA256,
                TLS13_AES_256_GCM_SHA384,
                TLS13_CHACHA20_POLY1305_SHA256,
            ],
            ..aws_lc_rs::default_provider()
        });
        let current = credentials.borrow().clone();
        let stateless = Arc::new(server_config(&provider, &current)?);
        Ok(Self { credentials, provider, stateless })
    }

    /// The current credentials.
    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.borrow().clone()
    }

    /// For dialing a member: `node` if it is known who must answer.
    pub(super) fn member(
        &self,
        alpn: &[u8],
        node: Option<NodeId>,
    ) -> Result<QuicClientConfig, TlsError> {
        let credentials = self.credentials();
        let rule = Rule::Member { of: credentials.membership.realm(), node };
        self.client(&credentials, alpn, rule)
    }

    /// For asking `node`, which must be of `realm`, for membership.
    pub(super) fn join(&self, realm: RealmId, node: NodeId) -> Result<QuicClientConfig, TlsError> {
        self.client(&self.credentials(), ALPN_JOIN, Rule::Member { of: realm, node: Some(node) })
    }

    fn client(
        &self,
        credentials: &Credentials,
        alpn: &[u8],
        rule: Rule,
    ) -> Result<QuicClientConfig, TlsError> {
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Admission::new(rule)))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.chain.clone())));
        config.alpn_protocols = vec![alpn.to_vec()];
        // A resumed session would skip the check of the certificate.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(QuicClientConfig::try_from(config)?)
    }
}

/// One handshake's configuration. It is made anew for each, because whether a stranger is let
/// through depends on what that one handshake is for: its ClientHello is seen by [`Hello`], which
/// tells [`Admission`].
fn server_config(
    provider: &Arc<CryptoProvider>,
    credentials: &Credentials,
) -> Result<QuicServerConfig, TlsError> {
    let rule = Rule::Member { of: credentials.membership.realm(), node: None };
    let admission = Arc::new(Admission::new(rule));
    let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(admission.clone())
        .with_cert_resolver(Arc::new(Hello::new(credentials.chain.clone(), admission)));
    config.alpn_protocols = vec![ALPN_DATA.to_vec(), ALPN_LIBP2P.to_vec(), ALPN_JOIN.to_vec()];
    // A resumed session would skip the check of the certificate, and a stranger's session on
    // rhd-join/1 could be resumed on rhd/1.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(QuicServerConfig::try_from(config)?)
}

impl crypto::ServerConfig for Tls {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &quinn::ConnectionId,
    ) -> Result<crypto::Keys, crypto::UnsupportedVersion> {
        self.stateless.initial_keys(version, dst_cid)
    }

    fn retry_tag(
        &self,
        version: u32,
        orig_dst_cid: &quinn::ConnectionId,
        packet: &[u8],
    ) -> [u8; 16] {
        self.stateless.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let config = match server_config(&self.provider, &self.credentials()) {
            Ok(config) => Arc::new(config),
            // As at the start of the node: members of that realm only.
            Err(_) => self.stateless.clone(),
        };
        config.start_session(version, params)
    }
}

/// A client that shows `from` and offers any protocols to a node of `realm`.
#[cfg(test)]
pub(super) fn lax_client(from: &Credentials, realm: RealmId, alpns: &[&[u8]]) -> QuicClientConfig {
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Admission::new(Rule::Member {
                of: realm,
                node: None,
            })))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(from.chain.clone())));
    config.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    QuicClientConfig::try_from(config).unwrap()
}
