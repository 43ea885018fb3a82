//! Questions about runs: answered by this node, by the one that is named, or by whichever knows.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use rhd_protocol::{
    VERSION,
    api::Request,
    call::Call,
    error::{ErrorInfo, ErrorKind},
    id::{CallId, NodeId},
    machine::receipt::{Heard, Known, Receipt, merge},
    name::Name,
    run::{RunAsk, RunInfo, RunStatus},
    wire,
};
use serde::de::DeserializeOwned;

use super::{Answer, Inner, Outbox, Replies, copies, peer, remote};
use crate::{mesh::Priority, naming::Route, runs};

/// How long a node may take to say what it knows, its link included.
const PATIENCE: Duration = Duration::from_secs(6);

/// Answers a client of this node.
pub(super) async fn ask(inner: &Arc<Inner>, request: Request) -> Result<Replies, ErrorInfo> {
    let request = match request {
        Request::Run { v, run, node, ask } => {
            Request::Run { v, run: meant(inner, &run)?, node, ask }
        }
        Request::Runs { v, node, name, limit } => {
            let name = name.map(|name| run_name(inner, &name)).transpose()?;
            Request::Runs { v, node, name, limit }
        }
        other => other,
    };
    match request {
        Request::Runs { node: None, name, limit, .. } => Ok(everywhere(inner, name, limit)),
        Request::Runs { v, node: Some(node), name, limit } => match inner.naming.node(&node)? {
            Route::Here => listed(inner, name, limit).await,
            Route::Peer(peer) => {
                forward(inner, peer, Request::Runs { v, node: None, name, limit }).await
            }
        },
        Request::Run { run, node, ask: RunAsk::Remove, .. } => remove(inner, &run, node).await,
        // What was brought here is as it was there, whether or not that can be asked.
        Request::Run { run, node: Some(_), ask, .. } if is_here(inner, &run, &ask).await => {
            here(inner, &run, ask, None).await
        }
        Request::Run { v, run, node: Some(node), ask } => match inner.naming.node(&node)? {
            Route::Here => here(inner, &run, ask, None).await,
            Route::Peer(peer) => {
                forward(inner, peer, Request::Run { v, run, node: None, ask }).await
            }
        },
        Request::Run { v, run, node: None, ask } => {
            let age_ms = match &ask {
                RunAsk::Info { age_ms } => *age_ms,
                _ => None,
            };
            match (locate(inner, &run, age_ms).await?, ask) {
                (Located { info, .. }, RunAsk::Info { .. }) => one(&info),
                (Located { node: None, .. }, _) => Err(inner.runs.unknown(&run)),
                (Located { node: Some(Route::Here), info }, ask) => {
                    here(inner, &info.id.to_string(), ask, None).await
                }
                (Located { node: Some(Route::Peer(peer)), info }, ask) => {
                    let run = info.id.to_string();
                    forward(inner, peer, Request::Run { v, run, node: None, ask }).await
                }
            }
        }
        _ => Err(not_one()),
    }
}

/// Removes the record of a run from its host, then its copy from the node of its caller.
async fn remove(inner: &Inner, run: &str, node: Option<String>) -> Result<Replies, ErrorInfo> {
    let ask = RunAsk::Info { age_ms: None };
    let info: RunInfo = match node.map(|node| inner.naming.node(&node)).transpose()? {
        Some(Route::Peer(peer)) => {
            let run = run.to_owned();
            question(inner, peer, &Request::Run { v: VERSION, run, node: None, ask }).await?
        }
        Some(Route::Here) => match inner.runs.id_of(run)? {
            Some(id) => inner.runs.info(id, None).await?,
            None => return Err(inner.runs.unknown(run)),
        },
        None => match locate(inner, run, None).await? {
            Located { node: Some(_), info } => info,
            Located { node: None, .. } => return Err(inner.runs.unknown(run)),
        },
    };
    let (run, ask) = (info.id.to_string(), RunAsk::Remove);
    let request = Request::Run { v: VERSION, run, node: None, ask };
    let at = async |name: &str| match inner.naming.node(name)? {
        Route::Here => inner.runs.remove(info.id).await,
        Route::Peer(peer) => question::<()>(inner, peer, &request).await,
    };
    let removed = at(&info.host).await;
    let gone = removed.as_ref().is_err_and(|error| error.kind == ErrorKind::PeerLost);
    if (removed.is_ok() || gone) && info.caller != info.host {
        // There may be none, or not yet: then it is not taken any more.
        let _ = at(&info.caller).await;
    }
    removed?;
    one(&())
}

