//! What messages are made of.

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    call::Codec,
    code::{CodeRoot, Entry, Load},
    compute::{Amounts, Compute, Offer},
    env::{Binary, EnvSpec},
    error::{ErrorInfo, ErrorKind},
    id::{CallId, Hash, NodeId, RealmId},
    membership::{Cert, CertBody, Role},
    presence::Record,
    service::{Flavor, Interface, Service, ServiceAd, ServiceKind},
    ticket::Ticket,
    wire::{FileEntry, Manifest},
};

pub(super) fn id() -> CallId {
    CallId::from_bytes(*b"0123456789abcdef")
}

pub(super) fn hash(n: u8) -> Hash {
    Hash::from_bytes([n; 32])
}

pub(super) fn text(s: &str) -> String {
    s.to_owned()
}

pub(crate) fn env() -> EnvSpec {
    EnvSpec {
        name: text("train"),
        python: Some(text("3.12")),
        conda_env: Some(text("torch")),
        reqs: vec![text("numpy>=2"), text("six")],
        setup_cmds: vec![text("echo hello")],
        env_vars: [(text("A"), text("1"))].into(),
        workers: Some(2),
        compute: Compute::default(),
        binary: None,
    }
}

/// The env of a program.
pub(crate) fn native_env() -> EnvSpec {
    let binary = Binary { hash: hash(9), size: 300, target: text("x86_64-linux-gnu") };
    EnvSpec { name: text("app"), binary: Some(binary), ..EnvSpec::default() }
}

pub(super) fn native_interface() -> Interface {
    let codec = Some(Codec::Msgpack);
    Interface { signature: text("(x: u64) -> u64"), codec, ..Interface::default() }
}

pub(super) fn native() -> Entry {
    Entry::Native { symbol: text("app::square") }
}

pub(super) fn compute() -> Compute {
    let labels = [(text("zone"), text("eu"))].into();
    Compute { amounts: [(text("gpus"), 500)].into(), labels }
}

pub(super) fn offer() -> Offer {
    let total: Amounts = [(text("cpus"), 8_000), (text("gpus"), 1_000)].into();
    Offer { total, ..Offer::default() }.less([&compute()])
}

pub(crate) fn manifest() -> Manifest {
    let file = |size, exec| FileEntry { size, hash: hash(size as u8), exec, link: None };
    let link = FileEntry { link: Some(text("pkg/a.py")), ..file(0, false) };
    let files = [(text("pkg/a.py"), file(12, false)), (text("run.sh"), file(300, true))];
    Manifest { files: files.into_iter().chain([(text("z"), link)]).collect() }
}

pub(super) fn cert() -> Cert {
    let realm = SigningKey::from_bytes(&[1; 32]);
    let node = SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes();
    let body = CertBody {
        realm: RealmId::from_bytes(realm.verifying_key().to_bytes()),
        node: NodeId::from_bytes(node),
        name: text("laptop"),
        role: Role::Member,
    };
    Cert::sign(body, &realm)
}

pub(super) fn service() -> Service {
    Service {
        name: text("/ann/Model"),
        kind: ServiceKind::Class,
        env: text("train"),
        version: hash(4),
        generation: 7,
        class: Some(text("/ann/Base")),
        interface: interface(),
    }
}

pub(super) fn interface() -> Interface {
    Interface {
        flavor: Flavor::AsyncGenerator,
        signature: text("(a, b=2)"),
        doc: text("Trains."),
        members: [
            (text("a"), Flavor::Plain),
            (text("g"), Flavor::Generator),
            (text("c"), Flavor::Coroutine),
            (text("p"), Flavor::Property),
        ]
        .into(),
        class_members: vec![text("a")],
        signatures: Default::default(),
        codec: None,
    }
}

pub(super) fn signed_interface() -> Interface {
    Interface { signatures: [(text("a"), text("(x=1)"))].into(), ..interface() }
}

pub(super) fn record() -> Record {
    Record {
        cert: cert(),
        seq: 5 << 32 | 9,
        leaving: true,
        version: text("0.1.0"),
        addrs: vec![text("/ip4/192.0.2.1/udp/4242/quic-v1")],
        services: vec![ServiceAd::from(&service())],
        load: 3,
        offer: Offer::default(),
        beside: false,
        keeps: false,
    }
}

pub(crate) fn ticket() -> Ticket {
    Ticket {
        realm: cert().body.realm,
        host: cert().body.node,
        addrs: vec![text("192.0.2.1:4242"), text("[2001:db8::1]:4242")],
        secret: vec![3; 16],
        role: Role::Node,
    }
}

pub(super) fn load() -> Load {
    let root = CodeRoot {
        project: text("p"),
        dir: text("/h/code/x"),
        sys_path: vec![text(""), text("src")],
    };
    Load {
        roots: vec![root],
        entry: Entry::Import { module: text("pkg.a"), qualname: text("A.f") },
        version: hash(5),
    }
}

pub(super) fn error() -> ErrorInfo {
    ErrorInfo {
        kind: ErrorKind::Remote,
        message: text("division by zero"),
        hint: text("divide by more"),
        node: text("gpu"),
        call: id().to_string(),
        exc_type: text("builtins.ZeroDivisionError"),
        traceback: text("Traceback …"),
    }
}
