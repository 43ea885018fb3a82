//! What peers were sent lately.

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rhd_protocol::{
    call::Again,
    frame::PAYLOAD_AT,
    id::{CallId, Hash, NodeId},
};

use super::{
    hash,
    kept::IDLE,
    large,
    sending::{Claim, Sending},
    spans,
};
use crate::framed::Payload;

/// Parts that are remembered.
const REMEMBERED: usize = 1024;
/// How a part looks: so many bytes of so many places.
const PLACES: u64 = 16;
const LOOK: usize = 256;
/// How long a call waits for others that send what it is to send.
const PATIENCE: Duration = Duration::from_secs(60);

/// How parts looked that peers were sent.
#[derive(Debug, Default)]
pub(in crate::calls) struct Sent {
    parts: Mutex<VecDeque<Part>>,
    sending: Sending<(NodeId, Look)>,
}

#[derive(Debug, Clone)]
struct Part {
    host: NodeId,
    look: Look,
    call: CallId,
    part: u32,
    at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// What other calls wait for, until this is dropped.
    _claims: Vec<Claim>,
}

impl Sent {
    /// Looks at the parts of a call, waits for others that send its host the same, and hashes those
    /// that this may have.
    pub(in crate::calls) async fn known(
        &self,
        host: NodeId,
        parts: &[u64],
        payload: &Payload,
    ) -> Known {
        let Some(spans) = spans(parts).filter(|s| s.last().is_some_and(|s| s.end == payload.len()))
        else {
            return Known::default();
        };
        let large: Vec<_> = large(&spans).collect();
        if large.is_empty() {
            return Known::default();
        }
        // A payload that can't be read fails when it is sent.
        self.known_of(host, large, payload).await.unwrap_or_default()
    }

    async fn known_of(
        &self,
        host: NodeId,
        large: Vec<(u32, Range<u64>)>,
        payload: &Payload,
    ) -> io::Result<Known> {
        let looked = payload.clone();
        let (large, looks) = blocking(move || {
            let look = |(part, span): &(u32, Range<u64>)| {
                Ok((*part, look(&looked, span.start, span.end - span.start)?))
            };
            let looks = large.iter().map(look).collect::<io::Result<Vec<_>>>()?;
            Ok((large, looks))
        })
        .await?;
        let claims = self.claims(host, looks.iter().map(|(_, look)| *look).collect()).await;
        let like = |((part, look), (_, span)): (&(u32, Look), (u32, Range<u64>))| {
            Some((*part, self.like(host, *look)?, span))
        };
        let alike: Vec<_> = looks.iter().zip(large).filter_map(like).collect();
        let mut known = Known { again: Vec::new(), looks, _claims: claims };
        if !alike.is_empty() {
            let hashed = payload.clone();
            let name = move |(part, before, span): (u32, Part, Range<u64>)| {
                let hash = hash(hashed.file(), span, None)?;
                Ok(Again { part, call: before.call, of: before.part, hash })
            };
            known.again = blocking(|| alike.into_iter().map(name).collect()).await?;
        }
        Ok(known)
    }

    /// The turns to send what a host was not sent, one for each, once those that send it are done.
    async fn claims(&self, host: NodeId, looks: BTreeSet<Look>) -> Vec<Claim> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut claims = Vec::new();
        // In one order for all calls, so that no two wait for each other.
        for look in looks {
            if self.like(host, look).is_some() {
                continue;
            }
            match self.sending.claim((host, look), until).await {
                Some(claim) if self.like(host, look).is_none() => claims.push(claim),
                Some(_) => {}
                // Enough: it sends its own.
                None => break,
            }
        }
        claims
    }

    /// Calls that send, or wait for others that do.
    #[cfg(test)]
    pub(super) fn sending(&self) -> usize {
        self.sending.calls()
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

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn look(payload: &Payload, start: u64, len: u64) -> io::Result<Look> {
    let mut bytes = [0; LOOK * PLACES as usize];
    let last = len.saturating_sub(LOOK as u64);
    for (place, bytes) in (0..PLACES).zip(bytes.chunks_mut(LOOK)) {
        let at = last / (PLACES - 1) * place;
        payload.file().read_exact_at(bytes, PAYLOAD_AT + start + at.min(last))?;
    }
    Ok(Look { len, hash: Hash::of(&bytes) })
}
