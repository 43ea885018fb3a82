//! What peers ask: chunks of blobs, and questions about data.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use iroh_blobs::{
    protocol::Request,
    provider::{StreamPair, events::EventSender, handle_get},
};
use rhd_protocol::{
    call::Reply,
    data::DataAsk,
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY},
    id::NodeId,
    wire,
};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Data, answer,
    progress::Out,
    streams::{Reader, Writer},
};
use crate::{
    framed::{self, Body, Frame},
    mesh::{Priority, Stream},
};

/// Requests for chunks that are answered at once; beyond this they wait.
const SERVED: usize = 64;
/// Questions of peers that are answered at once; beyond this they wait.
const ANSWERED: usize = 256;
/// How long a peer may take to say what it opened a stream for.
const FIRST: Duration = Duration::from_secs(30);
/// Replies under way to a reader.
pub(super) const REPLIES: usize = 8;

/// Answers peers until `closing`.
pub(super) fn start(data: &Data, tasks: &TaskTracker, closing: &CancellationToken) {
    let (blobs, asks) = (data.mesh.accept(wire::BLOB), data.mesh.accept(wire::DATA));
    let places = |count| Arc::new(Semaphore::new(count));
    let serving = data.clone();
    accept(blobs, places(SERVED), tasks, closing, move |stream| chunks(serving.clone(), stream));
    let serving = data.clone();
    accept(asks, places(ANSWERED), tasks, closing, move |stream| ask(serving.clone(), stream));
}

fn accept<F: Future<Output = Result<(), ErrorInfo>> + Send + 'static>(
    mut streams: mpsc::Receiver<Stream>,
    places: Arc<Semaphore>,
    tasks: &TaskTracker,
    closing: &CancellationToken,
    serve: impl Fn(Stream) -> F + Send + 'static,
) {
    let (tasks, closing) = (tasks.clone(), closing.clone());
    tokio::spawn(closing.clone().run_until_cancelled_owned(async move {
        while let Some(stream) = streams.recv().await {
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (peer, served) = (stream.peer, serve(stream));
            tasks.spawn(closing.clone().run_until_cancelled_owned(async move {
                if let Err(error) = served.await {
                    tracing::debug!(peer = %peer.short(), %error, "data was not served");
                }
                drop(place);
            }));
        }
    }));
}

/// Gives chunks of one blob, each read from disk and held against its hash on the way.
async fn chunks(data: Data, stream: Stream) -> Result<(), ErrorInfo> {
    stream.set_priority(Priority::Bulk);
    let mut writer = Writer::new(stream.send);
    let mut pair = StreamPair::new(0, Reader::new(stream.recv), &mut writer, EventSender::DEFAULT);
    let request = tokio::time::timeout(FIRST, pair.read_request());
    let request = request.await.map_err(|_| refused("it asked for nothing"))?;
    match request.map_err(|e| refused(&e.to_string()))? {
        Request::Get(get) if get.ranges.is_blob() => {
            let served = handle_get(pair, data.shelf.store.content().clone(), get).await;
            served.map_err(|e| refused(&format!("{e:#}")))?;
        }
        // What else the protocol knows, nobody here asks for: nothing is pushed or watched.
        _ => return Err(refused("it asked for what is not served")),
    }
    writer.finish().await.map_err(|e| refused(&e.to_string()))
}

fn refused(why: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, why)
}

/// Answers one question.
async fn ask(data: Data, mut stream: Stream) -> Result<(), ErrorInfo> {
    let read = tokio::time::timeout(FIRST, framed::read(&mut stream.recv, 0)).await;
    let frame = read.map_err(|_| refused("it asked nothing"))?.map_err(|e| refused(&e.to_string()));
    let Some(frame) = frame? else { return Ok(()) };
    let peer = stream.peer;
    let (out, mut replies) = mpsc::channel(REPLIES);
    let answered = async {
        let ask = frame.header::<DataAsk>().map_err(|e| refused(&e.to_string()))?;
        answer::peer(&data, peer, ask, &out).await
    };
    let here = data.mesh.name();
    let mut answered = std::pin::pin!(answered);
    let last = loop {
        let reply = tokio::select! {
            biased;
            Some(reply) = replies.recv() => reply,
            last = &mut answered => break last,
            // It closed the stream, which cancels.
            _ = stream.recv.gone() => return Ok(()),
        };
        write(&mut stream, &reply).await?;
    };
    while let Ok(reply) = replies.try_recv() {
        write(&mut stream, &reply).await?;
    }
    let last = match last {
        Ok(body) => Frame::new(&Reply::done(body.len()), body),
        Err(error) => Frame::new(&Reply::fail(error.on(&here)), Bytes::new()),
    };
    write(&mut stream, &last.map_err(|e| refused(&e.to_string()))?).await?;
    let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream.send).await;
    Ok(())
}

async fn write(stream: &mut Stream, reply: &Frame) -> Result<(), ErrorInfo> {
    let lost = |why: &dyn std::fmt::Display| refused(&format!("its answer was not read: {why}"));
    let written = tokio::time::timeout(FIRST, framed::write(&mut stream.send, reply)).await;
    written.map_err(|_| lost(&"it took too long"))?.map_err(|e| lost(&e))
}

/// Asks a peer for a value.
pub(super) async fn question<T: DeserializeOwned>(
    data: &Data,
    peer: NodeId,
    ask: &DataAsk,
) -> Result<T, ErrorInfo> {
    // Nobody waits for what it says on the way.
    let (out, _) = mpsc::channel(1);
    let body = forward(data, peer, ask, Body::default(), &out).await?;
    frame::decode(&body).map_err(|e| lost(data, peer, &e))
}

/// Has a peer do something, and passes on what it says meanwhile. Dropping this cancels it.
pub(super) async fn forward(
    data: &Data,
    peer: NodeId,
    ask: &DataAsk,
    body: Body,
    out: &Out,
) -> Result<Vec<u8>, ErrorInfo> {
    let opened = data.mesh.open(peer, wire::DATA, Priority::Sync).await;
    let mut stream = opened.map_err(|e| {
        let node = data.naming.node_name(peer);
        ErrorInfo::new(ErrorKind::PeerLost, format!("node {node} can't be reached: {e}"))
            .hint("see `rhd peers`")
            .on(&node)
    })?;
    framed::send(&mut stream.send, ask, body).await.map_err(|e| lost(data, peer, &e))?;
    loop {
        let frame: Frame = framed::read(&mut stream.recv, MAX_BODY)
            .await
            .map_err(|e| lost(data, peer, &e))?
            .ok_or_else(|| lost(data, peer, &"the stream ended"))?;
        match frame.header::<Reply>().map_err(|e| lost(data, peer, &e))? {
            Reply::Done { .. } => return Ok(frame.body.to_vec()),
            Reply::Fail { error, .. } => return Err(error.on(&data.naming.node_name(peer))),
            _ => drop(out.send(frame).await),
        }
    }
}

fn lost(data: &Data, peer: NodeId, why: &dyn std::fmt::Display) -> ErrorInfo {
    let node = data.naming.node_name(peer);
    ErrorInfo::new(ErrorKind::PeerLost, format!("node {node} was lost before it answered: {why}"))
        .hint("see `rhd peers`; what a transfer brought is kept")
        .on(&node)
}
