//! Frames: the same on the Unix socket, between daemon and worker, and on QUIC streams.
//!
//! ```text
//! +----------------+--------------+------------------+-----------+
//! | header len u32 | body len u32 | header (msgpack) | body, raw |      integers big-endian
//! +----------------+--------------+------------------+-----------+
//! ```
//!
//! The header is a map; the body is never copied through serde. Readers check both lengths against
//! their own limits before they allocate, and grow the body's buffer only as bytes arrive.
//!
//! A large payload may travel beside its frame, to a reader that said it takes that. Then the first
//! length has [`BESIDE`] set, and the body is eight bytes, the payload's length. On a Unix socket the
//! descriptor of a file comes with those bytes; the payload is in the file from [`PAYLOAD_AT`] on. On
//! a stream between nodes the payload follows the frame, raw.
//!
//! The file's first byte is 1 while somebody needs the payload. The last who does sets it to 0, and
//! whoever made the file may fill it again: pages that were in use once cost far less than fresh
//! ones. The file can't shrink: it is sealed, so that nobody who maps it depends on its maker.

use serde::{Serialize, de::DeserializeOwned};

/// Bytes before the header.
pub const PREFIX: usize = 8;
/// The longest header that is read or written, in bytes.
pub const MAX_HEADER: usize = 256 * 1024;
/// The longest body that is read or written, in bytes: one call's arguments or result.
pub const MAX_BODY: usize = 512 * 1024 * 1024;
/// How deep a message may nest, known fields or not: each level takes stack from its reader.
pub const MAX_DEPTH: usize = 32;

/// Set in the first length of a frame whose payload travels beside it.
pub const BESIDE: u32 = 1 << 31;
/// Bytes of the body of such a frame: the payload's length.
pub const BESIDE_BODY: usize = 8;
/// Where in its file a payload starts, in bytes.
pub const PAYLOAD_AT: u64 = 4096;
/// The longest payload that anybody takes, in bytes; nodes may take less.
pub const MAX_PAYLOAD: u64 = 64 << 30;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The header is longer than [`MAX_HEADER`] (or empty).
    #[error("header of {0} bytes; the limit is {MAX_HEADER}")]
    Header(usize),
    /// The body is longer than the reader takes.
    #[error("body of {len} bytes; the limit here is {limit}")]
    Body {
        /// As claimed by the frame.
        len: usize,
        /// As set by the reader.
        limit: usize,
    },
    /// A payload that should be beside the frame is not, or is not as it has to be.
    #[error("payload beside the frame: {0}")]
    Beside(&'static str),
    /// The payload is longer than the reader takes.
    #[error("payload of {len} bytes; the limit here is {limit}")]
    Payload {
        /// As claimed by the frame.
        len: u64,
        /// As set by the reader.
        limit: u64,
    },
    /// The header is no message of the expected type.
    #[error("header is not understood")]
    Decode(#[from] rmp_serde::decode::Error),
    /// The message can't be written.
    #[error("header can't be written")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// The two lengths that start a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of header.
    pub header: usize,
    /// Bytes of body.
    pub body: usize,
    /// Whether a payload is beside the frame.
    pub beside: bool,
}

impl Prefix {
    /// Reads the lengths and holds them against the limits; a payload beside the frame may be.
    pub fn parse_any(mut bytes: [u8; PREFIX], max_body: usize) -> Result<Self, FrameError> {
        let flag = (BESIDE >> 24) as u8;
        let beside = bytes[0] & flag != 0;
        bytes[0] &= !flag;
        let lengths = Self::parse(bytes, if beside { BESIDE_BODY } else { max_body })?;
        if beside && lengths.body != BESIDE_BODY {
            return Err(FrameError::Beside("its length is missing"));
        }
        Ok(Self { beside, ..lengths })
    }

    /// Reads the lengths and holds them against the limits, for readers that take no payload beside
    /// the frame.
    pub fn parse(bytes: [u8; PREFIX], max_body: usize) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let header = u32::from_be_bytes([a, b, c, d]) as usize;
        let body = u32::from_be_bytes([e, f, g, h]) as usize;
        if header == 0 || header > MAX_HEADER {
            return Err(FrameError::Header(header));
        }
        if body > max_body {
            return Err(FrameError::Body { len: body, limit: max_body });
        }
        Ok(Self { header, body, beside: false })
    }
}

