//! Answers to questions about folders, here or by the node that they are about.

use std::path::{Path, PathBuf};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    folder::{FolderAsk, MAX_WANTED, Place, Scanned, is_sound},
    id::{Hash, NodeId},
    machine::reconcile::Mode,
    membership::Role,
    store::is_url,
    wire::safe_path,
};

use super::{
    Folders, absolute, blocking,
    error::FolderError,
    give, ignored, list,
    pull::{self, Pull},
    scan::scan,
    source::Source,
    watch,
};
use crate::{
    asked::{Meter, Out, telling, value},
    naming::Route,
};

impl Folders {
    /// Does what a client asks, here or on `node`. What it says meanwhile goes to `out`; the answer is
    /// the body of the final reply. Dropping this cancels it.
    pub async fn request(
        &self,
        node: Option<&str>,
        ask: FolderAsk,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        match ask {
            FolderAsk::Copy { from, node, to } => self.copy(from, node.as_deref(), to, out).await,
            FolderAsk::Sync { one, other, watch } => self.sync(one, other, watch, out).await,
            ask => {
                let node = self.node(node)?;
                self.ask(node, ask, out).await
            }
        }
    }

    /// The node that a request means.
    pub(super) fn node(&self, node: Option<&str>) -> Result<NodeId, ErrorInfo> {
        Ok(match node.map_or(Ok(Route::Here), |node| self.inner.naming.node(node))? {
            Route::Here => self.inner.mesh.me(),
            Route::Peer(peer) => peer,
        })
    }

    /// Asks a node: this one, or a peer.
    pub(super) async fn ask(
        &self,
        node: NodeId,
        ask: FolderAsk,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        match node == self.inner.mesh.me() {
            true => self.give(node, ask, out).await.map_err(|e| e.on(&self.inner.mesh.name())),
            false => self.inner.peers.forward(node, &ask, out).await,
        }
    }

    /// Whether a node may do as it likes here.
    fn trusts(&self, node: NodeId) -> bool {
        node == self.inner.mesh.me() || self.inner.mesh.role_of(node) == Some(Role::Member)
    }

    /// Refuses a node that may not do as it likes here.
    pub(crate) fn may_change(&self, node: NodeId) -> Result<(), ErrorInfo> {
        match self.trusts(node) {
            true => Ok(()),
            false => Err(self.denied(node)),
        }
    }

    fn denied(&self, node: NodeId) -> ErrorInfo {
        let name = self.inner.naming.node_name(node);
        FolderError::Denied(format!("{name} joined as a node: it serves")).into()
    }

    /// The folder that a node may read.
    fn readable(&self, node: NodeId, of: &Place) -> Result<PathBuf, ErrorInfo> {
        let path = absolute(&of.path)?;
        let granted = |text: &String| self.inner.grants.lets(text, &path, node);
        match self.trusts(node) || of.grant.as_ref().is_some_and(granted) {
            true => Ok(path),
            false => Err(self.denied(node)),
        }
    }

    /// Answers a node, which may be this one.
    pub(super) async fn give(
        &self,
        asker: NodeId,
        ask: FolderAsk,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let moves = matches!(ask, FolderAsk::Pull { .. } | FolderAsk::Push { .. });
        let reads = !moves && !matches!(ask, FolderAsk::Watch { .. });
        let _place = match reads {
            true => self.inner.reading.acquire().await.ok(),
            // These take as long as they take.
            false => None,
        };
        match ask {
            FolderAsk::Scan { of, keep } => {
                let root = self.readable(asker, &of)?;
                self.scan(asker, root, keep, out).await
            }
            FolderAsk::Common { of, with } => {
                let (root, kept) = (self.readable(asker, &of)?, self.inner.common.clone());
                let out = out.clone();
                let said = blocking(move || {
                    let entries = kept.load(&root, asker, &with);
                    give::entries(&entries, &out)?;
                    Ok(Scanned { entries: entries.len() as u64, ..Scanned::default() })
                });
                value(&said.await?)
            }
            FolderAsk::Read { of, wanted } => {
                let (root, out) = (self.readable(asker, &of)?, out.clone());
                value(&blocking(move || give::read(&root, &wanted, &out)).await?)
            }
            FolderAsk::Pieces { of, file, size } => {
                let (root, out) = (self.readable(asker, &of)?, out.clone());
                let known = self.inner.known.clone();
                value(&blocking(move || give::proof(&root, &file, size, &known, &out)).await?)
            }
            FolderAsk::There { of, paths } => {
                let root = self.readable(asker, &of)?;
                if paths.len() > MAX_WANTED || !paths.iter().all(|path| safe_path(path)) {
                    let text = "too many paths at once, or some that lead out";
                    return Err(FolderError::Request(text.into()).into());
                }
                value(&blocking(move || ignored::there(&root, &paths)).await?)
            }
            FolderAsk::Watch { of } => {
                let root = self.readable(asker, &of)?;
                watch::watch(&root, out).await?;
                value(&())
            }
            ask => {
                self.may_change(asker)?;
                self.change(ask, out).await
            }
        }
    }

