//! Bodies of requests, held to a size, a time and a share of memory while they arrive.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use rhd_protocol::error::{ErrorInfo, ErrorKind};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::{config::Config, failure::Failure};

/// Bytes of one permit.
const UNIT: usize = 64 * 1024;
/// Largest bodies that may be in memory at once.
const LARGEST: usize = 4;
/// The slowest body, in bytes a second.
const SLOWEST: u64 = 16 * 1024;

/// The room for bodies.
#[derive(Debug)]
pub(super) struct Intake {
    room: Arc<Semaphore>,
    max_body: usize,
    patience: Duration,
}

/// A body, and the room that it takes for as long as this lives.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(super) fn new(config: &Config) -> Self {
        let units = LARGEST.saturating_mul(config.max_body).div_ceil(UNIT);
        Self {
            room: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            max_body: config.max_body,
            patience: config.body_timeout(),
        }
    }

    /// Reads a body to its end. One that says it is too large is refused unread.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Held, Failure> {
        let claimed =
            headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if claimed.is_some_and(|claimed: u64| claimed > self.max_body as u64) {
            return Err(self.too_large());
        }
        let (mut bytes, mut room) = (BytesMut::new(), None::<OwnedSemaphorePermit>);
        let (start, mut chunks) = (Instant::now(), body.into_data_stream());
        loop {
            let spent = Duration::from_millis(1000 * bytes.len() as u64 / SLOWEST);
            let chunk = match timeout_at(start + self.patience + spent, chunks.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(None) => return Ok(Held { bytes: bytes.freeze(), _room: room }),
                Ok(Some(Err(e))) => return Err(Failure::bad(format!("the body broke off: {e}"))),
                Err(_) => return Err(too_slow()),
            };
            if bytes.len() + chunk.len() > self.max_body {
                return Err(self.too_large());
            }
            bytes.extend_from_slice(&chunk);
            let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = bytes.len().div_ceil(UNIT).saturating_sub(held);
            if more > 0 {
                let more = u32::try_from(more).unwrap_or(u32::MAX);
                let more = self.room.clone().try_acquire_many_owned(more).map_err(|_| no_room())?;
                match &mut room {
                    Some(room) => room.merge(more),
                    none => *none = Some(more),
                }
            }
        }
    }

    fn too_large(&self) -> Failure {
        let text = format!("the body is larger than {} bytes", self.max_body);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorInfo::new(ErrorKind::BadRequest, text))
            .hint("send less, or raise the setting web.max_body")
            .with(header::CONNECTION, "close")
    }
}

fn too_slow() -> Failure {
    let info = ErrorInfo::new(ErrorKind::Timeout, "the body came too slowly");
    Failure::new(StatusCode::REQUEST_TIMEOUT, info)
        .hint("send it faster, or raise the setting web.body_timeout_ms")
        .with(header::CONNECTION, "close")
}

fn no_room() -> Failure {
    let info = ErrorInfo::new(ErrorKind::QueueFull, "too many large requests at once");
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, info)
        .hint("send it again in a moment")
        .with(header::RETRY_AFTER, "1")
        .with(header::CONNECTION, "close")
}
