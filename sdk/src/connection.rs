//! One connection: bounded frames on a Unix socket.

use std::io;

use bytes::{Bytes, BytesMut};
use rhd_protocol::frame::{self, FrameError, MAX_BODY, PREFIX, Prefix};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// A body is read in steps of at most this many bytes, so that a claimed length allocates nothing.
pub(crate) const STEP: usize = 1024 * 1024;
/// Bytes asked of the socket at once while small frames come in.
const READ: usize = 8 * 1024;
/// Bodies up to this size are joined with their header into one write.
const JOIN: usize = 64 * 1024;

/// Why a frame can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("connection to the daemon broke")]
    Io(#[from] io::Error),
    #[error("frame of the daemon is not understood")]
    Frame(#[from] FrameError),
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// What was read and not yet handed out.
    read: BytesMut,
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, read: BytesMut::new() }
    }

    /// Whether the daemon still holds its end and has said nothing unasked.
    pub(crate) fn is_idle(&self) -> bool {
        self.read.is_empty()
            && matches!(self.stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn send(
        &mut self,
        header: &impl Serialize,
        body: &[u8],
    ) -> Result<(), ConnectionError> {
        let mut head = frame::encode(header, body.len())?;
        if body.len() <= JOIN {
            head.extend_from_slice(body);
            return Ok(self.stream.write_all(&head).await?);
        }
        self.stream.write_all(&head).await?;
        Ok(self.stream.write_all(body).await?)
    }

    /// Sends a frame that was encoded before.
    pub(crate) async fn send_bytes(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await
    }

    /// Reads a frame; `None` when the daemon closed between frames.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Bytes)>, ConnectionError> {
        loop {
            match cut(&mut self.read)? {
                Cut::Frame(header, body) => return Ok(Some((frame::decode(&header)?, body))),
                Cut::Missing(bytes) => {
                    if !self.fill(bytes).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The socket, and what was read from it and not yet handed out.
    pub(crate) fn into_parts(self) -> (UnixStream, BytesMut) {
        (self.stream, self.read)
    }

    /// Reads some of the bytes that are missing; false when the daemon closed between frames.
    async fn fill(&mut self, missing: usize) -> io::Result<bool> {
        self.read.reserve(missing.clamp(READ, STEP));
        if self.stream.read_buf(&mut self.read).await? > 0 {
            return Ok(true);
        }
        if self.read.is_empty() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The beginning of what was read.
pub(crate) enum Cut {
    /// Header and body of a frame.
    Frame(Bytes, Bytes),
    /// Not a whole frame: at least so many bytes are missing.
    Missing(usize),
}

/// Cuts a frame off what was read.
pub(crate) fn cut(read: &mut BytesMut) -> Result<Cut, FrameError> {
    let Some(prefix) = read.first_chunk::<PREFIX>() else {
        return Ok(Cut::Missing(PREFIX - read.len()));
    };
    let lengths = Prefix::parse(*prefix, MAX_BODY)?;
    let whole = PREFIX + lengths.header + lengths.body;
    if read.len() < whole {
        return Ok(Cut::Missing(whole - read.len()));
    }
    let mut header = read.split_to(whole);
    let body = header.split_off(PREFIX + lengths.header).freeze();
    Ok(Cut::Frame(header.split_off(PREFIX).freeze(), body))
}
