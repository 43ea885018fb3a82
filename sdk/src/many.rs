//! Many calls on one connection: one task reads and writes it for all of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use rhd_protocol::{
    call::{Glance, Reply},
    error::ErrorInfo,
    frame,
    id::CallId,
    many::{CALLS, Order, Owed, WINDOW},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::Notify,
};

use crate::connection::{self, Connection, ConnectionError, Cut, STEP};

/// Bytes of orders that wait to be written; a call that comes then takes a connection of its own.
const OUT: usize = 1024 * 1024;
/// Bytes that are asked of the socket at once.
const READ: usize = 32 * 1024;

/// A connection that carries many calls. Dropping the last reference closes it.
#[derive(Debug)]
pub(crate) struct Many {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Tells the task that there is something to write, or that nobody is left.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<CallId, Waiting>,
    /// Orders that the task has yet to take.
    out: BytesMut,
    /// Bytes of all orders so far.
    ordered: u64,
    /// Set at the end of the connection.
    ended: Option<End>,
    /// Whether nobody needs the connection.
    abandoned: bool,
}

/// A call under way.
#[derive(Debug)]
struct Waiting {
    replies: VecDeque<Frame>,
    reader: Option<Waker>,
    owed: Owed,
    /// Where its order is in all that was ordered.
    order: std::ops::Range<u64>,
}

/// A reply that was not decoded yet.
#[derive(Debug)]
struct Frame {
    last: bool,
    header: Bytes,
    body: Bytes,
}

/// How the connection ended.
#[derive(Debug)]
struct End {
    /// What the daemon said, if it did.
    said: Option<ErrorInfo>,
    /// Orders that were not written, or not in full.
    unsent: BytesMut,
    /// Where they start in all that was ordered.
    unsent_at: u64,
    /// Bytes that were written.
    written: u64,
}

/// What comes next for a call.
pub(crate) enum Next {
    /// A reply; the last one or not.
    Reply(Reply, Bytes),
    /// Bytes that are no reply.
    Garbled(frame::FrameError),
    /// The connection ended under it; the daemon may have said why.
    Lost(Option<ErrorInfo>),
    /// The connection ended before the call was sent: it has not run. The order, to be sent again.
    Unsent(Vec<u8>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_one();
    }
}

impl Many {
    /// Takes a connection that the daemon has switched over.
    pub(crate) fn start(connection: Connection) -> Self {
        let shared = Arc::new(Shared::default());
        let (stream, read) = connection.into_parts();
        let (from, to) = stream.into_split();
        let task = Task {
            shared: shared.clone(),
            from,
            to,
            read,
            more: READ,
            writing: BytesMut::new(),
            done: 0,
            before: 0,
            said: None,
        };
        tokio::spawn(task.run());
        Self { shared }
    }

    /// Whether its daemon still is at the other end, as far as is known.
    pub(crate) fn is_alive(&self) -> bool {
        self.shared.lock().ended.is_none()
    }

    /// Orders a call; false when there are too many, or the connection has ended.
    pub(crate) fn begin(&self, id: CallId, head: &[u8], body: &[u8]) -> bool {
        let mut state = self.shared.lock();
        if state.ended.is_some() || state.calls.len() >= CALLS || state.out.len() > OUT {
            return false;
        }
        let start = state.ordered;
        self.order(&mut state, &[head, body]);
        let order = start..state.ordered;
        let owed = Owed::default();
        state.calls.insert(id, Waiting { replies: VecDeque::new(), reader: None, owed, order });
        true
    }

    /// Gives up a call: nothing is heard of it any more.
    pub(crate) fn cancel(&self, id: CallId) {
        let mut state = self.shared.lock();
        if state.calls.remove(&id).is_some() && state.ended.is_none() {
            self.say(&mut state, &Order::Cancel { id });
        }
    }

    /// The next reply of a call.
    pub(crate) fn poll_next(&self, id: CallId, cx: &Context<'_>) -> Poll<Next> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Some(call) = state.calls.get_mut(&id) else { return Poll::Ready(Next::Lost(None)) };
        let Some(frame) = call.replies.pop_front() else {
            let Some(end) = &state.ended else {
                match &mut call.reader {
                    Some(reader) => reader.clone_from(cx.waker()),
                    reader => *reader = Some(cx.waker().clone()),
                }
                return Poll::Pending;
            };
            let next = end.of(&call.order);
            state.calls.remove(&id);
            return Poll::Ready(next);
        };
        if frame.last {
            state.calls.remove(&id);
        } else if let Some(items) = call.owed.read(frame.header.len() + frame.body.len())
            && state.ended.is_none()
        {
            self.say(state, &Order::Credit { id, items });
        }
        drop(guard);
        Poll::Ready(match frame::decode(&frame.header) {
            Ok(reply) => Next::Reply(reply, frame.body),
            Err(error) => Next::Garbled(error),
        })
    }

