//! Which content is here, who needs it, and what may go.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use rhd_protocol::{data::Collected, id::Hash};

/// What is stored, by hash. It decides; it does no work itself.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: HashMap<Hash, Entry>,
    /// Lists of folders' files, for each of which its files are kept.
    trees: HashSet<Hash>,
    /// How long what nobody needs is kept after its last use.
    keep: Duration,
    /// Bytes that may be stored; none: no limit.
    quota: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    /// Bytes that it takes, or will.
    size: u64,
    /// Calls and transfers under way that need it.
    leases: u32,
    /// Versions of names that stand for it.
    names: u32,
    /// When somebody needed it last; none: it may go now.
    used: Option<Instant>,
}

impl Entry {
    fn is_needed(&self) -> bool {
        self.leases > 0 || self.names > 0
    }
}

impl Ledger {
    pub(super) fn new(keep: Duration, quota: u64) -> Self {
        let quota = (quota > 0).then_some(quota);
        Self { entries: HashMap::new(), trees: HashSet::new(), keep, quota }
    }

    fn entry(&mut self, hash: Hash, now: Instant) -> &mut Entry {
        let fresh = Entry { size: 0, leases: 0, names: 0, used: None };
        let entry = self.entries.entry(hash).or_insert(fresh);
        entry.used = Some(now);
        entry
    }

    /// Notes that `size` bytes of this content are here, or come.
    pub(super) fn holds(&mut self, hash: Hash, size: u64, now: Instant) {
        self.entry(hash, now).size = size;
    }

    /// Notes that exactly this is here.
    pub(super) fn replace(&mut self, held: &[(Hash, u64)]) {
        self.entries.values_mut().for_each(|entry| entry.size = 0);
        for (hash, size) in held {
            let fresh = Entry { size: 0, leases: 0, names: 0, used: None };
            self.entries.entry(*hash).or_insert(fresh).size = *size;
        }
    }

    /// Keeps content until [`release`](Self::release).
    pub(super) fn lease(&mut self, hash: Hash, now: Instant) {
        self.entry(hash, now).leases += 1;
    }

    /// Ends a lease.
    pub(super) fn release(&mut self, hash: Hash, now: Instant) {
        let entry = self.entry(hash, now);
        entry.leases = entry.leases.saturating_sub(1);
    }

    /// Keeps content for a version of a name.
    pub(super) fn name(&mut self, hash: Hash, now: Instant) {
        self.entry(hash, now).names += 1;
    }

    /// Ends what [`name`](Self::name) began: without its last name, content may go at once.
    pub(super) fn unname(&mut self, hash: Hash) {
        if let Some(entry) = self.entries.get_mut(&hash) {
            entry.names = entry.names.saturating_sub(1);
            if entry.names == 0 {
                entry.used = None;
            }
        }
    }

    /// Whether the files of this list are kept.
    pub(super) fn has_tree(&self, list: Hash) -> bool {
        self.trees.contains(&list)
    }

    /// Keeps the files of a list, as long as some version of a name is this list.
    pub(super) fn keep_tree(&mut self, list: Hash, files: &[Hash], now: Instant) {
        if self.trees.insert(list) {
            files.iter().for_each(|hash| self.name(*hash, now));
        }
    }

    /// Ends what [`keep_tree`](Self::keep_tree) began.
    pub(super) fn drop_tree(&mut self, list: Hash, files: &[Hash]) {
        if self.trees.remove(&list) {
            files.iter().for_each(|hash| self.unname(*hash));
        }
    }

    /// Bytes of all content.
    pub(super) fn bytes(&self) -> u64 {
        self.entries.values().map(|entry| entry.size).sum()
    }

    /// Every content that has a size, with that.
    pub(super) fn all(&self) -> Vec<(Hash, u64)> {
        let held = self.entries.iter().filter(|(_, entry)| entry.size > 0);
        held.map(|(hash, entry)| (*hash, entry.size)).collect()
    }

    /// The same of content that no version of a name needs.
    pub(super) fn unnamed(&self) -> Vec<(Hash, u64)> {
        let held = self.entries.iter().filter(|(_, entry)| entry.size > 0 && entry.names == 0);
        held.map(|(hash, entry)| (*hash, entry.size)).collect()
    }

    /// Bytes by which the quota is passed once `more` come, whatever is collected.
    pub(super) fn excess(&self, more: u64) -> u64 {
        let needed = self.entries.values().filter(|entry| entry.is_needed());
        let needed: u64 = needed.map(|entry| entry.size).sum();
        let quota = self.quota.unwrap_or(u64::MAX);
        needed.saturating_add(more).saturating_sub(quota)
    }

    /// Whether the quota is passed once `more` come, if nothing is collected.
    pub(super) fn is_over(&self, more: u64) -> bool {
        self.quota.is_some_and(|quota| self.bytes().saturating_add(more) > quota)
    }

