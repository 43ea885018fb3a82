//! What code needs around it.

use std::path::{Path, PathBuf};

use rhd_protocol::{api::EnvInfo, env::EnvSpec, error::ErrorInfo};

use crate::Cluster;

/// The env of a program, or of Python code.
///
/// ```
/// let env = rhd_sdk::Env::new().name("fast").var("RUST_LOG", "info").workers(2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Env {
    pub(crate) spec: EnvSpec,
    pub(crate) program: Option<PathBuf>,
}

impl Env {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it. All that is deployed to one name shares its processes; a program that has no name
    /// gets one of its own, the same for each build of it.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.spec.name);
        self
    }

    /// Sets an environment variable of its processes.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.spec.env_vars.insert(name.to_owned(), value.to_owned());
        self
    }

    /// How many processes serve it; one, if nothing is said.
    #[must_use]
    pub fn workers(mut self, count: u32) -> Self {
        self.spec.workers = Some(count);
        self
    }

    /// What it needs of its node: `cpus`, `gpus`, `memory` in GiB, or what else the node declares, in
    /// thousandths.
    #[must_use]
    pub fn need(mut self, resource: &str, thousandths: u64) -> Self {
        self.spec.compute.amounts.insert(resource.to_owned(), thousandths);
        self
    }

    /// A label that its node has to have.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.spec.compute.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A program on this machine other than the one that runs: built for another kind of node, say.
    #[must_use]
    pub fn program(mut self, path: impl AsRef<Path>) -> Self {
        self.program = Some(path.as_ref().to_owned());
        self
    }

    /// The version or path of a Python, for Python code.
    #[must_use]
    pub fn python(mut self, python: &str) -> Self {
        self.spec.python = Some(python.to_owned());
        self
    }

    /// Adds a Python package, as pip takes it.
    #[must_use]
    pub fn req(mut self, requirement: &str) -> Self {
        self.spec.reqs.push(requirement.to_owned());
        self
    }

    /// Adds a shell command, run once when the env is built.
    #[must_use]
    pub fn setup(mut self, command: &str) -> Self {
        self.spec.setup_cmds.push(command.to_owned());
        self
    }

    /// Builds an env of Python code on a cluster and starts its worker; `progress` takes each line
    /// of what is being done. An env of a program comes with the first function deployed to it.
    pub async fn to(
        &self,
        cluster: &Cluster,
        progress: impl FnMut(&str),
    ) -> Result<EnvInfo, ErrorInfo> {
        cluster.client().env_build(self.spec.clone(), cluster.name(), progress).await
    }
}

impl From<EnvSpec> for Env {
    fn from(spec: EnvSpec) -> Self {
        Self { spec, program: None }
    }
}
