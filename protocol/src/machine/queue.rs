//! Which waiting call runs next: bounded, fair by caller, first come first served within a caller.

use std::collections::{HashMap, VecDeque};

/// What a waiting call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// A lane of the first process, where modules have their state.
    Lane,
    /// A lane of any process.
    AnyLane,
    /// A place on the event loop of the first process.
    Loop,
}

/// What became free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// A lane of the first process.
    Lane,
    /// A lane of a replica.
    ReplicaLane,
    /// A place on the event loop.
    Loop,
}

impl Offer {
    /// Whether a call with `need` can run there.
    pub fn serves(self, need: Need) -> bool {
        match self {
            Self::Lane => matches!(need, Need::Lane | Need::AnyLane),
            Self::ReplicaLane => need == Need::AnyLane,
            Self::Loop => need == Need::Loop,
        }
    }
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The queue is full; nothing was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} calls wait already")]
pub struct Full {
    /// How many wait.
    pub waiting: usize,
}

/// Calls that wait, of many callers.
#[derive(Debug)]
pub struct Queue<T> {
    limit: usize,
    next: u64,
    len: usize,
    /// Callers with something waiting, each once; whose turn is next is in front.
    turns: VecDeque<String>,
    /// Never an empty list.
    waiting: HashMap<String, VecDeque<Waiting<T>>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: Ticket,
    need: Need,
    item: T,
}

impl<T> Queue<T> {
    /// Takes at most `limit` calls.
    pub fn new(limit: usize) -> Self {
        Self { limit, next: 0, len: 0, turns: VecDeque::new(), waiting: HashMap::new() }
    }

    /// Calls that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Calls that `offer` could serve.
    pub fn wanting(&self, offer: Offer) -> usize {
        self.waiting.values().flatten().filter(|w| offer.serves(w.need)).count()
    }

