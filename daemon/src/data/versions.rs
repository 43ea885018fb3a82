//! Versions of names: saved, rolled back, renamed and taken away, with the content that they need.
//!
//! What a name stands for is on disk before it does, unless it came from a node that has it: then soon
//! after. A change is on disk before anybody sees it, and what it needs and no longer needs is counted
//! before the next one begins. Once begun it ends, also when whoever asked for it goes away.

use std::{sync::Arc, time::Instant};

use rhd_protocol::{
    data::{Content, Version},
    id::Hash,
};
use tokio::task::spawn_blocking;

use super::{Shelf, error::DataError, gc::Lease, lock, manifest, names::Table};

/// Names that a node keeps.
pub(super) const MAX_NAMES: usize = 100_000;

/// The newest version of a name, and how many of it are kept.
pub(super) type Newest = (Version, u32);

/// What a version needs, held until it is one.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) leases: Vec<Lease>,
    /// The files of a folder, one hash for each.
    pub(super) files: Vec<Hash>,
}

impl From<Lease> for Held {
    fn from(lease: Lease) -> Self {
        Self { leases: vec![lease], files: Vec::new() }
    }
}

/// Versions that there are from now on, or no longer.
#[derive(Debug, Default)]
struct Change {
    added: Option<Version>,
    dropped: Vec<Version>,
}

impl Shelf {
    /// Puts a version on top of a name and gives it its number, unless the newest has the same
    /// content.
    pub(super) async fn save(
        self: &Arc<Self>,
        name: &str,
        version: Version,
        held: impl Into<Held>,
    ) -> Result<Newest, DataError> {
        let (name, keep) = (name.to_owned(), self.names.keep_versions());
        self.change(Some(held.into()), move |table| {
            if table.len() >= MAX_NAMES && !table.contains_key(&name) {
                let text = format!("this node has {MAX_NAMES} names; remove some first");
                return Err(DataError::Request(text));
            }
            let of = name.clone();
            let versions = table.entry(name).or_default();
            if let Some(last) = versions.last() {
                if last.kind() != version.kind() {
                    return Err(DataError::Kind { name: of, kind: last.kind() });
                }
                if (&last.content, &last.tree) == (&version.content, &version.tree) {
                    return Ok(((last.clone(), versions.len() as u32), None));
                }
            }
            Ok(push(versions, version, keep))
        })
        .await
    }

    /// Puts the content of an earlier version on top of a name, as `record` says but for what made
    /// it. The newest stays as it is.
    pub(super) async fn roll_back(
        self: &Arc<Self>,
        name: &str,
        old: Version,
        record: Version,
        held: impl Into<Held>,
    ) -> Result<Newest, DataError> {
        let (name, keep) = (name.to_owned(), self.names.keep_versions());
        self.change(Some(held.into()), move |table| {
            let versions = table.get_mut(&name).filter(|versions| !versions.is_empty());
            let Some(versions) = versions else { return Err(DataError::NoName(name)) };
            let is_same = |last: &&Version| last.number == old.number && last.tree == record.tree;
            if let Some(last) = versions.last().filter(is_same) {
                return Ok(((last.clone(), versions.len() as u32), None));
            }
            let Version { saved_ms, author, author_id, tree, .. } = record;
            let restored = Some(old.number);
            let version = Version { saved_ms, author, author_id, tree, restored, ..old };
            Ok(push(versions, version, keep))
        })
        .await
    }

    /// Gives the versions of a name another name, which nothing has.
    pub(super) async fn rename(
        self: &Arc<Self>,
        name: &str,
        to: &str,
    ) -> Result<Newest, DataError> {
        let (name, to) = (name.to_owned(), to.to_owned());
        self.change(None, move |table| {
            if name != to && table.contains_key(&to) {
                return Err(DataError::Taken(to));
            }
            let versions = table.remove(&name).unwrap_or_default();
            let Some(last) = versions.last() else { return Err(DataError::NoName(name)) };
            let newest = (last.clone(), versions.len() as u32);
            table.insert(to, versions);
            Ok((newest, Some(Change::default())))
        })
        .await
    }

