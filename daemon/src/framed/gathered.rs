//! Many frames on their way out of one socket, in as few writes as the system takes.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use tokio::net::UnixStream;

use super::{Frame, Payload, conn::send_with};

/// Parts of frames in one write.
const PARTS: usize = 128;

/// The writing half of a socket. What is pushed with a frame is dropped once that is written.
#[derive(Debug)]
pub struct Gathered<T> {
    stream: Arc<UnixStream>,
    frames: VecDeque<Waiting<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    head: Bytes,
    body: Bytes,
    /// Goes with the body, as a descriptor.
    payload: Option<Payload>,
    _held: T,
}

impl<T> Gathered<T> {
    pub(super) fn new(stream: Arc<UnixStream>) -> Self {
        Self { stream, frames: VecDeque::new(), bytes: 0 }
    }

    /// Bytes that wait, without payloads beside frames.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Frame, held: T) {
        let Frame { head, body, payload } = frame;
        self.bytes += head.len() + body.len();
        self.frames.push_back(Waiting { head, body, payload, _held: held });
    }

    /// Waits until the system takes some of it.
    pub async fn flush_some(&mut self) -> io::Result<()> {
        loop {
            self.stream.writable().await?;
            if self.try_flush()? {
                return Ok(());
            }
        }
    }

    /// Writes what the system takes without waiting; whether it took anything.
    pub fn try_flush(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            let written = match self.write_once() {
                Ok(Some(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Some(written)) => written,
                Ok(None) => return Ok(any),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(e) => return Err(e),
            };
            any = true;
            self.advance(written);
        }
    }

    /// One write of as much as fits; `None` when nothing waits.
    fn write_once(&mut self) -> io::Result<Option<usize>> {
        let Some(first) = self.frames.front_mut() else { return Ok(None) };
        if first.head.is_empty()
            && let Some(payload) = &first.payload
        {
            let written = send_with(&self.stream, &first.body, payload)?;
            if let Some(payload) = first.payload.take() {
                payload.pass();
            }
            return Ok(Some(written));
        }
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut count = 0;
        for frame in &self.frames {
            if count + 2 > PARTS {
                break;
            }
            parts[count] = IoSlice::new(&frame.head);
            count += 1;
            if frame.payload.is_some() {
                // Its body goes with the descriptor.
                break;
            }
            if !frame.body.is_empty() {
                parts[count] = IoSlice::new(&frame.body);
                count += 1;
            }
        }
        self.stream.try_write_vectored(&parts[..count]).map(Some)
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.frames.front_mut() {
            for part in [&mut first.head, &mut first.body] {
                let done = written.min(part.len());
                part.advance(done);
                written -= done;
            }
            if !first.head.is_empty() || !first.body.is_empty() {
                return;
            }
            self.frames.pop_front();
        }
    }
}
