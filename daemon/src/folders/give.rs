//! What a folder of this node gives: its entries, pieces of its files, and what proves them.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::{Codec, Reply},
    folder::{ENTRIES, Entry, MAX_WANTED, MAX_WANTED_BYTES, Pieces, Scanned, Wanted},
    frame::to_vec,
    pieces::{self, PIECE},
};
use serde::Serialize;

use super::{cache::Stamp, digest, error::FolderError, known::Known, scan::Scan, tree::Tree};
use crate::{asked::Out, framed::Frame};

/// Bytes of what proves pieces, in one reply.
const PROOF: usize = 1 << 20;

/// Sends a list of entries, in as many replies as it takes.
pub(super) fn entries(entries: &[Entry], out: &Out) -> Result<(), FolderError> {
    for some in entries.chunks(ENTRIES) {
        let bytes = value(&some)?;
        let parts = vec![bytes.len() as u64];
        send(out, parts, bytes)?;
    }
    Ok(())
}

/// What is said of a folder after its entries.
pub(super) fn scanned(root: &Path, scan: &Scan) -> Scanned {
    Scanned {
        path: root.display().to_string(),
        entries: scan.entries.len() as u64,
        bytes: scan.bytes(),
        skipped: scan.skipped.clone(),
    }
}

/// Sends pieces of files, about a piece's size in each reply.
pub(super) fn read(root: &Path, wanted: &[Wanted], out: &Out) -> Result<(), FolderError> {
    let len = |wanted: &Wanted| pieces::span(wanted.index, wanted.size).1;
    let total: u64 = wanted.iter().map(len).sum();
    if wanted.len() > MAX_WANTED || total > MAX_WANTED_BYTES {
        return Err(FolderError::Request("too much is asked for at once".into()));
    }
    let tree = Tree::open(root).map_err(FolderError::file("open", root))?;
    let (mut parts, mut bytes) = (Vec::new(), Vec::with_capacity(total.min(PIECE) as usize));
    let mut last: Option<(&str, File)> = None;
    for one in wanted {
        if bytes.len() as u64 + len(one) > PIECE {
            send(out, std::mem::take(&mut parts), std::mem::take(&mut bytes))?;
        }
        let file = match last.take() {
            Some((path, file)) if path == one.path => Ok(file),
            _ => tree.read(&one.path),
        };
        let start = bytes.len();
        if let Ok(file) = file {
            if fill(&file, one, &mut bytes).is_none() {
                bytes.truncate(start);
            }
            last = Some((&one.path, file));
        }
        parts.push((bytes.len() - start) as u64);
    }
    send(out, parts, bytes)
}

/// Appends a piece; none where the file has another size now.
fn fill(file: &File, wanted: &Wanted, bytes: &mut Vec<u8>) -> Option<()> {
    if file.metadata().ok()?.len() != wanted.size {
        return None;
    }
    let (at, len) = pieces::span(wanted.index, wanted.size);
    let start = bytes.len();
    bytes.resize(start + len as usize, 0);
    file.read_exact_at(&mut bytes[start..], at).ok()
}

/// Sends what proves the pieces of a large file, and says where it has holes.
pub(super) fn proof(
    root: &Path,
    path: &str,
    size: u64,
    known: &Arc<Known>,
    out: &Out,
) -> Result<Pieces, FolderError> {
    let full = root.join(path);
    let changed = || FolderError::Request(format!("{} has changed", full.display()));
    let tree = Tree::open(root).map_err(FolderError::file("open", root))?;
    let file = tree.read(path).map_err(FolderError::file("open", &full))?;
    let meta = file.metadata().map_err(FolderError::file("read", &full))?;
    if meta.len() != size || size <= PIECE {
        return Err(changed());
    }
    let kept = known.current(&full, Stamp::of(&meta)).and_then(|hash| known.values(hash));
    let values = match kept {
        Some(values) => values,
        None => {
            let read = digest::digest(&file, size, digest::threads());
            let (hash, values) = read.map_err(FolderError::file("read", &full))?;
            known.learn(root, &full, Stamp::of(&meta), hash, values.clone());
            known.keep(root);
            values.into()
        }
    };
    for some in values.chunks(PROOF / 32) {
        let bytes = some.as_flattened().to_vec();
        send(out, vec![bytes.len() as u64], bytes)?;
    }
    Ok(Pieces { holes: digest::holes(&file, size) })
}

fn send(out: &Out, parts: Vec<u64>, bytes: Vec<u8>) -> Result<(), FolderError> {
    let reply = Reply::Item { id: None, codec: Codec::Msgpack, parts };
    let frame = Frame::new(&reply, Bytes::from(bytes));
    let frame = frame.map_err(|e| FolderError::Nonsense(e.to_string()))?;
    let gone = |_| FolderError::Request("nobody reads it any more".into());
    out.blocking_send(frame).map_err(gone)
}

/// A value as the body of a reply.
pub(super) fn value(value: &impl Serialize) -> Result<Vec<u8>, FolderError> {
    to_vec(value).map_err(|e| FolderError::Nonsense(format!("an answer that is none: {e}")))
}
