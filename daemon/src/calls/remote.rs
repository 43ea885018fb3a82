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
use tokio::{io::AsyncWriteExt as _, time::timeout};

use crate::{
    framed::{self, Body, Frame},
    mesh::{MeshError, Priority, Stream},
    runs::Runs,
};

/// How long the answer of a host that stopped reading may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a host may take to say which arguments it lacks: twice what it waits for room for them.
const READY: Duration = Duration::from_secs(60);
/// Bytes of arguments that a host hashes and copies in a second, at least.
const HASHED: u64 = 32 << 20;

/// Who gets the payloads of replies: clients of this node, all of one user.
const CLIENTS: &str = "";

/// What of a call's arguments `host` may have, once other calls are done that send it the same.
pub(super) async fn known(inner: &Inner, host: NodeId, call: &Call, body: &Body) -> Known {
    match body {
        Body::Beside(payload) if inner.mesh.keeps_parts(host) => {
            inner.sent.known(host, &call.parts, payload).await
        }
        _ => Known::default(),
    }
}

/// Sends `call` on a fresh stream; its replies come as the peer writes them.
pub(super) async fn call(
    inner: &Inner,
    mut stream: Stream,
    mut call: Call,
    body: Body,
    known: Known,
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
        Body::Beside(_) => known,
        Body::Inline(_) => Known::default(),
    };
    call.again.clone_from(&known.again);
    let frame = Frame::new(&call, body).map_err(|e| unfit(&e))?;
    let intake = inner.intake.clone();
    let what = What::Call { id, service: call.service.clone(), host: stream.peer };
    let runs = Some(inner.runs.clone());
    let mut remote = RemoteCall { what, node, stream: None, done: false, intake, runs };
    let written = match call.again.is_empty() {
        true => framed::write(&mut stream.send, &frame).await.map(|()| Vec::new()),
        false => match in_parts(&mut stream, &call, &frame, READY).await {
            Ok(InParts { lacks, spared }) => {
                inner.telemetry.spared(spared);
                Ok(lacks)
            }
            Err(Unsent::Broke(error)) => Err(error),
            Err(Unsent::Silent(after)) => return Err(silent(&remote.node, id, after)),
            Err(Unsent::Refused(error)) => return Err(error.on(&remote.node)),
        },
    };
    if let Ok(lacks) = &written {
        inner.sent.note(stream.peer, id, &known, lacks);
    }
    // Who waits to send the same names it from here on, or sends it.
    drop(known);
    if let Err(error) = written {
        // A host that refuses stops reading: its answer says more than our broken stream.
        let answer = timeout(LAST_WORDS, framed::read(&mut stream.recv, MAX_BODY));
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
    /// The host did not say what it lacks in this time.
    Silent(Duration),
}

/// What was sent of a call.
struct InParts {
    /// Parts that the host lacked of those that it should have.
    lacks: Vec<u32>,
    /// Bytes that were not sent.
    spared: u64,
}

/// Sends a call, and of its payload what the host does not have, once that has said what this is:
/// within `patience`, and as long as it may take to hash what it has.
async fn in_parts(
    stream: &mut Stream,
    call: &Call,
    frame: &Frame,
    patience: Duration,
) -> Result<InParts, Unsent> {
    let broke = |error: &dyn std::fmt::Display| Unsent::Broke(io::Error::other(error.to_string()));
    let (Some(payload), send) = (frame.payload(), &mut stream.send) else {
        return Ok(InParts { lacks: Vec::new(), spared: 0 });
    };
    let layout = Layout::of(call, payload.len()).ok_or_else(|| broke(&"its parts don't fit"))?;
    let patience = patience + Duration::from_secs(layout.again() / HASHED);
    let ask = async {
        framed::write_start(send, frame).await.map_err(Unsent::Broke)?;
        send.flush().await.map_err(Unsent::Broke)?;
        framed::read(&mut stream.recv, MAX_BODY).await.map_err(|e| broke(&e))
    };
    let answer = timeout(patience, ask).await.map_err(|_| Unsent::Silent(patience))??;
    let answer = answer.ok_or_else(|| broke(&"the stream ended before the arguments were sent"))?;
    let lacks = match answer.header().map_err(|e| broke(&e))? {
        Ready::Lacks { parts } => parts,
        Ready::Fail { error } => return Err(Unsent::Refused(error)),
    };
    let mut left = 0;
    for span in layout.without(call, &lacks) {
        left += span.end - span.start;
        framed::write_span(send, payload, span).await.map_err(Unsent::Broke)?;
    }
    send.flush().await.map_err(Unsent::Broke)?;
    Ok(InParts { lacks, spared: payload.len() - left })
}

/// The error for a host that does not say which arguments it lacks.
fn silent(node: &str, call: CallId, after: Duration) -> ErrorInfo {
    let text = format!(
        "node {node} did not say in {} s which of the arguments it has: nothing ran",
        after.as_secs()
    );
    ErrorInfo::new(ErrorKind::PeerLost, text)
        .hint(format!("see `rhd doctor` on {node}, or start it again: `rhd down`, `rhd up`"))
        .on(node)
        .call(call)
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

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::FileExt as _, sync::Arc};

    use rhd_protocol::{
        call::{Again, KEPT_PART},
        frame::PAYLOAD_AT,
        id::Hash,
        membership::Role,
        wire,
    };

    use super::*;
    use crate::{
        framed::Payload,
        mesh::testing::{admit, alone, soon},
    };

    /// A call with one argument that its host should have.
    fn spared() -> (Call, Frame) {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; KEPT_PART as usize], PAYLOAD_AT).unwrap();
        let body = Body::Beside(Payload::new(Arc::new(file), KEPT_PART, None));
        let mut call = Call::new(CallId::from_bytes([1; 16]), "/a/f");
        call.parts = vec![KEPT_PART];
        let before = CallId::from_bytes([2; 16]);
        call.again = vec![Again { part: 0, call: before, of: 0, hash: Hash::of(b"it") }];
        let frame = Frame::new(&call, body).unwrap();
        (call, frame)
    }

    #[tokio::test]
    async fn a_host_that_does_not_say_what_it_lacks_is_given_up() {
        let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (caller, _tasks) = alone(homes[0].path(), "caller").await;
        let (host, _host_tasks) = alone(homes[1].path(), "host").await;
        admit(&caller, &host, Role::Node).await;
        let mut calls = host.accept(wire::CALL);
        let (call, frame) = spared();
        let mut stream = soon(caller.open(host.me(), wire::CALL, Priority::Call)).await.unwrap();
        let short = Duration::from_millis(200);
        let sent = soon(in_parts(&mut stream, &call, &frame, short)).await;
        assert!(matches!(sent, Err(Unsent::Silent(_))));
        // What it was asked came; no argument did, and none does after the caller has left.
        let mut asked = soon(calls.recv()).await.unwrap();
        let head = soon(framed::read_head(&mut asked.recv, MAX_BODY)).await.unwrap().unwrap();
        assert!(head.beside);
        drop(stream);
        let len = soon(framed::read_payload_len(&mut asked.recv, u64::MAX)).await.unwrap();
        assert_eq!(len, KEPT_PART);
        let mut rest = Vec::new();
        let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut asked.recv, &mut rest)).await;
        assert!(rest.is_empty(), "{} bytes", rest.len());
        let error = silent("host", call.id, short);
        assert_eq!((error.kind, error.node.as_str()), (ErrorKind::PeerLost, "host"));
    }
}
