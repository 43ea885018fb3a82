//! Large parts of calls that their host has from a call before: named, and not sent again.
//!
//! ```text
//! Sent (of the caller) --Call with `again`--> Kept (of the host)
//!                      <----Ready::Lacks-----
//!                      ----what it lacks----->
//! ```
//!
//! Of calls at the same moment one sends, and the others wait until it has written all; the host then
//! waits for what is under way yet of what they name.
//!
//! The caller remembers how parts looked, not the parts. One that looks like an earlier one is hashed
//! and named. The host copies what it has and hashes the copy: functions may write to what they are
//! given. What does not have the hash is sent like any other.

mod arriving;
mod kept;
mod sending;
mod sent;

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _, sync::Mutex, thread};

use rhd_protocol::{
    call::{Call, KEPT_PART, MAX_AGAIN},
    frame::PAYLOAD_AT,
    id::{Hash, NodeId},
    pieces::{self, PIECE},
};

pub(super) use self::{
    arriving::Arriving,
    kept::Kept,
    sent::{Known, Sent},
};

/// Threads that hash one part.
const THREADS: usize = 4;

/// Whose call: what a node sent for one env is used for no other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) peer: NodeId,
    pub(super) env: &'a str,
}

/// Where the parts of a payload are in it.
#[derive(Debug)]
pub(super) struct Layout {
    spans: Vec<Range<u64>>,
    /// Bytes of the parts that should be here.
    again: u64,
}

/// The spans of parts, if together they have a length.
fn spans(parts: &[u64]) -> Option<Vec<Range<u64>>> {
    let mut at = 0u64;
    let span = |len: &u64| {
        let start = at;
        at = at.checked_add(*len)?;
        Some(start..at)
    };
    parts.iter().map(span).collect()
}

/// The parts that may be kept, with their spans.
fn large(spans: &[Range<u64>]) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
    let large = spans.iter().zip(0..).filter(|(span, _)| span.end - span.start >= KEPT_PART);
    large.take(MAX_AGAIN).map(|(span, part)| (part, span.clone()))
}

impl Layout {
    /// That of a call with a payload of `len` bytes; none where the call does not fit it.
    pub(super) fn of(call: &Call, len: u64) -> Option<Self> {
        let spans = spans(&call.parts)?;
        if spans.last()?.end != len || call.again.len() > MAX_AGAIN {
            return None;
        }
        let (mut again, mut next) = (0, 0);
        for one in &call.again {
            let span = spans.get(one.part as usize)?;
            let len = span.end - span.start;
            if one.part < next || len < KEPT_PART {
                return None;
            }
            (again, next) = (again + len, one.part + 1);
        }
        Some(Self { spans, again })
    }

    /// Bytes of the parts that should be here.
    pub(super) fn again(&self) -> u64 {
        self.again
    }

    fn span(&self, part: u32) -> Range<u64> {
        self.spans.get(part as usize).cloned().unwrap_or_default()
    }

    /// What is to be sent where `lacks` are not there: all but the other parts of `again`.
    pub(super) fn without(&self, call: &Call, lacks: &[u32]) -> Vec<Range<u64>> {
        let (mut missing, mut at) = (Vec::new(), 0);
        for one in call.again.iter().filter(|one| !lacks.contains(&one.part)) {
            let span = self.span(one.part);
            missing.push(at..span.start);
            at = span.end;
        }
        missing.push(at..self.spans.last().map_or(at, |span| span.end));
        missing.retain(|span| !span.is_empty());
        missing
    }
}

/// The hash of a part of a payload, which is copied to the same place of another on the way, if one
/// is given.
fn hash(file: &File, part: Range<u64>, copy: Option<(&File, u64)>) -> io::Result<Hash> {
    let size = part.end - part.start;
    let count = pieces::count(size);
    let next = Mutex::new(0..count);
    let take = || next.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let work = || -> io::Result<Vec<(u64, [u8; 32])>> {
        let (mut buffer, mut values) = (vec![0; PIECE as usize], Vec::new());
        while let Some(index) = take() {
            let (at, len) = pieces::span(index, size);
            let bytes = &mut buffer[..len as usize];
            file.read_exact_at(bytes, PAYLOAD_AT + part.start + at)?;
            if let Some((to, start)) = copy {
                to.write_all_at(bytes, PAYLOAD_AT + start + at)?;
            }
            let value = pieces::value(index, bytes);
            values.push((index, value.ok_or(io::ErrorKind::InvalidInput)?));
        }
        Ok(values)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work()?;
        for other in others {
            let theirs = other.join();
            found.extend(theirs.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?);
        }
        io::Result::Ok(found)
    })?;
    found.sort_unstable();
    let values: Vec<[u8; 32]> = found.into_iter().map(|(_, value)| value).collect();
    pieces::root(&values).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests;
