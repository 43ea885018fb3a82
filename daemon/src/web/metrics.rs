//! `/metrics`: the node's numbers in the text form that Prometheus reads.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};
use rhd_protocol::error::{ErrorInfo, ErrorKind};

use super::{Web, failure::Failure};
use crate::{
    mesh,
    telemetry::{Scrape, process},
};

/// Classes of status that are counted: 1xx to 5xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests that were answered, by class of status.
#[derive(Debug, Default)]
pub(super) struct Answered([AtomicU64; CLASSES.len()]);

impl Answered {
    pub(super) fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.0.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Answers `GET /metrics`.
pub(super) async fn handle(State(web): State<Web>) -> Response {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(web.inner.telemetry.clone())));
    registry.register_collector(Box::new(Node(web)));
    let mut body = String::new();
    if let Err(error) = text::encode(&mut body, &registry) {
        let info = ErrorInfo::new(ErrorKind::Internal, format!("metrics: {error}"));
        return Failure::from(info).into_response();
    }
    let mut response = body.into_response();
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What is looked up when somebody asks.
struct Node(Web);

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Node")
    }
}

impl Collector for Node {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let inner = &self.0.inner;
        let workers = inner.workers.counts();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let gauges = [
            (
                "rhd_uptime_seconds",
                "Seconds since the node started",
                count(inner.started.elapsed().as_secs() as usize),
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory of the daemon",
                count(process::resident() as usize),
            ),
            ("rhd_envs_running", "Envs with a running worker", count(workers.running)),
            (
                "rhd_calls_waiting",
                "Calls that wait for a lane of a worker here",
                count(workers.waiting),
            ),
            (
                "rhd_services",
                "Functions, classes and instances that are hosted here",
                count(inner.naming.registry().ads().len()),
            ),
            (
                "rhd_http_requests_in_flight",
                "Calls over HTTP that are under way",
                count(inner.config.max_requests.saturating_sub(inner.slots.available_permits())),
            ),
        ];
        for (name, help, value) in gauges {
            to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let counters = [
            ("rhd_workers_started", "Worker processes that were started", workers.started),
            ("rhd_workers_lost", "Times that an env lost its worker processes", workers.lost),
        ];
        for (name, help, value) in counters {
            to.encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        let mut metric = to.encode_descriptor(
            "rhd_http_requests",
            "HTTP requests that were answered, by class of status",
            None,
            MetricType::Counter,
        )?;
        for (class, answered) in CLASSES.iter().zip(&inner.answered.0) {
            let answered = answered.load(Ordering::Relaxed);
            metric
                .encode_family(&[("status", *class)])?
                .encode_counter::<NoLabelSet, _, u64>(&answered, None)?;
        }
        self.encode_peers(&mut to)
    }
}

impl Node {
    fn encode_peers(&self, to: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (mut direct, mut relayed, mut none) = (0_i64, 0_i64, 0_i64);
        for peer in self.0.inner.mesh.peers().borrow().iter() {
            match peer.path {
                mesh::Route::Direct => direct += 1,
                mesh::Route::Relayed => relayed += 1,
                mesh::Route::None => none += 1,
            }
        }
        let mut metric = to.encode_descriptor(
            "rhd_peers",
            "Known nodes of the realm, by the path to them",
            None,
            MetricType::Gauge,
        )?;
        for (path, peers) in [("direct", direct), ("relayed", relayed), ("none", none)] {
            metric.encode_family(&[("path", path)])?.encode_gauge(&peers)?;
        }
        Ok(())
    }
}
