//! Handing lanes, and places on those that calls share, to the calls that want them, and taking them
//! back.

use std::{sync::Arc, time::Duration};

use rhd_protocol::{
    error::ErrorInfo,
    machine::queue::{Caller, Need, Offer, Ticket},
    worker::Control,
};
use tokio::sync::oneshot;

use super::{
    Env, Granted, Slot, State, Waiter,
    share::{Sharing, sharing_process},
};
use crate::{
    framed::{Conn, Frame},
    workers::{
        lease::{Grant, Lease, On, Place, Running},
        lock,
        process::Process,
    },
};

/// How long lanes that were asked for may take to come.
const LANES_WAIT: Duration = Duration::from_secs(10);

/// What a call wants of its env.
#[derive(Debug, Clone, Copy)]
pub(in crate::workers) struct Wish<'a> {
    /// For whom.
    pub(in crate::workers) caller: Caller<'a>,
    pub(in crate::workers) need: Need,
    /// What it calls, if it may share a lane.
    pub(in crate::workers) function: Option<u64>,
}

impl Env {
    /// Takes a lane, or a place on one that calls share, or waits in the queue for one.
    pub(in crate::workers) async fn acquire(
        self: &Arc<Self>,
        wish: Wish<'_>,
        incarnation: Option<u64>,
    ) -> Result<Grant, ErrorInfo> {
        let (granted, grant) = oneshot::channel();
        let ticket = {
            let mut state = lock(&self.state);
            if let Some(closed) = &state.closed {
                return Err(closed.clone());
            }
            if let Some(incarnation) = incarnation
                && !state.slots.first().is_some_and(|slot| {
                    slot.process.as_ref().is_some_and(|p| p.incarnation == incarnation)
                })
            {
                return Err(self.lost_instance());
            }
            let now = self.shared.now();
            if let Some(grant) = self.free(&mut state, wish, |slot| slot.width.room(now) > 0) {
                return Ok(grant);
            }
            let brief = |f| state.slots.iter().any(|slot| slot.sharing.is_brief(f));
            let need = if wish.function.is_some_and(brief) { wish.need.brief() } else { wish.need };
            let waiter = Waiter { granted, function: wish.function };
            match state.queue.push(wish.caller, need, waiter) {
                Ok(pushed) => {
                    if let Some(waiter) = pushed.displaced {
                        let _ = waiter.granted.send(Err(self.full(state.queue.len())));
                    }
                    pushed.ticket
                }
                // Nobody is refused a lane that is idle.
                Err(full) => {
                    let alone = Wish { function: None, ..wish };
                    let grant = self.free(&mut state, alone, |_| true);
                    return grant.ok_or_else(|| self.full(full.waiting));
                }
            }
        };
        let waiting = Waiting { env: self, ticket };
        self.demand();
        let grant = grant.await.unwrap_or_else(|_| Err(self.gone_error()))?;
        drop(waiting);
        match incarnation {
            Some(incarnation) if grant.process().incarnation != incarnation => {
                Err(self.lost_instance())
            }
            _ => Ok(grant),
        }
    }

    /// What is free at once. Nobody waits for it: whatever becomes free goes to the queue first.
    fn free(
        self: &Arc<Self>,
        state: &mut State,
        wish: Wish<'_>,
        room: impl Fn(&Slot) -> bool,
    ) -> Option<Grant> {
        if wish.need == Need::Loop {
            let slot = state.slots.first_mut().filter(|slot| slot.ready)?;
            return self.place_on_loop(slot);
        }
        // Replicas first for what may run there: the first process is the only home of the rest.
        let replicas = if wish.need == Need::AnyLane { state.slots.len() } else { 1 };
        let slots = &mut state.slots[..replicas];
        if let Some(grant) = self.lane_of(slots, wish, Slot::is_quiet) {
            return Some(grant);
        }
        match self.share_of(slots, wish) {
            Sharing::Granted(grant) => Some(grant),
            Sharing::Full => None,
            Sharing::No => self.lane_of(slots, wish, room),
        }
    }

    fn lane_of(
        self: &Arc<Self>,
        slots: &mut [Slot],
        wish: Wish<'_>,
        fits: impl Fn(&Slot) -> bool,
    ) -> Option<Grant> {
        let mut slots = slots.iter_mut().rev().filter(|slot| slot.ready && fits(slot));
        slots.find_map(|slot| self.lane(slot, wish.function)).map(Grant::Lane)
    }

    /// An idle lane. That its process is over shows on the process before it shows on the lane: a
    /// runtime that is busy hears of the lane's end only later.
    fn lane(self: &Arc<Self>, slot: &mut Slot, function: Option<u64>) -> Option<Lease> {
        let process = slot.process.clone().filter(|process| process.takes_calls())?;
        while let Some(conn) = slot.idle.pop() {
            // An idle lane is silent: one that has an end or bytes to read is of no use.
            if conn.is_silent() {
                let call = Running { id: slot.width.begin(self.shared.now()), function };
                return Some(Lease::new(self.clone(), process, conn, call));
            }
            slot.lanes = slot.lanes.saturating_sub(1);
        }
        None
    }

    fn place_on_loop(self: &Arc<Self>, slot: &mut Slot) -> Option<Grant> {
        let process = slot.process.clone().filter(|process| process.takes_calls())?;
        if slot.coroutines >= self.shared.config.coroutines {
            return None;
        }
        slot.coroutines += 1;
        Some(Grant::Place(Place::new(self.clone(), process, On::Loop)))
    }

