//! Who is up, as far as this node knows: the newest signed record of each peer, until it expires.
//!
//! A record lives [`TTL_MS`] less the age that came with it, on the receiver's own clock, so the clocks
//! of two nodes need not agree. Only the way that it travelled is not counted: what nobody renews is
//! gone everywhere after its time to live and its way. What has expired or said good-bye is kept, but
//! not listed: two peers that hold an old record could keep a dead node alive by telling each other,
//! and a node that has forgotten its own number is told by it.
//!
//! The first copy of a record sets its end; a later one could only move it. So a member that lies
//! about ages gains nothing over one that holds records back, and loses to the node's next record.

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
    record: Record,
    expires: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// The highest number seen; never falls while the node runs.
    seq: u64,
    /// When it was seen, for making room.
    seen: u64,
    /// As it came; kept when it has ended, as its node may need it to go on above it.
    signed: Signed,
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
        let age = u64::from(signed.age_ms);
        match self.entries.get(&node) {
            Some(entry) if entry.seq >= seq => return Ok(Verdict::Known),
            // Not even remembered: the age may be a lie, and another copy younger.
            _ if age >= TTL_MS && !leaving => return Ok(Verdict::Known),
            Some(_) => {}
            None => self.make_room()?,
        }
        let expires = now.saturating_add(TTL_MS.saturating_sub(age));
        let live = (!leaving).then_some(Live { record, expires });
        self.entries.insert(node, Entry { seq, seen: now, signed: signed.clone(), live });
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

    /// What `peer` is shown when it comes up: all live records with their ages, and the last of its
    /// own, ended or not, should it have forgotten its number.
    pub fn shown_to(&self, peer: NodeId, now: u64) -> impl Iterator<Item = Signed> {
        let shown = self.entries.iter().filter(move |(node, e)| e.live.is_some() || **node == peer);
        shown.map(move |(_, entry)| {
            let left = entry.live.as_ref().map_or(0, |live| live.expires.saturating_sub(now));
            let age = TTL_MS.saturating_sub(left);
            Signed { age_ms: u32::try_from(age).unwrap_or(u32::MAX), ..entry.signed.clone() }
        })
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
            offer: crate::compute::Offer::default(),
            beside: false,
            keeps: false,
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
            offer: crate::compute::Offer::default(),
            beside: false,
            keeps: false,
        };
        (record, Signed { record: Vec::new(), sig: Vec::new(), age_ms: 0 })
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
    fn a_record_shown_by_others_has_the_rest_of_its_time() {
        let (mut first, mut second, mut third) = (table(8), table(8), table(8));
        first.accept(&signed(1, 5, false), 0, 0).unwrap();
        let shown = |table: &Table, now| table.shown_to(node(9), now).next().unwrap();
        second.accept(&shown(&first, 40_000), 0, 40_000).unwrap();
        third.accept(&shown(&second, 44_000), 0, 44_000).unwrap();
        for table in [&mut first, &mut second, &mut third] {
            assert_eq!(table.next_expiry(), Some(TTL_MS));
            assert_eq!(table.expire(TTL_MS), [node(1)]);
            assert_eq!(table.shown_to(node(9), TTL_MS).count(), 0);
        }
    }

    #[test]
    fn a_wrong_age_can_not_outlast_the_next_record() {
        let mut table = table(8);
        let aged = |seq, age_ms| Signed { age_ms, ..signed(1, seq, false) };
        // Too old to be listed; an honest copy still counts.
        assert_eq!(table.accept(&aged(5, u32::MAX), 0, 0), Ok(Verdict::Known));
        assert!(matches!(table.accept(&aged(5, 0), 0, 0), Ok(Verdict::News { .. })));
        // Neither longer nor shorter once it is listed.
        for age in [0, 1, 44_999, u32::MAX] {
            assert_eq!(table.accept(&aged(5, age), 0, 1_000), Ok(Verdict::Known));
            assert_eq!(table.next_expiry(), Some(TTL_MS));
        }
        table.accept(&aged(6, 44_999), 0, 1_000).unwrap();
        assert_eq!(table.expire(1_001), [node(1)]);
        table.accept(&aged(7, 0), 0, 2_000).unwrap();
        assert_eq!(table.next_expiry(), Some(2_000 + TTL_MS));
    }

    #[test]
    fn a_node_that_forgot_its_number_is_shown_its_last_record() {
        let mut table = table(8);
        table.accept(&signed(1, 5, false), 0, 0).unwrap();
        table.accept(&signed(2, 5, true), 0, 0).unwrap();
        table.expire(TTL_MS);
        for n in [1, 2] {
            let shown: Vec<Signed> = table.shown_to(node(n), 2 * TTL_MS).collect();
            assert_eq!(shown.len(), 1);
            let mut own = Table::new(node(n), realm(), 8);
            assert_eq!(own.accept(&shown[0], 1, 0), Ok(Verdict::Ahead { seq: 5 }));
        }
        assert_eq!(table.shown_to(node(3), 2 * TTL_MS).count(), 0);
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
