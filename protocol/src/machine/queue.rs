//! Which waiting call runs next: bounded, fair by caller, first come first served within a caller; and
//! which has to go when there are too many.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// What a waiting call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// A lane of the first process, where modules have their state.
    Lane,
    /// A lane of any process.
    AnyLane,
    /// A place on the event loop of the first process.
    Loop,
    /// As [`Lane`](Self::Lane), or a place on the shared lane.
    Brief,
    /// As [`AnyLane`](Self::AnyLane), or a place on any shared lane.
    AnyBrief,
}

impl Need {
    /// The same for a call that is over in a moment.
    pub fn brief(self) -> Self {
        match self {
            Self::Lane => Self::Brief,
            Self::AnyLane => Self::AnyBrief,
            other => other,
        }
    }
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
    /// A place on the shared lane of the first process.
    Shared,
    /// A place on that of a replica.
    ReplicaShared,
    /// A lane of the first process, where brief calls have the shared one: beside it they would only
    /// be in its way.
    OwnLane,
    /// The same of a replica.
    ReplicaOwnLane,
}

impl Offer {
    /// Whether a call with `need` can run there.
    pub fn serves(self, need: Need) -> bool {
        match self {
            Self::Lane => need != Need::Loop,
            Self::ReplicaLane => matches!(need, Need::AnyLane | Need::AnyBrief),
            Self::Loop => need == Need::Loop,
            Self::Shared => matches!(need, Need::Brief | Need::AnyBrief),
            Self::ReplicaShared => need == Need::AnyBrief,
            Self::OwnLane => matches!(need, Need::Lane | Need::AnyLane),
            Self::ReplicaOwnLane => need == Need::AnyLane,
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

/// Who makes a call: a node, and one of the programs on it. Turns go round the nodes, and round the
/// programs of each: neither more programs nor more calls bring a node more turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The node.
    pub node: &'a str,
    /// The program, as the node tells them apart.
    pub client: u32,
}

/// A call was added.
#[derive(Debug)]
pub struct Pushed<T> {
    /// Its place.
    pub ticket: Ticket,
    /// The call that had to go for it, of whoever had the most: it has not run and will not.
    pub displaced: Option<T>,
}

/// Calls that wait, of many callers. When it is full, a caller with fewer calls than another takes
/// the last place of that one.
#[derive(Debug)]
pub struct Queue<T> {
    limit: usize,
    next: u64,
    len: usize,
    nodes: Turns<String, Node<T>>,
}

/// Lists by key, each once; whose turn it is is in front. Never an empty list.
#[derive(Debug)]
struct Turns<K, L> {
    order: VecDeque<K>,
    lists: HashMap<K, L>,
}

#[derive(Debug)]
struct Node<T> {
    len: usize,
    clients: Turns<u32, VecDeque<Waiting<T>>>,
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: Ticket,
    need: Need,
    item: T,
}

impl<K: Clone + Eq + Hash, L> Turns<K, L> {
    fn new() -> Self {
        Self { order: VecDeque::new(), lists: HashMap::new() }
    }

    fn entry(&mut self, key: &K, fresh: impl FnOnce() -> L) -> &mut L {
        self.lists.entry(key.clone()).or_insert_with(|| {
            self.order.push_back(key.clone());
            fresh()
        })
    }

    /// Ends the turn at this place of the order: goes to the end, or away with an empty list.
    fn turn(&mut self, place: usize, is_empty: impl FnOnce(&L) -> bool) {
        let Some(key) = self.order.remove(place) else { return };
        if self.lists.get(&key).is_none_or(is_empty) {
            self.lists.remove(&key);
        } else {
            self.order.push_back(key);
        }
    }

    fn remove_if<Q>(&mut self, key: &Q, is_empty: impl FnOnce(&L) -> bool)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if self.lists.get(key).is_some_and(is_empty) {
            self.lists.remove(key);
            self.order.retain(|other| other.borrow() != key);
        }
    }
}

impl<T> Node<T> {
    fn new() -> Self {
        Self { len: 0, clients: Turns::new() }
    }

