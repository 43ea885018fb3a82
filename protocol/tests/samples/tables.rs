//! Tables, and what is asked about them.

use rhd_protocol::{
    api::Request,
    table::{Column, ColumnStats, Only, Read, Rows, Schema, Shuffle, Stats, TableAsk},
};

use super::{Sample, values::*};

/// Tables: what is asked, and what is answered.
pub(super) fn tables() -> Vec<Sample> {
    let ask = |name, ask| {
        Sample::new("request", name, Request::Table { v: 1, node: Some(text("gpu")), ask })
    };
    let (path, with) = (text("/data/t"), text("/data/.t.new"));
    let only = vec![Only { key: text("year"), values: vec![Some(text("2024")), None] }];
    let read = Read {
        columns: Some(vec![text("a")]),
        only: only.clone(),
        batch: 256,
        limit: Some(9),
        shuffle: Some(Shuffle { seed: u64::MAX, buffer: 1000 }),
        ahead: 1,
    };
    let columns =
        vec![Column { name: text("a"), kind: text("Int64"), nullable: true, partition: true }];
    let known = ColumnStats {
        name: text("a"),
        kind: text("Utf8"),
        partition: false,
        min: Some(text("\"x\"")),
        max: None,
        nulls: Some(1),
        bytes: 7,
    };
    let stats = Stats { rows: 3, bytes: 9, files: 2, row_groups: 4, columns: vec![known] };
    vec![
        ask("table_schema", TableAsk::Schema { path: path.clone() }),
        ask("table_count", TableAsk::Count { path: path.clone(), only }),
        ask("table_stats", TableAsk::Stats { path: path.clone() }),
        ask("table_head", TableAsk::Head { path: path.clone(), rows: 5, columns: None }),
        ask("table_read", TableAsk::Read { path: path.clone(), read }),
        ask("table_exists", TableAsk::Exists { path: path.clone() }),
        ask("table_replace", TableAsk::Replace { path: path.clone(), with: with.clone() }),
        ask("table_append", TableAsk::Append { path: path.clone(), with }),
        Sample::new("ask", "table_remove", TableAsk::Remove { path }),
        Sample::new("answer", "table_schema", Schema { columns, ipc: vec![1, 2, 3] }),
        Sample::new(
            "answer",
            "table_rows",
            Rows { columns: vec![text("a")], rows: vec![text("[1]")] },
        ),
        Sample::new("answer", "table_stats", stats),
    ]
}
