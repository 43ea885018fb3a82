//! Questions about a node, answered here or passed on to the node that they are about.

use std::sync::Arc;

use bytes::Bytes;
use rhd_protocol::{
    api::{Described, Listed, Request},
    call::Reply,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    id::NodeId,
    machine::routing::Wish,
    service::ServiceKind,
    wire,
};

use super::{Answer, Inner, Outbox, capacity, host, install, peer, remote};
use crate::{
    framed::{self, Frame},
    mesh::Priority,
    naming::Route,
};

/// Answers a client of this node.
pub(super) async fn ask(
    inner: &Arc<Inner>,
    request: Request,
    out: &Outbox,
) -> Result<Answer, ErrorInfo> {
    match request {
        Request::Services { prefix, .. } => services(inner, prefix.as_deref()),
        Request::Describe { v, name, node } => {
            let name = inner.naming.canonical(&name)?;
            let route = inner.naming.resolve(&name, node.as_deref(), &Wish::default())?;
            on(inner, route, Request::Describe { v, name, node: None }, out).await
        }
        Request::Remove { v, name, node } => {
            let name = inner.naming.canonical(&name)?;
            let routes = match node {
                Some(node) => vec![inner.naming.node(&node)?],
                None => hosts_of(inner, &name)?,
            };
            let mut last = Answer::of(&())?;
            for route in routes {
                let request = Request::Remove { v, name: name.clone(), node: None };
                last = on(inner, route, request, out).await?;
                if let Route::Peer(peer) = route {
                    inner.naming.note(peer, &name, None);
                }
            }
            Ok(last)
        }
        Request::Envs { v, node } => {
            let route = route(inner, node)?;
            on(inner, route, Request::Envs { v, node: None }, out).await
        }
        Request::EnvBuild { v, node, env } => {
            let route = route(inner, node)?;
            on(inner, route, Request::EnvBuild { v, node: None, env }, out).await
        }
        Request::EnvRemove { v, node, key } => {
            let route = route(inner, node)?;
            on(inner, route, Request::EnvRemove { v, node: None, key }, out).await
        }
        _ => Err(ErrorInfo::new(ErrorKind::BadRequest, "not a question about a node")),
    }
}

/// Answers a peer: only about this node, and changes only for those who may deploy.
pub(super) async fn answer_peer(
    inner: &Arc<Inner>,
    peer: NodeId,
    request: Request,
    out: &Outbox,
) -> Result<Answer, ErrorInfo> {
    if !matches!(request, Request::Describe { .. } | Request::Envs { .. }) {
        peer::may_change(inner, peer)?;
    }
    here(inner, request, out).await
}

fn route(inner: &Inner, node: Option<String>) -> Result<Route, ErrorInfo> {
    node.map_or(Ok(Route::Here), |node| inner.naming.node(&node))
}

async fn on(
    inner: &Arc<Inner>,
    route: Route,
    request: Request,
    out: &Outbox,
) -> Result<Answer, ErrorInfo> {
    match route {
        Route::Here => here(inner, request, out).await,
        Route::Peer(peer) => there(inner, peer, request, out).await,
    }
}

async fn here(inner: &Arc<Inner>, request: Request, out: &Outbox) -> Result<Answer, ErrorInfo> {
    let node = inner.mesh.name();
    let answer = match request {
        Request::Describe { name, .. } => describe(inner, &name),
        Request::Remove { name, .. } => remove(inner, &name).await,
        Request::Envs { .. } => Answer::of(&envs(inner)),
        Request::EnvBuild { env, .. } => build(inner, &env, out).await,
        Request::EnvRemove { key, .. } => remove_env(inner, &key).await,
        _ => Err(ErrorInfo::new(ErrorKind::BadRequest, "not a question for another node")),
    };
    answer.map_err(|e| e.on(&node))
}

