//! The peer's side: streams that other nodes open here.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    api::Request,
    call::Call,
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    wire,
};
use tokio::{io::AsyncReadExt, sync::mpsc};

use super::{Calls, Inner, Replies, host, install, questions};
use crate::{
    framed::{self, FramedError},
    mesh::Stream,
};

/// How long a peer may take to say what it opened a stream for.
const FIRST_FRAME: Duration = Duration::from_secs(30);

pub(super) fn start(calls: &Calls) {
    let inner = &calls.inner;
    accept(inner, inner.mesh.accept(wire::CALL), serve_call);
    accept(inner, inner.mesh.accept(wire::DEPLOY), install::serve);
    accept(inner, inner.mesh.accept(wire::ADMIN), serve_question);
}

/// Runs `serve` as a task for each stream, until the node closes.
fn accept<F, Fut>(inner: &Arc<Inner>, mut streams: mpsc::Receiver<Stream>, serve: F)
where
    F: Fn(Arc<Inner>, Stream) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), FramedError>> + Send + 'static,
{
    let owner = inner.clone();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let peer = stream.peer;
            let served = serve(owner.clone(), stream);
            owner.tasks.spawn(async move {
                if let Err(error) = served.await {
                    tracing::debug!(peer = %peer.short(), %error, "stream of a peer broke");
                }
            });
        }
    });
}

async fn serve_call(inner: Arc<Inner>, mut stream: Stream) -> Result<(), FramedError> {
    let Some(frame) = first_frame(&mut stream).await? else { return Ok(()) };
    let peer = stream.peer;
    let replies = Replies::starting(async move {
        let call: Call = frame.header().map_err(|e| bad_request(&inner, &e))?;
        check_version(call.v, &inner).map_err(|e| e.call(call.id))?;
        host::call(&inner, peer, call, frame.body).await
    });
    pump(replies, stream).await
}

async fn serve_question(inner: Arc<Inner>, mut stream: Stream) -> Result<(), FramedError> {
    let Some(frame) = first_frame(&mut stream).await? else { return Ok(()) };
    let peer = stream.peer;
    let replies = Replies::from_task(move |out| async move {
        let request = frame.header::<Request>().map_err(|e| bad_request(&inner, &e))?;
        check_version(request.version(), &inner)?;
        questions::answer_peer(&inner, peer, request, &out).await
    });
    pump(replies, stream).await
}

/// Passes replies to a peer until the final one; ends early, and so cancels, when the peer closes.
pub(super) async fn pump(mut replies: Replies, stream: Stream) -> Result<(), FramedError> {
    let Stream { mut recv, mut send, .. } = stream;
    let mut byte = [0];
    loop {
        tokio::select! {
            biased;
            frame = replies.next() => match frame {
                Some(frame) => {
                    // A peer that no longer reads must not hold a lane for ever.
                    tokio::select! {
                        written = framed::write(&mut send, &frame) => written?,
                        _ = recv.read(&mut byte) => return Ok(()),
                    }
                }
                None => return Ok(tokio::io::AsyncWriteExt::shutdown(&mut send).await?),
            },
            _ = recv.read(&mut byte) => return Ok(()),
        }
    }
}

pub(super) async fn first_frame(stream: &mut Stream) -> Result<Option<framed::Frame>, FramedError> {
    match tokio::time::timeout(FIRST_FRAME, framed::read(&mut stream.recv, MAX_BODY)).await {
        Ok(read) => read,
        Err(_) => Ok(None),
    }
}

pub(super) fn check_version(theirs: u16, inner: &Inner) -> Result<(), ErrorInfo> {
    let (ours, here) = (rhd_protocol::VERSION, inner.mesh.name());
    if theirs == ours {
        return Ok(());
    }
    let older = if theirs > ours { &here } else { "the calling node" };
    Err(ErrorInfo::new(
        ErrorKind::VersionMismatch,
        format!("node {here} speaks protocol {ours}, the caller speaks {theirs}"),
    )
    .hint(format!("upgrade rhd on {older}; nothing ran"))
    .on(&here))
}

pub(super) fn bad_request(inner: &Inner, error: &impl std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, format!("request is not understood: {error}"))
        .hint("the other side may run another version of rhd: compare `rhd peers`")
        .on(&inner.mesh.name())
}
