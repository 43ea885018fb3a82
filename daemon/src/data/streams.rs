//! Streams of the mesh as iroh-blobs wants them.
//!
//! It reads and writes 64 bytes and 16 KiB at a time, in turn: here these are gathered, as each
//! write to a connection costs, and so does each read.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use iroh::endpoint::VarInt;
use iroh_blobs::util::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::mesh::{RecvHalf, SendHalf};

/// Bytes that are gathered before they are written.
const GATHER: usize = 256 * 1024;
/// Bytes that are asked of a stream at once.
const AHEAD: usize = 256 * 1024;
/// How long a peer may take nothing of what it asked for.
const UNREAD: Duration = Duration::from_secs(30);

/// What a peer sends.
#[derive(Debug)]
pub(super) struct Reader {
    from: RecvHalf,
    ahead: BytesMut,
}

impl Reader {
    pub(super) fn new(from: RecvHalf) -> Self {
        Self { from, ahead: BytesMut::new() }
    }

    /// Reads until `len` bytes are there; fewer are at the end of the stream.
    async fn fill(&mut self, len: usize) -> io::Result<()> {
        while self.ahead.len() < len {
            // Never more than is asked for at once: what a peer claims allocates nothing.
            self.ahead.reserve(AHEAD);
            if self.from.read_buf(&mut self.ahead).await? == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn exactly(&mut self, len: usize) -> io::Result<BytesMut> {
        self.fill(len).await?;
        if self.ahead.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.ahead.split_to(len))
    }
}

impl RecvStream for Reader {
    async fn recv_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        self.fill(len).await?;
        Ok(self.ahead.split_to(len.min(self.ahead.len())).freeze())
    }

    async fn recv_bytes_exact(&mut self, len: usize) -> io::Result<Bytes> {
        Ok(self.exactly(len).await?.freeze())
    }

    async fn recv_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        target.copy_from_slice(&self.exactly(target.len()).await?);
        Ok(())
    }

    fn stop(&mut self, _: VarInt) -> io::Result<()> {
        // It stops when it is dropped, which follows.
        Ok(())
    }

    fn id(&self) -> u64 {
        0
    }
}

/// What a peer is sent.
#[derive(Debug)]
pub(super) struct Writer {
    to: Option<SendHalf>,
    gathered: Vec<u8>,
}

impl Writer {
    pub(super) fn new(to: SendHalf) -> Self {
        Self { to: Some(to), gathered: Vec::new() }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gathered.len() + bytes.len() > GATHER {
            self.flush().await?;
        }
        if self.gathered.capacity() == 0 && bytes.len() > 64 {
            self.gathered.reserve_exact(GATHER);
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let write = async {
            to.write_all(&self.gathered).await?;
            to.flush().await
        };
        let written = tokio::time::timeout(UNREAD, write).await;
        self.gathered.clear();
        written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Sends what was gathered, and ends the stream.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if self.to.is_some() {
            self.flush().await?;
        }
        match self.to {
            Some(mut to) => to.shutdown().await,
            None => Ok(()),
        }
    }
}

impl SendStream for Writer {
    async fn send_bytes(&mut self, bytes: Bytes) -> io::Result<()> {
        self.write(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.flush().await
    }

    fn reset(&mut self, _: VarInt) -> io::Result<()> {
        if let Some(to) = self.to.take() {
            to.reset();
        }
        Ok(())
    }

    async fn stopped(&mut self) -> io::Result<Option<VarInt>> {
        // Only observers are told; there are none here.
        std::future::pending().await
    }

    fn id(&self) -> u64 {
        0
    }
}