async fn there(
    inner: &Inner,
    peer: NodeId,
    request: Request,
    out: &Outbox,
) -> Result<Answer, ErrorInfo> {
    let node = inner.name_of(peer);
    let lost = |e: &dyn std::fmt::Display| {
        ErrorInfo::new(ErrorKind::PeerLost, format!("node {node} was lost before it answered: {e}"))
            .hint("see `rhd peers`")
            .on(&node)
    };
    let mut stream = remote::open(inner, peer, wire::ADMIN, Priority::Sync).await?;
    framed::send(&mut stream.send, &request, Bytes::new()).await.map_err(|e| lost(&e))?;
    loop {
        let frame: Frame = framed::read(&mut stream.recv, MAX_BODY)
            .await
            .map_err(|e| lost(&e))?
            .ok_or_else(|| lost(&"the stream ended"))?;
        match frame.header::<Reply>().map_err(|e| lost(&e))? {
            Reply::Done { .. } => return Ok(Answer(frame.body.to_vec())),
            Reply::Fail { error, .. } => return Err(error.on(&node)),
            _ => out.frame(Ok(frame)).await,
        }
    }
}

fn services(inner: &Inner, prefix: Option<&str>) -> Result<Answer, ErrorInfo> {
    let prefix = match prefix {
        Some(p) if p.trim_matches('/').is_empty() => None,
        Some(p) if p.starts_with('/') => Some(p.trim_end_matches('/').to_owned()),
        Some(p) => Some(inner.naming.canonical(p.trim_end_matches('/'))?),
        None => None,
    };
    let below = |name: &str| {
        prefix.as_deref().is_none_or(|p| {
            name.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let listed: Vec<Listed> = inner
        .naming
        .hosts()
        .into_iter()
        .filter(|(_, ad)| below(&ad.name))
        .map(|(node, service)| Listed { node: inner.name_of(node), service })
        .collect();
    Answer::of(&listed)
}

fn hosts_of(inner: &Inner, name: &str) -> Result<Vec<Route>, ErrorInfo> {
    let me = inner.mesh.me();
    let mut routes: Vec<Route> = inner
        .naming
        .hosts()
        .into_iter()
        .filter(|(_, ad)| ad.name == name)
        .map(|(node, _)| if node == me { Route::Here } else { Route::Peer(node) })
        .collect();
    if routes.is_empty() && inner.naming.registry().get(name).is_some() {
        routes.push(Route::Here);
    }
    if routes.is_empty() { Err(inner.naming.not_found(name)) } else { Ok(routes) }
}

fn describe(inner: &Inner, name: &str) -> Result<Answer, ErrorInfo> {
    let hosted = inner.naming.registry().get(name).ok_or_else(|| inner.naming.not_found(name))?;
    Answer::of(&Described {
        node: inner.mesh.name(),
        node_id: inner.mesh.me().to_string(),
        service: hosted.service.clone(),
    })
}

async fn remove(inner: &Arc<Inner>, name: &str) -> Result<Answer, ErrorInfo> {
    let registry = inner.naming.registry();
    let hosted = registry.get(name).ok_or_else(|| inner.naming.not_found(name))?;
    if hosted.service.kind == ServiceKind::Instance {
        host::drop_instance(inner, name).await;
    }
    registry.remove(name)?;
    capacity::announce(inner);
    Answer::of(&())
}

fn envs(inner: &Inner) -> Vec<rhd_protocol::api::EnvInfo> {
    let mut envs = inner.workers.envs();
    for env in &mut envs {
        env.services = services_in(inner, &env.key).len() as u32;
    }
    envs
}

fn services_in(inner: &Inner, env: &str) -> Vec<String> {
    let all = inner.naming.registry().all();
    all.iter().filter(|h| h.service.env == env).map(|h| h.service.name.clone()).collect()
}

async fn build(inner: &Inner, env: &EnvSpec, out: &Outbox) -> Result<Answer, ErrorInfo> {
    inner.open_for_work()?;
    install::check_env(env)?;
    let _reserved = inner.capacity.reserve(inner, env)?;
    Answer::of(&out.telling(|lines| inner.workers.ensure(env, lines)).await?)
}

async fn remove_env(inner: &Inner, key: &str) -> Result<Answer, ErrorInfo> {
    let used = services_in(inner, key);
    if let Some(first) = used.first() {
        return Err(ErrorInfo::new(
            ErrorKind::Conflict,
            format!("env {key} is home to {} services, {first} among them", used.len()),
        )
        .hint(format!("remove them first: `rhd rm {first}`")));
    }
    inner.workers.remove(key).await?;
    Answer::of(&())
}
