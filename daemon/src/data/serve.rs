//! What peers ask: chunks of blobs, and questions about data.

use std::time::Duration;

use iroh_blobs::{
    protocol::Request,
    provider::{StreamPair, events::EventSender, handle_get},
};
use rhd_protocol::{error::ErrorInfo, wire};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Data, answer, give,
    streams::{Reader, Writer},
};
use crate::{
    asked::{self, refused},
    mesh::{Priority, Stream},
};

/// Requests for chunks that are answered at once; beyond this they wait.
const SERVED: usize = 64;
/// The same of pieces, some of which are in memory for each.
const GIVEN: usize = 24;
/// Questions of peers that are answered at once; beyond this they wait.
const ANSWERED: usize = 256;
/// How long a peer may take to say which chunks it wants.
const FIRST: Duration = Duration::from_secs(30);

/// Answers peers until `closing`.
pub(super) fn start(data: &Data, tasks: &TaskTracker, closing: &CancellationToken) {
    let (blobs, asks) = (data.mesh.accept(wire::BLOB), data.mesh.accept(wire::DATA));
    let (serving, pieces) = (data.clone(), data.mesh.accept(wire::PIECE));
    asked::accept(pieces, GIVEN, tasks, closing, move |one| give::pieces(serving.clone(), one));
    let serving = data.clone();
    asked::accept(blobs, SERVED, tasks, closing, move |stream| chunks(serving.clone(), stream));
    let serving = data.clone();
    asked::accept(asks, ANSWERED, tasks, closing, move |stream| ask(serving.clone(), stream));
}

/// Gives chunks of one blob, each read from disk and held against its hash on the way.
async fn chunks(data: Data, stream: Stream) -> Result<(), ErrorInfo> {
    stream.set_priority(Priority::Bulk);
    let mut writer = Writer::new(stream.send);
    let mut pair = StreamPair::new(0, Reader::new(stream.recv), &mut writer, EventSender::DEFAULT);
    let request = tokio::time::timeout(FIRST, pair.read_request());
    let request = request.await.map_err(|_| refused("it asked for nothing"))?;
    match request.map_err(|e| refused(&e.to_string()))? {
        Request::Get(get) if get.ranges.is_blob() => {
            let served = handle_get(pair, data.shelf.store.content().clone(), get).await;
            served.map_err(|e| refused(&format!("{e:#}")))?;
        }
        // What else the protocol knows, nobody here asks for: nothing is pushed or watched.
        _ => return Err(refused("it asked for what is not served")),
    }
    writer.finish().await.map_err(|e| refused(&e.to_string()))
}

/// Answers one question.
async fn ask(data: Data, stream: Stream) -> Result<(), ErrorInfo> {
    let (peer, here) = (stream.peer, data.mesh.name());
    asked::answer(
        &here,
        stream,
        |ask, out| async move { answer::peer(&data, peer, ask, &out).await },
    )
    .await
}
