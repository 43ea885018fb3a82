//! Env specs and the hashes that name what is built from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::Hash;

/// The name of the env that every node has.
pub const BASE: &str = "base";

/// What code needs around it. Equal specs are built once per node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EnvSpec {
    /// What people call it; no part of what is built.
    #[serde(default)]
    pub name: String,
    /// `3.12`, or the path of an interpreter on the node; none: the node's own.
    #[serde(default)]
    pub python: Option<String>,
    /// A conda env that exists on the node, by name or prefix.
    #[serde(default)]
    pub conda_env: Option<String>,
    /// Requirements as pip takes them.
    #[serde(default)]
    pub reqs: Vec<String>,
    /// Shell commands, run once in the built env, in this order.
    #[serde(default)]
    pub setup_cmds: Vec<String>,
    /// Environment of the worker process.
    #[serde(default)]
    pub env_vars: BTreeMap<String, String>,
    /// Worker processes; those after the first serve stateless functions.
    #[serde(default)]
    pub workers: Option<u32>,
}

impl EnvSpec {
    /// The node's own interpreter, nothing added.
    pub fn base() -> Self {
        Self { name: BASE.into(), ..Self::default() }
    }

    /// The hash of what has to be built: interpreter, requirements (in any order, without repeats),
    /// setup commands. It names the env's directory.
    pub fn build_hash(&self) -> Hash {
        let mut reqs: Vec<&str> = self.reqs.iter().map(|r| r.trim()).collect();
        reqs.retain(|r| !r.is_empty());
        reqs.sort_unstable();
        reqs.dedup();
        let mut hasher = blake3::Hasher::new();
        let mut field = |tag: &str, values: &[&str]| {
            for part in std::iter::once(&tag).chain(values) {
                hasher.update(&(part.len() as u64).to_be_bytes());
                hasher.update(part.as_bytes());
            }
            hasher.update(&[0xff; 8]);
        };
        field("rhd env 1", &[]);
        field("python", self.python.as_deref().as_slice());
        field("conda", self.conda_env.as_deref().as_slice());
        field("reqs", &reqs);
        let setup: Vec<&str> = self.setup_cmds.iter().map(String::as_str).collect();
        field("setup", &setup);
        Hash::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Whether nothing has to be built: the node's own interpreter as it is.
    pub fn is_bare(&self) -> bool {
        self.conda_env.is_none()
            && self.python.is_none()
            && self.setup_cmds.is_empty()
            && self.reqs.iter().all(|r| r.trim().is_empty())
    }

    /// What names the env on a node, and so its servlet: its own name, else what it is made of.
    pub fn key(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        if self.is_bare() && self.env_vars.is_empty() {
            return BASE.into();
        }
        let vars = crate::frame::to_vec(&self.env_vars).unwrap_or_default();
        let seed = [self.build_hash().as_bytes().as_slice(), &vars].concat();
        Hash::of(&seed).short()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reqs(reqs: &[&str]) -> EnvSpec {
        EnvSpec { reqs: reqs.iter().map(|r| (*r).into()).collect(), ..EnvSpec::default() }
    }

    #[test]
    fn order_repeats_and_name_do_not_change_what_is_built() {
        let a = reqs(&["numpy", "six==1.16"]);
        let b = EnvSpec { name: "x".into(), ..reqs(&["six==1.16", " numpy", "numpy", ""]) };
        assert_eq!(a.build_hash(), b.build_hash());
        assert_ne!(a.build_hash(), reqs(&["numpysix==1.16"]).build_hash());
        assert_ne!(
            EnvSpec { setup_cmds: vec!["a".into(), "b".into()], ..EnvSpec::default() }.build_hash(),
            EnvSpec { setup_cmds: vec!["b".into(), "a".into()], ..EnvSpec::default() }.build_hash()
        );
    }

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        assert_eq!(reqs(&["six"]).build_hash().short(), GOLDEN);
    }
    const GOLDEN: &str = "drrq5lnxxf";

    #[test]
    fn an_empty_spec_is_the_base_env() {
        assert_eq!(EnvSpec::default().key(), BASE);
        assert_ne!(reqs(&["six"]).key(), BASE);
    }
}
