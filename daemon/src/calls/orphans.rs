//! Calls whose caller's node was lost while they ran: looked after until they end.

use std::sync::Arc;

use rhd_protocol::call::Reply;

use super::{Inner, Replies, replies};
use crate::{
    framed::Frame,
    runs::{Admitted, Source},
};

/// Takes over what the caller of `replies` was lost before; `undelivered` is the reply that it did
/// not get.
pub(super) fn adopt(inner: &Arc<Inner>, replies: Replies, undelivered: Option<Frame>) {
    let owner = inner.clone();
    inner.tasks.spawn(async move {
        let Some((replies, call)) = replies.orphaned().await else { return };
        // What is kept is kept as one piece.
        let replies = replies.fit(false);
        let last =
            undelivered.filter(|frame| frame.header::<Reply>().is_ok_and(|reply| reply.is_final()));
        let last = match last {
            Some(frame) => replies::inline(frame).await.ok(),
            None => None,
        };
        look_after(&owner, &call, Rest { replies, last }).await;
    });
}

/// What is left of the replies.
struct Rest {
    replies: Replies,
    last: Option<Frame>,
}

impl Source for Rest {
    async fn next(&mut self) -> Option<Frame> {
        match self.last.take() {
            Some(last) => Some(last),
            None => self.replies.next().await,
        }
    }
}

async fn look_after(inner: &Inner, call: &Arc<Admitted>, mut rest: Rest) {
    let pumped = async {
        match inner.runs.adopt(call).await {
            Ok(recording) => recording.pump(rest).await,
            Err(error) => {
                tracing::warn!(%error, ?call, "the result of an orphaned call is not kept");
                while rest.next().await.is_some() {}
            }
        }
    };
    let mut pumped = std::pin::pin!(pumped);
    tokio::select! {
        () = &mut pumped => return,
        () = inner.runs.desert(call) => {}
    }
    pumped.await;
}
