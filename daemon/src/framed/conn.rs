//! A Unix socket with frames in both directions whose every await may be abandoned.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rhd_protocol::frame::{self, FrameError, MAX_PAYLOAD, PREFIX, Prefix};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use tokio::{io::Interest, net::UnixStream};

use super::{Frame, FramedError, Gathered, JOIN, Payload, STEP};

/// Bytes asked of the socket at once while small frames come in.
const READ: usize = 8 * 1024;
/// The same where many of them may wait.
const READ_MANY: usize = 32 * 1024;

/// Frames on a Unix socket. Unlike [`read`](super::read) and [`write`](super::write) it remembers
/// where it was: dropping a future of [`Conn::read`] or [`Conn::flush`] loses nothing.
#[derive(Debug)]
pub struct Conn {
    stream: Arc<UnixStream>,
    read: BytesMut,
    /// Bytes that are asked for at once.
    step: usize,
    /// The descriptor of the payload of the frame that is being read.
    file: Option<OwnedFd>,
    /// What [`Conn::flush`] has yet to write: head (and a small body), then a large body.
    write: [Bytes; 2],
    /// The payload that goes with the second part, as a descriptor.
    payload: Option<Payload>,
}

impl Conn {
    /// Starts on a fresh socket.
    pub fn new(stream: UnixStream) -> Self {
        Self::on(Arc::new(stream))
    }

    fn on(stream: Arc<UnixStream>) -> Self {
        let write = [Bytes::new(), Bytes::new()];
        Self { stream, read: BytesMut::new(), step: READ, file: None, write, payload: None }
    }

    /// Whether nothing is half read or half written.
    pub fn is_idle(&self) -> bool {
        self.read.is_empty() && self.file.is_none() && self.is_flushed()
    }

    /// Whether everything that was queued is written.
    pub fn is_flushed(&self) -> bool {
        self.write.iter().all(Bytes::is_empty)
    }

