//! Data: blobs, by hash and by name, and what clients and nodes ask about them.
//!
//! A client sends [`api::Request::Data`](crate::api::Request::Data), a node opens a
//! [`DATA`](crate::wire::DATA) stream with a [`DataAsk`] as its first frame; both read
//! [`Reply`](crate::call::Reply) frames until a final one. Content itself goes from node to node on
//! [`BLOB`](crate::wire::BLOB) streams, in the encoding of iroh-blobs, or where it is large, on
//! [`PIECE`](crate::wire::PIECE) streams; verified as it arrives.

mod version;

use serde::{Deserialize, Serialize};

pub use version::{
    Input, InputError, Lineage, MAX_DEPTH, MAX_INPUTS, MAX_LINEAGE, MAX_TEXT, Made, Origin, Record,
    Tree, Version,
};

use crate::{
    call::Codec,
    folder::Skipped,
    id::{Hash, NodeId},
};

/// Hashes that one question may name.
pub const MAX_HASHES: usize = 1024;
/// Nodes that one question may name as holders.
pub const MAX_HOLDERS: usize = 64;
/// Parts that a blob may have.
pub const MAX_PARTS: usize = 4097;
/// Bytes of content in one reply, at most.
pub const CHUNK: usize = 1024 * 1024;

/// What a blob holds, and how to read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Of all bytes.
    pub hash: Hash,
    /// How many bytes.
    pub size: u64,
    /// Encoding of an object; none: plain bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// Lengths of the parts of an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u64>,
}

impl Content {
    /// Whether its parts, if it has any, make up its size.
    pub fn is_sound(&self) -> bool {
        let sum = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(*part));
        self.parts.len() <= MAX_PARTS && (self.parts.is_empty() || sum == Some(self.size))
    }
}

/// A blob on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobInfo {
    /// Its canonical name there; none: it is kept for a while only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it holds.
    pub content: Content,
    /// Name of the node.
    pub node: String,
    /// Id of the node.
    pub node_id: String,
    /// Bytes of it that are there.
    pub held: u64,
    /// When it got its name, in milliseconds since 1970; 0: it has none.
    #[serde(default)]
    pub saved_ms: u64,
    /// Versions of the name that are kept, this one included.
    #[serde(default)]
    pub versions: u32,
    /// The number of this version of the name; 0: it has none.
    #[serde(default, skip_serializing_if = "version::is_zero")]
    pub version: u64,
    /// What made it, as far as its name says.
    #[serde(default, skip_serializing_if = "Origin::is_empty")]
    pub origin: Origin,
    /// The folder or table that the name stands for; none: it is a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

impl BlobInfo {
    /// What it is: `blob`, `folder` or `table`.
    pub fn kind(&self) -> &'static str {
        self.tree.as_ref().map_or("blob", Tree::kind)
    }

    /// Bytes of what it holds.
    pub fn bytes(&self) -> u64 {
        self.tree.as_ref().map_or(self.content.size, |tree| tree.bytes)
    }
}

