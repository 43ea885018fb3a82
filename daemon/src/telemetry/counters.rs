//! Counts of calls: a fixed set of numbers, so that no name or id of a call makes one more.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
};
use rhd_protocol::error::ErrorKind;

use super::{Histogram, Stage, Telemetry};

/// Ways in which a call ends, and their names.
const OUTCOMES: [(Option<ErrorKind>, &str); 14] = [
    (None, "ok"),
    (Some(ErrorKind::Remote), "remote"),
    (Some(ErrorKind::PeerLost), "peer_lost"),
    (Some(ErrorKind::Timeout), "timeout"),
    (Some(ErrorKind::Cancelled), "cancelled"),
    (Some(ErrorKind::PermissionDenied), "permission_denied"),
    (Some(ErrorKind::NotFound), "not_found"),
    (Some(ErrorKind::Conflict), "conflict"),
    (Some(ErrorKind::EnvError), "env_error"),
    (Some(ErrorKind::VersionMismatch), "version_mismatch"),
    (Some(ErrorKind::QueueFull), "queue_full"),
    (Some(ErrorKind::DaemonUnavailable), "daemon_unavailable"),
    (Some(ErrorKind::BadRequest), "bad_request"),
    (Some(ErrorKind::Internal), "internal"),
];

/// How a call ended: `None` well.
pub type Outcome = Option<ErrorKind>;

/// The name of an outcome, as a label has it.
pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    OUTCOMES.iter().find(|(kind, _)| *kind == outcome).map_or("internal", |(_, name)| name)
}

/// Calls at one stage.
#[derive(Debug, Default)]
pub struct Calls {
    started: AtomicU64,
    ended: [AtomicU64; OUTCOMES.len()],
    seconds: Histogram,
}

impl Calls {
    pub(super) fn started(&self) {
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, outcome: Outcome, took: Duration) {
        self.of(outcome).fetch_add(1, Ordering::Relaxed);
        self.seconds.observe(took);
    }

    /// Calls that ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.of(outcome).load(Ordering::Relaxed)
    }

    /// The last of them counts what has no place of its own: a call that ended is never in flight.
    fn of(&self, outcome: Outcome) -> &AtomicU64 {
        let [own @ .., other] = &self.ended;
        let at = OUTCOMES.iter().position(|(kind, _)| *kind == outcome);
        at.and_then(|at| own.get(at)).unwrap_or(other)
    }

    /// Calls that have started and not ended.
    pub fn in_flight(&self) -> u64 {
        // Ends first: a call that ends between the two loads is counted as in flight, not as -1.
        let ended: u64 = self.ended.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        self.started.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

/// All that is counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counters {
    stages: [Calls; Stage::ALL.len()],
    /// Bytes of arguments that were not sent, as their host had them.
    pub(super) spared: AtomicU64,
}

impl Counters {
    pub(super) fn calls(&self, stage: Stage) -> &Calls {
        let [route, serve, execute] = &self.stages;
        match stage {
            Stage::Call => route,
            Stage::Serve => serve,
            Stage::Execute => execute,
        }
    }
}

/// The counters in the form that Prometheus reads.
#[derive(Clone)]
pub struct Scrape(pub Telemetry);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stages = || Stage::ALL.iter().map(|stage| (stage, self.0.calls(*stage)));
        let mut metric = encoder.encode_descriptor(
            "rhd_calls_started",
            "Calls that started, by stage: call (sent from this node), serve (came from a peer), execute (given to a worker here)",
            None,
            MetricType::Counter,
        )?;
        for (stage, calls) in stages() {
            let started = calls.started.load(Ordering::Relaxed);
            metric
                .encode_family(&[("stage", stage.label())])?
                .encode_counter::<NoLabelSet, _, u64>(&started, None)?;
        }
        let mut metric = encoder.encode_descriptor(
            "rhd_calls_ended",
            "Calls that ended, by stage and outcome",
            None,
            MetricType::Counter,
        )?;
        for (stage, calls) in stages() {
            for (count, (_, outcome)) in calls.ended.iter().zip(OUTCOMES) {
                let count = count.load(Ordering::Relaxed);
                metric
                    .encode_family(&[("stage", stage.label()), ("outcome", outcome)])?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "rhd_calls_in_flight",
            "Calls that have started and not ended, by stage",
            None,
            MetricType::Gauge,
        )?;
        for (stage, calls) in stages() {
            let now = i64::try_from(calls.in_flight()).unwrap_or(i64::MAX);
            metric.encode_family(&[("stage", stage.label())])?.encode_gauge(&now)?;
        }
        let mut metric = encoder.encode_descriptor(
            "rhd_call_seconds",
            "How long calls took, by stage",
            None,
            MetricType::Histogram,
        )?;
        for (stage, calls) in stages() {
            let (sum, count, buckets) = calls.seconds.read();
            metric
                .encode_family(&[("stage", stage.label())])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let mut metric = encoder.encode_descriptor(
            "rhd_arguments_spared_bytes",
            "Bytes of arguments that were not sent, as the nodes that were called had them from a call before",
            None,
            MetricType::Counter,
        )?;
        let spared = self.0.inner.counters.spared.load(Ordering::Relaxed);
        metric.encode_counter::<NoLabelSet, _, u64>(&spared, None)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};
    use rhd_protocol::{call::Call, id::CallId};

    use super::*;

    #[test]
    fn a_call_is_counted_once_however_it_ends() {
        let telemetry = Telemetry::default();
        let call = || Call::new(CallId::from_bytes([0; 16]), "/a/f");
        let mut well = telemetry.watch(Stage::Execute, &mut call());
        let badly = telemetry.watch(Stage::Execute, &mut call());
        let calls = telemetry.calls(Stage::Execute);
        assert_eq!(calls.in_flight(), 2);
        well.end(None);
        well.end(Some(ErrorKind::Internal));
        drop((well, badly));
        let count = |outcome| calls.count(outcome);
        assert_eq!((count(None), count(Some(ErrorKind::Cancelled))), (1, 1));
        assert_eq!((count(Some(ErrorKind::Internal)), calls.in_flight()), (0, 0));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(telemetry)));
        let mut shown = String::new();
        text::encode(&mut shown, &registry).unwrap();
        for line in [
            "rhd_calls_started_total{stage=\"execute\"} 2",
            "rhd_calls_ended_total{stage=\"execute\",outcome=\"ok\"} 1",
            "rhd_calls_ended_total{stage=\"execute\",outcome=\"cancelled\"} 1",
            "rhd_calls_in_flight{stage=\"execute\"} 0",
            "rhd_call_seconds_bucket{le=\"+Inf\",stage=\"execute\"} 2",
            "rhd_call_seconds_count{stage=\"execute\"} 2",
        ] {
            assert!(shown.lines().any(|l| l == line), "{line} is not in\n{shown}");
        }
    }

    #[test]
    fn every_kind_of_error_has_a_name_of_its_own() {
        for (kind, name) in OUTCOMES {
            let said = kind.map_or("ok".into(), |k| serde_json::to_value(k).unwrap());
            assert_eq!(said, name);
        }
    }
}
