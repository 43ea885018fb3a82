//! Data: blobs, and what is asked about them.

use rhd_protocol::{
    api::Request,
    call::{Codec, Reply},
    data::{
        BlobInfo, Collected, Content, Damaged, DataAsk, Lineage, Made, Moved, Origin, PieceAsk,
        Record, Saved, Tree, Verified, Version,
    },
    folder::Skipped,
    id::NodeId,
};

use super::{Sample, values::*};

fn content() -> Content {
    Content { hash: hash(7), size: 9, codec: Some(Codec::Pickle), parts: vec![4, 5] }
}

/// Data: what is asked, and what is answered.
pub(super) fn data() -> Vec<Sample> {
    let ask = |name, ask| {
        let request = Request::Data { v: 1, node: Some(text("gpu")), ask };
        Sample::new("request", name, request)
    };
    let (name, from) = (Some(text("/ann/x")), vec![NodeId::from_bytes([3; 32])]);
    let none = Origin::default;
    let codec = Some(Codec::Pickle);
    let put = DataAsk::Put { name: name.clone(), codec, parts: vec![4, 5], origin: none() };
    let info = BlobInfo {
        name: name.clone(),
        content: content(),
        node: text("gpu"),
        node_id: NodeId::from_bytes([3; 32]).to_string(),
        held: 8,
        saved_ms: 1_700_000_000_000,
        versions: 2,
        version: 0,
        origin: none(),
        tree: None,
    };
    let plain = Content { codec: None, parts: vec![], ..content() };
    let version = Version {
        number: 0,
        content: content(),
        saved_ms: 5,
        author: text("gpu"),
        author_id: String::new(),
        run: Some(text("night")),
        service: None,
        inputs: vec![text("/ann/y")],
        more: false,
        restored: None,
        tree: None,
    };
    let sparse = Version { run: None, inputs: vec![], content: plain.clone(), ..version.clone() };
    let origin = Origin {
        run: Some(id().to_string()),
        service: Some(text("/ann/fold")),
        inputs: vec![format!("/ann/x@{}", hash(8)), hash(9).to_string()],
        more: true,
    };
    let numbered = Version {
        number: 3,
        author_id: NodeId::from_bytes([3; 32]).to_string(),
        run: origin.run.clone(),
        service: origin.service.clone(),
        inputs: origin.inputs.clone(),
        more: true,
        restored: Some(1),
        ..version.clone()
    };
    let made_by = BlobInfo { version: 3, origin: origin.clone(), ..info.clone() };
    let record = Record { name: text("/ann/x"), node: text("gpu"), version: numbered.clone() };
    let made = vec![
        Made { blob: format!("/ann/x@{}", hash(7)), record: Some(record.clone()) },
        Made { blob: hash(9).to_string(), record: None },
    ];
    let tree = Tree { path: text("/data/x"), table: true, entries: 3, bytes: 1 << 33 };
    let folder = Version { tree: Some(tree.clone()), ..numbered.clone() };
    let saved = Saved {
        info: BlobInfo { tree: Some(Tree { table: false, ..tree }), ..made_by.clone() },
        stored: 7,
        skipped: vec![Skipped { path: text("out"), why: text("it links out of the folder") }],
    };
    let save = |table, origin| DataAsk::SaveFolder {
        path: text("/data/x"),
        name: text("/ann/x"),
        table,
        origin,
    };
    let collected = Collected { blobs: 1, bytes: 2, kept_blobs: 3, kept_bytes: 4 };
    let damaged = Damaged { hash: hash(7), names: vec![text("/ann/x")], why: text("short") };
    let moved = Moved { done: 1, total: 3, rate: 2, left_ms: Some(1000) };
    vec![
        ask("data_put", put),
        ask(
            "data_import",
            DataAsk::Import { path: text("/tmp/x"), name: name.clone(), origin: none() },
        ),
        ask("data_find", DataAsk::Find { blob: text("x"), far: true }),
        ask("data_have", DataAsk::Have { hashes: vec![hash(7)] }),
        ask(
            "data_put_in_a_call",
            DataAsk::Put { name: name.clone(), codec, parts: vec![4, 5], origin: origin.clone() },
        ),
        ask(
            "data_import_in_a_call",
            DataAsk::Import { path: text("/tmp/x"), name: name.clone(), origin: origin.clone() },
        ),
        ask(
            "data_fetch_in_a_call",
            DataAsk::Fetch {
                content: content(),
                name: name.clone(),
                from: from.clone(),
                origin: origin.clone(),
            },
        ),
        ask(
            "data_fetch",
            DataAsk::Fetch { content: content(), name, from: from.clone(), origin: none() },
        ),
        ask("data_names", DataAsk::Names { below: Some(text("/ann")), far: true }),
        ask("data_rename", DataAsk::Rename { name: text("/ann/x"), to: text("/ann/y") }),
        ask("data_history", DataAsk::History { name: text("/ann/x"), limit: Some(2) }),
        ask("data_rollback", DataAsk::Rollback { name: text("/ann/x"), version: 3, path: None }),
        ask("data_save_folder", save(false, none())),
        ask("data_save_table", save(true, origin.clone())),
        ask(
            "data_rollback_to_a_path",
            DataAsk::Rollback { name: text("/ann/x"), version: 3, path: Some(text("/data/x")) },
        ),
        Sample::new("piece", "prove", PieceAsk::Prove { hash: hash(7) }),
        Sample::new("piece", "read", PieceAsk::Read { hash: hash(7), first: 3, count: 32 }),
        Sample::new("version", "folder", folder),
        Sample::new("answer", "saved", saved),
        ask("data_records", DataAsk::Records { inputs: vec![format!("/ann/x@{}", hash(8))] }),
        ask("data_lineage", DataAsk::Lineage { blob: text("/ann/x"), version: Some(3), depth: 10 }),
        ask(
            "data_read",
            DataAsk::Read { content: plain.clone(), at: 1, len: 2, from: from.clone() },
        ),
        ask("data_export", DataAsk::Export { content: plain, path: text("/tmp/x"), from }),
        ask("data_list", DataAsk::List {}),
        ask("data_remove", DataAsk::Remove { name: text("/ann/x") }),
        ask("data_stat_file", DataAsk::StatFile { path: text("/tmp/x") }),
        ask("data_remove_file", DataAsk::RemoveFile { path: text("/tmp/x") }),
        ask("data_collect", DataAsk::Collect { dry_run: true }),
        ask("data_verify", DataAsk::Verify {}),
        Sample::new("ask", "have", DataAsk::Have { hashes: vec![hash(7)] }),
        Sample::new("answer", "blob", info.clone()),
        Sample::new("answer", "blobs", vec![info]),
        Sample::new("answer", "sizes", vec![Some(9u64), None]),
        Sample::new("answer", "collected", collected),
        Sample::new(
            "answer",
            "verified",
            Verified { blobs: 1, bytes: 2, partial: 3, damaged: vec![damaged] },
        ),
        Sample::new("version", "full", version),
        Sample::new("version", "sparse", sparse),
        Sample::new("version", "numbered", numbered.clone()),
        Sample::new("answer", "blob_made_by", made_by),
        Sample::new("answer", "versions", vec![numbered]),
        Sample::new("answer", "records", vec![Some(record), None]),
        Sample::new("answer", "lineage", Lineage { made, cut: true }),
        Sample::new("reply", "moved", Reply::Progress { text: text("x"), moved: Some(moved) }),
    ]
}
