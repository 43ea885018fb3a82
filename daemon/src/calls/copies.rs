//! Records of ended runs go to the node of their caller, by the way that folders go.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    VERSION,
    api::Request,
    error::{ErrorInfo, ErrorKind},
    folder::Place,
    id::{CallId, NodeId},
    run::RunAsk,
};
use tokio::sync::Semaphore;

use super::Inner;
use crate::runs::Sealed;

/// Copies that are told of at once.
const AT_ONCE: usize = 16;
/// Copies that come at once.
pub(super) const COMING: usize = 4;
/// How long it may take a node to fetch a copy.
const LONG: Duration = Duration::from_secs(600);
/// Seconds that it waits for a caller's node that can't be reached, time after time.
const AGAIN: [u64; 6] = [5, 30, 120, 600, 1800, 3600];

/// Tells the nodes of callers of records that are whole, until the node closes.
pub(super) fn start(inner: &Arc<Inner>) {
    let Some(mut sealed) = inner.runs.sealed() else { return };
    let (inner, places) = (inner.clone(), Arc::new(Semaphore::new(AT_ONCE)));
    let closing = inner.closing.clone();
    tokio::spawn(closing.clone().run_until_cancelled_owned(async move {
        while let Some(record) = sealed.recv().await {
            let (inner, places) = (inner.clone(), places.clone());
            tokio::spawn(closing.clone().run_until_cancelled_owned(async move {
                tell(&inner, record, &places).await;
            }));
        }
    }));
}

async fn tell(inner: &Inner, record: Sealed, places: &Semaphore) {
    let mut again = AGAIN.into_iter();
    loop {
        let told = {
            let Ok(_place) = places.acquire().await else { return };
            offer(inner, &record).await
        };
        let error = match told {
            Ok(()) => return,
            Err(error) => error,
        };
        // Any other answer is one that stays.
        let (true, Some(wait)) = (error.kind == ErrorKind::PeerLost, again.next()) else {
            tracing::debug!(run = %record.id, %error, "its record stays here only");
            return;
        };
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
}

async fn offer(inner: &Inner, record: &Sealed) -> Result<(), ErrorInfo> {
    let path = record.path.display().to_string();
    let grant = Some(inner.folders.grant(record.path.clone(), record.to));
    let ask = RunAsk::Keep { from: Place { node: None, path, grant } };
    let request = Request::Run { v: VERSION, run: record.id.to_string(), node: None, ask };
    let asked = inner.asker.value(record.to, &request);
    let answer = tokio::time::timeout(LONG, asked).await;
    answer.unwrap_or_else(|_| Err(inner.asker.lost(record.to, &"it took too long")))
}

/// Keeps the record of a run that has ended on `peer`, if its call came from here.
pub(super) async fn keep(
    inner: &Inner,
    peer: NodeId,
    id: CallId,
    from: Place,
) -> Result<(), ErrorInfo> {
    let Ok(_place) = inner.copying.acquire().await else { return Ok(()) };
    let Some((to, limit)) = inner.runs.room_for(id).await? else { return Ok(()) };
    if let Err(error) = inner.folders.fetch(peer, from, &to, limit).await {
        inner.runs.drop_incoming(id).await;
        return Err(error);
    }
    inner.runs.take_in(id, inner.name_of(peer)).await
}
