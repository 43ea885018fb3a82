//! The control lane: orders from the daemon, and calls of async functions, side by side.

use std::{
    collections::HashMap,
    io::{self, Write},
    os::unix::net::UnixStream,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{FutureExt, StreamExt};
use rhd_protocol::{
    call::{Codec, Verb},
    error::ErrorInfo,
    id::CallId,
    worker::ITEM_CREDIT,
};
use tokio::sync::Semaphore;

use super::{
    args::{self, Input},
    cancel::{Cancellation, Scoped},
    failure,
    outbox::Outbox,
    registry::{Future, Handler, Stream},
    runtime::Runtime,
    wire::{self, Head, Kind, Order, Reader, Received, decode, invalid},
};

/// Items that each stream may send.
type Credits = Arc<Mutex<HashMap<CallId, Arc<Semaphore>>>>;

/// Obeys the daemon until it goes away; says how.
pub(super) fn run(runtime: &Arc<Runtime>, stream: UnixStream) -> io::Error {
    match obey(runtime, stream) {
        Ok(()) => io::ErrorKind::UnexpectedEof.into(),
        Err(error) => error,
    }
}

fn obey(runtime: &Arc<Runtime>, stream: UnixStream) -> io::Result<()> {
    let outbox = Outbox::start(stream.try_clone()?)?;
    let credits = Credits::default();
    let mut reader = Reader::new(stream);
    while let Some(Received { header, body }) = reader.next()? {
        let order: Order<'_> = decode(header).map_err(invalid)?;
        let id = || order.id.and_then(|id| id.parse::<CallId>().ok());
        match (order.t, &order.call) {
            ("call", Some(head)) => begin(runtime, &outbox, &credits, head, body)?,
            ("cancel", _) => id().into_iter().for_each(|id| runtime.calls.cancel(id)),
            ("ping", _) => {
                let mut answer = Vec::new();
                let id = order.id.unwrap_or_default();
                wire::head(Kind::Done(Codec::Msgpack), id, 0, &mut answer).map_err(invalid)?;
                outbox.put(answer);
            }
            ("credit", _) => grant(&credits, id(), order.items.unwrap_or(0)),
            ("lanes", _) => {
                // No more sockets or threads: the calls wait for those there are.
                if let Err(error) = runtime.open_lanes(order.count.unwrap_or(0)) {
                    tracing::warn!("no further lane: {error}");
                }
            }
            ("share", _) => {
                if let Err(error) = runtime.share(order.threads.unwrap_or(0)) {
                    tracing::warn!("no shared lane: {error}");
                }
            }
            // Of a newer daemon.
            _ => {}
        }
    }
    Ok(())
}

fn grant(credits: &Credits, id: Option<CallId>, items: u32) {
    let credits = credits.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(credit) = id.and_then(|id| credits.get(&id)) {
        let room = Semaphore::MAX_PERMITS - credit.available_permits();
        credit.add_permits((items as usize).min(room));
    }
}

/// What a call does once it is begun.
enum Work {
    Result(Future),
    Items(Stream),
    /// Not what this lane is for: it would stop the others.
    Elsewhere,
}

fn begin(
    runtime: &Arc<Runtime>,
    outbox: &Arc<Outbox>,
    credits: &Credits,
    head: &Head<'_>,
    body: &[u8],
) -> io::Result<()> {
    let id: CallId = head.id.parse().map_err(io::Error::other)?;
    let cancellation = Cancellation::new();
    runtime.calls.begin_shared(id, &cancellation);
    let input = Input { codec: head.codec, body };
    let work = std::panic::catch_unwind(AssertUnwindSafe(|| bind(runtime, head, input)))
        .unwrap_or_else(|payload| Err(failure::panicked(&*payload)));
    let running = Running {
        runtime: runtime.clone(),
        outbox: outbox.clone(),
        credits: credits.clone(),
        cancellation,
        id,
        text: head.id.to_owned(),
        codec: head.codec,
        logs: head.logs,
    };
    runtime.tasks.spawn(running.run(work));
    Ok(())
}

fn bind(runtime: &Runtime, head: &Head<'_>, input: Input<'_>) -> Result<Work, ErrorInfo> {
    if head.verb == Verb::Load {
        let loaded = runtime.services.load(head);
        return Ok(Work::Result(Box::pin(std::future::ready(loaded))));
    }
    match runtime.services.bind(head)?.handler {
        Handler::Async(run) => run(input).map(Work::Result),
        Handler::Stream(run) => run(input).map(Work::Items),
        Handler::Plain(_) | Handler::Iterator(_) => Ok(Work::Elsewhere),
    }
}

/// A call on the runtime.
struct Running {
    runtime: Arc<Runtime>,
    outbox: Arc<Outbox>,
    credits: Credits,
    cancellation: Cancellation,
    id: CallId,
    text: String,
    codec: Codec,
    logs: bool,
}

impl Running {
    async fn run(self, work: Result<Work, ErrorInfo>) {
        let ended = match work {
            Err(error) => Err(error),
            Ok(Work::Elsewhere) => {
                let text = "a function that is not async was called as one";
                Err(failure::refused(text, "deploy it again"))
            }
            Ok(Work::Result(future)) => self.guarded(future).await,
            Ok(Work::Items(items)) => self.guarded(self.items(items)).await,
        };
        self.runtime.calls.end_shared(self.id);
        if self.logs {
            let _ = io::stdout().flush();
        }
        match ended {
            Ok(body) => self.reply(Kind::Done(self.codec), &body).await,
            Err(error) => self.reply(Kind::Fail(&error), &[]).await,
        }
    }

    /// Runs code of the user, which may panic, until it ends or is cancelled; then it is dropped.
    async fn guarded(
        &self,
        work: impl std::future::Future<Output = Result<Vec<u8>, ErrorInfo>>,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let future = Box::pin(AssertUnwindSafe(work).catch_unwind());
        let scoped = Scoped { call: self.cancellation.clone(), future };
        tokio::select! {
            biased;
            () = self.cancellation.cancelled() => Err(failure::cancelled()),
            done = scoped => done.unwrap_or_else(|payload| Err(failure::panicked(&*payload))),
        }
    }

    async fn items(&self, mut items: Stream) -> Result<Vec<u8>, ErrorInfo> {
        let credit = Arc::new(Semaphore::new(ITEM_CREDIT as usize));
        let _listed = Listed::new(self, credit.clone());
        while let Some(item) = items.next().await {
            let item = item?;
            // Closed by nobody.
            if let Ok(permit) = credit.acquire().await {
                permit.forget();
            }
            self.reply(Kind::Item(self.codec), &item).await;
        }
        let mut end = Vec::new();
        args::write(self.codec, (), &mut end)?;
        Ok(end)
    }

    async fn reply(&self, kind: Kind<'_>, body: &[u8]) {
        let mut frame = Vec::with_capacity(128 + body.len());
        match wire::head(kind, &self.text, body.len(), &mut frame) {
            Ok(()) => frame.extend_from_slice(body),
            // Its texts are cut before they come here.
            Err(error) => return tracing::error!("reply: {error}"),
        }
        self.outbox.send(frame).await;
    }
}

/// Takes credit while it lives.
struct Listed<'a>(&'a Running);

impl<'a> Listed<'a> {
    fn new(running: &'a Running, credit: Arc<Semaphore>) -> Self {
        let mut credits = running.credits.lock().unwrap_or_else(PoisonError::into_inner);
        credits.insert(running.id, credit);
        drop(credits);
        Self(running)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut credits = self.0.credits.lock().unwrap_or_else(PoisonError::into_inner);
        credits.remove(&self.0.id);
    }
}
