//! The peer's side: streams that other nodes open here.

use std::sync::Arc;

use rhd_protocol::{
    api::Request,
    call::{Call, Verb},
    error::ErrorInfo,
    frame::MAX_BODY,
    wire,
};
use tokio::sync::mpsc;

use super::{
    Calls, Inner, Replies, asking, host, install, orphans,
    peer::{self, Pumped},
    questions,
    replies::fail_frame,
};
use crate::{
    framed::{self, Body, FramedError, Head},
    mesh::Stream,
    naming::is_public,
    telemetry::Stage,
};

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
    let Some(head) = peer::first_head(&mut stream, MAX_BODY).await? else { return Ok(()) };
    let peer = stream.peer;
    match arguments(&inner, &head, &mut stream).await {
        Ok((mut call, body)) => {
            let beside = call.beside;
            let watch = inner.telemetry.watch(Stage::Serve, &mut call);
            let starter = inner.clone();
            let started = async move { host::call(&starter, peer, call, body).await };
            if let Pumped::Lost(replies, undelivered) =
                peer::pump(Replies::starting(started).fit(beside).watched(watch), stream).await
            {
                orphans::adopt(&inner, replies, undelivered);
            }
            Ok(())
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
) -> Result<(Call, Body), ErrorInfo> {
    let call: Call = head.header().map_err(|e| peer::bad_request(inner, &e))?;
    let of_call = |e: ErrorInfo| e.on(&inner.mesh.name()).call(call.id);
    peer::check_version(call.v, inner).map_err(of_call)?;
    let hosted = host::admit(inner, &call).map_err(of_call)?;
    // Ending what has a name is what `rhd rm` does; a handle may end what it made.
    if call.verb == Verb::Drop && is_public(&hosted.service.name) {
        peer::may_change(inner, stream.peer).map_err(of_call)?;
    }
    let body = inner.intake.body(&hosted.service.env, head, &mut stream.recv);
    let body = body.await.map_err(of_call)?;
    Ok((call, body))
}

async fn serve_question(inner: Arc<Inner>, mut stream: Stream) -> Result<(), FramedError> {
    // Questions have no body.
    let Some(head) = peer::first_head(&mut stream, 0).await? else { return Ok(()) };
    let peer = stream.peer;
    let request = head.header::<Request>().map_err(|e| peer::bad_request(&inner, &e));
    let request = request.and_then(|request| {
        peer::check_version(request.version(), &inner)?;
        Ok(request)
    });
    let replies = match request {
        Ok(request @ (Request::Runs { .. } | Request::Run { .. })) => {
            Replies::starting(async move { asking::answer_peer(&inner, peer, request).await })
        }
        request => Replies::from_task(move |out| async move {
            questions::answer_peer(&inner, peer, request?, &out).await
        }),
    };
    peer::pump(replies, stream).await;
    Ok(())
}
