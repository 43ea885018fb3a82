//! Which node an env is put on, and why the others are not.

use std::{cmp::Reverse, fmt};

use crate::{
    compute::{Amount, Compute, Offer},
    id::NodeId,
};

/// A node as presence and its link tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub node: NodeId,
    /// What it has.
    pub offer: Offer,
    /// Calls that run or wait there.
    pub load: u32,
    /// Round trip in microseconds, where measured.
    pub rtt_us: Option<u64>,
    /// Whether it can be reached.
    pub linked: bool,
    /// Whether it is this node.
    pub here: bool,
}

/// Why a node will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No link to it.
    Unreachable,
    /// It does not say what it has.
    Silent,
    /// It is labelled otherwise, or not at all.
    Label {
        /// Which.
        label: String,
        /// What is asked for.
        wanted: String,
        /// What it has.
        has: Option<String>,
    },
    /// It has less of it, all told.
    Lacks {
        /// What.
        resource: String,
        /// In thousandths.
        wanted: u64,
        /// In thousandths.
        has: u64,
    },
    /// It has enough, and others use it.
    Busy {
        /// What.
        resource: String,
        /// In thousandths.
        wanted: u64,
        /// In thousandths.
        free: u64,
        /// In thousandths.
        has: u64,
    },
}

impl Reason {
    /// Whether waiting may help.
    pub fn passes(&self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("can't be reached"),
            Self::Silent => f.write_str("does not say what it has"),
            Self::Label { label, wanted, has: Some(has) } => {
                write!(f, "has {label}={has}, not {wanted}")
            }
            Self::Label { label, wanted, has: None } => write!(f, "has no label {label}={wanted}"),
            Self::Lacks { resource, wanted, has: 0 } => {
                write!(f, "has no {resource} (wanted: {})", Amount(*wanted))
            }
            Self::Lacks { resource, wanted, has } => {
                write!(f, "has {} {resource} (wanted: {})", Amount(*has), Amount(*wanted))
            }
            Self::Busy { resource, wanted, free, has } => write!(
                f,
                "has {} of {} {resource} free (wanted: {})",
                Amount(*free),
                Amount(*has),
                Amount(*wanted)
            ),
        }
    }
}

/// Whether a node that has `offer` can take what needs `compute`.
pub fn fits(compute: &Compute, offer: &Offer) -> Result<(), Reason> {
    if compute.is_empty() {
        return Ok(());
    }
    if offer.is_empty() {
        return Err(Reason::Silent);
    }
    for (label, wanted) in &compute.labels {
        let has = offer.labels.get(label);
        if has != Some(wanted) {
            let (label, wanted, has) = (label.clone(), wanted.clone(), has.cloned());
            return Err(Reason::Label { label, wanted, has });
        }
    }
    let amount = |of: &crate::compute::Amounts, name: &str| of.get(name).copied().unwrap_or(0);
    // What it will never have is said before what it does not have now.
    for (resource, &wanted) in &compute.amounts {
        let has = amount(&offer.total, resource);
        if has < wanted {
            return Err(Reason::Lacks { resource: resource.clone(), wanted, has });
        }
    }
    for (resource, &wanted) in &compute.amounts {
        let (has, free) = (amount(&offer.total, resource), amount(&offer.free, resource));
        if free < wanted {
            return Err(Reason::Busy { resource: resource.clone(), wanted, free, has });
        }
    }
    Ok(())
}

