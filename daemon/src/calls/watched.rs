//! Who has to know how a call ends: counters and traces.

use rhd_protocol::error::ErrorKind;
use serde::Deserialize;

use crate::{framed::Frame, telemetry::Watch};

/// The watches on one call: of the client's part here, and of the worker's when it runs here.
#[derive(Default)]
pub(super) struct Watched {
    /// The first is the call's own, unless a peer made it.
    watches: Vec<Watch>,
}

/// As much of a reply as says whether it is the last, and read faster than a whole one.
#[derive(Deserialize)]
struct Glance {
    t: Tag,
    #[serde(default)]
    error: Option<GlanceAtError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Tag {
    Done,
    Fail,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct GlanceAtError {
    kind: ErrorKind,
}

impl Watched {
    pub(super) fn add(&mut self, watch: Watch) {
        self.watches.push(watch);
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.watches.splice(0..0, others.watches);
    }

    pub(super) fn traceparent(&self) -> Option<String> {
        self.watches.first().and_then(Watch::traceparent)
    }

    /// Ends the watches with the final reply.
    pub(super) fn see(&mut self, frame: &Frame) {
        if self.watches.is_empty() {
            return;
        }
        let outcome = match frame.header::<Glance>() {
            Ok(Glance { t: Tag::Done, .. }) => None,
            Ok(Glance { t: Tag::Fail, error }) => {
                Some(error.map_or(ErrorKind::Internal, |error| error.kind))
            }
            Ok(Glance { t: Tag::Other, .. }) => return,
            Err(_) => Some(ErrorKind::Internal),
        };
        for mut watch in self.watches.drain(..) {
            watch.end(outcome);
        }
    }
}
