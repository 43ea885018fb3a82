//! Which of a node's GPUs an env has.

use std::cmp::Reverse;

use crate::compute::UNIT;

/// No node has more of them.
pub const MAX_DEVICES: u32 = 1024;

/// What an env has: each device whole, but for the last where the amount is no whole number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// In thousandths.
    pub amount: u64,
    /// By index.
    pub devices: Vec<u32>,
}

impl Held {
    fn parts(&self) -> impl Iterator<Item = (u32, u64)> {
        self.devices.iter().scan(self.amount, |left, device| {
            let part = UNIT.min(*left);
            *left -= part;
            Some((*device, part))
        })
    }
}

/// How much of each device is held.
fn used<'a>(count: u32, held: impl IntoIterator<Item = &'a Held>) -> Vec<u64> {
    let mut used = vec![0; count.min(MAX_DEVICES) as usize];
    for (device, part) in held.into_iter().flat_map(Held::parts) {
        if let Some(used) = used.get_mut(device as usize) {
            *used += part;
        }
    }
    used
}

/// Devices for `amount` of a node's `count`, beside what others hold. Whole ones nobody uses; for a
/// part, the fullest that has room for it, so that whole ones stay whole. Where room is only left in
/// pieces, those that are used least.
pub fn choose<'a>(count: u32, amount: u64, others: impl IntoIterator<Item = &'a Held>) -> Held {
    let used = used(count, others);
    let of = |device: &u32| used[*device as usize];
    let mut chosen: Vec<u32> = (0..used.len() as u32).collect();
    chosen.sort_by_key(|device| (of(device), *device));
    let whole = usize::try_from(amount / UNIT).unwrap_or(usize::MAX).min(chosen.len());
    let rest = chosen.split_off(whole);
    chosen.sort_unstable();
    let part = amount % UNIT;
    if part > 0 {
        let roomy = rest.iter().filter(|device| of(device) + part <= UNIT);
        let fullest = roomy.max_by_key(|device| (of(device), Reverse(**device)));
        chosen.extend(fullest.or(rest.first()));
    }
    Held { amount, devices: chosen }
}

/// Whether what an env had is still free beside what others hold.
pub fn is_free<'a>(count: u32, held: &Held, others: impl IntoIterator<Item = &'a Held>) -> bool {
    let used = used(count, others);
    held.parts().all(|(device, part)| used.get(device as usize).is_some_and(|u| u + part <= UNIT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_share_a_device_and_whole_ones_are_left_whole() {
        let first = choose(4, 500, []);
        assert_eq!(first.devices, [0]);
        let second = choose(4, 1500, [&first]);
        assert_eq!(second.devices, [1, 0]);
        let third = choose(4, 2000, [&first, &second]);
        assert_eq!(third.devices, [2, 3]);
        assert!(choose(0, 1000, []).devices.is_empty());
        assert!(is_free(4, &first, [&second, &third]) && !is_free(4, &first, [&first, &second]));
    }

    proptest! {
        /// Nobody gets a device twice, or one that is not there; and whoever asks for whole devices
        /// shares none while there are enough.
        #[test]
        fn whole_devices_are_shared_with_nobody(
            count in 0..6u32,
            amounts in prop::collection::vec(1..4000u64, 0..8),
        ) {
            let mut held: Vec<Held> = Vec::new();
            for amount in amounts {
                let next = choose(count, amount, &held);
                let mut distinct = next.devices.clone();
                distinct.sort_unstable();
                distinct.dedup();
                prop_assert_eq!(distinct.len(), next.devices.len());
                prop_assert!(distinct.iter().all(|device| *device < count));
                prop_assert_eq!(next.devices.len() as u64, amount.div_ceil(UNIT).min(count.into()));
                let before = used(count, &held);
                let untouched = before.iter().filter(|used| **used == 0).count() as u64;
                if amount % UNIT == 0 && untouched >= amount / UNIT {
                    prop_assert!(is_free(count, &next, &held));
                }
                held.push(next);
            }
        }
    }
}
