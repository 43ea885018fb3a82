//! What a call holds while it runs: a lane, or a place on the event loop. Dropping gives it back.

use std::sync::Arc;

use super::{env::Env, process::Process};
use crate::framed::Conn;

/// Either.
#[derive(Debug)]
pub(super) enum Grant {
    Lane(Lease),
    Loop(Place),
}

impl Grant {
    /// The process that it belongs to.
    pub(super) fn process(&self) -> &Arc<Process> {
        match self {
            Self::Lane(lease) => &lease.process,
            Self::Loop(place) => &place.process,
        }
    }

    /// The call ended in order.
    pub(super) fn done(&mut self) {
        match self {
            Self::Lane(lease) => lease.done(),
            Self::Loop(place) => place.succeeded = true,
        }
    }
}

/// A lane of a process.
#[derive(Debug)]
pub(super) struct Lease {
    env: Arc<Env>,
    process: Arc<Process>,
    /// Only `None` while it is dropped.
    conn: Option<Conn>,
    /// Of the call, among those of its process.
    id: u64,
    clean: bool,
    succeeded: bool,
}

impl Lease {
    pub(super) fn new(env: Arc<Env>, process: Arc<Process>, conn: Conn, id: u64) -> Self {
        Self { env, process, conn: Some(conn), id, clean: true, succeeded: false }
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
        self.env.return_lane(&self.process, conn, self.id, self.succeeded);
    }
}

/// A place on the event loop of a process.
#[derive(Debug)]
pub(super) struct Place {
    env: Arc<Env>,
    process: Arc<Process>,
    succeeded: bool,
}

impl Place {
    pub(super) fn new(env: Arc<Env>, process: Arc<Process>) -> Self {
        Self { env, process, succeeded: false }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.env.return_place(&self.process, self.succeeded);
    }
}
