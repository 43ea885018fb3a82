//! Which records are offered to whom, and when: decided without I/O.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use rhd_protocol::id::{CallId, NodeId};
use tokio::time::Instant;

/// Records that wait here; what finds no room is looked for when the node starts again.
const RECORDS: usize = 4096;
/// Records that one node is told of at once.
const EACH: usize = 4;
/// Records that all nodes are told of at once.
const AT_ONCE: usize = 16;
/// Seconds until a node that can't be reached is tried again, time after time; the last one stays.
const AGAIN: [u64; 6] = [5, 30, 120, 600, 1800, 3600];

/// Records that the nodes of their callers have yet to take.
#[derive(Debug, Default)]
pub(super) struct Owed {
    callers: HashMap<NodeId, Debt>,
    linked: HashSet<NodeId>,
    records: usize,
    telling: usize,
}

#[derive(Debug)]
struct Debt {
    /// Oldest first.
    waiting: VecDeque<CallId>,
    telling: usize,
    due: Instant,
    tries: usize,
}

impl Owed {
    /// A record is to be offered.
    pub(super) fn push(&mut self, to: NodeId, id: CallId, now: Instant) {
        if self.records >= RECORDS {
            tracing::debug!(run = %id, "its record is offered after the next start");
            return;
        }
        let fresh = || Debt { waiting: VecDeque::new(), telling: 0, due: now, tries: 0 };
        self.callers.entry(to).or_insert_with(fresh).waiting.push_back(id);
        self.records += 1;
    }

    /// These nodes have a link now: those that had none before are tried at once.
    pub(super) fn linked(&mut self, nodes: &[NodeId], now: Instant) {
        for node in nodes.iter().filter(|node| !self.linked.contains(*node)) {
            if let Some(debt) = self.callers.get_mut(node) {
                (debt.due, debt.tries) = (now, 0);
            }
        }
        self.linked = nodes.iter().copied().collect();
    }

    /// What is to be offered now, to one of those who are members.
    pub(super) fn next(&mut self, members: &[NodeId], now: Instant) -> Option<(NodeId, CallId)> {
        if self.telling >= AT_ONCE {
            return None;
        }
        members.iter().find_map(|to| {
            let debt = self.callers.get_mut(to).filter(|debt| debt.due <= now)?;
            if debt.telling >= EACH {
                return None;
            }
            let id = debt.waiting.pop_front()?;
            debt.telling += 1;
            self.telling += 1;
            Some((*to, id))
        })
    }

    /// When the next of those who are members is tried again.
    pub(super) fn due(&self, members: &[NodeId]) -> Instant {
        let waiting = members.iter().filter_map(|node| self.callers.get(node));
        let free = waiting.filter(|debt| debt.telling == 0 && !debt.waiting.is_empty());
        let last = Instant::now() + Duration::from_secs(3600);
        free.map(|debt| debt.due).min().unwrap_or(last)
    }

    /// A record needs no offer any more, in this life.
    pub(super) fn settled(&mut self, to: NodeId) {
        self.told(to);
        self.records = self.records.saturating_sub(1);
        if let Some(debt) = self.callers.get_mut(&to) {
            debt.tries = 0;
            if debt.waiting.is_empty() && debt.telling == 0 {
                self.callers.remove(&to);
            }
        }
    }

    /// A node could not be told: it is, later.
    pub(super) fn lost(&mut self, to: NodeId, id: CallId, now: Instant) {
        self.told(to);
        let Some(debt) = self.callers.get_mut(&to) else { return };
        debt.waiting.push_front(id);
        // What was offered at the same time failed for the same reason.
        if debt.due <= now {
            let wait = AGAIN[debt.tries.min(AGAIN.len() - 1)];
            debt.due = now + Duration::from_secs(wait);
            debt.tries += 1;
        }
    }

    fn told(&mut self, to: NodeId) {
        self.telling = self.telling.saturating_sub(1);
        if let Some(debt) = self.callers.get_mut(&to) {
            debt.telling = debt.telling.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn run(n: u16) -> CallId {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        CallId::from_bytes(id)
    }

    #[tokio::test]
    async fn few_at_once_oldest_first_and_each_until_it_is_settled() {
        let (now, mut owed) = (Instant::now(), Owed::default());
        for n in 0..10 {
            owed.push(node(1), run(n), now);
        }
        let first: Vec<_> = std::iter::from_fn(|| owed.next(&[node(1)], now)).collect();
        assert_eq!(first, [0, 1, 2, 3].map(|n| (node(1), run(n))));
        owed.settled(node(1));
        assert_eq!(owed.next(&[node(1)], now), Some((node(1), run(4))));
        owed.lost(node(1), run(1), now);
        assert_eq!(owed.next(&[node(1)], now), None, "not before it is due");
        let later = now + Duration::from_secs(AGAIN[0]);
        assert_eq!(owed.next(&[node(1)], later), Some((node(1), run(1))));
    }

    #[tokio::test]
    async fn who_comes_back_is_tried_at_once_and_who_left_never() {
        let (now, mut owed) = (Instant::now(), Owed::default());
        owed.push(node(1), run(1), now);
        assert_eq!(owed.next(&[node(2)], now), None, "not a member");
        for _ in 0..9 {
            let due = owed.due(&[node(1)]).max(now);
            let (to, id) = owed.next(&[node(1)], due).unwrap();
            owed.lost(to, id, due);
        }
        assert!(owed.due(&[node(1)]) >= now + Duration::from_secs(3600));
        owed.linked(&[node(1)], now);
        assert_eq!(owed.next(&[node(1)], now), Some((node(1), run(1))));
        owed.settled(node(1));
        assert_eq!((owed.callers.len(), owed.records, owed.telling), (0, 0, 0));
    }

    #[tokio::test]
    async fn no_more_wait_than_have_room() {
        let (now, mut owed) = (Instant::now(), Owed::default());
        for n in 0..2 * RECORDS {
            owed.push(node(1), run(u16::try_from(n).unwrap()), now);
        }
        assert_eq!(owed.callers[&node(1)].waiting.len(), RECORDS);
        for caller in 2..=20 {
            owed.records = 0;
            (0..9).for_each(|n| owed.push(node(caller), run(n), now));
        }
        let members: Vec<_> = (1..=20).map(node).collect();
        assert_eq!(std::iter::from_fn(|| owed.next(&members, now)).count(), AT_ONCE);
    }
}
