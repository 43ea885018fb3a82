//! A call lane: a thread that reads a call, runs it, and writes its replies.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use futures::StreamExt;
use rhd_protocol::{call::Verb, error::ErrorInfo, id::CallId};

use super::{
    args::Input,
    cancel::{Calls, Cancellation, Slot},
    failure,
    registry::{Handler, Items, Stream},
    runtime::Runtime,
    wire::{Head, Kind, Reader, Received, Writer, decode, invalid, trim},
};

/// How a call goes on after it was begun.
enum Step {
    /// Its result is in the buffer.
    Done,
    /// It gives items.
    Items(Items),
    /// It gives items, in time.
    Stream(Stream),
}

/// Serves one connection until the daemon closes it.
pub(super) fn run(runtime: &Arc<Runtime>, stream: UnixStream) {
    // Functions may spawn tasks and wait for futures.
    let _tasks = runtime.tasks.enter();
    if let Err(error) = serve(runtime, &stream) {
        tracing::debug!("lane closed: {error}");
    }
    runtime.closed();
}

fn serve(runtime: &Arc<Runtime>, stream: &UnixStream) -> io::Result<()> {
    let (mut reader, mut writer) = (Reader::new(stream), Writer::new(stream));
    let mut seat = Seat::new(runtime);
    while let Some(Received { header, body }) = reader.next()? {
        seat.serve(&decode(header).map_err(invalid)?, body, &mut writer)?;
    }
    Ok(())
}

/// What takes replies.
pub(super) trait Replies {
    fn reply(&mut self, kind: Kind<'_>, id: &str, body: &[u8]) -> io::Result<()>;
}

impl<W: Write> Replies for Writer<W> {
    fn reply(&mut self, kind: Kind<'_>, id: &str, body: &[u8]) -> io::Result<()> {
        Self::reply(self, kind, id, body)
    }
}

/// A thread's place among the calls of the process: one call at a time.
pub(super) struct Seat {
    runtime: Arc<Runtime>,
    slot: Arc<Slot>,
    /// Kept from call to call; only ever away while one runs.
    cancellation: Option<Cancellation>,
    out: Vec<u8>,
}

impl Seat {
    pub(super) fn new(runtime: &Arc<Runtime>) -> Self {
        let slot = runtime.calls.slot();
        Self { runtime: runtime.clone(), slot, cancellation: None, out: Vec::new() }
    }

    /// Runs a call to its end and replies. Fails only with the lane.
    pub(super) fn serve(
        &mut self,
        head: &Head<'_>,
        body: &[u8],
        replies: &mut impl Replies,
    ) -> io::Result<()> {
        let Self { runtime, slot, out, .. } = self;
        let id: CallId = head.id.parse().map_err(io::Error::other)?;
        let cancellation =
            self.cancellation.take().map_or_else(Cancellation::new, Cancellation::reuse);
        runtime.calls.begin(slot, id, &cancellation);
        let mut call = Call { runtime, head, cancellation: &cancellation, out: &mut *out };
        let ended = call.run(body, replies)?;
        Calls::end(slot);
        self.cancellation = Some(cancellation);
        if head.logs {
            // A line without its end would be taken for output of the next call.
            let _ = io::stdout().flush();
        }
        match &ended {
            Ok(()) => replies.reply(Kind::Done(head.codec), head.id, out)?,
            Err(error) => replies.reply(Kind::Fail(error), head.id, &[])?,
        }
        trim(out);
        Ok(())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.runtime.calls.forget(&self.slot);
    }
}

/// A call on this lane.
struct Call<'a> {
    runtime: &'a Runtime,
    head: &'a Head<'a>,
    cancellation: &'a Cancellation,
    out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// Runs it to its end; its result is left in the buffer. Fails only with the lane.
    fn run(
        &mut self,
        body: &[u8],
        replies: &mut impl Replies,
    ) -> io::Result<Result<(), ErrorInfo>> {
        let mut step = match self.guarded(|call| call.begin(body)) {
            Ok(step) => step,
            Err(error) => return Ok(Err(error)),
        };
        loop {
            let item = match &mut step {
                Step::Done => return Ok(Ok(())),
                Step::Items(items) => self.guarded(|call| items(call.out).transpose()),
                Step::Stream(items) => self.guarded(|call| call.wait(items)),
            };
            match item {
                Ok(Some(())) => {
                    replies.reply(Kind::Item(self.head.codec), self.head.id, self.out)?
                }
                Ok(None) => return Ok(self.nothing()),
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    /// Runs code of the user, which may panic, as part of the call.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, ErrorInfo>,
    ) -> Result<T, ErrorInfo> {
        self.out.clear();
        let call = self.cancellation;
        if call.is_cancelled() {
            return Err(failure::cancelled());
        }
        let done = catch_unwind(AssertUnwindSafe(|| call.scope(|| work(self))));
        let done = done.unwrap_or_else(|payload| Err(failure::panicked(&*payload)));
        // What it made of its cancellation nobody will read.
        if call.is_cancelled() { Err(failure::cancelled()) } else { done }
    }

    fn begin(&mut self, body: &[u8]) -> Result<Step, ErrorInfo> {
        if self.head.verb == Verb::Load {
            *self.out = self.runtime.services.load(self.head)?;
            return Ok(Step::Done);
        }
        let function = self.runtime.services.bind(self.head)?;
        let input = Input { codec: self.head.codec, body };
        match function.handler {
            Handler::Plain(run) => run(input, self.out).map(|()| Step::Done),
            Handler::Iterator(run) => run(input).map(Step::Items),
            Handler::Stream(run) => run(input).map(Step::Stream),
            Handler::Async(run) => {
                let future = run(input)?;
                *self.out = self.until_cancelled(future)??;
                Ok(Step::Done)
            }
        }
    }

    /// Waits for the next item of a stream.
    fn wait(&mut self, items: &mut Stream) -> Result<Option<()>, ErrorInfo> {
        match self.until_cancelled(items.next())?.transpose()? {
            Some(item) => *self.out = item,
            None => return Ok(None),
        }
        Ok(Some(()))
    }

    fn until_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, ErrorInfo> {
        self.runtime.tasks.block_on(async {
            tokio::select! {
                biased;
                () = self.cancellation.cancelled() => Err(failure::cancelled()),
                value = future => Ok(value),
            }
        })
    }

    /// The end of items is a result of nothing.
    fn nothing(&mut self) -> Result<(), ErrorInfo> {
        self.out.clear();
        super::args::write(self.head.codec, (), self.out)
    }
}
