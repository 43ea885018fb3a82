//! One call from its first byte to its final reply.

mod event;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::{Call, Glance, Kind, Reply, Verb},
    error::{ErrorInfo, ErrorKind},
    frame::FrameError,
    id::CallId,
    machine::queue::Need,
    worker::Control,
};
use tokio::{sync::watch, time::Instant};

use self::event::Event;
use super::{
    Held, Invocation,
    cancel::{self, Ending},
    env::{Env, Wish},
    handle::caller_of,
    lease::{Grant, Lease, Place},
    load::{self, Loaded, Loading},
    mailbox::Mailbox,
    process::Process,
};
use crate::framed::{Body, Frame, FramedError};

/// The replies to a call, ending with a final one. Dropping it before that cancels the call.
#[derive(Debug)]
pub struct CallStream {
    /// The process that runs it; an instance that it constructs lives only there.
    pub incarnation: u64,
    active: Option<Active>,
    /// What is left to return once the call is over.
    rest: VecDeque<Frame>,
    /// Set while a call that is recorded is being ended.
    ending: Option<Box<Ending>>,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: CallId,
    pub(super) env: Arc<Env>,
    pub(super) process: Arc<Process>,
    pub(super) phase: Phase,
    pub(super) mailbox: Arc<Mailbox>,
    /// The instance that it constructs.
    pub(super) made: Option<String>,
    logs: bool,
    /// Whether what it writes while it is being ended is wanted too.
    recorded: bool,
    deadline: Option<Instant>,
    /// Items that were taken and not yet credited.
    owed: u32,
    _registered: Registered,
    _counted: Counted,
    /// The last to go.
    _held: Option<Box<dyn Held>>,
}

/// Where a call is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its code is being loaded, on a lane.
    Load { loading: Loading, then: Then },
    /// It has yet to be written to a lane that others use too.
    Send { frame: Frame, place: Place },
    /// It runs, or is being written.
    Run(Grant),
    /// Only for a moment, on the way to another phase.
    Moving,
}

/// What follows a load.
#[derive(Debug)]
pub(super) enum Then {
    /// Nothing: the load was the call.
    End,
    /// The call, on the same lane.
    Lane(Frame),
    /// The call, on a lane that others use too.
    Place(Frame, Place),
}

/// Keeps the call in its process's list.
#[derive(Debug)]
struct Registered {
    process: Arc<Process>,
    id: CallId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.process.calls.remove(&self.id);
    }
}

/// Counts the call as running or waiting.
#[derive(Debug)]
pub(super) struct Counted(watch::Sender<u32>);

impl Counted {
    pub(super) fn new(load: &watch::Sender<u32>) -> Self {
        load.send_modify(|load| *load += 1);
        Self(load.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|load| *load -= 1);
    }
}

/// What is known of a call before it is written.
pub(super) struct Opening {
    pub(super) env: Arc<Env>,
    pub(super) grant: Grant,
    pub(super) deadline: Option<Instant>,
    pub(super) counted: Counted,
}

impl CallStream {
    /// Starts the call on what it was granted.
    pub(super) async fn open(opening: Opening, mut inv: Invocation) -> Result<Self, ErrorInfo> {
        let Opening { env, grant, deadline, counted } = opening;
        let process = grant.process().clone();
        let (id, logs) = (inv.call.id, inv.call.logs);
        let recorded = inv.call.run.is_some() || inv.call.keep;
        let mailbox = Arc::new(Mailbox::default());
        if !process.calls.insert(id, &inv.call.service, logs, mailbox.clone()) {
            return Err(in_use(id));
        }
        let made = inv.call.instance.clone().filter(|_| inv.call.verb == Verb::New);
        let registered = Registered { process: process.clone(), id };
        let held = inv.held.take();
        let phase = first_phase(&env, grant, inv, &mailbox, deadline).await?;
        let mut active = Active {
            id,
            env,
            phase,
            mailbox,
            made,
            logs,
            recorded,
            deadline,
            owed: 0,
            _registered: registered,
            _counted: counted,
            _held: held,
            process: process.clone(),
        };
        active.write_at_once();
        let incarnation = process.incarnation;
        Ok(Self { incarnation, active: Some(active), rest: VecDeque::new(), ending: None })
    }

