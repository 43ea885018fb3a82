//! What peers were sent lately.

use std::{
    collections::VecDeque,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rhd_protocol::{
    call::Again,
    frame::PAYLOAD_AT,
    id::{CallId, Hash, NodeId},
};

use super::{hash, kept::IDLE, large, spans};
use crate::framed::Payload;

/// Parts that are remembered.
const REMEMBERED: usize = 1024;
/// How a part looks: so many bytes of so many places.
const PLACES: u64 = 16;
const LOOK: usize = 256;

/// How parts looked that peers were sent.
#[derive(Debug, Default)]
pub(in crate::calls) struct Sent {
    parts: Mutex<VecDeque<Part>>,
}

#[derive(Debug, Clone)]
struct Part {
    host: NodeId,
    look: Look,
    call: CallId,
    part: u32,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    len: u64,
    hash: Hash,
}

/// What is known of a call before it is sent.
#[derive(Debug, Default)]
pub(in crate::calls) struct Known {
    /// Parts that its host may have.
    pub(in crate::calls) again: Vec<Again>,
    looks: Vec<(u32, Look)>,
}

impl Sent {
    /// Looks at the parts of a call, and hashes those that its host may have.
    pub(in crate::calls) async fn known(
        self: &Arc<Self>,
        host: NodeId,
        parts: &[u64],
        payload: &Payload,
    ) -> Known {
        let Some(spans) = spans(parts).filter(|s| s.last().is_some_and(|s| s.end == payload.len()))
        else {
            return Known::default();
        };
        if large(&spans).next().is_none() {
            return Known::default();
        }
        let (sent, payload) = (self.clone(), payload.clone());
        let look = move || {
            let mut known = Known::default();
            for (part, span) in large(&spans) {
                let look = look(&payload, span.start, span.end - span.start)?;
                known.looks.push((part, look));
                let Some(before) = sent.like(host, look) else { continue };
                let hash = hash(payload.file(), span, None)?;
                known.again.push(Again { part, call: before.call, of: before.part, hash });
            }
            std::io::Result::Ok(known)
        };
        // A payload that can't be read fails when it is sent.
        tokio::task::spawn_blocking(look).await.ok().and_then(Result::ok).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn like(&self, host: NodeId, look: Look) -> Option<Part> {
        let parts = self.lock();
        let alike = |one: &&Part| one.host == host && one.look == look && one.at.elapsed() < IDLE;
        parts.iter().rev().find(alike).cloned()
    }

    /// Notes that a host has all of a call, of which it lacked `lacks` of what it should have had.
    pub(in crate::calls) fn note(&self, host: NodeId, call: CallId, known: &Known, lacks: &[u32]) {
        let mut parts = self.lock();
        for (part, look) in known.looks.iter().copied() {
            let again = known.again.iter().find(|one| one.part == part);
            let found = parts.iter().position(|one| one.host == host && one.look == look);
            let before = found.and_then(|at| parts.remove(at));
            let at = Instant::now();
            // What the host had, it goes on to have from the call that brought it.
            parts.push_back(match (again, before) {
                (Some(_), Some(before)) if !lacks.contains(&part) => Part { at, ..before },
                _ => Part { host, look, call, part, at },
            });
        }
        let over = parts.len().saturating_sub(REMEMBERED);
        parts.drain(..over);
    }
}

fn look(payload: &Payload, start: u64, len: u64) -> std::io::Result<Look> {
    let mut bytes = [0; LOOK * PLACES as usize];
    let last = len.saturating_sub(LOOK as u64);
    for (place, bytes) in (0..PLACES).zip(bytes.chunks_mut(LOOK)) {
        let at = last / (PLACES - 1) * place;
        payload.file().read_exact_at(bytes, PAYLOAD_AT + start + at.min(last))?;
    }
    Ok(Look { len, hash: Hash::of(&bytes) })
}
