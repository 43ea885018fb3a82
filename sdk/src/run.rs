//! Runs: calls that go on by themselves, and what became of calls.

use std::{marker::PhantomData, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::ErrorInfo,
    run::{RunInfo, RunStatus},
};
use serde::de::DeserializeOwned;

use crate::{Client, Items, Replies, calls};

/// A run, by its name or the id of its call; its result is an `R`.
#[derive(Debug, Clone)]
pub struct Run<R> {
    client: Client,
    run: String,
    node: Option<String>,
    result: PhantomData<fn() -> R>,
}

impl Client {
    /// A run by its name, or by the id of its call: what became of a call whose answer was lost is
    /// asked the same way.
    pub fn run<R>(&self, name_or_id: &str) -> Run<R> {
        Run::of(self.clone(), name_or_id.to_owned(), None)
    }
}

impl<R> Run<R> {
    pub(crate) fn of(client: Client, run: String, node: Option<String>) -> Self {
        let node = node.filter(|node| !node.is_empty());
        Self { client, run, node, result: PhantomData }
    }

    /// Its name, or the id of its call.
    pub fn id(&self) -> &str {
        &self.run
    }

    /// All that its host knows of it.
    pub async fn info(&self) -> Result<RunInfo, ErrorInfo> {
        self.client.run_info(&self.run, self.node.as_deref()).await
    }

    /// How far it got.
    pub async fn status(&self) -> Result<RunStatus, ErrorInfo> {
        Ok(self.info().await?.status)
    }

    /// What it wrote: the descriptor (1 stdout, 2 stderr) and the bytes; with `follow` until it ends.
    pub async fn logs(
        &self,
        follow: bool,
        mut output: impl FnMut(u8, Bytes),
    ) -> Result<RunInfo, ErrorInfo> {
        let mut replies = self.client.run_logs(&self.run, self.node.as_deref(), follow).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Log { fd, .. } => output(fd, body),
                Reply::Done { codec, .. } => return calls::value_of(codec, &body),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Item { .. } | Reply::Progress { .. } => {}
            }
        }
        Err(crate::requests::not_understood("it has no end"))
    }

    /// Cancels it and waits for that.
    pub async fn cancel(&self) -> Result<RunInfo, ErrorInfo> {
        self.client.run_cancel(&self.run, self.node.as_deref()).await
    }

    /// Forgets what was kept of it; fails while it runs.
    pub async fn remove(&self) -> Result<(), ErrorInfo> {
        self.client.run_remove(&self.run, self.node.as_deref()).await
    }
}

impl<R: DeserializeOwned> Run<R> {
    /// Waits for its result, for as long as `timeout` says; fails as the call did.
    pub async fn result(&self, timeout: Option<Duration>) -> Result<R, ErrorInfo> {
        let replies = self.attach(timeout).await?;
        calls::result(replies, &self.run, |_, _| ()).await
    }

    /// Its items from the first, of a generator.
    pub async fn stream(&self) -> Result<Items<R>, ErrorInfo> {
        Ok(Items::of(self.attach(None).await?, None))
    }

    async fn attach(&self, timeout: Option<Duration>) -> Result<Replies, ErrorInfo> {
        self.client.run_attach(&self.run, self.node.as_deref(), false, timeout).await
    }
}
