//! A call on a peer: one stream, one call.

use std::{io, time::Duration};

use bytes::Bytes;
use rhd_protocol::{
    api::Request,
    call::{Call, Glance, Ready, Reply},
    error::{ErrorInfo, ErrorKind},
    frame::MAX_BODY,
    id::{CallId, NodeId},
};

use super::{
    Inner,
    intake::Intake,
    parts::{Known, Layout},
};
use tokio::io::AsyncWriteExt as _;

use crate::{
    framed::{self, Body, Frame},
    mesh::{MeshError, Priority, Stream},
    runs::Runs,
};

/// How long the answer of a host that stopped reading may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Who gets the payloads of replies: clients of this node, all of one user.
const CLIENTS: &str = "";

/// Sends `call` on a fresh stream; its replies come as the peer writes them.
pub(super) async fn call(
    inner: &Inner,
    mut stream: Stream,
    mut call: Call,
    body: Body,
) -> Result<RemoteCall, ErrorInfo> {
    let (id, node) = (call.id, inner.name_of(stream.peer));
    let unfit = |e: &dyn std::fmt::Display| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("call: {e}"))
            .hint("pass less at once, or yield it in parts")
            .call(id)
    };
    let body = match body {
        Body::Beside(_) if !inner.mesh.takes_beside(stream.peer) => {
            Body::Inline(body.inline(MAX_BODY).await.map_err(|e| unfit(&e))?)
        }
        body => body,
    };
    let known = match &body {
        Body::Beside(payload) if inner.mesh.keeps_parts(stream.peer) => {
            inner.sent.known(stream.peer, &call.parts, payload).await
        }
        _ => Known::default(),
    };
    call.again.clone_from(&known.again);
    let frame = Frame::new(&call, body).map_err(|e| unfit(&e))?;
    let intake = inner.intake.clone();
    let what = What::Call { id, service: call.service.clone(), host: stream.peer };
    let runs = Some(inner.runs.clone());
    let mut remote = RemoteCall { what, node, stream: None, done: false, intake, runs };
    let written = match call.again.is_empty() {
        true => framed::write(&mut stream.send, &frame).await.map(|()| Vec::new()),
        false => match in_parts(inner, &mut stream, &call, &frame).await {
            Ok(lacks) => Ok(lacks),
            Err(Unsent::Broke(error)) => Err(error),
            Err(Unsent::Refused(error)) => return Err(error.on(&remote.node)),
        },
    };
    if let Ok(lacks) = &written {
        inner.sent.note(stream.peer, id, &known, lacks);
    }
    if let Err(error) = written {
        // A host that refuses stops reading: its answer says more than our broken stream.
        let answer = tokio::time::timeout(LAST_WORDS, framed::read(&mut stream.recv, MAX_BODY));
        let answer = answer.await.ok().and_then(Result::ok).flatten();
        return Err(match answer.and_then(|frame| frame.header().ok()) {
            Some(Reply::Fail { error, .. }) => error.on(&remote.node),
            _ => remote.lost(&error.to_string()),
        });
    }
    remote.stream = Some(stream);
    Ok(remote)
}

/// Why a call was not sent.
enum Unsent {
    Broke(io::Error),
    Refused(ErrorInfo),
}

/// Sends a call, and of its payload what the host does not have; which parts it lacked of those that
/// it should have.
async fn in_parts(
    inner: &Inner,
    stream: &mut Stream,
    call: &Call,
    frame: &Frame,
) -> Result<Vec<u32>, Unsent> {
    let broke = |error: &dyn std::fmt::Display| Unsent::Broke(io::Error::other(error.to_string()));
    let (Some(payload), send) = (frame.payload(), &mut stream.send) else { return Ok(Vec::new()) };
    framed::write_start(send, frame).await.map_err(Unsent::Broke)?;
    send.flush().await.map_err(Unsent::Broke)?;
    let answer = framed::read(&mut stream.recv, MAX_BODY).await.map_err(|e| broke(&e))?;
    let answer = answer.ok_or_else(|| broke(&"the stream ended before the arguments were sent"))?;
    let lacks = match answer.header().map_err(|e| broke(&e))? {
        Ready::Lacks { parts } => parts,
        Ready::Fail { error } => return Err(Unsent::Refused(error)),
    };
    let layout = Layout::of(call, payload.len()).ok_or_else(|| broke(&"its parts don't fit"))?;
    let mut left = 0;
    for span in layout.without(call, &lacks) {
        left += span.end - span.start;
        framed::write_span(send, payload, span).await.map_err(Unsent::Broke)?;
    }
    send.flush().await.map_err(Unsent::Broke)?;
    inner.telemetry.spared(payload.len() - left);
    Ok(lacks)
}

