//! The GPUs of this node, each env's own: by index, for as long as something lives in the env.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use rhd_protocol::{
    compute::UNIT,
    machine::devices::{self, Held, MAX_DEVICES},
};

use super::Inner;

/// The resource whose amounts are devices.
const GPUS: &str = "gpus";
/// Envs that are remembered with what they had; beyond this those in which nothing lives go.
const REMEMBERED: usize = 256;

/// Which env has which.
#[derive(Debug, Default)]
pub(super) struct Devices {
    held: Mutex<BTreeMap<String, Held>>,
}

/// Gives every env that needs some its devices. It keeps those that it has, and finds those again
/// that it had when nothing lived in it, unless another has them now; where they change, its
/// processes do.
pub(super) fn confine(inner: &Inner) {
    let machine = inner.capacity.machine().total.get(GPUS).copied().unwrap_or(0);
    let count = u32::try_from(machine.div_ceil(UNIT)).unwrap_or(MAX_DEVICES);
    let needed = inner.capacity.taken(inner, GPUS);
    let mut held = inner.devices.held.lock().unwrap_or_else(PoisonError::into_inner);
    if held.len() > REMEMBERED {
        held.retain(|key, _| needed.contains_key(key));
    }
    let mut settled: BTreeMap<&str, Held> = BTreeMap::new();
    // Those that have theirs come first, whatever their names.
    for had in [true, false] {
        for (key, amount) in &needed {
            if settled.contains_key(key.as_str()) {
                continue;
            }
            let before = held.get(key).filter(|held| held.amount == *amount);
            let kept = before.filter(|b| devices::is_free(count, b, settled.values())).cloned();
            match kept {
                Some(kept) => drop(settled.insert(key, kept)),
                None if had => {}
                None => {
                    let chosen = devices::choose(count, *amount, settled.values());
                    settled.insert(key, chosen);
                }
            }
        }
    }
    for (key, now) in settled {
        inner.workers.confine(key, &now.devices);
        held.insert(key.to_owned(), now);
    }
}
