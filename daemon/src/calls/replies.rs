//! Where a client's replies come from: a lane here, a stream from a peer, or a task of ours.

use std::{future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame::{FrameError, MAX_BODY, to_vec},
};
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::{JoinHandle, coop::consume_budget},
};

use super::{Outbox, remote::RemoteCall, watched::Watched};
use crate::{
    framed::{Frame, FramedError},
    naming::Hosted,
    runs::{self, Admitted, Attached},
    telemetry::Watch,
    workers::CallStream,
};

/// Replies of a task that are under way to its reader.
const WRITTEN: usize = 8;

/// A stream of replies that always ends with a final one. Dropping it cancels what makes them.
pub struct Replies {
    source: Source,
    on_final: Option<OnFinal>,
    /// Whether whoever reads them takes no payloads beside frames.
    inline: bool,
    watched: Watched,
}

/// Sees a successful result before the caller does; an error takes the result's place.
type OnFinal = Box<dyn FnOnce() -> Result<(), ErrorInfo> + Send>;

enum Source {
    /// Not started yet: it waits for a lane, a worker or a link. Dropped, it never starts.
    Starting(Starting),
    /// With its service, whose code is not pruned while the call runs.
    Local {
        stream: Box<CallStream>,
        call: Awaited,
        /// Whether it is a generator.
        yields: bool,
        _hosted: Arc<Hosted>,
    },
    /// A run that is recorded, and ended when this is dropped if its caller alone wants it.
    Run {
        /// Dropped first: what is left then are the others who wait.
        attached: Box<Attached>,
        wanted: Option<Wanted>,
    },
    Remote(Box<RemoteCall>),
    Task {
        frames: mpsc::Receiver<Frame>,
        ended: bool,
        _task: AbortOnDrop,
    },
    One(Option<Frame>),
    /// There are no more.
    Over,
}

/// A call of this node whose replies somebody waits for. Dropped before the final one, it counts as
/// cancelled.
pub(super) struct Awaited(pub(super) Arc<Admitted>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.dropped();
    }
}

/// A recorded run that is cancelled when this is dropped, unless others wait for it.
pub(super) struct Wanted(Option<Arc<Admitted>>);

