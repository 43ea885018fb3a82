//! What clients ask the daemon, and what it answers.

use rhd_protocol::{
    api::{self, DeployRequest, LocalRoot, PathKind, Request},
    code::Entry,
    compute::Offer,
    env::EnvSpec,
    many::Order,
    membership::Role,
    service::{ServiceAd, ServiceKind},
};

use super::{Sample, calls::full_call, values::*};

pub(super) fn requests() -> Vec<Sample> {
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
        Sample::new("order", "call", Order::Call { call: Box::new(full_call()) }),
        Sample::new("order", "cancel", Order::Cancel { id: id() }),
        Sample::new("order", "credit", Order::Credit { id: id(), items: 8 }),
        request("python", Request::Python { v }),
        request("shutdown", Request::Shutdown { v }),
    ]
}

pub(super) fn answers() -> Vec<Sample> {
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
        gone: false,
    };
    let gone = api::Peer { path: PathKind::None, gone: true, ..peer.clone() };
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
        Sample::new("answer", "peers_gone", vec![gone]),
        Sample::new("answer", "paths", paths),
        Sample::new("answer", "deployed", deployed),
        Sample::new("answer", "invited", api::Invited { ticket: text("rhd1abc") }),
        Sample::new("answer", "services", vec![listed]),
        Sample::new("answer", "described", described),
        Sample::new("answer", "envs", vec![env]),
        Sample::new("answer", "python", python),
    ]
}
