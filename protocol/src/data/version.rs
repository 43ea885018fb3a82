//! Versions of a name: what each holds, who saved it, and what it was made from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Content;
use crate::{
    id::{CallId, Hash},
    name::Name,
};

/// Inputs that one record names.
pub const MAX_INPUTS: usize = 64;
/// The longest name of a function, node or input in a record, in bytes.
pub const MAX_TEXT: usize = 1024;
/// The longest path of a folder in a record, in bytes.
const MAX_PATH: usize = 4096;
/// Steps that a lineage goes back, at most.
pub const MAX_DEPTH: u32 = 32;
/// Records in one lineage, at most.
pub const MAX_LINEAGE: usize = 1000;

pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What made content: the call, and what that had read by then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Id of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The function or method that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// At most [`MAX_INPUTS`], each the text of an [`Input`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Whether there were more inputs than are named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Origin {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is of a bounded length and what it names can be names.
    pub fn is_sound(&self) -> bool {
        self.run.as_ref().is_none_or(|run| run.parse::<CallId>().is_ok())
            && self.service.as_ref().is_none_or(|service| is_text(service))
            && self.inputs.len() <= MAX_INPUTS
            && self.inputs.iter().all(|input| input.parse::<Input>().is_ok())
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

/// What something was made from; its text is `name@hash`, or the hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Input {
    /// The canonical name that it was read by, where it was.
    pub name: Option<String>,
    /// Its content.
    pub hash: Hash,
}

/// A text that is no [`Input`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an input is a hash, or /user/name@hash")]
pub struct InputError;

impl FromStr for Input {
    type Err = InputError;

    fn from_str(text: &str) -> Result<Self, InputError> {
        if text.len() > MAX_TEXT {
            return Err(InputError);
        }
        let (name, hash) = match text.rsplit_once('@') {
            Some((name, hash)) => (Some(name), hash),
            None => (None, text),
        };
        if name.is_some_and(|name| !matches!(Name::parse(name), Ok(Name::Full(_)))) {
            return Err(InputError);
        }
        let hash = hash.parse().map_err(|_| InputError)?;
        Ok(Self { name: name.map(str::to_owned), hash })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}@{}", self.hash),
            None => write!(f, "{}", self.hash),
        }
    }
}

/// A folder or table that was saved: the content of its version is a list of
/// [entries](crate::folder::Entry), the files are stored beside it, each under its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Its absolute path on the node.
    pub path: String,
    /// Whether it is a table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub table: bool,
    /// Files, links and empty folders in it.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Tree {
    /// What it is: `folder` or `table`.
    pub fn kind(&self) -> &'static str {
        if self.table { "table" } else { "folder" }
    }

    /// Whether its path is bounded and could be one.
    pub fn is_sound(&self) -> bool {
        self.path.starts_with('/') && self.path.len() <= MAX_PATH && !self.path.contains('\0')
    }
}

/// What a name stood for at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number among those of its name, from 1 on; never another's. 0: it is from before versions
    /// had numbers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u64,
    /// What it holds.
    pub content: Content,
    /// When it was saved, in milliseconds since 1970.
    pub saved_ms: u64,
    /// Name of the node that saved it.
    #[serde(default)]
    pub author: String,
    /// Id of that node.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author_id: String,
    /// Id of the call that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Names and hashes of what it was made from: see [`Origin::inputs`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// The function or method that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether there were more inputs than are named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// The earlier version whose content it has: the one that was rolled back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<u64>,
    /// The folder or table that it is a version of; none: it is a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Tree>,
}

impl Version {
    /// What it is: `blob`, `folder` or `table`.
    pub fn kind(&self) -> &'static str {
        self.tree.as_ref().map_or("blob", Tree::kind)
    }

    /// Bytes of what was saved.
    pub fn bytes(&self) -> u64 {
        self.tree.as_ref().map_or(self.content.size, |tree| tree.bytes)
    }

    /// What made it.
    pub fn origin(&self) -> Origin {
        Origin {
            run: self.run.clone(),
            service: self.service.clone(),
            inputs: self.inputs.clone(),
            more: self.more,
        }
    }
}

/// A version of a name on some node, as that node says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Canonical name.
    pub name: String,
    /// Name of the node.
    pub node: String,
    /// What it stands for there.
    pub version: Version,
}

impl Record {
    /// Whether it is of a bounded length, and of this content.
    pub fn is_of(&self, hash: Hash) -> bool {
        let version = &self.version;
        version.content.hash == hash
            && version.content.is_sound()
            && version.origin().is_sound()
            && version.tree.as_ref().is_none_or(Tree::is_sound)
            && matches!(Name::parse(&self.name), Ok(Name::Full(_)))
            && [&self.node, &version.author, &version.author_id].into_iter().all(|t| is_text(t))
    }
}

/// One thing that something was made from, or the thing itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The text of an [`Input`], as the record that names it has it.
    pub blob: String,
    /// How it came about; none: nobody who could be asked knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

/// What a version was made from, what that was made from, and so on: each once, the version first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// At most [`MAX_LINEAGE`]; the inputs of each are among those after the first.
    pub made: Vec<Made>,
    /// Whether there is more, which was not followed.
    #[serde(default)]
    pub cut: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_what_it_is_written_as() {
        let hash = Hash::of(b"x");
        for name in [None, Some("/ann/x.v2".to_owned())] {
            let input = Input { name, hash };
            assert_eq!(input.to_string().parse(), Ok(input));
        }
        let hash = hash.to_string();
        let long = format!("/ann/{}@{hash}", "é".repeat(1000));
        for bad in ["", "@", "x", &format!("x@{hash}"), &format!("@/x@{hash}"), "/ann/x@", &long] {
            assert_eq!(bad.parse::<Input>(), Err(InputError), "{bad}");
        }
    }

    #[test]
    fn a_saved_folder_has_a_path_of_bounded_length() {
        let at = |path: &str| Tree { path: path.into(), table: false, entries: 0, bytes: 0 };
        assert!(at("/data/x").is_sound());
        for bad in ["", "data/x", "~/x", "/a\0b", &format!("/{}", "x".repeat(MAX_PATH))] {
            assert!(!at(bad).is_sound(), "{bad:?}");
        }
    }

    #[test]
    fn an_origin_is_bounded() {
        let input = Input { name: Some("/ann/x".into()), hash: Hash::of(b"x") }.to_string();
        let run = Some(CallId::from_bytes([7; 16]).to_string());
        let good = Origin {
            run,
            service: Some("/ann/f".into()),
            inputs: vec![input.clone(); MAX_INPUTS],
            more: true,
        };
        assert!(good.is_sound() && Origin::default().is_sound());
        for bad in [
            Origin { run: Some("x".repeat(1 << 20)), ..good.clone() },
            Origin { run: Some("\n".into()), ..good.clone() },
            Origin { service: Some("f".repeat(MAX_TEXT + 1)), ..good.clone() },
            Origin { service: Some("f\u{1b}[2J".into()), ..good.clone() },
            Origin { inputs: vec![input; MAX_INPUTS + 1], ..good.clone() },
            Origin { inputs: vec!["/etc/passwd".into()], ..good.clone() },
        ] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }
}
