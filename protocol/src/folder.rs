//! Folders: what is in them, and what clients and nodes ask about them.
//!
//! A client sends [`api::Request::Folder`](crate::api::Request::Folder), a node opens a
//! [`FOLDER`](crate::wire::FOLDER) stream with a [`FolderAsk`] as its first frame; both read
//! [`Reply`](crate::call::Reply) frames until a final one. Content goes from the node that has the
//! folder to the one that gets it, each [piece](crate::pieces) held against its hash as it arrives.

use serde::{Deserialize, Serialize};

use crate::{
    id::{Hash, NodeId},
    wire::{link_stays_inside, safe_path},
};

/// Entries that a folder may have.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Bytes that one file may have: what proves its pieces is held in memory, 32 bytes for each MiB.
pub const MAX_SIZE: u64 = 1 << 42;
/// Bytes that a list of entries may have as it travels.
pub const MAX_LIST: u64 = 256 << 20;
/// Entries in one reply, at most.
pub const ENTRIES: usize = 2_048;
/// Pieces that one question may ask for.
pub const MAX_WANTED: usize = 1_024;
/// Bytes that one question may ask for.
pub const MAX_WANTED_BYTES: u64 = 8 << 20;
/// What a report lists by name, at most; the rest is counted.
pub const MAX_NAMED: usize = 1_000;
/// Where a transfer puts what is not whole yet, at the root of the folder that it writes to; never
/// part of the folder.
pub const STAGING: &str = ".rhd-sync";

/// A file, a symbolic link, or an empty folder, in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative to the folder, with `/`.
    #[serde(rename = "p")]
    pub path: String,
    /// Bytes of a file.
    #[serde(rename = "s", default)]
    pub size: u64,
    /// BLAKE3 of a file; of nothing for the others.
    #[serde(rename = "h")]
    pub hash: Hash,
    /// Whether a file may be executed.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub exec: bool,
    /// Target of a symbolic link, which stays inside the folder.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Whether it is a folder with nothing in it.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub dir: bool,
}

impl Entry {
    /// Whether both are the same in all but where they are.
    pub fn is_like(&self, other: &Self) -> bool {
        let what = |e: &Self| (e.size, e.hash, e.exec, e.dir);
        what(self) == what(other) && self.link == other.link
    }

    /// Whether its bytes are content of a file.
    pub fn is_file(&self) -> bool {
        !self.dir && self.link.is_none()
    }

    /// Whether it stays below its root and contradicts itself in nothing.
    pub fn is_sound(&self) -> bool {
        safe_path(&self.path)
            && self.path.split('/').all(|name| name != STAGING)
            && self.size <= MAX_SIZE
            && self.link.as_deref().is_none_or(|to| link_stays_inside(&self.path, to))
            && (self.is_file() || (self.size == 0 && !self.exec))
            && !(self.dir && self.link.is_some())
    }
}

/// Whether a list is sorted by path, names nothing twice, and nothing leads through a file or link.
pub fn is_sound(entries: &[Entry]) -> bool {
    entries.len() <= MAX_ENTRIES
        && entries.iter().all(Entry::is_sound)
        && entries.is_sorted_by(|a, b| a.path < b.path)
        && entries.iter().all(|entry| {
            // Sorted by bytes, what lies below `a` does not follow it at once: `a-b` lies between.
            entry.path.match_indices('/').all(|(end, _)| {
                let above = &entry.path[..end];
                entries.binary_search_by(|e| e.path.as_str().cmp(above)).is_err()
            })
        })
}

/// A folder on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name or id of the node; none: the one that the client is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Absolute path there, or one that starts with `~/`.
    pub path: String,
    /// What lets a node read it that may not by itself: see [`FolderAsk::Grant`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
}

/// Bytes of a file: at most a [piece](crate::pieces::PIECE).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Path in the folder.
    #[serde(rename = "p")]
    pub path: String,
    /// Bytes that the file shall have.
    #[serde(rename = "s")]
    pub size: u64,
    /// Which piece of it.
    #[serde(rename = "i", default)]
    pub index: u64,
}

