//! The replies to a call as one answer: its result, or the items of a generator as a list.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::{BufMut, Bytes, BytesMut};
use rhd_protocol::{
    call::{Codec, Reply},
    error::{ErrorInfo, ErrorKind},
};

use super::failure::Failure;
use crate::calls::Replies;

/// Waits for the end of a call. A generator's items become an array; what it returns is left out.
/// None for a call that neither returned nor yielded anything.
pub(super) async fn whole(
    mut replies: Replies,
    codec: Codec,
    max_body: usize,
) -> Result<Option<Response>, Failure> {
    let mut items = Items { codec, count: 0, bytes: BytesMut::new() };
    while let Some(frame) = replies.next().await {
        let reply: Reply = frame.header().map_err(|e| broken(&e))?;
        match reply {
            Reply::Item { codec: of, .. } => {
                same(of, codec)?;
                // Dropping the replies ends the generator.
                items.add(&frame.body, max_body)?;
            }
            Reply::Done { codec: of, parts, .. } => {
                if items.count > 0 {
                    return Ok(Some(answer(codec, items.finish())));
                }
                same(of, codec)?;
                let nothing = parts.is_empty() || frame.body == nil(codec);
                return Ok((!nothing).then(|| answer(codec, frame.body)));
            }
            Reply::Fail { error, .. } => return Err(error.into()),
            Reply::Log { .. } | Reply::Progress { .. } => {}
        }
    }
    Err(broken(&"no final reply"))
}

struct Items {
    codec: Codec,
    count: u32,
    bytes: BytesMut,
}

impl Items {
    fn add(&mut self, item: &Bytes, max_body: usize) -> Result<(), Failure> {
        if self.bytes.len() + item.len() + 1 > max_body {
            let info = ErrorInfo::new(
                ErrorKind::BadRequest,
                format!("the items are more than {max_body} bytes together"),
            );
            return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, info)
                .hint("take them one by one: `Accept: text/event-stream`"));
        }
        if self.codec != Codec::Msgpack {
            self.bytes.put_u8(if self.count == 0 { b'[' } else { b',' });
        }
        self.bytes.extend_from_slice(item);
        self.count += 1;
        Ok(())
    }

    fn finish(mut self) -> Bytes {
        if self.codec != Codec::Msgpack {
            self.bytes.put_u8(b']');
            return self.bytes.freeze();
        }
        let mut whole = BytesMut::with_capacity(5 + self.bytes.len());
        whole.put_u8(0xdd);
        whole.put_u32(self.count);
        whole.extend_from_slice(&self.bytes);
        whole.freeze()
    }
}

fn answer(codec: Codec, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    let content_type = match codec {
        Codec::Msgpack => "application/msgpack",
        _ => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer of a call without a result: null, or an empty array of a generator.
pub(super) fn nothing(codec: Codec, yields: bool) -> Response {
    let empty: &[u8] = if codec == Codec::Msgpack { b"\x90" } else { b"[]" };
    answer(codec, if yields { Bytes::from_static(empty) } else { nil(codec) })
}

fn nil(codec: Codec) -> Bytes {
    Bytes::from_static(if codec == Codec::Msgpack { b"\xc0" } else { b"null" })
}

/// Refuses a reply in another encoding than the one that was asked for: what is in it, a page may
/// not see.
pub(super) fn same(of: Codec, asked: Codec) -> Result<(), Failure> {
    if of == asked { Ok(()) } else { Err(broken(&"a reply in another encoding")) }
}

pub(super) fn broken(why: &dyn std::fmt::Display) -> Failure {
    ErrorInfo::new(ErrorKind::Internal, format!("the call's replies are not understood: {why}"))
        .hint("the node that ran it may be of another version: compare `rhd peers`")
        .into()
}
