//! Running a call on this node: from a service's name to a worker's lane.

use std::sync::Arc;

use rhd_protocol::{
    call::{Call, Verb},
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    id::{CallId, NodeId},
    name::Name,
    run::RunInfo,
    service::{Flavor, Service, ServiceKind},
};
use tokio::sync::oneshot;

use super::{
    Inner, Replies, asking, capacity,
    replies::{Awaited, Wanted},
};
use crate::{
    framed::Body,
    naming::Hosted,
    runs::{self, Admitted, Attached, Recorded},
    telemetry::Stage,
    workers::Invocation,
};

/// A call under way on this node.
pub(super) async fn call(
    inner: &Arc<Inner>,
    from: NodeId,
    call: Call,
    body: Body,
) -> Result<Replies, ErrorInfo> {
    let id = call.id;
    start(inner, from, call, body).await.map_err(|e| e.on(&inner.mesh.name()).call(id))
}

async fn start(
    inner: &Arc<Inner>,
    from: NodeId,
    mut call: Call,
    body: Body,
) -> Result<Replies, ErrorInfo> {
    let hosted = admit(inner, &call)?;
    // Only a deployment loads code, and it doesn't come this way.
    call.load = None;
    // Whatever the caller takes, this node does; but a result that is kept is kept as one piece.
    call.beside = call.run.is_none() && !call.keep;
    // A caller is a node: one node can't crowd out another by opening more connections.
    call.caller = inner.name_of(from);
    if call.run.is_some() || call.keep {
        return record(inner, from, hosted, call, body).await;
    }
    let admitted = inner.runs.admit(&call, from)?;
    execute(inner, admitted, hosted, call, body).await
}

/// Starts a call that leaves a record. It belongs to a task of its own, which ends with it; its
/// caller is only the first who reads along.
async fn record(
    inner: &Arc<Inner>,
    from: NodeId,
    hosted: Arc<Hosted>,
    mut call: Call,
    body: Body,
) -> Result<Replies, ErrorInfo> {
    // Arguments are kept with the record.
    let body = body.inline(MAX_BODY).await.map_err(|e| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("the arguments can't be kept: {e}"))
            .hint("call it without a record, or pass large data as a file")
    })?;
    let detach = call.run.as_ref().is_some_and(|run| run.detach);
    let (logs, keep, timeout_ms) = (call.logs, call.keep || detach, call.timeout_ms);
    call.logs = true;
    let (tx, rx) = oneshot::channel();
    let owner = inner.clone();
    inner.tasks.spawn(async move {
        let recording = match owner.runs.record(&call, &body, from).await {
            Ok(Recorded::Now(recording)) => recording,
            Ok(Recorded::Before(info)) => return drop(tx.send(Ok(Begun::Before(info)))),
            Err(error) => return drop(tx.send(Err(error))),
        };
        let admitted = recording.admitted().clone();
        let begun = match detach {
            true => Ok(Begun::Detached(recording.info().clone())),
            false => owner.runs.replies(&recording, logs).map(|attached| {
                Begun::Attached(attached, (!keep).then(|| Wanted::new(admitted.clone())))
            }),
        };
        // Dropped unread, it cancels what nobody waits for.
        drop(tx.send(begun));
        let source =
            Replies::starting(
                async move { execute(&owner, admitted, hosted, call, body.into()).await },
            );
        recording.pump(source).await;
    });
    let broken = |_| ErrorInfo::new(ErrorKind::Internal, "the run broke off inside the daemon");
    match rx.await.map_err(broken)?? {
        Begun::Attached(attached, wanted) => Ok(Replies::run(attached, wanted)),
        Begun::Before(info) if !detach => {
            let ask = asking::instead(&info, logs, timeout_ms);
            Ok(Replies::run(inner.runs.attach(info.id, ask).await?, None))
        }
        Begun::Before(info) | Begun::Detached(info) => Ok(Replies::one(runs::reply(&info)?)),
    }
}

/// What a caller gets of a run.
enum Begun {
    /// Its replies; the run ends with them, where nobody else wants it.
    Attached(Attached, Option<Wanted>),
    /// What it is.
    Detached(RunInfo),
    /// Another of its name, which answers in its place.
    Before(RunInfo),
}

/// Runs a call that the journal has.
async fn execute(
    inner: &Arc<Inner>,
    admitted: Arc<Admitted>,
    hosted: Arc<Hosted>,
    mut call: Call,
    body: Body,
) -> Result<Replies, ErrorInfo> {
    let mut watch = inner.telemetry.watch(Stage::Execute, &mut call);
    let flavor = flavor(&hosted.service, &call);
    let yields = matches!(flavor, Flavor::Generator | Flavor::AsyncGenerator);
    let on_loop = flavor.is_async();
    let (new, drop_it) = (call.verb == Verb::New, call.verb == Verb::Drop);
    let name = call.service.clone();
    let instance = call.instance.clone();
    let invocation = Invocation {
        unit: hosted.unit.clone(),
        incarnation: hosted.incarnation,
        on_loop,
        stateless: hosted.service.kind == ServiceKind::Function,
        yields,
        held: Some(Box::new(admitted.running())),
        call,
        body,
    };
    let awaited = Awaited(admitted);
    let stream = tokio::select! {
        biased;
        stream = inner.workers.call(&hosted.service.env, invocation) => stream,
        () = awaited.0.cancelled() => Err(awaited.0.cancellation()),
    };
    if drop_it {
        let _ = inner.naming.registry().remove(&name);
        capacity::announce(inner);
    }
    let stream = stream.inspect_err(|error| {
        awaited.0.refused(error);
        watch.end(Some(error.kind));
    })?;
    let incarnation = stream.incarnation;
    let replies = Replies::local(stream, awaited, yields, hosted.clone()).watched(watch);
    Ok(match instance.filter(|_| new) {
        // Hosted before its builder hears of it, so that the builder's next call finds it.
        Some(instance) => {
            let inner = inner.clone();
            replies.on_success(move || host_instance(&inner, &hosted, instance, incarnation))
        }
        None => replies,
    })
}

