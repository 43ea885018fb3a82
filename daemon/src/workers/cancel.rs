//! Calls that nobody waits for any more: asked to stop, given time, then ended with their process.

use std::time::Duration;

use bytes::Bytes;
use rhd_protocol::{
    call::{Call, Codec, Reply, Verb},
    id::CallId,
    worker::Control,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{
    lease::Grant,
    load::talk,
    process::Process,
    stream::{Active, Phase},
};
use crate::framed::Frame;

/// Pieces of late output that wait for whoever keeps them.
const LATE: usize = 64;
/// How long a killed process may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// What to do about code that blocks a whole process.
const HUNG: &str = "the call was not repeated; give code that stays in native code and keeps the interpreter \
                    locked an env of its own: env=rh.env(name=…)";

/// The end of a call whose output is kept: what it still writes, then its final reply.
#[derive(Debug)]
pub(super) struct Ending {
    late: mpsc::Receiver<Frame>,
    /// Whoever waits for the final reply waits no longer.
    until: Instant,
    last: Frame,
}

impl Ending {
    /// Cancels a call in the background; `last` is its final reply.
    pub(super) fn of(active: Active, last: Frame) -> Self {
        let (tx, late) = mpsc::channel(LATE);
        let until = Instant::now() + active.env.shared.config.cancel_grace() + KILL_WAIT;
        start(active, Some(tx));
        Self { late, until, last }
    }

    /// The next piece of output; `None` once there will be no more. May be abandoned.
    pub(super) async fn output(&mut self) -> Option<Frame> {
        timeout_at(self.until, self.late.recv()).await.ok().flatten()
    }

    /// The final reply.
    pub(super) fn last(self) -> Frame {
        self.last
    }
}

/// Cancels a call in the background. What the worker was never told of just ends.
pub(super) fn wind_down(active: Active) {
    start(active, None);
}

fn start(active: Active, late: Option<mpsc::Sender<Frame>>) {
    if matches!(active.phase, Phase::Send { .. } | Phase::Moving) {
        return;
    }
    // Without a runtime nobody could wait for its end; the lane closes, which the worker sees.
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let mut active = active;
            wait_for_end(&mut active, late.as_ref()).await;
            if late.is_some() {
                active.process.output.pump();
                tell_waiting(&active, late.as_ref()).await;
            }
        });
    }
}

/// Passes output on to whoever keeps it.
async fn tell(late: Option<&mpsc::Sender<Frame>>, frame: Frame) {
    if let Some(late) = late {
        // Nobody may want it any more.
        let _ = late.send(frame).await;
    }
}

async fn tell_waiting(active: &Active, late: Option<&mpsc::Sender<Frame>>) {
    while let Some(frame) = active.mailbox.pop(active.id) {
        if matches!(frame.header(), Ok(Reply::Log { .. })) {
            tell(late, frame).await;
        }
    }
}

async fn wait_for_end(active: &mut Active, late: Option<&mpsc::Sender<Frame>>) {
    let process = active.process.clone();
    process.calls.cancelled(&active.id);
    if let Phase::Run(Grant::Lane(lease)) = &mut active.phase
        && lease.conn().is_none_or(|conn| !conn.is_flushed())
    {
        // Cut off in the middle of its arguments: it never ran, and the lane ends with it.
        return;
    }
    let config = active.env.shared.config.clone();
    let mut grace = config.cancel_grace();
    if !matches!(timeout(grace, ask(&process, active.id)).await, Ok(true)) {
        tracing::warn!(env = %process.env, call = %active.id, "the worker takes no orders");
    }
    let mut spared: u64 = 0;
    while timeout(grace, last_reply(active, late, config.max_body)).await.is_err() {
        if process.calls.wanted() == 0 {
            let text = format!("a cancelled call did not stop within {} s", grace.as_secs_f32());
            process.kill(&text);
            return gone(active, &text).await;
        }
        grace = config.shared_grace();
        tokio::select! {
            () = last_reply(active, late, config.max_body) => return,
            answer = timeout(grace, process.pings.ping(process.control())) => if answer.is_err() {
                let text = format!(
                    "it hung in native code: a call that was cancelled did not stop, and the \
                     process answered nothing for {} s",
                    grace.as_secs_f32()
                );
                process.kill_with_hint(&text, HUNG);
                return gone(active, &text).await;
            },
        }
        spared += 1;
        // At growing intervals: it may go on like this for as long as the calls beside it.
        if spared.is_power_of_two() {
            tracing::warn!(
                env = %process.env,
                call = %active.id,
                others = process.calls.wanted(),
                "a cancelled call does not stop; its worker is spared for the calls beside it"
            );
        }
    }
}

/// Waits for the end of a process that was killed.
async fn gone(active: &Active, why: &str) {
    let process = &active.process;
    tracing::warn!(env = %process.env, call = %active.id, "ending a worker: {why}");
    let _ = timeout(KILL_WAIT, process.over()).await;
}

async fn ask(process: &Process, id: CallId) -> bool {
    let Ok(frame) = Frame::new(&Control::Cancel { id }, Bytes::new()) else { return false };
    match process.control() {
        Some(control) => control.send(frame).await.is_ok(),
        None => false,
    }
}

/// Reads to the end of the call, or of its process. What it constructed nobody will ever know of,
/// and would only hold its name: that is dropped on the same lane.
async fn last_reply(active: &mut Active, late: Option<&mpsc::Sender<Frame>>, max_body: usize) {
    let process = active.process.clone();
    loop {
        let frame = match &mut active.phase {
            Phase::Load { loading, .. } => {
                if let Ok(mut loaded) = loading.await
                    && loaded.end.is_ok()
                {
                    loaded.lease.loaded();
                }
                active.phase = Phase::Moving;
                return;
            }
            Phase::Run(Grant::Lane(lease)) => tokio::select! {
                biased;
                frame = talk(lease, max_body) => match frame {
                    Ok(frame) => frame,
                    Err(_) => return,
                },
                () = active.mailbox.arrived(), if late.is_some() => {
                    tell_waiting(active, late).await;
                    continue;
                }
            },
            Phase::Run(Grant::Place(_)) => match active.mailbox.pop(active.id) {
                Some(frame) => frame,
                None => {
                    tokio::select! {
                        () = active.mailbox.arrived() => continue,
                        _ = process.over() => return,
                    }
                }
            },
            Phase::Send { .. } | Phase::Moving => return,
        };
        match frame.header::<Reply>() {
            Ok(Reply::Log { .. }) => tell(late, frame).await,
            Ok(reply) if !reply.is_final() => {}
            Ok(reply) => {
                let made = active.made.take().filter(|_| matches!(reply, Reply::Done { .. }));
                let Phase::Run(grant) = &mut active.phase else { return };
                if let (Some(made), Grant::Lane(lease)) = (made, &mut *grant)
                    && let Some(conn) = lease.conn()
                    && let Ok(frame) = Frame::new(&drop_call(made), Bytes::new())
                {
                    conn.queue(frame);
                    continue;
                }
                grant.done();
                return;
            }
            Err(_) => return,
        }
    }
}

fn drop_call(instance: String) -> Call {
    Call {
        verb: Verb::Drop,
        codec: Codec::Msgpack,
        ..Call::new(CallId::from_bytes(rand::random()), instance)
    }
}
