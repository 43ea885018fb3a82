//! Answers about names: what they stood for, and what becomes of them.

use std::time::{SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use rhd_protocol::{
    data::{BlobInfo, Content, DataAsk, Origin, Tree, Version},
    error::ErrorInfo,
    id::NodeId,
    name::Name,
};
use tokio::time::timeout;

use super::{ANSWER, Data, fetch, gc::Lease, versions::MAX_NAMES};
use crate::{
    asked::{Meter, Out, refused, value},
    mesh,
};

/// A name that content gets, who gives it, and what made the content.
#[derive(Debug)]
pub(super) struct Label {
    pub(super) name: Option<String>,
    pub(super) origin: Origin,
    pub(super) author: NodeId,
}

impl Data {
    /// Gives content its name, if it shall have one, and says what is there now.
    pub(super) async fn saved(
        &self,
        content: Content,
        label: Label,
        lease: Lease,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let Some(name) = label.name else { return value(&self.plain(&content)) };
        check_name(&name)?;
        check_origin(&label.origin)?;
        let version = self.record(content, label.origin, label.author);
        let newest = self.shelf.save(&name, version, lease).await?;
        value(&self.named(name, newest))
    }

    /// Puts an earlier version back on top; its content is fetched where it was lost.
    pub(super) async fn roll_back(
        &self,
        name: String,
        number: u64,
        path: Option<String>,
        author: NodeId,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let old = self.shelf.version(&name, number)?;
        if old.tree.is_some() {
            return self.restore(name, old, path, author, out).await;
        }
        if path.is_some() {
            return Err(refused(&format!("{name} is a blob, which has no place")));
        }
        let lease = fetch::whole(self, &old.content, &[], &Meter::default()).await?;
        let record = self.record(old.content.clone(), Origin::default(), author);
        let newest = self.shelf.roll_back(&name, old, record, lease).await?;
        value(&self.named(name, newest))
    }

    /// Gives a name's versions another name.
    pub(super) async fn rename(&self, name: &str, to: String) -> Result<Vec<u8>, ErrorInfo> {
        check_name(&to)?;
        let newest = self.shelf.rename(name, &to).await?;
        value(&self.named(to, newest))
    }

    /// The versions of a name, the newest first.
    pub(super) fn history(
        &self,
        name: &str,
        limit: Option<u32>,
    ) -> Result<Vec<Version>, ErrorInfo> {
        let table = self.shelf.names.all();
        let versions = table.get(name).ok_or_else(|| self.unknown(name))?;
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(versions.iter().rev().take(limit).cloned().collect())
    }

    /// The names below a folder, or all: of this node, else of all that can be reached.
    pub(super) async fn names(&self, below: Option<&str>, far: bool) -> Vec<BlobInfo> {
        let is_below = |name: &str| {
            below.is_none_or(|below| {
                let rest = name.strip_prefix(below.trim_end_matches('/'));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let table = self.shelf.names.all();
        let here =
            table.iter().filter(|(name, _)| is_below(name)).filter_map(|(name, versions)| {
                let newest = (versions.last()?.clone(), versions.len() as u32);
                let info = self.named(name.clone(), newest);
                Some(BlobInfo { origin: Origin::default(), ..info })
            });
        let mut all: Vec<BlobInfo> = here.collect();
        if far {
            let ask = DataAsk::Names { below: below.map(str::to_owned), far: false };
            let ask = &ask;
            let asks = self.reachable().into_iter().map(|peer| async move {
                let names = self.peers.value::<Vec<BlobInfo>>(peer, ask);
                let names = timeout(ANSWER, names).await.ok()?.ok()?;
                let names = names.into_iter().take(MAX_NAMES);
                Some(names.filter_map(|info| self.said(peer, info)).collect::<Vec<_>>())
            });
            let there = join_all(asks).await.into_iter().flatten().flatten();
            all.extend(there.filter(|info| info.name.as_deref().is_some_and(is_below)));
            all.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        }
        all
    }

    /// What a peer says that it has, as far as it may be so: it speaks for itself only.
    pub(super) fn said(&self, peer: NodeId, info: BlobInfo) -> Option<BlobInfo> {
        let named = info.name.as_deref().is_none_or(is_full);
        let tree = info.tree.as_ref().is_none_or(Tree::is_sound);
        if !named || !tree || !info.content.is_sound() || !info.origin.is_sound() {
            return None;
        }
        let (node, node_id) = (self.naming.node_name(peer), peer.to_string());
        Some(BlobInfo { node, node_id, ..info })
    }

    /// The nodes that have a link.
    pub(super) fn reachable(&self) -> Vec<NodeId> {
        let peers = self.mesh.peers();
        let peers = peers.borrow();
        peers.iter().filter(|p| p.path != mesh::Route::None).map(|p| p.node).collect()
    }

    pub(super) fn record(&self, content: Content, mut origin: Origin, author: NodeId) -> Version {
        // What is saved as it was read is not made from itself.
        let own = content.hash.to_string();
        origin.inputs.retain(|input| *input != own);
        let Origin { run, service, inputs, more } = origin;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Version {
            number: 0,
            content,
            saved_ms: now.as_millis() as u64,
            author: self.naming.node_name(author),
            author_id: author.to_string(),
            run,
            inputs,
            service,
            more,
            restored: None,
            tree: None,
        }
    }

    /// Content that has a name.
    pub(super) fn named(&self, name: String, (version, versions): (Version, u32)) -> BlobInfo {
        let content = version.content.clone();
        BlobInfo {
            name: Some(name),
            origin: version.origin(),
            saved_ms: version.saved_ms,
            versions,
            version: version.number,
            tree: version.tree,
            ..self.plain(&content)
        }
    }

    /// Content that has none.
    pub(super) fn plain(&self, content: &Content) -> BlobInfo {
        BlobInfo {
            name: None,
            content: content.clone(),
            node: self.mesh.name(),
            node_id: self.mesh.me().to_string(),
            held: content.size,
            saved_ms: 0,
            versions: 0,
            version: 0,
            origin: Origin::default(),
            tree: None,
        }
    }
}

fn is_full(name: &str) -> bool {
    matches!(Name::parse(name), Ok(Name::Full(_)))
}

pub(super) fn check_name(name: &str) -> Result<(), ErrorInfo> {
    if is_full(name) { Ok(()) } else { Err(refused("that is no full name")) }
}

/// Refuses what no record may say.
pub(super) fn check_origin(origin: &Origin) -> Result<(), ErrorInfo> {
    if origin.is_sound() {
        return Ok(());
    }
    Err(refused("what is said to have made it is no run, or no names and hashes, or too many"))
}
