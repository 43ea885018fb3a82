//! One call from its first byte to its final reply.

use std::{collections::VecDeque, process::ExitStatus, sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    call::{Call, Reply, Verb},
    error::{ErrorInfo, ErrorKind},
    frame::FrameError,
    id::{CallId, Hash},
    worker::{Control, ITEM_CREDIT},
};
use tokio::{
    sync::{OwnedMutexGuard, watch},
    time::{Instant, timeout},
};

use super::{
    Invocation, LoadUnit, cancel, env::Env, lease::Grant, mailbox::Mailbox, process::Process,
};
use crate::framed::{Frame, FramedError};

/// How long replies that a process wrote before it died may take to be read.
const LAST_REPLIES: Duration = Duration::from_millis(200);

/// The replies to a call, ending with a final one. Dropping it before that cancels the call.
#[derive(Debug)]
pub struct CallStream {
    /// The process that runs it; an instance that it constructs lives only there.
    pub incarnation: u64,
    active: Option<Active>,
    /// What is left to return once the call is over.
    rest: VecDeque<Frame>,
}

/// A call under way.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: CallId,
    pub(super) env: Arc<Env>,
    pub(super) process: Arc<Process>,
    pub(super) grant: Grant,
    pub(super) mailbox: Arc<Mailbox>,
    /// Whether the worker has been told anything.
    pub(super) begun: bool,
    logs: bool,
    deadline: Option<Instant>,
    exit: watch::Receiver<Option<ExitStatus>>,
    phase: Phase,
    /// Items that were taken and not yet credited.
    owed: u32,
    _registered: Registered,
    _counted: Counted,
}

/// What the next final reply ends.
#[derive(Debug)]
enum Phase {
    /// The load; then the call itself is written, if there is one.
    Load { loaded: OwnedMutexGuard<Option<Hash>>, version: Hash, then: Option<Frame> },
    /// The load, as a call of its own on a lane, before a coroutine.
    LoadOnLane { load: Box<CallStream>, then: Frame },
    /// A coroutine that has yet to be written to the control lane.
    Send(Frame),
    /// The call.
    Run,
}

enum Event {
    Frame(Frame),
    /// Something else changed; look again.
    Again,
    Broken(Option<FramedError>),
    Expired,
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

/// What is known of a call before it has a lane.
pub(super) struct Opening {
    pub(super) env: Arc<Env>,
    pub(super) grant: Grant,
    pub(super) deadline: Option<Instant>,
    pub(super) counted: Counted,
}

impl CallStream {
    /// Starts the call on what it was granted.
    pub(super) async fn open(opening: Opening, inv: Invocation) -> Result<Self, ErrorInfo> {
        let Opening { env, mut grant, deadline, counted } = opening;
        let process = grant.process().clone();
        let call = inv.call;
        let (id, logs) = (call.id, call.logs);
        let mut phase = Phase::Run;
        let mut first = None;
        match (&mut grant, needed(&process, &call, inv.unit.as_deref(), deadline).await?) {
            (Grant::Loop(_), Some(_)) => {
                let load = Box::pin(load_on_lane(&env, &process, &call, &inv.unit)).await?;
                let then = encode(&Control::Call { call: Box::new(call.clone()) }, inv.body)?;
                phase = Phase::LoadOnLane { load: Box::new(load), then };
            }
            (Grant::Loop(_), None) => {
                phase =
                    Phase::Send(encode(&Control::Call { call: Box::new(call.clone()) }, inv.body)?);
            }
            (Grant::Lane(_), None) => first = Some(encode(&call, inv.body)?),
            (Grant::Lane(_), Some((loaded, version))) => {
                let own = encode(&call, inv.body)?;
                let (load, then) = match inv.unit.as_deref().filter(|_| call.verb != Verb::Load) {
                    Some(unit) => (encode(&load_call(&call, unit), unit.body.clone())?, Some(own)),
                    None => (own, None),
                };
                phase = Phase::Load { loaded, version, then };
                first = Some(load);
            }
        }
        let mailbox = Arc::new(Mailbox::default());
        let loads_first = matches!(phase, Phase::LoadOnLane { .. });
        if !loads_first && !process.calls.insert(id, &call.service, logs, mailbox.clone()) {
            return Err(in_use(id));
        }
        let mut active = Active {
            id,
            process: process.clone(),
            mailbox,
            begun: false,
            logs,
            deadline,
            exit: process.exit(),
            phase,
            owed: 0,
            _registered: Registered { process: process.clone(), id },
            _counted: counted,
            env,
            grant,
        };
        if let (Grant::Lane(lease), Some(frame)) = (&mut active.grant, first)
            && let Some(conn) = lease.conn()
        {
            conn.queue(frame);
            active.begun = true;
            active.grant.begun();
        }
        let mut stream =
            Self { incarnation: process.incarnation, active: Some(active), rest: VecDeque::new() };
        stream.send().await;
        Ok(stream)
    }

