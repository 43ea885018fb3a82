//! Invite tickets: one line of text that lets a node join a realm.
//!
//! `rhd1` + base32( msgpack([`Ticket`]) + first 4 bytes of its BLAKE3 hash ).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Hash, NodeId, RealmId, decode_base32, encode_base32},
    membership::Role,
};

const PREFIX: &str = "rhd1";
/// The longest ticket that is read, in characters.
pub const MAX_TICKET: usize = 4096;

/// What a ticket says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The realm to join.
    pub realm: RealmId,
    /// The node that issued it, and that must be asked.
    pub host: NodeId,
    /// Socket addresses (`192.0.2.1:4242`) where the host was reachable.
    pub addrs: Vec<String>,
    /// Known to the host and to whoever holds the ticket.
    #[serde(with = "serde_bytes")]
    pub secret: Vec<u8>,
    /// What the joining node may do.
    pub role: Role,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket(realm {}, host {}, secret hidden)", self.realm.short(), self.host.short())
    }
}

/// A text that is no ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It doesn't look like one at all.
    #[error("not a ticket: tickets start with {PREFIX}")]
    Foreign,
    /// A character is missing or wrong.
    #[error("ticket is garbled: a part of it was lost or changed in copying")]
    Garbled,
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = crate::frame::to_vec(self).map_err(|_| fmt::Error)?;
        let sum = Hash::of(&bytes);
        bytes.extend_from_slice(&sum.as_bytes()[..4]);
        write!(f, "{PREFIX}{}", encode_base32(&bytes))
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text: String = text.split_whitespace().collect();
        let rest = text.strip_prefix(PREFIX).ok_or(TicketError::Foreign)?;
        if rest.len() > MAX_TICKET {
            return Err(TicketError::Garbled);
        }
        let bytes = decode_base32(rest).ok_or(TicketError::Garbled)?;
        let split = bytes.len().checked_sub(4).ok_or(TicketError::Garbled)?;
        let (body, sum) = bytes.split_at(split);
        if Hash::of(body).as_bytes()[..4] != *sum {
            return Err(TicketError::Garbled);
        }
        crate::frame::decode(body).map_err(|_| TicketError::Garbled)
    }
}

/// What a joining node says, on a connection of ALPN `rhd-join/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`crate::VERSION`] of the writer.
    pub v: u16,
    /// The ticket's secret.
    #[serde(with = "serde_bytes")]
    pub secret: Vec<u8>,
    /// The name it would like.
    pub name: String,
}

/// The host's answer: a certificate, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum JoinReply {
    /// Welcome.
    Welcome {
        /// The new member's certificate.
        cert: crate::membership::Cert,
        /// The host's own.
        host: crate::membership::Cert,
    },
    /// Refused.
    Refused {
        /// Why, and what to do.
        error: crate::error::ErrorInfo,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_changed_character_is_noticed() {
        let ticket = Ticket {
            realm: RealmId::from_bytes([1; 32]),
            host: NodeId::from_bytes([2; 32]),
            addrs: vec!["192.0.2.1:4242".into(), "[::1]:4242".into()],
            secret: vec![3; 16],
            role: Role::Node,
        };
        let text = ticket.to_string();
        assert_eq!(text.parse(), Ok(ticket.clone()));
        assert_eq!(format!(" {}\n{}", &text[..40], &text[40..]).parse(), Ok(ticket));
        assert_eq!(text[..text.len() - 3].parse::<Ticket>(), Err(TicketError::Garbled));
        assert_eq!("hello".parse::<Ticket>(), Err(TicketError::Foreign));
        for i in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] = if bytes[i] == b'a' { b'b' } else { b'a' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(changed.parse::<Ticket>(), Err(TicketError::Garbled), "at {i}");
        }
    }
}