    /// Whether the reply before this was the final one.
    pub fn is_over(&self) -> bool {
        self.active.is_none() && self.rest.is_empty() && self.ending.is_none()
    }

    /// Whether it is being ended, and its final reply known.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Cancels the call: what it still writes comes, within a time, then `last`.
    pub fn end(&mut self, last: Frame) {
        match self.active.take() {
            Some(active) => self.ending = Some(Box::new(Ending::of(active, last))),
            None => self.rest.push_back(last),
        }
    }

    /// The next reply; `None` after the final one. May be abandoned and called again.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.rest.pop_front() {
                return Some(frame);
            }
            if let Some(ending) = &mut self.ending {
                let output = ending.output().await;
                return output.or_else(|| Some(self.ending.take()?.last()));
            }
            let event = self.active.as_mut()?.event().await;
            if let Some(frame) = self.handle(event).await {
                return Some(frame);
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Option<Frame> {
        let active = self.active.as_mut()?;
        match event {
            Event::Again => None,
            Event::Expired => {
                let last = fail(expired(active.id).on(&active.env.shared.node));
                if active.recorded {
                    self.end(last?);
                    return None;
                }
                cancel::wind_down(self.active.take()?);
                last
            }
            Event::Broken(why) => self.broken(why).await,
            Event::Loaded(Loaded { lease, end }) => match end {
                Err(why) => self.broken(why).await,
                Ok(frame) => match active.loaded(lease, &frame) {
                    true => None,
                    false => self.finish(frame),
                },
            },
            Event::Frame(frame) if is_final(&frame) => self.finish(frame),
            Event::Frame(frame) => match frame.header::<Reply>() {
                Ok(Reply::Item { .. }) => {
                    active.owed += 1;
                    Some(frame)
                }
                Ok(_) => Some(frame),
                Err(e) => self.broken(Some(e.into())).await,
            },
        }
    }

    /// No final reply will come from the worker.
    async fn broken(&mut self, why: Option<FramedError>) -> Option<Frame> {
        let active = self.active.as_mut()?;
        let error = match why {
            Some(FramedError::Frame(FrameError::Body { len, limit })) => {
                let text = format!("the result has {len} bytes; the limit here is {limit}");
                ErrorInfo::new(ErrorKind::BadRequest, text)
                    .hint("return less, or write it to a folder or blob and return its name")
            }
            Some(FramedError::Frame(e)) => {
                // What it writes is not to be trusted any more.
                active.process.kill(&format!("it wrote something that is no reply ({e})"));
                active.process.death().await
            }
            Some(FramedError::Io(_)) | None => active.process.death().await,
        };
        let error = error.on(&active.env.shared.node).call(active.id);
        self.active = None;
        fail(error)
    }

    /// The call is over: gives its lane back and returns what is left in order.
    fn finish(&mut self, mut last: Frame) -> Option<Frame> {
        let mut active = self.active.take()?;
        if let Ok(Glance { t: Kind::Fail, .. }) = last.header()
            && let Ok(Reply::Fail { id, error }) = last.header()
        {
            let error = error.on(&active.env.shared.node);
            last = last.with_header(&Reply::Fail { id, error }).unwrap_or(last);
        }
        if active.logs {
            active.process.output.pump_for(&active.id);
            self.rest.extend(std::iter::from_fn(|| active.mailbox.pop(active.id)));
        }
        self.rest.push_back(last);
        if let Phase::Run(grant) = &mut active.phase {
            grant.done();
        }
        drop(active);
        self.rest.pop_front()
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        if let Some(active) = self.active.take() {
            cancel::wind_down(active);
        }
    }
}

