//! Calls: run here, or sent to the peer that hosts the target; deployments likewise.
//!
//! ```text
//! client --api--> route --+--> host ----> a worker's lane
//!                         +--> remote --> mesh --> serve (on the peer) --> host
//! ```
//!
//! A call is started at most once: nothing in this room sends one a second time.

mod asking;
mod capacity;
mod copies;
mod deploy;
mod devices;
mod host;
mod install;
mod intake;
mod orphans;
mod outbox;
mod owed;
mod parts;
mod peer;
mod program;
mod questions;
mod remote;
mod replies;
mod serve;
mod spool;
mod watched;

use std::sync::Arc;

use bytes::Bytes;
use rhd_protocol::{
    api::Request,
    call::{Call, Verb},
    compute::Offer,
    error::ErrorInfo,
    id::{Hash, NodeId},
    machine::routing::Wish,
    service::{ServiceAd, ServiceKind},
    wire,
};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use outbox::Outbox;
pub use replies::{Answer, Failed, Replies};
pub use spool::SpoolConfig;

use crate::{
    asked::Asker,
    blobs::Blobs,
    folders::Folders,
    framed::Body,
    mesh::{Mesh, Priority, Stream},
    naming::{Naming, Route},
    runs::Runs,
    telemetry::{Stage, Telemetry},
    workers::Workers,
};

/// Cloneable handle to everything that runs or routes calls.
#[derive(Clone)]
pub struct Calls {
    inner: Arc<Inner>,
}

/// What this machine has for calls.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What envs may take of it.
    pub offer: Offer,
    /// Where large payloads go.
    pub spool: SpoolConfig,
}

/// Handles to the rooms that calls go through.
pub struct Rooms {
    /// Which node hosts a name.
    pub naming: Naming,
    /// What runs them.
    pub workers: Workers,
    /// What takes them to peers.
    pub mesh: Mesh,
    /// What deployments are made of.
    pub blobs: Blobs,
    /// What is kept of them.
    pub runs: Runs,
    /// What takes what is kept to those who called.
    pub folders: Folders,
    /// What counts and traces them.
    pub telemetry: Telemetry,
}

struct Inner {
    naming: Naming,
    workers: Workers,
    mesh: Mesh,
    blobs: Blobs,
    runs: Runs,
    folders: Folders,
    /// Held while the copy of a record comes.
    copying: Semaphore,
    /// Asks other nodes about themselves and their runs.
    asker: Asker,
    installs: install::Locks,
    intake: intake::Intake,
    /// Parts of calls that peers were sent, and that peers sent.
    sent: parts::Sent,
    kept: parts::Kept,
    arriving: parts::Arriving,
    capacity: capacity::Capacity,
    devices: devices::Devices,
    /// Set when the node drains: nothing new is taken.
    closing: CancellationToken,
    tasks: TaskTracker,
    telemetry: Telemetry,
}

impl Calls {
    /// Puts the room together; [`serve`](Self::serve) opens it to peers.
    pub fn new(
        rooms: Rooms,
        machine: Machine,
        closing: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let Rooms { naming, workers, mesh, blobs, runs, folders, telemetry } = rooms;
        let asker = Asker::new(mesh.clone(), naming.clone(), wire::ADMIN);
        let intake = intake::Intake::of_this_machine(machine.spool);
        let (installs, capacity) =
            (install::Locks::default(), capacity::Capacity::new(machine.offer));
        let inner = Inner {
            naming,
            workers,
            mesh,
            blobs,
            runs,
            folders,
            copying: Semaphore::new(copies::COMING),
            asker,
            installs,
            intake,
            sent: parts::Sent::default(),
            kept: parts::Kept::of_this_machine(),
            arriving: parts::Arriving::default(),
            capacity,
            devices: devices::Devices::default(),
            closing,
            tasks,
            telemetry,
        };
        devices::confine(&inner);
        capacity::announce(&inner);
        Self { inner: Arc::new(inner) }
    }

    /// Takes calls, deployments and questions from peers until the node closes.
    pub fn serve(&self) {
        serve::start(self);
        copies::start(&self.inner);
        tokio::spawn(host::forget_with_workers(self.inner.clone()));
    }

    /// Runs `call` wherever its target is.
    pub fn call(&self, mut call: Call, body: impl Into<Body>) -> Replies {
        let (inner, body, beside) = (self.inner.clone(), body.into(), call.beside);
        let watch = inner.telemetry.watch(Stage::Call, &mut call);
        Replies::starting(async move {
            let id = call.id;
            inner.route(call, body).await.map_err(|error| error.call(id))
        })
        .fit(beside)
        .watched(watch)
    }

