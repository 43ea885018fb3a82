//! Records of ended runs go to the node of their caller, by the way that folders go.
//!
//! A record is offered until that node says that it has it: when the run ends, when the node comes
//! back, and when this one does.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    VERSION,
    api::Request,
    error::{ErrorInfo, ErrorKind},
    folder::Place,
    id::{CallId, NodeId},
    membership::Role,
    run::RunAsk,
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{Inner, owed::Owed};
use crate::{mesh::Route, runs::Sealed};

/// Copies that come at once.
pub(super) const COMING: usize = 4;
/// How long it may take a node to fetch a copy.
const LONG: Duration = Duration::from_secs(600);

/// Tells the nodes of callers of records that are whole, until the node closes.
pub(super) fn start(inner: &Arc<Inner>) {
    let Some(sealed) = inner.runs.sealed() else { return };
    let (inner, closing) = (inner.clone(), inner.closing.clone());
    tokio::spawn(closing.run_until_cancelled_owned(tell(inner, sealed)));
}

async fn tell(inner: Arc<Inner>, mut sealed: mpsc::Receiver<Sealed>) {
    let (mut owed, mut telling) = (Owed::default(), JoinSet::new());
    for Sealed { id, to } in inner.runs.unsettled().await {
        owed.push(to, id, Instant::now());
    }
    let mut peers = inner.mesh.peers();
    loop {
        let (mut members, mut linked) = (Vec::new(), Vec::new());
        for peer in peers.borrow_and_update().iter() {
            members.push(peer.node);
            linked.extend((peer.path != Route::None).then_some(peer.node));
        }
        owed.linked(&linked, Instant::now());
        while let Some((to, id)) = owed.next(&members, Instant::now()) {
            let inner = inner.clone();
            telling.spawn(async move { (to, id, offer(&inner, to, id).await) });
        }
        tokio::select! {
            Some(Sealed { id, to }) = sealed.recv() => owed.push(to, id, Instant::now()),
            Some(told) = telling.join_next() => match told {
                Ok((to, _, Ok(()))) => owed.settled(to),
                Ok((to, id, Err(error))) if error.kind == ErrorKind::PeerLost => {
                    owed.lost(to, id, Instant::now());
                }
                Ok((to, id, Err(error))) => {
                    tracing::debug!(run = %id, %error, "its record stays here only");
                    owed.settled(to);
                }
                Err(error) => tracing::error!(%error, "telling of a record"),
            },
            changed = peers.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(owed.due(&members)) => {}
        }
    }
}

async fn offer(inner: &Inner, to: NodeId, id: CallId) -> Result<(), ErrorInfo> {
    // It may have been removed since, or be too large by now.
    let Some(record) = inner.runs.unsettled_at(id).await else { return Ok(()) };
    let path = record.display().to_string();
    let grant = Some(inner.folders.grant(record, to));
    let ask = RunAsk::Keep { from: Place { node: None, path, grant } };
    let request = Request::Run { v: VERSION, run: id.to_string(), node: None, ask };
    let asked = tokio::time::timeout(LONG, inner.asker.value(to, &request)).await;
    let told = asked.unwrap_or_else(|_| Err(inner.asker.lost(to, &"it took too long")));
    // What it does not want it is not asked about again.
    let unwanted = told.as_ref().is_err_and(|error| error.kind == ErrorKind::PermissionDenied);
    if told.is_ok() || unwanted {
        inner.runs.settle(id).await;
    }
    told
}

/// Keeps the record of a run that has ended on `peer`, if its call came from here.
pub(super) async fn keep(
    inner: &Inner,
    peer: NodeId,
    id: CallId,
    from: Place,
) -> Result<(), ErrorInfo> {
    may_bring(inner, peer, id)?;
    let Ok(_place) = inner.copying.acquire().await else { return Ok(()) };
    let Some((to, limit)) = inner.runs.room_for(id).await? else { return Ok(()) };
    if let Err(error) = inner.folders.fetch(peer, from, &to, limit).await {
        inner.runs.drop_incoming(id).await;
        return Err(error);
    }
    inner.runs.take_in(id, inner.name_of(peer)).await
}

/// Whether the record of a run may come from this peer: from the one that was asked to run it. Where
/// nobody remembers whom (a plain call that is kept as this node was lost in its middle), from those
/// that may change anything here.
fn may_bring(inner: &Inner, peer: NodeId, id: CallId) -> Result<(), ErrorInfo> {
    let may = match inner.runs.expected_from(id) {
        Some(host) => host == peer,
        None => inner.mesh.role_of(peer) == Some(Role::Member),
    };
    if may {
        return Ok(());
    }
    let here = inner.mesh.name();
    let text = format!("{here} did not ask {} to run {id}", inner.name_of(peer));
    Err(ErrorInfo::new(ErrorKind::PermissionDenied, text)
        .hint("its record stays where it ran: `rhd logs` finds it there")
        .on(&here)
        .call(id))
}