    /// Whether the other side has neither written nor closed, as far as the runtime has heard.
    pub fn is_silent(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Waits until there is something to read.
    pub async fn readable(&self) -> io::Result<()> {
        if self.read.is_empty() { self.stream.readable().await } else { Ok(()) }
    }

    /// Waits until there is room to write.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
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

    /// Splits it for many small frames each way; nothing may be queued.
    pub fn into_gathered<T>(mut self) -> (Self, Gathered<T>) {
        self.step = READ_MANY;
        let writer = Gathered::new(self.stream.clone());
        (self, writer)
    }

    /// Whether a frame was read in part.
    pub fn is_partial(&self) -> bool {
        !self.read.is_empty()
    }

    // --- writing

    /// Queues `frame`, to be written by [`Conn::flush`]; one at a time.
    pub fn queue(&mut self, frame: Frame) {
        debug_assert!(self.is_flushed(), "a frame is still being written");
        self.write = if frame.body.is_empty() {
            [frame.head, Bytes::new()]
        } else if frame.payload.is_none() && frame.body.len() <= JOIN {
            [[&frame.head[..], &frame.body[..]].concat().into(), Bytes::new()]
        } else {
            [frame.head, frame.body]
        };
        self.payload = frame.payload;
    }

    /// Writes what the system takes without waiting.
    pub fn try_flush(&mut self) -> io::Result<()> {
        for (part, is_body) in self.write.iter_mut().zip([false, true]) {
            while !part.is_empty() {
                let written = match self.payload.take_if(|_| is_body) {
                    Some(payload) => match send_with(&self.stream, part, &payload) {
                        Ok(written) => {
                            payload.pass();
                            Ok(written)
                        }
                        Err(e) => {
                            self.payload = Some(payload);
                            Err(e)
                        }
                    },
                    None => self.stream.try_write(part),
                };
                match written {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => part.advance(written),
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.try_flush()?;
            if self.is_flushed() {
                return Ok(());
            }
            self.stream.writable().await?;
        }
    }

    // --- reading

    /// Reads the next frame; `None` when the stream ended between frames.
    pub async fn read(&mut self, max_body: usize) -> Result<Option<Frame>, FramedError> {
        loop {
            let missing = match self.cut(max_body)? {
                Ok(frame) => return Ok(Some(frame)),
                Err(missing) => missing,
            };
            if self.fill(missing).await? == 0 {
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
        let Prefix { header, body, beside } = Prefix::parse_any(*prefix, max_body)?;
        let whole = PREFIX + header + body;
        if self.read.len() < whole {
            return Ok(Err(whole - self.read.len()));
        }
        let head = self.read.split_to(PREFIX + header).freeze();
        let body = self.read.split_to(body).freeze();
        let payload = match beside {
            true => {
                let len = frame::payload_len(&body, MAX_PAYLOAD)?;
                let file = self.file.take().ok_or(FrameError::Beside("no descriptor came"))?;
                Some(Payload::received(file, len)?)
            }
            // A read ends where a descriptor came with it, so that it can't be the next frame's.
            false if self.read.is_empty() && self.file.is_some() => {
                return Err(FrameError::Beside("a descriptor came with another frame").into());
            }
            false => None,
        };
        Ok(Ok(Frame { head, body, payload }))
    }

    /// Reads what is there, at least one byte; 0 at the end of the stream.
    async fn fill(&mut self, missing: usize) -> Result<usize, FramedError> {
        loop {
            self.stream.readable().await?;
            let read = if missing > self.step {
                // In the middle of a body, where no descriptor can come: no need to clear the room.
                self.read.reserve(missing.min(STEP));
                let mut room = (&mut self.read).limit(missing.min(STEP));
                self.stream.try_read_buf(&mut room).map(|read| (read, None))
            } else {
                self.fill_small()
            };
            match read {
                Ok((read, None)) => return Ok(read),
                Ok((read, Some(file))) => {
                    if self.file.replace(file).is_some() {
                        return Err(FrameError::Beside("two descriptors came").into());
                    }
                    return Ok(read);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn fill_small(&mut self) -> io::Result<(usize, Option<OwnedFd>)> {
        let start = self.read.len();
        self.read.resize(start + self.step, 0);
        let (stream, room) = (&self.stream, &mut self.read[start..]);
        let mut got = None;
        let tried = stream.try_io(Interest::READABLE, || {
            let (read, file) = receive(stream, room)?;
            let drained = read < room.len() && file.is_none();
            got = Some((read, file));
            // Saves the next reader a look at an empty socket. Where a descriptor came, the system
            // stopped there, and more may wait.
            if drained { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        let read = got.as_ref().map_or(0, |(read, _)| *read);
        self.read.truncate(start + read);
        match got {
            Some(got) => Ok(got),
            None => Err(tried.err().unwrap_or_else(|| io::ErrorKind::WouldBlock.into())),
        }
    }
}

fn receive(stream: &UnixStream, room: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    #[cfg(target_os = "linux")]
    let flags = RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = RecvFlags::empty();
    let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(room)], &mut control, flags)?;
    let mut file = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                if file.replace(fd).is_some() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "two descriptors"));
                }
            }
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors were cut off"));
    }
    Ok((got.bytes, file))
}

pub(super) fn send_with(stream: &UnixStream, part: &[u8], payload: &Payload) -> io::Result<usize> {
    stream.try_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [payload.fd()];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::sendmsg(stream, &[IoSlice::new(part)], &mut control, flags)?)
    })
}

impl Frame {
    /// Replaces the header, keeping the body.
    pub fn with_header(&self, header: &impl Serialize) -> Result<Self, FrameError> {
        let body = match &self.payload {
            Some(payload) => super::Body::Beside(payload.clone()),
            None => super::Body::Inline(self.body.clone()),
        };
        Self::new(header, body)
    }
}

#[cfg(test)]
mod tests;
