//! The data plane against a member that is wrong, newer, or hostile.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use rhd::{
    framed::{self, Frame},
    mesh::{Config, Mesh, MeshTasks, Priority, Stream},
};
use rhd_protocol::{
    VERSION,
    api::Request,
    call::Reply,
    code::Entry,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    folder::Place,
    frame::{self, MAX_BODY, MAX_HEADER, PREFIX},
    id::{CallId, Hash, NodeId},
    run::RunAsk,
    wire::{self, Deploy, Deployment, FileEntry, Manifest, RootOffer, Want},
};
use rhd_tests::{Node, until};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
    time::timeout,
};

use crate::runs::{Traces, deploy, start};

const PROTOCOLS: [&str; 4] = [wire::CALL, wire::DEPLOY, wire::ADMIN, wire::PRESENCE];
const HANGS: Duration = Duration::from_secs(60);

/// A member of the host's realm that writes what it likes.
struct Rogue {
    runtime: Runtime,
    host: NodeId,
    mesh: Mesh,
    tasks: MeshTasks,
    _home: TempDir,
}

impl Rogue {
    fn join(host: &Node) -> Self {
        Self::join_as(host, "member")
    }

    fn join_as(host: &Node, role: &str) -> Self {
        let ticket = host.rhd(&["invite", "--role", role]).ok().trim().to_owned();
        let id = host.status().id.parse().unwrap();
        let runtime = Runtime::new().unwrap();
        let home = tempfile::tempdir().unwrap();
        let config = Config {
            listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
            mdns: false,
            ..Config::default()
        };
        let (mesh, tasks) = runtime.block_on(async {
            let (mesh, tasks) =
                Mesh::start(home.path(), &format!("rogue-{role}"), config).await.unwrap();
            timeout(HANGS, mesh.join(&ticket, None)).await.unwrap().unwrap();
            (mesh, tasks)
        });
        Self { runtime, host: id, mesh, tasks, _home: home }
    }

    /// Runs what must not hang.
    fn soon<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { timeout(HANGS, work).await })
            .unwrap_or_else(|_| panic!("{what} hangs"))
    }

    fn open(&self, proto: &'static str) -> Stream {
        self.soon(proto, self.mesh.open(self.host, proto, Priority::Call)).unwrap()
    }

    /// Writes bytes, says that no more come, and waits until the host is through with them.
    fn send(&self, proto: &'static str, bytes: &[u8]) {
        let mut stream = self.open(proto);
        self.soon(&format!("{proto} on {bytes:?}"), async {
            // The host may hang up in the middle, as it should; but it must not keep us waiting.
            let _ = stream.send.write_all(bytes).await;
            let _ = stream.send.shutdown().await;
            let _ = stream.recv.read_to_end(&mut Vec::new()).await;
        });
    }

    /// Writes bytes.
    fn write(&self, stream: &mut Stream, bytes: &[u8]) {
        self.soon("a write", async {
            stream.send.write_all(bytes).await.unwrap();
            stream.send.flush().await.unwrap();
        });
    }

    /// Reads one frame.
    fn read(&self, stream: &mut Stream) -> Frame {
        self.soon("a read", framed::read(&mut stream.recv, MAX_BODY)).unwrap().unwrap()
    }

    /// Writes one frame and returns the failure that answers it.
    fn failure(&self, proto: &'static str, bytes: &[u8]) -> ErrorInfo {
        let mut stream = self.open(proto);
        self.write(&mut stream, bytes);
        match self.read(&mut stream).header::<Reply>().unwrap() {
            Reply::Fail { error, .. } => error,
            other => panic!("no failure: {other:?}"),
        }
    }

    /// Fails unless the host answers as it answers any member; ends.
    fn end_served(self) {
        let question = Request::Describe { v: VERSION, name: "/ann/nothing".into(), node: None };
        let error = self.failure(wire::ADMIN, &frame::encode(&question, 0).unwrap());
        assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
        self.runtime.block_on(self.tasks.shutdown());
    }
}

fn unharmed(host: &Node) {
    let status = host.status();
    assert_eq!(status.pid, host.pid());
    assert!(status.rss < 512 << 20, "{} bytes resident", status.rss);
}

fn of(header: &serde_json::Value) -> Vec<u8> {
    frame::encode(header, 0).unwrap()
}

#[test]
fn frames_cut_oversized_and_random_do_no_harm() {
    let host = Node::start("host");
    let rogue = Rogue::join(&host);
    let mut whole = frame::encode(&json!({"op": "status", "v": VERSION, "id": "x"}), 5).unwrap();
    whole.extend(b"body!");
    let header = u32::try_from(MAX_HEADER).unwrap();
    let body = u32::try_from(MAX_BODY).unwrap();
    for proto in PROTOCOLS {
        for length in 0..whole.len() {
            rogue.send(proto, &whole[..length]);
        }
        for (h, b) in [(0, 0), (header + 1, 0), (u32::MAX, u32::MAX), (4, body + 1), (4, body)] {
            let bytes = [h.to_be_bytes(), b.to_be_bytes()].concat();
            rogue.send(proto, &[&bytes[..], &[0x80; 64]].concat());
        }
        let mut noise = 0x5eed_u64;
        for round in 0..100usize {
            let mut bytes = vec![0; round * 7];
            for byte in &mut bytes {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = noise.to_be_bytes()[0];
            }
            if round % 2 == 0 && bytes.len() > PREFIX {
                // A frame by its lengths, whatever its header says.
                let length = u32::try_from(bytes.len() - PREFIX).unwrap();
                bytes[..4].copy_from_slice(&length.to_be_bytes());
                bytes[4..PREFIX].fill(0);
            }
            rogue.send(proto, &bytes);
        }
    }
    rogue.end_served();
    unharmed(&host);
}

