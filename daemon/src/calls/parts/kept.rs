//! What peers sent lately.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use rhd_protocol::{
    call::{Again, Call},
    error::{ErrorInfo, ErrorKind},
    id::{CallId, Hash, NodeId},
};

use super::{Layout, Owner, hash, large, spans};
use crate::{calls::intake, framed::Payload};

/// How long a payload is kept whose parts nobody names.
pub(super) const IDLE: Duration = Duration::from_secs(30);
/// Payloads of one node for one env that are kept; where each call brings another, they are this and
/// the next ones, whose pages are used in turns.
const EACH: usize = 3;
/// Bytes that are kept at most, on any machine.
const MOST: u64 = 1 << 30;

/// Payloads of calls whose parts may be named by others.
#[derive(Debug)]
pub(in crate::calls) struct Kept {
    entries: Arc<Mutex<VecDeque<Entry>>>,
    /// Bytes of all.
    room: u64,
}

#[derive(Debug)]
struct Entry {
    peer: NodeId,
    env: String,
    call: CallId,
    file: Arc<File>,
    len: u64,
    parts: Vec<Part>,
    used: Instant,
}

#[derive(Debug)]
struct Part {
    part: u32,
    span: Range<u64>,
    /// As it was when it was last named.
    hash: Option<Hash>,
}

impl Entry {
    fn is_of(&self, owner: Owner<'_>) -> bool {
        self.peer == owner.peer && self.env == owner.env
    }

    /// Where a part is that was named, if it is in this payload.
    fn find(&self, again: &Again, len: u64) -> Option<usize> {
        let fits = |part: &Part| part.span.end - part.span.start == len;
        self.parts.iter().position(|part| {
            let named = self.call == again.call && part.part == again.of;
            fits(part) && (part.hash == Some(again.hash) || named)
        })
    }
}

fn lock(entries: &Mutex<VecDeque<Entry>>) -> MutexGuard<'_, VecDeque<Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    /// A sixteenth of the machine's memory, and no more than a GiB.
    pub(in crate::calls) fn of_this_machine() -> Self {
        Self::new((intake::memory() as u64 / 16).min(MOST))
    }

    pub(super) fn new(room: u64) -> Self {
        Self { entries: Arc::default(), room }
    }

    /// Writes the parts that a call names to where they belong in `into`; which of them are not here.
    pub(in crate::calls) async fn fill(
        &self,
        owner: Owner<'_>,
        call: &Call,
        layout: &Layout,
        into: Arc<File>,
    ) -> Result<Vec<u32>, ErrorInfo> {
        let mut lacks = Vec::new();
        for again in &call.again {
            let span = layout.span(again.part);
            let len = span.end - span.start;
            let Some((file, of, part)) = self.find(owner, again, len) else {
                lacks.push(again.part);
                continue;
            };
            let (source, target, start) = (file.clone(), into.clone(), span.start);
            let copied =
                tokio::task::spawn_blocking(move || hash(&source, part, Some((&target, start))));
            let copied = copied.await;
            let same = matches!(&copied, Ok(Ok(hash)) if *hash == again.hash);
            self.held(&file, of, same.then_some(again.hash));
            match copied {
                Ok(Ok(_)) if same => {}
                Ok(Ok(_)) => lacks.push(again.part),
                Ok(Err(error)) => return Err(failed(&error)),
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(lacks)
    }

    fn find(
        &self,
        owner: Owner<'_>,
        again: &Again,
        len: u64,
    ) -> Option<(Arc<File>, u32, Range<u64>)> {
        let mut entries = lock(&self.entries);
        let mut own = entries.iter_mut().rev().filter(|entry| entry.is_of(owner));
        own.find_map(|entry| {
            let part = &entry.parts[entry.find(again, len)?];
            entry.used = Instant::now();
            Some((entry.file.clone(), part.part, part.span.clone()))
        })
    }

    /// Notes what a part was found to be; one that is not what it was is not named again.
    fn held(&self, file: &Arc<File>, part: u32, hash: Option<Hash>) {
        let mut entries = lock(&self.entries);
        for entry in entries.iter_mut().filter(|entry| Arc::ptr_eq(&entry.file, file)) {
            match hash {
                Some(_) => {
                    let parts = entry.parts.iter_mut().filter(|one| one.part == part);
                    parts.for_each(|one| one.hash = hash);
                }
                None => entry.parts.retain(|one| one.part != part),
            }
        }
    }

    /// Keeps the payload of a call for a while, if it brought large parts.
    pub(in crate::calls) fn keep(&self, owner: Owner<'_>, call: &Call, payload: &Payload) {
        let Some(spans) = spans(&call.parts) else { return };
        let len = payload.len();
        if len > self.room || spans.last().is_none_or(|span| span.end != len) {
            return;
        }
        // What came from another payload stays in that.
        let came = |part: &u32| !call.again.iter().any(|again| again.part == *part);
        let parts = large(&spans).filter(|(part, _)| came(part));
        let parts: Vec<_> = parts.map(|(part, span)| Part { part, span, hash: None }).collect();
        if parts.is_empty() {
            return;
        }
        let mut entries = lock(&self.entries);
        let first = entries.is_empty();
        while entries.iter().filter(|entry| entry.is_of(owner)).count() >= EACH {
            let oldest = entries.iter().enumerate().filter(|(_, entry)| entry.is_of(owner));
            let Some((at, _)) = oldest.min_by_key(|(_, entry)| entry.used) else { break };
            entries.remove(at);
        }
        while entries.iter().map(|entry| entry.len).sum::<u64>() + len > self.room {
            let Some((at, _)) = entries.iter().enumerate().min_by_key(|(_, e)| e.used) else {
                break;
            };
            entries.remove(at);
        }
        entries.push_back(Entry {
            peer: owner.peer,
            env: owner.env.to_owned(),
            call: call.id,
            file: payload.file().clone(),
            len,
            parts,
            used: Instant::now(),
        });
        drop(entries);
        if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(forget_idle(Arc::downgrade(&self.entries)));
        }
    }

    #[cfg(test)]
    pub(super) fn payloads(&self) -> usize {
        lock(&self.entries).len()
    }
}

/// Lets go of payloads as they go out of use, until none is left.
async fn forget_idle(entries: Weak<Mutex<VecDeque<Entry>>>) {
    loop {
        tokio::time::sleep(IDLE / 3).await;
        let Some(entries) = entries.upgrade() else { return };
        let mut entries = lock(&entries);
        entries.retain(|entry| entry.used.elapsed() < IDLE && !entry.parts.is_empty());
        if entries.is_empty() {
            return;
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("arguments can't be taken from memory: {error}"))
        .hint("nothing ran; call again")
}
