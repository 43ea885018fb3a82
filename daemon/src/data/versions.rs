//! Versions of names: saved, rolled back, renamed and taken away, with the content that they need.
//!
//! A change is on disk before anybody sees it, and what it needs and no longer needs is counted
//! before the next one begins. Once begun it ends, also when whoever asked for it goes away.

use std::{sync::Arc, time::Instant};

use rhd_protocol::{data::Version, id::Hash};
use tokio::task::spawn_blocking;

use super::{Shelf, error::DataError, gc::Lease, lock, names::Table};

/// Names that a node keeps.
pub(super) const MAX_NAMES: usize = 100_000;

/// The newest version of a name, and how many of it are kept.
pub(super) type Newest = (Version, u32);

/// Content that names need from now on, or no longer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    added: Vec<Hash>,
    dropped: Vec<Hash>,
}

impl Shelf {
    /// Puts a version on top of a name and gives it its number, unless the newest has the same
    /// content.
    pub(super) async fn save(
        self: &Arc<Self>,
        name: &str,
        version: Version,
        lease: Lease,
    ) -> Result<Newest, DataError> {
        let (name, keep) = (name.to_owned(), self.names.keep_versions());
        self.change(Some(lease), move |table| {
            if table.len() >= MAX_NAMES && !table.contains_key(&name) {
                let text = format!("this node has {MAX_NAMES} names; remove some first");
                return Err(DataError::Request(text));
            }
            let versions = table.entry(name).or_default();
            if let Some(last) = versions.last().filter(|last| last.content == version.content) {
                return Ok(((last.clone(), versions.len() as u32), None));
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
        number: u64,
        record: Version,
        lease: Lease,
    ) -> Result<Newest, DataError> {
        let (name, keep) = (name.to_owned(), self.names.keep_versions());
        self.change(Some(lease), move |table| {
            let versions = table.get_mut(&name).filter(|versions| !versions.is_empty());
            let Some(versions) = versions else { return Err(DataError::NoName(name)) };
            let old = find(&name, versions, number)?.clone();
            if versions.last().is_some_and(|last| last.number == number) {
                return Ok(((old, versions.len() as u32), None));
            }
            let Version { saved_ms, author, author_id, .. } = record;
            let restored = Some(number);
            let version = Version { saved_ms, author, author_id, restored, ..old };
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
            let dropped = versions.into_iter().map(|v| v.content.hash).collect();
            Ok(((), Some(Change { added: Vec::new(), dropped })))
        })
        .await
    }

    /// One version of a name.
    pub(super) fn version(&self, name: &str, number: u64) -> Result<Version, DataError> {
        let table = self.names.all();
        let versions = table.get(name).ok_or_else(|| DataError::NoName(name.into()))?;
        find(name, versions, number).cloned()
    }

    /// Changes the names, if there is something to change; what is leased is kept until that is done.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        lease: Option<Lease>,
        change: impl FnOnce(&mut Table) -> Result<(T, Option<Change>), DataError> + Send + 'static,
    ) -> Result<T, DataError> {
        let turn = self.names.turn().await;
        let shelf = self.clone();
        let work = spawn_blocking(move || {
            let mut table = Table::clone(&shelf.names.all());
            let (value, change) = change(&mut table)?;
            let Some(change) = change else { return Ok(value) };
            shelf.names.replace(table, &turn)?;
            let (mut ledger, now) = (lock(&shelf.ledger), Instant::now());
            change.added.iter().for_each(|hash| ledger.name(*hash, now));
            change.dropped.iter().for_each(|hash| ledger.unname(*hash));
            drop(ledger);
            drop((lease, turn));
            Ok(value)
        });
        work.await.map_err(DataError::store("write names"))?
    }
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
    let dropped = versions.drain(..old).map(|v| v.content.hash).collect();
    let change = Change { added: vec![version.content.hash], dropped };
    ((version, versions.len() as u32), Some(change))
}

fn find<'a>(name: &str, versions: &'a [Version], number: u64) -> Result<&'a Version, DataError> {
    versions.iter().find(|v| v.number == number).ok_or_else(|| DataError::NoVersion {
        name: name.into(),
        number,
        kept: versions.iter().map(|v| v.number).collect(),
    })
}
