//! Services: the functions, classes and instances that a node hosts under a name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{call::Codec, id::Hash};

/// What kind of thing answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceKind {
    /// A function.
    Function,
    /// A class: instances of it can be constructed.
    Class,
    /// One object with state, in one worker's memory.
    Instance,
}

/// How a function or member behaves when called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// Returns.
    #[default]
    Plain,
    /// Yields items.
    Generator,
    /// Must be awaited.
    Coroutine,
    /// Yields items, asynchronously.
    AsyncGenerator,
    /// Is read, not called.
    Property,
}

impl Flavor {
    /// Whether it runs on the worker's event loop.
    pub fn is_async(self) -> bool {
        matches!(self, Self::Coroutine | Self::AsyncGenerator)
    }
}

/// What callers may do with a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interface {
    /// The function's own behaviour.
    #[serde(default)]
    pub flavor: Flavor,
    /// `(a, b=2)`, for people.
    #[serde(default)]
    pub signature: String,
    /// First paragraph of its docs.
    #[serde(default)]
    pub doc: String,
    /// Methods and properties of a class or instance.
    #[serde(default)]
    pub members: BTreeMap<String, Flavor>,
    /// Class methods and static methods: callable without an instance.
    #[serde(default)]
    pub class_members: Vec<String>,
    /// Signatures of methods, where they are known; cut off where they are many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signatures: BTreeMap<String, String>,
    /// The encoding that it takes where it does not take pickle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
}

/// A service as its host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Canonical name.
    pub name: String,
    /// What it is.
    pub kind: ServiceKind,
    /// Key of the env it lives in.
    pub env: String,
    /// Hash of its code and entry: equal versions behave alike.
    pub version: Hash,
    /// Grows with each deployment of the name, over all nodes that know of each other.
    pub generation: u64,
    /// For an instance: the class it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What callers may do.
    #[serde(default)]
    pub interface: Interface,
}

/// What presence says of a service: enough to route to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAd {
    /// Canonical name.
    pub name: String,
    /// What it is.
    pub kind: ServiceKind,
    /// Key of its env.
    pub env: String,
    /// Hash of its code and entry.
    pub version: Hash,
    /// Later deployments have higher ones.
    pub generation: u64,
}

impl From<&Service> for ServiceAd {
    fn from(s: &Service) -> Self {
        Self {
            name: s.name.clone(),
            kind: s.kind,
            env: s.env.clone(),
            version: s.version,
            generation: s.generation,
        }
    }
}
