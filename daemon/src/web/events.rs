//! The replies to a call as server-sent events, in the order in which they come.
//!
//! `log` is `{"stream": "stdout", "text": …}`, `progress` a text, `item` an item of a generator; the
//! last event is `result` or `error`. All data is JSON.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use rhd_protocol::call::{Codec, Reply};
use serde::Serialize;
use tokio::time::timeout;

use super::answer::{broken, same};
use crate::{calls::Replies, framed::Frame};

#[derive(Serialize)]
struct Log<'a> {
    stream: &'static str,
    text: &'a str,
}

/// The next reply, while it is waited for. Never abandoned: a frame that is half read would be lost.
type Next = Pin<Box<dyn Future<Output = (Option<Frame>, Replies)> + Send>>;

fn next(mut replies: Replies) -> Next {
    Box::pin(async move { (replies.next().await, replies) })
}

/// Streams the replies, and a comment after each silence of `alive`; proxies cut streams that say
/// nothing. `keep` lives as long as the stream. A client that hangs up cancels the call.
pub(super) fn stream<K: Send + 'static>(replies: Replies, alive: Duration, keep: K) -> Response {
    let start = Some((next(replies), keep));
    let events = futures::stream::unfold(start, move |state| async move {
        let (mut waiting, keep) = state?;
        let (event, then) = match timeout(alive, &mut waiting).await {
            Ok((Some(frame), replies)) => {
                let (event, last) = event(&frame);
                (event, (!last).then(|| (next(replies), keep)))
            }
            Ok((None, _)) => return None,
            Err(_) => (Bytes::from_static(b":\n\n"), Some((waiting, keep))),
        };
        Some((Ok::<_, Infallible>(event), then))
    });
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// One reply, and whether it is the last.
fn event(frame: &Frame) -> (Bytes, bool) {
    let reply = match frame.header::<Reply>() {
        Ok(reply) => reply,
        Err(e) => return (failed(&broken(&e).info), true),
    };
    match reply {
        Reply::Log { fd, .. } => {
            let stream = if fd == 2 { "stderr" } else { "stdout" };
            let text = String::from_utf8_lossy(&frame.body);
            (json("log", &Log { stream, text: &text }), false)
        }
        Reply::Progress { text, .. } => (json("progress", &text), false),
        Reply::Item { codec, .. } => match same(codec, Codec::Json) {
            Ok(()) => (raw("item", &frame.body), false),
            Err(failure) => (failed(&failure.info), true),
        },
        Reply::Done { parts, .. } if parts.is_empty() => (raw("result", b"null"), true),
        Reply::Done { codec, .. } => match same(codec, Codec::Json) {
            Ok(()) => (raw("result", &frame.body), true),
            Err(failure) => (failed(&failure.info), true),
        },
        Reply::Fail { error, .. } => (failed(&error), true),
    }
}

fn failed(error: &rhd_protocol::error::ErrorInfo) -> Bytes {
    json("error", error)
}

fn json(name: &str, value: &impl Serialize) -> Bytes {
    raw(name, &serde_json::to_vec(value).unwrap_or_default())
}

fn raw(name: &str, json: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len() + json.len() + 16);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    let start = out.len();
    out.extend_from_slice(json);
    // JSON has line breaks between its tokens only, where a space does as well; what a worker wrote
    // must not become an event of its own.
    for byte in &mut out[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    out.extend_from_slice(b"\n\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use rhd_protocol::error::{ErrorInfo, ErrorKind};

    use super::*;

    #[test]
    fn no_reply_makes_two_events() {
        let item = Reply::Item { id: None, codec: Codec::Json, parts: vec![9] };
        let frame = Frame::new(&item, &b"1\n\nevent: x\r"[..]).unwrap();
        assert_eq!(
            event(&frame),
            (Bytes::from_static(b"event: item\ndata: 1  event: x \n\n"), false)
        );
        let log = Frame::new(&Reply::Log { id: None, fd: 2 }, &b"a\n\xff"[..]).unwrap();
        let (text, last) = event(&log);
        assert!(!last);
        let wanted = "event: log\ndata: {\"stream\":\"stderr\",\"text\":\"a\\n\u{fffd}\"}\n\n";
        assert_eq!(text, wanted.as_bytes());
    }

    #[test]
    fn a_pickle_or_a_failure_ends_the_stream_with_an_error() {
        let done = Reply::Done { id: None, codec: Codec::Pickle, parts: vec![1] };
        let (text, last) = event(&Frame::new(&done, &b"x"[..]).unwrap());
        assert!(last && text.starts_with(b"event: error\n"));
        let fail = Reply::fail(ErrorInfo::new(ErrorKind::Remote, "no"));
        let (text, last) = event(&Frame::new(&fail, &b"pickle"[..]).unwrap());
        assert!(
            last && text
                .starts_with(b"event: error\ndata: {\"kind\":\"remote\",\"message\":\"no\"")
        );
    }
}
