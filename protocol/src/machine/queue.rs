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
mod tests;
