//! Putting a function of this program on a node.

use std::{
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::try_join_all;
use rhd_protocol::{
    VERSION,
    api::DeployRequest,
    code::Entry,
    error::{ErrorInfo, ErrorKind},
    id::CallId,
};

use crate::{Args, Client, Cluster, Env, Function, Spread, worker};

/// A function that is compiled into this program; `#[function]` implements it.
pub trait Native: Sized {
    /// What it takes, as a tuple.
    type Args: Args;
    /// What it returns, or yields.
    type Output;
    /// What it is called in the realm.
    const NAME: &'static str;
    /// The path that it is registered under.
    const SYMBOL: &'static str;

    /// The function on a node.
    fn over(function: Function<Self::Args, Self::Output>) -> Self;

    /// The other way round.
    fn remote(&self) -> &Function<Self::Args, Self::Output>;
}

/// Takes a line of what is being done.
type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// How a function is put on a node.
#[must_use = "it is put on a node by .to(&cluster), or by .place(&client)"]
pub struct Deploy<F> {
    name: Option<String>,
    env: Env,
    progress: Option<Progress>,
    function: PhantomData<F>,
}

impl<F> std::fmt::Debug for Deploy<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deploy").field("name", &self.name).field("env", &self.env).finish()
    }
}

impl<F: Native> Deploy<F> {
    #[doc(hidden)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { name: None, env: Env::new(), progress: None, function: PhantomData }
    }

    /// Names it other than the code does.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The env that it lives in, and with it the program, if that is not the one that runs.
    pub fn env(mut self, env: &Env) -> Self {
        self.env = env.clone();
        self
    }

    /// Takes each line of what is being done.
    pub fn on_progress(mut self, progress: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Puts it there: sends the program, where the node lacks it, and starts that as a worker.
    pub async fn to(self, cluster: &Cluster) -> Result<F, ErrorInfo> {
        Ok(F::over(self.send(cluster.client(), cluster.name(), false).await?))
    }

    /// Puts it where what its env [needs](Env::need) is free, as the daemon judges by what nodes
    /// report; on the daemon's own node, where it needs nothing.
    pub async fn place(self, client: &Client) -> Result<F, ErrorInfo> {
        Ok(F::over(self.send(client, None, true).await?))
    }

    /// Puts it on each of these clusters, side by side.
    pub async fn to_all(
        self,
        clusters: &[Cluster],
    ) -> Result<Spread<F::Args, F::Output>, ErrorInfo> {
        let sent = clusters.iter().map(|to| self.send(to.client(), to.name(), false));
        Spread::of(try_join_all(sent).await?)
    }

    async fn send(
        &self,
        client: &Client,
        node: Option<&str>,
        place: bool,
    ) -> Result<Function<F::Args, F::Output>, ErrorInfo> {
        let binary = program(self.env.program.as_deref())?;
        let deploy = DeployRequest {
            v: VERSION,
            id: CallId::from_bytes(rand::random()),
            node: node.map(str::to_owned),
            place,
            name: self.name.as_deref().unwrap_or(F::NAME).to_owned(),
            env: self.env.spec.clone(),
            roots: Vec::new(),
            entry: Entry::Native { symbol: F::SYMBOL.to_owned() },
            binary: Some(binary),
        };
        let progress = |line: &str| {
            if let Some(progress) = &self.progress {
                progress(line);
            }
        };
        let deployed = client.deploy(deploy, &[], progress).await?;
        Ok(client.function(&deployed.name).on_node(deployed.node_id, deployed.node))
    }
}

/// The program to send, as an absolute path.
fn program(named: Option<&Path>) -> Result<String, ErrorInfo> {
    if worker::is_worker() {
        let text = "this process was started as a worker and does not serve";
        return Err(ErrorInfo::new(ErrorKind::EnvError, text)
            .hint("begin main with rhd::worker::run_if_worker()"));
    }
    let bad = |path: &Path, why: &str| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("program {}: {why}", path.display()))
    };
    let path = match named {
        Some(path) => std::path::absolute(path).map_err(|e| bad(path, &e.to_string()))?,
        None => std::env::current_exe().map_err(|e| bad(&PathBuf::new(), &e.to_string()))?,
    };
    if !path.is_file() {
        return Err(bad(&path, "there is no such file")
            .hint("build it; a program that was built anew while it ran has to be started again"));
    }
    path.to_str().map(str::to_owned).ok_or_else(|| bad(&path, "its path is not UTF-8"))
}
