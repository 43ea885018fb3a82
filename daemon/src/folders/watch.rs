//! Saying that something in a folder has changed, as the file system tells.

use std::{ffi::OsStr, path::Path, time::Duration};

use bytes::Bytes;
use notify::{Event, RecursiveMode, Watcher as _};
use rhd_protocol::{
    call::{Codec, Reply},
    folder::STAGING,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::error::FolderError;
use crate::{asked::Out, framed::Frame};

/// Changes that come this close to each other are told as one.
const QUIET: Duration = Duration::from_millis(50);
/// Changes that don't end are told this often.
const AT_LEAST: Duration = Duration::from_millis(500);

/// Sends an item each time that something has changed, until nobody listens.
pub(super) async fn watch(root: &Path, out: &Out) -> Result<(), FolderError> {
    // One change that has not been told is as good as many.
    let (tell, mut changes) = mpsc::channel(1);
    let top = root.to_owned();
    let told = move |event: notify::Result<Event>| {
        let counts = event.as_ref().map_or(true, |event| {
            !event.kind.is_access() && event.paths.iter().any(|path| is_content(&top, path))
        });
        if counts {
            let _ = tell.try_send(());
        }
    };
    let failed = |error: notify::Error| {
        let why = match error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "too many folders are watched: raise fs.inotify.max_user_watches".into()
            }
            _ => error.to_string(),
        };
        FolderError::file("watch", root)(std::io::Error::other(why))
    };
    let mut watcher = notify::recommended_watcher(told).map_err(failed)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(failed)?;
    // So that whoever listens knows that nothing is missed from now on.
    while send(out).await {
        if changes.recv().await.is_none() {
            break;
        }
        let end = Instant::now() + AT_LEAST;
        while let Ok(Some(())) = timeout_at(end.min(Instant::now() + QUIET), changes.recv()).await {
        }
    }
    Ok(())
}

async fn send(out: &Out) -> bool {
    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts: Vec::new() };
    match Frame::new(&reply, Bytes::new()) {
        Ok(frame) => out.send(frame).await.is_ok(),
        Err(_) => false,
    }
}

/// Whether a path is part of what a folder holds.
fn is_content(root: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(root).unwrap_or(path);
    let mut names = below.components().map(|component| component.as_os_str());
    let first = names.clone().next();
    first != Some(OsStr::new(STAGING)) && !names.any(|name| name == ".git")
}