    /// Adds a call to the end of its caller's line.
    pub fn push(&mut self, caller: &str, need: Need, item: T) -> Result<Ticket, Full> {
        if self.len >= self.limit {
            return Err(Full { waiting: self.len });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.len += 1;
        let line = self.waiting.entry(caller.to_owned()).or_insert_with(|| {
            self.turns.push_back(caller.to_owned());
            VecDeque::new()
        });
        line.push_back(Waiting { ticket, need, item });
        Ok(ticket)
    }

    /// Takes the call that runs on what became free: of the caller whose turn it is, else of the
    /// next one that has a use for it. Who was served goes to the end.
    pub fn take(&mut self, offer: Offer) -> Option<T> {
        let found = self.turns.iter().enumerate().find_map(|(turn, caller)| {
            let line = self.waiting.get(caller)?;
            Some((turn, line.iter().position(|w| offer.serves(w.need))?))
        });
        let (turn, place) = found?;
        let caller = self.turns.remove(turn)?;
        let line = self.waiting.get_mut(&caller)?;
        let taken = line.remove(place)?;
        self.len -= 1;
        if line.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        Some(taken.item)
    }

    /// Takes back a call that waits no longer; `None` when it was taken already.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let (caller, place) = self.waiting.iter().find_map(|(caller, line)| {
            Some((caller.clone(), line.iter().position(|w| w.ticket == ticket)?))
        })?;
        let line = self.waiting.get_mut(&caller)?;
        let taken = line.remove(place)?;
        self.len -= 1;
        if line.is_empty() {
            self.waiting.remove(&caller);
            self.turns.retain(|turn| *turn != caller);
        }
        Some(taken.item)
    }

    /// Empties the queue.
    pub fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        self.turns.clear();
        self.waiting.drain().flat_map(|(_, line)| line).map(|w| w.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_of_one_caller_does_not_delay_another() {
        let mut queue = Queue::new(16);
        for i in 0..8 {
            queue.push("flood", Need::Lane, ("flood", i)).unwrap();
        }
        queue.push("ann", Need::Lane, ("ann", 0)).unwrap();
        queue.push("ann", Need::Lane, ("ann", 1)).unwrap();
        let order: Vec<_> = (0..5).filter_map(|_| queue.take(Offer::Lane)).collect();
        assert_eq!(order, [("flood", 0), ("ann", 0), ("flood", 1), ("ann", 1), ("flood", 2)]);
    }

    #[test]
    fn a_full_queue_says_how_long_it_is() {
        let mut queue = Queue::new(2);
        queue.push("a", Need::Lane, 1).unwrap();
        queue.push("b", Need::Lane, 2).unwrap();
        assert_eq!(queue.push("c", Need::Lane, 3), Err(Full { waiting: 2 }));
    }

    #[test]
    fn replicas_take_only_stateless_calls() {
        let mut queue = Queue::new(4);
        queue.push("a", Need::Lane, "state").unwrap();
        queue.push("a", Need::AnyLane, "pure").unwrap();
        assert_eq!(queue.take(Offer::Loop), None);
        assert_eq!(queue.take(Offer::ReplicaLane), Some("pure"));
        assert_eq!(queue.take(Offer::ReplicaLane), None);
        assert_eq!(queue.take(Offer::Lane), Some("state"));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push(u8, u8),
        Take(u8),
        Remove(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..4u8, 0..3u8).prop_map(|(c, n)| Op::Push(c, n)),
            (0..3u8).prop_map(Op::Take),
            any::<u8>().prop_map(Op::Remove),
        ]
    }

    proptest! {
        /// Nothing is lost or doubled, the bound holds, and each caller's calls of one need come
        /// out in the order they went in.
        #[test]
        fn behaves_like_a_list(ops in prop::collection::vec(op(), 0..200)) {
            const LIMIT: usize = 12;
            let needs = [Need::Lane, Need::AnyLane, Need::Loop];
            let offers = [Offer::Lane, Offer::ReplicaLane, Offer::Loop];
            let mut queue = Queue::new(LIMIT);
            let mut model: Vec<(Ticket, u8, Need, usize)> = Vec::new();
            for (step, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Push(caller, need) => {
                        let need = needs[need as usize];
                        match queue.push(&caller.to_string(), need, step) {
                            Ok(ticket) => model.push((ticket, caller, need, step)),
                            Err(full) => prop_assert_eq!(full.waiting, LIMIT),
                        }
                    }
                    Op::Take(offer) => {
                        let offer = offers[offer as usize];
                        match queue.take(offer) {
                            None => prop_assert!(!model.iter().any(|m| offer.serves(m.2))),
                            Some(step) => {
                                let at = model.iter().position(|m| m.3 == step).unwrap();
                                let taken = model.remove(at);
                                prop_assert!(offer.serves(taken.2));
                                prop_assert!(!model[..at]
                                    .iter()
                                    .any(|m| m.1 == taken.1 && offer.serves(m.2)));
                            }
                        }
                    }
                    Op::Remove(pick) => {
                        if !model.is_empty() {
                            let gone = model.remove(pick as usize % model.len());
                            prop_assert_eq!(queue.remove(gone.0), Some(gone.3));
                            prop_assert_eq!(queue.remove(gone.0), None);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            prop_assert_eq!(queue.drain().len(), model.len());
        }

        /// A round serves every waiting caller once, however long the lines of others are.
        #[test]
        fn nobody_waits_longer_than_a_round(sizes in prop::collection::vec(1..20usize, 1..6)) {
            let mut queue = Queue::new(1_000);
            for (caller, size) in sizes.iter().enumerate() {
                for _ in 0..*size {
                    queue.push(&caller.to_string(), Need::Lane, caller).unwrap();
                }
            }
            let round: std::collections::HashSet<_> =
                (0..sizes.len()).filter_map(|_| queue.take(Offer::Lane)).collect();
            prop_assert_eq!(round.len(), sizes.len());
        }
    }
}