    /// What a collection spares: what is needed, and of the rest what was used lately, the latest
    /// first, as far as the quota reaches when `more` bytes are to come and `pressing` ones must go.
    pub(super) fn spared(&self, more: u64, pressing: u64, now: Instant) -> HashSet<Hash> {
        let mut spared: HashSet<Hash> = HashSet::new();
        let mut room = self.quota.unwrap_or(u64::MAX).saturating_sub(more);
        if pressing > 0 {
            room = room.min(self.bytes().saturating_sub(pressing));
        }
        let mut rest = Vec::new();
        for (hash, entry) in &self.entries {
            if entry.is_needed() {
                spared.insert(*hash);
                room = room.saturating_sub(entry.size);
            } else if let Some(used) = entry.used
                && now.saturating_duration_since(used) < self.keep
            {
                rest.push((used, *hash, entry.size));
            }
        }
        rest.sort_by(|a, b| b.cmp(a));
        for (_, hash, size) in rest {
            let Some(left) = room.checked_sub(size) else { break };
            room = left;
            spared.insert(hash);
        }
        spared
    }

    /// What a collection that spares these removes.
    pub(super) fn outcome(&self, spared: &HashSet<Hash>) -> Collected {
        let mut done = Collected::default();
        for (hash, entry) in self.entries.iter().filter(|(_, entry)| entry.size > 0) {
            let (blobs, bytes) = match spared.contains(hash) {
                true => (&mut done.kept_blobs, &mut done.kept_bytes),
                false => (&mut done.blobs, &mut done.bytes),
            };
            *blobs += 1;
            *bytes += entry.size;
        }
        done
    }

    /// Forgets what a collection that spared these has removed.
    pub(super) fn swept(&mut self, spared: &HashSet<Hash>) {
        self.entries.retain(|hash, entry| spared.contains(hash) || entry.is_needed());
        for (hash, entry) in &mut self.entries {
            if !spared.contains(hash) {
                entry.size = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Duration = Duration::from_secs(100);

    fn hash(n: u8) -> Hash {
        Hash::from_bytes([n; 32])
    }

    #[test]
    fn what_is_named_or_leased_stays_and_the_rest_goes_in_its_time() {
        let (mut ledger, start) = (Ledger::new(KEEP, 0), Instant::now());
        for n in 1..=3 {
            ledger.holds(hash(n), 10, start);
        }
        ledger.name(hash(1), start);
        ledger.lease(hash(2), start);
        assert_eq!(ledger.spared(0, 0, start).len(), 3);
        let later = start + KEEP;
        assert_eq!(ledger.spared(0, 0, later), HashSet::from([hash(1), hash(2)]));
        ledger.release(hash(2), later);
        assert_eq!(ledger.spared(0, 0, later), HashSet::from([hash(1), hash(2)]));
        ledger.unname(hash(1));
        assert_eq!(ledger.spared(0, 0, later), HashSet::from([hash(2)]));
        assert!(ledger.spared(0, 0, later + KEEP).is_empty());
    }

    #[test]
    fn files_of_a_list_stay_as_long_as_one_list_names_them() {
        let (mut ledger, now) = (Ledger::new(Duration::ZERO, 0), Instant::now());
        // The third in both, and twice in the second.
        let (one, other) = ([hash(1), hash(3)], [hash(2), hash(3), hash(3)]);
        ledger.keep_tree(hash(10), &one, now);
        ledger.keep_tree(hash(20), &other, now);
        // Another version that is the same list.
        ledger.keep_tree(hash(20), &other, now);
        ledger.drop_tree(hash(20), &other);
        assert_eq!(ledger.spared(0, 0, now), HashSet::from(one));
        // One whose files were never kept takes nothing away.
        ledger.drop_tree(hash(30), &one);
        ledger.drop_tree(hash(20), &other);
        assert_eq!(ledger.spared(0, 0, now), HashSet::from(one));
        ledger.drop_tree(hash(10), &one);
        assert!(ledger.spared(0, 0, now).is_empty());
    }

    #[test]
    fn a_quota_takes_the_longest_unused_first_and_never_what_is_needed() {
        let (mut ledger, start) = (Ledger::new(KEEP, 30), Instant::now());
        for n in 1..=4 {
            ledger.holds(hash(n), 10, start + Duration::from_secs(n.into()));
        }
        ledger.name(hash(1), start);
        let now = start + Duration::from_secs(5);
        assert_eq!(ledger.spared(0, 0, now), HashSet::from([hash(1), hash(3), hash(4)]));
        assert_eq!(ledger.spared(10, 0, now), HashSet::from([hash(1), hash(4)]));
        assert_eq!((ledger.excess(20), ledger.excess(21)), (0, 1));
        // The disk is full, whatever the quota says.
        assert_eq!(ledger.spared(0, 20, now), HashSet::from([hash(1), hash(4)]));
        let spared = ledger.spared(10, 0, now);
        assert_eq!(ledger.outcome(&spared).bytes, 20);
        ledger.swept(&spared);
        assert_eq!(ledger.bytes(), 20);
    }
}