    async fn scan(
        &self,
        asker: NodeId,
        root: PathBuf,
        keep: bool,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let (known, out, path) = (self.inner.known.clone(), out.clone(), root.clone());
        let (entries, said) = blocking(move || {
            let scan = scan(&root, &known)?;
            // Too deep, or one thing through another, as it changed while it was looked at.
            if !is_sound(&scan.entries) {
                let text = format!("{} changed while it was looked at", root.display());
                return Err(FolderError::Request(text));
            }
            give::entries(&scan.entries, &out)?;
            let said = give::scanned(&root, &scan);
            Ok((scan.entries, said))
        })
        .await?;
        if keep {
            self.keep_given(path, asker, entries);
        }
        value(&said)
    }

    /// What only those may ask who may change things.
    async fn change(&self, ask: FolderAsk, out: &Out) -> Result<Vec<u8>, ErrorInfo> {
        match ask {
            FolderAsk::Pull { from, to, both, they_know } => {
                let mode = if both { Mode::Both } else { Mode::Copy };
                self.pull(from, to.as_deref(), mode, they_know, out).await
            }
            FolderAsk::Grant { path, to } => value(&self.inner.grants.give(absolute(&path)?, to)),
            FolderAsk::Settle { path, with } => {
                let (path, other) = (absolute(&path)?, self.node(with.node.as_deref())?);
                if let Some(entries) = self.take_given(&path, other) {
                    let kept = self.inner.common.clone();
                    blocking(move || kept.save(&path, other, &with.path, &entries)).await?;
                }
                value(&())
            }
            FolderAsk::Push { path, to, both } => self.push(&path, &to, both, out).await,
            FolderAsk::List { path } if is_url(&path) => {
                let store = self.store(&path)?;
                let names = store.names().await?;
                // Stores have no empty folders.
                match names.is_empty() && !store.at().is_bucket() {
                    true => Err(FolderError::Missing(path.into()).into()),
                    false => value(&names),
                }
            }
            FolderAsk::Exists { path } if is_url(&path) => {
                value(&self.store(&path)?.exists().await?)
            }
            FolderAsk::Make { path } if is_url(&path) => {
                // It is there as soon as something is in it.
                value(&self.store(&path)?.at().to_string())
            }
            FolderAsk::Move { path, to } if is_url(&path) || is_url(&to) => {
                value(&self.move_far(&path, &to).await?)
            }
            FolderAsk::Remove { path, contents } if is_url(&path) => {
                value(&self.remove_far(&path, contents.as_deref()).await?)
            }
            FolderAsk::List { path } => {
                let path = absolute(&path)?;
                value(&blocking(move || list::list(&path)).await?)
            }
            FolderAsk::Exists { path } => value(&absolute(&path)?.is_dir()),
            FolderAsk::Make { path } => {
                let path = absolute(&path)?;
                let made = tokio::fs::create_dir_all(&path).await;
                made.map_err(FolderError::file("create", &path))?;
                value(&path.display().to_string())
            }
            FolderAsk::Move { path, to } => {
                let (path, to) = (absolute(&path)?, absolute(&to)?);
                let there = to.display().to_string();
                blocking(move || list::rename(&path, &to)).await?;
                value(&there)
            }
            FolderAsk::Remove { path, contents } => {
                let path = absolute(&path)?;
                value(&blocking(move || list::remove(&path, contents.as_deref())).await?)
            }
            _ => Err(ErrorInfo::new(ErrorKind::BadRequest, "that is asked by a client only")),
        }
    }

    async fn pull(
        &self,
        from: Place,
        to: Option<&str>,
        mode: Mode,
        they_know: bool,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        if is_url(&from.path) {
            return self.pull_from_store(&from.path, to, mode, out).await;
        }
        let node = self.node(from.node.as_deref())?;
        let to = match to {
            Some(to) => absolute(to)?,
            None => self.place_for(node, &from.path),
        };
        let from = Place { node: None, ..from };
        if node == self.inner.mesh.me() && overlap(&absolute(&from.path)?, &to) {
            let text = format!("{} and {} are one, or one in the other", from.path, to.display());
            return Err(FolderError::Request(text).into());
        }
        let (source, meter) = (Source::new(self, node, from), Meter::default());
        let pull = Pull {
            folders: self,
            source: pull::From::Node(&source),
            to: &to,
            mode,
            they_know,
            once: false,
            limit: u64::MAX,
            meter: &meter,
        };
        let what = to.display().to_string();
        value(&telling(out, &meter, &what, pull.run()).await?)
    }

    /// Where a folder of another node goes that is given no place: the same one each time.
    pub(super) fn place_for(&self, node: NodeId, path: &str) -> PathBuf {
        let name =
            Path::new(path).file_name().map_or("folder".into(), |name| name.to_string_lossy());
        let which = Hash::of(format!("{node}\0{path}").as_bytes()).short();
        self.inner.places.join(format!("{name}-{which}"))
    }
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