/// The full name of a run: a bare one is in the user's folder.
pub(super) fn run_name(inner: &Inner, name: &str) -> Result<String, ErrorInfo> {
    match Name::parse(name) {
        Ok(Name::Full(_) | Name::Own(_) | Name::Bare(_)) if name.parse::<CallId>().is_err() => {
            inner.naming.canonical(name)
        }
        _ => Err(runs::no_name(name)),
    }
}

/// What a client calls a run: the id of its call, or its full name.
fn meant(inner: &Inner, run: &str) -> Result<String, ErrorInfo> {
    if run.parse::<CallId>().is_ok() { Ok(run.to_owned()) } else { run_name(inner, run) }
}

/// The replies of a run that answers in the place of a call, wherever it is; none where the call has
/// to be made. Two calls at once may both find none: their host decides then.
pub(super) async fn before(inner: &Inner, call: &Call) -> Result<Option<Replies>, ErrorInfo> {
    let Some(run) = call.run.as_ref().filter(|run| run.get && !run.name.is_empty()) else {
        return Ok(None);
    };
    let Located { node: Some(route), info } = locate(inner, &run.name, None).await? else {
        return Ok(None);
    };
    let stands = match info.status {
        RunStatus::Running => true,
        RunStatus::Completed => info.result.is_some(),
        _ => false,
    };
    if !stands {
        return Ok(None);
    }
    if run.detach {
        return one(&info).map(Some);
    }
    let ask = instead(&info, call.logs, call.timeout_ms);
    let run = info.id.to_string();
    let replies = match route {
        Route::Here => here(inner, &run, ask, None).await?,
        Route::Peer(peer) => {
            forward(inner, peer, Request::Run { v: VERSION, run, node: None, ask }).await?
        }
    };
    Ok(Some(replies))
}

/// How a call attaches to the run that answers in its place: output of one that is over was shown.
pub(super) fn instead(info: &RunInfo, logs: bool, timeout_ms: Option<u64>) -> RunAsk {
    RunAsk::Attach { logs: logs && info.status == RunStatus::Running, timeout_ms }
}

/// Answers a peer: only about this node.
pub(super) async fn answer_peer(
    inner: &Arc<Inner>,
    peer: NodeId,
    request: Request,
) -> Result<Replies, ErrorInfo> {
    match request {
        Request::Runs { name, limit, .. } => listed(inner, name, limit).await,
        Request::Run { run, ask, .. } => here(inner, &run, ask, Some(peer)).await,
        _ => Err(not_one()),
    }
}

async fn listed(inner: &Inner, name: Option<String>, limit: u32) -> Result<Replies, ErrorInfo> {
    one(&inner.runs.list(name, limit).await)
}

/// The runs of all nodes that can be reached, as one list; those that can't be are named on the way.
fn everywhere(inner: &Arc<Inner>, name: Option<String>, limit: u32) -> Replies {
    let inner = inner.clone();
    Replies::from_task(move |out| async move { gather(&inner, name, limit, &out).await })
}

