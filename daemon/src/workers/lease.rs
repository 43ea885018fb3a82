//! What a call holds while it runs: a lane, or a place on one that others use too. Dropping gives it
//! back.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{env::Env, process::Process};
use crate::framed::{Conn, Frame};

/// Either.
#[derive(Debug)]
pub(super) enum Grant {
    Lane(Lease),
    Place(Place),
}

impl Grant {
    /// The process that it belongs to.
    pub(super) fn process(&self) -> &Arc<Process> {
        match self {
            Self::Lane(lease) => &lease.process,
            Self::Place(place) => &place.process,
        }
    }

    /// The call ended in order.
    pub(super) fn done(&mut self) {
        match self {
            Self::Lane(lease) => lease.done(),
            Self::Place(place) => place.succeeded = true,
        }
    }
}

/// A call on a lane of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    /// Among those of its process.
    pub(super) id: u64,
    /// What it calls, if it might have shared a lane.
    pub(super) function: Option<u64>,
}

/// A lane of a process.
#[derive(Debug)]
pub(super) struct Lease {
    env: Arc<Env>,
    process: Arc<Process>,
    /// Only `None` while it is dropped.
    conn: Option<Conn>,
    call: Running,
    clean: bool,
    succeeded: bool,
}

impl Lease {
    pub(super) fn new(env: Arc<Env>, process: Arc<Process>, conn: Conn, call: Running) -> Self {
        Self { env, process, conn: Some(conn), call, clean: true, succeeded: false }
    }

    /// Says what runs on it.
    pub(super) fn runs(&mut self, function: Option<u64>) {
        self.call.function = function;
    }

    /// The process at the other end.
    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// A call has begun: until it is [done](Lease::done), the lane is of no use to others.
    pub(super) fn begun(&mut self) {
        self.clean = false;
    }

    /// The call ended in order.
    pub(super) fn done(&mut self) {
        (self.clean, self.succeeded) = (true, true);
    }

    /// A load ended in order. It says nothing about the calls that follow, so it is no success
    /// that would reset the supervision of a process that dies in each of them.
    pub(super) fn loaded(&mut self) {
        self.clean = true;
    }

    /// The connection, for the call that holds the lease.
    pub(super) fn conn(&mut self) -> Option<&mut Conn> {
        self.conn.as_mut()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let conn = self.conn.take().filter(|conn| self.clean && conn.is_idle());
        self.env.return_lane(&self.process, conn, self.call, self.succeeded);
    }
}

/// A place among the calls that a lane of a process carries side by side.
#[derive(Debug)]
pub(super) struct Place {
    env: Arc<Env>,
    process: Arc<Process>,
    on: On,
    succeeded: bool,
}

/// Where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// On the event loop, by the control lane.
    Loop,
    /// On the shared lane; the id is of the call, among those there.
    Shared(u64),
}

impl Place {
    pub(super) fn new(env: Arc<Env>, process: Arc<Process>, on: On) -> Self {
        Self { env, process, on, succeeded: false }
    }

    /// The process that it belongs to.
    pub(super) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// What takes the frame of its call.
    pub(super) fn orders(&self) -> Option<&mpsc::Sender<Frame>> {
        match self.on {
            On::Loop => self.process.control(),
            On::Shared(_) => self.process.shared(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.env.return_place(&self.process, self.on, self.succeeded);
    }
}
