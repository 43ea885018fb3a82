//! One client's connection that carries many calls: see [`rhd_protocol::many`].
//!
//! ```text
//! orders --read--> Under way (a future per call, one task) --replies--> Out --one write--> client
//! ```
//!
//! All of it is one task: it takes whatever is ready, and writes when nothing more is. Under load one
//! wake-up and one system call so serve many calls. Replies are written in the order they come; no
//! further one is taken while [`OUT`] bytes wait, so at most one large result is held, and a small
//! one waits behind no more than that.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{AbortHandle, Abortable, BoxFuture, FutureExt},
    stream::FuturesUnordered,
};
use rhd_protocol::{
    VERSION,
    api::AnyRequest,
    call::{Call, Glance, Reply},
    error::{ErrorInfo, ErrorKind},
    frame::{FrameError, MAX_BODY},
    id::CallId,
    many::{CALLS, Order, Unread},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{
    Api,
    connection::{SLOW_REQUEST, not_understood, other_version},
};
use crate::{
    calls::Replies,
    framed::{Body, Conn, Frame, FramedError, Gathered},
};

/// Bytes of replies that wait to be written; beyond this no further one is taken from its call.
const OUT: usize = 256 * 1024;
/// The same, beyond which no further order is read: what refusals may add.
const FULL: usize = 4 * OUT;
/// How long a client may take to read why it is hung up on.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Replies on their way out, with what keeps the node from ending before the last of a call is
/// written.
type Out = Gathered<Option<TaskTrackerToken>>;

/// Serves calls until the client closes, which cancels those under way.
pub(super) async fn serve(api: &Arc<Api>, conn: Conn, client: u32) -> Result<(), FramedError> {
    let (mut orders, mut out) = conn.into_gathered();
    let mut calls = UnderWay::new(api.clone(), client);
    let mut slow = std::pin::pin!(sleep(SLOW_REQUEST));
    let mut partial = false;
    loop {
        tokio::select! {
            biased;
            Some(step) = calls.steps.next(), if out.len() < OUT => {
                // One that was cancelled takes its replies with it.
                if let Ok(step) = step {
                    calls.took(step, &mut out);
                }
            }
            frame = orders.read(MAX_BODY), if out.len() < FULL => {
                let frame = match frame {
                    Ok(Some(frame)) => frame,
                    Ok(None) => return Ok(()),
                    Err(FramedError::Frame(error)) => {
                        return hang_up(out, not_understood(&error)).await;
                    }
                    Err(error) => return Err(error),
                };
                if let Err(error) = calls.order(frame, &mut out) {
                    return hang_up(out, error).await;
                }
                partial = false;
            }
            // After those, so that one write takes all that was ready.
            written = out.flush_some(), if !out.is_empty() => written?,
            () = &mut slow, if partial => return Ok(()),
        }
        if partial != orders.is_partial() {
            partial = !partial;
            slow.as_mut().reset(Instant::now() + SLOW_REQUEST);
        }
        if out.len() >= OUT {
            out.try_flush()?;
        }
    }
}

/// Says why, then closes.
async fn hang_up(mut out: Out, error: ErrorInfo) -> Result<(), FramedError> {
    out.push(Frame::new(&Reply::fail(error), Bytes::new())?, None);
    let told = async {
        while !out.is_empty() {
            out.flush_some().await?;
        }
        Ok(())
    };
    timeout(LAST_WORDS, told).await.unwrap_or(Ok(()))
}

/// Each waits for the next reply of a call.
type Steps = FuturesUnordered<Abortable<BoxFuture<'static, Step>>>;

/// The calls of one connection.
struct UnderWay {
    api: Arc<Api>,
    /// Process id of the client.
    client: u32,
    calls: HashMap<CallId, OneCall>,
    steps: Steps,
    /// Calls so far.
    begun: u64,
}

/// A call under way.
struct OneCall {
    /// Which one with this id.
    number: u64,
    unread: Unread,
    /// Its replies, while its reader is behind.
    held: Option<Box<Replies>>,
    /// Ends the waiting for its next reply.
    wait: AbortHandle,
    /// Held until its final reply is written: a node that drains waits for that.
    token: TaskTrackerToken,
}

/// The next reply of a call.
struct Step {
    id: CallId,
    number: u64,
    replies: Box<Replies>,
    frame: Option<Frame>,
}

impl UnderWay {
    fn new(api: Arc<Api>, client: u32) -> Self {
        Self { api, client, calls: HashMap::new(), steps: Steps::new(), begun: 0 }
    }

    /// Follows an order; an error ends the connection.
    fn order(&mut self, frame: Frame, out: &mut Out) -> Result<(), ErrorInfo> {
        match frame.header::<Order>() {
            Ok(Order::Call { call }) => return self.begin(*call, frame.into_body(), out),
            Ok(Order::Cancel { id }) => {
                if let Some(call) = self.calls.remove(&id) {
                    call.wait.abort();
                }
            }
            Ok(Order::Credit { id, items }) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.unread.read(items);
                    call.go_on(id, &self.steps);
                }
            }
            Err(error) => return Err(not_an_order(&frame, &error)),
        }
        Ok(())
    }

    fn begin(&mut self, mut call: Call, body: Body, out: &mut Out) -> Result<(), ErrorInfo> {
        let id = call.id;
        if let Err(error) = self.admit(&call) {
            let reply = Reply::Fail { id: Some(id), error: error.call(id) };
            out.push(Frame::new(&reply, Bytes::new()).map_err(|e| not_understood(&e))?, None);
            return Ok(());
        }
        call.client = self.client;
        self.begun += 1;
        let number = self.begun;
        let replies = Box::new(self.api.calls.call(call, body));
        let wait = wait(id, number, replies, &self.steps);
        let token = self.api.requests.token();
        let call = OneCall { number, unread: Unread::default(), held: None, wait, token };
        self.calls.insert(id, call);
        Ok(())
    }

    fn admit(&self, call: &Call) -> Result<(), ErrorInfo> {
        if call.v != VERSION {
            return Err(other_version(call.v, "call"));
        }
        if self.calls.contains_key(&call.id) {
            let text = format!("call {} is under way on this connection already", call.id);
            return Err(
                ErrorInfo::new(ErrorKind::Conflict, text).hint("choose a fresh id for each call")
            );
        }
        if self.calls.len() >= CALLS {
            let text = format!("{CALLS} calls are under way on this connection");
            return Err(ErrorInfo::new(ErrorKind::QueueFull, text)
                .hint("nothing ran; wait for some, or open another connection"));
        }
        Ok(())
    }

    /// Passes a reply on, and waits for the one after it.
    fn took(&mut self, step: Step, out: &mut Out) {
        let Step { id, number, replies, frame } = step;
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.number == number) else {
            return;
        };
        match frame.map(|frame| of_call(id, frame)) {
            Some(Ok(Some((frame, false)))) => {
                call.unread.sent(frame.len());
                out.push(frame, None);
            }
            // It says nothing about the call.
            Some(Ok(None)) => {}
            Some(Ok(Some((frame, true)))) => {
                let call = self.calls.remove(&id);
                return out.push(frame, call.map(|call| call.token));
            }
            None => self.broken(id, "it ended without a result", out),
            Some(Err(error)) => self.broken(id, &error.to_string(), out),
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.held = Some(replies);
            call.go_on(id, &self.steps);
        }
    }

    /// Ends a call whose replies can't be passed on.
    fn broken(&mut self, id: CallId, why: &str, out: &mut Out) {
        let error = ErrorInfo::new(ErrorKind::Internal, format!("reply: {why}")).call(id);
        let call = self.calls.remove(&id);
        if let Ok(frame) = Frame::new(&Reply::Fail { id: Some(id), error }, Bytes::new()) {
            out.push(frame, call.map(|call| call.token));
        }
    }
}

