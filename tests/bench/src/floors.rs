//! The least that a call could cost: bytes there and back, with nothing of rhd in between.

use crate::{
    Outcome,
    driver::{Measured, Request},
    quic,
    tally::Found,
    unix,
};

/// Echoes in other processes.
pub(crate) struct Floors {
    quic: quic::Peer,
    unix: unix::Peer,
}

impl Floors {
    /// Starts the other ends, each in a process of its own.
    pub(crate) async fn start() -> Outcome<Self> {
        Ok(Self { quic: quic::Peer::start().await?, unix: unix::Peer::start().await? })
    }
}

impl Measured for Floors {
    async fn measure(&mut self, request: Request) -> Outcome<Found> {
        match request.case.as_str() {
            "quic" => self.quic.measure(request.width, request.span()).await,
            "unix" => self.unix.measure(request.width, request.span()),
            other => Err(format!("no case {other}").into()),
        }
    }
}
