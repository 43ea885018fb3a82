//! Looking again for room, when a few calls hold up the others and turn out not to be short.

use std::{sync::Arc, thread, time::Duration};

use rhd_protocol::{
    env::EnvSpec,
    machine::width::{SHORT_MS, Width},
};

use super::{Env, Slot};
use crate::workers::lock;

/// Short calls of one Python process that run at once: more would only wait for its interpreter.
const FEW: usize = 4;
/// Those of a program, for each core.
const A_CORE: usize = 2;

/// How many short calls a process of this env runs at once.
pub(super) fn width(spec: &EnvSpec) -> Width {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    Width::new(if spec.binary.is_some() { FEW.max(A_CORE * cores()) } else { FEW })
}

impl Env {
    /// Sees to it that calls that wait only for room are looked at again when there may be some.
    pub(super) fn look_again(self: &Arc<Self>, index: usize, slot: &mut Slot) {
        if std::mem::replace(&mut slot.looking, true) {
            return;
        }
        let env = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(SHORT_MS)).await;
            if let Some(slot) = lock(&env.state).slots.get_mut(index) {
                slot.looking = false;
            }
            env.settle();
        });
    }
}
