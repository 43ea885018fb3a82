//! Records that will not change any more, on their way to those who may have a copy.

use rhd_protocol::id::{CallId, NodeId};
use tokio::sync::mpsc;

/// Records that wait to be told of; what finds no room waits for the next start.
const WAITING: usize = 1024;

/// A record that will not change any more.
#[derive(Debug)]
pub struct Sealed {
    /// Whose.
    pub id: CallId,
    /// The node of the caller.
    pub to: NodeId,
}

/// Where records go that are told of.
pub(super) fn queue() -> (mpsc::Sender<Sealed>, mpsc::Receiver<Sealed>) {
    mpsc::channel(WAITING)
}
