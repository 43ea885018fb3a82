//! What this node has to give to envs, and which node of the realm an env is put on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rhd_protocol::{
    compute::{Compute, Offer},
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    machine::placement::{self, Candidate, Reason},
};

use super::{Inner, devices};
use crate::{
    mesh,
    naming::{Hosted, Route},
};

/// What the machine has, and who is about to take of it.
pub(super) struct Capacity {
    machine: Offer,
    /// Envs whose first service is being installed, by key.
    coming: Mutex<Vec<(String, Compute)>>,
}

/// Holds what an env needs until what is installed in it holds it.
pub(super) struct Reserved<'a> {
    capacity: &'a Capacity,
    key: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut coming = self.capacity.coming();
        if let Some(at) = coming.iter().position(|(key, _)| *key == self.key) {
            coming.swap_remove(at);
        }
    }
}

impl Capacity {
    pub(super) fn new(machine: Offer) -> Self {
        Self { machine, coming: Mutex::default() }
    }

    fn coming(&self) -> MutexGuard<'_, Vec<(String, Compute)>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left beside all envs but `without`.
    fn offer(&self, hosted: &[Arc<Hosted>], coming: &[(String, Compute)], without: &str) -> Offer {
        let mut taken: BTreeMap<&str, Compute> = BTreeMap::new();
        let hosted = hosted.iter().map(|h| (h.service.env.as_str(), &h.env.compute));
        let coming = coming.iter().map(|(key, compute)| (key.as_str(), compute));
        for (key, compute) in hosted.chain(coming).filter(|(key, _)| *key != without) {
            // An env is taken once, whatever lives in it.
            let most = &mut taken.entry(key).or_default().amounts;
            for (name, amount) in &compute.amounts {
                let held = most.entry(name.clone()).or_default();
                *held = (*held).max(*amount);
            }
        }
        self.machine.less(taken.values())
    }

    /// All that the machine has.
    pub(super) fn machine(&self) -> &Offer {
        &self.machine
    }

    /// How much of a resource each env needs that holds any.
    pub(super) fn taken(&self, inner: &Inner, resource: &str) -> BTreeMap<String, u64> {
        let mut taken = BTreeMap::new();
        let mut note = |key: &str, compute: &Compute| {
            let amount = compute.amounts.get(resource).copied().unwrap_or(0);
            if amount > 0 {
                let held: &mut u64 = taken.entry(key.to_owned()).or_default();
                *held = amount.max(*held);
            }
        };
        for hosted in inner.naming.registry().all() {
            note(&hosted.service.env, &hosted.env.compute);
        }
        for (key, compute) in self.coming().iter() {
            note(key, compute);
        }
        taken
    }

    /// Takes what an env needs, or says why this node won't do.
    pub(super) fn reserve(&self, inner: &Inner, env: &EnvSpec) -> Result<Reserved<'_>, ErrorInfo> {
        let key = env.key();
        let hosted = inner.naming.registry().all();
        let mut coming = self.coming();
        let offer = self.offer(&hosted, &coming, &key);
        placement::fits(&env.compute, &offer).map_err(|reason| {
            let node = inner.mesh.name();
            refusal(&key, &[(node.clone(), reason)]).on(&node)
        })?;
        coming.push((key.clone(), env.compute.clone()));
        drop(coming);
        devices::confine(inner);
        Ok(Reserved { capacity: self, key })
    }

    /// What this node has left.
    pub(super) fn now(&self, inner: &Inner) -> Offer {
        self.offer(&inner.naming.registry().all(), &self.coming(), "")
    }
}

/// Tells the realm what is left here.
pub(super) fn announce(inner: &Inner) {
    inner.mesh.offer(inner.capacity.now(inner));
}

/// The nodes that an env can be put on, best first.
pub(super) fn place(inner: &Inner, env: &EnvSpec) -> Result<Vec<Route>, ErrorInfo> {
    let me = inner.mesh.me();
    let here = Candidate {
        node: me,
        offer: inner.capacity.now(inner),
        load: *inner.workers.load().borrow(),
        rtt_us: Some(0),
        linked: true,
        here: true,
    };
    let peers = inner.mesh.peers().borrow().clone();
    let there = peers.iter().map(|peer| Candidate {
        node: peer.node,
        offer: peer.record.as_ref().map(|record| record.offer.clone()).unwrap_or_default(),
        load: peer.record.as_ref().map_or(0, |record| record.load),
        rtt_us: peer.rtt.map(|rtt| rtt.as_micros() as u64),
        linked: peer.path != mesh::Route::None,
        here: false,
    });
    let candidates: Vec<Candidate> = std::iter::once(here).chain(there).collect();
    let route = |node: NodeId| if node == me { Route::Here } else { Route::Peer(node) };
    match placement::place(&env.compute, &candidates) {
        Ok(nodes) => Ok(nodes.into_iter().map(route).collect()),
        Err(refused) => {
            let refused: Vec<_> = refused
                .into_iter()
                .map(|(node, reason)| {
                    // A node that is away says nothing because it is away.
                    let away = candidates.iter().any(|c| c.node == node && !c.linked);
                    (inner.name_of(node), if away { Reason::Unreachable } else { reason })
                })
                .collect();
            Err(refusal(&env.key(), &refused).on(&inner.mesh.name()))
        }
    }
}

/// The error that names every node and why it will not do.
fn refusal(key: &str, refused: &[(String, Reason)]) -> ErrorInfo {
    let reasons: Vec<String> = refused.iter().map(|(node, why)| format!("{node} {why}")).collect();
    let message = format!("no node can take env {key}: {}", reasons.join("; "));
    if refused.iter().any(|(_, reason)| reason.passes()) {
        return ErrorInfo::new(ErrorKind::QueueFull, message)
            .hint("nothing ran; what lives in an env holds what it needs: `rhd ls` shows it, `rhd rm NAME` frees it");
    }
    ErrorInfo::new(ErrorKind::EnvError, message)
        .hint("nothing ran; ask for less in compute=…, or say what a node has: `rhd up --set node.labels='{zone=\"eu\"}' --set node.resources='{gpus=1}'`")
}
