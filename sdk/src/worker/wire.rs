//! Frames on blocking sockets: read into one buffer that is kept, written at once.

use std::{
    io::{self, Read, Write},
    ops::Range,
};

use rhd_protocol::{
    call::{Codec, Verb},
    code::Load,
    error::ErrorInfo,
    frame::{self, FrameError, MAX_BODY, MAX_HEADER, PREFIX, Prefix},
};
use serde::{Deserialize, Serialize};

/// Bytes asked of a socket at once while small frames come in.
const READ: usize = 16 * 1024;
/// A large frame's buffer grows by at most this many bytes before they have arrived.
const STEP: usize = 1024 * 1024;
/// Bodies up to this size are joined with their header into one write.
const JOIN: usize = 64 * 1024;
/// Buffers that grew beyond this are given back after use.
const KEEP: usize = 1024 * 1024;

/// A frame in its reader's buffer.
#[derive(Debug)]
pub(super) struct Received<'a> {
    pub(super) header: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Reads frames.
#[derive(Debug)]
pub(super) struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// What was read and is not part of a frame that was handed out.
    fresh: Range<usize>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: vec![0; READ], fresh: 0..0 }
    }

    /// The next frame, valid until the one after it; `None` when the stream ended between frames.
    pub(super) fn next(&mut self) -> io::Result<Option<Received<'_>>> {
        if self.buffer.len() > KEEP && self.fresh.len() <= READ {
            let mut small = vec![0; READ];
            small[..self.fresh.len()].copy_from_slice(&self.buffer[self.fresh.clone()]);
            (self.buffer, self.fresh) = (small, 0..self.fresh.len());
        }
        if !self.fill(PREFIX)? {
            return Ok(None);
        }
        let mut prefix = [0; PREFIX];
        prefix.copy_from_slice(&self.buffer[self.fresh.start..][..PREFIX]);
        let Prefix { header, body, .. } = Prefix::parse(prefix, MAX_BODY).map_err(invalid)?;
        if !self.fill(PREFIX + header + body)? {
            return Ok(None);
        }
        let start = self.fresh.start + PREFIX;
        self.fresh.start = start + header + body;
        let (header, rest) = self.buffer[start..].split_at(header);
        Ok(Some(Received { header, body: &rest[..body] }))
    }

    /// Whether the next frame is there as a whole.
    pub(super) fn is_ready(&self) -> bool {
        let fresh = &self.buffer[self.fresh.clone()];
        let prefix = fresh.first_chunk::<PREFIX>().map(|prefix| Prefix::parse(*prefix, MAX_BODY));
        match prefix {
            Some(Ok(Prefix { header, body, .. })) => fresh.len() >= PREFIX + header + body,
            // What is wrong with it shows as it is read.
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Reads until there are `wanted` bytes; false when the stream ended before the first of them.
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        while self.fresh.len() < wanted {
            if self.fresh.start > 0 {
                self.buffer.copy_within(self.fresh.clone(), 0);
                self.fresh = 0..self.fresh.len();
            }
            let end = self.fresh.end;
            if end == self.buffer.len() {
                let more = (wanted - end).clamp(READ, STEP.max(end));
                self.buffer.resize(end + more, 0);
            }
            match self.stream.read(&mut self.buffer[end..]) {
                Ok(0) if self.fresh.is_empty() => return Ok(false),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.fresh.end += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

/// The error for bytes that are no frame.
pub(super) fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What a worker looks at of a [`Call`](rhd_protocol::call::Call), without copying its texts.
#[derive(Debug, Deserialize)]
pub(super) struct Head<'a> {
    pub(super) id: &'a str,
    pub(super) service: &'a str,
    #[serde(default)]
    pub(super) verb: Verb,
    #[serde(default, borrow)]
    pub(super) method: Option<&'a str>,
    #[serde(default)]
    pub(super) codec: Codec,
    #[serde(default)]
    pub(super) logs: bool,
    #[serde(default)]
    pub(super) load: Option<Load>,
}

/// A [`Control`](rhd_protocol::worker::Control) order, likewise.
#[derive(Debug, Deserialize)]
pub(super) struct Order<'a> {
    pub(super) t: &'a str,
    #[serde(default)]
    pub(super) id: Option<&'a str>,
    #[serde(default, borrow)]
    pub(super) call: Option<Head<'a>>,
    #[serde(default)]
    pub(super) items: Option<u32>,
    #[serde(default)]
    pub(super) count: Option<u32>,
    #[serde(default)]
    pub(super) threads: Option<u32>,
}

/// A [`Reply`](rhd_protocol::call::Reply) with a body, likewise.
#[derive(Serialize)]
struct Success<'a> {
    t: &'static str,
    id: &'a str,
    codec: Codec,
    parts: [u64; 1],
}

/// A failure, likewise.
#[derive(Serialize)]
struct Failure<'a> {
    t: &'static str,
    id: &'a str,
    error: &'a ErrorInfo,
}

