//! Code is loaded into a process before the first call that needs it there.
//!
//! A load runs in a task of its own, which reads what it prints whether or not its caller does: all
//! other calls of the service wait for it.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    call::{Call, Reply, Verb},
    error::ErrorInfo,
    id::Hash,
};
use tokio::{
    sync::OwnedMutexGuard,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    LoadUnit,
    lease::Lease,
    mailbox::Mailbox,
    process::Process,
    stream::{expired, until},
};
use crate::framed::{Frame, FramedError};

/// How long replies that a process wrote before it died may take to be read.
pub(super) const LAST_REPLIES: Duration = Duration::from_millis(200);

/// A version that has to be loaded, and the right to do so.
#[derive(Debug)]
pub(super) struct Needed {
    loaded: OwnedMutexGuard<Option<Hash>>,
    version: Hash,
}

/// A load under way.
pub(super) type Loading = JoinHandle<Loaded>;

/// How a load ended.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The lane that it ran on.
    pub(super) lease: Lease,
    /// Its final reply, or why there is none.
    pub(super) end: Result<Frame, Option<FramedError>>,
}

/// What has to be loaded before `call`, if anything. Waits while somebody else loads it.
pub(super) async fn needed(
    process: &Process,
    call: &Call,
    unit: Option<&LoadUnit>,
    deadline: Option<Instant>,
) -> Result<Option<Needed>, ErrorInfo> {
    let (service, version) = match (call.verb, &call.load, unit) {
        (Verb::Load, Some(load), _) => (&call.service, load.version),
        (Verb::Load, None, _) | (_, _, None) => return Ok(None),
        (_, _, Some(unit)) => (&unit.service, unit.load.version),
    };
    let lock = process.loaded(service).lock_owned();
    let loaded = tokio::select! {
        biased;
        loaded = lock => loaded,
        status = process.over() => return Err(process.death_error(status)),
        () = until(deadline) => return Err(expired(call.id)),
    };
    let needed = *loaded != Some(version) || call.verb == Verb::Load;
    Ok(needed.then_some(Needed { loaded, version }))
}

/// The call that loads what `call` needs; in its name, so that output and cancellation are its own.
pub(super) fn load_call(call: &Call, unit: &LoadUnit) -> Call {
    Call {
        service: unit.service.clone(),
        verb: Verb::Load,
        method: None,
        instance: None,
        parts: if unit.body.is_empty() { Vec::new() } else { vec![unit.body.len() as u64] },
        load: Some(unit.load.clone()),
        ..call.clone()
    }
}

/// Starts a load on a lane; its output goes to `mailbox`.
pub(super) fn start(
    mut lease: Lease,
    frame: Frame,
    mut needed: Needed,
    mailbox: Arc<Mailbox>,
    max_body: usize,
) -> Loading {
    lease.begun();
    if let Some(conn) = lease.conn() {
        conn.queue(frame);
    }
    tokio::spawn(async move {
        loop {
            let frame = match talk(&mut lease, max_body).await {
                Ok(frame) => frame,
                Err(why) => return Loaded { lease, end: Err(why) },
            };
            match frame.header::<Reply>() {
                Ok(reply) if reply.is_final() => {
                    if matches!(reply, Reply::Done { .. }) {
                        *needed.loaded = Some(needed.version);
                    }
                    return Loaded { lease, end: Ok(frame) };
                }
                Ok(_) => mailbox.push_log(frame),
                Err(e) => return Loaded { lease, end: Err(Some(e.into())) },
            }
        }
    })
}

/// Writes what is left to write on a lane, then reads the next reply. Errors when the lane ends, or
/// its process does (whose children may hold the lane open). May be abandoned.
pub(super) async fn talk(lease: &mut Lease, max_body: usize) -> Result<Frame, Option<FramedError>> {
    let process = lease.process().clone();
    let Some(conn) = lease.conn() else { return Err(None) };
    let talk = async {
        if !conn.is_flushed() {
            conn.flush().await?;
        }
        conn.read(max_body).await
    };
    tokio::select! {
        biased;
        frame = talk => return read(frame),
        _ = process.over() => {}
    }
    match timeout(LAST_REPLIES, conn.read(max_body)).await {
        Ok(frame) => read(frame),
        Err(_) => Err(None),
    }
}

fn read(frame: Result<Option<Frame>, FramedError>) -> Result<Frame, Option<FramedError>> {
    frame.map_err(Some)?.ok_or(None)
}
