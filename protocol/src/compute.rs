//! What an env needs of its node, and what a node has to give.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Resources, and labels, that one message may list.
pub const MAX_ENTRIES: usize = 64;
/// The longest name of a resource or label and the longest value of a label, in bytes.
pub const MAX_TEXT: usize = 100;
/// Amounts are counted in this part of one: half a GPU is 500.
pub const UNIT: u64 = 1000;

/// Amounts of resources, in thousandths: `cpus`, `gpus`, `memory` in GiB, and whatever else a node's
/// settings declare.
pub type Amounts = BTreeMap<String, u64>;
/// Free texts: `zone = "eu"`.
pub type Labels = BTreeMap<String, String>;

/// What an env needs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Compute {
    /// At least these amounts, for as long as anything lives in the env.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub amounts: Amounts,
    /// Exactly these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl Compute {
    /// Whether any node will do.
    pub fn is_empty(&self) -> bool {
        self.amounts.values().all(|amount| *amount == 0) && self.labels.is_empty()
    }

    /// Whether it is within the limits.
    pub fn is_bounded(&self) -> bool {
        bounded(&self.amounts, &self.labels)
    }
}

/// What a node has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offer {
    /// All of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub total: Amounts,
    /// What no env holds; never more than `total`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub free: Amounts,
    /// What it is like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl Offer {
    /// Whether it says nothing, as nodes do that know nothing of resources.
    pub fn is_empty(&self) -> bool {
        self.total.is_empty() && self.labels.is_empty()
    }

    /// Whether it is within the limits.
    pub fn is_bounded(&self) -> bool {
        self.free.len() <= MAX_ENTRIES && bounded(&self.total, &self.labels)
    }

    /// The same node with what these envs need taken.
    pub fn less<'a>(&self, taken: impl IntoIterator<Item = &'a Compute>) -> Self {
        let mut free = self.total.clone();
        for (name, amount) in taken.into_iter().flat_map(|compute| &compute.amounts) {
            if let Some(left) = free.get_mut(name) {
                *left = left.saturating_sub(*amount);
            }
        }
        Self { free, ..self.clone() }
    }
}

fn bounded(amounts: &Amounts, labels: &Labels) -> bool {
    let texts = amounts.keys().chain(labels.keys()).chain(labels.values());
    amounts.len() <= MAX_ENTRIES
        && labels.len() <= MAX_ENTRIES
        && texts.into_iter().all(|text| !text.is_empty() && text.len() <= MAX_TEXT)
}

/// An amount as people write it: `2`, `0.5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(pub u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / UNIT, self.0 % UNIT);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let part = format!("{part:03}");
        write!(f, "{whole}.{}", part.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_people_write_them() {
        let shown = [0, 500, 1000, 2050, 1].map(|n| Amount(n).to_string());
        assert_eq!(shown, ["0", "0.5", "1", "2.05", "0.001"]);
    }

    #[test]
    fn what_is_taken_is_not_free_and_never_below_nothing() {
        let total = Amounts::from([("cpus".into(), 4000), ("gpus".into(), 1000)]);
        let node = Offer { total, ..Offer::default() };
        let taken = |n| Compute { amounts: [("cpus".into(), n)].into(), ..Compute::default() };
        let left = node.less([&taken(1500), &taken(1000)]);
        assert_eq!(left.free, [("cpus".into(), 1500), ("gpus".into(), 1000)].into());
        assert_eq!(node.less([&taken(9000)]).free["cpus"], 0);
    }
}
