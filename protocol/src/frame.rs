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

use serde::{Serialize, de::DeserializeOwned};

/// Bytes before the header.
pub const PREFIX: usize = 8;
/// The longest header that is read or written, in bytes.
pub const MAX_HEADER: usize = 256 * 1024;
/// The longest body that is read or written, in bytes: one call's arguments or result.
pub const MAX_BODY: usize = 512 * 1024 * 1024;
/// How deep a message may nest, known fields or not: each level takes stack from its reader.
pub const MAX_DEPTH: usize = 32;

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
}

impl Prefix {
    /// Reads the lengths and holds them against the limits.
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
        Ok(Self { header, body })
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
    fn nesting_ends_at_its_limit() {
        let deep = |levels| [vec![0x91; levels], vec![0xc0]].concat();
        assert!(decode::<serde::de::IgnoredAny>(&deep(MAX_DEPTH - 1)).is_ok());
        assert!(decode::<serde::de::IgnoredAny>(&deep(100_000)).is_err());
    }
}
