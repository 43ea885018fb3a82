//! One schema for files whose schemas differ, where nothing is lost by it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use arrow_schema::{DataType, Field, Metadata, Schema, SchemaRef};

use super::error::TableError;

/// The columns of the files seen so far.
#[derive(Debug, Default)]
pub(super) struct Unified {
    fields: Vec<Field>,
    at: HashMap<String, usize>,
    /// How many files had each.
    seen: Vec<usize>,
    files: usize,
    metadata: Metadata,
}

impl Unified {
    /// Takes the schema of a file, apart from the columns in `keys`.
    pub(super) fn add(
        &mut self,
        schema: &Schema,
        keys: &[String],
        path: &Path,
    ) -> Result<(), TableError> {
        if self.files == 0 {
            self.metadata = schema.metadata().clone();
        }
        self.files += 1;
        let mut here = HashSet::new();
        for field in schema.fields() {
            if !here.insert(field.name()) {
                let why = format!("two columns are named {:?}", field.name());
                return Err(TableError::broken(path)(&why));
            }
            if keys.contains(field.name()) {
                continue;
            }
            let Some(&index) = self.at.get(field.name()) else {
                self.at.insert(field.name().clone(), self.fields.len());
                self.fields.push(field.as_ref().clone());
                self.seen.push(1);
                continue;
            };
            self.seen[index] += 1;
            let known = &mut self.fields[index];
            let (one, other) = (known.data_type(), field.data_type());
            let kind = wider(one, other).ok_or_else(|| TableError::Drift {
                path: path.into(),
                column: field.name().clone(),
                why: format!("is {other}, and {one} in the files before it"),
            })?;
            let nullable = known.is_nullable() || field.is_nullable();
            *known = known.clone().with_data_type(kind).with_nullable(nullable);
        }
        Ok(())
    }

    /// The schema of all: a column that a file lacks may be missing.
    pub(super) fn finish(self) -> SchemaRef {
        let fields = self.fields.into_iter().zip(&self.seen).map(|(field, seen)| {
            let nullable = field.is_nullable() || *seen < self.files;
            field.with_nullable(nullable)
        });
        Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), self.metadata))
    }
}

/// The type that holds all values of both; none where there is no such.
pub(super) fn wider(one: &DataType, other: &DataType) -> Option<DataType> {
    use DataType::*;
    if one == other {
        return Some(one.clone());
    }
    match (one, other) {
        (Null, kind) | (kind, Null) => Some(kind.clone()),
        _ if is_text(one) && is_text(other) => Some(LargeUtf8),
        _ if is_binary(one) && is_binary(other) => Some(LargeBinary),
        _ => match (integer(one)?, integer(other)?) {
            (Number::Float(a), Number::Float(b)) => Some(float(a.max(b))),
            (Number::Whole(a, signed), Number::Whole(b, too)) if signed == too => {
                whole(a.max(b), signed)
            }
            // A sign takes a bit: the next width above has it.
            (Number::Whole(a, signed), Number::Whole(b, _)) => {
                let (with, without) = if signed { (a, b) } else { (b, a) };
                whole(with.max(without * 2), true)
            }
            _ => None,
        },
    }
}

/// Text, in whichever form it is laid out.
pub(super) fn is_text(kind: &DataType) -> bool {
    use DataType::*;
    match kind {
        Utf8 | LargeUtf8 | Utf8View => true,
        Dictionary(_, value) => is_text(value),
        _ => false,
    }
}

/// Bytes, in whichever form they are laid out.
pub(super) fn is_binary(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

enum Number {
    Whole(u8, bool),
    Float(u8),
}

fn integer(kind: &DataType) -> Option<Number> {
    use DataType::*;
    Some(match kind {
        Int8 => Number::Whole(8, true),
        Int16 => Number::Whole(16, true),
        Int32 => Number::Whole(32, true),
        Int64 => Number::Whole(64, true),
        UInt8 => Number::Whole(8, false),
        UInt16 => Number::Whole(16, false),
        UInt32 => Number::Whole(32, false),
        UInt64 => Number::Whole(64, false),
        Float32 => Number::Float(32),
        Float64 => Number::Float(64),
        _ => return None,
    })
}

fn whole(bits: u8, signed: bool) -> Option<DataType> {
    use DataType::*;
    Some(match (bits, signed) {
        (8, true) => Int8,
        (16, true) => Int16,
        (32, true) => Int32,
        (64, true) => Int64,
        (8, false) => UInt8,
        (16, false) => UInt16,
        (32, false) => UInt32,
        (64, false) => UInt64,
        _ => return None,
    })
}

fn float(bits: u8) -> DataType {
    if bits > 32 { DataType::Float64 } else { DataType::Float32 }
}

#[cfg(test)]
mod tests {
    use DataType::*;

    use super::*;

    #[test]
    fn types_widen_only_where_nothing_is_lost() {
        for (one, other, both) in [
            (Int8, Int64, Some(Int64)),
            (UInt8, Int8, Some(Int16)),
            (UInt32, Int64, Some(Int64)),
            (UInt64, Int64, None),
            (Float32, Float64, Some(Float64)),
            (Int32, Float64, None),
            (Int64, Utf8, None),
            (Utf8, LargeUtf8, Some(LargeUtf8)),
            (Utf8View, Utf8, Some(LargeUtf8)),
            (Null, Date32, Some(Date32)),
            (Date32, Date64, None),
        ] {
            assert_eq!(wider(&one, &other), both, "{one} {other}");
            assert_eq!(wider(&other, &one), both, "{other} {one}");
        }
    }

    #[test]
    fn a_column_that_one_file_lacks_may_be_missing() {
        let schema = |names: &[&str]| {
            let fields: Vec<_> =
                names.iter().map(|name| Field::new(*name, DataType::Int32, false)).collect();
            Schema::new(fields)
        };
        let mut unified = Unified::default();
        for names in [&["a", "b"][..], &["b", "a"], &["c", "a"]] {
            unified.add(&schema(names), &[], Path::new("x")).unwrap();
        }
        let both = unified.finish();
        let nullable: Vec<_> =
            both.fields().iter().map(|f| (f.name().as_str(), f.is_nullable())).collect();
        assert_eq!(nullable, [("a", false), ("b", true), ("c", true)]);
        let twice = Unified::default().add(&schema(&["a", "a"]), &[], Path::new("x"));
        assert!(matches!(twice, Err(TableError::Broken { .. })));
    }
}
