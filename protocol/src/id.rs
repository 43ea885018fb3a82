//! Ids: fixed-size bytes in memory, lower-case base32 text everywhere else.

use std::{fmt, str::FromStr, sync::LazyLock};

use data_encoding::Encoding;
use serde::{Deserialize, Serialize, de};

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} ({len} characters of base32)")]
pub struct ParseIdError {
    kind: &'static str,
    len: usize,
    text: String,
}

/// Made once: every header has ids in it, and the tables take longer to make than a header to read.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    // The symbols above are fixed and valid; the fallback is never taken.
    spec.encoding().unwrap_or(data_encoding::BASE32_NOPAD)
});

/// Encodes bytes as the lower-case base32 that every id and ticket uses.
pub fn encode_base32(bytes: &[u8]) -> String {
    BASE32.encode(bytes)
}

/// Decodes lower-case base32; `None` when a character is out of place.
pub fn decode_base32(text: &str) -> Option<Vec<u8>> {
    BASE32.decode(text.as_bytes()).ok()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Characters of its text.
            const TEXT: usize = ($len * 8usize).div_ceil(5);

            fn parse(text: &[u8]) -> Option<Self> {
                let mut bytes = [0; $len];
                if text.len() != Self::TEXT {
                    return None;
                }
                BASE32.decode_mut(text, &mut bytes).ok().map(|_| Self(bytes))
            }

            /// Takes the raw bytes.
            pub const fn from_bytes(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first ten characters, for people.
            pub fn short(&self) -> String {
                self.to_string().chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; Self::TEXT];
                BASE32.encode_mut(&self.0, &mut text);
                f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::parse(text.as_bytes()).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    len: Self::TEXT,
                    text: text.chars().take(80).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut text = [0; Self::TEXT];
                BASE32.encode_mut(&self.0, &mut text);
                s.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        write!(f, "a {} of {} characters of base32", $kind, $name::TEXT)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_bytes<E: de::Error>(self, text: &[u8]) -> Result<$name, E> {
                        $name::parse(text).ok_or_else(|| E::custom(concat!("no ", $kind)))
                    }
                }
                d.deserialize_str(Text)
            }
        }
    };
}

id!(
    /// A node: its Ed25519 public key, the same key that its libp2p PeerId wraps.
    NodeId, 32, "node id"
);
id!(
    /// A realm: the Ed25519 public key that signs its members' certificates.
    RealmId, 32, "realm id"
);
id!(
    /// A call: 16 random bytes chosen by the client, unique for good.
    CallId, 16, "call id"
);
id!(
    /// Content: a BLAKE3 hash.
    Hash, 32, "hash"
);

impl Hash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_length_is_checked() {
        let id = CallId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(id.to_string().parse::<CallId>(), Ok(id));
        assert!(id.to_string().parse::<NodeId>().is_err());
        assert!("".parse::<CallId>().is_err());
        assert!("A".repeat(26).parse::<CallId>().is_err());
    }
}