    /// Takes a name away, with all its versions.
    pub(super) async fn remove(self: &Arc<Self>, name: &str) -> Result<(), DataError> {
        let name = name.to_owned();
        self.change(None, move |table| {
            let Some(versions) = table.remove(&name) else { return Err(DataError::NoName(name)) };
            Ok(((), Some(Change { added: None, dropped: versions })))
        })
        .await
    }

    /// One version of a name.
    pub(super) fn version(&self, name: &str, number: u64) -> Result<Version, DataError> {
        let table = self.names.all();
        let versions = table.get(name).ok_or_else(|| DataError::NoName(name.into()))?;
        find(name, versions, number).cloned()
    }

    /// Changes the names, if there is something to change; what is held is kept until that is done.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        held: Option<Held>,
        change: impl FnOnce(&mut Table) -> Result<(T, Option<Change>), DataError> + Send + 'static,
    ) -> Result<T, DataError> {
        let leases = held.iter().flat_map(|held| &held.leases);
        self.store.flush(leases.map(Lease::hash).collect()).await?;
        let turn = self.names.turn().await;
        let shelf = self.clone();
        let work = tokio::spawn(async move {
            let names = shelf.names.clone();
            let write = spawn_blocking(move || {
                let mut table = Table::clone(&names.all());
                let (value, change) = change(&mut table)?;
                let Some(change) = change else { return Ok((value, None)) };
                let gone = lists(&change.dropped, &table);
                names.replace(table, &turn)?;
                Ok((value, Some((change, gone, turn))))
            });
            let (value, changed) = write.await.map_err(DataError::store("write names"))??;
            if let Some((change, gone, turn)) = changed {
                shelf.count(change, &gone, held.as_ref()).await;
                drop(turn);
            }
            drop(held);
            Ok(value)
        });
        work.await.map_err(DataError::store("write names"))?
    }

    /// Keeps what is needed from now on, and lets go what no version needs: `gone` are the lists of
    /// folders that no version is any more.
    async fn count(&self, change: Change, gone: &[Content], held: Option<&Held>) {
        let mut emptied = Vec::with_capacity(gone.len());
        for list in gone {
            match manifest::load(&self.store, list).await {
                Ok(entries) => emptied.push((list.hash, manifest::hashes(&entries))),
                Err(error) => {
                    let hash = list.hash.short();
                    tracing::warn!(%hash, %error, "what it needed stays until the next start");
                }
            }
        }
        let (mut ledger, now) = (lock(&self.ledger), Instant::now());
        if let Some(version) = &change.added {
            ledger.name(version.content.hash, now);
            if let (Some(_), Some(held)) = (&version.tree, held) {
                ledger.keep_tree(version.content.hash, &held.files, now);
            }
        }
        for (list, files) in &emptied {
            ledger.drop_tree(*list, files);
        }
        change.dropped.iter().for_each(|version| ledger.unname(version.content.hash));
    }
}

/// The lists of folders' files among these versions that are no version in the table.
fn lists(dropped: &[Version], table: &Table) -> Vec<Content> {
    let mut gone: Vec<Content> =
        dropped.iter().filter(|v| v.tree.is_some()).map(|v| v.content.clone()).collect();
    gone.sort_unstable_by_key(|content| content.hash);
    gone.dedup();
    if !gone.is_empty() {
        for version in table.values().flatten().filter(|version| version.tree.is_some()) {
            gone.retain(|content| content.hash != version.content.hash);
        }
    }
    gone
}

/// Puts a version on top and takes those off that are too many.
fn push(
    versions: &mut Vec<Version>,
    mut version: Version,
    keep: usize,
) -> (Newest, Option<Change>) {
    version.number = versions.last().map_or(0, |last| last.number).saturating_add(1);
    versions.push(version.clone());
    let old = versions.len().saturating_sub(keep);
    let dropped = versions.drain(..old).collect();
    let change = Change { added: Some(version.clone()), dropped };
    ((version, versions.len() as u32), Some(change))
}

fn find<'a>(name: &str, versions: &'a [Version], number: u64) -> Result<&'a Version, DataError> {
    versions.iter().find(|v| v.number == number).ok_or_else(|| DataError::NoVersion {
        name: name.into(),
        number,
        kept: versions.iter().map(|v| v.number).collect(),
    })
}
