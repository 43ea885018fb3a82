//! Frames on any byte stream: Unix socket, worker lane, QUIC.

use std::{io, ops::Range};

use bytes::{Bytes, BytesMut};
use rhd_protocol::frame::{self, BESIDE_BODY, FrameError, PREFIX, Prefix};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

mod bulk;
mod conn;
mod gathered;
mod payload;

pub use bulk::{Inlet, Outlet};
pub use conn::Conn;
pub use gathered::Gathered;
pub use payload::{Body, Payload, Room};

/// A body is read in steps of at most this many bytes, so that a claimed length allocates nothing.
const STEP: usize = 1024 * 1024;
/// Bodies up to this size are joined with their header into one write.
const JOIN: usize = 64 * 1024;
/// Bytes of a payload that are read and written at once: little enough that the allocator has them
/// at hand, rather than fresh pages of the system.
pub const CHUNK: usize = 64 * 1024;

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
    /// Body; with a payload beside the frame, the length of that.
    pub body: Bytes,
    payload: Option<Payload>,
}

impl Frame {
    /// Encodes `header`.
    pub fn new(header: &impl Serialize, body: impl Into<Body>) -> Result<Self, FrameError> {
        match body.into() {
            Body::Inline(body) => {
                let head = frame::encode(header, body.len())?.into();
                Ok(Self { head, body, payload: None })
            }
            Body::Beside(payload) => {
                let mut head = Bytes::from(frame::encode_beside(header, payload.len())?);
                let body = head.split_off(head.len() - BESIDE_BODY);
                Ok(Self { head, body, payload: Some(payload) })
            }
        }
    }

    /// The payload beside it.
    pub fn payload(&self) -> Option<&Payload> {
        self.payload.as_ref()
    }

    /// The body, wherever it is.
    pub fn into_body(self) -> Body {
        match self.payload {
            Some(payload) => Body::Beside(payload),
            None => Body::Inline(self.body),
        }
    }

    /// The same with the payload in it, for readers that take nothing beside a frame; an error when
    /// it is too long for that.
    pub async fn inline(self, max: usize) -> Result<Self, FramedError> {
        let Some(payload) = self.payload else { return Ok(self) };
        let body = Body::Beside(payload).inline(max).await?;
        let header = &self.head[PREFIX..];
        let mut head = BytesMut::with_capacity(self.head.len());
        // Both were held against limits far below u32.
        head.extend_from_slice(&(header.len() as u32).to_be_bytes());
        head.extend_from_slice(&(body.len() as u32).to_be_bytes());
        head.extend_from_slice(header);
        Ok(Self { head: head.freeze(), body, payload: None })
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
        Ok(Self { head, body: bytes, payload: None })
    }

    /// What goes onto the wire: prefix and header, then the body.
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.head, &self.body]
    }

    /// The same frame in memory of its own, rather than in what it was read into.
    pub fn copied(&self) -> Self {
        let mut bytes = Bytes::from(self.parts().concat());
        let head = bytes.split_to(self.head.len());
        Self { head, body: bytes, payload: self.payload.clone() }
    }

    /// Bytes of it, with its payload.
    pub fn len(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, Payload::len);
        let payload = usize::try_from(payload).unwrap_or(usize::MAX);
        (self.head.len() + self.body.len()).saturating_add(payload)
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
    /// Whether a payload follows the frame, whose length is the body.
    pub beside: bool,
}

impl Head {
    /// The frame, once its payload was read.
    pub fn with_payload(self, payload: Payload) -> Frame {
        let body = Bytes::copy_from_slice(&payload.len().to_be_bytes());
        Frame { head: self.head, body, payload: Some(payload) }
    }

    /// Decodes the header.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        frame::decode(&self.head[PREFIX..])
    }
}

/// Reads the beginning of the next frame, which a payload may follow; `None` when the stream ended
/// between frames.
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
    let lengths = Prefix::parse_any(prefix, max_body)?;
    // MAX_HEADER bounds this allocation.
    let mut head = BytesMut::zeroed(PREFIX + lengths.header);
    head[..PREFIX].copy_from_slice(&prefix);
    stream.read_exact(&mut head[PREFIX..]).await?;
    Ok(Some(Head { head: head.freeze(), body: lengths.body, beside: lengths.beside }))
}

/// Reads the length of the payload that follows a frame.
pub async fn read_payload_len<R: AsyncRead + Unpin>(
    stream: &mut R,
    limit: u64,
) -> Result<u64, FramedError> {
    let mut body = [0; BESIDE_BODY];
    stream.read_exact(&mut body).await?;
    Ok(frame::payload_len(&body, limit)?)
}

/// Reads the next frame; `None` when the stream ended between frames. No payload may be beside it.
pub async fn read<R: AsyncRead + Unpin>(
    stream: &mut R,
    max_body: usize,
) -> Result<Option<Frame>, FramedError> {
    let Some(head) = read_head(stream, max_body).await? else { return Ok(None) };
    if head.beside {
        return Err(FrameError::Beside("nothing here takes it").into());
    }
    read_body(head, stream).await.map(Some)
}

/// Reads the body of a frame.
pub async fn read_body<R: AsyncRead + Unpin>(
    head: Head,
    stream: &mut R,
) -> Result<Frame, FramedError> {
    let mut body = BytesMut::new();
    while body.len() < head.body {
        let start = body.len();
        body.resize(start + STEP.min(head.body - start), 0);
        stream.read_exact(&mut body[start..]).await?;
    }
    Ok(Frame { head: head.head, body: body.freeze(), payload: None })
}

/// Writes a frame to a stream of bytes, with the payload behind it that is beside it, and flushes.
pub async fn write<W: Outlet>(stream: &mut W, frame: &Frame) -> io::Result<()> {
    write_start(stream, frame).await?;
    if let Some(payload) = &frame.payload {
        write_span(stream, payload, 0..payload.len()).await?;
    }
    stream.flush().await
}

/// Writes a frame but for the payload that is beside it.
pub async fn write_start<W: Outlet>(stream: &mut W, frame: &Frame) -> io::Result<()> {
    if frame.body.is_empty() {
        stream.write_all(&frame.head).await?;
    } else if frame.body.len() <= JOIN {
        stream.write_all(&[&frame.head[..], &frame.body[..]].concat()).await?;
    } else {
        stream.write_all(&frame.head).await?;
        stream.give(frame.body.clone()).await?;
    }
    Ok(())
}

/// Writes these bytes of a payload.
pub async fn write_span<W: Outlet>(
    stream: &mut W,
    payload: &Payload,
    span: Range<u64>,
) -> io::Result<()> {
    let mut at = span.start;
    while at < span.end {
        let left = usize::try_from(span.end - at).unwrap_or(CHUNK);
        let chunk = payload.chunk(at, left.min(CHUNK))?;
        if chunk.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        at += chunk.len() as u64;
        stream.give(chunk).await?;
    }
    Ok(())
}

/// Encodes and writes a frame.
pub async fn send<W: Outlet>(
    stream: &mut W,
    header: &impl Serialize,
    body: impl Into<Body>,
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
