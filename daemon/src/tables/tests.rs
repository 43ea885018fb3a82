//! Real files, read in this process: good ones, and such as nobody writes.

use std::{fs, path::Path, sync::Arc};

use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray as _, types::Int64Type,
};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::properties::{EnabledStatistics, WriterProperties},
};
use rhd_protocol::table::{Read, Shuffle};
use tempfile::TempDir;

use super::{error::TableError, layout::Root, plan::Plan, read, shuffle::Dice, stats};

mod added;
mod hostile;
mod served;

/// Rows whose numbers go up from `first`.
fn rows(first: i64, count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + count));
    let texts = (first..first + count).map(|n| format!("row {n}"));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).unwrap()
}

/// Writes a file with row groups of 100 rows.
fn write(path: &Path, batch: &RecordBatch, compression: Compression) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(100))
        .set_statistics_enabled(EnabledStatistics::Page)
        .build();
    let file = fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// The numbers of a table, as they are read.
fn numbers(root: &Path, read: &Read) -> Result<Vec<i64>, TableError> {
    let plan = Plan::open(Root::open(root)?, &read.only)?;
    let schema = plan.projected(read.columns.as_deref())?;
    let mut found = Vec::new();
    let mut keep = |batch: RecordBatch| {
        // One wrong byte, and it has another name or type.
        let column = batch.column_by_name("n");
        if let Some(column) = column.and_then(|column| column.as_primitive_opt::<Int64Type>()) {
            found.extend_from_slice(column.values());
        }
        Ok(())
    };
    read::rows(&plan, &schema, read, &mut keep)?;
    Ok(found)
}

fn table() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("a.parquet"), &rows(0, 1000), Compression::SNAPPY);
    write(&dir.path().join("b.parquet"), &rows(1000, 500), Compression::LZ4_RAW);
    dir
}

#[test]
fn each_codec_that_libraries_write_by_default_is_read() {
    for codec in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::LZ4_RAW,
        Compression::ZSTD(Default::default()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a"), &rows(0, 250), codec);
        let found = numbers(dir.path(), &Read::default()).unwrap();
        assert_eq!(found, (0..250).collect::<Vec<_>>());
    }
}

#[test]
fn a_shuffle_draws_each_row_once_and_the_same_each_time() {
    let dir = table();
    let order = |seed, buffer, limit| {
        let read = Read { shuffle: Some(Shuffle { seed, buffer }), limit, ..Read::default() };
        numbers(dir.path(), &read).unwrap()
    };
    let sorted = |mut order: Vec<i64>| {
        order.sort_unstable();
        order
    };
    let all: Vec<i64> = (0..1500).collect();
    for buffer in [0, 1, 7, 1000, 1500, 100_000] {
        let one = order(7, buffer, None);
        assert_eq!(sorted(one.clone()), all, "{buffer}");
        assert_ne!(one, all, "{buffer}");
        assert_eq!(one, order(7, buffer, None), "{buffer}");
        assert_ne!(one, order(8, buffer, None), "{buffer}");
        assert_eq!(one[..40], order(7, buffer, Some(40)), "{buffer}: a part is its beginning");
    }
}

#[test]
fn the_dice_are_those_of_the_paper() {
    // Of its reference implementation, with the seed 1234567.
    let mut dice = Dice::new(1_234_567);
    let first: Vec<u64> = (0..3).map(|_| dice.next()).collect();
    let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!(first, known);
}

#[test]
fn what_is_known_of_columns_is_so() {
    let dir = table();
    let known = stats::stats(Root::open(dir.path()).unwrap()).unwrap();
    assert_eq!((known.rows, known.files, known.row_groups), (1500, 2, 15));
    let n = &known.columns[0];
    assert_eq!((n.min.as_deref(), n.max.as_deref(), n.nulls), (Some("0"), Some("1499"), Some(0)));
    let head = stats::head(Root::open(dir.path()).unwrap(), 2, None).unwrap();
    assert_eq!(head.rows, [r#"[0,"row 0"]"#, r#"[1,"row 1"]"#]);
}

#[test]
fn one_file_is_a_table_too() {
    let dir = table();
    let found = numbers(&dir.path().join("b.parquet"), &Read::default()).unwrap();
    assert_eq!(found, (1000..1500).collect::<Vec<_>>());
}
