//! What every stream that a peer opens goes through: its first frame, its version, its rights, and
//! the way of its replies.

use std::time::Duration;

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    membership::Role,
};

use super::{Inner, Replies};
use crate::{
    framed::{self, Frame, FramedError, Head},
    mesh::{Gone, RecvHalf, Stream},
};

/// How long a peer may take to say what it opened a stream for.
const FIRST_FRAME: Duration = Duration::from_secs(30);
/// How long a peer that stopped reading may take to say that it left.
const LEAVING: Duration = Duration::from_secs(2);

/// How passing replies on ended.
pub(super) enum Pumped {
    /// With the final one, or as the peer closed the stream, which cancels.
    Over,
    /// The way to the peer broke: what is left, and the reply that did not get through.
    Lost(Replies, Option<Frame>),
}

/// Passes replies to a peer until the final one, or until nobody is there to read them.
pub(super) async fn pump(mut replies: Replies, stream: Stream) -> Pumped {
    let Stream { mut recv, mut send, .. } = stream;
    loop {
        let (gone, frame) = tokio::select! {
            biased;
            frame = replies.next() => match frame {
                Some(frame) => {
                    // A peer that no longer reads must not hold a lane for ever.
                    let gone = tokio::select! {
                        written = framed::write(&mut send, &frame) => match written {
                            Ok(()) => continue,
                            Err(_) => left(&mut recv).await,
                        },
                        gone = recv.gone() => gone,
                    };
                    (gone, Some(frame))
                }
                None => {
                    // The final reply is written; a link that breaks now is the peer's to notice.
                    let _ = tokio::io::AsyncWriteExt::shutdown(&mut send).await;
                    return Pumped::Over;
                }
            },
            gone = recv.gone() => (gone, None),
        };
        return match gone {
            Gone::Closed => Pumped::Over,
            Gone::Lost => Pumped::Lost(replies, frame),
        };
    }
}

/// Why a peer no longer takes what is written to it.
async fn left(recv: &mut RecvHalf) -> Gone {
    tokio::time::timeout(LEAVING, recv.gone()).await.unwrap_or(Gone::Lost)
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
