//! Tables from Rust: Parquet files on another node, read as Arrow.

use std::{fs, io::Cursor, path::Path, sync::Arc};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, cast::AsArray as _, types::Int64Type};
use arrow_ipc::reader::StreamReader;
use parquet::arrow::ArrowWriter;
use rhd_protocol::{
    data::Version,
    error::{ErrorInfo, ErrorKind},
    table::{Only, Read, Shuffle},
};
use rhd_sdk::{Client, Table};
use rhd_tests::{Mesh, Node};

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

/// How often a daemon is killed here; more where `RHD_KILLS` says so.
fn kills() -> usize {
    std::env::var("RHD_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(4)
}

#[test]
fn of_an_append_whose_node_is_killed_all_is_there_or_nothing() {
    const FILES: i64 = 300;
    let disk = tempfile::tempdir().unwrap();
    let (root, with) = (disk.path().join("table"), disk.path().join("with"));
    write(&root.join("part=0/first.parquet"), 0..1);
    let [path, beside] = [&root, &with].map(|path| path.display().to_string());
    let mut node = Node::start("box");
    let mut rows = 1;
    for kill in 0..kills() {
        for part in 0..FILES {
            write(&with.join(format!("part={part}/{kill}.parquet")), 0..1);
        }
        let home = node.home().to_path_buf();
        let (path, beside) = (path.clone(), beside.clone());
        let appending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let client = Client::attach(&home).await?;
                client.table(&path, None).append(&beside).await
            })
        });
        // Its first file is in its place, or all are about to be.
        let first = root.join(format!("part=0/{kill}.parquet"));
        let begun = || first.exists() || root.join(".rhd-adding").exists();
        while !begun() && !appending.is_finished() {
            std::hint::spin_loop();
        }
        node.kill();
        let said = appending.join().unwrap();
        node.restart();
        let count = node
            .ask(async |client| client.table(&root.display().to_string(), None).len(vec![]).await);
        let count = count.unwrap();
        let added = count - rows;
        assert!(added == 0 || added == FILES.unsigned_abs(), "{added} of {FILES}, kill {kill}");
        assert!(said.is_err() || added > 0, "what was confirmed is there");
        let _ = fs::remove_dir_all(&with);
        rows = count;
    }
    assert!(!root.join(".rhd-adding").exists());
}

#[test]
fn folders_and_tables_have_versions_from_rust() {
    let mesh = Mesh::of(2);
    let disk = tempfile::tempdir().unwrap();
    let (data, rows) = (disk.path().join("data"), disk.path().join("rows"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a"), "one").unwrap();
    write(&rows.join("a.parquet"), 0..5);
    let there = mesh[1].name().to_owned();
    let at = |path: &Path| path.display().to_string();
    mesh[0]
        .ask(async |client| {
            let folder = client.folder(&at(&data), Some(&there));
            let first = folder.save("photos").await?;
            assert_eq!((first.info().version, first.path()), (1, at(&data).as_str()));
            assert!(first.table().is_none() && first.skipped().is_empty());
            fs::write(data.join("a"), "two").unwrap();
            fs::write(data.join("b"), "new").unwrap();
            assert_eq!(first.save().await?.info().version, 2);
            fs::write(data.join("a"), "unsaved").unwrap();
            let found = client.saved("photos", None).await?;
            let back = found.rollback(1).await?;
            assert_eq!(back.info().content.hash, first.info().content.hash);
            assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "one");
            assert!(!data.join("b").exists());
            let of = |versions: Vec<Version>| -> Vec<u64> {
                versions.iter().map(|version| version.number).collect()
            };
            // What was there and no version was saved before.
            assert_eq!(of(back.history(None).await?), [4, 3, 2, 1]);
            back.rollback(3).await?;
            assert_eq!(fs::read_to_string(data.join("a")).unwrap(), "unsaved");
            let renamed = back.rename("pictures").await?;
            assert_eq!(of(renamed.history(Some(1)).await?), [5]);
            assert!(renamed.lineage(3).await?.made[0].record.is_some());

            let table = client.table(&at(&rows), Some(&there));
            let saved = table.save("rows").await?;
            write(&rows.join("a.parquet"), 5..7);
            let back = saved.rollback(1).await?.table().unwrap();
            assert_eq!(numbers(&back, Read::default()).await?, [0, 1, 2, 3, 4]);

            renamed.delete().await?;
            let gone = client.saved("pictures", Some(&there)).await.unwrap_err();
            assert_eq!(gone.kind, ErrorKind::NotFound);
            assert!(data.join("a").exists(), "the files stay");
            client.put_blob(b"plain", Some("plain")).await?;
            let blob = client.saved("plain", None).await.unwrap_err();
            assert_eq!(blob.kind, ErrorKind::BadRequest);
            Ok(())
        })
        .unwrap();
}
