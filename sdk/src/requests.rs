//! Requests that the daemon answers itself.

use std::time::Duration;

use rhd_protocol::{
    VERSION,
    api::{
        DeployRequest, Deployed, Described, EnvInfo, Invited, Listed, Peer, PythonPath, Request,
        Status,
    },
    call::Reply,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    frame,
    membership::Role,
    run::{RunAsk, RunInfo},
};
use serde::de::DeserializeOwned;

use crate::{Client, Replies};

/// What the daemon knows without asking anybody is answered in this time.
const QUICK: Duration = Duration::from_secs(20);

impl Client {
    /// How the node is.
    pub async fn status(&self) -> Result<Status, ErrorInfo> {
        self.quick(&Request::Status { v: VERSION }).await
    }

    /// The nodes of the realm.
    pub async fn peers(&self) -> Result<Vec<Peer>, ErrorInfo> {
        self.quick(&Request::Peers { v: VERSION }).await
    }

    /// Makes a ticket that `uses` nodes may join by within `expires`.
    pub async fn invite(
        &self,
        role: Role,
        uses: u32,
        expires: Duration,
    ) -> Result<Invited, ErrorInfo> {
        let expires = expires.as_secs();
        self.quick(&Request::Invite { v: VERSION, role, uses, expires }).await
    }

    /// Joins the realm of a ticket.
    pub async fn join(&self, ticket: &str, name: Option<&str>) -> Result<Status, ErrorInfo> {
        let (ticket, name) = (ticket.to_owned(), name.map(str::to_owned));
        self.ask(&Request::Join { v: VERSION, ticket, name }, |_| ()).await
    }

    /// The services that are known, below `prefix` where given.
    pub async fn services(&self, prefix: Option<&str>) -> Result<Vec<Listed>, ErrorInfo> {
        self.quick(&Request::Services { v: VERSION, prefix: prefix.map(str::to_owned) }).await
    }

    /// One service, as its host (or `node`) knows it.
    pub async fn describe(&self, name: &str, node: Option<&str>) -> Result<Described, ErrorInfo> {
        let (name, node) = (name.to_owned(), node.map(str::to_owned));
        self.ask(&Request::Describe { v: VERSION, name, node }, |_| ()).await
    }

    /// Takes a service off `node`, or off every node that hosts it.
    pub async fn remove(&self, name: &str, node: Option<&str>) -> Result<(), ErrorInfo> {
        let (name, node) = (name.to_owned(), node.map(str::to_owned));
        self.ask(&Request::Remove { v: VERSION, name, node }, |_| ()).await
    }

    /// The envs of `node`, or of this one.
    pub async fn envs(&self, node: Option<&str>) -> Result<Vec<EnvInfo>, ErrorInfo> {
        self.ask(&Request::Envs { v: VERSION, node: node.map(str::to_owned) }, |_| ()).await
    }

    /// Builds an env and starts its worker; `progress` takes each line of what is being done.
    pub async fn env_build(
        &self,
        env: EnvSpec,
        node: Option<&str>,
        progress: impl FnMut(&str),
    ) -> Result<EnvInfo, ErrorInfo> {
        let node = node.map(str::to_owned);
        self.ask(&Request::EnvBuild { v: VERSION, node, env }, progress).await
    }

    /// Stops an env's worker and removes what was built.
    pub async fn env_remove(&self, key: &str, node: Option<&str>) -> Result<(), ErrorInfo> {
        let (key, node) = (key.to_owned(), node.map(str::to_owned));
        self.ask(&Request::EnvRemove { v: VERSION, node, key }, |_| ()).await
    }

    /// Puts something on a node; `progress` takes each line of what is being done, `entry` is what
    /// travels by value.
    pub async fn deploy(
        &self,
        deploy: DeployRequest,
        entry: &[u8],
        progress: impl FnMut(&str),
    ) -> Result<Deployed, ErrorInfo> {
        self.send(&Request::Deploy { deploy }, entry, progress).await
    }