async fn gather(
    inner: &Inner,
    name: Option<String>,
    limit: u32,
    out: &Outbox,
) -> Result<Answer, ErrorInfo> {
    let peers: Vec<NodeId> = inner.mesh.peers().borrow().iter().map(|peer| peer.node).collect();
    let request = Request::Runs { v: VERSION, node: None, name: name.clone(), limit };
    let answers = peers.iter().map(|peer| question::<Vec<RunInfo>>(inner, *peer, &request));
    let (mut infos, answers) = tokio::join!(inner.runs.list(name, limit), join_all(answers));
    let mut silent = Vec::new();
    for (peer, answer) in peers.iter().zip(answers) {
        match answer {
            Ok(theirs) => infos.extend(theirs),
            Err(error) => {
                tracing::debug!(peer = %peer.short(), %error, "its runs are not listed");
                silent.push(inner.name_of(*peer));
            }
        }
    }
    if !silent.is_empty() {
        out.progress(format!("not listed, as it can't be asked now: {}", silent.join(", "))).await;
    }
    infos.sort_by_key(|info| std::cmp::Reverse((info.started_ms, info.id)));
    // A record and its copy are one run.
    infos.dedup_by_key(|info| info.id);
    if limit > 0 {
        infos.truncate(limit as usize);
    }
    Answer::of(&infos)
}

/// Does what is asked about a run of this node; `peer` is the node that asks, if another does.
async fn here(
    inner: &Inner,
    run: &str,
    ask: RunAsk,
    peer: Option<NodeId>,
) -> Result<Replies, ErrorInfo> {
    let runs = &inner.runs;
    let Some(id) = runs.id_of(run)? else {
        return match ask {
            RunAsk::Info { .. } => one(&nobodys(run)),
            _ => Err(runs.unknown(run)),
        };
    };
    if let (Some(peer), RunAsk::Cancel | RunAsk::Remove) = (peer, &ask)
        && runs.caller_of(id) != Some(peer)
    {
        peer::may_change(inner, peer)?;
    }
    match ask {
        RunAsk::Info { age_ms } => one(&runs.info(id, age_ms).await?),
        RunAsk::Inputs => Ok(Replies::one(runs.inputs(id).await?)),
        RunAsk::Cancel => one(&runs.cancel(id).await?),
        RunAsk::Remove => {
            runs.remove(id).await?;
            one(&())
        }
        RunAsk::Keep { from } => match peer {
            Some(peer) => one(&copies::keep(inner, peer, id, from).await?),
            None => Err(not_one()),
        },
        RunAsk::Logs { .. } | RunAsk::Attach { .. } => {
            Ok(Replies::run(runs.attach(id, ask).await?, None))
        }
    }
}

/// What is known of a run, and where; nowhere means that it never started.
struct Located {
    node: Option<Route>,
    info: RunInfo,
}

/// Asks this node, then all others at once.
async fn locate(inner: &Inner, run: &str, age_ms: Option<u64>) -> Result<Located, ErrorInfo> {
    let by_id = run.parse::<CallId>().is_ok();
    let own = match inner.runs.id_of(run)? {
        Some(id) => inner.runs.info(id, age_ms).await,
        None => Ok(nobodys(run)),
    };
    if let Ok(info) = &own
        && by_id
        && info.status != RunStatus::NotStarted
    {
        return Ok(Located { node: Some(Route::Here), info: info.clone() });
    }
    let peers: Vec<NodeId> = inner.mesh.peers().borrow().iter().map(|peer| peer.node).collect();
    let ask = RunAsk::Info { age_ms };
    let request = Request::Run { v: VERSION, run: run.into(), node: None, ask };
    let asked = peers.iter().map(|peer| question::<RunInfo>(inner, *peer, &request));
    let mut answers = vec![own];
    answers.extend(join_all(asked).await);
    let route = |at: usize| match at.checked_sub(1).and_then(|at| peers.get(at)) {
        Some(peer) => Route::Peer(*peer),
        None => Route::Here,
    };
    if !by_id {
        let known = answers.iter().enumerate().filter_map(|(at, a)| Some((at, a.as_ref().ok()?)));
        let newest = known.max_by_key(|(_, info)| info.started_ms);
        if let Some((at, info)) = newest.filter(|(_, info)| info.started_ms > 0) {
            return Ok(Located { node: Some(route(at)), info: info.clone() });
        }
    }
    let knowledge: Vec<Option<Known>> = answers.iter().map(known).collect();
    match merge(&knowledge) {
        Heard::Known { node, .. } => match answers.swap_remove(node) {
            Ok(info) => Ok(Located { node: Some(route(node)), info }),
            Err(error) => Err(error),
        },
        Heard::Unsure { silent } => {
            let first = silent.first().copied().unwrap_or(0);
            let why = answers.swap_remove(first).err();
            let nodes = silent.iter().map(|at| match route(*at) {
                Route::Here => inner.mesh.name(),
                Route::Peer(peer) => inner.name_of(peer),
            });
            Err(unsure(run, &nodes.collect::<Vec<_>>(), why))
        }
        _ => Ok(Located { node: None, info: nobodys(run) }),
    }
}

