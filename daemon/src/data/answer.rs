//! Answers to questions about data, here or by the node that they are about.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, future::join_all};
use rhd_protocol::{
    call::{Codec, Reply},
    data::{BlobInfo, CHUNK, Content, DataAsk, MAX_HASHES, MAX_HOLDERS},
    error::{ErrorInfo, ErrorKind},
    id::{Hash, NodeId},
    membership::Role,
    store::is_url,
};
use tokio::time::timeout;

use super::{
    ANSWER, Data,
    error::DataError,
    far, fetch,
    gc::{self, Pressure},
    history::Label,
    lock, put,
    trees::Folder,
    verify,
};
use crate::{
    asked::{Meter, Out, refused, telling, value},
    framed::{Body, Frame},
    naming::Route,
};

impl Data {
    /// Does what a client asks, here or on `node`. What it says meanwhile goes to `out`, which holds
    /// it up when full; the answer is the body of the final reply. Dropping this cancels it.
    pub async fn request(
        &self,
        node: Option<&str>,
        ask: DataAsk,
        body: Body,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let route = node.map_or(Ok(Route::Here), |node| self.naming.node(node))?;
        let ask = self.canonical(ask)?;
        match (route, ask) {
            (Route::Here, DataAsk::Put { name, codec, parts, origin }) => {
                let (content, lease) = self.put(codec, parts, body).await?;
                let label = Label { name, origin, author: self.mesh.me() };
                self.saved(content, label, lease).await
            }
            (Route::Here, ask) => {
                let done = self.done(ask, self.mesh.me(), out).await;
                done.map_err(|e| e.on(&self.mesh.name()))
            }
            (Route::Peer(peer), DataAsk::Put { name, codec, parts, origin }) => {
                // It is taken in here, and the other node gets it as it gets everything.
                let (content, _lease) = self.put(codec, parts, body).await?;
                let ask = DataAsk::Fetch { content, name, from: vec![self.mesh.me()], origin };
                self.peers.forward(peer, &ask, out).await
            }
            (Route::Peer(peer), ask) => self.peers.forward(peer, &ask, out).await,
        }
    }

    /// The same with full names.
    fn canonical(&self, mut ask: DataAsk) -> Result<DataAsk, ErrorInfo> {
        match &mut ask {
            DataAsk::Put { name: Some(name), .. }
            | DataAsk::Import { name: Some(name), .. }
            | DataAsk::Fetch { name: Some(name), .. }
            | DataAsk::SaveFolder { name, .. }
            | DataAsk::Remove { name }
            | DataAsk::History { name, .. }
            | DataAsk::Rollback { name, .. } => *name = self.naming.canonical(name)?,
            DataAsk::Find { blob, .. } | DataAsk::Lineage { blob, .. }
                if blob.parse::<Hash>().is_err() =>
            {
                *blob = self.naming.canonical(blob)?;
            }
            DataAsk::Rename { name, to } => {
                (*name, *to) = (self.naming.canonical(name)?, self.naming.canonical(to)?);
            }
            DataAsk::Names { below: Some(below), .. } if !below.starts_with('/') => {
                *below = self.naming.canonical(below.trim_end_matches('/'))?;
            }
            _ => {}
        }
        Ok(ask)
    }

    async fn put(
        &self,
        codec: Option<Codec>,
        parts: Vec<u64>,
        body: Body,
    ) -> Result<(Content, gc::Lease), ErrorInfo> {
        let sound = Content { hash: Hash::of(b""), size: body.len(), codec, parts };
        check(&sound)?;
        self.shelf.mend().await?;
        let (hash, size, lease) = put::body(&self.shelf, body).await?;
        Ok((Content { hash, size, ..sound }, lease))
    }

