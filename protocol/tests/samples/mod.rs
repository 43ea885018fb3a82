//! One value of every message, all with fixed content.

// Two test binaries share it, and each uses a part.
#![allow(dead_code, clippy::unwrap_used)]

use std::fmt::Debug;

use ed25519_dalek::SigningKey;
use rhd_protocol::{
    api::{self, DeployRequest, LocalRoot, PathKind, Request},
    call::{Call, Codec, Reply, Verb},
    compute::{Amounts, Compute, Offer},
    env::{Binary, EnvSpec},
    error::{ErrorInfo, ErrorKind},
    frame,
    id::{CallId, Hash, NodeId, RealmId},
    many::Order,
    membership::{Cert, CertBody, Role},
    presence::{Record, Signed},
    run::{Kept, RunAsk, RunInfo, RunOptions, RunStatus},
    service::{Flavor, Interface, Service, ServiceAd, ServiceKind},
    ticket::{JoinReply, JoinRequest, Ticket},
    wire::{Deploy, Deployment, FileEntry, Manifest, Open, RootOffer, Want},
    worker::{CodeRoot, Control, Entry, Hello, Lane, Load, Loaded},
};
use serde::{Serialize, de::DeserializeOwned};

type Check = Box<dyn Fn(&[u8])>;

/// A named value with its type hidden.
pub(crate) struct Sample {
    kind: &'static str,
    name: &'static str,
    bytes: Option<Vec<u8>>,
    decodes: Check,
}

impl Sample {
    /// A value that this version writes and reads.
    fn new<T>(kind: &'static str, name: &'static str, value: T) -> Self
    where
        T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
    {
        let bytes = frame::to_vec(&value).unwrap();
        Self { bytes: Some(bytes), ..Self::old(kind, name, value) }
    }

    /// A value whose file was written by a version that knew fewer fields.
    fn old<T>(kind: &'static str, name: &'static str, means: T) -> Self
    where
        T: DeserializeOwned + PartialEq + Debug + 'static,
    {
        let decodes = move |bytes: &[u8]| {
            let read: T = frame::decode(bytes).unwrap_or_else(|e| panic!("{kind}.{name}: {e:?}"));
            assert_eq!(read, means, "{kind}.{name}");
        };
        Self { kind, name, bytes: None, decodes: Box::new(decodes) }
    }

    /// Where its bytes are pinned.
    pub(crate) fn file(&self) -> String {
        format!("{}.{}.hex", self.kind, self.name)
    }

    /// As this version writes it, if it does.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        self.bytes.clone()
    }

    /// Fails unless the bytes mean this value.
    pub(crate) fn assert_decodes(&self, bytes: &[u8]) {
        (self.decodes)(bytes);
    }
}

fn id() -> CallId {
    CallId::from_bytes(*b"0123456789abcdef")
}

fn hash(n: u8) -> Hash {
    Hash::from_bytes([n; 32])
}