    fn line(&self, client: u32) -> usize {
        self.clients.lists.get(&client).map_or(0, VecDeque::len)
    }

    fn longest(&self) -> Option<(u32, usize)> {
        let lines = self.clients.lists.iter().map(|(client, line)| (*client, line.len()));
        lines.max_by_key(|(client, len)| (*len, *client))
    }

    /// The next call that `offer` serves, and the place of its client in the turns.
    fn find(&self, offer: Offer) -> Option<(usize, usize)> {
        self.clients.order.iter().enumerate().find_map(|(turn, client)| {
            let line = self.clients.lists.get(client)?;
            Some((turn, line.iter().position(|w| offer.serves(w.need))?))
        })
    }

    fn take(&mut self, turn: usize, place: usize) -> Option<T> {
        let client = *self.clients.order.get(turn)?;
        let taken = self.clients.lists.get_mut(&client)?.remove(place)?;
        self.clients.turn(turn, VecDeque::is_empty);
        self.len -= 1;
        Some(taken.item)
    }

    fn remove(&mut self, client: u32, place: usize) -> Option<T> {
        let taken = self.clients.lists.get_mut(&client)?.remove(place)?;
        self.clients.remove_if(&client, VecDeque::is_empty);
        self.len -= 1;
        Some(taken.item)
    }
}

impl<T> Queue<T> {
    /// Takes at most `limit` calls.
    pub fn new(limit: usize) -> Self {
        Self { limit, next: 0, len: 0, nodes: Turns::new() }
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
        let lines = self.nodes.lists.values().flat_map(|node| node.clients.lists.values());
        lines.flatten().filter(|w| offer.serves(w.need)).count()
    }

