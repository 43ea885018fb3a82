//! Node and node: the streams of the data plane.
//!
//! Every stream starts with an [`Open`] frame that names its protocol; what follows is that
//! protocol's own: calls carry [`Call`](crate::call::Call) and replies, deployments the messages
//! below, presence [`Signed`](crate::presence::Signed) records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    code::Entry,
    env::EnvSpec,
    id::{CallId, Hash},
};

/// One call per stream.
pub const CALL: &str = "call/1";
/// One deployment per stream.
pub const DEPLOY: &str = "deploy/1";
/// Presence records, both ways, once after a link comes up.
pub const PRESENCE: &str = "presence/1";
/// Questions of a client to a node other than its own: an `api::Request`, answered by replies.
pub const ADMIN: &str = "admin/1";
/// Questions about data, a [`DataAsk`](crate::data::DataAsk) each, answered by replies.
pub const DATA: &str = "data/1";
/// One request for chunks of a blob, in the encoding of iroh-blobs, and the chunks.
pub const BLOB: &str = "blob/1";
/// Pieces of a large blob, a [`PieceAsk`](crate::data::PieceAsk) each, answered by replies.
pub const PIECE: &str = "piece/1";

/// Questions about folders, a [`FolderAsk`](crate::folder::FolderAsk) each, answered by replies.
pub const FOLDER: &str = "folder/1";
/// Questions about tables, a [`TableAsk`](crate::table::TableAsk) each, answered by replies.
pub const TABLE: &str = "table/1";

/// Bytes that a node's socket asks its system to hold. With the 208 KiB that Linux gives by itself, one
/// packet in twenty of a large payload found no room on a busy machine, and what was lost came some
/// 30 ms later.
pub const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// The first frame of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// One of the protocol ids above.
    pub proto: String,
    /// The opener's certificate, on relayed streams, where no TLS handshake proved membership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<crate::membership::Cert>,
}

/// A file of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// Content.
    pub hash: Hash,
    /// Executable bit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exec: bool,
    /// Target of a symbolic link that stays inside the root; then size is 0 and hash is of nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A project folder as content: relative path with `/` to file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Sorted by path.
    pub files: BTreeMap<String, FileEntry>,
}

/// Files that one manifest may list.
pub const MAX_FILES: usize = 20_000;
/// Bytes of one chunk of a file under way.
pub const CHUNK: usize = 1024 * 1024;

impl Manifest {
    /// Names this exact content.
    pub fn hash(&self) -> Hash {
        Hash::of(&crate::frame::to_vec(self).unwrap_or_default())
    }

    /// Whether every path stays below the root and none leads through another entry.
    pub fn is_safe(&self) -> bool {
        self.files.len() <= MAX_FILES
            && self.files.iter().all(|(path, file)| {
                safe_path(path)
                    && file.link.as_deref().is_none_or(|target| link_stays_inside(path, target))
                    && path
                        .match_indices('/')
                        .all(|(end, _)| !self.files.contains_key(&path[..end]))
            })
    }
}

/// Whether `path` is relative, of plain components, below its root.
pub fn safe_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.contains(['\0', '\\'])
        && path.split('/').all(|c| !c.is_empty() && c != "." && c != ".." && c.len() <= 255)
}

/// Whether a link at `path` that points to `target` stays inside the root, whatever other links of
/// the manifest it leads through: it may go up only before it goes down.
pub fn link_stays_inside(path: &str, target: &str) -> bool {
    if target.is_empty() || target.len() > 4096 || target.contains(['\0', '\\']) {
        return false;
    }
    let up = target.split('/').take_while(|c| matches!(*c, ".." | ".")).filter(|c| *c == "..");
    let down = target.split('/').skip_while(|c| matches!(*c, ".." | "."));
    up.count() <= path.matches('/').count() && down.into_iter().all(|c| !matches!(c, "" | ".."))
}

/// A project folder of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootOffer {
    /// Which project: the same for every version of it.
    pub project: String,
    /// Folders below it to put on `sys.path`.
    pub sys_path: Vec<String>,
    /// Its content.
    pub manifest: Manifest,
}

/// The first message of a deployment, as the body of a [`DeployOpen`] frame would be too large for a
/// header: msgpack in the body's first part, the pickled entry (if any) in the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Canonical name.
    pub name: String,
    /// The env it lives in.
    pub env: EnvSpec,
    /// Project folders, the entry's own first.
    pub roots: Vec<RootOffer>,
    /// The function or class.
    pub entry: Entry,
    /// Higher than any deployment of the name that the deployer knows of.
    pub generation: u64,
}

/// Frames of a deployment from the deployer; replies come back as for a call, after one [`Want`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Deploy {
    /// The deployment; the body is a [`Deployment`], then the pickled entry.
    Open {
        /// [`crate::VERSION`] of the writer.
        v: u16,
        /// Names it in logs and errors.
        id: CallId,
        /// Lengths of the two parts.
        parts: Vec<u64>,
    },
    /// The next chunk of a wanted file, files in the order of [`Want`].
    File {
        /// Which.
        hash: Hash,
        /// Whether it ends the file.
        last: bool,
    },
}

/// The host's answer: the files that it lacks, as the body (msgpack list of hashes).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// How many.
    pub count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_out_of_the_root_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\0b", "a\\b", "a/"] {
            assert!(!safe_path(bad), "{bad:?}");
        }
        assert!(safe_path("src/pkg/__init__.py"));
        assert!(link_stays_inside("a/b/link", "../c"));
        assert!(!link_stays_inside("a/link", "../../etc"));
        assert!(!link_stays_inside("link", "/etc/passwd"));
        assert!(!link_stays_inside("link", "x/../../y"));
        // Through another link, `x/..` may be anywhere.
        assert!(!link_stays_inside("link", "x/../y"));
        assert!(link_stays_inside("a/link", ".."));
    }

    #[test]
    fn no_path_leads_through_another_entry() {
        let file = FileEntry { size: 0, hash: Hash::of(b""), exec: false, link: None };
        let link = FileEntry { link: Some("b".into()), ..file.clone() };
        let manifest = |files: &[(&str, &FileEntry)]| Manifest {
            files: files.iter().map(|(path, f)| ((*path).into(), (*f).clone())).collect(),
        };
        assert!(manifest(&[("a", &link), ("ab/c", &file), ("b/c", &file)]).is_safe());
        assert!(!manifest(&[("a", &link), ("a-", &file), ("a/c", &file)]).is_safe());
        assert!(!manifest(&[("a/b", &file), ("a/b/c/d", &file)]).is_safe());
    }
}