    /// Writes what opens the call, as far as the worker takes it; [`CallStream::next`] does the rest.
    async fn send(&mut self) {
        let Some(active) = &mut self.active else { return };
        match (&mut active.grant, &active.phase) {
            (Grant::Lane(lease), _) => {
                let Some(conn) = lease.conn() else { return };
                // A break shows again, with its cause, at the first read.
                tokio::select! {
                    _ = conn.flush() => {}
                    _ = active.exit.wait_for(Option::is_some) => {}
                    () = until(active.deadline) => {}
                }
            }
            (Grant::Loop(_), Phase::Send(frame)) => {
                let frame = frame.clone();
                if let Some(Ok(())) = active.process.control().map(|c| c.try_send(frame)) {
                    (active.phase, active.begun) = (Phase::Run, true);
                }
            }
            (Grant::Loop(_), _) => {}
        }
    }

    /// The next reply; `None` after the final one. May be abandoned and called again.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.rest.pop_front() {
                return Some(frame);
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
                let error = expired(active.id);
                let active = self.active.take()?;
                cancel::wind_down(active);
                self.fail(error)
            }
            Event::Broken(why) => {
                let error = match why {
                    Some(FramedError::Frame(FrameError::Body { len, limit })) => ErrorInfo::new(
                        ErrorKind::BadRequest,
                        format!("the result has {len} bytes; the limit here is {limit}"),
                    )
                    .hint("return less, or write it to a folder or blob and return its name"),
                    _ => active.process.death().await,
                };
                self.active = None;
                self.fail(error)
            }
            Event::Frame(frame) => match frame.header::<Reply>() {
                Ok(Reply::Fail { error, .. }) => {
                    let node = active.env.shared.node.clone();
                    let error = error.on(&node);
                    let frame = frame.with_header(&Reply::fail(error)).unwrap_or(frame);
                    self.finish(frame)
                }
                Ok(Reply::Done { .. }) => match active.loaded() {
                    true => None,
                    false => self.finish(frame),
                },
                Ok(Reply::Item { .. }) => {
                    active.owed += 1;
                    Some(frame)
                }
                Ok(_) => Some(frame),
                Err(_) => {
                    active.process.kill("it wrote something that is no reply");
                    None
                }
            },
        }
    }

    /// The call is over: gives its lane back and returns what is left in order.
    fn finish(&mut self, last: Frame) -> Option<Frame> {
        let mut active = self.active.take()?;
        if active.logs {
            active.process.output.pump();
            self.rest.extend(std::iter::from_fn(|| active.mailbox.pop(active.id)));
        }
        self.rest.push_back(last);
        active.grant.done();
        drop(active);
        self.rest.pop_front()
    }

    fn fail(&mut self, error: ErrorInfo) -> Option<Frame> {
        Frame::new(&Reply::fail(error), Bytes::new()).ok()
    }
}

impl Drop for CallStream {
    fn drop(&mut self) {
        if let Some(active) = self.active.take() {
            cancel::wind_down(active);
        }
    }
}

impl Active {
    /// What happens next. Every await in it may be abandoned.
    async fn event(&mut self) -> Event {
        if let Phase::LoadOnLane { load, .. } = &mut self.phase {
            return match Box::pin(load.next()).await {
                Some(frame) if !matches!(frame.header(), Ok(Reply::Done { .. })) => {
                    Event::Frame(frame)
                }
                _ => self.load_is_over(),
            };
        }
        if let Phase::Send(frame) = &self.phase {
            let Some(control) = self.process.control() else { return Event::Broken(None) };
            tokio::select! {
                place = control.reserve() => match place {
                    Ok(place) => place.send(frame.clone()),
                    Err(_) => return Event::Broken(None),
                },
                () = ended(&mut self.exit) => return Event::Broken(None),
                () = until(self.deadline) => return Event::Expired,
            }
            (self.phase, self.begun) = (Phase::Run, true);
        }
        match &mut self.grant {
            Grant::Loop(_) => self.loop_event().await,
            Grant::Lane(lease) => {
                if let Some(frame) = self.mailbox.pop(self.id) {
                    return Event::Frame(frame);
                }
                let Some(conn) = lease.conn() else { return Event::Broken(None) };
                let max_body = self.env.shared.config.max_body;
                let talk = async {
                    if !conn.is_flushed() {
                        conn.flush().await?;
                    }
                    conn.read(max_body).await
                };
                tokio::select! {
                    biased;
                    frame = talk => match frame {
                        Ok(Some(frame)) => Event::Frame(frame),
                        Ok(None) => Event::Broken(None),
                        Err(e) => Event::Broken(Some(e)),
                    },
                    () = self.mailbox.arrived(), if self.logs => Event::Again,
                    () = ended(&mut self.exit) => {
                        // It may have answered before it died, and a child may hold the lane open.
                        match timeout(LAST_REPLIES, conn.read(max_body)).await {
                            Ok(Ok(Some(frame))) => Event::Frame(frame),
                            _ => Event::Broken(None),
                        }
                    }
                    () = until(self.deadline) => Event::Expired,
                }
            }
        }
    }