/// Writes prefix and header; the caller appends `body_len` bytes of body.
pub fn encode(header: &impl Serialize, body_len: usize) -> Result<Vec<u8>, FrameError> {
    if body_len > MAX_BODY {
        return Err(FrameError::Body { len: body_len, limit: MAX_BODY });
    }
    let mut out = vec![0; PREFIX];
    header.serialize(&mut rmp_serde::Serializer::new(&mut out).with_struct_map())?;
    let header_len = out.len() - PREFIX;
    if header_len > MAX_HEADER {
        return Err(FrameError::Header(header_len));
    }
    // Both fit in u32: they were held against limits far below it.
    out[..4].copy_from_slice(&(header_len as u32).to_be_bytes());
    out[4..8].copy_from_slice(&(body_len as u32).to_be_bytes());
    Ok(out)
}

/// Writes prefix, header and body of a frame whose payload travels beside it.
pub fn encode_beside(header: &impl Serialize, payload: u64) -> Result<Vec<u8>, FrameError> {
    if payload > MAX_PAYLOAD {
        return Err(FrameError::Payload { len: payload, limit: MAX_PAYLOAD });
    }
    let mut out = encode(header, BESIDE_BODY)?;
    out[0] |= (BESIDE >> 24) as u8;
    out.extend_from_slice(&payload.to_be_bytes());
    Ok(out)
}

/// The length of a payload, from the body of its frame, held against a limit.
pub fn payload_len(body: &[u8], limit: u64) -> Result<u64, FrameError> {
    let len = body.try_into().map_err(|_| FrameError::Beside("its length is missing"))?;
    let len = u64::from_be_bytes(len);
    match len {
        0 => Err(FrameError::Beside("it is empty")),
        len if len > limit.min(MAX_PAYLOAD) => {
            Err(FrameError::Payload { len, limit: limit.min(MAX_PAYLOAD) })
        }
        len => Ok(len),
    }
}

/// Reads a header (or any message of this crate that travels as a body).
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    reader.set_max_depth(MAX_DEPTH);
    Ok(T::deserialize(&mut reader)?)
}

/// Writes a message that travels as a body.
pub fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    Ok(rmp_serde::to_vec_named(value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_over_the_limit_are_refused_before_anything_is_read() {
        let huge = [0xff; PREFIX];
        assert!(matches!(Prefix::parse(huge, MAX_BODY), Err(FrameError::Header(_))));
        let body = [0, 0, 0, 1, 0, 0, 0, 9];
        assert!(matches!(Prefix::parse(body, 8), Err(FrameError::Body { len: 9, limit: 8 })));
        assert!(matches!(Prefix::parse([0; PREFIX], 8), Err(FrameError::Header(0))));
    }

    #[test]
    fn a_frame_round_trips() {
        let frame = encode(&("call", 7), 3).unwrap();
        let prefix = Prefix::parse(frame[..PREFIX].try_into().unwrap(), 3).unwrap();
        assert_eq!(prefix.body, 3);
        let header: (String, u8) = decode(&frame[PREFIX..PREFIX + prefix.header]).unwrap();
        assert_eq!(header, ("call".into(), 7));
    }

    #[test]
    fn only_readers_that_take_payloads_beside_frames_are_given_one() {
        let frame = encode_beside(&("call", 7), 1 << 33).unwrap();
        let prefix: [u8; PREFIX] = frame[..PREFIX].try_into().unwrap();
        assert!(matches!(Prefix::parse(prefix, MAX_BODY), Err(FrameError::Header(_))));
        let lengths = Prefix::parse_any(prefix, 0).unwrap();
        assert!(lengths.beside);
        assert_eq!(PREFIX + lengths.header + lengths.body, frame.len());
        let body = &frame[PREFIX + lengths.header..];
        assert_eq!(payload_len(body, MAX_PAYLOAD).unwrap(), 1 << 33);
        assert!(matches!(payload_len(body, 9), Err(FrameError::Payload { limit: 9, .. })));
        assert!(matches!(payload_len(&[0; 8], 9), Err(FrameError::Beside(_))));
        assert!(matches!(payload_len(&[0xff; 8], u64::MAX), Err(FrameError::Payload { .. })));
        assert!(matches!(payload_len(b"", 9), Err(FrameError::Beside(_))));
        let mut wrong = prefix;
        wrong[7] = 9;
        assert!(Prefix::parse_any(wrong, MAX_BODY).is_err());
        assert!(encode_beside(&1, MAX_PAYLOAD + 1).is_err());
    }

    #[test]
    fn nesting_ends_at_its_limit() {
        let deep = |levels| [vec![0x91; levels], vec![0xc0]].concat();
        assert!(decode::<serde::de::IgnoredAny>(&deep(MAX_DEPTH - 1)).is_ok());
        assert!(decode::<serde::de::IgnoredAny>(&deep(100_000)).is_err());
    }
}
