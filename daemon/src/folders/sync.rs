//! What a client has two nodes do with a folder: have a copy, or be alike.

use bytes::Bytes;
use rhd_protocol::{
    call::{Codec, Reply},
    error::{ErrorInfo, ErrorKind},
    folder::{FolderAsk, Place, Synced},
    frame,
    id::NodeId,
    store::is_url,
};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Folders, round::Report as _};
use crate::{
    asked::{Out, value},
    framed::Frame,
};

/// A folder of a node that is known by its id.
#[derive(Debug, Clone)]
struct Side {
    node: NodeId,
    path: String,
    /// What lets the other node read it.
    grant: Option<String>,
}

impl Side {
    fn place(&self) -> Place {
        Place {
            node: Some(self.node.to_string()),
            path: self.path.clone(),
            grant: self.grant.clone(),
        }
    }
}

impl Folders {
    /// Has all of a folder on a node, too.
    pub(super) async fn copy(
        &self,
        from: Place,
        node: Option<&str>,
        to: Option<String>,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        if let Some(to) = to.as_deref().filter(|to| is_url(to)) {
            // Of two stores, the node that is named carries.
            let by = if is_url(&from.path) { node } else { from.node.as_deref() };
            let (path, to) = (from.path.clone(), to.to_owned());
            return self.ask(self.node(by)?, FolderAsk::Push { path, to, both: false }, out).await;
        }
        if is_url(&from.path) {
            let from = Place { node: None, ..from };
            let pull = FolderAsk::Pull { from, to, both: false, they_know: false };
            return self.ask(self.node(node)?, pull, out).await;
        }
        let (from, node) = (self.side(&from)?, self.node(node)?);
        let from = self.granted(from, node).await?.place();
        self.ask(node, FolderAsk::Pull { from, to, both: false, they_know: false }, out).await
    }

    /// Brings what changed on either side to the other; on and on, if `watch`.
    pub(super) async fn sync(
        &self,
        one: Place,
        other: Place,
        watch: bool,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        match (is_url(&one.path), is_url(&other.path)) {
            (false, false) => {}
            (true, true) => {
                return Err(ErrorInfo::new(
                    ErrorKind::BadRequest,
                    "two object stores are not kept alike",
                )
                .hint("copy one to the other: folder.to(…)"));
            }
            (far, _) if !watch => {
                let (near, url) = if far { (other, one.path) } else { (one, other.path) };
                let [there, back] = self.alike_with_store(near, url, out).await?;
                // Of the second place first.
                return value(&if far { [back, there] } else { [there, back] });
            }
            _ => {
                return Err(ErrorInfo::new(
                    ErrorKind::BadRequest,
                    "an object store does not say when something in it changes",
                )
                .hint("sync() now and then"));
            }
        }
        let (one, other) = (self.side(&one)?, self.side(&other)?);
        let (to_one, to_other) = (one.node, other.node);
        let sides = (self.granted(one, to_other).await?, self.granted(other, to_one).await?);
        if !watch {
            return value(&self.alike(&sides, out).await?);
        }
        // Told of before the first look, so that no change falls between.
        let mut changes = [self.changes(&sides.0).await?, self.changes(&sides.1).await?];
        loop {
            let done = self.alike(&sides, out).await?;
            let bytes = Bytes::from(value(&done)?);
            let reply =
                Reply::Item { id: None, codec: Codec::Msgpack, parts: vec![bytes.len() as u64] };
            let frame = Frame::new(&reply, bytes)
                .map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))?;
            if out.send(frame).await.is_err() {
                return value(&());
            }
            let [one, other] = &mut changes;
            tokio::select! {
                changed = one.next() => changed?,
                changed = other.next() => changed?,
            }
        }
    }

    /// Brings what changed in a folder to an object store, then the other way round.
    async fn alike_with_store(
        &self,
        near: Place,
        url: String,
        out: &Out,
    ) -> Result<[Synced; 2], ErrorInfo> {
        let node = self.node(near.node.as_deref())?;
        let push = FolderAsk::Push { path: near.path.clone(), to: url.clone(), both: true };
        let there: Synced = self.asked(node, push, out).await?;
        let from = Place { node: None, path: url, grant: None };
        let to = Some(near.path);
        let pull = FolderAsk::Pull { from, to, both: true, they_know: false };
        Ok([there, self.asked(node, pull, out).await?])
    }

    async fn alike(
        &self,
        (one, other): &(Side, Side),
        out: &Out,
    ) -> Result<[Synced; 2], ErrorInfo> {
        let pull = |from: &Side, to: &Side, they_know| {
            let (from, to) = (from.place(), Some(to.path.clone()));
            FolderAsk::Pull { from, to, both: true, they_know }
        };
        let mut there: Synced = self.asked(other.node, pull(one, other, false), out).await?;
        let mut here: Synced = self.asked(one.node, pull(other, one, true), out).await?;
        // Nothing that clients are told.
        let whole = std::mem::take(&mut here.whole);
        if whole || here.skipped.is_empty() {
            // By their absolute paths, as they are remembered.
            let with = Place { path: here.path.clone(), ..one.place() };
            let settle = FolderAsk::Settle { path: there.path.clone(), with };
            self.asked::<()>(other.node, settle, out).await?;
        } else if here.written + here.removed > 0 {
            // What is in common by now, in spite of what took no part, is what one more look finds.
            there.and(self.asked(other.node, pull(one, other, false), out).await?);
        }
        Ok([there, here])
    }

    async fn asked<T: DeserializeOwned>(
        &self,
        node: NodeId,
        ask: FolderAsk,
        out: &Out,
    ) -> Result<T, ErrorInfo> {
        let body = self.ask(node, ask, out).await?;
        frame::decode(&body).map_err(|e| {
            ErrorInfo::new(ErrorKind::Internal, format!("an answer that is none: {e}"))
                .on(&self.inner.naming.node_name(node))
        })
    }

    fn side(&self, place: &Place) -> Result<Side, ErrorInfo> {
        let node = self.node(place.node.as_deref())?;
        Ok(Side { node, path: place.path.clone(), grant: None })
    }

    /// The same, with what lets `to` read it.
    async fn granted(&self, side: Side, to: NodeId) -> Result<Side, ErrorInfo> {
        if side.node == to {
            return Ok(side);
        }
        // Nobody listens to what is said meanwhile.
        let (out, _) = mpsc::channel(1);
        let ask = FolderAsk::Grant { path: side.path.clone(), to };
        Ok(Side { grant: Some(self.asked(side.node, ask, &out).await?), ..side })
    }

    async fn changes(&self, side: &Side) -> Result<Changes, ErrorInfo> {
        let (out, told) = mpsc::channel(1);
        let (folders, node, of) = (self.clone(), side.node, Place { node: None, ..side.place() });
        let watching =
            tokio::spawn(async move { folders.ask(node, FolderAsk::Watch { of }, &out).await });
        let mut changes = Changes { told, watching: AbortOnDropHandle::new(watching) };
        changes.next().await?;
        Ok(changes)
    }
}

/// Changes of one side.
struct Changes {
    told: mpsc::Receiver<Frame>,
    watching: AbortOnDropHandle<Result<Vec<u8>, ErrorInfo>>,
}

impl Changes {
    /// Returns at the next one.
    async fn next(&mut self) -> Result<(), ErrorInfo> {
        if self.told.recv().await.is_some() {
            return Ok(());
        }
        let ended = |why: String| ErrorInfo::new(ErrorKind::PeerLost, why);
        match (&mut self.watching).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Err(ended("the folder is watched no more".into())),
            Err(error) => Err(ended(format!("watching failed: {error}"))),
        }
    }
}
