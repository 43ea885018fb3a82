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
const STEP: usize = 1024 * 1024;

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
}

impl Connection {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Whether the daemon still holds its end and has said nothing unasked.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) async fn send(
        &mut self,
        header: &impl Serialize,
        body: &[u8],
    ) -> Result<(), ConnectionError> {
        let head = frame::encode(header, body.len())?;
        self.stream.write_all(&head).await?;
        Ok(self.stream.write_all(body).await?)
    }

    /// Reads a frame; `None` when the daemon closed between frames.
    pub(crate) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Bytes)>, ConnectionError> {
        let mut prefix = [0; PREFIX];
        let first = self.stream.read(&mut prefix).await?;
        if first == 0 {
            return Ok(None);
        }
        self.stream.read_exact(&mut prefix[first..]).await?;
        let lengths = Prefix::parse(prefix, MAX_BODY)?;
        let mut header = vec![0; lengths.header];
        self.stream.read_exact(&mut header).await?;
        let mut body = BytesMut::new();
        while body.len() < lengths.body {
            let start = body.len();
            body.resize(start + STEP.min(lengths.body - start), 0);
            self.stream.read_exact(&mut body[start..]).await?;
        }
        Ok(Some((frame::decode(&header)?, body.freeze())))
    }
}