fn known(answer: &Result<RunInfo, ErrorInfo>) -> Option<Known> {
    let info = answer.as_ref().ok()?;
    Some(match info.status {
        RunStatus::NotStarted if info.host.is_empty() => Known::Never,
        status => {
            let (started_ms, ended_ms) = (info.started_ms, info.ended_ms);
            Known::Yes(Receipt { status, started_ms, ended_ms })
        }
    })
}

/// What is said of a run that no node knows.
fn nobodys(run: &str) -> RunInfo {
    let id = run.parse::<CallId>();
    RunInfo {
        name: if id.is_ok() { String::new() } else { run.into() },
        id: id.unwrap_or_else(|_| CallId::from_bytes([0; 16])),
        status: RunStatus::NotStarted,
        host: String::new(),
        caller: String::new(),
        service: String::new(),
        verb: Default::default(),
        method: None,
        started_ms: 0,
        ended_ms: 0,
        recorded: false,
        result: None,
        error: None,
    }
}

fn unsure(run: &str, silent: &[String], why: Option<ErrorInfo>) -> ErrorInfo {
    let nodes = silent.join(", ");
    let why = why.map(|error| format!(" ({error})")).unwrap_or_default();
    let mut error = ErrorInfo::new(
        ErrorKind::PeerLost,
        format!("nobody else knows run {run}; {nodes} may, and can't say{why}"),
    )
    .hint(format!("ask again when {nodes} can be reached; do not repeat what may have run"));
    if let [node] = silent {
        error = error.on(node);
    }
    if run.parse::<CallId>().is_ok() { error.call(run) } else { error }
}

/// Whether this node has the whole record of a run of another, and is asked to read it.
async fn is_here(inner: &Inner, run: &str, ask: &RunAsk) -> bool {
    let reads = matches!(
        ask,
        RunAsk::Info { .. } | RunAsk::Inputs | RunAsk::Logs { .. } | RunAsk::Attach { .. }
    );
    match run.parse() {
        Ok(id) if reads => inner.runs.has_copy(id).await,
        _ => false,
    }
}

/// Asks a peer for a value, within a time.
async fn question<T: DeserializeOwned>(
    inner: &Inner,
    peer: NodeId,
    request: &Request,
) -> Result<T, ErrorInfo> {
    let answer = tokio::time::timeout(PATIENCE, inner.asker.value(peer, request)).await;
    answer.unwrap_or_else(|_| Err(inner.asker.lost(peer, &"it took too long")))
}

/// Passes a question on, and the replies back as they come.
async fn forward(inner: &Inner, peer: NodeId, request: Request) -> Result<Replies, ErrorInfo> {
    let stream = remote::open(inner, peer, wire::ADMIN, Priority::Sync).await.map_err(|error| {
        let node = inner.name_of(peer);
        match &request {
            Request::Run { run, .. } => ErrorInfo::new(
                ErrorKind::PeerLost,
                format!("node {node} can't be reached, and only it can tell about run {run}"),
            )
            .hint(format!(
                "ask again when `rhd peers` shows {node}; do not repeat what may have run"
            ))
            .on(&node)
            .call(run),
            _ => error.hint("see `rhd peers`"),
        }
    })?;
    Ok(Replies::remote(remote::question(inner, stream, &request).await?))
}

fn one(value: &impl serde::Serialize) -> Result<Replies, ErrorInfo> {
    Ok(Replies::one(runs::reply(value)?))
}

fn not_one() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, "not a question about runs")
}
