//! Object stores: S3, Google Cloud Storage and Azure Blob Storage. Wherever a path of a node's disk
//! is asked for, the URL of something in a store may stand; the node that is asked does it.

/// Schemes of the URLs: `s3://bucket/path`, `gs://bucket/path`, `az://container/path`.
pub const SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// Whether a text names something in an object store, rather than on a disk.
pub fn is_url(text: &str) -> bool {
    let named = |scheme: &&str| text.strip_prefix(*scheme).is_some_and(|r| r.starts_with("://"));
    SCHEMES.iter().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_no_path() {
        assert!(is_url("s3://bucket/a") && is_url("gs://bucket") && is_url("az://"));
        assert!(!is_url("/s3://bucket") && !is_url("s3:/bucket") && !is_url("file:///x"));
    }
}