    /// The same, with an eye on the store: where it failed, the next one opens it anew.
    async fn done(&self, ask: DataAsk, author: NodeId, out: &Out) -> Result<Vec<u8>, ErrorInfo> {
        self.shelf.mend().await?;
        let done = self.here(ask, author, out).await;
        if done.as_ref().is_err_and(|error| error.kind == ErrorKind::Internal) {
            self.shelf.store.doubt().await;
        }
        done
    }

    /// Does what is asked by a node, on this one.
    async fn here(&self, ask: DataAsk, author: NodeId, out: &Out) -> Result<Vec<u8>, ErrorInfo> {
        match ask {
            DataAsk::Put { .. } => Err(refused("content is put on the node of its client")),
            DataAsk::Import { path, name, origin } if is_url(&path) => {
                let meter = Meter::default();
                let came = far::import(self, &path, &meter);
                let (hash, size, lease) = telling(out, &meter, &path, came).await?;
                let content = Content { hash, size, codec: None, parts: Vec::new() };
                self.saved(content, Label { name, origin, author }, lease).await
            }
            DataAsk::Import { path, name, origin } => {
                let (hash, size, lease) = put::file(&self.shelf, &absolute(&path)?).await?;
                let content = Content { hash, size, codec: None, parts: Vec::new() };
                self.saved(content, Label { name, origin, author }, lease).await
            }
            DataAsk::SaveFolder { path, name, table, origin } => {
                self.save_folder(Folder { path, name, table, origin }, author, out).await
            }
            DataAsk::Find { blob, far } => value(&self.find(&blob, far).await?),
            DataAsk::Have { hashes } => {
                if hashes.len() > MAX_HASHES {
                    return Err(refused("too many hashes in one question"));
                }
                let mut held = Vec::with_capacity(hashes.len());
                for hash in hashes {
                    held.push(self.shelf.store.whole(hash).await?);
                }
                value(&held)
            }
            DataAsk::Fetch { content, name, from, origin } => {
                let what = name.clone().unwrap_or_else(|| content.hash.short());
                let lease = self.fetched(&content, &from, &what, out).await?;
                self.saved(content, Label { name, origin, author }, lease).await
            }
            DataAsk::Read { content, at, len, from } => {
                self.read(&content, at, len, &from, out).await?;
                value(&())
            }
            DataAsk::Export { content, path, from } => {
                let _lease = self.fetched(&content, &from, &content.hash.short(), out).await?;
                if is_url(&path) {
                    let meter = Meter::default();
                    let gone = far::export(self, &content, &path, &meter);
                    telling(out, &meter, &path, gone).await?;
                    return value(&self.plain(&content));
                }
                let path = absolute(&path)?;
                self.export(&content, &path).await?;
                value(&self.plain(&content))
            }
            DataAsk::List {} => value(&self.list()),
            DataAsk::Remove { name } => {
                self.shelf.remove(&name).await?;
                value(&())
            }
            DataAsk::Names { below, far } => value(&self.names(below.as_deref(), far).await),
            DataAsk::Rename { name, to } => self.rename(&name, to).await,
            DataAsk::History { name, limit } => value(&self.history(&name, limit)?),
            DataAsk::Rollback { name, version, path } => {
                self.roll_back(name, version, path, author, out).await
            }
            DataAsk::Records { inputs } => value(&self.records(&inputs).await?),
            DataAsk::Lineage { blob, version, depth } => {
                value(&self.lineage(&blob, version, depth).await?)
            }
            DataAsk::StatFile { path } if is_url(&path) => {
                let found = self.stores.open(&path)?.look("").await?;
                value(&found.map(|(object, _)| object.size))
            }
            DataAsk::RemoveFile { path } if is_url(&path) => {
                let store = self.stores.open(&path)?;
                store.find("").await?;
                store.remove(vec![String::new()]).await?;
                value(&())
            }
            DataAsk::StatFile { path } => {
                let path = absolute(&path)?;
                match tokio::fs::metadata(&path).await {
                    Ok(meta) if meta.is_file() => value(&Some(meta.len())),
                    Ok(_) => Err(refused(&format!("{} is no regular file", path.display()))),
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => value(&None::<u64>),
                    Err(e) => Err(DataError::file("look at", path)(e).into()),
                }
            }
            DataAsk::RemoveFile { path } => {
                let path = absolute(&path)?;
                tokio::fs::remove_file(&path).await.map_err(DataError::file("remove", &path))?;
                value(&())
            }
            DataAsk::Collect { dry_run } => {
                value(&gc::collect(&self.shelf, Pressure::default(), dry_run).await?)
            }
            DataAsk::Verify {} => value(&verify::all(&self.shelf, out).await?),
        }
    }

