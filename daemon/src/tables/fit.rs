//! Batches of a file, made to be of the table's schema.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    cast::AsArray as _, new_null_array, types,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
};

use super::{
    layout::Key,
    unify::{is_binary, is_text},
};

/// How the batches of one file become those of its table.
#[derive(Debug)]
pub(super) struct Fit {
    schema: SchemaRef,
    sources: Vec<Source>,
    /// Columns of the file that are read.
    roots: Vec<usize>,
}

#[derive(Debug)]
enum Source {
    /// A column of the file, by its name.
    File(String),
    /// A value in the names of folders.
    Key(Option<String>),
    /// The file lacks it.
    Nothing,
}

impl Fit {
    /// For a file of this schema, in these partitions; `keys` are those of the table.
    pub(super) fn new(wanted: &SchemaRef, file: &Schema, keys: &[Key], all: &[String]) -> Self {
        let (mut sources, mut roots) = (Vec::new(), Vec::new());
        for field in wanted.fields() {
            let name = field.name();
            let key = || keys.iter().rev().find(|(key, _)| key == name);
            sources.push(match file.index_of(name) {
                _ if all.contains(name) => Source::Key(key().and_then(|(_, value)| value.clone())),
                Ok(index) => {
                    roots.push(index);
                    Source::File(name.clone())
                }
                Err(_) => Source::Nothing,
            });
        }
        roots.sort_unstable();
        Self { schema: wanted.clone(), sources, roots }
    }

    /// What the decoder reads.
    pub(super) fn mask(&self, footer: &ArrowReaderMetadata) -> ProjectionMask {
        ProjectionMask::roots(footer.parquet_schema(), self.roots.iter().copied())
    }

    /// A footer by which the decoder lays text and bytes out as the table has them.
    pub(super) fn hinted(
        &self,
        footer: ArrowReaderMetadata,
    ) -> Result<ArrowReaderMetadata, parquet::errors::ParquetError> {
        let mut changed = false;
        let hint = |field: &Arc<Field>| {
            let wanted = self.schema.field_with_name(field.name()).ok()?.data_type();
            let kind = field.data_type();
            let alike =
                (is_text(kind) && is_text(wanted)) || (is_binary(kind) && is_binary(wanted));
            (alike && kind != wanted)
                .then(|| Arc::new(field.as_ref().clone().with_data_type(wanted.clone())))
        };
        let fields = footer.schema().fields().iter().map(|field| match hint(field) {
            Some(hinted) => {
                changed = true;
                hinted
            }
            None => field.clone(),
        });
        let fields: Vec<_> = fields.collect();
        if !changed {
            return Ok(footer);
        }
        let schema = Schema::new_with_metadata(fields, footer.schema().metadata().clone());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        ArrowReaderMetadata::try_new(footer.metadata().clone(), options)
    }

    /// A batch of the table's schema; an error says what is wrong with the file.
    pub(super) fn batch(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let rows = batch.num_rows();
        let columns = self.schema.fields().iter().zip(&self.sources).map(|(field, source)| {
            let kind = field.data_type();
            let column = match source {
                Source::File(name) => {
                    let column = batch.column_by_name(name);
                    let column = column.ok_or_else(|| format!("column {name:?} is gone"))?;
                    widened(column, kind)
                        .ok_or_else(|| format!("column {name:?} is {}", column.data_type()))?
                }
                Source::Key(value) => repeated(value.as_deref(), kind, rows),
                Source::Nothing => new_null_array(kind, rows),
            };
            Ok(column)
        });
        let columns = columns.collect::<Result<Vec<_>, String>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let made = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        made.map_err(|e| e.to_string())
    }
}

fn repeated(value: Option<&str>, kind: &DataType, rows: usize) -> ArrayRef {
    match (value, kind) {
        (Some(value), DataType::Int64) => match value.parse::<i64>() {
            Ok(value) => Arc::new(Int64Array::from_value(value, rows)),
            Err(_) => new_null_array(kind, rows),
        },
        (Some(value), _) => Arc::new(StringArray::from_iter_values((0..rows).map(|_| value))),
        (None, _) => new_null_array(kind, rows),
    }
}

/// The same values in a wider type.
fn widened(column: &ArrayRef, kind: &DataType) -> Option<ArrayRef> {
    use DataType::*;
    use types::*;
    if column.data_type() == kind {
        return Some(column.clone());
    }
    /// Widens any of the listed types.
    macro_rules! from {
        ($to:ty, $($kind:ident $from:ty),*) => {
            match column.data_type() {
                $($kind => Some(cast::<$from, $to>(column, |value| value.into())),)*
                _ => None,
            }
        };
    }
    match (column.data_type(), kind) {
        (Null, kind) => Some(new_null_array(kind, column.len())),
        (_, Int16) => from!(Int16Type, Int8 Int8Type, UInt8 UInt8Type),
        (_, Int32) => {
            from!(Int32Type, Int8 Int8Type, UInt8 UInt8Type, Int16 Int16Type, UInt16 UInt16Type)
        }
        (_, Int64) => from!(
            Int64Type, Int8 Int8Type, UInt8 UInt8Type, Int16 Int16Type, UInt16 UInt16Type,
            Int32 Int32Type, UInt32 UInt32Type
        ),
        (_, UInt16) => from!(UInt16Type, UInt8 UInt8Type),
        (_, UInt32) => from!(UInt32Type, UInt8 UInt8Type, UInt16 UInt16Type),
        (_, UInt64) => from!(UInt64Type, UInt8 UInt8Type, UInt16 UInt16Type, UInt32 UInt32Type),
        (_, Float64) => from!(Float64Type, Float32 Float32Type),
        _ => None,
    }
}

fn cast<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    column: &ArrayRef,
    widen: impl Fn(F::Native) -> T::Native,
) -> ArrayRef {
    Arc::new(column.as_primitive::<F>().unary::<_, T>(widen))
}
