//! Large objects, written part by part: seen once they are whole, and nothing left of them else.

use bytes::BytesMut;
use object_store::{MultipartUpload, PutMultipartOptions, PutResult};
use tokio::task::JoinSet;

use super::{
    error::StoreError,
    store::{About, PART, Store},
};

/// Parts that an object may have; stores take 10,000.
const MAX_PARTS: u64 = 9_000;
/// Parts under way at once.
const AT_ONCE: u64 = 4;

/// An object that is being written. Dropped before its end, it never was: parts that nobody removes
/// are paid for.
pub struct Upload {
    store: Store,
    path: String,
    /// None once it is there.
    writing: Option<Writing>,
    /// Bytes of each part but the last.
    part: usize,
    at_once: usize,
}

/// What has to be given up unless it ends well.
struct Writing {
    upload: Box<dyn MultipartUpload>,
    parts: JoinSet<object_store::Result<()>>,
    /// Bytes of the next part.
    next: BytesMut,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({} in {:?})", self.path, self.store)
    }
}

impl Store {
    /// Begins to write an object of this size.
    pub async fn upload(
        &self,
        path: &str,
        size: u64,
        about: Option<About>,
    ) -> Result<Upload, StoreError> {
        let attributes = about.map(About::attributes).unwrap_or_default();
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let begun = self.client.put_multipart_opts(&self.key(path)?, options).await;
        let begun = begun.map_err(self.failed("write", path))?;
        let part = PART.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
        let part = usize::try_from(part).unwrap_or(usize::MAX);
        let writing = Writing { upload: begun, parts: JoinSet::new(), next: BytesMut::new() };
        // Parts of a very large object are large themselves.
        let at_once = usize::try_from(AT_ONCE * PART).unwrap_or_default() / part.max(1);
        let at_once = at_once.max(1);
        let (store, path) = (self.clone(), path.to_owned());
        Ok(Upload { store, path, writing: Some(writing), part, at_once })
    }
}

impl Upload {
    /// Adds bytes; waits while enough are on their way.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        while !bytes.is_empty() {
            let (some, rest) = bytes.split_at(bytes.len().min(self.part - writing.next.len()));
            writing.next.extend_from_slice(some);
            bytes = rest;
            if writing.next.len() == self.part {
                let room = writing.room(self.at_once).await;
                room.map_err(self.store.failed("write", &self.path))?;
                writing.send();
            }
        }
        Ok(())
    }

    /// Ends it: from now on it is there. Returns what changes when its content does. Until then it is
    /// given up like any other that is dropped.
    pub async fn finish(mut self) -> Result<String, StoreError> {
        let Some(writing) = &mut self.writing else { return Ok(String::new()) };
        let done = writing.finish().await.map_err(self.store.failed("write", &self.path))?;
        self.writing = None;
        Ok(done.e_tag.unwrap_or_default())
    }
}

impl Writing {
    /// Sends what there is as a part.
    fn send(&mut self) {
        let part = self.upload.put_part(self.next.split().freeze().into());
        self.parts.spawn(part);
    }

    /// Waits until fewer parts are on their way.
    async fn room(&mut self, at_once: usize) -> object_store::Result<()> {
        while self.parts.len() >= at_once.max(1) {
            self.one().await?;
        }
        Ok(())
    }

    /// Waits for one of them.
    async fn one(&mut self) -> object_store::Result<()> {
        self.parts.join_next().await.map_or(Ok(Ok(())), |part| part)?
    }

    async fn finish(&mut self) -> object_store::Result<PutResult> {
        if !self.next.is_empty() {
            self.send();
        }
        while !self.parts.is_empty() {
            self.one().await?;
        }
        self.upload.complete().await
    }

    async fn abort(mut self) -> object_store::Result<()> {
        self.parts.shutdown().await;
        self.upload.abort().await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(writing), Ok(runtime)) =
            (self.writing.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(writing.abort());
        }
    }
}
