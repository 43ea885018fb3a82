//! The lanes of a process that carry many calls side by side: the control lane, for coroutines and
//! orders to the process, and the shared one, for calls that are over in a moment.

use std::{sync::Arc, time::Duration};

use rhd_protocol::call::{Glance, Kind, Reply};
use tokio::sync::mpsc;

use super::process::Process;
use crate::framed::{Conn, Frame, FramedError, Gathered};

/// Frames that wait to be written to one of them.
const QUEUE: usize = 64;
/// Bytes that are gathered into one write, but for the last frame.
const BATCH: usize = 64 * 1024;
/// How long a process may live on without its control lane.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Runs a control lane until the process ends or breaks the rules, which ends it.
pub(super) fn attach(process: Arc<Process>, conn: Conn, max_body: usize) -> bool {
    let (tx, rx) = mpsc::channel(QUEUE);
    if !process.set_control(tx) {
        return false;
    }
    let (read, write) = conn.into_gathered();
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

/// Runs a shared lane until the process ends or breaks the rules, which ends it; false when there is
/// one already.
pub(super) fn attach_shared(process: Arc<Process>, conn: Conn, max_body: usize) -> bool {
    let (tx, rx) = mpsc::channel(QUEUE);
    if !process.set_shared(tx) {
        return false;
    }
    let (read, write) = conn.into_gathered();
    tokio::spawn(async move {
        tokio::select! {
            _ = process.over() => return,
            () = write_orders(write, rx) => {}
            broken = read_replies(&process, read, max_body) => if broken.is_some() { return },
        }
        // What was written to it may run or not: none of it can be told from the rest any more.
        if tokio::time::timeout(CLOSE_WAIT, process.over()).await.is_err() {
            process.kill("it closed the lane that its calls share");
        }
    });
    true
}

async fn write_orders(mut lane: Gathered<()>, mut orders: mpsc::Receiver<Frame>) {
    while let Some(first) = orders.recv().await {
        // Whoever else is ready to write does so first, and all of it goes out at once.
        tokio::task::yield_now().await;
        lane.push(first, ());
        while lane.len() < BATCH
            && let Ok(next) = orders.try_recv()
        {
            lane.push(next, ());
        }
        while !lane.is_empty() {
            if lane.flush_some().await.is_err() {
                return;
            }
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
        let Ok(Glance { t: kind, id }) = frame.header() else {
            break "it wrote something that is no reply";
        };
        let Some(id) = id else { break "it wrote a reply of no call" };
        // A call that ended just now may still be spoken of; nobody listens.
        let Some(mailbox) = process.calls.mailbox(&id) else {
            process.pings.answered(&id);
            continue;
        };
        if kind == Kind::Other {
            match frame.header() {
                Ok(Reply::Log { .. } | Reply::Progress { .. }) => mailbox.push_log(frame),
                Ok(_) if mailbox.push_reply(frame, false) => {}
                Ok(_) => break "it sent more items than it had credit for",
                Err(_) => break "it wrote something that is no reply",
            }
        } else {
            mailbox.push_reply(frame, true);
        }
    };
    process.kill(broken);
    Some(broken)
}
