//! Files added to a table: all or none, whoever reads and whatever is ended meanwhile.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::tables::publish::Published;

/// A table of three partitions, and three files to be added to it, one of them to a new partition.
fn two() -> (TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (table, with) = (dir.path().join("table"), dir.path().join("with"));
    for (n, year) in (0..).zip([1, 2, 3]) {
        let path = format!("year={year}/a.parquet");
        write(&table.join(path), &rows(n * 10, 10), Compression::SNAPPY);
    }
    more(&with, 30);
    (dir, table, with)
}

fn more(with: &Path, first: i64) {
    for (n, year) in (0..).zip([2, 3, 4]) {
        let path = format!("year={year}/{first}.parquet");
        write(&with.join(path), &rows(first + n * 10, 10), Compression::SNAPPY);
    }
}

fn sorted(published: &Published, table: &Path) -> Vec<i64> {
    let (root, _held) = published.open(table).unwrap();
    let plan = Plan::open(root, &[]).unwrap();
    let schema = plan.projected(None).unwrap();
    let mut found = Vec::new();
    let mut keep = |batch: RecordBatch| {
        let column = batch.column_by_name("n").unwrap();
        found.extend_from_slice(column.as_primitive::<Int64Type>().values());
        Ok(())
    };
    read::rows(&plan, &schema, &Read::default(), &mut keep).unwrap();
    found.sort_unstable();
    found
}

#[test]
fn what_a_node_that_was_ended_had_begun_is_done_before_anybody_reads() {
    for done in 0..=3 {
        let (_dir, table, with) = two();
        let adding = table.join(".rhd-adding");
        fs::rename(&with, &adding).unwrap();
        for year in [2, 3, 4].into_iter().take(done) {
            let path = format!("year={year}/30.parquet");
            fs::create_dir_all(table.join(&path).parent().unwrap()).unwrap();
            fs::rename(adding.join(&path), table.join(&path)).unwrap();
        }
        let published = Published::default();
        assert_eq!(sorted(&published, &table), (0..60).collect::<Vec<_>>(), "{done} of 3");
        assert!(!adding.exists());
    }
}

#[test]
fn a_name_that_is_taken_adds_nothing() {
    let (_dir, table, with) = two();
    write(&table.join("year=4/30.parquet"), &rows(90, 1), Compression::SNAPPY);
    let published = Published::default();
    published.append(&table, &with).unwrap_err();
    assert_eq!(sorted(&published, &table).len(), 31);
    assert_eq!(fs::read_dir(&with).unwrap().count(), 3, "it is as it was");
    // Taken only after it was decided: both stay.
    fs::rename(&with, table.join(".rhd-adding")).unwrap();
    assert_eq!(sorted(&published, &table).len(), 61);
}

#[test]
fn who_reads_meanwhile_sees_all_of_it_or_none() {
    let (dir, table, with) = two();
    let (published, over) = (Published::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let reader = || {
            let (mut last, mut reads) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let (root, _held) = published.open(&table).unwrap();
                let parts = Plan::open(root, &[]).unwrap().layout.parts.len();
                assert_eq!(parts % 3, 0, "some of what was added");
                assert!(parts >= last);
                (last, reads) = (parts, reads + 1);
            }
            reads
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for n in 1..=30 {
            published.append(&table, &with).unwrap();
            assert!(!with.exists());
            more(&with, n * 1000);
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(sorted(&published, &table).len(), 30 + 30 * 30);
    drop(dir);
}
