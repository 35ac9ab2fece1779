//! Messages that a stored session has open from before and that no subscription of it brings any more: each is read by the place of its record,
//! and sent once more under its packet id. What has begun to be delivered is completed, whatever its client unsubscribes [MQTT-3.10.4-3].
//!
//! They are read when it is their turn, one at a time, so that any number of them takes the memory of one. What is new waits behind them, or it
//! would overtake them; that is bounded, since what Kafka does not give in time is left for the next connection, with its packet id.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::error::TryRecvError;

use super::{
    chunk::Chunk,
    desk::Desk,
    hub::Hub,
    once::id,
    resuming::{Found, find_one},
    retained::Asked,
};
use crate::{
    ownership::{Place, Source},
    session::{Session, Taken},
};

/// How long Kafka has to give one.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// See the head of the file.
#[derive(Debug, Default)]
pub struct Leftover {
    open: VecDeque<Left>,
    first: First,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// As it was sent with.
    pub packet: u16,
    /// Of its record.
    pub place: Place,
    /// Should its topic not be there now and come back, it is sent as a new message.
    pub is_owed: bool,
}

/// How far the first of them is.
#[derive(Debug, Default)]
enum First {
    #[default]
    Unread,
    Asked(Asked<Found>),
    Read(Found),
}

impl Leftover {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// One more, behind the others.
    pub fn add(&mut self, left: Left) {
        self.open.push_back(left);
    }

    /// The first, once it is read. `wake` is called when it may be.
    fn turn(&mut self, hub: &Arc<Hub>, wake: impl FnOnce() + Send + 'static) -> Option<(Left, Found)> {
        let left = *self.open.front()?;
        if let First::Unread = self.first {
            let (hub, until) = (hub.clone(), tokio::time::Instant::now() + READ_WITHIN);
            self.first = First::Asked(Asked::ask(async move { find_one(&hub, left.place, until).await }, wake));
        }
        if let First::Asked(asked) = &mut self.first {
            match asked.answer() {
                Ok(found) => self.first = First::Read(found),
                Err(TryRecvError::Empty) => return None,
                // It ended by a panic.
                Err(TryRecvError::Closed) => self.first = First::Read(Found::Unseen),
            }
        }
        match &self.first {
            First::Read(found) => Some((left, found.clone())),
            First::Unread | First::Asked(_) => None,
        }
    }

    /// The first is in the client's hands, or given up.
    fn done(&mut self) {
        self.open.pop_front();
        self.first = First::Unread;
    }

    /// All of a partition are left for the next connection.
    fn leave(&mut self, source: Source) {
        self.open.retain(|left| left.place.source != source);
        self.first = First::Unread;
    }

    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<u16> {
        self.open.drain(..).map(|left| left.packet).collect()
    }
}

impl Desk {
    /// Sends them, as far as the client and its socket let it. False: there are more, and what is new waits behind them.
    pub(super) fn hand_out_leftover(&mut self, session: &mut Session, now: Instant, room: usize) -> bool {
        loop {
            let waiting = self.tenancy.as_deref_mut().filter(|tenancy| !tenancy.leftover.is_empty());
            let Some(tenancy) = waiting else { return true };
            if !session.is_live() || session.outbox().len() >= room {
                return false;
            }
            let mailbox = self.mailbox.clone();
            let Some((left, found)) = tenancy.leftover.turn(&self.shared.hub, move || mailbox.ring()) else {
                return false;
            };
            match found {
                Found::Message(chunk) => {
                    if !self.complete(left.packet, &chunk, session, now) {
                        return false;
                    }
                }
                Found::Gone => {
                    tenancy.gives_up(left);
                    self.gone([left.packet], session, now);
                }
                Found::Unseen => {
                    tenancy.leftover.leave(left.place.source);
                    continue;
                }
            }
            if let Some(tenancy) = self.tenancy.as_deref_mut() {
                tenancy.leftover.done();
            }
        }
    }

    /// Sends the message of a chunk, unless its client has lost the right to it. False: it must be tried again.
    fn complete(&mut self, packet: u16, chunk: &Chunk, session: &mut Session, now: Instant) -> bool {
        let (Some(packet_id), Some(message)) = (id(packet), chunk.messages.first()) else {
            return true;
        };
        // As it was sent, however its record is written.
        let qos = session.open_again(packet_id).unwrap_or(message.qos);
        if !self.may_keep(session.client_id(), chunk.topic(message), qos, now) {
            self.gone([packet], session, now);
            return true;
        }
        let taken = self.send_again(chunk, message, &[], packet_id, session, now);
        !matches!(taken, Taken::WindowFull | Taken::OutboxFull)
    }
}
