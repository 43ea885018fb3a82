//! Which host of a service gets a call.

use std::cmp::Reverse;

use crate::id::{Hash, NodeId};

/// A node that says it hosts the service, as presence and its link tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// Which deployment of the name it has.
    pub generation: u64,
    /// Which code.
    pub version: Hash,
    /// Calls that run or wait there.
    pub load: u32,
    /// Round trip in microseconds, where measured.
    pub rtt_us: Option<u64>,
    /// Whether a link to it is up.
    pub linked: bool,
    /// Whether it is this node.
    pub here: bool,
}

/// What the call asks of its host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    /// The only node that will do, whichever deployment it has.
    pub node: Option<NodeId>,
    /// Nodes that could not be reached for this call.
    pub unreachable: Vec<NodeId>,
    /// Calls of one key go to one host, the same for all who know the same hosts, however busy.
    pub key: Option<Hash>,
}

/// Why no host was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody hosts it.
    #[error("no node hosts it")]
    Nowhere,
    /// Others host it, the wished node does not.
    #[error("that node does not host it")]
    Elsewhere {
        /// Who does, best first.
        hosts: Vec<NodeId>,
    },
    /// All that could serve the call could not be reached; hosts of older deployments don't count.
    #[error("none of its {} hosts can be reached", hosts.len())]
    Unreachable {
        /// Who they are.
        hosts: Vec<NodeId>,
    },
}

/// Picks the host: of the newest deployment only, linked before known, then the shortest queue, then
/// the shortest way; this node when all else is equal.
pub fn pick<'a>(candidates: &'a [Candidate], wish: &Wish) -> Result<&'a Candidate, Refusal> {
    let hosts = match wish.node {
        Some(node) => candidates.iter().filter(|c| c.node == node).collect(),
        None => newest(candidates),
    };
    if hosts.is_empty() {
        return Err(match candidates {
            [] => Refusal::Nowhere,
            _ => Refusal::Elsewhere { hosts: ranked(newest(candidates)) },
        });
    }
    let reachable = hosts.iter().filter(|c| !wish.unreachable.contains(&c.node));
    let best = match wish.key {
        Some(key) => reachable.min_by_key(|c| affinity(key, c.node)),
        None => reachable.min_by_key(|c| rank(c)),
    };
    match best {
        Some(host) => Ok(host),
        None => Err(Refusal::Unreachable { hosts: ranked(hosts) }),
    }
}

/// Those with the highest generation. Two deployments that did not know of each other may share it:
/// the higher version wins then, on every node alike.
fn newest(candidates: &[Candidate]) -> Vec<&Candidate> {
    let deployment = |c: &Candidate| (c.generation, c.version);
    let newest = candidates.iter().map(deployment).max();
    candidates.iter().filter(|c| Some(deployment(c)) == newest).collect()
}

/// Lower is better; the node's id makes it total.
fn rank(c: &Candidate) -> (Reverse<bool>, u32, u64, Reverse<bool>, NodeId) {
    let way = if c.here { 0 } else { c.rtt_us.unwrap_or(u64::MAX) };
    (Reverse(c.linked || c.here), c.load, way, Reverse(c.here), c.node)
}

/// Lower is nearer. Each key has an order of nodes of its own, in which no other node matters.
fn affinity(key: Hash, node: NodeId) -> Hash {
    Hash::of(&[key.as_bytes().as_slice(), node.as_bytes().as_slice()].concat())
}

