//! The host's side of a deployment: take the files, build the env, load the code, host the name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rhd_protocol::{
    api::Deployed,
    call::{Call, Reply, Verb},
    code::{Entry, Load},
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY},
    id::{CallId, Hash},
    name::Name,
    service::{Service, ServiceKind},
    wire::{Deploy, Deployment, Manifest, Want},
    worker::Loaded,
};

use super::{
    Answer, Inner, Outbox, Replies, capacity, peer, program,
    replies::{Failed, fail_frame},
};
use crate::{
    blobs::Lease,
    framed::{self, Frame, FramedError},
    mesh::Stream,
    naming::Hosted,
    workers::{Invocation, LoadUnit},
};

/// Project folders that one deployment may bring.
const MAX_ROOTS: usize = 16;

/// One lock per name: two deployments of one name follow each other.
#[derive(Default)]
pub(super) struct Locks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Locks {
    fn of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody holds or waits for a lock that only the map refers to.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(name.into()).or_default().clone()
    }
}

/// A deployment with all its files here.
pub(super) struct Arrived {
    pub(super) id: CallId,
    pub(super) deployment: Deployment,
    pub(super) entry: Bytes,
    /// Keeps the files until the worker has them.
    pub(super) _lease: Lease,
}

/// Serves the deployment that a peer opened `stream` for.
pub(super) async fn serve(inner: Arc<Inner>, mut stream: Stream) -> Result<(), FramedError> {
    match receive(&inner, &mut stream).await {
        Ok(arrived) => {
            let replies = Replies::from_task(move |out| async move {
                let deployed = install(&inner, arrived, &out).await?;
                Answer::of(&deployed).map_err(Failed::from)
            });
            peer::pump(replies, stream).await;
            Ok(())
        }
        Err(error) => {
            let error = error.on(&inner.mesh.name());
            framed::write(&mut stream.send, &fail_frame(error)?).await.map_err(Into::into)
        }
    }
}

async fn receive(inner: &Inner, stream: &mut Stream) -> Result<Arrived, ErrorInfo> {
    let broken = |e: &dyn std::fmt::Display| {
        ErrorInfo::new(ErrorKind::PeerLost, format!("deployment was cut off: {e}"))
            .hint("nothing was changed; send it again")
    };
    inner.open_for_work()?;
    peer::may_change(inner, stream.peer)?;
    let head = peer::first_head(stream, MAX_BODY)
        .await
        .map_err(|e| broken(&e))?
        .ok_or_else(|| broken(&"no first frame"))?;
    let bad = |e: frame::FrameError| peer::bad_request(inner, &e);
    let Deploy::Open { v, id, parts } = head.header::<Deploy>().map_err(bad)? else {
        return Err(ErrorInfo::new(ErrorKind::BadRequest, "deployment starts with a file"));
    };
    peer::check_version(v, inner)?;
    let body = inner.intake.read(head.body, &mut stream.recv).await?;
    let split = parts.first().map_or(0, |n| usize::try_from(*n).unwrap_or(usize::MAX));
    if split > body.len() {
        return Err(ErrorInfo::new(ErrorKind::BadRequest, "deployment is shorter than it says"));
    }
    let deployment: Deployment = frame::decode(&body[..split]).map_err(bad)?;
    check(&deployment)?;
    program::check(inner, &deployment)?;
    let manifests: Vec<&Manifest> = deployment.roots.iter().map(|r| &r.manifest).collect();
    let lease = inner.blobs.lease().await;
    let want = inner.blobs.missing(manifests).await?;
    let hashes: Vec<Hash> = want.iter().map(|(hash, _)| *hash).collect();
    let wanted = frame::to_vec(&hashes).map_err(bad)?;
    framed::send(&mut stream.send, &Want { count: want.len() }, wanted)
        .await
        .map_err(|e| broken(&e))?;
    inner.blobs.receive_files(want, &mut stream.recv).await?;
    // A copy: it is kept as long as the service, and the room that `body` takes is not.
    let entry = Bytes::copy_from_slice(&body[split..]);
    Ok(Arrived { id, deployment, entry, _lease: lease })
}

fn check(deployment: &Deployment) -> Result<(), ErrorInfo> {
    let bad = |message: &str| Err(ErrorInfo::new(ErrorKind::BadRequest, message));
    if !matches!(Name::parse(&deployment.name), Ok(Name::Full(_))) {
        return bad("deployment without a full name");
    }
    if deployment.roots.len() > MAX_ROOTS {
        return bad("deployment of too many project folders");
    }
    if !deployment.roots.iter().all(|root| {
        root.manifest.is_safe()
            && root.sys_path.len() <= MAX_ROOTS
            && root.sys_path.iter().all(|p| p.is_empty() || rhd_protocol::wire::safe_path(p))
    }) {
        return bad("deployment with paths out of its folders");
    }
    Ok(())
}

/// Builds, loads and hosts. `out` gets progress and the output of the import.
pub(super) async fn install(
    inner: &Arc<Inner>,
    arrived: Arrived,
    out: &Outbox,
) -> Result<Deployed, Failed> {
    let (id, here) = (arrived.id, inner.mesh.name());
    let installed = install_inner(inner, arrived, out).await;
    capacity::announce(inner);
    installed.map_err(|e| e.map(|e| e.on(&here).call(id)))
}

