//! Env specs and the hashes that name what is built from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{compute::Compute, id::Hash};

/// The longest name of an env, in characters.
pub const MAX_NAME: usize = 100;
/// Requirements, setup commands and variables that a spec may list, each.
pub const MAX_ENTRIES: usize = 1_000;
/// Bytes that all texts of a spec may have together.
pub const MAX_TEXT: usize = 128 * 1024;

/// Why a spec is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvSpecError {
    /// It would change the env that everybody shares.
    #[error("the env named base is the node's own interpreter with nothing added")]
    Base,
    /// A name that can't be shown or typed.
    #[error(
        "an env's name has at most {MAX_NAME} characters, no spaces at its ends and no control characters"
    )]
    Name,
    /// A program brings its own.
    #[error("the env of a program has no interpreter, packages or setup commands")]
    Binary,
    /// Over the limits.
    #[error("env of more than {MAX_ENTRIES} entries or {MAX_TEXT} bytes")]
    TooLarge,
}

/// A program that is the worker of its env: it serves the functions compiled into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    /// Its content.
    pub hash: Hash,
    /// Bytes.
    pub size: u64,
    /// What it was built for, as [`Target`](crate::program::Target) reads it off the file.
    pub target: String,
}

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
    /// A program to start in place of an interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binary: Option<Binary>,
    /// What it needs of its node; no part of what is built.
    #[serde(default, skip_serializing_if = "Compute::is_empty")]
    pub compute: Compute,
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
        if let Some(binary) = &self.binary {
            field("binary", &[&binary.hash.to_string()]);
        }
        Hash::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Whether nothing has to be built: the node's own interpreter as it is.
    pub fn is_bare(&self) -> bool {
        self.conda_env.is_none()
            && self.python.is_none()
            && self.binary.is_none()
            && self.setup_cmds.is_empty()
            && self.reqs.iter().all(|r| r.trim().is_empty())
    }

    /// Holds a spec of somebody else against the limits.
    pub fn check(&self) -> Result<(), EnvSpecError> {
        if self.name == BASE && !(self.runs_like(&Self::base()) && self.compute.is_empty()) {
            return Err(EnvSpecError::Base);
        }
        let name = &self.name;
        if name.chars().count() > MAX_NAME || name.contains(char::is_control) || name.trim() != name
        {
            return Err(EnvSpecError::Name);
        }
        if let Some(binary) = &self.binary {
            let alone = Self { binary: None, ..self.clone() }.is_bare();
            if !alone || binary.target.len() > MAX_NAME {
                return Err(EnvSpecError::Binary);
            }
        }
        let entries = [self.reqs.len(), self.setup_cmds.len(), self.env_vars.len()];
        let texts = self.reqs.iter().chain(&self.setup_cmds).chain(&self.python);
        let texts =
            texts.chain(&self.conda_env).chain(self.env_vars.iter().flat_map(|(k, v)| [k, v]));
        if entries.iter().any(|n| *n > MAX_ENTRIES)
            || texts.map(String::len).sum::<usize>() > MAX_TEXT
            || !self.compute.is_bounded()
        {
            return Err(EnvSpecError::TooLarge);
        }
        Ok(())
    }

    /// Whether worker processes of the other would do as well: all but the name is the same, in
    /// effect.
    pub fn runs_like(&self, other: &Self) -> bool {
        self.build_hash() == other.build_hash()
            && self.env_vars == other.env_vars
            && self.processes() == other.processes()
    }

    /// Worker processes, at least one.
    fn processes(&self) -> u32 {
        self.workers.unwrap_or(1).max(1)
    }

    /// What names the env on a node, and so its servlet: its own name, else what it is made of.
    pub fn key(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let processes = self.processes();
        let bare = self.is_bare() && self.env_vars.is_empty() && processes == 1;
        if bare && self.compute.is_empty() {
            return BASE.into();
        }
        let vars = crate::frame::to_vec(&self.env_vars).unwrap_or_default();
        let mut seed = [self.build_hash().as_bytes().as_slice(), &vars].concat();
        if processes > 1 {
            seed.extend(processes.to_be_bytes());
        }
        if !self.compute.is_empty() {
            seed.extend(crate::frame::to_vec(&self.compute).unwrap_or_default());
        }
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
    fn what_asks_for_other_processes_is_another_env() {
        let workers = |n| EnvSpec { workers: Some(n), ..EnvSpec::default() };
        assert_eq!(workers(1).key(), BASE);
        assert!(workers(1).runs_like(&EnvSpec::base()));
        assert_ne!(workers(2).key(), BASE);
        assert_ne!(workers(2).key(), workers(3).key());
        assert!(!workers(2).runs_like(&EnvSpec::base()));
        assert!(reqs(&["a", "b"]).runs_like(&reqs(&["b ", "a"])));
    }

    #[test]
    fn what_needs_other_resources_is_another_env_that_runs_alike() {
        let gpus = |n| {
            let compute = Compute { amounts: [("gpus".into(), n)].into(), ..Compute::default() };
            EnvSpec { compute, ..EnvSpec::default() }
        };
        assert_eq!(gpus(0).key(), BASE);
        assert_ne!(gpus(1000).key(), BASE);
        assert_ne!(gpus(1000).key(), gpus(2000).key());
        assert!(gpus(1000).runs_like(&EnvSpec::base()));
        assert!(EnvSpec { name: BASE.into(), ..gpus(1000) }.check().is_err());
    }

    #[test]
    fn nobody_changes_the_base_env_or_hides_in_a_name() {
        let named = |name: &str| EnvSpec { name: name.into(), ..reqs(&["six"]) };
        assert_eq!(named(BASE).check(), Err(EnvSpecError::Base));
        assert_eq!(EnvSpec::base().check(), Ok(()));
        assert_eq!(named("my env").check(), Ok(()));
        for bad in ["a\nb", "\u{1b}[2J", " x", &"x".repeat(101)] {
            assert_eq!(named(bad).check(), Err(EnvSpecError::Name), "{bad:?}");
        }
        assert_eq!(reqs(&["six"; MAX_ENTRIES + 1]).check(), Err(EnvSpecError::TooLarge));
        assert_eq!(reqs(&["x".repeat(MAX_TEXT + 1).as_str()]).check(), Err(EnvSpecError::TooLarge));
    }

    #[test]
    fn an_empty_spec_is_the_base_env() {
        assert_eq!(EnvSpec::default().key(), BASE);
        assert_ne!(reqs(&["six"]).key(), BASE);
    }
}
