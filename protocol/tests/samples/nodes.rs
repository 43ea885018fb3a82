//! What nodes say to each other and to their workers.

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    call::{Codec, Reply},
    code::{Entry, Load},
    compute::Offer,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    presence::{Record, Signed},
    ticket::{JoinReply, JoinRequest},
    wire::{Deploy, Deployment, FileEntry, Manifest, Open, RootOffer, Want},
    worker::{Control, Hello, Lane, Loaded},
};

use super::{Sample, calls::plain_call, values::*};

pub(super) fn computing() -> Vec<Sample> {
    vec![
        Sample::new("compute", "full", compute()),
        Sample::new("offer", "full", offer()),
        Sample::new("env", "compute", EnvSpec { compute: compute(), ..env() }),
        Sample::new("record", "offer", Record { offer: offer(), ..record() }),
    ]
}

pub(super) fn workers() -> Vec<Sample> {
    let hello = Hello {
        v: 1,
        worker: text("w1"),
        token: text("secret"),
        lane: Lane::Control,
        python: text("3.12.1"),
        beside: false,
    };
    let control = |name, control: Control| Sample::new("control", name, control);
    vec![
        Sample::new("hello", "control", hello.clone()),
        Sample::new("hello", "beside", Hello { beside: true, ..hello.clone() }),
        Sample::new("hello", "shared", Hello { lane: Lane::Shared, ..hello.clone() }),
        Sample::new("hello", "call", Hello { lane: Lane::Call, ..hello }),
        control("lanes", Control::Lanes { count: 4 }),
        control("call", Control::Call { call: Box::new(plain_call()) }),
        control("cancel", Control::Cancel { id: id() }),
        control("credit", Control::Credit { id: id(), items: 8 }),
        control("ping", Control::Ping { id: id() }),
        control("share", Control::Share { threads: 1 }),
        Sample::new("load", "import", load()),
        Sample::new("load", "native", Load { roots: vec![], entry: native(), ..load() }),
        Sample::new("loaded", "signatures", Loaded { interface: signed_interface(), class: true }),
        Sample::new("loaded", "native", Loaded { interface: native_interface(), class: false }),
        Sample::new("loaded", "class", Loaded { interface: interface(), class: true }),
    ]
}

pub(super) fn wires() -> Vec<Sample> {
    let root = RootOffer { project: text("p"), sys_path: vec![text("")], manifest: manifest() };
    let deployment = Deployment {
        name: text("/ann/f"),
        env: env(),
        roots: vec![root],
        entry: Entry::Import { module: text("pkg.a"), qualname: text("f") },
        generation: 8,
    };
    let open = |cert| Open { proto: text("call/1"), cert };
    vec![
        Sample::new("open", "direct", open(None)),
        Sample::new("open", "relayed", open(Some(cert()))),
        Sample::new("deploy", "open", Deploy::Open { v: 1, id: id(), parts: vec![900, 0] }),
        Sample::new("deploy", "file", Deploy::File { hash: hash(4), last: true }),
        Sample::new("deployment", "import", deployment),
        Sample::new("want", "some", Want { count: 17 }),
        Sample::new("want", "hashes", vec![hash(1), hash(2)]),
        Sample::new("manifest", "all", manifest()),
        Sample::new("env", "full", env()),
        Sample::new("env", "program", native_env()),
        Sample::new("env", "base", EnvSpec::base()),
    ]
}

pub(super) fn members() -> Vec<Sample> {
    let signed = Signed::new(&record(), &SigningKey::from_bytes(&[2; 32])).unwrap();
    assert_eq!(signed.open(), Ok(record()));
    assert_eq!(cert().verify(cert().body.realm), Ok(()));
    vec![
        Sample::new("cert", "member", cert()),
        Sample::new("record", "full", record()),
        Sample::new("record", "beside", Record { beside: true, ..record() }),
        Sample::new("record", "keeps", Record { beside: true, keeps: true, ..record() }),
        Sample::new("signed", "aged", Signed { age_ms: 44_000, ..signed.clone() }),
        Sample::new("signed", "full", signed),
        Sample::new("ticket", "node", ticket()),
        Sample::new(
            "join",
            "request",
            JoinRequest { v: 1, secret: vec![3; 16], name: text("box") },
        ),
        Sample::new("join", "welcome", JoinReply::Welcome { cert: cert(), host: cert() }),
        Sample::new("join", "refused", JoinReply::Refused { error: error() }),
    ]
}

/// Messages with nothing but what every version must write.
pub(super) fn sparse() -> Vec<Sample> {
    let done = Reply::Done { id: None, codec: Codec::Pickle, parts: vec![] };
    let failed = Reply::fail(ErrorInfo::new(ErrorKind::Timeout, "late"));
    let hello = Hello {
        v: 1,
        worker: text("w"),
        token: text("t"),
        lane: Lane::Call,
        python: String::new(),
        beside: false,
    };
    let record = Record {
        leaving: false,
        version: String::new(),
        addrs: vec![],
        services: vec![],
        load: 0,
        offer: Offer::default(),
        ..record()
    };
    let file = FileEntry { size: 1, hash: hash(1), exec: false, link: None };
    vec![
        Sample::old("call", "sparse", plain_call()),
        Sample::old("reply", "done_sparse", done),
        Sample::old("reply", "fail_sparse", failed),
        Sample::old("hello", "sparse", hello),
        Sample::old("env", "sparse", EnvSpec::default()),
        Sample::old("record", "sparse", record),
        Sample::old("manifest", "sparse", Manifest { files: [(text("a"), file)].into() }),
        Sample::old("open", "sparse", Open { proto: text("call/1"), cert: None }),
    ]
}