    /// The runs of `node`, or of every node that can be reached, newest first; `progress` takes a
    /// line that names those that can't be.
    pub async fn runs(
        &self,
        node: Option<&str>,
        name: Option<&str>,
        limit: u32,
        progress: impl FnMut(&str),
    ) -> Result<Vec<RunInfo>, ErrorInfo> {
        let (node, name) = (node.map(str::to_owned), name.map(str::to_owned));
        self.ask(&Request::Runs { v: VERSION, node, name, limit }, progress).await
    }

    /// How far a run got, by its name or the id of its call.
    pub async fn run_info(&self, run: &str, node: Option<&str>) -> Result<RunInfo, ErrorInfo> {
        self.ask(&run_request(run, node, RunAsk::Info { age_ms: None }), |_| ()).await
    }

    /// Cancels a run and waits until nothing of it runs.
    pub async fn run_cancel(&self, run: &str, node: Option<&str>) -> Result<RunInfo, ErrorInfo> {
        self.ask(&run_request(run, node, RunAsk::Cancel), |_| ()).await
    }

    /// Forgets what was kept of a run.
    pub async fn run_remove(&self, run: &str, node: Option<&str>) -> Result<(), ErrorInfo> {
        self.ask(&run_request(run, node, RunAsk::Remove), |_| ()).await
    }

    /// What a run wrote, as log replies; the last reply is a [`RunInfo`].
    pub async fn run_logs(
        &self,
        run: &str,
        node: Option<&str>,
        follow: bool,
    ) -> Result<Replies, ErrorInfo> {
        self.request(&run_request(run, node, RunAsk::Logs { follow }), &[]).await
    }

    /// The replies of a run from its start, as its caller would have had them.
    ///
    /// Dropping them leaves the run as it is.
    pub async fn run_attach(
        &self,
        run: &str,
        node: Option<&str>,
        logs: bool,
        timeout: Option<Duration>,
    ) -> Result<Replies, ErrorInfo> {
        let timeout_ms = timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX));
        self.request(&run_request(run, node, RunAsk::Attach { logs, timeout_ms }), &[]).await
    }

    /// What a Python needs to import the daemon's own SDK.
    pub async fn python(&self) -> Result<PythonPath, ErrorInfo> {
        self.quick(&Request::Python { v: VERSION }).await
    }

    /// Ends the daemon after its running calls.
    pub async fn shutdown(&self) -> Result<(), ErrorInfo> {
        self.ask(&Request::Shutdown { v: VERSION }, |_| ()).await
    }

    async fn quick<T: DeserializeOwned>(&self, request: &Request) -> Result<T, ErrorInfo> {
        tokio::time::timeout(QUICK, self.ask(request, |_| ())).await.unwrap_or_else(|_| {
            Err(ErrorInfo::new(
                ErrorKind::Timeout,
                format!("the daemon did not answer within {} s", QUICK.as_secs()),
            )
            .hint("see why: rhd doctor"))
        })
    }

    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        progress: impl FnMut(&str),
    ) -> Result<T, ErrorInfo> {
        self.send(request, &[], progress).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: &Request,
        body: &[u8],
        mut progress: impl FnMut(&str),
    ) -> Result<T, ErrorInfo> {
        let mut replies = self.request(request, body).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Done { .. } => return frame::decode(&body).map_err(not_understood),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Progress { text, .. } => progress(&text),
                Reply::Log { .. } | Reply::Item { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }
}

fn run_request(run: &str, node: Option<&str>, ask: RunAsk) -> Request {
    Request::Run { v: VERSION, run: run.to_owned(), node: node.map(str::to_owned), ask }
}

pub(crate) fn not_understood(source: impl std::fmt::Display) -> ErrorInfo {
    ErrorInfo::new(
        ErrorKind::VersionMismatch,
        format!("the daemon's answer is not understood: {source}"),
    )
    .hint("client and daemon differ; restart the daemon: rhd down, rhd up --detach")
}
