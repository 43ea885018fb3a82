//! Payloads beside frames: a file in memory that goes from hand to hand, and is mapped at the ends.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use rhd_protocol::frame::{FrameError, PAYLOAD_AT};

/// The payload of one frame. Clones are the same payload; when the last one goes and no other
/// process was given it, its maker hears that the file is free again.
#[derive(Debug, Clone)]
pub struct Payload {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    len: u64,
    /// Whether another process has it now, which frees the file when it is done with it.
    passed: AtomicBool,
    /// What is held for as long as the payload is.
    _room: Option<Room>,
}

/// Room that a payload takes up, given back when this is dropped.
pub type Room = tokio::sync::OwnedSemaphorePermit;

impl Payload {
    /// Takes a file with a payload in it, whose first byte says that it is in use.
    pub fn new(file: Arc<File>, len: u64, room: Option<Room>) -> Self {
        let inner = Inner { file, len, passed: AtomicBool::new(false), _room: room };
        Self { inner: Arc::new(inner) }
    }

    /// Takes a descriptor that another process sent, if it is what it should be: a file in memory
    /// that has the payload, and can't lose it again while somebody has it mapped.
    pub(super) fn received(fd: OwnedFd, len: u64) -> Result<Self, FrameError> {
        let stat = rustix::fs::fstat(&fd).map_err(|_| FrameError::Beside("it can't be read"))?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(FrameError::Beside("it is no file"));
        }
        if size.checked_sub(PAYLOAD_AT).is_none_or(|room| room < len) {
            return Err(FrameError::Beside("its file is too short"));
        }
        if !is_sealed(fd.as_fd()) {
            return Err(FrameError::Beside("its file can shrink"));
        }
        Ok(Self::new(Arc::new(fd.into()), len, None))
    }

    /// Bytes of it.
    pub fn len(&self) -> u64 {
        self.inner.len
    }

    /// Whether it has no bytes (never: an empty body travels in its frame).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `max` bytes from `at` on; none at the end.
    pub fn chunk(&self, at: u64, max: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let len = max.min(left);
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let from = PAYLOAD_AT + at + bytes.len() as u64;
            let room = rustix::buffer::spare_capacity(&mut bytes);
            match rustix::io::pread(&self.inner.file, room, from) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        // The allocator may give more room than was asked for, and the file more bytes.
        bytes.truncate(len);
        Ok(bytes.into())
    }

    /// Fills `bytes` from `at` on; fewer in it are an error.
    pub fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        if self.len().checked_sub(at).is_none_or(|left| left < bytes.len() as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.inner.file.read_exact_at(bytes, PAYLOAD_AT + at)
    }

    /// The file that it is in, from [`PAYLOAD_AT`] on.
    pub fn file(&self) -> &Arc<File> {
        &self.inner.file
    }

    /// The descriptor, for the process that is given the payload.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inner.file.as_fd()
    }

    /// Notes that another process has it.
    pub(super) fn pass(&self) {
        self.inner.passed.store(true, Ordering::Relaxed);
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Payload {}

impl Drop for Inner {
    fn drop(&mut self) {
        if !*self.passed.get_mut() {
            // Fails on what nobody may write, which nobody will use again either.
            let _ = self.file.write_all_at(&[0], 0);
        }
    }
}

#[cfg(target_os = "linux")]
fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::SHRINK))
}

#[cfg(not(target_os = "linux"))]
fn is_sealed(_: BorrowedFd<'_>) -> bool {
    false
}

/// The body of a frame: in it, or beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the frame.
    Inline(Bytes),
    /// Beside the frame.
    Beside(Payload),
}

impl Body {
    /// Bytes of it.
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Beside(payload) => payload.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same in a frame, for readers that take nothing beside one; an error when it is too long.
    pub async fn inline(self, max: usize) -> Result<Bytes, super::FramedError> {
        match self {
            Self::Inline(bytes) => Ok(bytes),
            Self::Beside(payload) => {
                let len = usize::try_from(payload.len()).unwrap_or(usize::MAX);
                if len > max {
                    return Err(FrameError::Body { len, limit: max }.into());
                }
                let read = tokio::task::spawn_blocking(move || payload.chunk(0, len));
                Ok(read.await.map_err(io::Error::other)??)
            }
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Inline(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Inline(bytes)
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Inline(Bytes::from_static(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Inline(bytes.into())
    }
}
