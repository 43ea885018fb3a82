//! Streams: one call, one transfer, whatever carries it.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{AsyncRead as _, AsyncWrite as _};
use rhd_protocol::{
    frame::{self, FrameError, PREFIX, Prefix},
    id::NodeId,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::framed::{FramedError, Inlet, Outlet};

/// The longest header before a peer has shown what it wants, in bytes.
const MAX_FIRST: usize = 8 * 1024;
/// Bytes asked of a connection at once while small frames come in.
const AHEAD: usize = 4 * 1024;
/// Bytes that go into one write with a first frame.
const JOIN: usize = 64 * 1024;
/// How long a peer may take to say what a stream is for.
pub(super) const FIRST_TIMEOUT: Duration = Duration::from_secs(10);

/// What goes first when a link is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// A person may be waiting.
    #[default]
    Call,
    /// State that peers keep in common.
    Sync,
    /// Content.
    Bulk,
}

impl Priority {
    fn rank(self) -> i32 {
        match self {
            Self::Call => 2,
            Self::Sync => 1,
            Self::Bulk => 0,
        }
    }
}

/// A stream to or from a peer that is proved to be a member.
///
/// Dropping it ends it on both sides: the peer reads an end of stream, and its writes fail.
#[derive(Debug)]
pub struct Stream {
    /// Who is at the other end.
    pub peer: NodeId,
    /// To the peer.
    pub send: SendHalf,
    /// From the peer.
    pub recv: RecvHalf,
}

/// What a stream keeps alive while it is used.
pub(super) type Guard = Option<Arc<()>>;

/// The half that writes; dropping it ends the stream in this direction.
#[derive(Debug)]
pub struct SendHalf {
    to: To,
    /// Goes out in front of what is written first: a packet less than on its own.
    unsent: Bytes,
    /// Counts as a user of the link.
    _guard: Guard,
}

#[derive(Debug)]
enum To {
    Direct(quinn::SendStream),
    Relayed(Closing),
}

/// The half that reads; dropping it tells the peer to stop.
#[derive(Debug)]
pub struct RecvHalf {
    from: From,
    /// Read ahead, so that a small frame takes one turn on the connection rather than one a field.
    ahead: BytesMut,
    _guard: Guard,
}

#[derive(Debug)]
enum From {
    Direct(quinn::RecvStream),
    Relayed(futures::io::ReadHalf<libp2p::Stream>),
}

impl Stream {
    pub(super) fn direct(
        peer: NodeId,
        (send, recv): (quinn::SendStream, quinn::RecvStream),
        guard: Guard,
    ) -> Self {
        Self {
            peer,
            send: SendHalf { to: To::Direct(send), unsent: Bytes::new(), _guard: guard.clone() },
            recv: RecvHalf { from: From::Direct(recv), ahead: BytesMut::new(), _guard: guard },
        }
    }

    pub(super) fn relayed(peer: NodeId, stream: libp2p::Stream) -> Self {
        let (read, write) = futures::AsyncReadExt::split(stream);
        Self {
            peer,
            send: SendHalf {
                to: To::Relayed(Closing(Some(write))),
                unsent: Bytes::new(),
                _guard: None,
            },
            recv: RecvHalf { from: From::Relayed(read), ahead: BytesMut::new(), _guard: None },
        }
    }

    /// Sets what this side sends before or after other streams of the link.
    pub fn set_priority(&self, priority: Priority) {
        if let To::Direct(send) = &self.send.to {
            // Fails on a stream that has ended, which has nothing more to send.
            let _ = send.set_priority(priority.rank());
        }
    }

    /// Whether another peer relays it.
    pub fn is_relayed(&self) -> bool {
        matches!(self.send.to, To::Relayed(_))
    }
}

/// How the other side left a stream that it still had to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It closed the stream, or sent what it should not have: it wants no more.
    Closed,
    /// The way to it broke, without a word.
    Lost,
}

impl RecvHalf {
    /// Takes the end of the stream if it came with the last bytes: a stream that is dropped without
    /// it costs a packet, which tells the peer to stop.
    pub fn take_end(&mut self) {
        let mut nothing = Context::from_waker(std::task::Waker::noop());
        let mut space = [MaybeUninit::uninit(); 1];
        // Whatever else is there nobody will read.
        let _ = self.from.poll_read(&mut nothing, &mut ReadBuf::uninit(&mut space));
    }

    /// Waits until the peer, who has nothing more to say, leaves.
    pub async fn gone(&mut self) -> Gone {
        if !self.ahead.is_empty() {
            return Gone::Closed;
        }
        let mut byte = [0];
        match &mut self.from {
            From::Direct(recv) => match recv.read(&mut byte).await {
                Err(quinn::ReadError::ConnectionLost(_)) => Gone::Lost,
                _ => Gone::Closed,
            },
            // A circuit that breaks ends streams as if they had been closed: so closing is said.
            From::Relayed(recv) => match futures::AsyncReadExt::read(recv, &mut byte).await {
                Ok(read) if read > 0 => Gone::Closed,
                _ => Gone::Lost,
            },
        }
    }
}

impl SendHalf {
    /// Puts a first frame in front of what is written next.
    pub(super) fn start_with(&mut self, header: &impl Serialize) -> Result<(), FrameError> {
        self.unsent = frame::encode(header, 0)?.into();
        Ok(())
    }

