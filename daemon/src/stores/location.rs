//! What a URL of an object store names.

use std::{fmt, str::FromStr};

use super::error::StoreError;

/// Bytes of a key: more than that no store takes.
const MAX_KEY: usize = 1024;

/// Whose protocol a store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    S3,
    Gs,
    Az,
}

impl Scheme {
    const ALL: [(Self, &'static str); 3] = [(Self::S3, "s3"), (Self::Gs, "gs"), (Self::Az, "az")];

    fn text(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Az => "az",
        }
    }
}

/// An object, or all below a name: `s3://bucket/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub(super) scheme: Scheme,
    /// A container, at Azure.
    pub(super) bucket: String,
    /// Without a slash at either end; empty: all of the bucket.
    pub(super) path: String,
}

impl Location {
    /// What is named so below it.
    pub fn below(&self, path: &str) -> Self {
        Self { path: self.key(path), ..self.clone() }
    }

    /// The key of what is named so below it; of itself, for an empty path.
    pub(super) fn key(&self, path: &str) -> String {
        match (self.path.as_str(), path) {
            ("", path) => path.to_owned(),
            (own, "") => own.to_owned(),
            (own, path) => format!("{own}/{path}"),
        }
    }

    /// The last part of its path, or its bucket.
    pub fn name(&self) -> &str {
        match self.path.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            _ => &self.bucket,
        }
    }

    /// Whether it is a whole bucket.
    pub fn is_bucket(&self) -> bool {
        self.path.is_empty()
    }

    /// Whether both are in one bucket.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        (self.scheme, &self.bucket) == (other.scheme, &other.bucket)
    }
}

impl FromStr for Location {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let refused = |why: &str| StoreError::Url(format!("{text:?} {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused("is no URL"))?;
        let known = Scheme::ALL.into_iter().find(|(_, name)| *name == scheme);
        let (scheme, _) = known.ok_or_else(|| refused("is of a store that rhd does not know"))?;
        let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
        if bucket.is_empty() || bucket.len() > 255 || !bucket.chars().all(plain) {
            return Err(refused("names no bucket"));
        }
        let sound = |part: &str| {
            !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_ascii_control())
        };
        if path.len() > MAX_KEY || (!path.is_empty() && !path.split('/').all(sound)) {
            return Err(refused("names nothing that a store can have"));
        }
        Ok(Self { scheme, bucket: bucket.into(), path: path.into() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.path.is_empty() { "" } else { "/" };
        write!(f, "{}://{}{slash}{}", self.scheme.text(), self.bucket, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_bucket_and_what_is_in_it() {
        let of = |text: &str| text.parse::<Location>();
        assert_eq!(of("s3://b/a/c/").unwrap().to_string(), "s3://b/a/c");
        assert_eq!(of("gs://b").unwrap().to_string(), "gs://b");
        assert!(of("az://b/").unwrap().is_bucket());
        assert_eq!(of("s3://b/a").unwrap().below("x/y").to_string(), "s3://b/a/x/y");
        assert_eq!(of("s3://b").unwrap().key("x"), "x");
        assert_eq!((of("s3://b/a/c").unwrap().name(), of("s3://b").unwrap().name()), ("c", "b"));
        for bad in
            ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/a/./c", "ftp://b/x", "b"]
        {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(of(&format!("s3://b/{}", "x".repeat(2000))).is_err());
        let known = rhd_protocol::store::SCHEMES.map(|scheme| of(&format!("{scheme}://b")).is_ok());
        assert_eq!(known, [true; 3]);
    }
}
