//! Values of Arrow arrays as JSON, for people.

use arrow_array::{Array, cast::AsArray as _, types::*};
use arrow_schema::{DataType, TimeUnit};
use serde_json::{Value, json};

/// Characters of a text that are shown.
const SHOWN: usize = 4096;
/// Values of a list that are shown.
const VALUES: usize = 100;

/// One value of an array.
pub(super) fn cell(array: &dyn Array, row: usize) -> Value {
    use DataType::*;
    if array.is_null(row) {
        return Value::Null;
    }
    /// A primitive value.
    macro_rules! number {
        ($kind:ty) => {
            json!(array.as_primitive::<$kind>().value(row))
        };
    }
    match array.data_type() {
        Boolean => json!(array.as_boolean().value(row)),
        Int8 => number!(Int8Type),
        Int16 => number!(Int16Type),
        Int32 => number!(Int32Type),
        Int64 => number!(Int64Type),
        UInt8 => number!(UInt8Type),
        UInt16 => number!(UInt16Type),
        UInt32 => number!(UInt32Type),
        UInt64 => number!(UInt64Type),
        Float16 => float(f64::from(array.as_primitive::<Float16Type>().value(row))),
        Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            // As it is written, rather than the digits that f64 adds.
            float(value.to_string().parse().unwrap_or(f64::from(value)))
        }
        Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        Utf8 => text(array.as_string::<i32>().value(row)),
        LargeUtf8 => text(array.as_string::<i64>().value(row)),
        Utf8View => text(array.as_string_view().value(row)),
        Binary => hex(array.as_binary::<i32>().value(row)),
        LargeBinary => hex(array.as_binary::<i64>().value(row)),
        BinaryView => hex(array.as_binary_view().value(row)),
        FixedSizeBinary(_) => hex(array.as_fixed_size_binary().value(row)),
        Date32 => {
            let days = i64::from(array.as_primitive::<Date32Type>().value(row));
            moment(days.saturating_mul(86_400), "", false)
        }
        Timestamp(unit, zone) => {
            let value = match unit {
                TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
                TimeUnit::Millisecond => {
                    array.as_primitive::<TimestampMillisecondType>().value(row)
                }
                TimeUnit::Microsecond => {
                    array.as_primitive::<TimestampMicrosecondType>().value(row)
                }
                TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
            };
            let (each, digits) = match unit {
                TimeUnit::Second => (1, 0),
                TimeUnit::Millisecond => (1_000, 3),
                TimeUnit::Microsecond => (1_000_000, 6),
                TimeUnit::Nanosecond => (1_000_000_000, 9),
            };
            let rest = value.rem_euclid(each);
            let rest = if digits == 0 { String::new() } else { format!(".{rest:0digits$}") };
            let zone = if zone.is_some() { "Z" } else { "" };
            moment(value.div_euclid(each), &format!("{rest}{zone}"), true)
        }
        Decimal128(_, _) => text(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            match dictionary.normalized_keys().get(row) {
                Some(&key) if key < dictionary.values().len() => cell(dictionary.values(), key),
                _ => Value::Null,
            }
        }
        List(_) => list(&array.as_list::<i32>().value(row)),
        LargeList(_) => list(&array.as_list::<i64>().value(row)),
        FixedSizeList(_, _) => list(&array.as_fixed_size_list().value(row)),
        Struct(_) => {
            let fields = array.as_struct();
            let named = fields.column_names().into_iter().zip(fields.columns());
            let members = named.map(|(name, column)| (name.to_owned(), cell(column, row)));
            Value::Object(members.collect())
        }
        other => json!(format!("<{other}>")),
    }
}

fn float(value: f64) -> Value {
    // JSON has no NaN and no infinity.
    serde_json::Number::from_f64(value).map_or_else(|| json!(value.to_string()), Value::Number)
}

fn text(text: &str) -> Value {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => json!(format!("{}…", &text[..end])),
        None => json!(text),
    }
}

fn hex(bytes: &[u8]) -> Value {
    let shown = &bytes[..bytes.len().min(SHOWN / 2)];
    let dots = if shown.len() < bytes.len() { "…" } else { "" };
    json!(format!("{}{dots}", data_encoding::HEXLOWER.encode(shown)))
}

fn list(values: &dyn Array) -> Value {
    let shown = values.len().min(VALUES);
    let mut cells: Vec<Value> = (0..shown).map(|row| cell(values, row)).collect();
    if shown < values.len() {
        cells.push(json!("…"));
    }
    Value::Array(cells)
}

fn moment(seconds: i64, rest: &str, clock: bool) -> Value {
    let Ok(at) = time::OffsetDateTime::from_unix_timestamp(seconds) else {
        return json!(seconds);
    };
    let date = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    let time = format!("T{:02}:{:02}:{:02}{rest}", at.hour(), at.minute(), at.second());
    json!(if clock { date + &time } else { date })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        ArrayRef, Date32Array, DictionaryArray, Float32Array, Float64Array,
        TimestampMillisecondArray,
    };

    use super::*;

    #[test]
    fn values_are_shown_as_people_write_them() {
        let dictionary: DictionaryArray<Int32Type> = vec!["x", "y", "x"].into_iter().collect();
        let arrays: [(ArrayRef, Value); 5] = [
            (Arc::new(Float32Array::from(vec![0.1])), json!(0.1)),
            (Arc::new(Float64Array::from(vec![f64::NAN])), json!("NaN")),
            (Arc::new(Date32Array::from(vec![-1])), json!("1969-12-31")),
            (
                Arc::new(TimestampMillisecondArray::from(vec![-1]).with_timezone("UTC")),
                json!("1969-12-31T23:59:59.999Z"),
            ),
            (Arc::new(dictionary), json!("x")),
        ];
        for (array, shown) in arrays {
            assert_eq!(cell(&array, 0), shown);
        }
    }
}
