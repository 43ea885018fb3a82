//! Files of a deployment on a stream: [`Deploy::File`] frames, in the order of the answer `Want`.
//!
//! One thread reads or writes the disk, the task moves frames; a short queue between them bounds
//! what is in memory.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use rhd_protocol::{
    id::Hash,
    wire::{CHUNK, Deploy},
};
use tokio::{io::AsyncRead, sync::mpsc};

use super::{error::BlobError, snapshot::Snapshot, store::Store};
use crate::framed::{self, Outlet};

/// Chunks between disk and stream; at most [`CHUNK`] bytes each.
const CHUNK_QUEUE: usize = 4;
/// How long one chunk may take to come; while a transfer hangs, nothing can be pruned.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a transfer moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Whole files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

struct Chunk {
    hash: Hash,
    last: bool,
    bytes: Bytes,
}

/// Sends the wanted files; refuses wishes that no snapshot offered.
pub async fn send_files<W: Outlet>(
    snapshots: &[Snapshot],
    want: &[Hash],
    stream: &mut W,
) -> Result<Moved, BlobError> {
    let contents: HashMap<_, _> = snapshots.iter().flat_map(Snapshot::contents).collect();
    let mut seen = HashSet::new();
    let mut plan = Vec::new();
    for hash in want {
        let Some((size, path)) = contents.get(hash) else {
            return Err(BlobError::Protocol("it asked for a file that was not offered"));
        };
        if !seen.insert(hash) {
            return Err(BlobError::Protocol("it asked for a file twice"));
        }
        plan.push((*hash, *size, path.clone()));
    }
    let (chunks, mut queue) = mpsc::channel(CHUNK_QUEUE);
    let reading = tokio::task::spawn_blocking(move || read_all(plan, &chunks));
    let mut moved = Moved::default();
    while let Some(Chunk { hash, last, bytes }) = queue.recv().await {
        moved.files += u64::from(last);
        moved.bytes += bytes.len() as u64;
        framed::send(stream, &Deploy::File { hash, last }, bytes).await?;
    }
    reading.await.map_err(|_| BlobError::Aborted)??;
    Ok(moved)
}

fn read_all(
    plan: Vec<(Hash, u64, PathBuf)>,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), BlobError> {
    for (hash, size, path) in plan {
        let mut done = 0;
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(&path).map_err(BlobError::io("open", &path))?;
        loop {
            let wanted = (size - done).min(CHUNK as u64);
            let mut bytes = Vec::new();
            let part = (&mut file).take(wanted).read_to_end(&mut bytes);
            done += part.map_err(BlobError::io("read", &path))? as u64;
            hasher.update(&bytes);
            let last = done == size;
            let short = (bytes.len() as u64) < wanted;
            // The last chunk is not sent if the file is no longer what was offered.
            if short || (last && hasher.finalize().as_bytes() != hash.as_bytes()) {
                return Err(BlobError::Changed(path));
            }
            if chunks.blocking_send(Chunk { hash, last, bytes: bytes.into() }).is_err() {
                return Ok(());
            }
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// Receives the wanted files, in order, into the store; what arrives is held against hash and size.
pub(super) async fn receive_files<R: AsyncRead + Unpin>(
    store: Store,
    want: Vec<(Hash, u64)>,
    stream: &mut R,
) -> Result<Moved, BlobError> {
    let files = want.len();
    let (chunks, queue) = mpsc::channel(CHUNK_QUEUE);
    let writing = tokio::task::spawn_blocking(move || write_all(&store, &want, queue));
    let read = pump(stream, files, chunks, PATIENCE).await;
    let written = writing.await.map_err(|_| BlobError::Aborted)?;
    read?;
    written
}

/// Reads frames until that many files have ended, or the writer gave up.
async fn pump<R: AsyncRead + Unpin>(
    stream: &mut R,
    files: usize,
    chunks: mpsc::Sender<Chunk>,
    patience: Duration,
) -> Result<(), BlobError> {
    let mut ended = 0;
    while ended < files {
        let broken = |kind: io::ErrorKind| framed::FramedError::Io(kind.into());
        let frame = tokio::time::timeout(patience, framed::read(stream, CHUNK))
            .await
            .map_err(|_| broken(io::ErrorKind::TimedOut))??
            .ok_or_else(|| broken(io::ErrorKind::UnexpectedEof))?;
        let Deploy::File { hash, last } = frame.header().map_err(framed::FramedError::from)? else {
            return Err(BlobError::Protocol("a chunk of a file was due"));
        };
        if frame.body.is_empty() && !last {
            return Err(BlobError::Protocol("an empty chunk"));
        }
        ended += usize::from(last);
        if chunks.send(Chunk { hash, last, bytes: frame.body }).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn write_all(
    store: &Store,
    want: &[(Hash, u64)],
    mut queue: mpsc::Receiver<Chunk>,
) -> Result<Moved, BlobError> {
    let mut moved = Moved::default();
    for (hash, size) in want {
        let mut writer = store.writer(*hash, *size)?;
        loop {
            let chunk = queue.blocking_recv().ok_or(BlobError::WrongLength(*hash))?;
            if chunk.hash != *hash {
                return Err(BlobError::Protocol("files out of order"));
            }
            writer.write(&chunk.bytes)?;
            moved.bytes += chunk.bytes.len() as u64;
            if chunk.last {
                break;
            }
        }
        writer.finish()?;
        moved.files += 1;
    }
    Ok(moved)
}

/// Takes the wanted files of this node's own snapshots into its store.
pub(super) fn import(
    store: &Store,
    snapshots: &[Snapshot],
    want: &[(Hash, u64)],
) -> Result<Moved, BlobError> {
    let contents: HashMap<_, _> = snapshots.iter().flat_map(Snapshot::contents).collect();
    let mut moved = Moved::default();
    let mut buffer = vec![0; 256 * 1024];
    for (hash, size) in want {
        let (_, path) = contents.get(hash).ok_or(BlobError::Missing(*hash))?;
        let mut writer = store.writer(*hash, *size)?;
        let mut file = File::open(path).map_err(BlobError::io("open", path))?;
        loop {
            match file.read(&mut buffer).map_err(BlobError::io("read", path))? {
                0 => break,
                n => writer.write(&buffer[..n])?,
            }
        }
        writer.finish()?;
        moved.files += 1;
        moved.bytes += size;
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sender_that_falls_silent_is_given_up() {
        let (mut near, mut far) = tokio::io::duplex(2 * CHUNK);
        let file = Deploy::File { hash: Hash::of(b"x"), last: false };
        framed::send(&mut far, &file, Bytes::from_static(b"half")).await.unwrap();
        let (chunks, _queue) = mpsc::channel(CHUNK_QUEUE);
        let patience = Duration::from_millis(20);
        assert!(pump(&mut near, 1, chunks, patience).await.is_err());
    }
}
