//! What is done in an object store.

use std::{collections::HashSet, fmt, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::{
    Attribute, Attributes, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutOptions, path::Path,
};
use rhd_protocol::{
    folder::{Listed, MAX_ENTRIES},
    id::Hash,
};

use super::{error::StoreError, location::Location};

/// Bytes that one request reads or writes of a large object.
pub const PART: u64 = 8 << 20;
/// Requests under way at once for one large object.
const AT_ONCE: usize = 4;
/// Names in one list.
const MAX_NAMES: usize = 100_000;
/// What is said of an object beside its bytes; every store takes such names.
const HASH: &str = "rhdblake3";
const EXEC: &str = "rhdexec";

/// An object as a list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Relative to what was listed; empty: that itself.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// What changes when its content does.
    pub tag: String,
    /// When it was written, in milliseconds since 1970.
    pub changed_ms: u64,
}

/// What rhd says of an object that it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// BLAKE3 of its bytes.
    pub hash: Hash,
    /// Whether it is a program.
    pub exec: bool,
}

impl About {
    pub(super) fn attributes(self) -> Attributes {
        let of = |key: &'static str| Attribute::Metadata(key.into());
        let mut attributes = Attributes::new();
        attributes.insert(of(HASH), self.hash.to_string().into());
        if self.exec {
            attributes.insert(of(EXEC), "1".into());
        }
        attributes
    }

    fn of(attributes: &Attributes) -> Option<Self> {
        let said = |key: &'static str| attributes.get(&Attribute::Metadata(key.into()));
        let hash = said(HASH)?.as_ref().parse().ok()?;
        Some(Self { hash, exec: said(EXEC).is_some() })
    }
}

/// Something in an object store, and what is below it.
#[derive(Clone)]
pub struct Store {
    pub(super) client: Arc<dyn ObjectStore>,
    at: Location,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.at)
    }
}

impl Store {
    pub(super) fn new(client: Arc<dyn ObjectStore>, at: Location) -> Self {
        Self { client, at }
    }

    /// Where it is.
    pub fn at(&self) -> &Location {
        &self.at
    }

    pub(super) fn failed(
        &self,
        operation: &'static str,
        path: &str,
    ) -> impl FnOnce(object_store::Error) -> StoreError + use<> {
        let what = self.at.below(path).to_string();
        move |source| match source {
            object_store::Error::Precondition { .. } => StoreError::Changed(what),
            source => StoreError::Failed { operation, what, source: Box::new(source) },
        }
    }

    pub(super) fn key(&self, path: &str) -> Result<Path, StoreError> {
        let key = self.at.key(path);
        Path::parse(&key).map_err(|e| StoreError::Url(format!("{}: {e}", self.at.below(path))))
    }

