//! A folder of an object store as whoever uses it sees it: listed, moved, removed, brought here or
//! there.

use std::path::Path;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rhd_protocol::{
    error::ErrorInfo, folder::Synced, machine::reconcile::Mode, store::is_url, wire::safe_path,
};

use super::{
    Folders, absolute,
    common::STORES,
    download::Far,
    error::FolderError,
    pull::{self, Pull},
    upload::{From, Push},
};
use crate::{
    asked::{Meter, Out, telling, value},
    stores::Store,
};

/// Copies that a store makes at once.
const AT_ONCE: usize = 16;

impl Folders {
    /// What a URL names.
    pub(super) fn store(&self, url: &str) -> Result<Store, ErrorInfo> {
        Ok(self.inner.stores.open(url)?)
    }

    /// Has what a folder here, or of another store, has in an object store, too.
    pub(super) async fn push(
        &self,
        from: &str,
        to: &str,
        both: bool,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let (store, meter) = (self.store(to)?, Meter::default());
        let (url, mode) = (store.at().to_string(), if both { Mode::Both } else { Mode::Copy });
        let push = |from| Push { folders: self, from, to: &store, mode, meter: &meter };
        let done = if is_url(from) {
            let other = self.store(from)?;
            if format!("{}/", other.at()).starts_with(&format!("{url}/"))
                || format!("{url}/").starts_with(&format!("{}/", other.at()))
            {
                let text = format!("{} and {url} are the same, or one is in the other", other.at());
                return Err(FolderError::Request(text).into());
            }
            let push = push(From::Store(&other));
            telling(out, &meter, &url, push.run()).await
        } else {
            let path = absolute(from)?;
            let push = push(From::Disk(&path));
            telling(out, &meter, &url, push.run()).await
        };
        value(&done?)
    }

    /// Has what a folder of an object store has here, too.
    pub(super) async fn pull_from_store(
        &self,
        url: &str,
        to: Option<&str>,
        mode: Mode,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let store = self.store(url)?;
        let to = match to {
            Some(path) => absolute(path)?,
            None => self.place_for(STORES, &store.at().to_string()),
        };
        let done = self.bring(store, &to, mode, out).await?;
        value(&done)
    }

    async fn bring(
        &self,
        store: Store,
        to: &Path,
        mode: Mode,
        out: &Out,
    ) -> Result<Synced, FolderError> {
        let (far, meter) = (Far::new(store, self.inner.notes.clone()), Meter::default());
        let pull = Pull {
            folders: self,
            source: pull::From::Store(&far),
            to,
            mode,
            they_know: false,
            once: false,
            limit: u64::MAX,
            meter: &meter,
        };
        telling(out, &meter, &to.display().to_string(), pull.run()).await
    }

    /// Renames all that is in a folder of a store: copied there, then removed.
    pub(super) async fn move_far(&self, from: &str, to: &str) -> Result<String, ErrorInfo> {
        let (from, to) = (self.store(from)?, self.store(to)?);
        if to.exists().await? {
            return Err(FolderError::Taken(to.at().to_string().into()).into());
        }
        let paths: Vec<String> = from.list().await?.into_iter().map(|o| o.path).collect();
        if paths.is_empty() {
            return Err(FolderError::Missing(from.at().to_string().into()).into());
        }
        let (source, target) = (&from, &to);
        let copies = paths.clone().into_iter().map(|path| async move {
            match target.copy_from(source, &path, &path).await? {
                true => Ok(()),
                false => {
                    let text = format!("{} is in another bucket", target.at());
                    Err(ErrorInfo::from(FolderError::Request(text))
                        .hint("copy it there, then remove it here"))
                }
            }
        });
        stream::iter(copies).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        from.remove(paths).await?;
        Ok(to.at().to_string())
    }

    /// Removes all of a folder of a store, or some of what is in it.
    pub(super) async fn remove_far(
        &self,
        url: &str,
        contents: Option<&[String]>,
    ) -> Result<(), ErrorInfo> {
        let store = self.store(url)?;
        let wanted = contents.unwrap_or_default();
        if let Some(bad) = wanted.iter().find(|name| !safe_path(name)) {
            let text = format!("{bad:?} is no path in {}", store.at());
            return Err(FolderError::Request(text).into());
        }
        if contents.is_none() && store.at().is_bucket() {
            let text = format!("{} is a whole bucket, which is not emptied", store.at());
            return Err(FolderError::Request(text).into());
        }
        let all: Vec<String> = store.list().await?.into_iter().map(|o| o.path).collect();
        let inside = |path: &str, name: &str| {
            path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let missing = wanted.iter().find(|name| !all.iter().any(|path| inside(path, name)));
        if let Some(missing) = missing {
            return Err(FolderError::Missing(store.at().below(missing).to_string().into()).into());
        }
        let goes =
            |path: &String| contents.is_none() || wanted.iter().any(|name| inside(path, name));
        Ok(store.remove(all.into_iter().filter(goes).collect()).await?)
    }
}
