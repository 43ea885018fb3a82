//! Calls that nobody waits for any more: asked to stop, given time, then ended with their process.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rhd_protocol::{call::Reply, id::CallId, worker::Control};
use tokio::time::timeout;

use super::{lease::Grant, process::Process, stream::Active};
use crate::framed::Frame;

/// Cancels a call in the background. What the worker was never told of just ends.
pub(super) fn wind_down(active: Active) {
    if !active.begun || active.is_loading_elsewhere() {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            runtime.spawn(wait_for_end(active));
        }
        // Nobody could wait for its end; the lane closes, which the worker sees.
        Err(_) => drop(active),
    }
}

async fn wait_for_end(mut active: Active) {
    let process = active.process.clone();
    process.calls.cancelled(&active.id);
    if let Grant::Lane(lease) = &mut active.grant
        && lease.conn().is_none_or(|conn| !conn.is_flushed())
    {
        // Cut off in the middle of its arguments: it never ran, and the lane ends with it.
        return;
    }
    let config = active.env.shared.config.clone();
    let mut grace = config.cancel_grace();
    let asked = timeout(grace, ask(&process, active.id));
    if !matches!(asked.await, Ok(true)) {
        tracing::warn!(env = %process.env, call = %active.id, "the worker takes no orders");
    }
    loop {
        match timeout(grace, last_reply(&mut active, config.max_body)).await {
            Ok(true) => return active.grant.done(),
            Ok(false) => return,
            Err(_) if process.calls.wanted() == 0 => {
                let text =
                    format!("a cancelled call did not stop within {} s", grace.as_secs_f32());
                tracing::warn!(env = %process.env, call = %active.id, "ending a worker: {text}");
                process.kill(&text);
                let _ = timeout(Duration::from_secs(5), process.over()).await;
                return;
            }
            Err(_) => {
                grace = config.shared_grace();
                tracing::warn!(
                    env = %process.env,
                    call = %active.id,
                    others = process.calls.wanted(),
                    "a cancelled call does not stop; its worker is spared for the calls beside it"
                );
            }
        }
    }
}

async fn ask(process: &Arc<Process>, id: CallId) -> bool {
    let Ok(frame) = Frame::new(&Control::Cancel { id }, Bytes::new()) else { return false };
    match process.control() {
        Some(control) => control.send(frame).await.is_ok(),
        None => false,
    }
}

/// Reads to the end of the call; false when the process ended instead.
async fn last_reply(active: &mut Active, max_body: usize) -> bool {
    let process = active.process.clone();
    let replies = async {
        loop {
            let frame = match &mut active.grant {
                Grant::Lane(lease) => {
                    let Some(conn) = lease.conn() else { return false };
                    match conn.read(max_body).await {
                        Ok(Some(frame)) => frame,
                        Ok(None) | Err(_) => return false,
                    }
                }
                Grant::Loop(_) => match active.mailbox.pop(active.id) {
                    Some(frame) => frame,
                    None => {
                        active.mailbox.arrived().await;
                        continue;
                    }
                },
            };
            match frame.header::<Reply>() {
                Ok(reply) if !reply.is_final() => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    };
    tokio::select! {
        biased;
        ended = replies => ended,
        _ = process.over() => false,
    }
}