/// A question about folders, or something to do with one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum FolderAsk {
    /// Has all of a folder at another place, too. Items: [`Reply::Progress`](crate::call::Reply).
    /// The answer is a [`Synced`].
    Copy {
        /// The folder.
        from: Place,
        /// The node that gets it; none: the one that the client is connected to.
        #[serde(default)]
        node: Option<String>,
        /// Where; none: a place that the node gives to what comes from there.
        #[serde(default)]
        to: Option<String>,
    },
    /// Brings what changed on either side to the other. The answer is a list of two [`Synced`]:
    /// of the second place, then of the first.
    Sync {
        /// One folder.
        one: Place,
        /// The other.
        other: Place,
        /// Whether to go on, each time that something changes, until the question is dropped; each
        /// time is an item then.
        #[serde(default)]
        watch: bool,
    },
    /// What is in a folder. The answer is a list of [`Listed`].
    List {
        /// Which.
        path: String,
    },
    /// Whether a folder is there. The answer is a bool.
    Exists {
        /// Which.
        path: String,
    },
    /// Makes a folder, with those above it. The answer is its absolute path.
    Make {
        /// Which.
        path: String,
    },
    /// Moves or renames a folder on its node. The answer is its new absolute path.
    Move {
        /// Which.
        path: String,
        /// Where to; nothing may be there.
        to: String,
    },
    /// Removes a folder, or some of what is in it. The answer is nil.
    Remove {
        /// Which.
        path: String,
        /// Paths in it; none: all of it, and itself.
        #[serde(default)]
        contents: Option<Vec<String>>,
    },
    /// Has what a folder of another node has; asked by a node for its client. The answer is a
    /// [`Synced`].
    Pull {
        /// The folder; its node is an id.
        from: Place,
        /// Where; none: a place of its own for what comes from there.
        #[serde(default)]
        to: Option<String>,
        /// Whether changes here shall go there next, what was removed here among them.
        #[serde(default)]
        both: bool,
        /// Whether the other node knows what both had in common, rather than the one that is asked; it
        /// keeps what it gives in mind for [`FolderAsk::Settle`].
        #[serde(default)]
        they_know: bool,
    },
    /// Has what a folder of the node, or of an object store, has in an object store, too. The answer is a
    /// [`Synced`].
    Push {
        /// The folder: a path, or the URL of one in a store.
        path: String,
        /// URL: `s3://bucket/path`, `gs://…` or `az://…`.
        to: String,
        /// Whether changes there shall come here next, what was removed there among them.
        #[serde(default)]
        both: bool,
    },
    /// Notes that a folder of another node has all that this one last gave it. The answer is nil.
    Settle {
        /// The folder of the node that is asked.
        path: String,
        /// The other; its node is an id.
        with: Place,
    },
    /// What is in a folder, with hashes. Items: lists of [`Entry`], sorted. The answer is a
    /// [`Scanned`].
    Scan {
        /// Which.
        of: Place,
        /// Whether to keep the list in mind, for [`FolderAsk::Settle`].
        #[serde(default)]
        keep: bool,
    },
    /// What two folders had in common when one was last brought to the other. Items and answer as of
    /// [`FolderAsk::Scan`].
    Common {
        /// The folder on the node that is asked.
        of: Place,
        /// The other, on the node that asks.
        with: String,
    },
    /// Pieces of files. Items: their bytes, each length a part; a file that is not there any more, or
    /// has another size, has no bytes. The answer is nil.
    Read {
        /// Which folder.
        of: Place,
        /// At most [`MAX_WANTED`], of [`MAX_WANTED_BYTES`].
        wanted: Vec<Wanted>,
    },
    /// What proves the pieces of one large file. Items: their bytes, 32 for each piece, in order.
    /// The answer is [`Pieces`].
    Pieces {
        /// Which folder.
        of: Place,
        /// Path in the folder.
        file: String,
        /// Bytes that the file shall have.
        size: u64,
    },
    /// Which files are in a folder though [`FolderAsk::Scan`] does not list them, or left out by an
    /// ignore file whether they are there or not: they are not gone. The answer is a list of bools.
    There {
        /// Which folder.
        of: Place,
        /// Paths in it, at most [`MAX_WANTED`].
        paths: Vec<String>,
    },
    /// Lets a node read a folder of the one that is asked for a day. The answer is the text of the
    /// grant.
    Grant {
        /// Which folder.
        path: String,
        /// Who may.
        to: NodeId,
    },
    /// Says when something in a folder changes. Items: nil, each some moments after a change. It does
    /// not end by itself.
    Watch {
        /// Which.
        of: Place,
    },
}

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name there.
    pub name: String,
    /// Whether it is a folder.
    pub dir: bool,
    /// Bytes of a file.
    pub size: u64,
    /// When it was last changed, in milliseconds since 1970.
    pub changed_ms: u64,
}

/// What was left out or not done, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Path in the folder.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What a look at a folder found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// Its absolute path.
    pub path: String,
    /// Entries.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// What is in the folder and doesn't travel, or not everywhere; at most [`MAX_NAMED`].
    #[serde(default)]
    pub skipped: Vec<Skipped>,
}

/// What proves a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    /// Indices of pieces that hold only zeros, and take no space: from each first to before the last.
    #[serde(default)]
    pub holes: Vec<(u64, u64)>,
}

/// What became of a folder that was to be like another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// Name of its node.
    pub node: String,
    /// Its absolute path.
    pub path: String,
    /// Entries of the other folder.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Entries that were written here.
    pub written: u64,
    /// Entries that were removed here.
    pub removed: u64,
    /// Bytes that came.
    pub moved: u64,
    /// Paths that were changed or removed here only, and stay as they are; at most [`MAX_NAMED`].
    #[serde(default)]
    pub kept: Vec<String>,
    /// New names of what was changed on both sides, as it was here; at most [`MAX_NAMED`].
    #[serde(default)]
    pub conflicts: Vec<String>,
    /// What did not come, or needs a look, and why; at most [`MAX_NAMED`].
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Whether all that the other folder listed is here now, and nothing else, whatever it skipped; said
    /// of a [`FolderAsk::Pull`] only, where the other node knows what both had in common.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        let (path, hash) = (path.to_owned(), Hash::of(b""));
        Entry { path, size: 0, hash, exec: false, link: None, dir: false }
    }

    #[test]
    fn what_leads_out_or_through_a_file_is_not_sound() {
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", ".rhd-sync/x", "a\0b"] {
            assert!(!file(bad).is_sound(), "{bad:?}");
        }
        let link = |to: &str| Entry { link: Some(to.into()), ..file("a/b") };
        assert!(link("../c").is_sound() && !link("../../c").is_sound() && !link("/c").is_sound());
        assert!(!file("a/.rhd-sync/0").is_sound());
        assert!(Entry { size: MAX_SIZE, ..file("a") }.is_sound());
        assert!(!Entry { size: MAX_SIZE + 1, ..file("a") }.is_sound());
        assert!(!Entry { dir: true, size: 1, ..file("a") }.is_sound());
        assert!(!Entry { dir: true, ..link("c") }.is_sound());
        assert!(is_sound(&[file("a"), file("a-b"), file("ab/c")]));
        assert!(!is_sound(&[file("a"), file("a-b"), file("a/b")]), "through a file");
        assert!(!is_sound(&[file("b"), file("a")]));
        assert!(!is_sound(&[file("a"), file("a")]));
    }
}
