//! The control lane of a process: orders to it, and all calls of coroutines, side by side.

use std::{sync::Arc, time::Duration};

use rhd_protocol::call::Reply;
use tokio::sync::mpsc;

use super::process::Process;
use crate::framed::{Conn, Frame, FramedError};

/// Frames that wait to be written to one control lane.
const CONTROL_QUEUE: usize = 64;
/// How long a process may live on without its control lane.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Runs a control lane until the process ends or breaks the rules, which ends it.
pub(super) fn attach(process: Arc<Process>, conn: Conn, max_body: usize) -> bool {
    let (tx, rx) = mpsc::channel(CONTROL_QUEUE);
    if !process.set_control(tx) {
        return false;
    }
    let (read, write) = conn.into_split();
    tokio::spawn(async move {
        tokio::select! {
            _ = process.over() => return,
            () = write_orders(write, rx) => {}
            broken = read_replies(&process, read, max_body) => if let Some(rule) = broken {
                tracing::warn!(env = %process.env, pid = process.pid, "ended a worker: {rule}");
                return;
            }
        }
        // A process that is ending closes its lanes first: its own status says more than ours.
        if tokio::time::timeout(CLOSE_WAIT, process.over()).await.is_err() {
            tracing::warn!(env = %process.env, pid = process.pid, "a worker lost its control lane");
            process.kill("it closed its control lane");
        }
    });
    true
}

async fn write_orders(mut lane: Conn, mut orders: mpsc::Receiver<Frame>) {
    while let Some(frame) = orders.recv().await {
        lane.queue(frame);
        if lane.flush().await.is_err() {
            return;
        }
    }
    // The process is being forgotten; its end is waited for elsewhere.
    std::future::pending::<()>().await;
}

/// Hands replies to their calls until the lane ends; returns the rule that the worker broke, if it
/// did. The lane is open until then: a worker that sees it closed ends itself, and says less.
async fn read_replies(process: &Process, mut lane: Conn, max_body: usize) -> Option<&'static str> {
    let broken = loop {
        let frame = match lane.read(max_body).await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(FramedError::Io(_)) => return None,
            Err(FramedError::Frame(_)) => break "it wrote something that is no reply",
        };
        let Ok(reply) = frame.header::<Reply>() else {
            break "it wrote something that is no reply";
        };
        let Some(id) = reply.id() else { break "it wrote a reply of no call" };
        // A call that ended just now may still be spoken of; nobody listens.
        let Some(mailbox) = process.calls.mailbox(&id) else {
            process.pings.answered(&id);
            continue;
        };
        match reply {
            Reply::Log { .. } | Reply::Progress { .. } => mailbox.push_log(frame),
            _ if mailbox.push_reply(frame, reply.is_final()) => {}
            _ => break "it sent more items than it had credit for",
        }
    };
    process.kill(broken);
    Some(broken)
}
