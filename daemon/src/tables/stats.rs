//! What footers say of a table, and its first rows for people.

use std::cmp::Ordering;

use arrow_array::{Array as _, RecordBatch};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, statistics::StatisticsConverter};
use rhd_protocol::table::{ColumnStats, MAX_HEAD, Read, Rows, Schema, Stats};
use serde_json::Value;

use super::{cells::cell, error::TableError, file::caught, layout::Root, pack, plan::Plan, read};

/// Bytes of text that first rows have, at most.
const SHOWN: usize = 4 << 20;

/// The columns of a table.
pub(super) fn schema(root: Root) -> Result<Schema, TableError> {
    let plan = Plan::open(root, &[])?;
    let mut ipc = Vec::new();
    let mut keep = |bytes| {
        ipc = bytes;
        Ok(())
    };
    pack::encode(&plan.schema, None, &mut keep)?;
    Ok(Schema { columns: plan.columns(), ipc })
}

/// What is known of a table without reading it.
pub(super) fn stats(root: Root) -> Result<Stats, TableError> {
    let plan = Plan::open(root, &[])?;
    let mut known: Vec<Known> = plan.columns().iter().map(|_| Known::default()).collect();
    let mut stats = Stats { rows: plan.rows(), bytes: 0, files: 0, row_groups: 0, columns: vec![] };
    for (index, file) in plan.files.iter().enumerate() {
        stats.bytes += file.bytes;
        stats.files += 1;
        stats.row_groups += file.row_groups as u64;
        let (part, full, _, footer) = plan.part(index)?;
        for (field, known) in plan.schema.fields().iter().zip(&mut known) {
            if plan.layout.keys.contains(field.name()) {
                let of_it = |(key, _): &&(String, Option<String>)| key == field.name();
                let value = part.keys.iter().rev().find(of_it).and_then(|(_, value)| value.clone());
                let value = value.map(|text| match text.parse::<i64>() {
                    Ok(number) if field.data_type().is_integer() => Value::from(number),
                    _ => Value::from(text),
                });
                known.partition(value, file.rows);
                continue;
            }
            caught(&full, || {
                known.file(&footer, field.name(), file.rows);
                Ok(())
            })?;
        }
    }
    let columns = plan.columns().into_iter().zip(known);
    stats.columns = columns
        .map(|(column, known)| ColumnStats {
            name: column.name,
            kind: column.kind,
            partition: column.partition,
            min: known.min.filter(|_| known.sure).map(|value| value.to_string()),
            max: known.max.filter(|_| known.sure).map(|value| value.to_string()),
            nulls: known.counted.then_some(known.nulls),
            bytes: known.bytes,
        })
        .collect();
    Ok(stats)
}

/// What the files so far say of a column.
#[derive(Debug)]
struct Known {
    min: Option<Value>,
    max: Option<Value>,
    /// Whether all that have values said what the least and greatest is.
    sure: bool,
    nulls: u64,
    counted: bool,
    bytes: u64,
}

impl Default for Known {
    fn default() -> Self {
        Self { min: None, max: None, sure: true, nulls: 0, counted: true, bytes: 0 }
    }
}

impl Known {
    fn partition(&mut self, value: Option<Value>, rows: u64) {
        match value {
            Some(value) => self.spans(value.clone(), value),
            None => self.nulls += rows,
        }
    }

    fn file(&mut self, footer: &ArrowReaderMetadata, name: &str, rows: u64) {
        let Ok(root) = footer.schema().index_of(name) else {
            self.nulls += rows;
            return;
        };
        let descriptor = footer.parquet_schema();
        for group in footer.metadata().row_groups() {
            for (leaf, column) in group.columns().iter().enumerate() {
                if descriptor.get_column_root_idx(leaf) == root {
                    self.bytes += column.compressed_size().max(0) as u64;
                }
            }
        }
        if self.statistics(footer, name).is_none() {
            (self.sure, self.counted) = (false, false);
        }
    }

    /// None where the file does not say.
    fn statistics(&mut self, footer: &ArrowReaderMetadata, name: &str) -> Option<()> {
        let groups = || footer.metadata().row_groups().iter();
        let converter =
            StatisticsConverter::try_new(name, footer.schema(), footer.parquet_schema()).ok()?;
        let converter = converter.with_missing_null_counts_as_zero(false);
        let nulls = converter.row_group_null_counts(groups()).ok()?;
        let (mins, maxes) =
            (converter.row_group_mins(groups()).ok()?, converter.row_group_maxes(groups()).ok()?);
        for (index, group) in groups().enumerate() {
            let missing = nulls.is_valid(index).then(|| nulls.value(index));
            match missing {
                Some(missing) => self.nulls += missing,
                None => self.counted = false,
            }
            if missing == Some(group.num_rows().max(0) as u64) {
                continue;
            }
            match (cell(&mins, index), cell(&maxes, index)) {
                (Value::Null, _) | (_, Value::Null) => self.sure = false,
                (min, max) => self.spans(min, max),
            }
        }
        Some(())
    }

    fn spans(&mut self, min: Value, max: Value) {
        let keep = |old: &mut Option<Value>, new: Value, wins: Ordering| {
            if old.as_ref().is_none_or(|old| compare(&new, old) == Some(wins)) {
                *old = Some(new);
            }
        };
        keep(&mut self.min, min, Ordering::Less);
        keep(&mut self.max, max, Ordering::Greater);
    }
}

/// Numbers by value, the rest as text; none where they are not alike.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            let whole = |n: &serde_json::Number| {
                n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from))
            };
            match (whole(a), whole(b)) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
            }
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// The first rows of a table.
pub(super) fn head(
    root: Root,
    rows: u32,
    columns: Option<Vec<String>>,
) -> Result<Rows, TableError> {
    if rows > MAX_HEAD {
        return Err(TableError::Request(format!("at most {MAX_HEAD} rows are shown")));
    }
    let plan = Plan::open(root, &[])?;
    let schema = plan.projected(columns.as_deref())?;
    let names = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut head = Rows { columns: names, rows: Vec::new() };
    let mut bytes = 0;
    let wanted = Read { limit: Some(u64::from(rows)), ..Read::default() };
    let mut show = |batch: RecordBatch| {
        for row in 0..batch.num_rows() {
            let cells: Vec<Value> =
                batch.columns().iter().map(|column| cell(column, row)).collect();
            let text = Value::Array(cells).to_string();
            bytes += text.len();
            if bytes > SHOWN {
                return Err(TableError::TooMuch(format!(
                    "{rows} rows are more than {} MiB: ask for fewer, or for some columns",
                    SHOWN >> 20
                )));
            }
            head.rows.push(text);
        }
        Ok(())
    };
    read::rows(&plan, &schema, &wanted, &mut show)?;
    Ok(head)
}