/// A question about data, or something to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum DataAsk {
    /// Stores the body. The answer is a [`BlobInfo`].
    Put {
        /// Its name; none: it is kept for a while only.
        #[serde(default)]
        name: Option<String>,
        /// Encoding of the body; none: plain bytes.
        #[serde(default)]
        codec: Option<Codec>,
        /// Lengths of the body's parts.
        #[serde(default)]
        parts: Vec<u64>,
        /// What made it; for its name's record.
        #[serde(default, skip_serializing_if = "Origin::is_empty")]
        origin: Origin,
    },
    /// Stores a file of the node's own disk. The answer is a [`BlobInfo`].
    Import {
        /// Absolute path.
        path: String,
        /// Its name; none: it is kept for a while only.
        #[serde(default)]
        name: Option<String>,
        /// What made it; for its name's record.
        #[serde(default, skip_serializing_if = "Origin::is_empty")]
        origin: Origin,
    },
    /// Saves a folder or table of the node's own disk as the newest version of a name: what files are
    /// stored already is not stored again. The answer is a [`Saved`].
    SaveFolder {
        /// Absolute path, or one that starts with `~/`.
        path: String,
        /// Its name.
        name: String,
        /// Whether it is a table.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        table: bool,
        /// What made it.
        #[serde(default, skip_serializing_if = "Origin::is_empty")]
        origin: Origin,
    },
    /// A blob by name or hash, wherever it is. The answer is a [`BlobInfo`].
    Find {
        /// Name, or text of a hash.
        blob: String,
        /// Whether other nodes are asked, too.
        #[serde(default)]
        far: bool,
    },
    /// Which of these are here, whole. The answer is a list of sizes, with nil for what is not.
    Have {
        /// At most [`MAX_HASHES`].
        hashes: Vec<Hash>,
    },
    /// Brings a blob to the node, from whoever has it. The answer is a [`BlobInfo`].
    Fetch {
        /// What.
        content: Content,
        /// The name that it gets; none: it is kept for a while only.
        #[serde(default)]
        name: Option<String>,
        /// Who is known to have it; others are asked.
        #[serde(default)]
        from: Vec<NodeId>,
        /// What made it; for its name's record.
        #[serde(default, skip_serializing_if = "Origin::is_empty")]
        origin: Origin,
    },
    /// Bytes of a blob, as items; what the node lacks of them is fetched. The answer is nil.
    Read {
        /// What.
        content: Content,
        /// The first byte.
        at: u64,
        /// How many; fewer come at the end.
        len: u64,
        /// Who is known to have it; others are asked.
        #[serde(default)]
        from: Vec<NodeId>,
    },
    /// Writes a blob to a file of the node's own disk. The answer is a [`BlobInfo`].
    Export {
        /// What.
        content: Content,
        /// Absolute path; a file there is replaced.
        path: String,
        /// Who is known to have it; others are asked.
        #[serde(default)]
        from: Vec<NodeId>,
    },
    /// What is on the node. The answer is a list of [`BlobInfo`].
    List {},
    /// Takes a name away; its content goes with the next collection. The answer is nil.
    Remove {
        /// Canonical name.
        name: String,
    },
    /// Names of data. The answer is a list of [`BlobInfo`], without what made them.
    Names {
        /// Only names below this folder.
        #[serde(default)]
        below: Option<String>,
        /// Whether other nodes are asked, too.
        #[serde(default)]
        far: bool,
    },
    /// Gives a name's versions another name. The answer is a [`BlobInfo`].
    Rename {
        /// Canonical name.
        name: String,
        /// A canonical name that nothing has.
        to: String,
    },
    /// The versions of a name that are kept. The answer is a list of [`Version`], the newest first.
    History {
        /// Canonical name.
        name: String,
        /// How many at most; none: all.
        #[serde(default)]
        limit: Option<u32>,
    },
    /// Puts the content of an earlier version on top of a name, as a new version; that of a folder or
    /// table also in its place on disk, where what is there is saved first. The answer is a
    /// [`BlobInfo`].
    Rollback {
        /// Canonical name.
        name: String,
        /// Number of the earlier version.
        version: u64,
        /// Where a folder or table is written; none: where the newest version is from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// How these came about, as far as names of the node say. The answer is a list of [`Record`],
    /// with nil for what is not known.
    Records {
        /// At most [`MAX_INPUTS`], each the text of an [`Input`].
        inputs: Vec<String>,
    },
    /// What something was made from, and what that was made from, asked of all nodes that can be
    /// reached. The answer is a [`Lineage`].
    Lineage {
        /// Name, or text of a hash.
        blob: String,
        /// Number of the name's version; none: the newest.
        #[serde(default)]
        version: Option<u64>,
        /// Steps to go back, at most [`MAX_DEPTH`].
        depth: u32,
    },
    /// How many bytes a file of the node's own disk has. The answer is a number, or nil.
    StatFile {
        /// Absolute path.
        path: String,
    },
    /// Removes a file from the node's own disk. The answer is nil.
    RemoveFile {
        /// Absolute path.
        path: String,
    },
    /// Removes what nothing needs. The answer is [`Collected`].
    Collect {
        /// Whether to only say what would go.
        #[serde(default)]
        dry_run: bool,
    },
    /// Reads all that is stored and compares it with its hashes. The answer is [`Verified`].
    Verify {},
}

/// Pieces that one question may ask for.
pub const MAX_PIECES: u64 = 64;

/// A question about a large blob, which comes as [pieces](crate::pieces) rather than in the encoding of
/// iroh-blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum PieceAsk {
    /// The values of its pieces, which prove them, as items. The answer is [`Pieces`](crate::folder::Pieces), nil where the
    /// blob is not kept as pieces there.
    Prove {
        /// Which.
        hash: Hash,
    },
    /// Pieces of it, one in each item. The answer is nil.
    Read {
        /// Which.
        hash: Hash,
        /// The first piece.
        first: u64,
        /// How many, at most [`MAX_PIECES`]; fewer come at the end.
        count: u64,
    },
}

/// What came of saving a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The version that it is now.
    pub info: BlobInfo,
    /// Bytes of files that were not stored yet.
    pub stored: u64,
    /// What is in the folder and can't be kept, and why; at most
    /// [`MAX_NAMED`](crate::folder::MAX_NAMED).
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

/// What a collection removed, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Bytes.
    pub bytes: u64,
    /// Blobs that stay.
    pub kept_blobs: u64,
    /// Bytes that stay.
    pub kept_bytes: u64,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Blobs that are whole.
    pub blobs: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Blobs that a transfer has left in part; every chunk in them is right.
    pub partial: u64,
    /// Blobs that were damaged on disk, and have been removed.
    pub damaged: Vec<Damaged>,
}

/// A blob that is not on disk as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Which.
    pub hash: Hash,
    /// Names that stand for it.
    pub names: Vec<String>,
    /// What is wrong.
    pub why: String,
}

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes per second, lately.
    pub rate: u64,
    /// Milliseconds that the rest takes at this rate; none: can't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_must_make_up_the_size() {
        let content = |size, parts: &[u64]| Content {
            hash: Hash::of(b""),
            size,
            codec: Some(Codec::Pickle),
            parts: parts.into(),
        };
        assert!(content(5, &[]).is_sound());
        assert!(content(5, &[2, 3]).is_sound());
        assert!(!content(5, &[2, 4]).is_sound());
        assert!(!content(4, &[u64::MAX, 5]).is_sound());
        assert!(!content(0, &[0; MAX_PARTS + 1]).is_sound());
    }
}
