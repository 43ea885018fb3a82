//! Functions that run elsewhere.

use std::{collections::BTreeMap, fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures::Stream;
use rhd_protocol::{
    call::{Codec, RunOptions},
    error::ErrorInfo,
    run::RunInfo,
};
use serde::de::DeserializeOwned;

use crate::{Args, Client, Cluster, Invocation, Items, Replies, Run, calls, ordered::ordered};

/// Takes what a call wrote: the descriptor (1 stdout, 2 stderr) and the bytes.
pub(crate) type Output = Arc<dyn Fn(u8, &[u8]) + Send + Sync>;

/// A function on a node, or on whichever hosts it: takes `A`, a tuple, and returns `R`.
///
/// ```no_run
/// # async fn example() -> Result<(), rhd_sdk::ErrorInfo> {
/// let gpu = rhd_sdk::Cluster::named("gpu").await?;
/// let add = gpu.function::<(i64, i64), i64>("add").timeout(std::time::Duration::from_secs(5));
/// assert_eq!(add.call((2, 3)).await?, 5);
/// # Ok(())
/// # }
/// ```
pub struct Function<A, R> {
    client: Client,
    what: Invocation,
    /// The name of its node, where its id is in `what`.
    node: Option<String>,
    output: Option<Output>,
    types: PhantomData<fn(A) -> R>,
}

impl<A, R> Clone for Function<A, R> {
    fn clone(&self) -> Self {
        let (client, what) = (self.client.clone(), self.what.clone());
        let (node, output) = (self.node.clone(), self.output.clone());
        Self { client, what, node, output, types: PhantomData }
    }
}

impl<A, R> fmt::Debug for Function<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.what).finish()
    }
}

impl<A, R> Function<A, R> {
    pub(crate) fn new(client: Client, name: &str) -> Self {
        let what = Invocation::of(name);
        Self { client, what, node: None, output: None, types: PhantomData }
    }

    /// The same function on this node and no other.
    #[must_use]
    pub fn on(mut self, cluster: &Cluster) -> Self {
        (self.what.node, self.node) = (Some(cluster.pin()), None);
        self
    }

    pub(crate) fn on_node(mut self, id: String, name: String) -> Self {
        (self.what.node, self.node) = (Some(id), Some(name));
        self
    }

    /// The name of the node that it is on, unless that may be any that hosts it.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref().or(self.what.node.as_deref())
    }

    /// What each call may take from now on.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.what.timeout = Some(limit);
        self
    }

    /// Hands what calls write, as they write it, to `output`: the descriptor (1 stdout, 2 stderr) and
    /// the bytes.
    #[must_use]
    pub fn on_output(mut self, output: impl Fn(u8, &[u8]) + Send + Sync + 'static) -> Self {
        self.what.logs = true;
        self.output = Some(Arc::new(output));
        self
    }

    /// Its name, the same everywhere in the realm.
    pub fn name(&self) -> &str {
        &self.what.service
    }

    /// Takes it off its node, or off every node that hosts it.
    pub async fn remove(&self) -> Result<(), ErrorInfo> {
        self.client.remove(&self.what.service, self.what.node.as_deref()).await
    }
}

impl<A: Args, R: DeserializeOwned> Function<A, R> {
    /// Calls it. Dropping the future cancels the call; nothing repeats it.
    pub async fn call(&self, args: A) -> Result<R, ErrorInfo> {
        let replies = self.start(&self.what, &args).await?;
        let output = |fd, bytes: &[u8]| {
            if let Some(output) = &self.output {
                output(fd, bytes);
            }
        };
        calls::result(replies, &self.what.service, output).await
    }

    /// Calls it and gives its items as they come. A slow reader slows it; dropping them cancels it.
    pub async fn stream(&self, args: A) -> Result<Items<R>, ErrorInfo> {
        Ok(Items::of(self.start(&self.what, &args).await?, self.output.clone()))
    }

    /// Starts it and does not wait: the run goes on whatever becomes of this program.
    pub async fn run(&self, args: A) -> Result<Run<R>, ErrorInfo> {
        self.run_named("", args).await
    }

    /// The same, under a name.
    pub async fn run_named(&self, name: &str, args: A) -> Result<Run<R>, ErrorInfo> {
        let options = RunOptions { name: name.to_owned(), detach: true, ..RunOptions::default() };
        let what = Invocation { run: Some(options), logs: true, ..self.what.clone() };
        let replies = self.start(&what, &args).await?;
        let info: RunInfo = calls::result(replies, &what.service, |_, _| ()).await?;
        Ok(Run::of(self.client.clone(), info.id.to_string(), Some(info.host)))
    }

    /// The result of the run of this name, where it was completed; waits for it, where it is under
    /// way; else calls, under this name. Of many who do so at once, one calls.
    pub async fn get_or_call(&self, name: &str, args: A) -> Result<R, ErrorInfo> {
        let options = RunOptions { name: name.to_owned(), get: true, ..RunOptions::default() };
        let what = Invocation { run: Some(options), ..self.what.clone() };
        let function = Self { what, ..self.clone() };
        function.call(args).await
    }

    /// Calls it with each of the arguments, at most `concurrency` at a time; results come in order.
    pub fn map<I>(&self, inputs: I, concurrency: usize) -> impl Stream<Item = Result<R, ErrorInfo>>
    where
        I: IntoIterator<Item = A>,
    {
        let function = self.clone();
        let calls = inputs.into_iter().map(move |args| {
            let function = function.clone();
            async move { function.call(args).await }
        });
        ordered(calls, concurrency)
    }

    async fn start(&self, what: &Invocation, args: &A) -> Result<Replies, ErrorInfo> {
        let kwargs = BTreeMap::<String, ()>::new();
        self.client.start(what, Codec::Msgpack, &args.packed(), &kwargs).await
    }
}
