//! Folders: on any node, brought to any other.

use rhd_protocol::{
    VERSION,
    api::Request,
    call::Reply,
    data::Moved,
    error::ErrorInfo,
    folder::{FolderAsk, Listed, Place, Synced},
    frame,
};
use serde::de::DeserializeOwned;

use crate::{Client, requests::not_understood};

/// A folder of a node.
#[derive(Debug, Clone)]
pub struct Folder {
    client: Client,
    place: Place,
    /// The one that it is a copy of.
    origin: Option<Place>,
}

impl Folder {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its absolute path on its node.
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// Its node; none: the one that the client is connected to.
    pub fn node(&self) -> Option<&str> {
        self.place.node.as_deref()
    }

    /// Has a copy of it on a node, or brings it up to date: at `path` there, or at a place of its own.
    /// It goes there from its own node; what is there is not sent again.
    pub async fn to(&self, node: &str, path: Option<&str>) -> Result<(Self, Synced), ErrorInfo> {
        let (from, to) = (self.place.clone(), path.map(str::to_owned));
        let ask = FolderAsk::Copy { from, node: Some(node.to_owned()), to };
        let done: Synced = self.client.folders(None, ask, |_, _| (), |_| ()).await?;
        let place = Place { node: Some(node.to_owned()), path: done.path.clone(), grant: None };
        let origin = Some(self.place.clone());
        Ok((Self { client: self.client.clone(), place, origin }, done))
    }

    /// Brings what changed here or there to the other: a folder, or the one that this is a copy of.
    pub async fn sync(&self, other: Option<&Self>) -> Result<Vec<Synced>, ErrorInfo> {
        let (one, other) = match other {
            Some(other) => (self.place.clone(), other.place.clone()),
            None => (self.origin.clone().unwrap_or(self.place.clone()), self.place.clone()),
        };
        let ask = FolderAsk::Sync { one, other, watch: false };
        self.client.folders(None, ask, |_, _| (), |_| ()).await
    }

    /// What is in it.
    pub async fn list(&self) -> Result<Vec<Listed>, ErrorInfo> {
        self.ask(FolderAsk::List { path: self.place.path.clone() }).await
    }

    /// Whether it is there.
    pub async fn exists(&self) -> Result<bool, ErrorInfo> {
        self.ask(FolderAsk::Exists { path: self.place.path.clone() }).await
    }

    /// Removes some of what is in it, or all of it and itself.
    pub async fn remove(&self, contents: Option<Vec<String>>) -> Result<(), ErrorInfo> {
        self.ask(FolderAsk::Remove { path: self.place.path.clone(), contents }).await
    }

    async fn ask<T: DeserializeOwned>(&self, ask: FolderAsk) -> Result<T, ErrorInfo> {
        self.client.folders(self.node(), ask, |_, _| (), |_| ()).await
    }
}

impl Client {
    /// A folder of a node, or of this one: by its absolute path, or one that starts with `~/`.
    pub fn folder(&self, path: &str, node: Option<&str>) -> Folder {
        let place = Place { node: node.map(str::to_owned), path: path.to_owned(), grant: None };
        Folder { client: self.clone(), place, origin: None }
    }

    /// Has `node`, or this one, do something about folders; `told` hears how far a transfer is, `item`
    /// gets what comes before the answer.
    pub async fn folders<T: DeserializeOwned>(
        &self,
        node: Option<&str>,
        ask: FolderAsk,
        mut told: impl FnMut(&str, Option<&Moved>),
        mut item: impl FnMut(&[u8]),
    ) -> Result<T, ErrorInfo> {
        let node = node.map(str::to_owned);
        let mut replies = self.request(&Request::Folder { v: VERSION, node, ask }, &[]).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Done { .. } => return frame::decode(&body).map_err(not_understood),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Progress { text, moved } => told(&text, moved.as_ref()),
                Reply::Item { .. } => item(&body),
                Reply::Log { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }
}