    /// A worker opened a lane.
    pub(in crate::workers) fn add_lane(self: &Arc<Self>, process: &Arc<Process>, conn: Conn) {
        {
            let mut state = lock(&self.state);
            let cap = self.shared.config.lanes;
            let Some((_, slot)) = state.slot_of(process) else { return };
            if slot.lanes >= cap {
                tracing::debug!(env = %self.key, pid = process.pid, "a worker opens more than {cap} lanes");
                return;
            }
            slot.lanes += 1;
            slot.asked = slot.asked.saturating_sub(1);
            slot.idle.push(conn);
        }
        self.settle();
    }

    /// A call is done with its lane; without `conn`, the lane is gone.
    pub(in crate::workers) fn return_lane(
        self: &Arc<Self>,
        process: &Process,
        conn: Option<Conn>,
        call: Running,
        succeeded: bool,
    ) {
        self.returned(process, succeeded, |slot| {
            let began = slot.width.end(call.id);
            if let (Some(began), Some(function)) = (began, call.function) {
                slot.sharing.observe(function, self.shared.now().saturating_sub(began));
            }
            match conn {
                Some(conn) => slot.idle.push(conn),
                None => slot.lanes = slot.lanes.saturating_sub(1),
            }
        });
    }

    /// A call is done with its place.
    pub(in crate::workers) fn return_place(
        self: &Arc<Self>,
        process: &Process,
        on: On,
        succeeded: bool,
    ) {
        self.returned(process, succeeded, |slot| match on {
            On::Loop => slot.coroutines = slot.coroutines.saturating_sub(1),
            On::Shared(id) => slot.sharing.end(id),
        });
    }

    fn returned(
        self: &Arc<Self>,
        process: &Process,
        succeeded: bool,
        change: impl FnOnce(&mut Slot),
    ) {
        let waiting = {
            let mut state = lock(&self.state);
            let waiting = !state.queue.is_empty();
            let Some((_, slot)) = state.slot_of(process) else { return };
            change(slot);
            if succeeded {
                slot.supervision.succeeded();
            }
            waiting
        };
        if waiting {
            self.settle();
        }
    }

    /// Hands what is free to the calls that wait, and asks for more lanes if they are too few.
    pub(super) fn settle(self: &Arc<Self>) {
        loop {
            let (waiter, grant) = {
                let mut state = lock(&self.state);
                let Some(matched) = self.matched(&mut state) else {
                    self.ask(&mut state);
                    return;
                };
                matched
            };
            // Outside the lock: a grant that nobody takes comes back through `return_lane`.
            if let Err(Ok(grant)) = waiter.send(Ok(grant)) {
                drop(grant);
            }
        }
    }

    fn matched(self: &Arc<Self>, state: &mut State) -> Option<(Granted, Grant)> {
        let State { slots, queue, .. } = state;
        let now = self.shared.now();
        for (index, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.ready) {
            let offer = State::shared_offer(index);
            if slot.sharing.room() > 0
                && queue.wanting(offer) > 0
                && let Some(process) = sharing_process(slot)
            {
                let waiter = queue.take(offer)?;
                let place =
                    self.place_shared(index, slot, process, waiter.function.unwrap_or_default());
                return Some((waiter.granted, place));
            }
            let offer = State::offer(index, slot);
            if queue.wanting(offer) > 0
                && slot.width.room(now) > 0
                && let Some(mut lease) = self.lane(slot, None)
            {
                let waiter = queue.take(offer)?;
                lease.runs(waiter.function);
                return Some((waiter.granted, Grant::Lane(lease)));
            }
            if index == 0
                && queue.wanting(Offer::Loop) > 0
                && let Some(place) = self.place_on_loop(slot)
            {
                return Some((queue.take(Offer::Loop)?.granted, place));
            }
        }
        None
    }

    fn ask(self: &Arc<Self>, state: &mut State) {
        let cap = self.shared.config.lanes;
        let State { slots, queue, .. } = state;
        for (index, slot) in slots.iter_mut().enumerate().filter(|(_, slot)| slot.ready) {
            let waiting = queue.wanting(State::offer(index, slot));
            let wanted = waiting.min(slot.width.room(self.shared.now())) as u32;
            if (wanted as usize) < waiting {
                self.look_again(index, slot);
            }
            let room = cap.saturating_sub(slot.lanes + slot.asked);
            let count = wanted.saturating_sub(slot.asked).min(room);
            let Some(process) = slot.process.clone().filter(|_| count > 0) else { continue };
            if order(&process, &Control::Lanes { count }) {
                slot.asked += count;
                tokio::spawn(self.clone().expect_lanes(process));
            }
        }
    }

    /// A worker that opens no lanes when asked is of no use.
    async fn expect_lanes(self: Arc<Self>, process: Arc<Process>) {
        tokio::time::sleep(LANES_WAIT).await;
        let (none, short) = {
            let mut state = lock(&self.state);
            let Some((_, slot)) = state.slot_of(&process) else { return };
            let short = slot.asked > 0;
            slot.asked = 0;
            (slot.lanes == 0, short)
        };
        if short && none && !process.is_over() {
            process.kill("it opened no lane for its calls");
        } else if short {
            self.settle();
        }
    }
}

/// Puts an order into the queue of the control lane, if there is room.
pub(super) fn order(process: &Process, order: &Control) -> bool {
    let frame = Frame::new(order, Vec::new()).ok().zip(process.control());
    frame.is_some_and(|(frame, control)| control.try_send(frame).is_ok())
}

/// A call in the queue; leaves it when the caller goes away.
struct Waiting<'a> {
    env: &'a Env,
    ticket: Ticket,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let _gone = lock(&self.env.state).queue.remove(self.ticket);
    }
}
