//! Who is up, as far as this node knows: the newest signed record of each peer, until it expires.
//!
//! A record lives [`TTL_MS`] from its receipt on the receiver's own clock, so the clocks of two nodes
//! need not agree. What was once expired or said good-bye is remembered by its sequence number, or
//! two peers that hold an old record could keep a dead node alive by telling each other.

use std::collections::BTreeMap;

use crate::{
    id::{NodeId, RealmId},
    membership::NotAMember,
    presence::{PresenceError, Record, Signed, TTL_MS},
};

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is news: show it to others.
    News {
        /// About whom.
        node: NodeId,
        /// Whether the node says good-bye.
        leaving: bool,
    },
    /// This one, or a newer one, was seen before.
    Known,
    /// It is this node's own, of an earlier life with a higher number: go on above `seq`.
    Ahead {
        /// The number that others have seen.
        seq: u64,
    },
}

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its size, form or signature.
    #[error(transparent)]
    Record(#[from] PresenceError),
    /// Its node does not belong here.
    #[error(transparent)]
    NotAMember(#[from] NotAMember),
    /// The table is full of live peers.
    #[error("more peers than this node keeps")]
    Full,
}

#[derive(Debug, Clone)]
struct Live {
    signed: Signed,
    record: Record,
    expires: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// The highest number seen; never falls while the node runs.
    seq: u64,
    /// When it was seen, for making room.
    seen: u64,
    live: Option<Live>,
}

/// The table of one node.
#[derive(Debug, Clone)]
pub struct Table {
    me: NodeId,
    realm: RealmId,
    max: usize,
    /// Never more than `max`; those without `live` make room first.
    entries: BTreeMap<NodeId, Entry>,
}

impl Table {
    /// An empty table that keeps at most `max` peers.
    pub fn new(me: NodeId, realm: RealmId, max: usize) -> Self {
        Self { me, realm, max, entries: BTreeMap::new() }
    }

    /// Takes a record that arrived at `now`.
    pub fn accept(&mut self, signed: &Signed, own_seq: u64, now: u64) -> Result<Verdict, Refused> {
        let record = signed.open()?;
        record.cert.verify(self.realm)?;
        self.insert(signed, record, own_seq, now)
    }

    /// Takes a record whose signatures hold.
    fn insert(
        &mut self,
        signed: &Signed,
        record: Record,
        own_seq: u64,
        now: u64,
    ) -> Result<Verdict, Refused> {
        let (node, seq, leaving) = (record.node(), record.seq, record.leaving);
        if node == self.me {
            let ahead = seq > own_seq;
            return Ok(if ahead { Verdict::Ahead { seq } } else { Verdict::Known });
        }
        match self.entries.get(&node) {
            Some(entry) if entry.seq >= seq => return Ok(Verdict::Known),
            Some(_) => {}
            None => self.make_room()?,
        }
        let live = (!leaving).then(|| Live {
            signed: signed.clone(),
            record,
            expires: now.saturating_add(TTL_MS),
        });
        self.entries.insert(node, Entry { seq, seen: now, live });
        Ok(Verdict::News { node, leaving })
    }

    fn make_room(&mut self) -> Result<(), Refused> {
        if self.entries.len() < self.max {
            return Ok(());
        }
        let gone = self.entries.iter().filter(|(_, entry)| entry.live.is_none());
        let oldest = gone.min_by_key(|(_, entry)| entry.seen).map(|(node, _)| *node);
        self.entries.remove(&oldest.ok_or(Refused::Full)?);
        Ok(())
    }

    /// Ends the records whose time is over at `now`; returns their nodes.
    pub fn expire(&mut self, now: u64) -> Vec<NodeId> {
        let mut ended = Vec::new();
        for (node, entry) in &mut self.entries {
            if entry.live.as_ref().is_some_and(|live| live.expires <= now) {
                entry.live = None;
                ended.push(*node);
            }
        }
        ended
    }

    /// When [`expire`](Self::expire) next has something to do.
    pub fn next_expiry(&self) -> Option<u64> {
        self.entries.values().filter_map(|e| e.live.as_ref()).map(|live| live.expires).min()
    }

    /// The live record of `node`.
    pub fn get(&self, node: NodeId) -> Option<&Record> {
        self.entries.get(&node)?.live.as_ref().map(|live| &live.record)
    }

    /// All live records.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.entries.values().filter_map(|e| e.live.as_ref()).map(|live| &live.record)
    }

    /// All live records as they travel: what a peer that just came up is told.
    pub fn signed(&self) -> impl Iterator<Item = &Signed> {
        self.entries.values().filter_map(|e| e.live.as_ref()).map(|live| &live.signed)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;
    use crate::membership::{Cert, CertBody, Role};

    fn realm_key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn realm() -> RealmId {
        RealmId::from_bytes(realm_key(200).verifying_key().to_bytes())
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes(realm_key(n).verifying_key().to_bytes())
    }

    fn record(n: u8, seq: u64, leaving: bool, founder: u8) -> Record {
        let founder = realm_key(founder);
        let body = CertBody {
            realm: RealmId::from_bytes(founder.verifying_key().to_bytes()),
            node: node(n),
            name: format!("n{n}"),
            role: Role::Node,
        };
        Record {
            cert: Cert::sign(body, &founder),
            seq,
            leaving,
            version: String::new(),
            addrs: Vec::new(),
            services: Vec::new(),
            load: 0,
        }
    }

    fn signed(n: u8, seq: u64, leaving: bool) -> Signed {
        Signed::new(&record(n, seq, leaving, 200), &realm_key(n)).unwrap()
    }

    /// As after the checks, which take too long in numbers.
    fn unsigned(n: u8, seq: u64, leaving: bool) -> (Record, Signed) {
        let body = CertBody {
            realm: RealmId::from_bytes([200; 32]),
            node: NodeId::from_bytes([n; 32]),
            name: String::new(),
            role: Role::Node,
        };
        let record = Record {
            cert: Cert { body, sig: Vec::new() },
            seq,
            leaving,
            version: String::new(),
            addrs: Vec::new(),
            services: Vec::new(),
            load: 0,
        };
        (record, Signed { record: Vec::new(), sig: Vec::new() })
    }

    fn table(max: usize) -> Table {
        Table::new(node(0), realm(), max)
    }

    #[test]
    fn the_newest_record_lives_for_its_time_on_the_receivers_clock() {
        let mut table = table(8);
        // Two receivers whose clocks are an hour apart judge alike.
        for start in [0, 3_600_000] {
            let mut table = table.clone();
            assert!(matches!(
                table.accept(&signed(1, 5, false), 0, start),
                Ok(Verdict::News { .. })
            ));
            assert_eq!(table.next_expiry(), Some(start + TTL_MS));
            assert_eq!(table.expire(start + TTL_MS - 1), []);
            assert_eq!(table.expire(start + TTL_MS), [node(1)]);
            assert_eq!(table.records().count(), 0);
        }
        table.accept(&signed(1, 5, false), 0, 0).unwrap();
        assert_eq!(table.accept(&signed(1, 4, false), 0, 1), Ok(Verdict::Known));
        assert_eq!(table.get(node(1)).unwrap().seq, 5);
    }

    #[test]
    fn an_ended_record_does_not_come_back_but_a_new_life_does() {
        let mut table = table(8);
        table.accept(&signed(1, 5, false), 0, 0).unwrap();
        table.expire(TTL_MS);
        assert_eq!(table.accept(&signed(1, 5, false), 0, TTL_MS), Ok(Verdict::Known));
        assert!(table.get(node(1)).is_none());
        table.accept(&signed(1, 6, true), 0, TTL_MS).unwrap();
        assert_eq!(table.accept(&signed(1, 5, false), 0, TTL_MS), Ok(Verdict::Known));
        let next_life = 1 << 32;
        table.accept(&signed(1, next_life, false), 0, TTL_MS).unwrap();
        assert_eq!(table.get(node(1)).unwrap().seq, next_life);
    }

    #[test]
    fn forged_foreign_and_oversized_records_are_refused() {
        let mut table = table(8);
        let mut forged = signed(1, 1, false);
        forged.sig[0] ^= 1;
        assert_eq!(table.accept(&forged, 0, 0), Err(Refused::Record(PresenceError::Signature)));
        let foreign = Signed::new(&record(1, 1, false, 201), &realm_key(1)).unwrap();
        let refused = table.accept(&foreign, 0, 0);
        assert_eq!(refused, Err(Refused::NotAMember(NotAMember::OtherRealm)));
        let mut large = record(1, 1, false, 200);
        large.version = "v".repeat(crate::presence::MAX_RECORD);
        let large = Signed::new(&large, &realm_key(1)).unwrap();
        assert_eq!(table.accept(&large, 0, 0), Err(Refused::Record(PresenceError::TooLarge)));
        let mut many = record(1, 1, false, 200);
        many.addrs = vec![String::new(); crate::presence::MAX_ADDRS + 1];
        let many = Signed::new(&many, &realm_key(1)).unwrap();
        assert_eq!(table.accept(&many, 0, 0), Err(Refused::Record(PresenceError::TooLarge)));
        assert_eq!(table.records().count(), 0);
    }

    #[test]
    fn own_records_of_a_forgotten_life_are_noticed() {
        let mut table = table(8);
        assert_eq!(table.accept(&signed(0, 9, false), 10, 0), Ok(Verdict::Known));
        assert_eq!(table.accept(&signed(0, 11, false), 10, 0), Ok(Verdict::Ahead { seq: 11 }));
        assert_eq!(table.records().count(), 0);
    }

    proptest! {
        /// Any order of arrival ends in the same table, which is never over its bound.
        #[test]
        fn order_does_not_matter_and_the_bound_holds(
            events in proptest::collection::vec((1u8..6, 0u64..6, any::<bool>()), 1..24),
            rotate in 0usize..24,
        ) {
            // A node signs one record for each number.
            let events: BTreeMap<(u8, u64), bool> =
                events.into_iter().map(|(n, seq, leaving)| ((n, seq), leaving)).collect();
            let events: Vec<_> = events.into_iter().collect();
            let run = |events: &[((u8, u64), bool)], max| {
                let realm = RealmId::from_bytes([200; 32]);
                let mut table = Table::new(NodeId::from_bytes([0; 32]), realm, max);
                for ((n, seq), leaving) in events {
                    let (record, signed) = unsigned(*n, *seq, *leaving);
                    let _ = table.insert(&signed, record, 0, 0);
                    assert!(table.entries.len() <= max);
                }
                table.records().map(|r| (r.node(), r.seq)).collect::<Vec<_>>()
            };
            let mut other = events.clone();
            other.rotate_left(rotate % events.len());
            prop_assert_eq!(run(&events, 8), run(&other, 8));
            run(&other, 2);
        }
    }
}