    async fn fetched(
        &self,
        content: &Content,
        from: &[NodeId],
        what: &str,
        out: &Out,
    ) -> Result<gc::Lease, ErrorInfo> {
        check(content)?;
        check_holders(from)?;
        let meter = Meter::default();
        let fetch = fetch::whole(self, content, from, &meter);
        Ok(telling(out, &meter, what, fetch).await?)
    }

    fn list(&self) -> Vec<BlobInfo> {
        let names = self.shelf.names.all();
        let unnamed = lock(&self.shelf.ledger).unnamed();
        let mut listed = Vec::new();
        for (name, versions) in names.iter() {
            let Some(last) = versions.last() else { continue };
            listed.push(self.named(name.clone(), (last.clone(), versions.len() as u32)));
        }
        let plain = |hash, size| Content { hash, size, codec: None, parts: Vec::new() };
        let mut rest = unnamed;
        rest.sort_unstable();
        listed.extend(rest.into_iter().map(|(hash, size)| self.plain(&plain(hash, size))));
        listed
    }

    /// A blob by name or hash: what this node knows, else what the nodes that can be reached know.
    async fn find(&self, blob: &str, far: bool) -> Result<BlobInfo, ErrorInfo> {
        let here =
            match blob.parse::<Hash>() {
                Ok(hash) => self.shelf.store.whole(hash).await?.map(|size| {
                    self.plain(&Content { hash, size, codec: None, parts: Vec::new() })
                }),
                Err(_) => self.shelf.names.get(blob).map(|newest| self.named(blob.into(), newest)),
            };
        if !far {
            return here.ok_or_else(|| self.unknown(blob));
        }
        let peers = self.reachable();
        let ask = DataAsk::Find { blob: blob.into(), far: false };
        let asks = peers.iter().map(|peer| async {
            let info = timeout(ANSWER, self.peers.value::<BlobInfo>(*peer, &ask)).await;
            self.said(*peer, info.ok()?.ok()?)
        });
        let there = match here.as_ref().is_some_and(|info| info.name.is_none()) {
            true => Vec::new(),
            false => join_all(asks).await,
        };
        let all = here.into_iter().chain(there.into_iter().flatten());
        // The newest; of equals this node's own, which comes first.
        let best = all.reduce(|best, one| if one.saved_ms > best.saved_ms { one } else { best });
        best.ok_or_else(|| self.unknown(blob))
    }

