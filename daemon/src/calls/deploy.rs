//! The deployer's side: read the project, send what the host lacks, wait until it can be called.

use std::sync::Arc;

use bytes::Bytes;
use rhd_protocol::{
    api::{DeployRequest, Deployed},
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY},
    id::{CallId, Hash, NodeId},
    service::ServiceAd,
    wire::{self, Deploy, Deployment, Want},
};

use super::{
    Inner, Outbox, capacity,
    install::{self, Arrived, MAX_ENTRY},
    program, remote,
    replies::Failed,
};
use crate::{
    blobs::{self, Snapshot},
    framed::{self, Frame},
    mesh::{Priority, Stream},
    naming::Route,
};

/// Runs a deployment that a client asked for.
pub(super) async fn run(
    inner: &Arc<Inner>,
    request: DeployRequest,
    entry: Bytes,
    out: &Outbox,
) -> Result<Deployed, Failed> {
    let id = request.id;
    inner.open_for_work()?;
    if entry.len() > MAX_ENTRY {
        return Err(ErrorInfo::new(
            ErrorKind::BadRequest,
            format!("the function carries {} MiB by value", entry.len() >> 20),
        )
        .hint("pass large data as an argument rather than closing over it")
        .call(id)
        .into());
    }
    let routes = match &request.node {
        Some(node) => vec![inner.naming.node(node)?],
        None if request.place && !request.env.compute.is_empty() => {
            install::check_env(&request.env)?;
            capacity::place(inner, &request.env)?
        }
        None => vec![Route::Here],
    };
    let name = inner.naming.canonical(&request.name)?;
    let mut snapshots = Vec::new();
    let mut roots = Vec::new();
    for root in request.roots {
        let snapshot = inner.blobs.snapshot(root, &inner.mesh.me().to_string()).await?;
        for warning in &snapshot.warnings {
            out.progress(format!("not sent: {warning}")).await;
        }
        roots.push(snapshot.offer());
        snapshots.push(snapshot);
    }
    let mut env = request.env;
    if let Some(path) = request.binary {
        let snapshot = program::attach(inner, path, &mut env).await?;
        roots = vec![snapshot.offer()];
        snapshots = vec![snapshot];
    }
    let generation = inner.naming.next_generation(&name);
    let deployment = Deployment { name, env, roots, entry: request.entry, generation };
    let parcel = Parcel { id, deployment, entry, snapshots };
    let last = routes.len().saturating_sub(1);
    for (nth, route) in routes.into_iter().enumerate() {
        match put(inner, route, &parcel, out).await {
            // Somebody else was faster there, or a program is not built for it: what was chosen by its
            // need goes to the next best.
            Err(Failed { error, .. })
                if matches!(error.kind, ErrorKind::QueueFull | ErrorKind::VersionMismatch)
                    && nth < last =>
            {
                out.progress(error.message).await;
            }
            done => return done,
        }
    }
    Err(ErrorInfo::new(ErrorKind::Internal, "no node was chosen").call(id).into())
}

/// What goes to a node.
struct Parcel {
    id: CallId,
    deployment: Deployment,
    entry: Bytes,
    snapshots: Vec<Snapshot>,
}

/// Puts a deployment on one node.
async fn put(
    inner: &Arc<Inner>,
    route: Route,
    parcel: &Parcel,
    out: &Outbox,
) -> Result<Deployed, Failed> {
    let Parcel { id, deployment, entry, snapshots } = parcel;
    match route {
        Route::Here => {
            let lease = inner.blobs.lease().await;
            let want = inner.blobs.missing(snapshots.iter().map(|s| &s.manifest)).await?;
            let sent = inner.blobs.import(snapshots.clone(), want).await?;
            let (deployment, entry) = (deployment.clone(), entry.clone());
            let arrived = Arrived { id: *id, deployment, entry, _lease: lease };
            let deployed = install::install(inner, arrived, out).await?;
            Ok(Deployed { files_sent: sent.files, bytes_sent: sent.bytes, ..deployed })
        }
        Route::Peer(peer) => {
            let deployed =
                send(inner, peer, parcel, out).await.map_err(|e| e.map(|e| e.call(*id)))?;
            let ad = ServiceAd {
                name: deployed.name.clone(),
                kind: deployed.kind,
                env: deployed.env.clone(),
                version: deployed.version.parse().unwrap_or_else(|_| Hash::of(&[])),
                generation: deployment.generation,
            };
            inner.naming.note(peer, &deployed.name, Some(ad));
            Ok(deployed)
        }
    }
}

async fn send(
    inner: &Inner,
    peer: NodeId,
    parcel: &Parcel,
    out: &Outbox,
) -> Result<Deployed, Failed> {
    let Parcel { id, deployment, entry, snapshots } = parcel;
    let node = inner.name_of(peer);
    let lost = |e: &dyn std::fmt::Display| {
        ErrorInfo::new(
            ErrorKind::PeerLost,
            format!("node {node} was lost during the deployment: {e}"),
        )
        .hint("send it again: what has arrived is not sent twice")
        .on(&node)
    };
    let mut stream = remote::open(inner, peer, wire::DEPLOY, Priority::Sync).await?;
    let head = frame::to_vec(deployment).map_err(|e| lost(&e))?;
    let parts = vec![head.len() as u64, entry.len() as u64];
    let open = Deploy::Open { v: rhd_protocol::VERSION, id: *id, parts };
    framed::send(&mut stream.send, &open, [&head[..], &entry[..]].concat())
        .await
        .map_err(|e| lost(&e))?;
    let Some(want) = next(&mut stream).await.map_err(|e| lost(&e))? else {
        return Err(lost(&"no answer").into());
    };
    // A host that refuses answers with a failure in place of its wants.
    if let Ok(Reply::Fail { error, .. }) = want.header::<Reply>() {
        return Err(error.on(&node).into());
    }
    want.header::<Want>().map_err(|e| lost(&e))?;
    let want: Vec<Hash> = frame::decode(&want.body).map_err(|e| lost(&e))?;
    if !want.is_empty() {
        let files = if want.len() == 1 { "file" } else { "files" };
        out.progress(format!("sending {} {files} to {node}", want.len())).await;
    }
    let sent = blobs::send_files(snapshots, &want, &mut stream.send)
        .await
        .map_err(|e| ErrorInfo::from(e).on(&node))?;
    while let Some(frame) = next(&mut stream).await.map_err(|e| lost(&e))? {
        match frame.header::<Reply>().map_err(|e| lost(&e))? {
            Reply::Done { .. } => {
                let deployed: Deployed = frame::decode(&frame.body).map_err(|e| lost(&e))?;
                return Ok(Deployed { files_sent: sent.files, bytes_sent: sent.bytes, ..deployed });
            }
            Reply::Fail { error, .. } => {
                return Err(Failed { error: error.on(&node), body: frame.body });
            }
            _ => out.frame(Ok(frame)).await,
        }
    }
    Err(lost(&"the stream ended before the answer").into())
}

async fn next(stream: &mut Stream) -> Result<Option<Frame>, framed::FramedError> {
    framed::read(&mut stream.recv, MAX_BODY).await
}