    /// Adds a call to the end of its caller's line.
    pub fn push(&mut self, caller: Caller<'_>, need: Need, item: T) -> Result<Pushed<T>, Full> {
        let mut displaced = None;
        if self.len >= self.limit {
            displaced = Some(self.displace(caller).ok_or(Full { waiting: self.len })?);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.len += 1;
        let node = self.nodes.entry(&caller.node.to_owned(), Node::new);
        node.len += 1;
        let line = node.clients.entry(&caller.client, VecDeque::new);
        line.push_back(Waiting { ticket, need, item });
        Ok(Pushed { ticket, displaced })
    }

    /// Takes the newest call of whoever has the most, if that is fairer: who displaces has not
    /// more than who is displaced, afterwards.
    fn displace(&mut self, by: Caller<'_>) -> Option<T> {
        let (longest, most) = {
            let nodes = self.nodes.lists.iter().map(|(name, node)| (name, node.len));
            nodes.max_by_key(|(name, len)| (*len, *name))?
        };
        let own = self.nodes.lists.get(by.node);
        let name = match own.map_or(0, |own| own.len) {
            own if most > own + 1 => longest.clone(),
            _ => {
                let own = own?;
                own.longest().filter(|(_, most)| *most > own.line(by.client) + 1)?;
                by.node.to_owned()
            }
        };
        let node = self.nodes.lists.get_mut(&name)?;
        let (client, len) = node.longest()?;
        let taken = node.remove(client, len - 1)?;
        self.nodes.remove_if(&name, |node| node.len == 0);
        self.len -= 1;
        Some(taken)
    }

    /// Takes the call that runs on what became free: of the caller whose turn it is, else of the
    /// next one that has a use for it. Who was served goes to the end.
    pub fn take(&mut self, offer: Offer) -> Option<T> {
        let found =
            self.nodes.order.iter().enumerate().find_map(|(turn, name)| {
                Some((turn, name, self.nodes.lists.get(name)?.find(offer)?))
            });
        let (turn, name, (client, place)) = found?;
        let taken = self.nodes.lists.get_mut(&name.clone())?.take(client, place)?;
        self.nodes.turn(turn, |node| node.len == 0);
        self.len -= 1;
        Some(taken)
    }

    /// Takes back a call that waits no longer; `None` when it was taken already.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let (name, client, place) = self.nodes.lists.iter().find_map(|(name, node)| {
            node.clients.lists.iter().find_map(|(client, line)| {
                let place = line.iter().position(|w| w.ticket == ticket)?;
                Some((name.clone(), *client, place))
            })
        })?;
        let taken = self.nodes.lists.get_mut(&name)?.remove(client, place)?;
        self.nodes.remove_if(&name, |node| node.len == 0);
        self.len -= 1;
        Some(taken)
    }

    /// Empties the queue.
    pub fn drain(&mut self) -> Vec<T> {
        self.len = 0;
        self.nodes.order.clear();
        let nodes = self.nodes.lists.drain().map(|(_, node)| node);
        let lines = nodes.flat_map(|node| node.clients.lists.into_values());
        lines.flatten().map(|w| w.item).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A call of the first program of a node.
    fn of(node: &str) -> Caller<'_> {
        Caller { node, client: 1 }
    }

    #[test]
    fn a_flood_of_one_caller_does_not_delay_another() {
        let mut queue = Queue::new(16);
        for i in 0..8 {
            queue.push(of("flood"), Need::Lane, ("flood", i)).unwrap();
        }
        queue.push(of("ann"), Need::Lane, ("ann", 0)).unwrap();
        queue.push(of("ann"), Need::Lane, ("ann", 1)).unwrap();
        let order: Vec<_> = (0..5).filter_map(|_| queue.take(Offer::Lane)).collect();
        assert_eq!(order, [("flood", 0), ("ann", 0), ("flood", 1), ("ann", 1), ("flood", 2)]);
    }

    #[test]
    fn a_full_queue_says_how_long_it_is() {
        let mut queue = Queue::new(2);
        queue.push(of("a"), Need::Lane, 1).unwrap();
        queue.push(of("b"), Need::Lane, 2).unwrap();
        let full = queue.push(of("c"), Need::Lane, 3).unwrap_err();
        assert_eq!((full, queue.len()), (Full { waiting: 2 }, 2));
    }

    #[test]
    fn who_has_the_most_makes_room_and_nobody_else() {
        let mut queue = Queue::new(4);
        let flood = |client| Caller { node: "flood", client };
        for n in 0..4 {
            queue.push(flood(1), Need::Lane, ("flood", n)).unwrap();
        }
        assert!(queue.push(flood(1), Need::Lane, ("flood", 4)).is_err());
        // Another program of the same node, then another node.
        let displaced = queue.push(flood(2), Need::Lane, ("second", 0)).unwrap().displaced;
        assert_eq!(displaced, Some(("flood", 3)));
        let displaced = queue.push(of("ann"), Need::Lane, ("ann", 0)).unwrap().displaced;
        assert_eq!(displaced, Some(("flood", 2)));
        // More programs share what the node has: they bring it no more places.
        let displaced = queue.push(flood(3), Need::Lane, ("third", 0)).unwrap().displaced;
        assert_eq!(displaced, Some(("flood", 1)));
        let displaced = queue.push(of("ann"), Need::Lane, ("ann", 1)).unwrap().displaced;
        assert_eq!(displaced, Some(("third", 0)));
        assert!(queue.push(of("ann"), Need::Lane, ("ann", 2)).is_err());
        let order: Vec<_> = std::iter::from_fn(|| queue.take(Offer::Lane)).collect();
        assert_eq!(order, [("flood", 0), ("ann", 0), ("second", 0), ("ann", 1)]);
    }

    #[test]
    fn replicas_take_only_stateless_calls() {
        let mut queue = Queue::new(4);
        queue.push(of("a"), Need::Lane, "state").unwrap();
        queue.push(of("a"), Need::AnyLane, "pure").unwrap();
        assert_eq!(queue.take(Offer::Loop), None);
        assert_eq!(queue.take(Offer::ReplicaLane), Some("pure"));
        assert_eq!(queue.take(Offer::ReplicaLane), None);
        assert_eq!(queue.take(Offer::Lane), Some("state"));
    }

    #[test]
    fn shared_lanes_take_only_brief_calls() {
        const A: Caller<'_> = Caller { node: "a", client: 0 };
        let mut queue = Queue::new(4);
        queue.push(A, Need::AnyLane, "long").unwrap();
        queue.push(A, Need::Brief, "state").unwrap();
        queue.push(A, Need::AnyLane.brief(), "pure").unwrap();
        assert_eq!(queue.take(Offer::ReplicaShared), Some("pure"));
        assert_eq!(queue.take(Offer::ReplicaShared), None);
        assert_eq!(queue.take(Offer::Shared), Some("state"));
        assert_eq!(queue.take(Offer::Shared), None);
        queue.push(A, Need::Brief, "more").unwrap();
        assert_eq!(queue.take(Offer::OwnLane), Some("long"));
        assert_eq!(queue.take(Offer::OwnLane), None);
        assert_eq!(queue.take(Offer::Lane), Some("more"), "where there is no shared one");
    }

    #[derive(Debug, Clone)]
    enum Op {
        Push(u8, u8, u8),
        Take(u8),
        Remove(u8),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..3u8, 0..3u8, 0..3u8).prop_map(|(node, c, n)| Op::Push(node, c, n)),
            (0..3u8).prop_map(Op::Take),
            any::<u8>().prop_map(Op::Remove),
        ]
    }

    proptest! {
        /// Nothing is lost or doubled, the bound holds, each caller's calls of one need come out in
        /// the order they went in, and whoever is displaced had more than who took its place.
        #[test]
        fn behaves_like_a_list(ops in prop::collection::vec(op(), 0..200)) {
            const LIMIT: usize = 12;
            let needs = [Need::Lane, Need::AnyLane, Need::Loop];
            let offers = [Offer::Lane, Offer::ReplicaLane, Offer::Loop];
            let mut queue = Queue::new(LIMIT);
            let mut model: Vec<(Ticket, (u8, u8), Need, usize)> = Vec::new();
            for (step, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Push(node, client, need) => {
                        let (need, of) = (needs[need as usize], (node, client));
                        let count = |of: &dyn Fn((u8, u8)) -> bool| {
                            model.iter().filter(|m| of(m.1)).count()
                        };
                        let (own_node, own) = (count(&|c| c.0 == node), count(&|c| c == of));
                        let name = node.to_string();
                        let caller = Caller { node: &name, client: client.into() };
                        match queue.push(caller, need, step) {
                            Ok(pushed) => {
                                if let Some(gone) = pushed.displaced {
                                    prop_assert_eq!(model.len(), LIMIT);
                                    let at = model.iter().position(|m| m.3 == gone).unwrap();
                                    let whose = model[at].1;
                                    prop_assert!(!model[at + 1..].iter().any(|m| m.1 == whose));
                                    let theirs = count(&|c| c.0 == whose.0);
                                    let fair = match whose.0 == node {
                                        true => count(&|c| c == whose) > own + 1,
                                        false => theirs > own_node + 1,
                                    };
                                    prop_assert!(fair);
                                    model.remove(at);
                                }
                                model.push((pushed.ticket, of, need, step));
                            }
                            Err(full) => {
                                prop_assert_eq!(full.waiting, LIMIT);
                                for other in 0..3 {
                                    prop_assert!(count(&|c| c.0 == other) <= own_node + 1);
                                    prop_assert!(count(&|c| c == (node, other)) <= own + 1);
                                }
                            }
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

        /// A round serves every waiting caller once, however long the lines of others are; and a
        /// round of a node's turns every program on it.
        #[test]
        fn nobody_waits_longer_than_a_round(
            sizes in prop::collection::vec(1..20usize, 1..6),
            programs in any::<bool>(),
        ) {
            let mut queue = Queue::new(1_000);
            for (caller, size) in sizes.iter().enumerate() {
                let name = if programs { "one".into() } else { caller.to_string() };
                for _ in 0..*size {
                    let caller_of = Caller { node: &name, client: caller as u32 };
                    queue.push(caller_of, Need::Lane, caller).unwrap();
                }
            }
            let round: std::collections::HashSet<_> =
                (0..sizes.len()).filter_map(|_| queue.take(Offer::Lane)).collect();
            prop_assert_eq!(round.len(), sizes.len());
        }
    }
}
