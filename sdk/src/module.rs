//! Classes and objects that live elsewhere, in Python.

use std::{collections::BTreeMap, time::Duration};

use rhd_protocol::{
    call::{Codec, Verb},
    error::ErrorInfo,
    id::encode_base32,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Args, Client, Cluster, Invocation, Items, calls};

/// A class, or an object with state, on a node.
///
/// ```no_run
/// # async fn example(client: rhd_sdk::Client) -> Result<(), rhd_sdk::ErrorInfo> {
/// let counter = client.module("Counter").create(Some("visits"), (10,)).await?;
/// let total: i64 = counter.call("add", (5,)).await?;
/// assert_eq!(total, counter.get::<i64>("total").await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Module {
    client: Client,
    what: Invocation,
}

impl Module {
    pub(crate) fn new(client: Client, name: &str) -> Self {
        Self { client, what: Invocation::of(name) }
    }

    /// The same module on this node and no other.
    #[must_use]
    pub fn on(mut self, cluster: &Cluster) -> Self {
        self.what.node = Some(cluster.pin());
        self
    }

    /// What each call may take from now on.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.what.timeout = Some(limit);
        self
    }

    /// Its name, the same everywhere in the realm.
    pub fn name(&self) -> &str {
        &self.what.service
    }

    /// Builds an object of the class. Without a name it is listed nowhere; either way it lives until
    /// it is [removed](Self::remove) or its worker ends.
    pub async fn create<A: Args>(&self, name: Option<&str>, args: A) -> Result<Self, ErrorInfo> {
        let described = self.client.describe(&self.what.service, self.what.node.as_deref()).await?;
        let instance = match name {
            Some(name) => name.to_owned(),
            None => {
                let class = described.service.name.rsplit('/').next().unwrap_or_default();
                format!(".{class}-{}", encode_base32(&rand::random::<[u8; 5]>()))
            }
        };
        let node = Some(described.node_id);
        let what = Invocation { node, instance: Some(instance.clone()), ..self.what.clone() };
        self.ask::<_, ()>(Invocation { verb: Verb::New, ..what.clone() }, args).await?;
        Ok(Self {
            client: self.client.clone(),
            what: Invocation { service: instance, instance: None, ..what },
        })
    }

    /// Calls a method.
    pub async fn call<R: DeserializeOwned>(
        &self,
        method: &str,
        args: impl Args,
    ) -> Result<R, ErrorInfo> {
        self.ask(self.what.clone().method(method), args).await
    }

    /// Calls a method that is a generator.
    pub async fn stream<R: DeserializeOwned>(
        &self,
        method: &str,
        args: impl Args,
    ) -> Result<Items<R>, ErrorInfo> {
        let what = self.what.clone().method(method);
        let kwargs = BTreeMap::<String, ()>::new();
        let replies = self.client.start(&what, Codec::Msgpack, &args.packed(), &kwargs).await?;
        Ok(Items::of(replies, None))
    }

    /// Reads an attribute or property.
    pub async fn get<R: DeserializeOwned>(&self, attribute: &str) -> Result<R, ErrorInfo> {
        self.ask(Invocation { verb: Verb::Get, ..self.what.clone().method(attribute) }, ()).await
    }

    /// Sets an attribute.
    pub async fn set<T>(&self, attribute: &str, value: T) -> Result<(), ErrorInfo>
    where
        T: Serialize + Send + Sync,
    {
        let what = Invocation { verb: Verb::Set, ..self.what.clone().method(attribute) };
        self.ask(what, (value,)).await
    }

    /// Takes it off its node.
    pub async fn remove(&self) -> Result<(), ErrorInfo> {
        self.client.remove(&self.what.service, self.what.node.as_deref()).await
    }

    async fn ask<A: Args, R: DeserializeOwned>(
        &self,
        what: Invocation,
        args: A,
    ) -> Result<R, ErrorInfo> {
        let kwargs = BTreeMap::<String, ()>::new();
        let replies = self.client.start(&what, Codec::Msgpack, &args.packed(), &kwargs).await?;
        calls::result(replies, &what.service, |_, _| ()).await
    }
}
