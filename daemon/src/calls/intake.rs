//! What peers may put into this node's memory before their calls are written to a worker, and into
//! the files of its [spool](super::spool).

use std::{fs::File, io, ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    frame::{MAX_BODY, MAX_PAYLOAD},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::spool::{self, Spool, SpoolConfig};
use crate::framed::{Body, Head, Inlet, Payload, Room, read_payload_len};

/// Bodies up to this size are not counted: a peer's limit on open streams bounds them.
const SMALL: usize = 64 * 1024;
/// Bytes of one permit.
const UNIT: usize = 64 * 1024;
/// Bytes that are counted, and then read, at once.
const STEP: usize = 1024 * 1024;
/// Bytes of a payload that are counted, and then written to its file at once; in so many pieces at
/// most, each of which may hold a whole datagram in memory.
const GATHER: usize = 256 * 1024;
const PIECES: usize = 64;
/// How long a peer may say nothing in the middle of a body, and how long a body waits for room.
const PATIENCE: Duration = Duration::from_secs(30);

/// The room for bodies on their way from peers to workers.
#[derive(Clone)]
pub(super) struct Intake {
    room: Arc<Semaphore>,
    size: usize,
    patience: Duration,
    spool: Spool,
}

/// Counts for as long as anything refers to its bytes.
struct Held {
    bytes: BytesMut,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes of this machine's memory; 0 where that is not known.
pub(super) fn memory() -> usize {
    #[cfg(target_os = "linux")]
    let memory = {
        let info = rustix::system::sysinfo();
        let units = usize::try_from(info.totalram).unwrap_or(usize::MAX);
        units.saturating_mul(info.mem_unit as usize)
    };
    #[cfg(not(target_os = "linux"))]
    let memory = 0;
    memory
}

/// A payload that is on its way.
pub(super) struct Coming {
    filling: spool::Filling,
    len: u64,
    room: Option<Room>,
}

impl Coming {
    /// The file that it comes into.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.filling.file
    }
}

impl Intake {
    /// A quarter of the machine's memory, and at least two bodies of the largest size.
    pub(super) fn of_this_machine(spool: SpoolConfig) -> Self {
        Self::new((memory() / 4).max(2 * MAX_BODY), PATIENCE, spool)
    }

    pub(super) fn new(size: usize, patience: Duration, spool: SpoolConfig) -> Self {
        let units = (size / UNIT).min(Semaphore::MAX_PERMITS);
        let spool = Spool::new(spool);
        Self { room: Arc::new(Semaphore::new(units)), size, patience, spool }
    }

    /// Refuses what is longer than this node takes.
    pub(super) fn check_len(&self, len: u64) -> Result<(), ErrorInfo> {
        self.spool.check_len(len)
    }

    /// Reads the body of a frame, wherever it is; `owner` as for [`Intake::payload`].
    pub(super) async fn body(
        &self,
        owner: &str,
        head: &Head,
        from: &mut impl Inlet,
    ) -> Result<Body, ErrorInfo> {
        if head.beside {
            return self.payload_of(owner, from).await.map(Body::Beside);
        }
        self.read(head.body, from).await.map(Body::Inline)
    }

    /// Reads the payload that follows a frame.
    pub(super) async fn payload_of(
        &self,
        owner: &str,
        from: &mut impl Inlet,
    ) -> Result<Payload, ErrorInfo> {
        let len = self.payload_len(from).await?;
        self.payload(owner, len, from).await
    }

    /// Reads the length of the payload that follows a frame.
    pub(super) async fn payload_len(&self, from: &mut impl Inlet) -> Result<u64, ErrorInfo> {
        match timeout(self.patience, read_payload_len(from, MAX_PAYLOAD)).await {
            Ok(Ok(len)) => Ok(len),
            Ok(Err(e)) => Err(cut(&e)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads a payload of `len` bytes, for the process or processes that `owner` names: a file is
    /// never used again for others.
    pub(super) async fn payload(
        &self,
        owner: &str,
        len: u64,
        from: &mut impl Inlet,
    ) -> Result<Payload, ErrorInfo> {
        let coming = self.begin(owner, len, 0).await?;
        self.receive(coming, std::slice::from_ref(&(0..len)), from).await
    }

    /// Makes a file for a payload of `len` bytes, `known` of which are written to it from here.
    pub(super) async fn begin(
        &self,
        owner: &str,
        len: u64,
        known: u64,
    ) -> Result<Coming, ErrorInfo> {
        self.check_len(len)?;
        let filling = self.spool.file(owner, len, self.size as u64);
        let filling = filling.map_err(|e| spool::failed(len, &e))?;
        let mut room = None;
        if !filling.disk && known > 0 {
            self.hold(&mut room, usize::try_from(known).unwrap_or(usize::MAX)).await?;
        }
        Ok(Coming { filling, len, room })
    }

    /// Reads these bytes of a payload, which completes it.
    pub(super) async fn receive(
        &self,
        mut coming: Coming,
        spans: &[Range<u64>],
        from: &mut impl Inlet,
    ) -> Result<Payload, ErrorInfo> {
        for span in spans {
            self.receive_span(&mut coming, span.clone(), from).await?;
        }
        Ok(Payload::new(coming.filling.file, coming.len, coming.room))
    }

    async fn receive_span(
        &self,
        Coming { filling, len, room }: &mut Coming,
        span: Range<u64>,
        from: &mut impl Inlet,
    ) -> Result<(), ErrorInfo> {
        let failed = |e: io::Error| spool::failed(*len, &e);
        let mut at = span.start;
        let mut pieces = Vec::new();
        while at < span.end {
            let step = GATHER.min(usize::try_from(span.end - at).unwrap_or(GATHER));
            if !filling.disk {
                self.hold(room, step).await?;
            }
            let mut missing = step;
            while missing > 0 {
                let mut gathered = 0;
                while gathered < missing && pieces.len() < PIECES {
                    let piece = self.piece(from, missing - gathered).await?;
                    gathered += piece.len();
                    pieces.push(piece);
                }
                pieces = filling.write(pieces, at).await.map_err(failed)?;
                at += gathered as u64;
                missing -= gathered;
            }
        }
        Ok(())
    }

    /// Takes room for more bytes, or waits for it.
    async fn hold(&self, held: &mut Option<Room>, more: usize) -> Result<(), ErrorInfo> {
        let more = self.room.clone().acquire_many_owned(units(more));
        let Ok(Ok(more)) = timeout(self.patience, more).await else { return Err(self.full()) };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        Ok(())
    }

    /// Reads at least one byte, without copying it where that can be.
    async fn piece(&self, from: &mut impl Inlet, max: usize) -> Result<Bytes, ErrorInfo> {
        match timeout(self.patience, from.piece(max)).await {
            Ok(Ok(piece)) if piece.is_empty() => {
                Err(cut(&io::Error::from(io::ErrorKind::UnexpectedEof)))
            }
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(e)) => Err(cut(&e)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Reads at least one byte.
    async fn some(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        bytes: &mut impl bytes::BufMut,
    ) -> Result<(), ErrorInfo> {
        match timeout(self.patience, from.read_buf(bytes)).await {
            Ok(Ok(0)) => Err(cut(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(cut(&e)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> ErrorInfo {
        cut(&format_args!("nothing came for {} s", self.patience.as_secs()))
    }

    /// Reads `len` bytes. They take up room as they arrive, whatever was claimed, until the last
    /// reference to them is gone.
    pub(super) async fn read(
        &self,
        len: usize,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<Bytes, ErrorInfo> {
        let mut bytes = BytesMut::new();
        if len <= SMALL {
            self.fill(&mut bytes, len, from).await?;
            return Ok(bytes.freeze());
        }
        let mut held = None;
        while bytes.len() < len {
            let step = STEP.min(len - bytes.len());
            self.hold(&mut held, step).await?;
            let end = bytes.len() + step;
            self.fill(&mut bytes, end, from).await?;
        }
        Ok(match held {
            Some(permit) => Bytes::from_owner(Held { bytes, _permit: permit }),
            None => bytes.freeze(),
        })
    }

    /// Reads until there are `end` bytes.
    async fn fill(
        &self,
        bytes: &mut BytesMut,
        end: usize,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), ErrorInfo> {
        bytes.reserve(end - bytes.len());
        while bytes.len() < end {
            let missing = (end - bytes.len()) as u64;
            self.some(&mut (&mut *from).take(missing), bytes).await?;
        }
        Ok(())
    }

    fn full(&self) -> ErrorInfo {
        let mib = self.size >> 20;
        ErrorInfo::new(
            ErrorKind::QueueFull,
            format!("the arguments that wait here already take {mib} MiB, all there is for them"),
        )
        .hint("nothing ran; call again later, or pass large data as a folder or blob")
    }
}

fn cut(why: &dyn std::fmt::Display) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::PeerLost, format!("what it sent was cut off: {why}"))
        .hint("nothing ran; call again")
}

/// Permits for `bytes`.
fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod payloads;
#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn intake() -> Intake {
        let spool = SpoolConfig { dir: std::env::temp_dir(), max_payload: 1 << 30 };
        Intake::new(4 * STEP, SHORT, spool)
    }

    #[tokio::test]
    async fn a_peer_that_falls_silent_is_given_up() {
        let intake = intake();
        for len in [9, 8 * UNIT] {
            let (mut near, mut far) = tokio::io::duplex(STEP);
            far.write_all(&vec![7; len - 1]).await.unwrap();
            let error = intake.read(len, &mut near).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::PeerLost, "{error}");
        }
        assert_eq!(intake.room.available_permits(), 4 * STEP / UNIT, "nothing is held");
    }

    #[tokio::test]
    async fn what_is_held_is_bounded_and_what_is_claimed_is_not_counted() {
        let intake = intake();
        let body = vec![7; 3 * STEP];
        let first = intake.read(body.len(), &mut &body[..]).await.unwrap();
        assert_eq!(first, body);
        let error = intake.read(body.len(), &mut &body[..]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::QueueFull, "{error}");
        let part = first.slice(..1);
        drop(first);
        assert!(intake.read(body.len(), &mut &body[..]).await.is_err(), "a part holds the whole");
        drop(part);
        // Claims alone take one step each.
        let (mut liar, _silent) = tokio::io::duplex(64);
        let mut claim = std::pin::pin!(intake.read(MAX_BODY, &mut liar));
        assert!(futures::poll!(&mut claim).is_pending());
        intake.read(body.len(), &mut &body[..]).await.unwrap();
    }
}
