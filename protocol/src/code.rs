//! Code that a worker loads: where it is, and what in it is meant.

use serde::{Deserialize, Serialize};

use crate::id::Hash;

/// A tree of project files on the worker's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRoot {
    /// Which project: the same for every version of it.
    pub project: String,
    /// The folder that holds this version.
    pub dir: String,
    /// Folders below `dir` to put on `sys.path` (`""` is `dir` itself).
    pub sys_path: Vec<String>,
}

/// Where in the code the function or class is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Entry {
    /// Importable: by reference.
    Import {
        /// `package.module`.
        module: String,
        /// `Class.method` or `function`.
        qualname: String,
    },
    /// By value: the body is its cloudpickle.
    Value {
        /// `3.11`: bytecode of one minor version runs on no other.
        python: String,
    },
    /// Compiled into the program of its env.
    Native {
        /// The path that it is registered under, `crate::module::function`.
        symbol: String,
    },
}

/// What [`Verb::Load`](crate::call::Verb::Load) loads, under the call's `service` name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Project folders, the entry's own first.
    pub roots: Vec<CodeRoot>,
    /// The function or class.
    pub entry: Entry,
    /// The version it becomes.
    pub version: Hash,
}
