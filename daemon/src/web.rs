//! HTTP: every function and method as `POST|GET /{name}/{method}`, for programs without an SDK.
//!
//! ```text
//! listen -> guard (host, origin, token) -> call -> Calls -> one answer, or server-sent events
//!                                       -> pages
//! ```

mod answer;
mod arguments;
mod call;
mod config;
mod events;
mod failure;
mod guard;
mod intake;
mod listen;
mod metrics;
mod openapi;
mod page;
mod signature;
mod target;
mod token;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Extension, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use rhd_protocol::{
    api::{Described, Request as Question},
    call::{Call, Reply},
    error::{ErrorInfo, ErrorKind},
    frame,
    service::{Flavor, ServiceKind},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use config::{Config, PORT, Token};
pub use listen::ListenError;
pub use token::{TokenError, token_path};

use crate::{calls::Calls, mesh::Mesh, naming::Naming, telemetry::Telemetry, workers::Workers};
use failure::Failure;
use guard::{Ends, Guard};

/// Why HTTP is not answered.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// No port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl WebError {
    /// Whether the node can do without: nobody asked for what can't be had.
    pub fn is_bearable(&self, config: &Config) -> bool {
        matches!(self, Self::Listen(_)) && config.listen == Config::default().listen
    }
}

impl From<WebError> for ErrorInfo {
    fn from(error: WebError) -> Self {
        use std::error::Error;
        let cause = error.source().map(|e| format!(": {e}")).unwrap_or_default();
        let hint = match &error {
            WebError::Listen(_) => {
                "choose other addresses with the setting web.listen, or set web.enabled=false"
            }
            WebError::Token(_) => {
                "set web.token to a long random text, or take the setting out: a token is made then"
            }
        };
        Self::new(ErrorKind::BadRequest, format!("HTTP: {error}{cause}")).hint(hint)
    }
}

/// What the endpoint needs of the node.
pub struct Rooms {
    /// Runs calls.
    pub calls: Calls,
    /// Names.
    pub naming: Naming,
    /// Peers.
    pub mesh: Mesh,
    /// Envs.
    pub workers: Workers,
    /// Counters.
    pub telemetry: Telemetry,
    /// When the node started.
    pub started: Instant,
    /// Requests under way; the node waits for them when it drains.
    pub requests: TaskTracker,
    /// Set when the node drains.
    pub closing: CancellationToken,
    /// Set when it ends.
    pub closed: CancellationToken,
}

/// Cloneable handle to what handlers share.
#[derive(Clone)]
struct Web {
    inner: Arc<Inner>,
}

struct Inner {
    calls: Calls,
    naming: Naming,
    mesh: Mesh,
    workers: Workers,
    telemetry: Telemetry,
    started: Instant,
    answered: metrics::Answered,
    guard: Guard,
    intake: intake::Intake,
    slots: Arc<Semaphore>,
    requests: TaskTracker,
    config: Config,
}

/// Answers HTTP from now on, until the node ends; where.
pub async fn start(home: &Path, config: Config, rooms: Rooms) -> Result<Vec<SocketAddr>, WebError> {
    let token = token::load(home, &config)?;
    let listeners = listen::bind(&config).await?;
    let token_file = if config.token.is_some() {
        "the node's setting web.token".to_owned()
    } else {
        token_path(home).display().to_string()
    };
    let connections = listen::Connections {
        places: Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
        header_timeout: config.header_timeout(),
        closing: rooms.closing,
        closed: rooms.closed,
        router: router(Web {
            inner: Arc::new(Inner {
                calls: rooms.calls,
                naming: rooms.naming,
                mesh: rooms.mesh,
                workers: rooms.workers,
                telemetry: rooms.telemetry,
                started: rooms.started,
                answered: metrics::Answered::default(),
                guard: Guard::new(&config, &token, token_file),
                intake: intake::Intake::new(&config),
                slots: Arc::new(Semaphore::new(config.max_requests.min(Semaphore::MAX_PERMITS))),
                requests: rooms.requests,
                config,
            }),
        }),
    };
    let addresses = listeners.iter().flat_map(|listener| listener.local_addr()).collect();
    for listener in listeners {
        tokio::spawn(connections.clone().accept(listener));
    }
    Ok(addresses)
}

/// The URL of a node that listens there: that of loopback, where there is one.
pub fn url(addresses: &[SocketAddr]) -> Option<String> {
    let near = addresses.iter().find(|a| a.ip().is_loopback() || a.ip().is_unspecified());
    let mut address = *near.or(addresses.first())?;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Some(format!("http://{address}"))
}

fn router(web: Web) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/metrics", get(metrics::handle))
        .fallback(call::handle)
        .layer(middleware::from_fn_with_state(web.clone(), guarded))
        .with_state(web)
}

/// Turns away who may not ask, before anything of the request is looked at.
async fn guarded(
    State(web): State<Web>,
    Extension(ends): Extension<Ends>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut response = match web.inner.guard.admit(&ends, &parts) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(failure) => failure.into_response(),
    };
    web.inner.answered.count(response.status());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Web {
    /// A place for one more request.
    fn slot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.inner.slots.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{} requests are under way", self.inner.config.max_requests);
            let info = ErrorInfo::new(ErrorKind::DaemonUnavailable, text);
            Failure::from(info).hint("send it again in a moment, or raise web.max_requests")
        })
    }

    /// How a method of an object behaves; none for what is no object, or has no such method.
    async fn flavor(&self, call: &Call, method: &str) -> Result<Option<Flavor>, Failure> {
        let described = self.describe(&call.service, call.node.clone()).await?;
        let of_object = described.service.kind == ServiceKind::Instance;
        Ok(described.service.interface.members.get(method).copied().filter(|_| of_object))
    }

    /// Whether a service, or a method of it, is a generator.
    async fn yields(&self, asked: (String, Option<String>, Option<String>)) -> bool {
        let (service, method, node) = asked;
        let Ok(described) = self.describe(&service, node).await else { return false };
        let interface = &described.service.interface;
        let flavor = match method {
            Some(method) => interface.members.get(&method).copied().unwrap_or_default(),
            None => interface.flavor,
        };
        matches!(flavor, Flavor::Generator | Flavor::AsyncGenerator)
    }

    /// All that is known of a service, from its host.
    async fn describe(&self, name: &str, node: Option<String>) -> Result<Described, Failure> {
        let question = Question::Describe { v: rhd_protocol::VERSION, name: name.into(), node };
        let mut replies = self.inner.calls.ask(question);
        while let Some(reply) = replies.next().await {
            match reply.header::<Reply>() {
                Ok(Reply::Done { .. }) => {
                    return frame::decode(&reply.body).map_err(|e| answer::broken(&e));
                }
                Ok(Reply::Fail { error, .. }) => return Err(error.into()),
                Ok(_) => {}
                Err(e) => return Err(answer::broken(&e)),
            }
        }
        Err(answer::broken(&"no final reply"))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_url_is_one_that_works_here() {
        let url = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(|a| a.parse().unwrap()).collect();
            super::url(&list).unwrap_or_default()
        };
        assert_eq!(url(&["10.0.0.1:1", "127.0.0.1:1"]), "http://127.0.0.1:1");
        assert_eq!(url(&["0.0.0.0:1"]), "http://127.0.0.1:1");
        assert_eq!(url(&["[::1]:1"]), "http://[::1]:1");
        assert_eq!(url(&["10.0.0.1:1"]), "http://10.0.0.1:1");
        assert_eq!(url(&[]), "");
    }
}
