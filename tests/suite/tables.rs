//! Tables from Rust: Parquet files on another node, read as Arrow.

use std::{fs, io::Cursor, path::Path, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, cast::AsArray as _, types::Int64Type};
use arrow_ipc::reader::StreamReader;
use parquet::arrow::ArrowWriter;
use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    table::{Only, Read, Shuffle},
};
use rhd_sdk::Table;
use rhd_tests::Mesh;

fn write(path: &Path, numbers: std::ops::Range<i64>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
    let mut out =
        ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    out.write(&batch).unwrap();
    out.close().unwrap();
}

async fn numbers(table: &Table, read: Read) -> Result<Vec<i64>, ErrorInfo> {
    let mut batches = table.batches(read).await?;
    let mut found = Vec::new();
    while let Some(stream) = batches.next().await? {
        for batch in StreamReader::try_new(Cursor::new(stream), None).unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("n").unwrap();
            found.extend_from_slice(column.as_primitive::<Int64Type>().values());
        }
    }
    assert_eq!(batches.rows(), Some(found.len() as u64));
    Ok(found)
}

#[test]
fn a_table_of_another_node_is_read_and_changed() {
    let mesh = Mesh::of(2);
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("table");
    write(&root.join("year=2023/a.parquet"), 0..700);
    write(&root.join("year=2024/a.parquet"), 700..1000);
    let (path, there) = (root.display().to_string(), mesh[1].name().to_owned());
    mesh[0]
        .ask(async |client| {
            let table = client.table(&path, Some(&there));
            assert_eq!(table.len(vec![]).await?, 1000);
            let only = vec![Only { key: "year".into(), values: vec![Some("2024".into())] }];
            assert_eq!(table.len(only.clone()).await?, 300);
            let schema = table.schema().await?;
            let names: Vec<_> =
                schema.columns.iter().map(|c| (c.name.as_str(), c.partition)).collect();
            assert_eq!(names, [("n", false), ("year", true)]);
            let all: Vec<i64> = (0..1000).collect();
            assert_eq!(numbers(&table, Read::default()).await?, all);
            let read = Read { only, limit: Some(10), ..Read::default() };
            assert_eq!(numbers(&table, read).await?, (700..710).collect::<Vec<_>>());
            let shuffle = Some(Shuffle { seed: 1, buffer: 500 });
            let mut drawn = numbers(&table, Read { shuffle, ..Read::default() }).await?;
            assert_ne!(drawn, all);
            drawn.sort_unstable();
            assert_eq!(drawn, all);

            let beside = folder.path().join("new");
            write(&beside.join("year=2025/a.parquet"), 1000..1005);
            assert_eq!(table.append(&beside.display().to_string()).await?, 5);
            assert_eq!(table.len(vec![]).await?, 1005);
            write(&beside.join("year=1/a.parquet"), 0..3);
            assert_eq!(table.replace(&beside.display().to_string()).await?, 3);
            assert_eq!(numbers(&table, Read::default()).await?, [0, 1, 2]);
            table.remove().await?;
            assert!(!table.exists().await?);
            let gone = table.len(vec![]).await.unwrap_err();
            assert_eq!((gone.kind, gone.node.as_str()), (ErrorKind::NotFound, there.as_str()));
            Ok(())
        })
        .unwrap();
}
