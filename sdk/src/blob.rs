//! Blobs: content by hash, on any node, moved from node to node as verified chunks.

mod versions;

use rhd_protocol::{
    VERSION,
    api::Request,
    call::Reply,
    data::{BlobInfo, Content, DataAsk, Moved, Origin},
    error::ErrorInfo,
    frame,
    id::NodeId,
};
use serde::de::DeserializeOwned;

use crate::{Client, requests::not_understood};

/// Content on a node. What nodes lack of it they fetch from those who have it.
#[derive(Debug, Clone)]
pub struct Blob {
    client: Client,
    /// The node it was put on; none: this one.
    node: Option<String>,
    info: BlobInfo,
}

impl Blob {
    pub(crate) fn of(client: &Client, node: Option<String>, info: BlobInfo) -> Self {
        Self { client: client.clone(), node, info }
    }

    /// What is known of it: name, hash, size, node.
    pub fn info(&self) -> &BlobInfo {
        &self.info
    }

    /// All its bytes.
    pub async fn fetch(&self) -> Result<Vec<u8>, ErrorInfo> {
        self.read(0, self.info.content.size).await
    }

    /// Bytes from `at` on; of what is not on this node, only these are fetched.
    pub async fn read(&self, at: u64, len: u64) -> Result<Vec<u8>, ErrorInfo> {
        let mut bytes = Vec::new();
        let from = self.holders();
        let ask = DataAsk::Read { content: self.info.content.clone(), at, len, from };
        self.client.data_chunks(ask, |chunk| bytes.extend_from_slice(chunk), |_, _| ()).await?;
        Ok(bytes)
    }

    /// Has it on a node, too, under the same name; `told` hears how far that is.
    pub async fn to(
        &self,
        node: &str,
        told: impl FnMut(&str, Option<&Moved>),
    ) -> Result<Self, ErrorInfo> {
        let (content, name) = (self.info.content.clone(), self.info.name.clone());
        let ask = DataAsk::Fetch {
            content,
            name,
            from: self.holders(),
            origin: self.info.origin.clone(),
        };
        let node = Some(node).filter(|node| *node != "here");
        let info = self.client.data(node, ask, &[], told).await?;
        Ok(Self { client: self.client.clone(), node: node.map(str::to_owned), info })
    }

    /// Takes its name away on its node; the content goes when nothing else needs it.
    pub async fn remove(self) -> Result<(), ErrorInfo> {
        match self.info.name {
            Some(name) => {
                let node = self.node.as_deref();
                self.client.data(node, DataAsk::Remove { name }, &[], |_, _| ()).await
            }
            None => Ok(()),
        }
    }

    fn holders(&self) -> Vec<NodeId> {
        self.info.node_id.parse().into_iter().collect()
    }
}

impl Client {
    /// Stores bytes on this node; without a name they are kept for a day after their last use.
    pub async fn put_blob(&self, bytes: &[u8], name: Option<&str>) -> Result<Blob, ErrorInfo> {
        let name = name.map(str::to_owned);
        let ask = DataAsk::Put { name, codec: None, parts: Vec::new(), origin: Origin::default() };
        let info = self.data(None, ask, bytes, |_, _| ()).await?;
        Ok(Blob { client: self.clone(), node: None, info })
    }

    /// A blob by name or hash, on `node`, or wherever it is.
    pub async fn blob(&self, blob: &str, node: Option<&str>) -> Result<Blob, ErrorInfo> {
        let ask = DataAsk::Find { blob: blob.to_owned(), far: node.is_none() };
        let info: BlobInfo = self.data(node, ask, &[], |_, _| ()).await?;
        let node = node.map_or_else(|| info.node.clone(), str::to_owned);
        Ok(Blob { client: self.clone(), node: Some(node), info })
    }

    /// Has `node`, or this one, do something about data; `told` hears how far a transfer is.
    pub async fn data<T: DeserializeOwned>(
        &self,
        node: Option<&str>,
        ask: DataAsk,
        body: &[u8],
        mut told: impl FnMut(&str, Option<&Moved>),
    ) -> Result<T, ErrorInfo> {
        let node = node.map(str::to_owned);
        let mut replies = self.request(&Request::Data { v: VERSION, node, ask }, body).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Done { .. } => return frame::decode(&body).map_err(not_understood),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Progress { text, moved } => told(&text, moved.as_ref()),
                Reply::Log { .. } | Reply::Item { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }

    /// Reads content by way of this node; `take` gets its chunks in order.
    pub async fn read_blob(
        &self,
        content: &Content,
        from: Vec<NodeId>,
        take: impl FnMut(&[u8]),
        told: impl FnMut(&str, Option<&Moved>),
    ) -> Result<(), ErrorInfo> {
        let (content, len) = (content.clone(), content.size);
        self.data_chunks(DataAsk::Read { content, at: 0, len, from }, take, told).await
    }

    async fn data_chunks(
        &self,
        ask: DataAsk,
        mut take: impl FnMut(&[u8]),
        mut told: impl FnMut(&str, Option<&Moved>),
    ) -> Result<(), ErrorInfo> {
        let mut replies = self.request(&Request::Data { v: VERSION, node: None, ask }, &[]).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Item { .. } => take(&body),
                Reply::Done { .. } => return Ok(()),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Progress { text, moved } => told(&text, moved.as_ref()),
                Reply::Log { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }
}