/// The service, if the call is one that it can serve: what can be said before there is a body.
pub(super) fn admit(inner: &Inner, call: &Call) -> Result<Arc<Hosted>, ErrorInfo> {
    inner.open_for_work()?;
    let hosted = inner.naming.registry().get(&call.service).ok_or_else(|| lost(inner, call))?;
    check_verb(hosted.service.kind, call)?;
    Ok(hosted)
}

/// Drops an instance in its worker; when the worker is gone, so is the instance.
pub(super) async fn drop_instance(inner: &Arc<Inner>, name: &str) {
    let call = Call { verb: Verb::Drop, ..Call::new(CallId::from_bytes(rand::random()), name) };
    if let Ok(mut replies) = self::call(inner, inner.mesh.me(), call, Body::default()).await {
        while replies.next().await.is_some() {}
    }
}

fn host_instance(
    inner: &Inner,
    class: &Hosted,
    name: String,
    incarnation: u64,
) -> Result<(), ErrorInfo> {
    let mut service = class.service.clone();
    service.kind = ServiceKind::Instance;
    service.class = Some(class.service.name.clone());
    service.generation = inner.naming.next_generation(&name);
    service.name = name;
    let hosted = Hosted {
        service,
        env: class.env.clone(),
        unit: None,
        made_from: class.unit.clone(),
        incarnation: Some(incarnation),
    };
    inner
        .naming
        .registry()
        .put_instance(hosted)
        .map_err(|error| ErrorInfo::from(error).on(&inner.mesh.name()))?;
    // The worker may have ended before the name was there to be forgotten.
    if !inner.workers.holds(&class.service.env, incarnation) {
        forget_lost(inner);
    }
    Ok(())
}

/// Takes instances off their names as the workers that hold them end, until the node closes.
pub(super) async fn forget_with_workers(inner: Arc<Inner>) {
    let mut lost = inner.workers.lost();
    while lost.changed().await.is_ok() {
        forget_lost(&inner);
    }
}

fn forget_lost(inner: &Inner) {
    let gone = inner.naming.registry().forget_lost(|env, i| inner.workers.holds(env, i));
    if !gone.is_empty() {
        tracing::info!(count = gone.len(), "instances ended with their worker");
        capacity::announce(inner);
    }
}

fn check_verb(kind: ServiceKind, call: &Call) -> Result<(), ErrorInfo> {
    let fits = match (kind, call.verb) {
        (_, Verb::Load) => false,
        (ServiceKind::Function, verb) => verb == Verb::Call && call.method.is_none(),
        (ServiceKind::Class, Verb::New) => {
            call.instance.as_deref().is_some_and(|n| matches!(Name::parse(n), Ok(Name::Full(_))))
        }
        (ServiceKind::Class, verb) => {
            matches!(verb, Verb::Call | Verb::Get) && call.method.is_some()
        }
        (ServiceKind::Instance, Verb::New) => false,
        (ServiceKind::Instance, Verb::Drop) => true,
        // The whole instance may be fetched, one attribute likewise.
        (ServiceKind::Instance, verb) => call.method.is_some() || verb == Verb::Get,
    };
    if fits {
        return Ok(());
    }
    let (what, hint) = match kind {
        ServiceKind::Function => ("a function", "call it without a method"),
        ServiceKind::Class => {
            ("a class", "call it to build an instance, then call a method of that")
        }
        ServiceKind::Instance => ("an instance", "name one of its methods: NAME.METHOD"),
    };
    Err(ErrorInfo::new(
        ErrorKind::BadRequest,
        format!("{} is {what}, which can't do that", call.service),
    )
    .hint(hint))
}

fn flavor(service: &Service, call: &Call) -> Flavor {
    match &call.method {
        _ if call.verb != Verb::Call => Flavor::Plain,
        None => service.interface.flavor,
        Some(method) => service.interface.members.get(method).copied().unwrap_or_default(),
    }
}

fn lost(inner: &Inner, call: &Call) -> ErrorInfo {
    let elsewhere = inner.naming.hosts().into_iter().find(|(_, ad)| ad.name == call.service);
    let here = inner.mesh.name();
    match elsewhere {
        Some((node, _)) if node != inner.mesh.me() => {
            ErrorInfo::new(ErrorKind::NotFound, format!("{} is not hosted on {here}", call.service))
                .hint(format!("it is on {}", inner.name_of(node)))
        }
        _ => {
            let info = inner.naming.not_found(&call.service);
            match call.verb {
                Verb::Call if call.method.is_none() => info,
                _ => info.hint(
                    "an instance lives in its worker's memory: it is gone when it was dropped, or \
                     the worker or the node restarted; build it again",
                ),
            }
        }
    }
}