impl Wanted {
    pub(super) fn new(call: Arc<Admitted>) -> Self {
        Self(Some(call))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(call) = self.0.as_ref().filter(|call| !call.is_shared()) {
            call.cancel();
        }
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<Replies, ErrorInfo>> + Send>>;

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Replies {
    fn of(source: Source) -> Self {
        Self { source, on_final: None, inline: false, watched: Watched::default() }
    }

    pub(super) fn local(
        stream: CallStream,
        call: Awaited,
        yields: bool,
        hosted: Arc<Hosted>,
    ) -> Self {
        let stream = Box::new(stream);
        Self::of(Source::Local { stream, call, yields, _hosted: hosted })
    }

    pub(super) fn run(attached: Attached, wanted: Option<Wanted>) -> Self {
        // Who attaches to a call did not say what it takes.
        Self::of(Source::Run { attached: Box::new(attached), wanted }).fit(false)
    }

    /// One reply, the final one.
    pub(super) fn one(frame: Frame) -> Self {
        Self::of(Source::One(Some(frame)))
    }

    pub(super) fn remote(call: RemoteCall) -> Self {
        Self::of(Source::Remote(Box::new(call)))
    }

    /// Starts when the first reply is asked for; an error becomes the final reply. Whoever gives up
    /// before the call has a lane takes it out of the queue by dropping this.
    pub(super) fn starting(
        start: impl Future<Output = Result<Self, ErrorInfo>> + Send + 'static,
    ) -> Self {
        Self::of(Source::Starting(Box::pin(start)))
    }

    /// One final reply: an error.
    pub fn failed(error: ErrorInfo) -> Self {
        Self::from_task(move |_| async move { Err::<Answer, _>(error) })
    }

    /// Runs `work` as a task; its result becomes the final reply.
    pub fn from_task<F, Fut, E>(work: F) -> Self
    where
        F: FnOnce(Outbox) -> Fut,
        Fut: Future<Output = Result<Answer, E>> + Send + 'static,
        E: Into<Failed>,
    {
        let (out, frames) = Outbox::new();
        let work = work(out.clone());
        let task = tokio::spawn(async move {
            let frame = match work.await.map_err(Into::into) {
                Ok(answer) => Frame::new(&Reply::done(answer.0.len()), answer.0),
                Err(Failed { error, body }) => Frame::new(&Reply::fail(error), body),
            };
            out.last(frame).await;
        });
        Self::of(Source::Task { frames, ended: false, _task: AbortOnDrop(task) })
    }

    /// Runs `work` as a task that writes replies as it goes, held up by a reader that is slow; its
    /// result becomes the body of the final one.
    pub fn from_writer<F, Fut>(work: F) -> Self
    where
        F: FnOnce(mpsc::Sender<Frame>) -> Fut,
        Fut: Future<Output = Result<Vec<u8>, ErrorInfo>> + Send + 'static,
    {
        let (out, frames) = mpsc::channel(WRITTEN);
        let work = work(out.clone());
        let task = tokio::spawn(async move {
            let last = match work.await {
                Ok(body) => Frame::new(&Reply::done(body.len()), body),
                Err(error) => fail_frame(error),
            };
            if let Ok(last) = last {
                drop(out.send(last).await);
            }
        });
        Self::of(Source::Task { frames, ended: false, _task: AbortOnDrop(task) })
    }

    /// Has `watch` see how it ends.
    pub(super) fn watched(mut self, watch: Watch) -> Self {
        self.watched.add(watch);
        self
    }

    /// The span of the call on this node, as `traceparent`; none when nothing is traced.
    pub fn traceparent(&self) -> Option<String> {
        self.watched.traceparent()
    }

    /// Runs `then` when the result is there, before it is passed on.
    pub(super) fn on_success(
        mut self,
        then: impl FnOnce() -> Result<(), ErrorInfo> + Send + 'static,
    ) -> Self {
        self.on_final = Some(Box::new(then));
        self
    }

    /// For a reader that takes payloads beside frames, or not.
    pub(super) fn fit(mut self, beside: bool) -> Self {
        self.inline = !beside;
        self
    }

    /// The next reply; `None` after the final one.
    pub async fn next(&mut self) -> Option<Frame> {
        // Replies that are always there would keep their reader from ever waiting, and with it what
        // runs on the same thread: a link that has yet to say that nobody wants them any more.
        consume_budget().await;
        let frame = self.following().await?;
        let frame = match self.inline {
            true => inline(frame).await.or_else(|e| fail_frame(unfit(&e))).ok()?,
            false => frame,
        };
        self.watched.see(&frame);
        Some(frame)
    }

    async fn following(&mut self) -> Option<Frame> {
        if let Source::Starting(start) = &mut self.source {
            let inline = self.inline;
            let started = start.await.unwrap_or_else(Self::failed);
            let watched = std::mem::take(&mut self.watched);
            *self = started;
            self.watched.extend(watched);
            self.inline |= inline;
        }
        let mut ended = None;
        let frame = match &mut self.source {
            // What a start returns has started.
            Source::Starting(_) | Source::Over => None,
            Source::One(frame) => frame.take(),
            Source::Local { stream, call, .. } => {
                let frame = tokio::select! {
                    biased;
                    frame = stream.next() => frame,
                    () = call.0.cancelled(), if !stream.is_ending() => {
                        let last = fail_frame(call.0.cancellation()).ok()?;
                        if !call.0.is_recorded() {
                            self.source = Source::Over;
                            return Some(last);
                        }
                        stream.end(last);
                        stream.next().await
                    }
                };
                ended = stream.is_over().then(|| call.0.clone());
                frame
            }
            Source::Run { attached, .. } => attached.next().await,
            Source::Remote(call) => match call.next().await? {
                Ok(frame) => Some(frame),
                Err(lost) => fail_frame(lost).ok(),
            },
            Source::Task { ended: true, .. } => None,
            Source::Task { frames, ended, .. } => {
                let Some(frame) = frames.recv().await else {
                    *ended = true;
                    return fail_frame(broken()).ok();
                };
                // The task may still hold its outbox for a moment: the client's next request must
                // not be taken for one that came too early.
                *ended = frame.header::<Reply>().is_ok_and(|reply| reply.is_final());
                Some(frame)
            }
        }?;
        let mut frame = frame;
        if self.on_final.is_some()
            && let Ok(Reply::Done { .. }) = frame.header::<Reply>()
            && let Some(Err(error)) = self.on_final.take().map(|then| then())
        {
            frame = fail_frame(error).ok()?;
        }
        if let Some(call) = ended {
            call.replied(&frame);
        }
        Some(frame)
    }

    /// Its caller was lost, without a word. What is left to be looked after: a call that runs here
    /// and is not recorded.
    pub(super) async fn orphaned(mut self) -> Option<(Self, Arc<Admitted>)> {
        if let Source::Starting(start) = &mut self.source {
            self = start.await.ok()?;
        }
        match &mut self.source {
            Source::Run { wanted, .. } => {
                if let Some(call) = wanted.as_mut().and_then(|wanted| wanted.0.take()) {
                    tracing::debug!(?call, "goes on without its caller");
                }
                None
            }
            // What it yielded was not kept.
            Source::Local { yields: true, .. } => None,
            Source::Local { call: Awaited(call), .. } => {
                let call = call.clone();
                Some((self, call))
            }
            _ => None,
        }
    }
}

impl runs::Source for Replies {
    async fn next(&mut self) -> Option<Frame> {
        Self::next(self).await
    }
}

/// A reply with its payload in it; one that is too long for that fails the call.
pub(super) async fn inline(frame: Frame) -> Result<Frame, FramedError> {
    if frame.payload().is_none() {
        return Ok(frame);
    }
    let reply = frame.header::<Reply>()?;
    match frame.inline(MAX_BODY).await {
        Err(FramedError::Frame(FrameError::Body { len, limit })) => {
            let text = format!("the result has {len} bytes; its reader takes {limit}");
            let error = ErrorInfo::new(ErrorKind::BadRequest, text)
                .hint("return less, or call it from a program that takes more");
            Ok(Frame::new(&Reply::Fail { id: reply.id(), error }, Bytes::new())?)
        }
        frame => frame,
    }
}

fn unfit(error: &FramedError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("the result can't be passed on: {error}"))
}

/// A failure with the exception behind it, if there is one.
#[derive(Debug)]
pub struct Failed {
    pub(super) error: ErrorInfo,
    /// The pickled exception, or nothing.
    pub(super) body: Bytes,
}

impl From<ErrorInfo> for Failed {
    fn from(error: ErrorInfo) -> Self {
        Self { error, body: Bytes::new() }
    }
}

impl Failed {
    pub(super) fn map(self, change: impl FnOnce(ErrorInfo) -> ErrorInfo) -> Self {
        Self { error: change(self.error), ..self }
    }
}

/// The body of a final reply: a value as msgpack.
pub struct Answer(pub(super) Vec<u8>);

impl Answer {
    /// Encodes `value`.
    pub fn of(value: &impl Serialize) -> Result<Self, ErrorInfo> {
        to_vec(value)
            .map(Self)
            .map_err(|e| ErrorInfo::new(ErrorKind::Internal, format!("answer: {e}")))
    }
}

/// The error of a task that ended without its final reply.
fn broken() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, "the request broke off inside the daemon")
        .hint("the daemon's log says more: `rhd doctor` shows where it is")
}

