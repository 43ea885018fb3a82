//! The peer's side: streams that other nodes open here.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    api::Request,
    call::{Call, Ready, Verb},
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    wire,
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Calls, Inner, Replies, asking, host, install, orphans,
    parts::{Layout, Owner},
    peer::{self, Pumped},
    questions,
    replies::fail_frame,
};
use crate::{
    framed::{self, Body, Frame, FramedError, Head},
    mesh::Stream,
    naming::is_public,
    telemetry::Stage,
};

/// How long a peer may take to read which parts it has to send.
const UNREAD: Duration = Duration::from_secs(30);

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
    let mut call: Call = head.header().map_err(|e| peer::bad_request(inner, &e))?;
    let id = call.id;
    let of_call = |e: ErrorInfo| e.on(&inner.mesh.name()).call(id);
    peer::check_version(call.v, inner).map_err(of_call)?;
    let hosted = host::admit(inner, &call).map_err(of_call)?;
    // Ending what has a name is what `rhd rm` does; a handle may end what it made.
    if call.verb == Verb::Drop && is_public(&hosted.service.name) {
        peer::may_change(inner, stream.peer).map_err(of_call)?;
    }
    let owner = Owner { peer: stream.peer, env: &hosted.service.env };
    if !call.again.is_empty() {
        inner.arriving.wait(stream.peer, &call).await;
    }
    let arriving = inner.arriving.begin(stream.peer, &call);
    let body = match call.again.is_empty() {
        true => inner.intake.body(owner.env, head, &mut stream.recv).await,
        false => in_parts(inner, owner, &mut call, head, stream).await,
    };
    let body = body.map_err(of_call)?;
    if let Body::Beside(payload) = &body {
        inner.kept.keep(owner, &call, payload);
    }
    drop(arriving);
    call.again.clear();
    Ok((call, body))
}

/// The body of a call some of whose parts should be here: says which are not, and reads those. What
/// is left in `again` was here.
async fn in_parts(
    inner: &Inner,
    owner: Owner<'_>,
    call: &mut Call,
    head: &Head,
    stream: &mut Stream,
) -> Result<Body, ErrorInfo> {
    let len = match head.beside {
        true => inner.intake.payload_len(&mut stream.recv).await?,
        false => 0,
    };
    let layout = Layout::of(call, len).ok_or_else(|| {
        let text = "a call whose parts are not those of its body";
        ErrorInfo::new(ErrorKind::BadRequest, text)
    })?;
    let coming = inner.intake.begin(owner.env, len, layout.again()).await?;
    let lacks = inner.kept.fill(owner, call, &layout, coming.file().clone()).await?;
    let missing = layout.without(call, &lacks);
    call.again.retain(|again| !lacks.contains(&again.part));
    let reply = Frame::new(&Ready::Lacks { parts: lacks }, Bytes::new());
    let reply = reply.map_err(|e| ErrorInfo::new(ErrorKind::Internal, e.to_string()))?;
    // Where that does not get through, nothing more comes either.
    let _ = timeout(UNREAD, framed::write(&mut stream.send, &reply)).await;
    inner.intake.receive(coming, &missing, &mut stream.recv).await.map(Body::Beside)
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
