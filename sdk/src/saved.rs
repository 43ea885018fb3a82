//! Folders and tables under names: each version is the files that were in them.

use rhd_protocol::{
    data::{BlobInfo, DataAsk, Lineage, Origin, Saved as Done, Version},
    error::{ErrorInfo, ErrorKind},
    folder::Skipped,
};

use crate::{Blob, Client, Folder, Table};

/// A folder or table that has a name on its node, and versions under it.
///
/// ```no_run
/// # async fn example(client: rhd_sdk::Client) -> Result<(), rhd_sdk::ErrorInfo> {
/// let saved = client.folder("/data/photos", Some("box")).save("photos").await?;
/// for version in saved.history(Some(5)).await? {
///     println!("{} {}", version.number, version.content.hash);
/// }
/// // What is there now is saved first, so that nothing is lost.
/// let saved = saved.rollback(1).await?;
/// println!("{} is as it was, in version {}", saved.path(), saved.info().version);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Saved {
    client: Client,
    node: Option<String>,
    at: At,
    /// The version that it was saved, found or rolled back as.
    of: Blob,
    skipped: Vec<Skipped>,
}

/// What a version was made of.
#[derive(Debug, Clone)]
struct At {
    path: String,
    table: bool,
}

impl Saved {
    /// What is known of it: name, hash, size, node, version.
    pub fn info(&self) -> &BlobInfo {
        self.of.info()
    }

    /// Where it is on its node.
    pub fn path(&self) -> &str {
        &self.at.path
    }

    /// What was left out when it was saved, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The folder, or that of the table.
    pub fn folder(&self) -> Folder {
        self.client.folder(&self.at.path, self.node.as_deref())
    }

    /// The table; none: it is a folder.
    pub fn table(&self) -> Option<Table> {
        self.at.table.then(|| self.client.table(&self.at.path, self.node.as_deref()))
    }

    /// Makes what is there now the newest version.
    pub async fn save(&self) -> Result<Self, ErrorInfo> {
        let name = self.info().name.clone().unwrap_or_default();
        save(&self.client, self.node.as_deref(), self.at.clone(), &name).await
    }

    /// Gives it, and all its versions, another name, which nothing has.
    pub async fn rename(&self, to: &str) -> Result<Self, ErrorInfo> {
        Ok(Self { of: self.of.rename(to).await?, ..self.clone() })
    }

    /// The versions that its node keeps under its name, the newest first.
    pub async fn history(&self, limit: Option<u32>) -> Result<Vec<Version>, ErrorInfo> {
        self.of.history(limit).await
    }

    /// Puts an earlier version in its place, also on disk, as a new version. What is there now is saved
    /// first, unless it is a version; ignored files stay.
    pub async fn rollback(&self, version: u64) -> Result<Self, ErrorInfo> {
        let name = self.info().name.clone().unwrap_or_default();
        let path = Some(self.at.path.clone());
        let ask = DataAsk::Rollback { name, version, path };
        let info = self.client.data(self.node.as_deref(), ask, &[], |_, _| ()).await?;
        of(&self.client, self.node.as_deref(), info)
    }

    /// What made it, and what that was made from, so many steps back, as far as nodes that can be
    /// reached know.
    pub async fn lineage(&self, depth: u32) -> Result<Lineage, ErrorInfo> {
        self.of.lineage(depth).await
    }

    /// Takes its name away on its node, with all its versions; the files stay.
    pub async fn delete(self) -> Result<(), ErrorInfo> {
        self.of.remove().await
    }
}

impl Folder {
    /// Makes what is in it the newest version of a name on its node.
    pub async fn save(&self, name: &str) -> Result<Saved, ErrorInfo> {
        let at = At { path: self.path().to_owned(), table: false };
        save(self.client(), self.node(), at, name).await
    }
}

impl Table {
    /// Makes its files the newest version of a name on its node.
    pub async fn save(&self, name: &str) -> Result<Saved, ErrorInfo> {
        let at = At { path: self.path().to_owned(), table: true };
        save(self.client(), self.node(), at, name).await
    }
}

impl Client {
    /// A folder or table by its name, on `node`, or wherever it is.
    pub async fn saved(&self, name: &str, node: Option<&str>) -> Result<Saved, ErrorInfo> {
        let found = self.blob(name, node).await?;
        let node = node.map_or_else(|| found.info().node.clone(), str::to_owned);
        of(self, Some(&node), found.info().clone())
    }
}

async fn save(client: &Client, node: Option<&str>, at: At, name: &str) -> Result<Saved, ErrorInfo> {
    let (At { path, table }, name) = (at, name.to_owned());
    let ask = DataAsk::SaveFolder { path, name, table, origin: Origin::default() };
    let done: Done = client.data(node, ask, &[], |_, _| ()).await?;
    Ok(Saved { skipped: done.skipped, ..of(client, node, done.info)? })
}

fn of(client: &Client, node: Option<&str>, info: BlobInfo) -> Result<Saved, ErrorInfo> {
    let (client, node) = (client.clone(), node.map(str::to_owned));
    let Some(tree) = &info.tree else {
        let name = info.name.unwrap_or_default();
        let text = format!("{name} is a blob, and neither a folder nor a table");
        let hint = format!("take it as one: client.blob({name:?}, None)");
        return Err(ErrorInfo::new(ErrorKind::BadRequest, text).hint(hint).on(&info.node));
    };
    let at = At { path: tree.path.clone(), table: tree.table };
    let of = Blob::of(&client, node.clone(), info);
    Ok(Saved { client, node, at, of, skipped: Vec::new() })
}
