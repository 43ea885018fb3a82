//! Who this node is: its key, its certificate, and, for a founder, the realm's key.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use libp2p::{PeerId, identity::Keypair};
use rhd_protocol::{
    id::{NodeId, RealmId},
    membership::{Cert, CertBody, MAX_NODE_NAME, Membership, Role, is_node_name},
};

use super::durable::{self, DurableError};

/// Why the node's identity can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// A file holds something else than it should.
    #[error("{} is damaged; move it away to start with a new identity", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

/// The keys of a node, and where they are kept.
pub(super) struct Identity {
    dir: PathBuf,
    key: SigningKey,
    realm_key: SigningKey,
    pub(super) membership: Membership,
    /// Who let this node into its realm.
    pub(super) founder: Option<Cert>,
}

impl Identity {
    /// Loads `<home>/identity`, or founds a realm of the node's own.
    ///
    /// Each file is whole or absent, and each is made from those before it; so a kill at any point
    /// leaves what the next start completes.
    pub(super) fn load(home: &Path, name: &str) -> Result<Self, IdentityError> {
        let dir = home.join("identity");
        durable::create_dir(&dir)?;
        let key = load_key(&dir.join("node.key"))?;
        let realm_key = load_key(&dir.join("realm.key"))?;
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        let path = dir.join("cert");
        let cert = match durable::read(&path)? {
            Some(bytes) => Cert::from_bytes(&bytes)
                .ok()
                .filter(|c| c.body.node == node && c.verify(c.body.realm).is_ok())
                .ok_or(IdentityError::Damaged { path })?,
            None => {
                let body = CertBody {
                    realm: RealmId::from_bytes(realm_key.verifying_key().to_bytes()),
                    node,
                    name: node_name(name),
                    role: Role::Member,
                };
                let cert = Cert::sign(body, &realm_key);
                durable::write(&path, &cert.to_bytes())?;
                cert
            }
        };
        let founder = durable::read(&dir.join("founder"))?
            .and_then(|bytes| Cert::from_bytes(&bytes).ok())
            .filter(|founder| founder.verify(cert.body.realm).is_ok());
        Ok(Self { dir, key, realm_key, membership: Membership { cert }, founder })
    }

    /// Takes another realm's certificate, for good.
    pub(super) fn adopt(&mut self, cert: Cert, founder: Cert) -> Result<(), IdentityError> {
        durable::write(&self.dir.join("founder"), &founder.to_bytes())?;
        durable::write(&self.dir.join("cert"), &cert.to_bytes())?;
        self.membership = Membership { cert };
        self.founder = Some(founder);
        Ok(())
    }

    /// The realm's key, when this node founded its realm.
    pub(super) fn realm_key(&self) -> Option<&SigningKey> {
        let own = self.realm_key.verifying_key().to_bytes() == *self.membership.realm().as_bytes();
        own.then_some(&self.realm_key)
    }

    /// The node's key.
    pub(super) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The node's key as libp2p takes it.
    pub(super) fn keypair(&self) -> Keypair {
        keypair(&self.key)
    }
}

fn load_key(path: &Path) -> Result<SigningKey, IdentityError> {
    match durable::read(path)? {
        Some(bytes) => bytes
            .as_slice()
            .try_into()
            .map(SigningKey::from_bytes)
            .map_err(|_| IdentityError::Damaged { path: path.into() }),
        None => {
            let key = SigningKey::from_bytes(&rand::random());
            durable::write(path, key.as_bytes())?;
            Ok(key)
        }
    }
}

/// The node's key as libp2p takes it.
pub(super) fn keypair(key: &SigningKey) -> Keypair {
    // Any 32 bytes are an Ed25519 secret key; the fallback is never taken.
    Keypair::ed25519_from_bytes(key.to_bytes()).unwrap_or_else(|_| Keypair::generate_ed25519())
}

/// Bytes of a PeerId before the key itself: identity multihash, protobuf of an Ed25519 key.
/// <https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md>
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The node behind a PeerId; `None` for keys that are not Ed25519.
pub(super) fn node_id(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
    key.try_into().ok().map(NodeId::from_bytes)
}

/// The PeerId of a node.
pub(super) fn peer_id(node: NodeId) -> Option<PeerId> {
    PeerId::from_bytes(&[&PEER_ID_PREFIX[..], node.as_bytes()].concat()).ok()
}

/// Makes a node name of any text.
pub(super) fn node_name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String =
        text.chars().map(|c| if fits(c) { c } else { '-' }).take(MAX_NODE_NAME).collect();
    if is_node_name(&name) { name } else { "node".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_identity_and_completes_what_a_kill_left() {
        let home = tempfile::tempdir().unwrap();
        let first = Identity::load(home.path(), "my laptop!").unwrap();
        assert_eq!(first.membership.cert.body.name, "my-laptop-");
        assert!(first.realm_key().is_some());
        let again = Identity::load(home.path(), "other").unwrap();
        assert_eq!(again.membership, first.membership);
        // Killed after the first file, and in the middle of the second.
        for file in ["cert", "realm.key"] {
            std::fs::remove_file(home.path().join("identity").join(file)).unwrap();
        }
        std::fs::write(home.path().join("identity/realm.tmp"), b"half").unwrap();
        let third = Identity::load(home.path(), "x").unwrap();
        assert_eq!(third.key().as_bytes(), first.key().as_bytes());
        assert!(third.realm_key().is_some());
        std::fs::write(home.path().join("identity/cert"), b"junk").unwrap();
        assert!(matches!(Identity::load(home.path(), "x"), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn keys_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        Identity::load(home.path(), "x").unwrap();
        for file in ["node.key", "realm.key"] {
            let path = home.path().join("identity").join(file);
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn node_ids_and_peer_ids_are_the_same_key() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let node = NodeId::from_bytes(key.verifying_key().to_bytes());
        let peer = keypair(&key).public().to_peer_id();
        assert_eq!(peer_id(node), Some(peer));
        assert_eq!(node_id(&peer), Some(node));
    }
}
