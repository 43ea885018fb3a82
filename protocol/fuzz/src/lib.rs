//! What every decoder must hold for any bytes. Each function is the body of a fuzz target; the
//! property tests in `protocol/tests/decoders.rs` run the same functions on stable.
//!
//! `cargo +nightly fuzz run wire` in `protocol/` fuzzes one. None may panic, hang or allocate from a
//! length that it has not checked.

use std::{collections::BTreeMap, fmt::Debug};

use rhd_protocol::{
    api, call, code, data, env, error, frame, id, machine::receipt, many, membership, name,
    presence, run, service, ticket, wire, worker,
};
use serde::{Serialize, de::DeserializeOwned};

/// Decodes; what decodes must survive being written and read again.
fn round_trip<T: DeserializeOwned + Serialize + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value: T = frame::decode(data).ok()?;
    let bytes = frame::to_vec(&value).expect("what was read can be written");
    let again: T = frame::decode(&bytes).expect("what was written can be read");
    assert_eq!(value, again);
    Some(value)
}

/// Lengths of a frame, and a header behind them.
pub fn frame(data: &[u8]) {
    let Some((prefix, rest)) = data.split_first_chunk() else { return };
    let Ok(lengths) = frame::Prefix::parse_any(*prefix, frame::MAX_BODY) else { return };
    if lengths.beside {
        assert!(frame::Prefix::parse(*prefix, frame::MAX_BODY).is_err());
        assert_eq!(lengths.body, frame::BESIDE_BODY);
        let body = rest.get(lengths.header..).and_then(|rest| rest.get(..lengths.body));
        if let Some(Ok(len)) = body.map(|body| frame::payload_len(body, frame::MAX_PAYLOAD)) {
            assert!(len > 0 && len <= frame::MAX_PAYLOAD);
        }
    }
    assert!(lengths.header > 0 && lengths.header <= frame::MAX_HEADER);
    assert!(lengths.body <= frame::MAX_BODY);
    if let Some(header) = rest.get(..lengths.header) {
        call(header);
    }
}

/// What a client sends and is told.
pub fn client(data: &[u8]) {
    let request = round_trip::<api::Request>(data);
    let any = frame::decode::<api::AnyRequest>(data);
    if let (Some(request), Ok(any)) = (request, any) {
        // Whoever reads only the version must not take it for an older one.
        assert!(any.version() >= request.version());
    }
    round_trip::<many::Order>(data);
    round_trip::<api::Status>(data);
    round_trip::<Vec<api::Peer>>(data);
    round_trip::<api::Deployed>(data);
    round_trip::<api::Invited>(data);
    round_trip::<Vec<api::Listed>>(data);
    round_trip::<api::Described>(data);
    round_trip::<Vec<api::EnvInfo>>(data);
    round_trip::<api::PythonPath>(data);
    round_trip::<Vec<run::RunInfo>>(data);
    round_trip::<Vec<data::BlobInfo>>(data);
}

/// The start of a program's file.
pub fn program(data: &[u8]) {
    if let Some(target) = rhd_protocol::program::Target::of(data) {
        let _ = target.runs(&target.to_string());
    }
}

/// Calls and replies.
pub fn call(data: &[u8]) {
    round_trip::<call::Call>(data);
    if let Some(reply) = round_trip::<call::Reply>(data) {
        let (last, id) = (reply.is_final(), reply.id());
        if let (Ok(glance), false) =
            (frame::decode::<call::Glance>(data), matches!(reply, call::Reply::Progress { .. }))
        {
            assert_eq!((glance.t.is_final(), glance.id), (last, id));
        }
    }
    round_trip::<error::ErrorInfo>(data);
}

/// What is read back from a journal of receipts.
pub fn journal(data: &[u8]) {
    let mut receipts = receipt::Receipts::default();
    for chunk in data.chunks(receipt::LEN) {
        match chunk.try_into().ok().and_then(receipt::Record::decode) {
            Some(record) => {
                assert_eq!(receipt::Record::decode(&record.encode()), Some(record));
                receipts.replay(record);
            }
            None => receipts.torn(),
        }
    }
    let life = receipts.begin([1; 16], 1);
    life.into_iter().chain(receipts.rotate(2)).for_each(|record| {
        assert_eq!(receipt::Record::decode(&record.encode()), Some(record));
    });
}

/// What a worker sends and is told.
pub fn worker(data: &[u8]) {
    round_trip::<worker::Hello>(data);
    round_trip::<worker::Control>(data);
    round_trip::<code::Load>(data);
    round_trip::<worker::Loaded>(data);
    round_trip::<service::Service>(data);
}

/// What nodes send on streams.
pub fn wire(data: &[u8]) {
    round_trip::<data::DataAsk>(data);
    round_trip::<data::Collected>(data);
    round_trip::<data::Verified>(data);
    round_trip::<BTreeMap<String, Vec<data::Version>>>(data);
    round_trip::<data::Lineage>(data);
    if let Some(Some(record)) = round_trip::<Option<data::Record>>(data) {
        record.is_of(record.version.content.hash);
    }
    if let Some(content) = round_trip::<data::Content>(data) {
        let _ = content.is_sound();
    }
    round_trip::<wire::Open>(data);
    round_trip::<wire::Deploy>(data);
    round_trip::<wire::Deployment>(data);
    round_trip::<wire::Want>(data);
    round_trip::<Vec<id::Hash>>(data);
    if let Some(manifest) = round_trip::<wire::Manifest>(data) {
        let _ = manifest.hash();
        if manifest.is_safe() {
            manifest.files.keys().for_each(|path| assert!(!path.split('/').any(|c| c == "..")));
        }
    }
    if let Some(spec) = round_trip::<env::EnvSpec>(data) {
        let _ = (spec.build_hash(), spec.key(), spec.is_bare());
    }
}

/// What proves who somebody is, and what they say of themselves.
pub fn membership(data: &[u8]) {
    if let Ok(cert) = membership::Cert::from_bytes(data) {
        let _ = cert.verify(cert.body.realm);
    }
    if let Some(signed) = round_trip::<presence::Signed>(data) {
        let _ = signed.open();
    }
    round_trip::<presence::Record>(data);
    round_trip::<ticket::JoinRequest>(data);
    round_trip::<ticket::JoinReply>(data);
    round_trip::<ticket::Ticket>(data);
}

/// Everything that people type: names, ids, tickets.
pub fn text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = name::Name::parse(&text) {
        assert_eq!(name::Name::parse(&name.to_string()).as_ref(), Ok(&name));
        let full = name.canonical("ann", "/ann");
        if full.chars().count() <= name::MAX_NAME {
            assert!(name::Name::parse(&full).is_ok(), "{full}");
        }
    }
    if let Ok(hash) = text.parse::<id::Hash>() {
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }
    if let Ok(ticket) = text.parse::<ticket::Ticket>() {
        assert_eq!(ticket.to_string().parse(), Ok(ticket));
    }
    let _ = membership::is_node_name(&text);
    let _ = wire::safe_path(&text);
    if wire::link_stays_inside("a/b", &text) {
        assert!(!text.starts_with('/'));
    }
}

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Target); 9] = [
    ("frame", frame),
    ("client", client),
    ("call", call),
    ("worker", worker),
    ("wire", wire),
    ("membership", membership),
    ("text", text),
    ("program", program),
    ("journal", journal),
];