    /// Writes what was put in front, together with what of `buf` goes into one write with it.
    /// Returns how much of `buf` was taken.
    fn poll_first(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        while !self.unsent.is_empty() {
            let first = self.unsent.len();
            let with = &buf[..buf.len().min(JOIN - first.min(JOIN))];
            let joined = [&self.unsent[..], with].concat();
            let written = ready!(self.to.poll_write(cx, &joined))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written.min(first));
            if written > first {
                return Poll::Ready(Ok(written - first));
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Tells the peer that nothing more is wanted of it, and ends the stream.
    pub fn close(mut self) {
        if let To::Relayed(Closing(write)) = &mut self.to
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && let Some(mut write) = write.take()
        {
            runtime.spawn(async move {
                let said = futures::AsyncWriteExt::write_all(&mut write, &[0]).await;
                let _ = futures::AsyncWriteExt::close(&mut write).await;
                said
            });
        }
    }

    /// Ends the stream at once; what the peer has not read yet may be lost.
    pub fn reset(self) {
        self.refuse(0);
    }

    /// Ends the stream at once, with a reason.
    pub(super) fn refuse(self, code: u32) {
        if let To::Direct(mut send) = self.to {
            let _ = send.reset(code.into());
        }
    }
}

/// Ends the direction when dropped, as quinn's streams do of themselves.
#[derive(Debug)]
struct Closing(Option<futures::io::WriteHalf<libp2p::Stream>>);

impl Drop for Closing {
    fn drop(&mut self) {
        if let (Some(mut write), Ok(runtime)) =
            (self.0.take(), tokio::runtime::Handle::try_current())
        {
            // Bounded by the circuit's own lifetime.
            runtime.spawn(async move { futures::AsyncWriteExt::close(&mut write).await });
        }
    }
}

fn ended() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl To {
    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Direct(send) => AsyncWrite::poll_write(Pin::new(send), cx, buf),
            Self::Relayed(Closing(Some(write))) => Pin::new(write).poll_write(cx, buf),
            Self::Relayed(_) => Poll::Ready(Err(ended())),
        }
    }
}

impl AsyncWrite for SendHalf {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_first(cx, buf))? {
            0 => self.to.poll_write(cx, buf),
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_first(cx, &[]))?;
        match &mut self.to {
            To::Direct(send) => AsyncWrite::poll_flush(Pin::new(send), cx),
            To::Relayed(Closing(Some(write))) => Pin::new(write).poll_flush(cx),
            To::Relayed(_) => Poll::Ready(Err(ended())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_first(cx, &[]))?;
        match &mut self.to {
            To::Direct(send) => AsyncWrite::poll_shutdown(Pin::new(send), cx),
            To::Relayed(Closing(Some(write))) => Pin::new(write).poll_close(cx),
            To::Relayed(_) => Poll::Ready(Ok(())),
        }
    }
}

impl From {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Direct(recv) => AsyncRead::poll_read(Pin::new(recv), cx, buf),
            Self::Relayed(read) => {
                let unfilled = buf.initialize_unfilled();
                let read = ready!(Pin::new(read).poll_read(cx, unfilled))?;
                buf.advance(read);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Outlet for SendHalf {
    async fn give(&mut self, bytes: Bytes) -> io::Result<()> {
        if self.unsent.is_empty()
            && let To::Direct(send) = &mut self.to
        {
            return Ok(send.write_chunk(bytes).await?);
        }
        self.write_all(&bytes).await
    }
}

impl Inlet for RecvHalf {
    async fn piece(&mut self, max: usize) -> io::Result<Bytes> {
        if self.ahead.is_empty()
            && let From::Direct(recv) = &mut self.from
        {
            let chunk = recv.read_chunk(max, true).await?;
            return Ok(chunk.map(|chunk| chunk.bytes).unwrap_or_default());
        }
        let mut bytes = BytesMut::with_capacity(max.min(JOIN));
        (&mut *self).take(max as u64).read_buf(&mut bytes).await?;
        Ok(bytes.freeze())
    }
}

impl AsyncRead for RecvHalf {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { from, ahead, .. } = &mut *self;
        if ahead.is_empty() {
            if buf.remaining() >= AHEAD {
                return from.poll_read(cx, buf);
            }
            let mut space = [MaybeUninit::uninit(); AHEAD];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(from.poll_read(cx, &mut read))?;
            ahead.extend_from_slice(read.filled());
        }
        let taken = ahead.len().min(buf.remaining());
        buf.put_slice(&ahead[..taken]);
        ahead.advance(taken);
        Poll::Ready(Ok(()))
    }
}

/// Reads a first frame, a small header without a body, within a time.
pub(super) async fn read_first<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<T, FramedError> {
    let read = async {
        let mut prefix = [0; PREFIX];
        from.read_exact(&mut prefix).await?;
        let lengths = Prefix::parse(prefix, 0)?;
        if lengths.header > MAX_FIRST {
            return Err(FrameError::Header(lengths.header).into());
        }
        let mut header = vec![0; lengths.header];
        from.read_exact(&mut header).await?;
        Ok(frame::decode(&header)?)
    };
    let timeout = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(FIRST_TIMEOUT, read).await.map_err(timeout)?
}

/// Writes a first frame.
pub(super) async fn write_first(
    to: &mut (impl AsyncWrite + Unpin),
    header: &impl Serialize,
) -> Result<(), FramedError> {
    to.write_all(&frame::encode(header, 0)?).await?;
    Ok(())
}
