//! Tables: folders of Parquet files, on any node.

use rhd_protocol::{
    VERSION,
    api::Request,
    call::Reply,
    error::ErrorInfo,
    frame,
    table::{Only, Read, Rows, Schema, Stats, TableAsk},
};
use serde::de::DeserializeOwned;

use crate::{Client, Replies, requests::not_understood};

/// A table of a node.
#[derive(Debug, Clone)]
pub struct Table {
    client: Client,
    path: String,
    node: Option<String>,
}

/// What a table is read into: Arrow IPC streams, for whichever Arrow the program has.
#[derive(Debug)]
pub struct Batches {
    replies: Replies,
    rows: Option<u64>,
}

impl Batches {
    /// The next Arrow IPC stream, whole in itself: schema, then at most one batch. The first is there
    /// even where there are no rows. Dropping this ends the reading.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ErrorInfo> {
        if self.rows.is_some() {
            return Ok(None);
        }
        while let Some((reply, body)) = self.replies.next().await? {
            match reply {
                Reply::Item { .. } => return Ok(Some(body.to_vec())),
                Reply::Done { .. } => {
                    self.rows = Some(frame::decode(&body).map_err(not_understood)?);
                    return Ok(None);
                }
                Reply::Fail { error, .. } => return Err(error),
                Reply::Progress { .. } | Reply::Log { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }

    /// How many rows came, once all have.
    pub fn rows(&self) -> Option<u64> {
        self.rows
    }
}

impl Table {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its path on its node.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its node; none: the one that the client is connected to.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Its columns, without reading it.
    pub async fn schema(&self) -> Result<Schema, ErrorInfo> {
        self.ask(TableAsk::Schema { path: self.path.clone() }).await
    }

    /// How many rows it has, or some of its partitions, without reading it.
    pub async fn len(&self, only: Vec<Only>) -> Result<u64, ErrorInfo> {
        self.ask(TableAsk::Count { path: self.path.clone(), only }).await
    }

    /// What its files say of themselves.
    pub async fn stats(&self) -> Result<Stats, ErrorInfo> {
        self.ask(TableAsk::Stats { path: self.path.clone() }).await
    }

    /// Its first rows, as JSON.
    pub async fn head(&self, rows: u32, columns: Option<Vec<String>>) -> Result<Rows, ErrorInfo> {
        self.ask(TableAsk::Head { path: self.path.clone(), rows, columns }).await
    }

    /// Reads it, or what of it is wanted; held up while nobody takes the next.
    pub async fn batches(&self, read: Read) -> Result<Batches, ErrorInfo> {
        let ask = TableAsk::Read { path: self.path.clone(), read };
        Ok(Batches { replies: self.send(ask).await?, rows: None })
    }

    /// Whether it is there.
    pub async fn exists(&self) -> Result<bool, ErrorInfo> {
        self.ask(TableAsk::Exists { path: self.path.clone() }).await
    }

    /// Puts a folder of Parquet files, beside it on its node, in its place, all at once; its rows. Who
    /// reads meanwhile reads the old one to its end.
    pub async fn replace(&self, with: &str) -> Result<u64, ErrorInfo> {
        self.ask(TableAsk::Replace { path: self.path.clone(), with: with.to_owned() }).await
    }

    /// Adds the files of a folder beside it on its node; their rows.
    pub async fn append(&self, with: &str) -> Result<u64, ErrorInfo> {
        self.ask(TableAsk::Append { path: self.path.clone(), with: with.to_owned() }).await
    }

    /// Removes it.
    pub async fn remove(&self) -> Result<(), ErrorInfo> {
        self.ask(TableAsk::Remove { path: self.path.clone() }).await
    }

    async fn send(&self, ask: TableAsk) -> Result<Replies, ErrorInfo> {
        let request = Request::Table { v: VERSION, node: self.node.clone(), ask };
        self.client.request(&request, &[]).await
    }

    async fn ask<T: DeserializeOwned>(&self, ask: TableAsk) -> Result<T, ErrorInfo> {
        let mut replies = self.send(ask).await?;
        while let Some((reply, body)) = replies.next().await? {
            match reply {
                Reply::Done { .. } => return frame::decode(&body).map_err(not_understood),
                Reply::Fail { error, .. } => return Err(error),
                Reply::Item { .. } | Reply::Progress { .. } | Reply::Log { .. } => {}
            }
        }
        Err(not_understood("it has no end"))
    }
}

impl Client {
    /// A table of a node, or of this one: by the absolute path of its folder or file, or one that starts
    /// with `~/`.
    pub fn table(&self, path: &str, node: Option<&str>) -> Table {
        let (path, node) = (path.to_owned(), node.map(str::to_owned));
        Table { client: self.clone(), path, node }
    }
}