/// What a reply says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind<'a> {
    Item(Codec),
    Done(Codec),
    Fail(&'a ErrorInfo),
}

/// Puts the head of a reply, whose body has `len` bytes, into an empty buffer.
pub(super) fn head(
    kind: Kind<'_>,
    id: &str,
    len: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    out.clear();
    out.extend_from_slice(&[0; PREFIX]);
    let mut writer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let parts = [len as u64];
    match kind {
        Kind::Item(codec) => Success { t: "item", id, codec, parts }.serialize(&mut writer)?,
        Kind::Done(codec) => Success { t: "done", id, codec, parts }.serialize(&mut writer)?,
        Kind::Fail(error) => Failure { t: "fail", id, error }.serialize(&mut writer)?,
    }
    let header = out.len() - PREFIX;
    if header > MAX_HEADER {
        return Err(FrameError::Header(header));
    }
    out[..4].copy_from_slice(&(header as u32).to_be_bytes());
    out[4..PREFIX].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(())
}

/// Writes replies, each at once.
#[derive(Debug)]
pub(super) struct Writer<W> {
    stream: W,
    frame: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(stream: W) -> Self {
        Self { stream, frame: Vec::new() }
    }

    pub(super) fn reply(&mut self, kind: Kind<'_>, id: &str, body: &[u8]) -> io::Result<()> {
        head(kind, id, body.len(), &mut self.frame).map_err(invalid)?;
        if body.len() > JOIN {
            self.stream.write_all(&self.frame)?;
            return self.stream.write_all(body);
        }
        self.frame.extend_from_slice(body);
        self.stream.write_all(&self.frame)
    }
}

/// Gives the room of a large message back.
pub(super) fn trim(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEEP);
}

/// A message of the daemon.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FrameError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(frame::MAX_DEPTH);
    Ok(T::deserialize(&mut reader)?)
}

#[cfg(test)]
mod tests {
    use rhd_protocol::{
        call::{Call, Reply},
        id::CallId,
        worker::Control,
    };

    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(buffer.len()).min(7);
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn frames_are_read_however_they_arrive() {
        let mut bytes = Vec::new();
        for n in [0, 10, 3 * READ, 1] {
            bytes.extend(frame::encode(&("call", n), n).unwrap());
            bytes.extend(vec![7; n]);
        }
        let mut reader = Reader::new(Slow(&bytes));
        for n in [0, 10, 3 * READ, 1] {
            let Received { header, body } = reader.next().unwrap().unwrap();
            assert_eq!(decode::<(String, usize)>(header).unwrap(), ("call".into(), n));
            assert_eq!(body, vec![7; n]);
        }
        assert!(reader.next().unwrap().is_none());
        let mut cut = Reader::new(Slow(&bytes[..bytes.len() - 1]));
        for _ in 0..3 {
            assert!(cut.next().unwrap().is_some());
        }
        assert!(cut.next().is_err(), "it ends inside a frame");
    }

    #[test]
    fn lengths_over_the_limit_are_refused_and_claims_allocate_nothing() {
        assert!(Reader::new(&[0xff; 64][..]).next().is_err());
        let claim = [&[0, 0, 0, 9][..], &(MAX_BODY as u32).to_be_bytes(), &[0; 9]].concat();
        let mut reader = Reader::new(&claim[..]);
        assert!(reader.next().is_err());
        assert!(reader.buffer.len() <= READ + STEP);
    }

    #[test]
    fn heads_are_those_of_the_protocol() {
        let id = CallId::from_bytes(*b"0123456789abcdef");
        let mut out = Vec::new();
        head(Kind::Done(Codec::Json), &id.to_string(), 3, &mut out).unwrap();
        let done = Reply::Done { id: Some(id), codec: Codec::Json, parts: vec![3] };
        assert_eq!(frame::decode::<Reply>(&out[PREFIX..]).unwrap(), done);
        assert_eq!(out[4..PREFIX], [0, 0, 0, 3]);
        let error = super::super::failure::failed("no");
        head(Kind::Fail(&error), &id.to_string(), 0, &mut out).unwrap();
        let fail = Reply::Fail { id: Some(id), error };
        assert_eq!(frame::decode::<Reply>(&out[PREFIX..]).unwrap(), fail);

        let call = Call { method: Some("m".into()), logs: true, ..Call::new(id, "/a/f") };
        let bytes = frame::to_vec(&Control::Call { call: Box::new(call) }).unwrap();
        let order: Order<'_> = decode(&bytes).unwrap();
        let read = order.call.unwrap();
        assert_eq!((order.t, read.service, read.method), ("call", "/a/f", Some("m")));
        assert!(read.logs && read.id == id.to_string());
        let bytes = frame::to_vec(&Control::Credit { id, items: 4 }).unwrap();
        let order: Order<'_> = decode(&bytes).unwrap();
        assert_eq!((order.t, order.items, order.id), ("credit", Some(4), Some(&*id.to_string())));
    }
}