    /// Puts a function or class on a node; progress and logs come before the final reply.
    pub fn deploy(&self, request: rhd_protocol::api::DeployRequest, body: Bytes) -> Replies {
        let inner = self.inner.clone();
        Replies::from_task(move |out| async move {
            let deployed = deploy::run(&inner, request, body, &out).await?;
            Answer::of(&deployed).map_err(Failed::from)
        })
    }

    /// Answers a question about this node or another, such as which envs it has.
    pub fn ask(&self, request: Request) -> Replies {
        let inner = self.inner.clone();
        Replies::from_task(move |out| async move { questions::ask(&inner, request, &out).await })
    }

    /// Answers a question about runs, of this node or of others.
    pub fn ask_runs(&self, request: Request) -> Replies {
        let inner = self.inner.clone();
        Replies::starting(async move { asking::ask(&inner, request).await })
    }

    /// What this node has to give, and what of it is free.
    pub fn offer(&self) -> Offer {
        self.inner.capacity.now(&self.inner)
    }

    /// Calls that run or wait here.
    pub fn load(&self) -> u32 {
        *self.inner.workers.load().borrow()
    }
}

impl Inner {
    /// Sends a call to a peer, and notes the instance that it builds there or drops.
    async fn send(
        self: &Arc<Self>,
        stream: Stream,
        call: Call,
        body: Body,
        known: parts::Known,
    ) -> Result<Replies, ErrorInfo> {
        let (inner, peer) = (self.clone(), stream.peer);
        let built = call.instance.clone().filter(|_| call.verb == Verb::New);
        let dropped = Some(call.service.clone()).filter(|_| call.verb == Verb::Drop);
        if let Some(run) = &call.run {
            inner.runs.expect(call.id, peer, &run.name);
        }
        let replies = Replies::remote(remote::call(&inner, stream, call, body, known).await?);
        Ok(match built.clone().or(dropped) {
            Some(name) => replies.on_success(move || {
                let generation = inner.naming.next_generation(&name);
                let ad = built.map(|name| ServiceAd {
                    name,
                    kind: ServiceKind::Instance,
                    env: String::new(),
                    version: Hash::of(&[]),
                    generation,
                });
                inner.naming.note(peer, &name, ad);
                Ok(())
            }),
            None => replies,
        })
    }

    async fn route(self: Arc<Self>, mut call: Call, body: Body) -> Result<Replies, ErrorInfo> {
        let inner = &self;
        inner.open_for_work()?;
        inner.intake.check_len(body.len())?;
        // The client may not take payloads beside frames; this node does.
        call.beside = true;
        call.again = Vec::new();
        call.service = inner.naming.canonical(&call.service)?;
        if let Some(instance) = &call.instance {
            call.instance = Some(inner.naming.canonical(instance)?);
        }
        call.caller = inner.mesh.name();
        let mut key = None;
        if let Some(run) = call.run.as_mut().filter(|run| !run.name.is_empty()) {
            run.name = asking::run_name(inner, &run.name)?;
            key = run.get.then(|| Hash::of(run.name.as_bytes()));
        }
        if key.is_some()
            && let Some(replies) = asking::before(inner, &call).await?
        {
            return Ok(replies);
        }
        let node = call.node.take();
        let mut wish = Wish { key, ..Wish::default() };
        loop {
            match inner.naming.resolve(&call.service, node.as_deref(), &wish)? {
                Route::Here => return host::call(inner, inner.mesh.me(), call, body).await,
                Route::Peer(peer) => {
                    // Before there is a stream: who has one speaks at once.
                    let known = remote::known(inner, peer, &call, &body).await;
                    let opened = remote::open(inner, peer, wire::CALL, Priority::Call).await;
                    match opened {
                        Ok(stream) => return inner.send(stream, call, body, known).await,
                        // Nothing was sent: another host may have it.
                        Err(_) if node.is_none() => wish.unreachable.push(peer),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    fn open_for_work(&self) -> Result<(), ErrorInfo> {
        if self.closing.is_cancelled() {
            return Err(replies::closing(&self.mesh.name()));
        }
        Ok(())
    }

    fn name_of(&self, node: NodeId) -> String {
        self.naming.node_name(node)
    }
}