async fn install_inner(
    inner: &Arc<Inner>,
    arrived: Arrived,
    out: &Outbox,
) -> Result<Deployed, Failed> {
    let Arrived { id, deployment, entry, _lease } = arrived;
    check_env(&deployment.env)?;
    let native = program::check(inner, &deployment)?;
    let _reserved = inner.capacity.reserve(inner, &deployment.env)?;
    let lock = inner.installs.of(&deployment.name);
    let _turn = lock.lock().await;
    let version = version_of(&deployment, &entry);
    if native {
        program::provide(inner, &deployment).await?;
    }
    let before = inner.naming.registry().get(&deployment.name);
    if let Some(same) = before.filter(|h| h.service.version == version && h.unit.is_some()) {
        out.telling(|lines| inner.workers.ensure(&deployment.env, lines)).await?;
        let newer_elsewhere = inner.naming.next_generation(&deployment.name)
            > same.service.generation.saturating_add(1);
        if !newer_elsewhere {
            return Ok(deployed(inner, &same.service));
        }
        // The same code as before, but the last word: calls come here again.
        let mut again = Hosted::clone(&same);
        again.service.generation = deployment.generation;
        let hosted = inner.naming.registry().put(again).map_err(ErrorInfo::from)?;
        return Ok(deployed(inner, &hosted.service));
    }
    let env = out.telling(|lines| inner.workers.ensure(&deployment.env, lines)).await?;
    if let Entry::Value { python } = &deployment.entry {
        check_python(inner, &env.key, python)?;
    }
    let mut roots = Vec::new();
    // A program is started from its env's own folder, and loads no code.
    for offer in deployment.roots.iter().filter(|_| !native) {
        roots.push(inner.blobs.code_root(offer).await?);
    }
    let load = Load { roots, entry: deployment.entry.clone(), version };
    let unit = Arc::new(LoadUnit { service: deployment.name.clone(), load, body: entry });
    let loaded = load_code(inner, id, &env.key, &unit, out).await?;
    let service = Service {
        name: deployment.name.clone(),
        kind: if loaded.class { ServiceKind::Class } else { ServiceKind::Function },
        env: env.key,
        version,
        generation: deployment.generation,
        class: None,
        interface: loaded.interface,
    };
    let hosted = Hosted {
        service,
        env: deployment.env,
        unit: Some(unit),
        made_from: None,
        incarnation: None,
    };
    let hosted = inner.naming.registry().put(hosted).map_err(ErrorInfo::from)?;
    Ok(deployed(inner, &hosted.service))
}

/// Runs the import in the env's worker, as a call of its own.
async fn load_code(
    inner: &Inner,
    id: CallId,
    env: &str,
    unit: &Arc<LoadUnit>,
    out: &Outbox,
) -> Result<Loaded, Failed> {
    let call = Call {
        verb: Verb::Load,
        parts: vec![unit.body.len() as u64],
        logs: true,
        caller: inner.mesh.name(),
        load: Some(unit.load.clone()),
        ..Call::new(id, unit.service.clone())
    };
    let invocation = Invocation {
        held: None,
        call,
        body: unit.body.clone().into(),
        unit: None,
        incarnation: None,
        on_loop: false,
        stateless: false,
        yields: false,
    };
    let mut replies = inner.workers.call(env, invocation).await?;
    while let Some(frame) = replies.next().await {
        match frame.header::<Reply>() {
            Ok(Reply::Done { .. }) => {
                return frame::decode(&frame.body).map_err(|e| {
                    ErrorInfo::new(ErrorKind::Internal, format!("worker's answer to a load: {e}"))
                        .into()
                });
            }
            Ok(Reply::Fail { error, .. }) => return Err(Failed { error, body: frame.body }),
            Ok(_) => out.frame(Ok::<Frame, frame::FrameError>(frame)).await,
            Err(e) => {
                return Err(
                    ErrorInfo::new(ErrorKind::Internal, format!("worker's reply: {e}")).into()
                );
            }
        }
    }
    Err(ErrorInfo::new(ErrorKind::Internal, "worker ended a load without an answer").into())
}

/// Refuses specs that are too large, or that would change what others share.
pub(super) fn check_env(spec: &EnvSpec) -> Result<(), ErrorInfo> {
    spec.check().map_err(|e| {
        ErrorInfo::new(ErrorKind::BadRequest, e.to_string())
            .hint("give it another name: rh.env(name=\"…\", reqs=[…])")
    })
}

fn check_python(inner: &Inner, env: &str, theirs: &str) -> Result<(), ErrorInfo> {
    let ours = inner.workers.python_minor(env).unwrap_or_default();
    if ours == theirs {
        return Ok(());
    }
    Err(ErrorInfo::new(
        ErrorKind::VersionMismatch,
        format!("code by value from Python {theirs} can't run in env {env}, which has Python {ours}"),
    )
    .hint(format!(
        "give it that Python: env=rh.env(python=\"{theirs}\"); or move the function from the script \
         or notebook into a module, which goes as source; nothing ran"
    )))
}

fn version_of(deployment: &Deployment, entry: &[u8]) -> Hash {
    let mut hasher = blake3_fields();
    for root in &deployment.roots {
        hasher.update(root.manifest.hash().as_bytes());
        hasher.update(root.sys_path.join("\n").as_bytes());
        hasher.update(&[0]);
    }
    hasher.update(&frame::to_vec(&deployment.entry).unwrap_or_default());
    hasher.update(&frame::to_vec(&deployment.env).unwrap_or_default());
    hasher.update(entry);
    Hash::from_bytes(*hasher.finalize().as_bytes())
}

fn blake3_fields() -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"rhd service 1");
    hasher
}

fn deployed(inner: &Inner, service: &Service) -> Deployed {
    Deployed {
        name: service.name.clone(),
        kind: service.kind,
        node: inner.mesh.name(),
        node_id: inner.mesh.me().to_string(),
        env: service.env.clone(),
        version: service.version.to_string(),
        interface: service.interface.clone(),
        files_sent: 0,
        bytes_sent: 0,
    }
}

/// The most that a deployment's first frame may carry besides files.
pub(super) const MAX_ENTRY: usize = MAX_BODY / 2;