/// A final reply with an error.
pub(super) fn fail_frame(error: ErrorInfo) -> Result<Frame, FrameError> {
    Frame::new(&Reply::fail(error), Bytes::new())
}

/// The error of a node that drains.
pub(super) fn closing(node: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::DaemonUnavailable, format!("node {node} is shutting down"))
        .hint("call again when it is up, or choose another node")
        .on(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_final_reply_is_the_last_even_while_its_task_lingers() {
        let (linger, lingers) = tokio::sync::oneshot::channel::<()>();
        let mut replies = Replies::from_task(|out| async move {
            tokio::spawn(async move {
                let _ = lingers.await;
                out.progress("too late").await;
            });
            Answer::of(&1)
        });
        let reply = replies.next().await.unwrap().header::<Reply>().unwrap();
        assert!(reply.is_final());
        assert!(replies.next().await.is_none());
        drop(linger);
    }

    #[tokio::test]
    async fn a_task_that_breaks_off_ends_with_a_failure() {
        let mut replies = Replies::from_task(|_| async {
            if true {
                panic!("a defect");
            }
            Ok::<_, ErrorInfo>(Answer(Vec::new()))
        });
        let frame = replies.next().await.unwrap();
        assert!(matches!(frame.header(), Ok(Reply::Fail { .. })));
        assert!(replies.next().await.is_none());
    }
}
