//! Where traces go: an OTLP collector, over HTTP, as the standard `OTEL_*` variables say.
//!
//! Spans wait in a bounded queue and are sent by a thread of their own: one that can't be sent, or
//! that finds the queue full, is dropped, and no call waits for any of this.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use ureq::{
    Agent,
    tls::{TlsConfig, TlsProvider},
};

/// How long the last traces may take to be sent when the node ends.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long one request may take, where `OTEL_EXPORTER_OTLP_TIMEOUT` says nothing else.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes; a collector says little.
const MAX_ANSWER: u64 = 64 * 1024;

/// What exports, unless the environment names no collector, or switches it off.
pub(super) fn provider() -> Option<SdkTracerProvider> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let wanted =
        set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(set("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
    let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || set("OTEL_TRACES_EXPORTER")
            .is_some_and(|value| !value.split(',').any(|e| e.trim() == "otlp"));
    if off {
        return None;
    }
    let protocol = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL").or(set("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
        tracing::warn!(protocol = other, "traces are sent as http/protobuf only, so none are sent");
        return None;
    }
    let timeout = set("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
        .or(set("OTEL_EXPORTER_OTLP_TIMEOUT"))
        .and_then(|millis| millis.parse().ok())
        .map_or(PATIENCE, Duration::from_millis);
    let exporter =
        SpanExporter::builder().with_http().with_http_client(Client::new(timeout)).build();
    match exporter {
        Ok(exporter) => {
            let mut resource = Resource::builder();
            if set("OTEL_SERVICE_NAME").is_none() {
                resource = resource.with_service_name("rhd");
            }
            tracing::info!(to = wanted, "traces are exported");
            let provider = SdkTracerProvider::builder().with_resource(resource.build());
            Some(provider.with_batch_exporter(exporter).build())
        }
        Err(error) => {
            tracing::warn!(%error, "traces are not exported");
            None
        }
    }
}

/// A blocking client: the exporter has a thread of its own.
#[derive(Debug)]
struct Client {
    agent: Agent,
    /// Whether the last request failed: said once, not every few seconds.
    failing: AtomicBool,
}

impl Client {
    fn new(timeout: Duration) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self { agent: config.into(), failing: AtomicBool::new(false) }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        let failed = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        match (self.failing.swap(failed.is_some(), Ordering::Relaxed), failed) {
            (false, Some(error)) => tracing::warn!(error, "traces can't be sent, and are dropped"),
            (true, None) => tracing::info!("traces are sent again"),
            _ => {}
        }
        answer.map_err(Into::into)
    }
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(parts, &body[..]))?;
        let (parts, body) = answer.into_parts();
        let body = body.into_with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(parts, Bytes::from(body)))
    }
}
