//! The invites that are open, and the members that were let in; both survive a restart.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    frame,
    id::{Hash, NodeId},
    membership::{Cert, CertBody, MAX_NODE_NAME, Role},
};
use serde::{Deserialize, Serialize};

use crate::mesh::{
    durable::{self, DurableError},
    identity::node_name,
};

/// Invites kept at once, with those that ended lately; the oldest makes room.
const MAX_INVITES: usize = 256;
/// Members that one founder lets in.
const MAX_MEMBERS: usize = 10_000;
/// Bytes of a secret.
const SECRET: usize = 20;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Invite {
    /// Of the secret, which itself is kept by the ticket's holder alone.
    hash: Hash,
    role: Role,
    left: u32,
    /// Seconds since 1970 on this node's clock.
    expires: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    invites: Vec<Invite>,
    members: Vec<Cert>,
}

/// What a founder remembers.
#[derive(Debug)]
pub(in crate::mesh) struct Invites {
    path: PathBuf,
    file: File,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Invites {
    pub(in crate::mesh) fn load(home: &Path) -> Result<Self, DurableError> {
        let path = home.join("mesh").join("invites");
        let file = match durable::read(&path)? {
            Some(bytes) => frame::decode(&bytes).map_err(|error| {
                let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
                DurableError::new("understand", &path, error)
            })?,
            None => File::default(),
        };
        Ok(Self { path, file })
    }

    /// Makes a secret that lets `uses` nodes in.
    pub(in crate::mesh) fn create(
        &mut self,
        role: Role,
        uses: u32,
        expires: Duration,
        now: SystemTime,
    ) -> Result<Vec<u8>, DurableError> {
        let secret: [u8; SECRET] = rand::random();
        let invites = &mut self.file.invites;
        if invites.len() >= MAX_INVITES {
            invites.remove(0);
        }
        invites.push(Invite {
            hash: Hash::of(&secret),
            role,
            left: uses.max(1),
            expires: seconds(now).saturating_add(expires.as_secs()),
        });
        self.save()?;
        Ok(secret.to_vec())
    }

    /// Lets `node` in, if its secret is good; the certificate counts once it is on disk.
    pub(in crate::mesh) fn admit(
        &mut self,
        node: NodeId,
        secret: &[u8],
        name: &str,
        founder: &Cert,
        realm_key: &SigningKey,
        now: SystemTime,
    ) -> Result<Cert, ErrorInfo> {
        let denied = |message: &str| {
            ErrorInfo::new(ErrorKind::PermissionDenied, message)
                .hint(format!("ask for a new ticket: `rhd invite` on {}", founder.body.name))
        };
        let hash = Hash::of(secret);
        let invite = (self.file.invites.iter_mut().find(|invite| invite.hash == hash))
            .ok_or_else(|| denied("this ticket is not known here"))?;
        let before = self.file.members.iter().find(|member| member.body.node == node).cloned();
        if seconds(now) > invite.expires {
            return Err(denied("this ticket has expired"));
        }
        if let Some(before) = before {
            // Its answer was lost, or it asks twice: that takes no further use.
            return Ok(before);
        }
        if invite.left == 0 {
            return Err(denied("this ticket is used up"));
        }
        if self.file.members.len() >= MAX_MEMBERS {
            return Err(ErrorInfo::new(ErrorKind::QueueFull, "the realm is full"));
        }
        invite.left -= 1;
        let role = invite.role;
        let name = unique(&node_name(name), |name| {
            founder.body.name == name || self.file.members.iter().any(|m| m.body.name == name)
        });
        let cert = Cert::sign(CertBody { realm: founder.body.realm, node, name, role }, realm_key);
        self.file.members.push(cert.clone());
        self.save().map_err(|error| {
            ErrorInfo::new(ErrorKind::Internal, format!("the new member can't be saved: {error}"))
                .hint("check the disk of the inviting node, then try again")
        })?;
        Ok(cert)
    }

    fn save(&self) -> Result<(), DurableError> {
        durable::write(&self.path, &frame::to_vec(&self.file).unwrap_or_default())
    }
}

/// The name, or the first of `name-2`, `name-3` … that is not taken.
fn unique(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let numbered = (2u32..).map(|n| {
        let number = format!("-{n}");
        format!("{}{number}", &name[..name.len().min(MAX_NODE_NAME - number.len())])
    });
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !taken(name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rhd_protocol::id::RealmId;

    use super::*;

    fn founder() -> (SigningKey, Cert) {
        let key = SigningKey::from_bytes(&[1; 32]);
        let realm = RealmId::from_bytes(key.verifying_key().to_bytes());
        let node = NodeId::from_bytes([9; 32]);
        let body = CertBody { realm, node, name: "home".into(), role: Role::Member };
        (key.clone(), Cert::sign(body, &key))
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    #[test]
    fn each_bad_ticket_has_its_own_message_and_restarts_change_nothing() {
        let home = tempfile::tempdir().unwrap();
        durable::create_dir(&home.path().join("mesh")).unwrap();
        let (key, cert) = founder();
        let now = SystemTime::now();
        let mut invites = Invites::load(home.path()).unwrap();
        let secret = invites.create(Role::Node, 1, Duration::from_secs(60), now).unwrap();
        let unknown = invites.admit(node(1), b"guess", "x", &cert, &key, now).unwrap_err();
        assert!(unknown.message.contains("not known"), "{unknown}");
        let late = now + Duration::from_secs(62);
        let expired = invites.admit(node(1), &secret, "x", &cert, &key, late).unwrap_err();
        assert!(expired.message.contains("expired"), "{expired}");
        let mut invites = Invites::load(home.path()).unwrap();
        let first = invites.admit(node(1), &secret, "home", &cert, &key, now).unwrap();
        assert_eq!((first.body.name.as_str(), first.body.role), ("home-2", Role::Node));
        let mut invites = Invites::load(home.path()).unwrap();
        assert_eq!(invites.admit(node(1), &secret, "home", &cert, &key, now), Ok(first));
        let used = invites.admit(node(2), &secret, "x", &cert, &key, now).unwrap_err();
        assert!(used.message.contains("used up"), "{used}");
        assert!(used.hint.contains("rhd invite"));
    }

    #[test]
    fn names_stay_unique_and_within_their_length() {
        let long = "n".repeat(MAX_NODE_NAME);
        let mut names: Vec<String> = Vec::new();
        for _ in 0..12 {
            let name = unique(&long, |name| names.iter().any(|n| n == name));
            assert!(rhd_protocol::membership::is_node_name(&name), "{name}");
            names.push(name);
        }
        names.dedup();
        assert_eq!(names.len(), 12);
    }
}
