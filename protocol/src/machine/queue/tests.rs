//! Turns are taken by nodes, then by clients, whatever they do.

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
