//! Payloads that come from peers: written to a file as they arrive, and passed on as that file.
//!
//! They are in memory up to a size, beyond that on disk; either way this process holds no more than
//! a piece of them. Files in memory are used again once whoever was given one is done with it: fresh
//! pages cost several times what filling them does.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    frame::PAYLOAD_AT,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::intake::{Intake, UNIT};
use crate::framed::{CHUNK, Payload, Room};

mod pool;

pub(super) use pool::Pool;

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

/// A file that is being filled.
struct Filling {
    file: Arc<File>,
    /// Whether it is on disk, where writing may take its time.
    disk: bool,
    room: Option<Room>,
}

impl Intake {
    /// Reads a payload of `len` bytes, for the process or processes that `owner` names: a file is
    /// never used again for others.
    pub(super) async fn payload(
        &self,
        owner: &str,
        len: u64,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Payload, ErrorInfo> {
        self.check_len(len)?;
        let mut filling = self.file_for(owner, len).map_err(|e| failed(len, &e))?;
        let mut at = 0;
        let mut chunk = Vec::new();
        while at < len {
            let step = CHUNK.min(usize::try_from(len - at).unwrap_or(CHUNK));
            if !filling.disk {
                self.hold(&mut filling.room, step).await?;
            }
            chunk.clear();
            chunk.reserve(step);
            while chunk.len() < step {
                let missing = (step - chunk.len()) as u64;
                self.some(&mut (&mut *from).take(missing), &mut chunk).await?;
            }
            chunk = filling.write(chunk, at).await.map_err(|e| failed(len, &e))?;
            at += step as u64;
        }
        Ok(Payload::new(filling.file, len, filling.room))
    }

    /// Refuses what is longer than this node takes.
    pub(super) fn check_len(&self, len: u64) -> Result<(), ErrorInfo> {
        let limit = self.spool.max_payload;
        if len <= limit {
            return Ok(());
        }
        let text = format!("a payload of {}; the limit here is {}", mib(len), mib(limit));
        Err(ErrorInfo::new(ErrorKind::BadRequest, text).hint(
            "pass less at once, yield it in parts, or raise node.max_payload in the node's config",
        ))
    }

    fn file_for(&self, owner: &str, len: u64) -> io::Result<Filling> {
        if len <= MEMORY.min(self.size() / 2) {
            return Ok(Filling { file: self.pool.take(owner, len)?, disk: false, room: None });
        }
        std::fs::create_dir_all(&self.spool.dir)?;
        let free = free_space(&self.spool.dir)?;
        if free < len.saturating_add(SPARE) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = tempfile::tempfile_in(&self.spool.dir)?;
        file.set_len(PAYLOAD_AT + len)?;
        file.write_all_at(&[1], 0)?;
        Ok(Filling { file: Arc::new(file), disk: true, room: None })
    }
}

impl Filling {
    /// Writes a chunk and gives it back.
    async fn write(&self, chunk: Vec<u8>, at: u64) -> io::Result<Vec<u8>> {
        if !self.disk {
            self.file.write_all_at(&chunk, PAYLOAD_AT + at)?;
            return Ok(chunk);
        }
        let file = self.file.clone();
        let write = move || file.write_all_at(&chunk, PAYLOAD_AT + at).map(|()| chunk);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

fn free_space(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn failed(len: u64, error: &io::Error) -> ErrorInfo {
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

/// Permits for `bytes`.
pub(super) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
