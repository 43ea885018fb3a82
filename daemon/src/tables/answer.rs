//! Answers to questions about tables, here or by the node that they are about.

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    frame::to_vec,
    id::NodeId,
    store::is_url,
    table::{Only, TableAsk},
};
use serde::Serialize;

use tokio::runtime::Handle;

use super::{Tables, error::TableError, far, layout::Root, plan::Plan, read, stats};
use crate::{asked::Out, background, folders::absolute, naming::Route, stores::Store};

/// Where a table is.
enum Spot {
    Disk(std::path::PathBuf),
    Store(Store),
}

impl Tables {
    /// Does what a client asks, here or on `node`. Rows go to `out`; the answer is the body of the
    /// final reply. Dropping this cancels it.
    pub async fn request(
        &self,
        node: Option<&str>,
        ask: TableAsk,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let route = node.map_or(Ok(Route::Here), |node| self.naming.node(node))?;
        match route {
            Route::Peer(peer) if peer != self.mesh.me() => {
                self.peers.forward(peer, &ask, out).await
            }
            _ => {
                let given = self.give(self.mesh.me(), ask, out).await;
                given.map_err(|e| e.on(&self.mesh.name()))
            }
        }
    }

    /// Answers a node, which may be this one.
    pub(super) async fn give(
        &self,
        asker: NodeId,
        ask: TableAsk,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        self.folders.may_change(asker)?;
        let published = self.published.clone();
        match ask {
            TableAsk::Exists { path } if is_url(&path) => {
                value(&self.stores.open(&path)?.exists().await?)
            }
            TableAsk::Replace { path, with } if is_url(&path) => {
                let (table, with) = (self.stores.open(&path)?, self.stores.open(&with)?);
                let runtime = Handle::current();
                value(&blocking(move || far::replace(&table, &with, &runtime)).await?)
            }
            TableAsk::Append { path, with } if is_url(&path) => {
                let (table, with) = (self.stores.open(&path)?, self.stores.open(&with)?);
                let runtime = Handle::current();
                value(&blocking(move || far::append(&table, &with, &runtime)).await?)
            }
            TableAsk::Remove { path } if is_url(&path) => {
                let (table, runtime) = (self.stores.open(&path)?, Handle::current());
                value(&blocking(move || far::remove(&table, &runtime)).await?)
            }
            TableAsk::Exists { path } => {
                let path = absolute(&path)?;
                value(&tokio::fs::try_exists(&path).await.unwrap_or(false))
            }
            TableAsk::Schema { path } => self.known(&path, stats::schema).await,
            TableAsk::Stats { path } => self.known(&path, stats::stats).await,
            TableAsk::Count { path, only } => {
                self.known(&path, move |root| rows(root, &only)).await
            }
            TableAsk::Head { path, rows, columns } => {
                self.known(&path, move |root| stats::head(root, rows, columns)).await
            }
            TableAsk::Read { path, read } => {
                let out = out.clone();
                self.known(&path, move |root| read::read(root, &read, &out)).await
            }
            TableAsk::Replace { path, with } => {
                let (path, with) = (absolute(&path)?, absolute(&with)?);
                value(&blocking(move || published.replace(&path, &with)).await?)
            }
            TableAsk::Append { path, with } => {
                let (path, with) = (absolute(&path)?, absolute(&with)?);
                value(&blocking(move || published.append(&path, &with)).await?)
            }
            TableAsk::Remove { path } => {
                let path = absolute(&path)?;
                value(&blocking(move || published.remove(&path)).await?)
            }
        }
    }

    /// Looks at a table, whose files stay as long as that takes.
    async fn known<T: Serialize + Send + 'static>(
        &self,
        path: &str,
        look: impl FnOnce(Root) -> Result<T, TableError> + Send + 'static,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let (published, runtime) = (self.published.clone(), Handle::current());
        let spot = match is_url(path) {
            true => Spot::Store(self.stores.open(path)?),
            false => Spot::Disk(absolute(path)?),
        };
        let place = self.reads.clone().try_acquire_owned().map_err(|_| {
            ErrorInfo::new(ErrorKind::QueueFull, "too many tables are read at once")
                .hint("read on when some are done")
        })?;
        let looked = blocking(move || {
            let _place = place;
            match spot {
                Spot::Store(store) => look(far::open(&store, &runtime)?),
                Spot::Disk(path) => {
                    let (root, held) = published.open(&path)?;
                    let looked = look(root);
                    drop(held);
                    looked
                }
            }
        });
        value(&looked.await?)
    }
}

fn rows(root: Root, only: &[Only]) -> Result<u64, TableError> {
    Ok(Plan::open(root, only)?.rows())
}

/// Runs what waits for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TableError> + Send + 'static,
) -> Result<T, TableError> {
    match background::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(TableError::Defect(format!("a thread failed: {error}"))),
    }
}

/// A value as the body of a reply.
fn value(value: &impl Serialize) -> Result<Vec<u8>, ErrorInfo> {
    to_vec(value).map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))
}
