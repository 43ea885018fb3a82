//! Questions from node to node: a stream each, answered by replies until a final one.

mod progress;
mod serve;

use rhd_protocol::{
    call::Reply,
    error::{ErrorInfo, ErrorKind},
    frame::{self, MAX_BODY},
    id::NodeId,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

pub use self::{
    progress::{Meter, Out, telling},
    serve::{accept, answer, answer_within},
};
use crate::{
    framed::{self, Body, Frame},
    mesh::{Mesh, Priority},
    naming::Naming,
};

/// Asks the other nodes that answer one protocol; clones share it.
#[derive(Clone)]
pub struct Asker {
    mesh: Mesh,
    naming: Naming,
    proto: &'static str,
}

impl Asker {
    /// Asks by streams of this protocol.
    pub fn new(mesh: Mesh, naming: Naming, proto: &'static str) -> Self {
        Self { mesh, naming, proto }
    }

    /// Asks a peer for a value.
    pub async fn value<T: DeserializeOwned>(
        &self,
        peer: NodeId,
        ask: &impl Serialize,
    ) -> Result<T, ErrorInfo> {
        // Nobody waits for what it says on the way.
        let (out, _) = mpsc::channel(1);
        let body = self.forward(peer, ask, &out).await?;
        frame::decode(&body).map_err(|e| self.lost(peer, &e))
    }

    /// Has a peer do something, and passes on what it says meanwhile. Dropping this cancels it.
    pub async fn forward(
        &self,
        peer: NodeId,
        ask: &impl Serialize,
        out: &Out,
    ) -> Result<Vec<u8>, ErrorInfo> {
        let opened = self.mesh.open(peer, self.proto, Priority::Sync).await;
        let mut stream = opened.map_err(|e| self.unreachable(peer, &e))?;
        let sent = framed::send(&mut stream.send, ask, Body::default()).await;
        sent.map_err(|e| self.lost(peer, &e))?;
        loop {
            let frame: Frame = framed::read(&mut stream.recv, MAX_BODY)
                .await
                .map_err(|e| self.lost(peer, &e))?
                .ok_or_else(|| self.lost(peer, &"the stream ended"))?;
            match frame.header::<Reply>().map_err(|e| self.lost(peer, &e))? {
                Reply::Done { .. } => return Ok(frame.body.to_vec()),
                Reply::Fail { error, .. } => return Err(error.on(&self.naming.node_name(peer))),
                _ => drop(out.send(frame).await),
            }
        }
    }

    /// The error for a peer that no stream can be opened to.
    pub fn unreachable(&self, peer: NodeId, why: &dyn std::fmt::Display) -> ErrorInfo {
        let node = self.naming.node_name(peer);
        ErrorInfo::new(ErrorKind::PeerLost, format!("node {node} can't be reached: {why}"))
            .hint("see `rhd peers`")
            .on(&node)
    }

    /// The error for a peer whose answer broke off.
    pub fn lost(&self, peer: NodeId, why: &dyn std::fmt::Display) -> ErrorInfo {
        let node = self.naming.node_name(peer);
        let text = format!("node {node} was lost before it answered: {why}");
        ErrorInfo::new(ErrorKind::PeerLost, text)
            .hint("see `rhd peers`; what a transfer brought is kept")
            .on(&node)
    }
}

/// A value as the body of an answer.
pub fn value(value: &impl Serialize) -> Result<Vec<u8>, ErrorInfo> {
    frame::to_vec(value).map_err(|e| ErrorInfo::new(ErrorKind::Internal, format!("answer: {e}")))
}

/// The error for a question that makes no sense.
pub fn refused(why: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, why)
}
