//! The replies to one request, wherever they come from.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    id::CallId,
};

use crate::{
    Client,
    client::Alone,
    connection::{Connection, ConnectionError},
    many::{Many, Next},
    requests::not_understood,
};

/// The replies to one request; dropping them before the final one cancels it.
#[derive(Debug)]
pub struct Replies {
    client: Client,
    source: Source,
    call: Option<CallId>,
}

#[derive(Debug)]
enum Source {
    /// A connection that nothing else uses.
    Own(Connection, Option<Alone>),
    /// One that other calls use too.
    Shared(Ordered),
    /// There are no more.
    Over,
}

/// A call on a connection of many. Dropped before its final reply, it is cancelled.
#[derive(Debug)]
struct Ordered {
    many: Arc<Many>,
    id: CallId,
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.many.cancel(self.id);
    }
}

impl Replies {
    pub(crate) fn own(client: Client, connection: Connection, call: Option<CallId>) -> Self {
        Self { client, source: Source::Own(connection, None), call }
    }

    pub(crate) fn shared(client: Client, many: Arc<Many>, id: CallId) -> Self {
        Self { client, source: Source::Shared(Ordered { many, id }), call: Some(id) }
    }

    /// Counts the call for as long as it has its connection.
    pub(crate) fn counted(mut self, call: Alone) -> Self {
        if let Source::Own(_, counted) = &mut self.source {
            *counted = Some(call);
        }
        self
    }

    /// Waits for the next reply; `None` after the final one.
    pub async fn next(&mut self) -> Result<Option<(Reply, Bytes)>, ErrorInfo> {
        loop {
            let received = match &mut self.source {
                Source::Over => return Ok(None),
                Source::Own(connection, _) => connection.receive().await,
                Source::Shared(Ordered { many, id }) => {
                    let id = *id;
                    match poll_fn(|cx| many.poll_next(id, cx)).await {
                        Next::Reply(reply, body) => Ok(Some((reply, body))),
                        Next::Garbled(error) => Err(ConnectionError::Frame(error)),
                        Next::Lost(None) => Ok(None),
                        Next::Lost(Some(error)) => {
                            self.source = Source::Over;
                            return Err(error.call(id));
                        }
                        Next::Unsent(frame) => {
                            *self = self.client.resend(id, &frame).await?;
                            continue;
                        }
                    }
                }
            };
            return self.received(received);
        }
    }

    fn received(
        &mut self,
        received: Result<Option<(Reply, Bytes)>, ConnectionError>,
    ) -> Result<Option<(Reply, Bytes)>, ErrorInfo> {
        match received {
            Ok(Some((reply, body))) => {
                if reply.is_final()
                    && let Source::Own(connection, _) =
                        std::mem::replace(&mut self.source, Source::Over)
                {
                    self.client.keep(connection);
                }
                Ok(Some((reply, body)))
            }
            Ok(None) | Err(ConnectionError::Io(_)) => {
                self.source = Source::Over;
                Err(self.lost())
            }
            Err(ConnectionError::Frame(source)) => {
                self.source = Source::Over;
                Err(not_understood(source))
            }
        }
    }

    fn lost(&self) -> ErrorInfo {
        match &self.call {
            Some(call) => ErrorInfo::new(
                ErrorKind::PeerLost,
                "the local daemon went away during the call; it may have run and was not repeated",
            )
            .call(call)
            .hint("see why: rhd doctor"),
            None => ErrorInfo::new(
                ErrorKind::DaemonUnavailable,
                "the daemon went away before it answered",
            )
            .hint("see why: rhd doctor"),
        }
    }
}
