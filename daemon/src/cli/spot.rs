//! Places on nodes and in object stores, as they are typed: PATH, NODE:PATH or s3://BUCKET/PATH.

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    folder::Place,
    store::is_url,
};

/// PATH, NODE:PATH, a URL, or NODE: where the node gives it a place.
#[derive(Debug, Clone)]
pub(super) struct Spot {
    pub(super) node: Option<String>,
    pub(super) path: Option<String>,
}

/// Reads what was typed.
pub(super) fn spot(text: &str) -> Result<Spot, String> {
    if is_url(text) {
        return Ok(Spot { node: None, path: Some(text.to_owned()) });
    }
    match text.split_once(':') {
        Some((node, path)) if !node.is_empty() && !node.contains('/') => Ok(Spot {
            node: Some(node.to_owned()),
            path: (!path.is_empty()).then(|| path.to_owned()),
        }),
        _ if text.is_empty() => Err("it has a path".into()),
        _ => Ok(Spot { node: None, path: Some(text.to_owned()) }),
    }
}

impl Spot {
    /// The path on its node; one of this machine is made absolute.
    pub(super) fn path(&self) -> Result<Option<String>, ErrorInfo> {
        let refused = |text: String| ErrorInfo::new(ErrorKind::BadRequest, text);
        match (&self.node, &self.path) {
            (None, Some(path)) if !path.starts_with('~') && !is_url(path) => {
                let full =
                    std::path::absolute(path).map_err(|e| refused(format!("{path}: {e}")))?;
                let full = full.into_os_string().into_string();
                full.map(Some).map_err(|_| refused(format!("{path} has a name that is not UTF-8")))
            }
            (_, path) => Ok(path.clone()),
        }
    }

    /// The place that it names.
    pub(super) fn place(&self) -> Result<Place, ErrorInfo> {
        let path = self.path()?.ok_or_else(|| {
            let node = self.node.as_deref().unwrap_or_default();
            ErrorInfo::new(ErrorKind::BadRequest, format!("which path on {node}?"))
                .hint(format!("name it: {node}:PATH"))
        })?;
        Ok(Place { node: self.node.clone(), path, grant: None })
    }
}