fn ranked(mut hosts: Vec<&Candidate>) -> Vec<NodeId> {
    hosts.sort_by_key(|c| rank(c));
    hosts.iter().map(|c| c.node).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn host(n: u8) -> Candidate {
        Candidate {
            node: node(n),
            generation: 1,
            version: Hash::from_bytes([1; 32]),
            load: 0,
            rtt_us: Some(100),
            linked: true,
            here: false,
        }
    }

    fn picked(candidates: &[Candidate]) -> NodeId {
        pick(candidates, &Wish::default()).unwrap().node
    }

    #[test]
    fn an_older_deployment_never_serves_however_idle() {
        let old = Candidate { here: true, ..host(1) };
        let new = Candidate { generation: 2, load: 90, linked: false, ..host(2) };
        assert_eq!(picked(&[old.clone(), new.clone()]), node(2));
        let wish = Wish { unreachable: vec![node(2)], ..Wish::default() };
        let both = [old, new];
        assert_eq!(pick(&both, &wish), Err(Refusal::Unreachable { hosts: vec![node(2)] }));
        let wish = Wish { node: Some(node(1)), ..Wish::default() };
        assert_eq!(pick(&both, &wish).unwrap().node, node(1), "unless it was asked for");
    }

    #[test]
    fn link_then_queue_then_way_then_here() {
        let unlinked = Candidate { linked: false, ..host(1) };
        let busy = Candidate { load: 3, rtt_us: Some(1), ..host(2) };
        let far = Candidate { rtt_us: Some(9_000), ..host(3) };
        let unmeasured = Candidate { rtt_us: None, ..host(4) };
        let near = host(5);
        let here = Candidate { here: true, linked: false, rtt_us: None, ..host(6) };
        let mut all = vec![unlinked, busy, unmeasured, far, near, here];
        while let Some(best) = all.pop() {
            assert_eq!(picked(&[&all[..], std::slice::from_ref(&best)].concat()), best.node);
            if best.node == node(2) {
                break;
            }
        }
    }

    #[test]
    fn refusals_say_where_it_is() {
        let wish = Wish { node: Some(node(9)), ..Wish::default() };
        assert_eq!(pick(&[], &wish), Err(Refusal::Nowhere));
        let busy = Candidate { load: 1, ..host(1) };
        let hosts = [busy, host(2)];
        assert_eq!(pick(&hosts, &wish), Err(Refusal::Elsewhere { hosts: vec![node(2), node(1)] }));
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0..3u64, 0..3u8, 0..3u32, option::of(0..3u64), any::<bool>());
        (vec(one, 0..8), 0..8usize).prop_map(|(all, here)| {
            let numbered = all.into_iter().zip(0..);
            numbered
                .map(|((generation, version, load, rtt_us, linked), n)| Candidate {
                    node: node(n),
                    generation,
                    version: Hash::from_bytes([version; 32]),
                    load,
                    rtt_us,
                    linked,
                    here: usize::from(n) == here,
                })
                .collect()
        })
    }

    /// The rule as one would say it: rounds of elimination, none of which ends with nobody.
    fn model(all: &[Candidate], wish: &Wish) -> Option<NodeId> {
        type Better = fn(&Candidate, &Candidate) -> bool;
        fn eliminate<'a>(mut left: Vec<&'a Candidate>, rounds: &[Better]) -> Vec<&'a Candidate> {
            for better in rounds {
                let before = left.clone();
                left.retain(|c| !before.iter().any(|other| better(other, c)));
            }
            left
        }
        fn way(c: &Candidate) -> Option<u64> {
            if c.here { Some(0) } else { c.rtt_us }
        }
        let newest: [Better; 2] = [
            |a, b| a.generation > b.generation,
            |a, b| a.generation == b.generation && a.version > b.version,
        ];
        let mut left = match wish.node {
            Some(node) => all.iter().filter(|c| c.node == node).collect(),
            None => eliminate(all.iter().collect(), &newest),
        };
        left.retain(|c| !wish.unreachable.contains(&c.node));
        let rounds: [Better; 5] = [
            |a, b| (a.linked || a.here) && !(b.linked || b.here),
            |a, b| a.load < b.load,
            |a, b| way(a).is_some_and(|a| way(b).is_none_or(|b| a < b)),
            |a, b| a.here && !b.here,
            |a, b| a.node < b.node,
        ];
        eliminate(left, &rounds).first().map(|c| c.node)
    }

    proptest! {
        #[test]
        fn one_key_goes_to_one_host_for_all_who_reach_it(
            all in candidates(),
            loads in vec(0..9u32, 8),
            lost in 0..8u8,
            key in any::<u8>(),
        ) {
            let wish = |unreachable| {
                Wish { unreachable, key: Some(Hash::of(&[key])), ..Wish::default() }
            };
            let picked = |all: &[Candidate], wish: &Wish| pick(all, wish).ok().map(|c| c.node);
            let chosen = picked(&all, &wish(vec![]));
            // As another node sees them: other links, other queues.
            let other: Vec<Candidate> = all
                .iter()
                .zip(loads.iter().cycle())
                .map(|(c, load)| Candidate { load: *load, linked: !c.linked, ..c.clone() })
                .collect();
            prop_assert_eq!(picked(&other, &wish(vec![])), chosen);
            if Some(node(lost)) != chosen {
                prop_assert_eq!(picked(&all, &wish(vec![node(lost)])), chosen);
            }
        }

        #[test]
        fn it_does_what_the_model_says(
            all in candidates(),
            only in option::of(0..8u8),
            unreachable in vec(0..8u8, 0..4),
        ) {
            let wish = Wish {
                node: only.map(node),
                unreachable: unreachable.into_iter().map(node).collect(),
                key: None,
            };
            let got = pick(&all, &wish);
            prop_assert_eq!(got.clone().ok().map(|c| c.node), model(&all, &wish));
            // Whoever sees the same candidates in another order picks the same.
            let mut turned = all.clone();
            turned.reverse();
            prop_assert_eq!(pick(&turned, &wish), got.clone());
            if let Err(Refusal::Unreachable { hosts }) = &got {
                prop_assert!(hosts.iter().all(|h| wish.unreachable.contains(h)));
            }
        }
    }
}
