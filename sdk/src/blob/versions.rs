//! Versions of a blob's name, and what they were made from.

use rhd_protocol::{
    data::{BlobInfo, DataAsk, Lineage, Origin, Version},
    error::{ErrorInfo, ErrorKind},
};

use super::Blob;
use crate::Client;

impl Blob {
    /// Gives it a name on its node, where it stays until that is taken away.
    pub async fn save(&self, name: &str) -> Result<Self, ErrorInfo> {
        let (content, origin) = (self.info.content.clone(), self.info.origin.clone());
        let name = Some(name.to_owned());
        self.told(DataAsk::Fetch { content, name, from: self.holders(), origin }).await
    }

    /// Gives it, and all its versions, another name, which nothing has.
    pub async fn rename(&self, to: &str) -> Result<Self, ErrorInfo> {
        let (name, to) = (self.name()?, to.to_owned());
        self.told(DataAsk::Rename { name, to }).await
    }

    /// The versions that its node keeps under its name, the newest first.
    pub async fn history(&self, limit: Option<u32>) -> Result<Vec<Version>, ErrorInfo> {
        let ask = DataAsk::History { name: self.name()?, limit };
        self.client.data(self.node.as_deref(), ask, &[], |_, _| ()).await
    }

    /// Puts the content of an earlier version in place, as a new version.
    pub async fn rollback(&self, version: u64) -> Result<Self, ErrorInfo> {
        self.told(DataAsk::Rollback { name: self.name()?, version, path: None }).await
    }

    /// What made it, and what that was made from, so many steps back, as far as nodes that can be
    /// reached know.
    pub async fn lineage(&self, depth: u32) -> Result<Lineage, ErrorInfo> {
        let info = &self.info;
        let (blob, version) = match &info.name {
            Some(name) => (name.clone(), Some(info.version).filter(|version| *version > 0)),
            None => (info.content.hash.to_string(), None),
        };
        let ask = DataAsk::Lineage { blob, version, depth };
        self.client.data(self.node.as_deref(), ask, &[], |_, _| ()).await
    }

    fn name(&self) -> Result<String, ErrorInfo> {
        self.info.name.clone().ok_or_else(|| {
            let text = format!("blob {} has no name", self.info.content.hash.short());
            ErrorInfo::new(ErrorKind::BadRequest, text).hint("give it one: blob.save(name)")
        })
    }

    async fn told(&self, ask: DataAsk) -> Result<Self, ErrorInfo> {
        let info = self.client.data(self.node.as_deref(), ask, &[], |_, _| ()).await?;
        Ok(Self { client: self.client.clone(), node: self.node.clone(), info })
    }
}

impl Client {
    /// Stores bytes under a name, whose record says what they were made from: the texts of
    /// [`Input`](rhd_protocol::data::Input)s.
    pub async fn put_blob_made(
        &self,
        bytes: &[u8],
        name: &str,
        origin: Origin,
    ) -> Result<Blob, ErrorInfo> {
        let name = Some(name.to_owned());
        let ask = DataAsk::Put { name, codec: None, parts: Vec::new(), origin };
        let info = self.data(None, ask, bytes, |_, _| ()).await?;
        Ok(Blob { client: self.clone(), node: None, info })
    }

    /// The names of data on all nodes that can be reached, or those below a folder.
    pub async fn data_names(&self, below: Option<&str>) -> Result<Vec<BlobInfo>, ErrorInfo> {
        let ask = DataAsk::Names { below: below.map(str::to_owned), far: true };
        self.data(None, ask, &[], |_, _| ()).await
    }
}