/// Asks a peer on a fresh stream; its replies come as it writes them.
pub(super) async fn question(
    inner: &Inner,
    mut stream: Stream,
    request: &Request,
) -> Result<RemoteCall, ErrorInfo> {
    let node = inner.name_of(stream.peer);
    let intake = inner.intake.clone();
    let mut remote =
        RemoteCall { what: What::Question, node, stream: None, done: false, intake, runs: None };
    if let Err(error) = framed::send(&mut stream.send, request, Bytes::new()).await {
        return Err(remote.lost(&error.to_string()));
    }
    remote.stream = Some(stream);
    Ok(remote)
}

/// Opens a stream to `peer`, or says why not and what to do.
pub(super) async fn open(
    inner: &Inner,
    peer: NodeId,
    proto: &'static str,
    priority: Priority,
) -> Result<Stream, ErrorInfo> {
    inner.mesh.open(peer, proto, priority).await.map_err(|error| {
        let node = inner.name_of(peer);
        unreachable(&node, &error)
    })
}

fn unreachable(node: &str, error: &MeshError) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::PeerLost, format!("node {node} can't be reached: {error}"))
        .hint(format!("nothing ran; see `rhd peers`, and start it with `rhd up` on {node}"))
        .on(node)
}

/// The replies of a peer to one call or question. Dropping it before the final one tells the peer
/// that nobody waits for it any more.
pub(super) struct RemoteCall {
    what: What,
    node: String,
    stream: Option<Stream>,
    done: bool,
    intake: Intake,
    /// Where a call is noted that its host may go on with.
    runs: Option<Runs>,
}

/// What the peer was sent.
enum What {
    Call { id: CallId, service: String, host: NodeId },
    Question,
}

impl Drop for RemoteCall {
    fn drop(&mut self) {
        if !self.done
            && let Some(stream) = self.stream.take()
        {
            stream.send.close();
        }
    }
}

impl RemoteCall {
    /// The next reply; a stream that breaks ends it with [`ErrorKind::PeerLost`].
    pub(super) async fn next(&mut self) -> Option<Result<Frame, ErrorInfo>> {
        if self.done {
            return None;
        }
        let stream = self.stream.as_mut()?;
        let read = match framed::read_head(&mut stream.recv, MAX_BODY).await {
            Ok(Some(head)) if head.beside => {
                let spooled = self.intake.payload_of(CLIENTS, &mut stream.recv).await;
                match spooled {
                    Ok(payload) => Ok(Some(head.with_payload(payload))),
                    Err(error) if error.kind == ErrorKind::PeerLost => {
                        Err(io::Error::other(error.message).into())
                    }
                    Err(error) => {
                        // Dropped before its final reply, which cancels the call.
                        if let Some(stream) = self.stream.take() {
                            stream.send.close();
                        }
                        self.done = true;
                        return Some(Err(match self.what {
                            What::Call { id, .. } => error.call(id),
                            What::Question => error,
                        }));
                    }
                }
            }
            Ok(Some(head)) => framed::read_body(head, &mut stream.recv).await.map(Some),
            Ok(None) => Ok(None),
            Err(e) => Err(e),
        };
        let reason = match read {
            Ok(Some(frame)) => match frame.header::<Glance>() {
                Ok(reply) => {
                    self.done = reply.t.is_final();
                    if self.done {
                        stream.recv.take_end();
                    }
                    return Some(Ok(frame));
                }
                Err(error) => error.to_string(),
            },
            Ok(None) => "the stream ended before the result".into(),
            Err(error) => error.to_string(),
        };
        self.done = true;
        // Closes our half too, so that a peer that still lives cancels the call.
        self.stream = None;
        Some(Err(self.lost(&reason)))
    }

    fn lost(&self, reason: &str) -> ErrorInfo {
        let node = &self.node;
        let What::Call { id, service, host } = &self.what else {
            let text = format!("node {node} was lost before it answered ({reason})");
            return ErrorInfo::new(ErrorKind::PeerLost, text).hint("see `rhd peers`").on(node);
        };
        if let Some(runs) = &self.runs {
            // It keeps what becomes of it, and brings that here.
            runs.expect(*id, *host, "");
        }
        ErrorInfo::new(
            ErrorKind::PeerLost,
            format!("node {node} was lost in the middle of a call of {service} ({reason})"),
        )
        .hint(format!("it may have run and was not repeated: rh.run({:?}) tells what became of it; f.options(retries=1) repeats calls that are safe to run twice", id.to_string()))
        .on(node)
        .call(id)
    }
}
