//! Tables: folders of Parquet files, and what clients and nodes ask about them.
//!
//! A client sends [`api::Request::Table`](crate::api::Request::Table), a node opens a
//! [`TABLE`](crate::wire::TABLE) stream with a [`TableAsk`] as its first frame; both read
//! [`Reply`](crate::call::Reply) frames until a final one. Folders `key=value` on the way to a file
//! are columns, as Hive has them; names that start with `.` or `_` are no part of a table.

use serde::{Deserialize, Serialize};

/// Files that a table may have.
pub const MAX_FILES: usize = 100_000;
/// Rows that a batch may have.
pub const MAX_BATCH: u32 = 1 << 20;
/// Rows that one look at the first of them may ask for.
pub const MAX_HEAD: u32 = 1_000;
/// What a partition's folder is named after `=` where the column has no value.
pub const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// Partitions to read: those whose column has one of these values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Only {
    /// The column.
    pub key: String,
    /// Its values as text; none: no value.
    pub values: Vec<Option<String>>,
}

/// Rows in an order that a number decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shuffle {
    /// The same seed, table and buffer give the same order.
    pub seed: u64,
    /// Rows among which each next one is drawn; 0: only row groups change places.
    #[serde(default)]
    pub buffer: u32,
}

/// What to read of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Columns, in this order; none: all.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// Partitions; all where empty.
    #[serde(default)]
    pub only: Vec<Only>,
    /// Rows that the reader takes at once: items hold a multiple of these where that is not too much
    /// for one; 0: any.
    #[serde(default)]
    pub batch: u32,
    /// Rows in all.
    #[serde(default)]
    pub limit: Option<u64>,
    /// None: in the order of the files' paths.
    #[serde(default)]
    pub shuffle: Option<Shuffle>,
    /// Items that are made ready before they are asked for, beyond those on the way.
    #[serde(default)]
    pub ahead: u32,
}

/// A question about tables, or something to do with one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum TableAsk {
    /// The columns. The answer is a [`Schema`].
    Schema {
        /// Which table.
        path: String,
    },
    /// How many rows, by the files' footers. The answer is a u64.
    Count {
        /// Which table.
        path: String,
        /// In which partitions; all where empty.
        #[serde(default)]
        only: Vec<Only>,
    },
    /// What the files' footers say. The answer is [`Stats`].
    Stats {
        /// Which table.
        path: String,
    },
    /// The first rows, for people. The answer is [`Rows`].
    Head {
        /// Which table.
        path: String,
        /// How many, at most [`MAX_HEAD`].
        rows: u32,
        /// Columns; none: all.
        #[serde(default)]
        columns: Option<Vec<String>>,
    },
    /// The rows. Items: Arrow IPC streams, each whole in itself; at least one, which has no rows where
    /// the table has none. The answer is the number of rows.
    Read {
        /// Which table.
        path: String,
        /// What of it.
        read: Read,
    },
    /// Whether it is there. The answer is a bool.
    Exists {
        /// Which table.
        path: String,
    },
    /// Puts a folder of Parquet files, beside it on the same file system, in the place of a table, all at
    /// once. Who reads the old one reads it to its end. The answer is the number of rows.
    Replace {
        /// Which table; made where there is none.
        path: String,
        /// The folder, which is gone then.
        with: String,
    },
    /// Adds the files of such a folder to a table. The answer is the number of rows that came.
    Append {
        /// Which table; made where there is none.
        path: String,
        /// The folder, which is gone then.
        with: String,
    },
    /// Removes a table. The answer is nil.
    Remove {
        /// Which.
        path: String,
    },
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as text.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether values may be missing.
    pub nullable: bool,
    /// Whether it is in the names of folders, not in the files.
    #[serde(default)]
    pub partition: bool,
}

/// The columns of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// In order.
    pub columns: Vec<Column>,
    /// An Arrow IPC stream of no rows, which says the same and the metadata.
    #[serde(with = "serde_bytes")]
    pub ipc: Vec<u8>,
}

/// The first rows of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Each row as the text of a JSON array.
    pub rows: Vec<String>,
}

/// What is known of a column without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnStats {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as text.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is in the names of folders, not in the files.
    #[serde(default)]
    pub partition: bool,
    /// The least value as JSON, or what is not above it; none where a file does not say.
    #[serde(default)]
    pub min: Option<String>,
    /// The greatest value as JSON, or what is not below it.
    #[serde(default)]
    pub max: Option<String>,
    /// Values that are missing; none where a file does not say.
    #[serde(default)]
    pub nulls: Option<u64>,
    /// Bytes that it takes in the files.
    pub bytes: u64,
}

/// What is known of a table without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Rows.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Files.
    pub files: u64,
    /// Row groups in them.
    pub row_groups: u64,
    /// Columns.
    pub columns: Vec<ColumnStats>,
}
