//! Cancellation: which call the running code belongs to, and whether anybody still wants it.

use std::{
    cell::RefCell,
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering, fence},
    },
    task::{Context, Poll},
};

use rhd_protocol::id::CallId;
use tokio::sync::Notify;

/// Cancellations that overtook their calls, at most.
const EARLY: usize = 256;

thread_local! {
    static CURRENT: RefCell<Option<Cancellation>> = const { RefCell::new(None) };
}

/// Whether a call was cancelled; to be handed to threads that work for it.
#[derive(Debug, Clone)]
pub struct Cancellation(Arc<Flag>);

#[derive(Debug)]
struct Flag {
    set: AtomicBool,
    changed: Notify,
}

impl Cancellation {
    pub(super) fn new() -> Self {
        Self(Arc::new(Flag { set: AtomicBool::new(false), changed: Notify::new() }))
    }

    /// Whether nobody waits for the call any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.set.load(Ordering::Relaxed)
    }

    /// Waits until nobody waits for the call any more.
    pub async fn cancelled(&self) {
        let changed = self.0.changed.notified();
        if !self.is_cancelled() {
            changed.await;
        }
    }

    fn cancel(&self) {
        self.0.set.store(true, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }

    /// Itself if only the caller has it, made new; else another one.
    pub(super) fn reuse(self) -> Self {
        let mut flag = self.0;
        match Arc::get_mut(&mut flag) {
            Some(alone) => {
                *alone.set.get_mut() = false;
                Self(flag)
            }
            None => Self::new(),
        }
    }

    /// Runs `work` as part of the call.
    pub(super) fn scope<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = CURRENT.replace(Some(self.clone()));
        let _restore = Restore(before);
        work()
    }
}

/// Puts back what was current, also after a panic.
struct Restore(Option<Cancellation>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// A future that is polled as part of a call.
pub(super) struct Scoped<F> {
    pub(super) call: Cancellation,
    pub(super) future: Pin<Box<F>>,
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { call, future } = &mut *self;
        call.scope(|| future.as_mut().poll(cx))
    }
}

/// Whether the call that runs on this thread was cancelled; false outside of calls.
///
/// A plain function that takes long should look at it now and then, and return when it is true: its
/// caller is gone. One that does not return within the daemon's grace is ended with its process.
pub fn cancelled() -> bool {
    CURRENT.with_borrow(|call| call.as_ref().is_some_and(Cancellation::is_cancelled))
}

/// The cancellation of the call that runs on this thread; `None` outside of calls.
pub fn cancellation() -> Option<Cancellation> {
    CURRENT.with_borrow(Clone::clone)
}

/// The one call of a lane. Taking it and giving it back is one short lock each, of no other lane.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Option<(CallId, Cancellation)>>);

/// Every call under way, and cancellations whose call has yet to come.
#[derive(Debug, Default)]
pub(super) struct Calls {
    slots: Mutex<Vec<Arc<Slot>>>,
    /// Calls that share the control lane.
    shared: Mutex<HashMap<CallId, Cancellation>>,
    early: Mutex<VecDeque<CallId>>,
    waiting: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Adds a place that calls come to.
    pub(super) fn slot(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot::default());
        lock(&self.slots).push(slot.clone());
        slot
    }

    /// Takes a place away.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        lock(&self.slots).retain(|other| !Arc::ptr_eq(other, slot));
    }

    /// Notes that a call begins; one that was cancelled before it came begins cancelled.
    pub(super) fn begin(&self, slot: &Slot, id: CallId, call: &Cancellation) {
        *lock(&slot.0) = Some((id, call.clone()));
        self.meet(id, call);
    }

    /// The same, of a call that has no place of its own.
    pub(super) fn begin_shared(&self, id: CallId, call: &Cancellation) {
        lock(&self.shared).insert(id, call.clone());
        self.meet(id, call);
    }

    /// Notes that it ended.
    pub(super) fn end_shared(&self, id: CallId) {
        lock(&self.shared).remove(&id);
    }

    /// Cancels a call that is known now, if it was cancelled before. Each side writes, then reads:
    /// one of them sees the other.
    fn meet(&self, id: CallId, call: &Cancellation) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let mut early = lock(&self.early);
            if let Some(at) = early.iter().position(|other| *other == id) {
                early.remove(at);
                self.waiting.store(early.len(), Ordering::SeqCst);
                call.cancel();
            }
        }
    }

    /// Notes that the call of a place ended.
    pub(super) fn end(slot: &Slot) {
        *lock(&slot.0) = None;
    }

    /// Cancels a call, wherever it is, or as soon as it comes.
    pub(super) fn cancel(&self, id: CallId) {
        {
            let mut early = lock(&self.early);
            if early.len() == EARLY {
                early.pop_front();
            }
            early.push_back(id);
            self.waiting.store(early.len(), Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        let slots = lock(&self.slots).clone();
        let shared = lock(&self.shared).get(&id).cloned();
        let mut slots = slots.iter();
        let found = shared.or_else(|| {
            slots.find_map(|slot| {
                let running = lock(&slot.0);
                running.as_ref().filter(|(other, _)| *other == id).map(|(_, call)| call.clone())
            })
        });
        if let Some(call) = found {
            let mut early = lock(&self.early);
            early.retain(|other| *other != id);
            self.waiting.store(early.len(), Ordering::SeqCst);
            call.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CallId {
        CallId::from_bytes([n; 16])
    }

    #[test]
    fn a_cancellation_meets_its_call_whichever_comes_first() {
        let calls = Calls::default();
        let (slot, other) = (calls.slot(), calls.slot());
        let (first, second) = (Cancellation::new(), Cancellation::new());
        calls.begin(&slot, id(1), &first);
        calls.cancel(id(2));
        calls.begin(&other, id(2), &second);
        assert!(!first.is_cancelled() && second.is_cancelled());
        calls.cancel(id(1));
        assert!(first.is_cancelled());
        assert!(lock(&calls.early).is_empty());

        Calls::end(&slot);
        let third = Cancellation::new();
        calls.begin(&slot, id(3), &third);
        calls.cancel(id(1));
        assert!(!third.is_cancelled(), "a call that ended is not confused with the next");
        (0..=EARLY).for_each(|n| calls.cancel(CallId::from_bytes([(n % 251) as u8; 16])));
        assert!(lock(&calls.early).len() <= EARLY);
    }

    #[test]
    fn only_the_code_of_a_call_sees_it() {
        assert!(!cancelled());
        let call = Cancellation::new();
        call.cancel();
        assert!(call.scope(cancelled));
        assert!(!cancelled());
        let shared = call.clone();
        assert!(!call.reuse().is_cancelled());
        assert!(shared.is_cancelled(), "a thread of the call before still sees it");
    }
}
