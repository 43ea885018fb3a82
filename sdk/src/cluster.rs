//! Where things run.

use rhd_protocol::error::ErrorInfo;

use crate::{Args, Client, Function, Module, default_home};

/// A node of the realm, as seen from here.
#[derive(Debug, Clone)]
pub struct Cluster {
    client: Client,
    node: Option<String>,
}

impl Cluster {
    /// The node of this machine; its daemon is started where none runs.
    pub async fn here() -> Result<Self, ErrorInfo> {
        Ok(Client::connect(&default_home()).await?.here())
    }

    /// The node of this name.
    pub async fn named(name: &str) -> Result<Self, ErrorInfo> {
        Ok(Client::connect(&default_home()).await?.cluster(name))
    }

    /// The daemon that it is reached by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its name, unless it is this machine's node.
    pub fn name(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// What names it to the daemon, where no name would mean any node.
    pub(crate) fn pin(&self) -> String {
        self.node.as_deref().unwrap_or("here").to_owned()
    }

    /// A function that it hosts, by name. What it takes (a tuple) and returns is for the caller to
    /// say.
    pub fn function<A: Args, R>(&self, name: &str) -> Function<A, R> {
        self.client.function(name).on(self)
    }

    /// A class or an object that it hosts, by name.
    pub fn module(&self, name: &str) -> Module {
        self.client.module(name).on(self)
    }
}

impl Client {
    /// The node of this daemon.
    pub fn here(&self) -> Cluster {
        Cluster { client: self.clone(), node: None }
    }

    /// The node of this name or id.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster { client: self.clone(), node: Some(name.to_owned()) }
    }

    /// A function by name, wherever it is hosted.
    pub fn function<A: Args, R>(&self, name: &str) -> Function<A, R> {
        Function::new(self.clone(), name)
    }

    /// A class or an object by name, wherever it is hosted.
    pub fn module(&self, name: &str) -> Module {
        Module::new(self.clone(), name)
    }
}