/// The nodes that will do, best first: the least loaded, this one before others, then the nearest.
/// If none will do: every node with its reason.
pub fn place(
    compute: &Compute,
    candidates: &[Candidate],
) -> Result<Vec<NodeId>, Vec<(NodeId, Reason)>> {
    let (mut fit, mut refused) = (Vec::new(), Vec::new());
    for candidate in candidates {
        let reachable = candidate.linked || candidate.here;
        match fits(compute, &candidate.offer) {
            Ok(()) if reachable => fit.push(candidate),
            Ok(()) => refused.push((candidate.node, Reason::Unreachable)),
            Err(reason) => refused.push((candidate.node, reason)),
        }
    }
    if fit.is_empty() {
        return Err(refused);
    }
    fit.sort_by_key(|c| (c.load, Reverse(c.here), c.rtt_us.unwrap_or(u64::MAX), c.node));
    Ok(fit.into_iter().map(|c| c.node).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::compute::{Amounts, Labels};

    fn amounts(cpus: u64, gpus: u64) -> Amounts {
        Amounts::from([("cpus".into(), cpus), ("gpus".into(), gpus)])
    }

    fn zone(zone: Option<u8>) -> Labels {
        zone.map(|z| ("zone".into(), z.to_string())).into_iter().collect()
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let offer = (0u64..4, 0u64..3, 0u64..4, 0u64..3, proptest::option::of(0u8..2)).prop_map(
            |(cpus, gpus, used_cpus, used_gpus, z)| {
                let taken =
                    Compute { amounts: amounts(used_cpus, used_gpus), ..Compute::default() };
                Offer { total: amounts(cpus, gpus), labels: zone(z), ..Offer::default() }
                    .less([&taken])
            },
        );
        (any::<[u8; 2]>(), offer, 0u32..3, proptest::option::of(0u64..9), any::<bool>()).prop_map(
            |(id, offer, load, rtt_us, linked)| {
                let node =
                    NodeId::from_bytes([[id[0]; 16], [id[1]; 16]].concat().try_into().unwrap());
                Candidate { node, offer, load, rtt_us, linked, here: id[0] == 0 }
            },
        )
    }

    fn compute() -> impl Strategy<Value = Compute> {
        (0u64..4, 0u64..3, proptest::option::of(0u8..2))
            .prop_map(|(cpus, gpus, z)| Compute { amounts: amounts(cpus, gpus), labels: zone(z) })
    }

    proptest! {
        #[test]
        fn whoever_is_chosen_fits_and_a_refusal_names_everybody(
            needs in compute(),
            nodes in proptest::collection::vec(candidate(), 0..6),
        ) {
            match place(&needs, &nodes) {
                Ok(chosen) => {
                    prop_assert!(!chosen.is_empty());
                    for node in &chosen {
                        prop_assert!(nodes.iter().any(|c| c.node == *node
                            && (c.linked || c.here) && fits(&needs, &c.offer).is_ok()));
                    }
                }
                Err(refused) => {
                    prop_assert_eq!(refused.len(), nodes.len());
                    for ((node, reason), c) in refused.iter().zip(&nodes) {
                        prop_assert_eq!(*node, c.node);
                        prop_assert!(!reason.to_string().is_empty());
                        prop_assert!(fits(&needs, &c.offer).is_err() || !(c.linked || c.here));
                    }
                }
            }
        }
    }

    #[test]
    fn the_reason_is_the_one_that_waiting_does_not_mend() {
        let offer = Offer { total: amounts(2000, 1000), ..Offer::default() };
        let busy = offer.less([&Compute { amounts: amounts(2000, 0), ..Compute::default() }]);
        let needs = |cpus, gpus| Compute { amounts: amounts(cpus, gpus), ..Compute::default() };
        let says = |needs: &Compute| fits(needs, &busy).unwrap_err().to_string();
        assert_eq!(says(&needs(1500, 0)), "has 0 of 2 cpus free (wanted: 1.5)");
        assert_eq!(says(&needs(1500, 2000)), "has 1 gpus (wanted: 2)");
        assert!(fits(&needs(0, 1000), &busy).is_ok());
        let eu = Compute { labels: zone(Some(1)), ..Compute::default() };
        assert_eq!(says(&eu), "has no label zone=1");
        assert!(fits(&Compute::default(), &Offer::default()).is_ok());
        assert_eq!(fits(&eu, &Offer::default()), Err(Reason::Silent));
    }
}