impl OneCall {
    /// Waits for the next reply, if its reader has room for one.
    fn go_on(&mut self, id: CallId, steps: &Steps) {
        if self.unread.has_room()
            && let Some(replies) = self.held.take()
        {
            self.wait = wait(id, self.number, replies, steps);
        }
    }
}

fn wait(id: CallId, number: u64, mut replies: Box<Replies>, steps: &Steps) -> AbortHandle {
    let next = async move {
        let frame = replies.next().await;
        Step { id, number, replies, frame }
    };
    let (wait, registration) = AbortHandle::new_pair();
    steps.push(Abortable::new(next.boxed(), registration));
    wait
}

fn not_an_order(frame: &Frame, error: &FrameError) -> ErrorInfo {
    match frame.header::<AnyRequest>() {
        Ok(any) if any.version() > VERSION => other_version(any.version(), &any.op),
        _ => not_understood(error),
    }
}

/// A reply with the id of its call, and whether it is the final one; none if it is of no call.
fn of_call(id: CallId, frame: Frame) -> Result<Option<(Frame, bool)>, FrameError> {
    if let Ok(glance) = frame.header::<Glance>()
        && glance.id == Some(id)
    {
        return Ok(Some((frame, glance.t.is_final())));
    }
    let reply = frame.header::<Reply>()?.with_id(id);
    if reply.id().is_none() {
        return Ok(None);
    }
    Ok(Some((frame.with_header(&reply)?, reply.is_final())))
}
