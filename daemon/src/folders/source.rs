//! The folder that another one shall be like: on this node or another.

use std::sync::Arc;

use rhd_protocol::{
    call::Reply,
    error::ErrorInfo,
    folder::{
        Entry, FolderAsk, MAX_ENTRIES, MAX_LIST, MAX_WANTED, Pieces, Place, Scanned, Wanted,
        is_sound,
    },
    frame,
    id::{Hash, NodeId},
    pieces,
};
use tokio::{
    sync::mpsc,
    time::{Duration, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{Folders, digest::Values, error::FolderError};
use crate::{background, framed::Frame};

/// Replies under way: enough that the next one is there when one is written.
const AHEAD: usize = 4;
/// Bytes of paths in one question, which is the header of a frame.
const ASKED: usize = 64 << 10;
/// How long a node may take for the next piece.
const STALL: Duration = Duration::from_secs(30);

/// Where it is.
#[derive(Clone)]
pub(super) struct Source {
    folders: Folders,
    pub(super) node: NodeId,
    pub(super) place: Place,
}

/// Replies that come.
pub(super) struct Coming {
    frames: mpsc::Receiver<Frame>,
    task: AbortOnDropHandle<Result<Vec<u8>, ErrorInfo>>,
    node: String,
}

impl Coming {
    /// The next one's body, and the lengths of its parts; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(Vec<u64>, bytes::Bytes)>, FolderError> {
        while let Some(frame) = self.frames.recv().await {
            match frame.header::<Reply>() {
                Ok(Reply::Item { parts, .. }) => {
                    let sum = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(*part));
                    if sum != Some(frame.body.len() as u64) {
                        return Err(self.nonsense("parts that do not make up its answer"));
                    }
                    return Ok(Some((parts, frame.body)));
                }
                Ok(_) => {}
                Err(error) => return Err(self.nonsense(&error.to_string())),
            }
        }
        Ok(None)
    }

    /// The same, from a node that may not take long.
    pub(super) async fn soon(&mut self) -> Result<Option<(Vec<u64>, bytes::Bytes)>, FolderError> {
        match timeout(STALL, self.next()).await {
            Ok(next) => next,
            Err(_) => Err(FolderError::Peer(
                ErrorInfo::new(
                    rhd_protocol::error::ErrorKind::PeerLost,
                    format!("{} sent nothing for {} s", self.node, STALL.as_secs()),
                )
                .hint("try again: what has come is kept, and not sent again"),
            )),
        }
    }

    /// The answer at the end.
    pub(super) async fn end<T: serde::de::DeserializeOwned>(self) -> Result<T, FolderError> {
        let node = self.node;
        let body = match self.task.await {
            Ok(answer) => answer.map_err(FolderError::Peer)?,
            Err(error) => return Err(FolderError::Nonsense(format!("asking {node}: {error}"))),
        };
        frame::decode(&body).map_err(|e| FolderError::Nonsense(format!("{node} answered: {e}")))
    }

    fn nonsense(&self, what: &str) -> FolderError {
        FolderError::Nonsense(format!("{} sent {what}", self.node))
    }
}

impl Source {
    pub(super) fn new(folders: &Folders, node: NodeId, place: Place) -> Self {
        Self { folders: folders.clone(), node, place }
    }

    fn ask(&self, ask: FolderAsk) -> Coming {
        let (out, frames) = mpsc::channel(AHEAD);
        let (folders, node) = (self.folders.clone(), self.node);
        let name = folders.inner.naming.node_name(node);
        let task = background::tasks().spawn(async move {
            match node == folders.inner.mesh.me() {
                true => folders.give(node, ask, &out).await,
                false => folders.inner.peers.forward(node, &ask, &out).await,
            }
        });
        Coming { frames, task: AbortOnDropHandle::new(task), node: name }
    }

    /// What is in it, to be kept in mind there or not.
    pub(super) async fn scan(&self, keep: bool) -> Result<(Vec<Entry>, Scanned), FolderError> {
        self.list(FolderAsk::Scan { of: self.place.clone(), keep }).await
    }

    /// What it last had in common with a folder of this node, as its own node remembers.
    pub(super) async fn common(&self, with: String) -> Result<Vec<Entry>, FolderError> {
        let ask = FolderAsk::Common { of: self.place.clone(), with };
        Ok(self.list::<Scanned>(ask).await?.0)
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        ask: FolderAsk,
    ) -> Result<(Vec<Entry>, T), FolderError> {
        let mut coming = self.ask(ask);
        let (mut entries, mut bytes) = (Vec::<Entry>::new(), 0);
        while let Some((_, body)) = coming.next().await? {
            bytes += body.len() as u64;
            let some: Vec<Entry> =
                frame::decode(&body).map_err(|e| coming.nonsense(&format!("no entries: {e}")))?;
            if entries.len() + some.len() > MAX_ENTRIES || bytes > MAX_LIST {
                let path = self.place.path.clone().into();
                return Err(FolderError::TooMany { path, limit: MAX_ENTRIES });
            }
            entries.extend(some);
        }
        let nonsense = coming.nonsense("entries that contradict each other");
        let said = coming.end().await?;
        if is_sound(&entries) { Ok((entries, said)) } else { Err(nonsense) }
    }

    /// Whether each of these paths is there after all, though it is not listed.
    pub(super) async fn there(&self, paths: &[String]) -> Result<Vec<bool>, FolderError> {
        let mut there = Vec::with_capacity(paths.len());
        let mut left = paths;
        while !left.is_empty() {
            let mut bytes = 0;
            let fits = left.iter().take(MAX_WANTED).take_while(|path| {
                bytes += path.len();
                bytes <= ASKED
            });
            let (some, rest) = left.split_at(fits.count().max(1));
            let coming =
                self.ask(FolderAsk::There { of: self.place.clone(), paths: some.to_vec() });
            let nonsense = coming.nonsense("an answer to another question");
            let said: Vec<bool> = coming.end().await?;
            if said.len() != some.len() {
                return Err(nonsense);
            }
            there.extend(said);
            left = rest;
        }
        Ok(there)
    }

    /// Pieces of its files.
    pub(super) fn read(&self, wanted: Vec<Wanted>) -> Coming {
        self.ask(FolderAsk::Read { of: self.place.clone(), wanted })
    }

    /// What proves the pieces of a large file, and where it has holes; none where it has changed.
    pub(super) async fn proof(
        &self,
        entry: &Entry,
    ) -> Result<Option<(Arc<Values>, Pieces)>, FolderError> {
        let (of, file, size) = (self.place.clone(), entry.path.clone(), entry.size);
        let mut coming = self.ask(FolderAsk::Pieces { of, file, size });
        let count = pieces::count(size);
        let mut values: Values = Vec::new();
        while let Some((_, body)) = coming.next().await? {
            let (some, rest) = body.as_chunks::<32>();
            if !rest.is_empty() || (values.len() + some.len()) as u64 > count {
                return Err(coming.nonsense("more than proves the file"));
            }
            values.extend_from_slice(some);
        }
        match coming.end().await {
            Ok(pieces) if is_proof(&values, entry.hash) => Ok(Some((values.into(), pieces))),
            // It is another file now, or gone.
            Ok(_) | Err(FolderError::Peer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_proof(values: &[[u8; 32]], hash: Hash) -> bool {
    pieces::root(values) == Some(hash)
}