/// Prepares the frames of a call, and starts its load where one is needed.
async fn first_phase(
    env: &Arc<Env>,
    grant: Grant,
    inv: Invocation,
    mailbox: &Arc<Mailbox>,
    deadline: Option<Instant>,
) -> Result<Phase, ErrorInfo> {
    let max_body = env.shared.config.max_body;
    let Invocation { call, mut body, unit, .. } = inv;
    if matches!(body, Body::Beside(_)) && !grant.process().takes_beside() {
        body = Body::Inline(body.inline(max_body).await.map_err(|e| unfit(&e))?);
    }
    let needed = load::needed(grant.process(), &call, unit.as_deref(), deadline).await?;
    let unit = unit.filter(|_| call.verb != Verb::Load);
    let load = match &unit {
        Some(unit) if needed.is_some() => {
            Some(encode(&load::load_call(&call, unit), unit.body.clone())?)
        }
        _ => None,
    };
    let (lease, load, then) = match (grant, load) {
        (Grant::Lane(lease), Some(load)) => (lease, load, Then::Lane(encode(&call, body)?)),
        (Grant::Lane(lease), None) if needed.is_some() => (lease, encode(&call, body)?, Then::End),
        (Grant::Lane(mut lease), None) => {
            let frame = encode(&call, body)?;
            lease.begun();
            if let Some(conn) = lease.conn() {
                conn.queue(frame);
            }
            return Ok(Phase::Run(Grant::Lane(lease)));
        }
        (Grant::Place(place), None) => {
            let frame = encode(&Control::Call { call: Box::new(call) }, body)?;
            return Ok(Phase::Send { frame, place });
        }
        (Grant::Place(place), Some(load)) => {
            let frame = encode(&Control::Call { call: Box::new(call.clone()) }, body)?;
            // Imports would stop the calls beside it: they go over a lane of their own.
            let lane = lane_beside(env, &call, place.process(), deadline).await?;
            (lane, load, Then::Place(frame, place))
        }
    };
    let Some(needed) = needed else { return Err(bad_load()) };
    let loading = load::start(lease, load, needed, mailbox.clone(), max_body);
    Ok(Phase::Load { loading, then })
}

async fn lane_beside(
    env: &Arc<Env>,
    call: &Call,
    process: &Process,
    deadline: Option<Instant>,
) -> Result<Lease, ErrorInfo> {
    let wish = Wish { caller: caller_of(call), need: Need::Lane, function: None };
    let grant = tokio::select! {
        biased;
        grant = env.acquire(wish, Some(process.incarnation)) => grant?,
        () = until(deadline) => return Err(expired(call.id)),
    };
    match grant {
        Grant::Lane(lease) => Ok(lease),
        Grant::Place(_) => Err(bad_load()),
    }
}

/// Waits for a moment that may never come.
pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

pub(super) fn expired(id: CallId) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Timeout, "the call took longer than its timeout")
        .hint("allow more with `.options(timeout=…)`")
        .call(id)
}

fn fail(error: ErrorInfo) -> Option<Frame> {
    Frame::new(&Reply::fail(error), Bytes::new()).ok()
}

fn is_final(frame: &Frame) -> bool {
    frame.header::<Glance>().is_ok_and(|glance| glance.t.is_final())
}

fn in_use(id: CallId) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, "a call of this id runs already")
        .hint("choose a fresh random id for each call")
        .call(id)
}

fn bad_load() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, "code can't be loaded this way")
        .hint("send loads as plain calls, with what they load")
}

fn encode(header: &impl serde::Serialize, body: impl Into<Body>) -> Result<Frame, ErrorInfo> {
    Frame::new(header, body).map_err(|e| unfit(&e))
}

fn unfit(error: &dyn std::fmt::Display) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, format!("the call can't be sent: {error}"))
        .hint("pass less, or pass large data as a folder or blob")
}