    /// Every object in it, sorted by path; itself only where it is one object.
    pub async fn list(&self) -> Result<Vec<Object>, StoreError> {
        let mut found = Vec::new();
        let mut listed = self.client.list(Some(&self.key("")?));
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(self.failed("list", ""))?;
            let Some(path) = self.relative(&meta).filter(|path| !path.is_empty()) else { continue };
            if found.len() >= MAX_ENTRIES {
                let text = format!("{} has more than {MAX_ENTRIES} objects", self.at);
                return Err(StoreError::Url(text));
            }
            found.push(object(path, &meta));
        }
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        // Where a folder was made by hand, an empty object stands for it.
        let above = |object: &Object| -> Vec<String> {
            let ends = object.path.match_indices('/');
            ends.map(|(end, _)| object.path[..end].to_owned()).collect()
        };
        let folders: HashSet<String> = found.iter().flat_map(above).collect();
        found.retain(|object| object.size > 0 || !folders.contains(&object.path));
        Ok(found)
    }

    fn relative(&self, meta: &ObjectMeta) -> Option<String> {
        let key = meta.location.as_ref();
        match self.at.path.as_str() {
            "" => Some(key.to_owned()),
            own => Some(key.strip_prefix(own)?.strip_prefix('/')?.to_owned()),
        }
    }

    /// The names in it, those of folders among them, sorted.
    pub async fn names(&self) -> Result<Vec<Listed>, StoreError> {
        let found = self.client.list_with_delimiter(Some(&self.key("")?)).await;
        let found = found.map_err(self.failed("list", ""))?;
        let mut names: Vec<Listed> = Vec::new();
        let folders = found.common_prefixes.iter().filter_map(|path| path.filename());
        names.extend(folders.map(|name| Listed {
            name: name.to_owned(),
            dir: true,
            size: 0,
            changed_ms: 0,
        }));
        for meta in &found.objects {
            let Some(name) = self.relative(meta).filter(|name| !name.is_empty()) else { continue };
            let Object { size, changed_ms, .. } = object(String::new(), meta);
            names.push(Listed { name, dir: false, size, changed_ms });
        }
        if names.len() > MAX_NAMES {
            let text = format!("{} has more than {MAX_NAMES} names", self.at);
            return Err(StoreError::Url(text));
        }
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(names)
    }

    /// Whether anything is in it, or it is an object.
    pub async fn exists(&self) -> Result<bool, StoreError> {
        if !self.at.is_bucket() && self.look("").await?.is_some() {
            return Ok(true);
        }
        let mut listed = self.client.list(Some(&self.key("")?));
        match listed.next().await {
            Some(Err(error)) => {
                let error = self.failed("list", "")(error);
                if error.is_missing() { Ok(false) } else { Err(error) }
            }
            found => Ok(found.is_some()),
        }
    }

    /// One object, and what rhd said of it when it wrote it; none where there is none.
    pub async fn look(&self, path: &str) -> Result<Option<(Object, Option<About>)>, StoreError> {
        match self.find(path).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same for one that has to be there.
    pub async fn find(&self, path: &str) -> Result<(Object, Option<About>), StoreError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = self.client.get_opts(&self.key(path)?, options).await;
        let found = found.map_err(self.failed("look at", path))?;
        Ok((object(path.to_owned(), &found.meta), About::of(&found.attributes)))
    }

    /// The bytes of an object, in order, a few parts ahead. What is not as it was listed any more is
    /// an error.
    pub fn read(
        &self,
        object: &Object,
    ) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
        let parts = (0..object.size.div_ceil(PART)).map(|part| part * PART);
        let (store, object) = (self.clone(), object.clone());
        stream::iter(parts)
            .map(move |at| {
                let (store, object) = (store.clone(), object.clone());
                async move { store.range(&object, at, PART.min(object.size - at)).await }
            })
            .buffered(AT_ONCE)
    }

    /// Some bytes of an object, as many as are asked for.
    pub async fn range(&self, object: &Object, at: u64, len: u64) -> Result<Bytes, StoreError> {
        Ok(self.part(object, at, len).await?.0)
    }

    /// A small object, whole, with what rhd said of it.
    pub async fn take(&self, object: &Object) -> Result<(Bytes, Option<About>), StoreError> {
        self.part(object, 0, object.size).await
    }

    async fn part(
        &self,
        object: &Object,
        at: u64,
        len: u64,
    ) -> Result<(Bytes, Option<About>), StoreError> {
        let path = object.path.as_str();
        if len == 0 {
            return Ok((Bytes::new(), None));
        }
        let options = GetOptions {
            range: Some(GetRange::Bounded(at..at.saturating_add(len))),
            if_match: object.tag.starts_with('"').then(|| object.tag.clone()),
            ..GetOptions::default()
        };
        let read = async {
            let got = self.client.get_opts(&self.key(path)?, options).await;
            let got = got.map_err(self.failed("read", path))?;
            let about = About::of(&got.attributes);
            // A store that answers with more than was asked for must not take our memory.
            let mut bytes = Vec::with_capacity(usize::try_from(len.min(PART)).unwrap_or_default());
            let mut coming = got.into_stream();
            while let Some(some) = coming.try_next().await.map_err(self.failed("read", path))? {
                if (bytes.len() + some.len()) as u64 > len {
                    return Err(StoreError::Changed(self.at.below(path).to_string()));
                }
                bytes.extend_from_slice(&some);
            }
            Ok((bytes, about))
        };
        let (bytes, about) = read.await?;
        match bytes.len() as u64 == len {
            true => Ok((bytes.into(), about)),
            false => Err(StoreError::Changed(self.at.below(path).to_string())),
        }
    }

    /// Writes an object at once; returns what changes when its content does.
    pub async fn put(
        &self,
        path: &str,
        bytes: Bytes,
        about: Option<About>,
    ) -> Result<String, StoreError> {
        let attributes = about.map(About::attributes).unwrap_or_default();
        let options = PutOptions { attributes, ..PutOptions::default() };
        let put = self.client.put_opts(&self.key(path)?, bytes.into(), options).await;
        put.map(|done| done.e_tag.unwrap_or_default()).map_err(self.failed("write", path))
    }

    /// Copies an object, which the store does by itself.
    pub async fn copy(&self, path: &str, to: &str) -> Result<(), StoreError> {
        let copied = self.client.copy(&self.key(path)?, &self.key(to)?).await;
        copied.map_err(self.failed("copy", path))
    }

    /// The same from elsewhere in the bucket; false where that is in another one.
    pub async fn copy_from(&self, other: &Self, path: &str, to: &str) -> Result<bool, StoreError> {
        if !self.at.is_beside(&other.at) {
            return Ok(false);
        }
        let copied = self.client.copy(&other.key(path)?, &self.key(to)?).await;
        copied.map(|()| true).map_err(other.failed("copy", path))
    }

    /// Removes objects; those that are not there are no error.
    pub async fn remove(&self, paths: Vec<String>) -> Result<(), StoreError> {
        let keys = paths.iter().map(|path| self.key(path)).collect::<Result<Vec<_>, _>>()?;
        let keys = stream::iter(keys.into_iter().map(Ok)).boxed();
        let mut removed = self.client.delete_stream(keys);
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("remove from", "")(error)),
            }
        }
        Ok(())
    }
}

fn object(path: String, meta: &ObjectMeta) -> Object {
    let changed_ms = u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or_default();
    let tag = meta.e_tag.clone().unwrap_or_else(|| format!("{changed_ms}-{}", meta.size));
    Object { path, size: meta.size, tag, changed_ms }
}
