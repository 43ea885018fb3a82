//! The peer's side: streams that other nodes open here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    api::Request,
    call::Call,
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    wire,
};
use tokio::{io::AsyncReadExt, sync::mpsc};

use super::{Calls, Inner, Replies, host, install, questions, replies::fail_frame};
use crate::{
    framed::{self, FramedError, Head},
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
    let Some(head) = first_head(&mut stream, MAX_BODY).await? else { return Ok(()) };
    let peer = stream.peer;
    match arguments(&inner, &head, &mut stream).await {
        Ok((call, body)) => {
            let started = async move { host::call(&inner, peer, call, body).await };
            pump(Replies::starting(started), stream).await
        }
        // Arguments may be under way yet: nothing more is read.
        Err(error) => Ok(framed::write(&mut stream.send, &fail_frame(error)?).await?),
    }
}

/// A call that may run, and then only its body.
async fn arguments(
    inner: &Inner,
    head: &Head,
    stream: &mut Stream,
) -> Result<(Call, Bytes), ErrorInfo> {
    let call: Call = head.header().map_err(|e| bad_request(inner, &e))?;
    let of_call = |e: ErrorInfo| e.on(&inner.mesh.name()).call(call.id);
    check_version(call.v, inner).map_err(of_call)?;
    host::admit(inner, &call).map_err(of_call)?;
    let body = inner.intake.read(head.body, &mut stream.recv).await.map_err(of_call)?;
    Ok((call, body))
}

async fn serve_question(inner: Arc<Inner>, mut stream: Stream) -> Result<(), FramedError> {
    // Questions have no body.
    let Some(head) = first_head(&mut stream, 0).await? else { return Ok(()) };
    let peer = stream.peer;
    let replies = Replies::from_task(move |out| async move {
        let request = head.header::<Request>().map_err(|e| bad_request(&inner, &e))?;
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

/// What a peer opened the stream for; its body waits until that is known to be allowed.
pub(super) async fn first_head(
    stream: &mut Stream,
    max_body: usize,
) -> Result<Option<Head>, FramedError> {
    match tokio::time::timeout(FIRST_FRAME, framed::read_head(&mut stream.recv, max_body)).await {
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
