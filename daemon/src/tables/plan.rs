//! A table as its footers have it: its files, one schema for all, and how many rows.

use std::{path::PathBuf, sync::Arc};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use rhd_protocol::table::{Column, Only};

use super::{
    error::TableError,
    file::Guarded,
    layout::{Layout, Part, Root},
    unify::Unified,
};

/// Bytes of footers that are kept decoded for the reading; others are decoded again.
const KEPT: usize = 32 << 20;

/// A table that is about to be read.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) layout: Layout,
    /// For each part of the layout.
    pub(super) files: Vec<Known>,
    /// All columns: those of the files, then those of the folders.
    pub(super) schema: SchemaRef,
    /// How many of them are in the names of folders.
    pub(super) partitions: usize,
}

/// What is known of a file.
#[derive(Debug)]
pub(super) struct Known {
    footer: Option<ArrowReaderMetadata>,
    pub(super) rows: u64,
    pub(super) row_groups: usize,
    pub(super) bytes: u64,
    /// Bytes of all its columns when they are not compressed.
    pub(super) plain: u64,
}

impl Plan {
    /// Reads the footers of the wanted partitions.
    pub(super) fn open(root: Root, only: &[Only]) -> Result<Self, TableError> {
        let layout = Layout::of(root, only)?;
        let (mut files, mut unified, mut room) = (Vec::new(), Unified::default(), KEPT);
        for part in &layout.parts {
            let full = layout.full(part);
            let file = Guarded::new(layout.file(part)?, &full)?;
            let footer = file.footer(&full)?;
            unified.add(footer.schema(), &layout.keys, &full)?;
            let metadata = footer.metadata();
            let plain = metadata.row_groups().iter().map(|group| group.total_byte_size().max(0));
            let mut known = Known {
                footer: None,
                rows: metadata.file_metadata().num_rows().max(0) as u64,
                row_groups: metadata.num_row_groups(),
                bytes: file.len(),
                plain: plain.fold(0, |sum: u64, bytes| sum.saturating_add(bytes as u64)),
            };
            if let Some(left) = room.checked_sub(metadata.memory_size()) {
                room = left;
                known.footer = Some(footer);
            }
            files.push(known);
        }
        let schema = unified.finish();
        let keys: Vec<Field> = layout.keys.iter().map(|key| field(key, &layout.parts)).collect();
        let partitions = keys.len();
        let fields = schema.fields().iter().cloned().chain(keys.into_iter().map(Arc::new));
        let fields: Vec<_> = fields.collect();
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        Ok(Self { layout, files, schema, partitions })
    }

    /// Rows in all files.
    pub(super) fn rows(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.rows))
    }

    /// A file, with its footer.
    pub(super) fn part(
        &self,
        index: usize,
    ) -> Result<(&Part, PathBuf, Guarded, ArrowReaderMetadata), TableError> {
        let part = &self.layout.parts[index];
        let full = self.layout.full(part);
        let file = Guarded::new(self.layout.file(part)?, &full)?;
        let footer = match &self.files[index].footer {
            Some(footer) => footer.clone(),
            None => file.footer(&full)?,
        };
        Ok((part, full, file, footer))
    }

    /// The schema of some columns, in the order that they are asked for.
    pub(super) fn projected(&self, columns: Option<&[String]>) -> Result<SchemaRef, TableError> {
        let Some(columns) = columns else { return Ok(self.schema.clone()) };
        let mut indices = Vec::new();
        for column in columns {
            let index = self.schema.index_of(column).map_err(|_| TableError::NoColumn {
                path: self.layout.root.clone(),
                column: column.clone(),
                known: named(self.schema.fields().iter().map(|field| field.name().as_str())),
            })?;
            if indices.contains(&index) {
                return Err(TableError::Request(format!("column {column:?} is asked for twice")));
            }
            indices.push(index);
        }
        let projected = self.schema.project(&indices);
        projected.map(Arc::new).map_err(|e| TableError::Defect(e.to_string()))
    }

    /// Its columns, as people read them.
    pub(super) fn columns(&self) -> Vec<Column> {
        let fields = self.schema.fields();
        let column = |(index, field): (usize, &arrow_schema::FieldRef)| Column {
            name: field.name().clone(),
            kind: field.data_type().to_string(),
            nullable: field.is_nullable(),
            partition: index >= fields.len() - self.partitions,
        };
        fields.iter().enumerate().map(column).collect()
    }
}

/// Names for people, some of them where there are many.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let names: Vec<_> = names.collect();
    match names.len() {
        0 => "none".into(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// The column of a partition: whole numbers where all of its values are such as numbers are written.
fn field(key: &str, parts: &[Part]) -> Field {
    let values = parts.iter().flat_map(|part| part.keys.iter().filter(|(name, _)| name == key));
    let mut present = values.filter_map(|(_, value)| value.as_deref()).peekable();
    let is_number = |text: &str| text.parse::<i64>().is_ok_and(|n| n.to_string() == text);
    let kind = match present.peek().is_some() && present.all(is_number) {
        true => DataType::Int64,
        false => DataType::Utf8,
    };
    // A partition that is added may have none.
    Field::new(key, kind, true)
}
