//! Calls whose parts are on their way to this host.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rhd_protocol::{
    call::{Call, KEPT_PART},
    id::{CallId, NodeId},
};
use tokio::{sync::watch, time::timeout};

/// How long a call waits for parts that another one brings: with what it then waits for room, less
/// than its caller waits to hear what is lacking.
const ARRIVING: Duration = Duration::from_secs(20);

/// Calls whose parts are on their way.
#[derive(Debug, Clone, Default)]
pub(in crate::calls) struct Arriving {
    calls: Calls,
}

type Calls = Arc<Mutex<HashMap<(NodeId, CallId), watch::Receiver<()>>>>;

/// A call whose parts are on their way until this is dropped.
#[derive(Debug)]
pub(in crate::calls) struct Arrival {
    calls: Calls,
    call: (NodeId, CallId),
    _over: watch::Sender<()>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        lock(&self.calls).remove(&self.call);
    }
}

fn lock<T>(calls: &Mutex<T>) -> MutexGuard<'_, T> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arriving {
    /// Notes a call, if it has parts that others may name.
    pub(in crate::calls) fn begin(&self, peer: NodeId, call: &Call) -> Option<Arrival> {
        call.parts.iter().any(|len| *len >= KEPT_PART).then(|| {
            let (over, arrives) = watch::channel(());
            let call = (peer, call.id);
            lock(&self.calls).insert(call, arrives);
            Arrival { calls: self.calls.clone(), call, _over: over }
        })
    }

    /// Waits for those that bring what a call names.
    pub(in crate::calls) async fn wait(&self, peer: NodeId, call: &Call) {
        let named: Vec<_> = {
            let calls = lock(&self.calls);
            let named = call.again.iter().filter_map(|again| calls.get(&(peer, again.call)));
            named.cloned().collect()
        };
        let all = async {
            for mut one in named {
                // It says nothing but that it is over.
                let _ = one.changed().await;
            }
        };
        let _ = timeout(ARRIVING, all).await;
    }
}
