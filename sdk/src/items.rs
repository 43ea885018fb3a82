//! Items of a generator, as they come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream};
use rhd_protocol::{call::Reply, error::ErrorInfo};
use serde::de::DeserializeOwned;

use crate::{Replies, calls::value_of, function::Output};

/// What a generator yields elsewhere. Dropping it before its end cancels the call.
pub struct Items<T>(Pin<Box<dyn Stream<Item = Result<T, ErrorInfo>> + Send>>);

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Items")
    }
}

impl<T: DeserializeOwned> Items<T> {
    pub(crate) fn of(replies: Replies, output: Option<Output>) -> Self {
        let items = stream::unfold(Some(replies), move |replies| {
            let output = output.clone();
            async move {
                let mut replies = replies?;
                loop {
                    match replies.next().await {
                        Err(error) => return Some((Err(error), None)),
                        // The end of a generator is no item.
                        Ok(None | Some((Reply::Done { .. }, _))) => return None,
                        Ok(Some((Reply::Fail { error, .. }, _))) => {
                            return Some((Err(error), None));
                        }
                        Ok(Some((Reply::Item { codec, .. }, body))) => {
                            return Some((value_of(codec, &body), Some(replies)));
                        }
                        Ok(Some((Reply::Log { fd, .. }, body))) => {
                            if let Some(output) = &output {
                                output(fd, &body);
                            }
                        }
                        Ok(Some((Reply::Progress { .. }, _))) => {}
                    }
                }
            }
        });
        Self(Box::pin(items))
    }

    /// Waits for the next item; `None` at the end, which also follows an error.
    pub async fn next(&mut self) -> Option<Result<T, ErrorInfo>> {
        self.0.next().await
    }
}

impl<T> Stream for Items<T> {
    type Item = Result<T, ErrorInfo>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