    fn say(&self, state: &mut State, order: &Order) {
        // An id and a number always fit.
        if let Ok(order) = frame::encode(order, 0) {
            self.order(state, &[&order]);
        }
    }

    fn order(&self, state: &mut State, parts: &[&[u8]]) {
        let idle = state.out.is_empty();
        for part in parts {
            state.out.extend_from_slice(part);
            state.ordered += part.len() as u64;
        }
        if idle {
            self.shared.changed.notify_one();
        }
    }
}

impl End {
    fn of(&self, order: &std::ops::Range<u64>) -> Next {
        let at = |place: u64| usize::try_from(place.checked_sub(self.unsent_at)?).ok();
        match (at(order.start), at(order.end)) {
            (Some(start), Some(end)) if order.end > self.written => {
                Next::Unsent(self.unsent.get(start..end).unwrap_or_default().to_vec())
            }
            _ => Next::Lost(self.said.clone()),
        }
    }
}

/// What reads and writes the connection.
struct Task {
    shared: Arc<Shared>,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// What was read and not yet passed on.
    read: BytesMut,
    /// Bytes that are asked for next.
    more: usize,
    /// Orders that are being written, and how much of them is.
    writing: BytesMut,
    done: usize,
    /// Bytes of the orders before those.
    before: u64,
    /// Why the daemon closes the connection.
    said: Option<ErrorInfo>,
}

/// At the end, and wherever its runtime drops it.
impl Drop for Task {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let mut unsent = std::mem::take(&mut self.writing);
        unsent.unsplit(state.out.split());
        let written = self.before + self.done as u64;
        state.ended = Some(End { said: self.said.take(), unsent, unsent_at: self.before, written });
        let readers: Vec<_> =
            state.calls.values_mut().filter_map(|call| call.reader.take()).collect();
        drop(state);
        readers.into_iter().for_each(Waker::wake);
    }
}

impl Task {
    async fn run(mut self) {
        if let Err(error) = self.serve().await {
            tracing::debug!(%error, "a connection to the daemon ended");
        }
    }

    async fn serve(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.read.reserve(self.more);
            tokio::select! {
                biased;
                read = self.from.read_buf(&mut self.read) => {
                    if read? == 0 || !self.pass_on()? {
                        return Ok(());
                    }
                }
                () = self.shared.changed.notified() => {
                    if self.shared.lock().abandoned {
                        return Ok(());
                    }
                }
                written = self.to.write(&self.writing[self.done..]), if !self.writing.is_empty() => {
                    self.done += written?;
                }
            }
            if self.done == self.writing.len() {
                self.before += self.done as u64;
                self.done = 0;
                self.writing = self.shared.lock().out.split();
            }
        }
    }

    /// Hands all replies that were read to their calls; false when the daemon closes.
    fn pass_on(&mut self) -> Result<bool, ConnectionError> {
        let mut readers = Vec::new();
        let passed = self.sort(&mut readers);
        readers.into_iter().for_each(Waker::wake);
        passed
    }

    fn sort(&mut self, readers: &mut Vec<Waker>) -> Result<bool, ConnectionError> {
        let mut state = self.shared.lock();
        loop {
            let (header, body) = match connection::cut(&mut self.read)? {
                Cut::Frame(header, body) => (header, body),
                Cut::Missing(bytes) => {
                    self.more = bytes.clamp(READ, STEP);
                    return Ok(true);
                }
            };
            let glance: Glance = frame::decode(&header)?;
            let last = glance.t.is_final();
            let Some(id) = glance.id else {
                if !last {
                    // It says nothing about a call.
                    continue;
                }
                if let Reply::Fail { error, .. } = frame::decode(&header)? {
                    self.said = Some(error);
                }
                return Ok(false);
            };
            // Of a call that was given up there may still be some.
            let Some(call) = state.calls.get_mut(&id) else { continue };
            if call.replies.len() > WINDOW as usize {
                return Ok(false);
            }
            call.replies.push_back(Frame { last, header, body });
            readers.extend(call.reader.take());
        }
    }
}
