//! A stream with frames in both directions whose every await may be abandoned.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use rhd_protocol::frame::{FrameError, PREFIX, Prefix};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{Frame, FramedError, JOIN, STEP};

/// Bytes asked of the stream at once while small frames come in.
const READ: usize = 8 * 1024;

/// Frames on a stream. Unlike [`read`](super::read) and [`write`](super::write) it remembers where
/// it was: dropping a future of [`Conn::read`] or [`Conn::flush`] loses nothing.
#[derive(Debug)]
pub struct Conn<S> {
    stream: S,
    read: BytesMut,
    /// What [`Conn::flush`] has yet to write: head (and a small body), then a large body.
    write: [Bytes; 2],
}

impl<S> Conn<S> {
    /// Starts on a fresh stream.
    pub fn new(stream: S) -> Self {
        Self { stream, read: BytesMut::new(), write: [Bytes::new(), Bytes::new()] }
    }

    /// The stream below.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Whether nothing is half read or half written.
    pub fn is_idle(&self) -> bool {
        self.read.is_empty() && self.is_flushed()
    }

    /// Whether everything that was queued is written.
    pub fn is_flushed(&self) -> bool {
        self.write.iter().all(Bytes::is_empty)
    }

    /// Queues `frame`, to be written by [`Conn::flush`]; one at a time.
    pub fn queue(&mut self, frame: Frame) {
        debug_assert!(self.is_flushed(), "a frame is still being written");
        self.write = if frame.body.is_empty() {
            [frame.head, Bytes::new()]
        } else if frame.body.len() <= JOIN {
            [[&frame.head[..], &frame.body[..]].concat().into(), Bytes::new()]
        } else {
            [frame.head, frame.body]
        };
    }
}

impl Conn<UnixStream> {
    /// Writes what the system takes without waiting.
    pub fn try_flush(&mut self) -> io::Result<()> {
        for part in &mut self.write {
            while !part.is_empty() {
                match self.stream.try_write(part) {
                    Ok(written) => part.advance(written),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Waits until the other side writes or closes, when it should do neither.
    pub async fn hung_up(&self) {
        if !self.read.is_empty() {
            return;
        }
        while self.stream.readable().await.is_ok() {
            // Readiness may be stale; only the system knows.
            match self.stream.try_read(&mut [0]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Splits it for a reader and a writer that don't wait for each other; nothing may be queued.
    pub fn into_split(self) -> (Conn<OwnedReadHalf>, OwnedWriteHalf) {
        let (read, write) = self.stream.into_split();
        (Conn { stream: read, read: self.read, write: self.write }, write)
    }
}

impl<S: AsyncRead + Unpin> Conn<S> {
    /// Reads the next frame; `None` when the stream ended between frames.
    pub async fn read(&mut self, max_body: usize) -> Result<Option<Frame>, FramedError> {
        loop {
            let missing = match self.cut(max_body)? {
                Ok(frame) => return Ok(Some(frame)),
                Err(missing) => missing,
            };
            self.read.reserve(missing.clamp(READ, STEP));
            if self.stream.read_buf(&mut self.read).await? == 0 {
                if self.read.is_empty() {
                    return Ok(None);
                }
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Cuts a whole frame off what was read, or says how many bytes it lacks.
    fn cut(&mut self, max_body: usize) -> Result<Result<Frame, usize>, FramedError> {
        let Some(prefix) = self.read.first_chunk::<PREFIX>() else {
            return Ok(Err(PREFIX - self.read.len()));
        };
        let Prefix { header, body } = Prefix::parse(*prefix, max_body)?;
        let whole = PREFIX + header + body;
        if self.read.len() < whole {
            return Ok(Err(whole - self.read.len()));
        }
        let head = self.read.split_to(PREFIX + header).freeze();
        let body = self.read.split_to(body).freeze();
        Ok(Ok(Frame { head, body }))
    }
}

impl<S: AsyncWrite + Unpin> Conn<S> {
    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        for part in &mut self.write {
            while !part.is_empty() {
                let written = self.stream.write(part).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                part.advance(written);
            }
        }
        self.stream.flush().await
    }
}

impl Frame {
    /// Replaces the header, keeping the body.
    pub fn with_header(&self, header: &impl Serialize) -> Result<Self, FrameError> {
        Self::new(header, self.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rhd_protocol::frame;

    use super::*;

    #[tokio::test]
    async fn abandoned_reads_and_writes_lose_nothing() {
        let (near, far) = tokio::io::duplex(512);
        let (mut near, mut far) = (Conn::new(near), Conn::new(far));
        let frame = Frame::new(&("t", 1), vec![7; 3 * JOIN]).unwrap();
        near.queue(frame.clone());
        let got = loop {
            // Both futures are dropped at whatever point they reached.
            let _ = tokio::time::timeout(Duration::from_micros(50), near.flush()).await;
            let read = far.read(frame::MAX_BODY);
            if let Ok(got) = tokio::time::timeout(Duration::from_micros(50), read).await {
                break got.unwrap().unwrap();
            }
        };
        assert_eq!(got, frame);
        assert!(near.is_flushed() && far.is_idle());
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_a_frame_is_broken() {
        let bytes = frame::encode(&"x", 4).unwrap();
        let mut conn = Conn::new(&bytes[..]);
        assert!(matches!(conn.read(64).await, Err(FramedError::Io(_))));
        let mut conn = Conn::new(&bytes[..]);
        assert!(matches!(conn.read(3).await, Err(FramedError::Frame(_))));
    }
}
