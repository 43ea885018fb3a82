//! Large objects, written part by part: seen once they are whole, and nothing left of them else.

use object_store::{PutMultipartOptions, WriteMultipart};

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
    writing: Option<WriteMultipart>,
    at_once: usize,
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
        let writing = Some(WriteMultipart::new_with_chunk_size(begun, part));
        // Parts of a very large object are large themselves.
        let at_once = usize::try_from(AT_ONCE * PART).unwrap_or_default() / part.max(1);
        let at_once = at_once.max(1);
        Ok(Upload { store: self.clone(), path: path.to_owned(), writing, at_once })
    }
}

impl Upload {
    /// Adds bytes; waits while enough are on their way.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let room = writing.wait_for_capacity(self.at_once).await;
        writing.write(bytes);
        room.map_err(self.store.failed("write", &self.path))
    }

    /// Ends it: from now on it is there. Returns what changes when its content does.
    pub async fn finish(mut self) -> Result<String, StoreError> {
        let Some(writing) = self.writing.take() else { return Ok(String::new()) };
        let done = writing.finish().await.map_err(self.store.failed("write", &self.path))?;
        Ok(done.e_tag.unwrap_or_default())
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
