//! The answering end.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{call::Reply, error::ErrorInfo};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{progress::Out, refused};
use crate::{
    background,
    framed::{self, Frame},
    mesh::Stream,
};

/// How long a peer may take to say what it opened a stream for.
const FIRST: Duration = Duration::from_secs(30);
/// Replies under way to a reader.
const REPLIES: usize = 8;

/// Serves streams, as many at once as there are `places`, until `closing`; beyond that they wait.
pub fn accept<F: Future<Output = Result<(), ErrorInfo>> + Send + 'static>(
    mut streams: mpsc::Receiver<Stream>,
    places: usize,
    tasks: &TaskTracker,
    closing: &CancellationToken,
    serve: impl Fn(Stream) -> F + Send + 'static,
) {
    let (tasks, closing, places) =
        (tasks.clone(), closing.clone(), Arc::new(Semaphore::new(places)));
    tokio::spawn(closing.clone().run_until_cancelled_owned(async move {
        while let Some(stream) = streams.recv().await {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (peer, served) = (stream.peer, serve(stream));
            let serving = closing.clone().run_until_cancelled_owned(async move {
                if let Err(error) = served.await {
                    tracing::debug!(peer = %peer.short(), %error, "a peer was not served");
                }
                drop(place);
            });
            tasks.spawn_on(serving, &background::tasks());
        }
    }));
}

/// Reads one question and answers it with what `answer` sends and then returns; `here` is the name of
/// this node. A peer that closes the stream cancels it.
pub async fn answer<A: DeserializeOwned, F: Future<Output = Result<Vec<u8>, ErrorInfo>>>(
    here: &str,
    stream: Stream,
    answer: impl FnOnce(A, Out) -> F,
) -> Result<(), ErrorInfo> {
    answer_within(FIRST, here, stream, answer).await
}

/// The same, for a peer that may take up to `pause` to read a reply.
pub async fn answer_within<A: DeserializeOwned, F: Future<Output = Result<Vec<u8>, ErrorInfo>>>(
    pause: Duration,
    here: &str,
    mut stream: Stream,
    answer: impl FnOnce(A, Out) -> F,
) -> Result<(), ErrorInfo> {
    let read = tokio::time::timeout(FIRST, framed::read(&mut stream.recv, 0)).await;
    let frame = read.map_err(|_| refused("it asked nothing"))?.map_err(|e| refused(&e.to_string()));
    let Some(frame) = frame? else { return Ok(()) };
    let (out, mut replies) = mpsc::channel(REPLIES);
    let answered = async {
        let ask = frame.header::<A>().map_err(|e| refused(&e.to_string()))?;
        answer(ask, out).await
    };
    let mut answered = std::pin::pin!(answered);
    let last = loop {
        let reply = tokio::select! {
            biased;
            Some(reply) = replies.recv() => reply,
            last = &mut answered => break last,
            // It closed the stream, which cancels.
            _ = stream.recv.gone() => return Ok(()),
        };
        write(&mut stream, &reply, pause).await?;
    };
    while let Ok(reply) = replies.try_recv() {
        write(&mut stream, &reply, pause).await?;
    }
    let last = match last {
        Ok(body) => Frame::new(&Reply::done(body.len()), body),
        Err(error) => Frame::new(&Reply::fail(error.on(here)), Bytes::new()),
    };
    write(&mut stream, &last.map_err(|e| refused(&e.to_string()))?, pause).await?;
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream.send).await;
    Ok(())
}

async fn write(stream: &mut Stream, reply: &Frame, pause: Duration) -> Result<(), ErrorInfo> {
    let lost = |why: &dyn std::fmt::Display| refused(&format!("its answer was not read: {why}"));
    let written = tokio::time::timeout(pause, framed::write(&mut stream.send, reply)).await;
    written.map_err(|_| lost(&"it took too long"))?.map_err(|e| lost(&e))
}
