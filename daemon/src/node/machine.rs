//! What this machine has.

use std::collections::BTreeMap;

use rhd_protocol::compute::{Amounts, Labels, MAX_ENTRIES, MAX_TEXT, Offer, UNIT};

/// What the system says, and the settings in its place where they speak: an amount of 0 hides what
/// is there.
pub(super) fn offer(resources: &BTreeMap<String, f64>, labels: &Labels) -> Offer {
    let mut total = detected();
    for (name, amount) in resources.iter().filter(|(name, _)| !name.is_empty()) {
        // Saturates; what is no number of things is none of them.
        total.insert(name.clone(), (amount.max(0.0) * UNIT as f64).round() as u64);
    }
    let mut all = Labels::from([
        ("arch".to_owned(), std::env::consts::ARCH.to_owned()),
        ("os".to_owned(), std::env::consts::OS.to_owned()),
    ]);
    all.extend(labels.clone());
    total.retain(|name, _| name.len() <= MAX_TEXT);
    all.retain(|name, value| {
        [name, value].iter().all(|text| !text.is_empty() && text.len() <= MAX_TEXT)
    });
    let total: Amounts = total.into_iter().take(MAX_ENTRIES).collect();
    let labels = all.into_iter().take(MAX_ENTRIES).collect();
    Offer { free: total.clone(), total, labels }
}

fn detected() -> Amounts {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let mut found = Amounts::from([("cpus".to_owned(), cpus * UNIT)]);
    #[cfg(target_os = "linux")]
    {
        let info = rustix::system::sysinfo();
        let bytes = u128::from(info.totalram) * u128::from(info.mem_unit);
        let gib = (bytes * u128::from(UNIT)) >> 30;
        found.insert("memory".to_owned(), u64::try_from(gib).unwrap_or(u64::MAX));
        found.insert("gpus".to_owned(), nvidia() * UNIT);
    }
    found
}

/// NVIDIA's driver makes one of these for each GPU.
#[cfg(target_os = "linux")]
fn nvidia() -> u64 {
    let Ok(devices) = std::fs::read_dir("/dev") else { return 0 };
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    devices.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_gpu)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_speak_louder_than_the_system() {
        let resources = [("gpus".to_owned(), 2.0), ("cpus".to_owned(), 0.5), ("tpus".into(), -1.0)];
        let labels = Labels::from([("zone".into(), "eu".into()), ("long".into(), "x".repeat(999))]);
        let offer = offer(&resources.into(), &labels);
        assert_eq!((offer.total["gpus"], offer.total["cpus"]), (2000, 500));
        assert_eq!(offer.total["tpus"], 0);
        assert_eq!(offer.labels["zone"], "eu");
        assert!(offer.labels.contains_key("arch") && !offer.labels.contains_key("long"));
        assert!(offer.is_bounded() && offer.free == offer.total);
    }

    #[test]
    fn a_machine_has_at_least_one_processor() {
        assert!(offer(&BTreeMap::new(), &Labels::new()).total["cpus"] >= UNIT);
    }
}
