//! The checks inside one handshake.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use rhd_protocol::{
    id::{NodeId, RealmId},
    membership::NotAMember,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};

use super::{ALPN_JOIN, identity, member_cert};

/// Who may complete the handshake.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Members of a realm, or just the one that is named.
    Member { of: RealmId, node: Option<NodeId> },
}

/// No ClientHello was seen yet.
const UNSEEN: u8 = 0;
/// The peer asks for `rhd-join/1` and nothing else.
const JOIN: u8 = 1;
/// The peer asks for something else; stays so for the rest of the handshake.
const STRICT: u8 = 2;

/// Judges the peer's certificate.
#[derive(Debug)]
pub(super) struct Admission {
    rule: Rule,
    purpose: AtomicU8,
}

impl Admission {
    pub(super) fn new(rule: Rule) -> Self {
        Self { rule, purpose: AtomicU8::new(UNSEEN) }
    }

    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        stranger: bool,
    ) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let parsed = libp2p_tls::certificate::parse(certificate).map_err(refused)?;
        let node = identity::node_id(&parsed.peer_id())
            .ok_or(rustls::Error::from(CertificateError::ApplicationVerificationFailure))?;
        if stranger {
            return Ok(());
        }
        let Rule::Member { of, node: expected } = self.rule;
        let cert = member_cert(certificate).map_err(refused)?;
        if cert.body.node != node || expected.is_some_and(|expected| expected != node) {
            return Err(refused(NotAMember::OtherNode));
        }
        cert.verify(of).map_err(refused)
    }
}

fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

fn signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    libp2p_tls::certificate::parse(certificate)
        .map_err(refused)?
        .verify_signature(signed.scheme, message, signed.signature())
        .map_err(|_| rustls::Error::from(CertificateError::BadSignature))?;
    Ok(HandshakeSignatureValid::assertion())
}

fn no_tls12() -> rustls::Error {
    rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into()
}

/// What libp2p certificates are signed with.
fn schemes() -> Vec<SignatureScheme> {
    vec![
        SignatureScheme::ECDSA_NISTP256_SHA256,
        SignatureScheme::ECDSA_NISTP384_SHA384,
        SignatureScheme::ED25519,
    ]
}

impl ServerCertVerifier for Admission {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, false)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for Admission {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let stranger = self.purpose.load(Ordering::Acquire) == JOIN;
        self.judge(end_entity, intermediates, stranger)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Sees what the peer asks for, before its certificate is judged.
pub(super) struct Hello {
    chain: Arc<CertifiedKey>,
    admission: Arc<Admission>,
}

impl Hello {
    pub(super) fn new(chain: Arc<CertifiedKey>, admission: Arc<Admission>) -> Self {
        Self { chain, admission }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("admission", &self.admission).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Hello {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Only who offers nothing but rhd-join/1 can end up with it for certain. A second
        // ClientHello (after a retry of the key exchange) can't loosen what the first one set.
        let mut offered = hello.alpn().into_iter().flatten();
        let join = offered.next() == Some(ALPN_JOIN) && offered.next().is_none();
        let seen = self.admission.purpose.load(Ordering::Acquire);
        let purpose = if join && seen != STRICT { JOIN } else { STRICT };
        self.admission.purpose.store(purpose, Ordering::Release);
        Some(self.chain.clone())
    }
}