#[test]
fn what_is_unknown_newer_or_against_the_rules_is_refused_in_words() {
    let host = Node::start("host");
    let rogue = Rogue::join(&host);
    for proto in [wire::CALL, wire::DEPLOY, wire::ADMIN] {
        for header in [json!([1, 2]), json!("status"), json!({"op": "of_no_version", "v": 1})] {
            let error = rogue.failure(proto, &of(&header));
            assert_eq!(error.kind, ErrorKind::BadRequest, "{proto} {header}: {error:?}");
        }
    }
    let newer = VERSION + 1;
    let id = CallId::from_bytes([7; 16]).to_string();
    let call = json!({"v": newer, "id": id, "service": "/a/b", "codec": "json", "parts": [],
        "verb": "call"});
    let open = Deploy::Open { v: newer, id: CallId::from_bytes([7; 16]), parts: vec![] };
    for (proto, bytes) in [
        (wire::CALL, of(&call)),
        (wire::DEPLOY, frame::encode(&open, 0).unwrap()),
        (wire::ADMIN, of(&json!({"op": "envs", "v": newer, "node": null}))),
    ] {
        let error = rogue.failure(proto, &bytes);
        assert_eq!(error.kind, ErrorKind::VersionMismatch, "{proto}: {error:?}");
        assert!(error.hint.contains("upgrade rhd"), "{proto}: {error:?}");
    }
    // What only a node's own clients may ask.
    let error = rogue.failure(wire::ADMIN, &of(&json!({"op": "shutdown", "v": VERSION})));
    assert!(!error.message.is_empty(), "{error:?}");
    rogue.end_served();
    unharmed(&host);
}

/// A deployment of one file, `path`, that claims to hash to `hash`.
fn deployment(path: &str, hash: Hash) -> Vec<u8> {
    let file = FileEntry { size: 4, hash, exec: false, link: None };
    let manifest = Manifest { files: [(path.to_owned(), file)].into() };
    let root = RootOffer { project: "p".into(), sys_path: vec![String::new()], manifest };
    let deployment = Deployment {
        name: "/ann/planted".into(),
        env: EnvSpec::default(),
        roots: vec![root],
        entry: Entry::Import { module: "m".into(), qualname: "f".into() },
        generation: 1,
    };
    let body = frame::to_vec(&deployment).unwrap();
    let id = CallId::from_bytes([7; 16]);
    let open = Deploy::Open { v: VERSION, id, parts: vec![body.len() as u64, 0] };
    [frame::encode(&open, body.len()).unwrap(), body].concat()
}

#[test]
fn files_out_of_place_or_other_than_announced_are_refused() {
    let host = Node::start("host");
    let rogue = Rogue::join(&host);
    for path in ["../m.py", "/etc/m.py", "a/../../m.py", ""] {
        let error = rogue.failure(wire::DEPLOY, &deployment(path, Hash::of(b"evil")));
        assert_eq!(error.kind, ErrorKind::BadRequest, "{path:?}: {error:?}");
    }
    let hash = Hash::of(b"good");
    let mut stream = rogue.open(wire::DEPLOY);
    rogue.write(&mut stream, &deployment("m.py", hash));
    let want: Want = rogue.read(&mut stream).header().unwrap();
    assert_eq!(want.count, 1);
    let file = Deploy::File { hash, last: true };
    rogue.write(&mut stream, &[&frame::encode(&file, 4).unwrap()[..], b"evil"].concat());
    let answer = rogue.read(&mut stream);
    assert!(matches!(answer.header().unwrap(), Reply::Fail { .. }), "{answer:?}");
    assert_eq!(host.rhd(&["ls", "--json"]).json().as_array().unwrap().len(), 0);
    rogue.end_served();
    unharmed(&host);
}

/// Offers a record of a run to the host, as if it had run here.
fn bring(rogue: &Rogue, id: CallId) -> ErrorInfo {
    let ask = RunAsk::Keep { from: Place { node: None, path: "/r".into(), grant: None } };
    let request = Request::Run { v: VERSION, run: id.to_string(), node: None, ask };
    rogue.failure(wire::ADMIN, &frame::encode(&request, 0).unwrap())
}

#[test]
fn a_record_is_taken_only_from_the_node_that_was_asked_to_run() {
    let mesh = rhd_tests::Mesh::of(2);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let asked = start(&mesh[0], "work", &json!([traces.text()]), "asked").unwrap().id;
    for role in ["node", "member"] {
        let rogue = Rogue::join_as(&mesh[0], role);
        let error = bring(&rogue, asked);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{role}: {error:?}");
        // A member may change anything there: it is heard, and has no such folder.
        let error = bring(&rogue, CallId::from_bytes([7; 16]));
        let denied = error.kind == ErrorKind::PermissionDenied;
        assert_eq!(denied, role == "node", "{role}: {error:?}");
        rogue.end_served();
    }
    traces.go();
    let record = mesh[0].home().join("runs/records").join(asked.to_string());
    until("the record comes from where it ran", || record.join("meta").exists().then_some(()));
    unharmed(&mesh[0]);
}
