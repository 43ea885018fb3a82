//! What happens to a call next.

use bytes::Bytes;
use rhd_protocol::{
    call::Reply,
    worker::{Control, ITEM_CREDIT},
};
use tokio::{sync::mpsc, time::timeout};

use super::{
    super::{
        lease::{Grant, Lease},
        load::{LAST_REPLIES, Loaded, talk},
    },
    Active, Phase, Then, until,
};
use crate::framed::{Frame, FramedError};

/// What happens to a call.
pub(super) enum Event {
    Frame(Frame),
    /// The load ended.
    Loaded(Loaded),
    /// Something else changed; look again.
    Again,
    Broken(Option<FramedError>),
    Expired,
}

impl Active {
    /// Writes what can be written without waiting; [`Active::event`] does the rest.
    pub(super) fn write_at_once(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Moving) {
            Phase::Run(Grant::Lane(mut lease)) => {
                if let Some(conn) = lease.conn() {
                    // A break shows again, with its cause, at the first read.
                    let _ = conn.try_flush();
                }
                self.phase = Phase::Run(Grant::Lane(lease));
            }
            Phase::Send { frame, place } => {
                let sent = place.orders().map(|orders| orders.try_send(frame.clone()));
                self.phase = match sent {
                    Some(Ok(())) => Phase::Run(Grant::Place(place)),
                    _ => Phase::Send { frame, place },
                };
            }
            phase => self.phase = phase,
        }
    }

    /// What happens next. May be abandoned at every await.
    pub(super) async fn event(&mut self) -> Event {
        if self.owed >= ITEM_CREDIT / 2 && matches!(self.phase, Phase::Run(Grant::Place(_))) {
            let credit = Control::Credit { id: self.id, items: self.owed };
            if let Ok(frame) = Frame::new(&credit, Bytes::new())
                && let Some(end) = self.order(self.process.control(), frame).await
            {
                return end;
            }
            self.owed = 0;
        }
        if let Some(frame) = self.mailbox.pop(self.id) {
            return Event::Frame(frame);
        }
        let max_body = self.env.shared.config.max_body;
        match &mut self.phase {
            Phase::Load { loading, .. } => tokio::select! {
                biased;
                () = self.mailbox.arrived() => Event::Again,
                loaded = loading => match loaded {
                    Ok(loaded) => Event::Loaded(loaded),
                    Err(_) => Event::Broken(None),
                },
                () = until(self.deadline) => Event::Expired,
            },
            Phase::Send { frame, place } => {
                let (frame, orders) = (frame.clone(), place.orders().cloned());
                if let Some(end) = self.order(orders.as_ref(), frame).await {
                    return end;
                }
                if let Phase::Send { place, .. } = std::mem::replace(&mut self.phase, Phase::Moving)
                {
                    self.phase = Phase::Run(Grant::Place(place));
                }
                Event::Again
            }
            Phase::Run(Grant::Lane(lease)) => tokio::select! {
                biased;
                frame = talk(lease, max_body) => match frame {
                    Ok(frame) => Event::Frame(frame),
                    Err(why) => Event::Broken(why),
                },
                () = self.mailbox.arrived(), if self.logs => Event::Again,
                () = until(self.deadline) => Event::Expired,
            },
            Phase::Run(Grant::Place(_)) => tokio::select! {
                biased;
                () = self.mailbox.arrived() => Event::Again,
                _ = self.process.over() => {
                    // It may have answered before it died.
                    match timeout(LAST_REPLIES, self.mailbox.arrived()).await {
                        Ok(()) => Event::Again,
                        Err(_) => Event::Broken(None),
                    }
                }
                () = until(self.deadline) => Event::Expired,
            },
            Phase::Moving => Event::Broken(None),
        }
    }

    /// Writes to a lane that others use too; an event when that can't be done.
    async fn order(&self, to: Option<&mpsc::Sender<Frame>>, frame: Frame) -> Option<Event> {
        let Some(orders) = to else { return Some(Event::Broken(None)) };
        tokio::select! {
            place = orders.reserve() => match place {
                Ok(place) => {
                    place.send(frame);
                    None
                }
                Err(_) => Some(Event::Broken(None)),
            },
            _ = self.process.over() => Some(Event::Broken(None)),
            () = until(self.deadline) => Some(Event::Expired),
        }
    }

    /// A load ended: goes on with what follows it. False when its reply is the call's own.
    pub(super) fn loaded(&mut self, mut lease: Lease, reply: &Frame) -> bool {
        lease.loaded();
        let done = matches!(reply.header(), Ok(Reply::Done { .. }));
        match std::mem::replace(&mut self.phase, Phase::Moving) {
            Phase::Load { then: Then::Lane(frame), .. } if done => {
                lease.begun();
                if let Some(conn) = lease.conn() {
                    conn.queue(frame);
                }
                self.phase = Phase::Run(Grant::Lane(lease));
                true
            }
            Phase::Load { then: Then::Place(frame, place), .. } if done => {
                self.phase = Phase::Send { frame, place };
                true
            }
            _ => false,
        }
    }
}