fn text(s: &str) -> String {
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

fn native_interface() -> Interface {
    let codec = Some(Codec::Msgpack);
    Interface { signature: text("(x: u64) -> u64"), codec, ..Interface::default() }
}

fn native() -> Entry {
    Entry::Native { symbol: text("app::square") }
}

fn compute() -> Compute {
    let labels = [(text("zone"), text("eu"))].into();
    Compute { amounts: [(text("gpus"), 500)].into(), labels }
}

fn offer() -> Offer {
    let total: Amounts = [(text("cpus"), 8_000), (text("gpus"), 1_000)].into();
    Offer { total, ..Offer::default() }.less([&compute()])
}

pub(crate) fn manifest() -> Manifest {
    let file = |size, exec| FileEntry { size, hash: hash(size as u8), exec, link: None };
    let link = FileEntry { link: Some(text("pkg/a.py")), ..file(0, false) };
    let files = [(text("pkg/a.py"), file(12, false)), (text("run.sh"), file(300, true))];
    Manifest { files: files.into_iter().chain([(text("z"), link)]).collect() }
}

fn cert() -> Cert {
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

fn service() -> Service {
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

fn interface() -> Interface {
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

fn signed_interface() -> Interface {
    Interface { signatures: [(text("a"), text("(x=1)"))].into(), ..interface() }
}

fn record() -> Record {
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

fn load() -> Load {
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

fn full_call() -> Call {
    Call {
        v: 1,
        id: id(),
        node: Some(text("gpu")),
        service: text("/ann/Model"),
        verb: Verb::New,
        method: Some(text("fit")),
        instance: Some(text("/ann/m1")),
        codec: Codec::Msgpack,
        parts: vec![3, 70_000, 5_000_000_000],
        timeout_ms: Some(1_500),
        logs: true,
        caller: text("laptop"),
        load: Some(load()),
        run: None,
        keep: false,
        trace: None,
        beside: false,
    }
}

fn large_call() -> Call {
    Call { parts: vec![200, 5_000_000_000], beside: true, ..plain_call() }
}

fn run_call() -> Call {
    Call {
        run: Some(RunOptions { name: text("night"), detach: true }),
        keep: true,
        trace: Some(text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ..plain_call()
    }
}

fn run_info() -> RunInfo {
    RunInfo {
        id: id(),
        name: text("night"),
        status: RunStatus::Error,
        host: text("gpu"),
        caller: text("laptop"),
        service: text("/ann/train"),
        verb: Verb::Call,
        method: Some(text("fit")),
        started_ms: 1_790_000_000_000,
        ended_ms: 1_790_000_001_000,
        recorded: true,
        result: Some(7),
        error: Some(error()),
    }
}

fn computing() -> Vec<Sample> {
    vec![
        Sample::new("compute", "full", compute()),
        Sample::new("offer", "full", offer()),
        Sample::new("env", "compute", EnvSpec { compute: compute(), ..env() }),
        Sample::new("record", "offer", Record { offer: offer(), ..record() }),
    ]
}

fn run_requests() -> Vec<Sample> {
    let ask = |name, ask| {
        let request = Request::Run { v: 1, run: text("night"), node: Some(text("gpu")), ask };
        Sample::new("request", name, request)
    };
    let runs = Request::Runs { v: 1, node: None, name: Some(text("night")), limit: 10 };
    vec![
        Sample::new("request", "runs", runs),
        ask("run_info", RunAsk::Info { age_ms: Some(9) }),
        ask("run_inputs", RunAsk::Inputs),
        ask("run_logs", RunAsk::Logs { follow: true }),
        ask("run_attach", RunAsk::Attach { logs: true, timeout_ms: Some(5) }),
        ask("run_cancel", RunAsk::Cancel),
        ask("run_remove", RunAsk::Remove),
        Sample::new("answer", "run", run_info()),
        Sample::new(
            "run",
            "statuses",
            vec![
                RunStatus::NotStarted,
                RunStatus::Running,
                RunStatus::Completed,
                RunStatus::Cancelled,
                RunStatus::Error,
                RunStatus::Interrupted,
            ],
        ),
        Sample::new("run", "kept", Kept { codec: Codec::Json, parts: vec![1, 2] }),
        Sample::new("call", "run", run_call()),
    ]
}

fn plain_call() -> Call {
    Call {
        node: None,
        verb: Verb::Call,
        method: None,
        instance: None,
        codec: Codec::Pickle,
        parts: vec![],
        timeout_ms: None,
        logs: false,
        caller: String::new(),
        load: None,
        ..full_call()
    }
}

fn error() -> ErrorInfo {
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

fn requests() -> Vec<Sample> {
    let (v, node) = (1, Some(text("gpu")));
    let root =
        LocalRoot { path: text("/p"), sys_path: vec![text("src")], only: vec![text("a.py")] };
    let deploy = DeployRequest {
        v,
        id: id(),
        node: node.clone(),
        place: false,
        name: text("f"),
        env: env(),
        roots: vec![root],
        entry: Entry::Value { python: text("3.12") },
        binary: None,
    };
    let program = DeployRequest {
        roots: vec![],
        env: EnvSpec::default(),
        entry: native(),
        binary: Some(text("/p/target/release/app")),
        ..deploy.clone()
    };
    let request = |name, request: Request| Sample::new("request", name, request);
    vec![
        request("call", Request::Call { call: full_call() }),
        request("deploy", Request::Deploy { deploy }),
        request("deploy_program", Request::Deploy { deploy: program }),
        request("status", Request::Status { v }),
        request("peers", Request::Peers { v }),
        request("invite", Request::Invite { v, role: Role::Node, uses: 3, expires: 3_600 }),
        request("join", Request::Join { v, ticket: text("rhd1abc"), name: Some(text("box")) }),
        request("services", Request::Services { v, prefix: Some(text("/ann")) }),
        request("describe", Request::Describe { v, name: text("/ann/f"), node: node.clone() }),
        request("remove", Request::Remove { v, name: text("/ann/f"), node: None }),
        request("envs", Request::Envs { v, node: node.clone() }),
        request("env_build", Request::EnvBuild { v, node: node.clone(), env: EnvSpec::base() }),
        request("env_remove", Request::EnvRemove { v, node, key: text("base") }),
        request("many", Request::Many { v }),
        request("python", Request::Python { v }),
        request("shutdown", Request::Shutdown { v }),
        Sample::new("order", "call", Order::Call { call: Box::new(full_call()) }),
        Sample::new("order", "cancel", Order::Cancel { id: id() }),
        Sample::new("order", "credit", Order::Credit { id: id(), items: 8 }),
    ]
}

fn answers() -> Vec<Sample> {
    let status = api::Status {
        name: text("laptop"),
        id: cert().body.node.to_string(),
        realm: cert().body.realm.to_string(),
        role: Role::Member,
        founder: true,
        user: text("ann"),
        version: text("0.1.0"),
        protocol: 1,
        pid: 4_242,
        home: text("/home/ann/.rhd"),
        listen: vec![text("192.0.2.1:4242")],
        uptime: 60,
        peers: 2,
        calls: 1,
        rss: 50_000_000,
        workers: 1,
        beside: false,
        web: None,
    };
    let web = Some(text("http://127.0.0.1:32300"));
    let peer = api::Peer {
        name: text("gpu"),
        id: cert().body.node.to_string(),
        role: Role::Node,
        path: PathKind::Relayed,
        rtt_us: Some(900),
        addr: Some(text("192.0.2.2:4242")),
        version: text("0.1.0"),
        load: 1,
        services: 4,
        offer: Offer::default(),
    };
    let paths = vec![PathKind::Here, PathKind::Direct, PathKind::Relayed, PathKind::None];
    let deployed = api::Deployed {
        name: text("/ann/f"),
        kind: ServiceKind::Function,
        node: text("gpu"),
        node_id: cert().body.node.to_string(),
        env: text("train"),
        version: hash(4).to_string(),
        interface: interface(),
        files_sent: 3,
        bytes_sent: 4_096,
    };
    let env = api::EnvInfo {
        key: text("train"),
        spec: env(),
        python: text("3.12.1"),
        dir: text("/home/ann/.rhd/envs/x"),
        running: true,
        pid: Some(77),
        services: 2,
    };
    let listed = api::Listed { node: text("gpu"), service: ServiceAd::from(&service()) };
    let described = api::Described { node: text("gpu"), node_id: text("abc"), service: service() };
    let python = api::PythonPath { python: text("/usr/bin/python3"), path: vec![text("/sdk")] };
    vec![
        Sample::new("answer", "status_beside", api::Status { beside: true, ..status.clone() }),
        Sample::new("answer", "status_web", api::Status { web, ..status.clone() }),
        Sample::new("answer", "status", status),
        Sample::new("answer", "peers", vec![peer]),
        Sample::new("answer", "paths", paths),
        Sample::new("answer", "deployed", deployed),
        Sample::new("answer", "invited", api::Invited { ticket: text("rhd1abc") }),
        Sample::new("answer", "services", vec![listed]),
        Sample::new("answer", "described", described),
        Sample::new("answer", "envs", vec![env]),
        Sample::new("answer", "python", python),
    ]
}

fn calls() -> Vec<Sample> {
    let id = Some(id());
    let verbs = vec![Verb::Call, Verb::New, Verb::Get, Verb::Set, Verb::Drop, Verb::Load];
    let reply = |name, reply: Reply| Sample::new("reply", name, reply);
    let parts = vec![1, 1 << 20];
    vec![
        Sample::new("call", "full", full_call()),
        Sample::new("call", "plain", plain_call()),
        Sample::new("call", "large", large_call()),
        Sample::new("call", "verbs", verbs),
        Sample::new("call", "codecs", vec![Codec::Pickle, Codec::Msgpack, Codec::Json]),
        reply("log", Reply::Log { id, fd: 2 }),
        reply("item", Reply::Item { id, codec: Codec::Json, parts: parts.clone() }),
        reply("progress", Reply::Progress { text: text("building") }),
        reply("done", Reply::Done { id, codec: Codec::Pickle, parts }),
        reply("done_own", Reply::done(9)),
        reply("fail", Reply::Fail { id, error: error() }),
        Sample::new("error", "kinds", {
            use ErrorKind::*;
            vec![
                Remote,
                PeerLost,
                Timeout,
                Cancelled,
                PermissionDenied,
                NotFound,
                Conflict,
                EnvError,
                VersionMismatch,
                QueueFull,
                DaemonUnavailable,
                BadRequest,
                Internal,
            ]
        }),
    ]
}

fn workers() -> Vec<Sample> {
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
        Sample::new("hello", "call", Hello { lane: Lane::Call, ..hello }),
        control("lanes", Control::Lanes { count: 4 }),
        control("call", Control::Call { call: Box::new(plain_call()) }),
        control("cancel", Control::Cancel { id: id() }),
        control("credit", Control::Credit { id: id(), items: 8 }),
        control("ping", Control::Ping { id: id() }),
        Sample::new("load", "import", load()),
        Sample::new("load", "native", Load { roots: vec![], entry: native(), ..load() }),
        Sample::new("loaded", "signatures", Loaded { interface: signed_interface(), class: true }),
        Sample::new("loaded", "native", Loaded { interface: native_interface(), class: false }),
        Sample::new("loaded", "class", Loaded { interface: interface(), class: true }),
    ]
}

fn wires() -> Vec<Sample> {
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

fn members() -> Vec<Sample> {
    let signed = Signed::new(&record(), &SigningKey::from_bytes(&[2; 32])).unwrap();
    assert_eq!(signed.open(), Ok(record()));
    assert_eq!(cert().verify(cert().body.realm), Ok(()));
    vec![
        Sample::new("cert", "member", cert()),
        Sample::new("record", "full", record()),
        Sample::new("record", "beside", Record { beside: true, ..record() }),
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
fn sparse() -> Vec<Sample> {
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

/// All of them.
pub(crate) fn samples() -> Vec<Sample> {
    [
        requests(),
        run_requests(),
        computing(),
        answers(),
        calls(),
        workers(),
        wires(),
        members(),
        sparse(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
