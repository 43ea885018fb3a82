//! Telemetry: what calls the node makes and runs, counted for Prometheus and traced for OTLP.
//!
//! ```text
//! client --rhd.call--> this daemon --rhd.serve--> the host's --rhd.execute--> its worker
//! ```
//!
//! Each span is the parent of the next, by the call's `traceparent`. With no exporter configured
//! nothing is traced, and a call passes on what its caller sent.

mod counters;
mod export;
mod histogram;
pub mod process;
mod span;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use rhd_protocol::{call::Call, error::ErrorKind};

pub use counters::{Calls, Outcome, Scrape};
pub use histogram::Histogram;
pub use span::{Stage, is_traceparent};

use counters::Counters;
use span::{Span, Tracer};

/// Cloneable handle to the node's counters and its tracer.
#[derive(Clone, Default)]
pub struct Telemetry {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    counters: Counters,
    tracer: Option<Tracer>,
}

impl Telemetry {
    /// Starts to count; traces where the `OTEL_*` variables of the process say where to.
    pub fn start(node: &str) -> Self {
        let inner = Inner { counters: Counters::default(), tracer: Tracer::from_environment(node) };
        Self { inner: Arc::new(inner) }
    }

    /// Watches a call from now on until its final reply; names its own span in the call's `trace`.
    pub fn watch(&self, stage: Stage, call: &mut Call) -> Watch {
        let span = self.inner.tracer.as_ref().map(|tracer| {
            let span = tracer.start(stage, call);
            call.trace = span.traceparent();
            span
        });
        self.inner.counters.calls(stage).started();
        Watch { telemetry: self.clone(), stage, started: Instant::now(), span, ended: false }
    }

    /// What was counted of calls at a stage.
    pub fn calls(&self, stage: Stage) -> &Calls {
        self.inner.counters.calls(stage)
    }

    /// Counts bytes of arguments that were not sent, as their host had them.
    pub fn spared(&self, bytes: u64) {
        self.inner.counters.spared.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sends what was traced and not yet sent, for a moment at most.
    pub async fn shutdown(&self) {
        let telemetry = self.clone();
        // It blocks, and holds the node up no longer than its own time limit.
        let flush = tokio::task::spawn_blocking(move || {
            if let Some(tracer) = &telemetry.inner.tracer {
                tracer.shutdown();
            }
        });
        if flush.await.is_err() {
            tracing::warn!("traces were not sent");
        }
    }
}

/// One call under watch. Dropped before its end, it was cancelled.
pub struct Watch {
    telemetry: Telemetry,
    stage: Stage,
    started: Instant,
    span: Option<Span>,
    ended: bool,
}

impl Watch {
    /// The span of the call, as `traceparent`.
    pub fn traceparent(&self) -> Option<String> {
        self.span.as_ref().and_then(Span::traceparent)
    }

    /// The call ended: `None` well, else with an error of this kind.
    pub fn end(&mut self, error: Option<ErrorKind>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let calls = self.telemetry.inner.counters.calls(self.stage);
        calls.ended(error, self.started.elapsed());
        if let Some(span) = self.span.take() {
            span.end(error);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end(Some(ErrorKind::Cancelled));
    }
}
