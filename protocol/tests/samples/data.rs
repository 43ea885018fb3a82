//! Data: blobs, and what is asked about them.

use rhd_protocol::{
    api::Request,
    call::{Codec, Reply},
    data::{BlobInfo, Collected, Content, Damaged, DataAsk, Moved, Verified, Version},
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
    let put = DataAsk::Put { name: name.clone(), codec: Some(Codec::Pickle), parts: vec![4, 5] };
    let info = BlobInfo {
        name: name.clone(),
        content: content(),
        node: text("gpu"),
        node_id: NodeId::from_bytes([3; 32]).to_string(),
        held: 8,
        saved_ms: 1_700_000_000_000,
        versions: 2,
    };
    let plain = Content { codec: None, parts: vec![], ..content() };
    let version = Version {
        content: content(),
        saved_ms: 5,
        author: text("gpu"),
        run: Some(text("night")),
        inputs: vec![text("/ann/y")],
    };
    let sparse = Version { run: None, inputs: vec![], content: plain.clone(), ..version.clone() };
    let collected = Collected { blobs: 1, bytes: 2, kept_blobs: 3, kept_bytes: 4 };
    let damaged = Damaged { hash: hash(7), names: vec![text("/ann/x")], why: text("short") };
    let moved = Moved { done: 1, total: 3, rate: 2, left_ms: Some(1000) };
    vec![
        ask("data_put", put),
        ask("data_import", DataAsk::Import { path: text("/tmp/x"), name: name.clone() }),
        ask("data_find", DataAsk::Find { blob: text("x"), far: true }),
        ask("data_have", DataAsk::Have { hashes: vec![hash(7)] }),
        ask("data_fetch", DataAsk::Fetch { content: content(), name, from: from.clone() }),
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
        Sample::new("reply", "moved", Reply::Progress { text: text("x"), moved: Some(moved) }),
    ]
}
