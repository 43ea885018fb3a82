//! What this node has just done on peers, until their presence says the same: whoever deploys a
//! name can call it at once.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rhd_protocol::{id::NodeId, service::ServiceAd};

/// How long a peer's presence may take to catch up; after that it is right and we are not.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Names that are remembered; beyond this the oldest go.
const MAX_FRESH: usize = 1_000;

/// Services put on peers lately, or taken off them.
#[derive(Default)]
pub(super) struct Fresh(Mutex<Changes>);

type Changes = HashMap<(NodeId, String), Change>;

struct Change {
    at: Instant,
    /// What is there now; none: nothing any more.
    ad: Option<ServiceAd>,
}

impl Fresh {
    /// Notes what a peer hosts now under a name.
    pub(super) fn note(&self, peer: NodeId, name: &str, ad: Option<ServiceAd>, now: Instant) {
        let mut fresh = self.lock();
        fresh.retain(|_, change| now.duration_since(change.at) < CATCH_UP);
        if fresh.len() >= MAX_FRESH
            && let Some(oldest) =
                fresh.iter().min_by_key(|(_, change)| change.at).map(|(key, _)| key.clone())
        {
            fresh.remove(&oldest);
        }
        fresh.insert((peer, name.into()), Change { at: now, ad });
    }

    /// A peer's services as it says, changed by what we know better.
    pub(super) fn correct(&self, peer: NodeId, said: &[ServiceAd], now: Instant) -> Vec<ServiceAd> {
        let mut ads = said.to_vec();
        for ((node, name), change) in self.lock().iter() {
            if *node != peer || now.duration_since(change.at) >= CATCH_UP {
                continue;
            }
            let known = ads.iter().position(|known| known.name == *name);
            match (known, &change.ad) {
                (Some(i), Some(ad)) if ads[i].generation < ad.generation => ads[i] = ad.clone(),
                (Some(i), None) => drop(ads.remove(i)),
                (None, Some(ad)) => ads.push(ad.clone()),
                _ => {}
            }
        }
        ads
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rhd_protocol::{id::Hash, service::ServiceKind};

    use super::*;

    fn ad(name: &str, generation: u64) -> ServiceAd {
        let version = Hash::of(name.as_bytes());
        let (name, env) = (name.into(), "base".into());
        ServiceAd { name, kind: ServiceKind::Function, env, version, generation }
    }

    #[test]
    fn what_was_just_done_counts_until_presence_catches_up() {
        let (fresh, now, peer) = (Fresh::default(), Instant::now(), NodeId::from_bytes([1; 32]));
        fresh.note(peer, "/a/new", Some(ad("/a/new", 1)), now);
        fresh.note(peer, "/a/old", Some(ad("/a/old", 2)), now);
        fresh.note(peer, "/a/gone", None, now);
        let said = [ad("/a/old", 1), ad("/a/gone", 1)];
        let mut corrected = fresh.correct(peer, &said, now);
        corrected.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(corrected, [ad("/a/new", 1), ad("/a/old", 2)]);
        assert_eq!(fresh.correct(NodeId::from_bytes([2; 32]), &said, now), said);
        assert_eq!(fresh.correct(peer, &said, now + CATCH_UP), said);
        let ahead = [ad("/a/old", 3)];
        assert!(fresh.correct(peer, &ahead, now).contains(&ad("/a/old", 3)));
    }
}
