//! Frames on any byte stream: Unix socket, worker lane, QUIC.

use std::io;

use bytes::{Bytes, BytesMut};
use rhd_protocol::frame::{self, FrameError, PREFIX, Prefix};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod conn;

pub use conn::Conn;

/// A body is read in steps of at most this many bytes, so that a claimed length allocates nothing.
const STEP: usize = 1024 * 1024;
/// Bodies up to this size are joined with their header into one write.
const JOIN: usize = 64 * 1024;

/// Why no frame could be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FramedError {
    /// The stream broke, or ended inside a frame.
    #[error("stream broke")]
    Io(#[from] io::Error),
    /// The bytes are no frame, or one over the limits.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// A frame as bytes, ready to be passed on without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Prefix and header.
    head: Bytes,
    /// Body.
    pub body: Bytes,
}

impl Frame {
    /// Encodes `header`.
    pub fn new(header: &impl Serialize, body: impl Into<Bytes>) -> Result<Self, FrameError> {
        let body = body.into();
        Ok(Self { head: frame::encode(header, body.len())?.into(), body })
    }

    /// Decodes the header.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        frame::decode(&self.head[PREFIX..])
    }

    /// Cuts a frame that is whole, and nothing else, into its parts.
    pub fn from_bytes(mut bytes: Bytes) -> Result<Self, FrameError> {
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
            return Err(FrameError::Header(bytes.len()));
        };
        let lengths = Prefix::parse(*prefix, frame::MAX_BODY)?;
        if bytes.len() != PREFIX + lengths.header + lengths.body {
            return Err(FrameError::Body { len: lengths.body, limit: bytes.len() });
        }
        let head = bytes.split_to(PREFIX + lengths.header);
        Ok(Self { head, body: bytes })
    }

    /// What goes onto the wire: prefix and header, then the body.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    /// The same frame in memory of its own, rather than in what it was read into.
    pub fn copied(&self) -> Self {
        let mut bytes = Bytes::from(self.parts().concat());
        let head = bytes.split_to(self.head.len());
        Self { head, body: bytes }
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there is nothing in it (never: a header is at least one byte).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The beginning of a frame whose body is still on the stream.
#[derive(Debug)]
pub struct Head {
    head: Bytes,
    /// Bytes of the body, as claimed.
    pub body: usize,
}

impl Head {
    /// Decodes the header.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        frame::decode(&self.head[PREFIX..])
    }
}

/// Reads the beginning of the next frame; `None` when the stream ended between frames.
pub async fn read_head<R: AsyncRead + Unpin>(
    stream: &mut R,
    max_body: usize,
) -> Result<Option<Head>, FramedError> {
    let mut prefix = [0; PREFIX];
    let first = stream.read(&mut prefix).await?;
    if first == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut prefix[first..]).await?;
    let lengths = Prefix::parse(prefix, max_body)?;
    // MAX_HEADER bounds this allocation.
    let mut head = BytesMut::zeroed(PREFIX + lengths.header);
    head[..PREFIX].copy_from_slice(&prefix);
    stream.read_exact(&mut head[PREFIX..]).await?;
    Ok(Some(Head { head: head.freeze(), body: lengths.body }))
}

/// Reads the next frame; `None` when the stream ended between frames.
pub async fn read<R: AsyncRead + Unpin>(
    stream: &mut R,
    max_body: usize,
) -> Result<Option<Frame>, FramedError> {
    let Some(head) = read_head(stream, max_body).await? else { return Ok(None) };
    let mut body = BytesMut::new();
    while body.len() < head.body {
        let start = body.len();
        body.resize(start + STEP.min(head.body - start), 0);
        stream.read_exact(&mut body[start..]).await?;
    }
    Ok(Some(Frame { head: head.head, body: body.freeze() }))
}

/// Writes a frame and flushes it.
pub async fn write<W: AsyncWrite + Unpin>(stream: &mut W, frame: &Frame) -> io::Result<()> {
    if frame.body.is_empty() {
        stream.write_all(&frame.head).await?;
    } else if frame.body.len() <= JOIN {
        stream.write_all(&[&frame.head[..], &frame.body[..]].concat()).await?;
    } else {
        stream.write_all(&frame.head).await?;
        stream.write_all(&frame.body).await?;
    }
    stream.flush().await
}

/// Encodes and writes a frame.
pub async fn send<W: AsyncWrite + Unpin>(
    stream: &mut W,
    header: &impl Serialize,
    body: impl Into<Bytes>,
) -> Result<(), FramedError> {
    Ok(write(stream, &Frame::new(header, body)?).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_claimed_length_allocates_nothing_and_a_cut_frame_is_an_error() {
        let mut bytes = frame::encode(&"x", 0).unwrap();
        bytes[4..8].copy_from_slice(&(400 * 1024 * 1024u32).to_be_bytes());
        let read = read(&mut &bytes[..], frame::MAX_BODY).await;
        assert!(
            matches!(read, Err(FramedError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof)
        );
    }

    #[tokio::test]
    async fn frames_pass_through_unread() {
        let frame = Frame::new(&("t", 1), vec![7; 3 * STEP / 2]).unwrap();
        let mut wire = Vec::new();
        write(&mut wire, &frame).await.unwrap();
        assert_eq!(wire.len(), frame.len());
        let mut wire = &wire[..];
        assert_eq!(read(&mut wire, frame::MAX_BODY).await.unwrap().unwrap(), frame);
        assert!(read(&mut wire, frame::MAX_BODY).await.unwrap().is_none());
    }
}
