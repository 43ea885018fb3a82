//! What every stream that a peer opens goes through: its first frame, its version, its rights, and
//! the way of its replies.

use std::time::Duration;

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    membership::Role,
};
use tokio::io::AsyncReadExt;

use super::{Inner, Replies};
use crate::{
    framed::{self, FramedError, Head},
    mesh::Stream,
};

/// How long a peer may take to say what it opened a stream for.
const FIRST_FRAME: Duration = Duration::from_secs(30);

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

/// Refuses a peer of another protocol version before anything runs.
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

/// The error for bytes that are no request.
pub(super) fn bad_request(inner: &Inner, error: &impl std::error::Error) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, format!("request is not understood: {error}"))
        .hint("the other side may run another version of rhd: compare `rhd peers`")
        .on(&inner.mesh.name())
}

/// Whether a peer may put something here or take it away.
pub(super) fn may_change(inner: &Inner, peer: NodeId) -> Result<(), ErrorInfo> {
    if inner.mesh.role_of(peer) == Some(Role::Member) {
        return Ok(());
    }
    Err(ErrorInfo::new(
        ErrorKind::PermissionDenied,
        format!("{} joined as a node: it serves, and may not deploy", inner.name_of(peer)),
    )
    .hint("invite it with `rhd invite --role member`"))
}
