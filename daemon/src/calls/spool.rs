//! Payloads that come from peers: written to a file as they arrive, and passed on as that file.
//!
//! They are in memory up to a size, beyond that on disk; either way this process holds no more than
//! a piece of them. Files in memory are used again once whoever was given one is done with it: fresh
//! pages cost several times what filling them does.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    frame::PAYLOAD_AT,
};

mod pool;

use pool::Pool;

/// Payloads above this size go to disk, in bytes.
const MEMORY: u64 = 1 << 30;
/// Bytes of the disk that are left to others.
const SPARE: u64 = 1 << 30;

/// Where payloads go that are too large for memory, and how large one may be.
#[derive(Debug, Clone)]
pub struct SpoolConfig {
    /// A folder of this node's own.
    pub dir: PathBuf,
    /// Bytes of one payload.
    pub max_payload: u64,
}

/// Where this node's payloads go.
#[derive(Debug, Clone)]
pub(super) struct Spool {
    config: SpoolConfig,
    pool: Pool,
}

impl Spool {
    pub(super) fn new(config: SpoolConfig) -> Self {
        let pool = Pool::new(config.dir.clone());
        Self { config, pool }
    }

    /// Refuses what is longer than this node takes.
    pub(super) fn check_len(&self, len: u64) -> Result<(), ErrorInfo> {
        let limit = self.config.max_payload;
        if len <= limit {
            return Ok(());
        }
        let text = format!("a payload of {}; the limit here is {}", mib(len), mib(limit));
        Err(ErrorInfo::new(ErrorKind::BadRequest, text).hint(
            "pass less at once, yield it in parts, or raise node.max_payload in the node's config",
        ))
    }

    /// A file for a payload, where memory has room for so many bytes at all.
    pub(super) fn file(&self, owner: &str, len: u64, memory: u64) -> io::Result<Filling> {
        if len <= MEMORY.min(memory / 2) {
            return Ok(Filling { file: self.pool.take(owner, len)?, disk: false });
        }
        let dir = &self.config.dir;
        std::fs::create_dir_all(dir)?;
        let free = free_space(dir)?;
        if free < len.saturating_add(SPARE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = tempfile::tempfile_in(dir)?;
        file.set_len(PAYLOAD_AT + len)?;
        file.write_all_at(&[1], 0)?;
        Ok(Filling { file: Arc::new(file), disk: true })
    }

    #[cfg(test)]
    pub(super) fn files(&self) -> usize {
        self.pool.files()
    }
}

/// A file that is being filled.
pub(super) struct Filling {
    pub(super) file: Arc<File>,
    /// Whether it is on disk, where writing may take its time.
    pub(super) disk: bool,
}

impl Filling {
    /// Writes pieces behind each other, and gives back what they were in.
    pub(super) async fn write(&self, pieces: Vec<Bytes>, at: u64) -> io::Result<Vec<Bytes>> {
        if !self.disk {
            return write_all(&self.file, pieces, PAYLOAD_AT + at);
        }
        let file = self.file.clone();
        let write = move || write_all(&file, pieces, PAYLOAD_AT + at);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

fn write_all(file: &File, mut pieces: Vec<Bytes>, mut at: u64) -> io::Result<Vec<Bytes>> {
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    while !left.is_empty() {
        match rustix::io::pwritev(file, left, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    pieces.clear();
    Ok(pieces)
}

fn free_space(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The error for a payload that has no place.
pub(super) fn failed(len: u64, error: &io::Error) -> ErrorInfo {
    let text = format!("a payload of {} can't be stored here: {error}", mib(len));
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the disk of the node's home, or pass less at once"
        }
        _ => "call again later, or pass less at once",
    };
    ErrorInfo::new(ErrorKind::QueueFull, text).hint(hint)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