    async fn loop_event(&mut self) -> Event {
        if self.owed >= ITEM_CREDIT / 2 {
            let credit = Control::Credit { id: self.id, items: self.owed };
            let Some(control) = self.process.control() else { return Event::Broken(None) };
            tokio::select! {
                place = control.reserve() => {
                    if let (Ok(place), Ok(frame)) = (place, Frame::new(&credit, Bytes::new())) {
                        place.send(frame);
                    }
                    self.owed = 0;
                }
                () = ended(&mut self.exit) => self.owed = 0,
                () = until(self.deadline) => return Event::Expired,
            }
        }
        if let Some(frame) = self.mailbox.pop(self.id) {
            return Event::Frame(frame);
        }
        tokio::select! {
            biased;
            () = self.mailbox.arrived() => Event::Again,
            () = ended(&mut self.exit) => {
                match timeout(LAST_REPLIES, self.mailbox.arrived()).await {
                    Ok(()) => Event::Again,
                    Err(_) => Event::Broken(None),
                }
            }
            () = until(self.deadline) => Event::Expired,
        }
    }

    /// A load that ended well: goes on with the call. False when there was no load, or when the
    /// load was all.
    fn loaded(&mut self) -> bool {
        match std::mem::replace(&mut self.phase, Phase::Run) {
            Phase::Load { mut loaded, version, then } => {
                *loaded = Some(version);
                drop(loaded);
                match (&mut self.grant, then) {
                    (Grant::Lane(lease), Some(frame)) => {
                        if let Some(conn) = lease.conn() {
                            conn.queue(frame);
                        }
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn load_is_over(&mut self) -> Event {
        match std::mem::replace(&mut self.phase, Phase::Run) {
            Phase::LoadOnLane { then, .. } => {
                let (id, mailbox) = (self.id, self.mailbox.clone());
                if !self.process.calls.insert(id, "", self.logs, mailbox) {
                    return Event::Broken(None);
                }
                self.phase = Phase::Send(then);
                Event::Again
            }
            phase => {
                self.phase = phase;
                Event::Again
            }
        }
    }

    /// Gives up a load before its coroutine; true when that was all there was.
    pub(super) fn is_loading_elsewhere(&self) -> bool {
        matches!(self.phase, Phase::LoadOnLane { .. })
    }
}

/// The lock of the service's entry in the process, when its version has to be loaded first.
async fn needed(
    process: &Process,
    call: &Call,
    unit: Option<&LoadUnit>,
    deadline: Option<Instant>,
) -> Result<Option<(OwnedMutexGuard<Option<Hash>>, Hash)>, ErrorInfo> {
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
    Ok((*loaded != Some(version) || call.verb == Verb::Load).then_some((loaded, version)))
}

/// The call that loads what `call` needs; in its name, so that output and cancellation are its own.
fn load_call(call: &Call, unit: &LoadUnit) -> Call {
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

async fn load_on_lane(
    env: &Arc<Env>,
    process: &Process,
    call: &Call,
    unit: &Option<Arc<LoadUnit>>,
) -> Result<CallStream, ErrorInfo> {
    let (call, body) = match unit.as_deref() {
        Some(unit) if call.verb != Verb::Load => (load_call(call, unit), unit.body.clone()),
        _ => return Err(ErrorInfo::new(ErrorKind::BadRequest, "a load runs on a lane")),
    };
    let inv = Invocation {
        call,
        body,
        unit: None,
        incarnation: Some(process.incarnation),
        on_loop: false,
        stateless: false,
    };
    super::handle::call(env, inv).await
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

fn in_use(id: CallId) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, "a call of this id runs already")
        .hint("choose a fresh random id for each call")
        .call(id)
}

fn encode(header: &impl serde::Serialize, body: Bytes) -> Result<Frame, ErrorInfo> {
    Frame::new(header, body).map_err(|e| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("the call can't be sent: {e}"))
            .hint("pass less, or pass large data as a folder or blob")
    })
}

/// Waits for the end of a process, and holds no lock after it.
async fn ended(exit: &mut watch::Receiver<Option<ExitStatus>>) {
    let _ = exit.wait_for(Option::is_some).await;
}