    async fn read(
        &self,
        content: &Content,
        at: u64,
        len: u64,
        from: &[NodeId],
        out: &Out,
    ) -> Result<(), ErrorInfo> {
        check(content)?;
        check_holders(from)?;
        let end = at.saturating_add(len).min(content.size);
        if at >= end {
            return Ok(());
        }
        let _lease = gc::lease(&self.shelf, content.hash).await;
        let meter = Meter::default();
        let fetch = fetch::range(self, content, at..end, from, &meter);
        telling(out, &meter, &content.hash.short(), fetch).await?;
        if (at, end) != (0, content.size) && self.shelf.store.large(content.hash).is_none() {
            self.shelf.store.linger(content.hash);
        }
        let mut chunks = Box::pin(self.shelf.store.read(content.hash, at, end - at));
        let mut gathered = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    verify::found(&self.shelf, content.hash, &error).await;
                    return Err(error.into());
                }
            };
            if gathered.len() + chunk.len() > CHUNK {
                send(out, gathered.split().freeze()).await?;
            }
            match chunk.len() < CHUNK {
                true => gathered.extend_from_slice(&chunk),
                false => send(out, chunk).await?,
            }
        }
        if !gathered.is_empty() {
            send(out, gathered.freeze()).await?;
        }
        Ok(())
    }

    /// Writes a blob to a file: beside it first, so that nobody sees a half.
    async fn export(&self, content: &Content, path: &Path) -> Result<(), DataError> {
        use tokio::io::AsyncWriteExt as _;
        let failed = |what| DataError::file(what, path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let temp = tempfile::Builder::new()
            .prefix(".rhd-")
            .tempfile_in(folder)
            .map_err(failed("write beside"))?;
        let (file, temp) = temp.into_parts();
        if self.shelf.store.export(content.hash, &file, path).await? {
            let flushed = tokio::fs::File::from_std(file).sync_all().await;
            flushed.map_err(failed("write"))?;
            return temp.persist(path).map_err(|e| DataError::file("write", path)(e.error));
        }
        let mut file = tokio::fs::File::from_std(file);
        let mut chunks = Box::pin(self.shelf.store.read(content.hash, 0, content.size));
        let mut gathered = Vec::with_capacity(CHUNK);
        while let Some(chunk) = chunks.next().await {
            gathered.extend_from_slice(&chunk?);
            if gathered.len() >= CHUNK {
                file.write_all(&gathered).await.map_err(failed("write"))?;
                gathered.clear();
            }
        }
        file.write_all(&gathered).await.map_err(failed("write"))?;
        file.sync_all().await.map_err(failed("write"))?;
        temp.persist(path).map_err(|e| DataError::file("write", path)(e.error))
    }

    pub(super) fn unknown(&self, blob: &str) -> ErrorInfo {
        ErrorInfo::new(ErrorKind::NotFound, format!("no node that can be reached has {blob}"))
            .hint("see `rhd blob ls` for what is here, `rhd peers` for who can be reached")
            .on(&self.mesh.name())
    }
}

/// Answers a peer: what changes something, or reads and writes files, only for those who may.
pub(super) async fn peer(
    data: &Data,
    peer: NodeId,
    ask: DataAsk,
    out: &Out,
) -> Result<Vec<u8>, ErrorInfo> {
    let harmless = matches!(
        ask,
        DataAsk::Find { far: false, .. }
            | DataAsk::Have { .. }
            | DataAsk::List {}
            | DataAsk::Names { far: false, .. }
            | DataAsk::History { .. }
            | DataAsk::Records { .. }
    );
    if !harmless && data.mesh.role_of(peer) != Some(Role::Member) {
        let text = format!("{} joined as a node: it serves", data.naming.node_name(peer));
        return Err(ErrorInfo::new(ErrorKind::PermissionDenied, text)
            .hint("invite it with `rhd invite --role member`"));
    }
    data.done(ask, peer, out).await
}

async fn send(out: &Out, bytes: Bytes) -> Result<(), ErrorInfo> {
    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts: vec![bytes.len() as u64] };
    let frame = Frame::new(&reply, bytes).map_err(|e| refused(&e.to_string()))?;
    out.send(frame).await.map_err(|_| refused("nobody reads it any more"))
}

fn check(content: &Content) -> Result<(), ErrorInfo> {
    if content.is_sound() { Ok(()) } else { Err(refused("the parts do not make up the content")) }
}

fn check_holders(from: &[NodeId]) -> Result<(), ErrorInfo> {
    if from.len() <= MAX_HOLDERS { Ok(()) } else { Err(refused("too many holders")) }
}

fn absolute(path: &str) -> Result<PathBuf, ErrorInfo> {
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(refused(&format!("{} is not an absolute path", path.display())))
}
