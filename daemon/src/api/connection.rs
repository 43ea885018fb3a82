//! One client's connection: requests one after the other.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    api::{AnyRequest, Request},
    error::{ErrorInfo, ErrorKind},
    frame::{FrameError, MAX_BODY},
};
use tokio::net::UnixStream;

use super::{Api, many};
use crate::{
    calls::Replies,
    framed::{Conn, Frame, FramedError},
};

/// A client that has started a request must end it within this time.
pub(super) const SLOW_REQUEST: Duration = Duration::from_secs(300);

/// Serves requests until the client closes.
pub(super) async fn serve(api: &Arc<Api>, stream: UnixStream) -> Result<(), FramedError> {
    let client = stream.peer_cred().ok().and_then(|cred| cred.pid()).unwrap_or(0).unsigned_abs();
    let mut conn = Conn::new(stream);
    loop {
        // Idle connections are pooled by clients and cost nothing; only a half-written request is
        // on the clock.
        conn.readable().await?;
        let read = tokio::time::timeout(SLOW_REQUEST, conn.read(MAX_BODY));
        let frame = match read.await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(FramedError::Frame(error))) => {
                // The stream is out of step: say why, then hang up.
                return refuse(&mut conn, not_understood(&error)).await;
            }
            Ok(Err(error)) => return Err(error),
        };
        let request = match read_request(&frame) {
            Ok(Request::Call { mut call }) => {
                call.client = client;
                Request::Call { call }
            }
            Ok(request) => request,
            Err(error) => {
                refuse(&mut conn, error).await?;
                continue;
            }
        };
        let many = matches!(request, Request::Many { .. });
        let replies = api.handle(request, frame.into_body());
        // Held while the node drains: a request under way is waited for, an idle client is not.
        let under_way = api.requests.token();
        let finished = pump(replies, &mut conn).await?;
        drop(under_way);
        if !finished {
            return Ok(());
        }
        if many {
            return many::serve(api, conn, client).await;
        }
    }
}

fn read_request(frame: &Frame) -> Result<Request, ErrorInfo> {
    let any: AnyRequest = frame.header().map_err(|e| not_understood(&e))?;
    if any.version() != rhd_protocol::VERSION {
        return Err(other_version(any.version(), &any.op));
    }
    frame.header().map_err(|e| not_understood(&e))
}

/// The error of a client that speaks another version.
pub(super) fn other_version(theirs: u16, op: &str) -> ErrorInfo {
    let ours = rhd_protocol::VERSION;
    let hint = if theirs > ours {
        "this daemon is older than its client: `rhd down`, then `rhd up` with the newer rhd"
    } else {
        "this client is older than its daemon: upgrade it; `rhd python` runs a Python whose SDK is \
         the daemon's own"
    };
    ErrorInfo::new(
        ErrorKind::VersionMismatch,
        format!("the daemon speaks protocol {ours}, the client {theirs} ({op})"),
    )
    .hint(hint)
}

/// The error of a client whose bytes are no request.
pub(super) fn not_understood(error: &FrameError) -> ErrorInfo {
    let cause = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
    ErrorInfo::new(ErrorKind::BadRequest, format!("request is not understood: {error}{cause}"))
        .hint("client and daemon may be of different versions: compare `rhd --version` and `rhd status`")
}

async fn refuse(conn: &mut Conn, error: ErrorInfo) -> Result<(), FramedError> {
    pump(Replies::failed(error), conn).await.map(drop)
}

/// Passes replies on until the final one; `false` when the client hung up, which cancels.
async fn pump(mut replies: Replies, conn: &mut Conn) -> Result<bool, FramedError> {
    loop {
        tokio::select! {
            biased;
            frame = replies.next() => {
                let Some(frame) = frame else { return Ok(true) };
                conn.queue(frame);
            }
            // Nothing may follow a request before its final reply: this is an end, or a fault.
            () = conn.hung_up() => return Ok(false),
        }
        conn.try_flush()?;
        while !conn.is_flushed() {
            tokio::select! {
                biased;
                writable = conn.writable() => writable?,
                () = conn.hung_up() => return Ok(false),
            }
            conn.try_flush()?;
        }
    }
}
