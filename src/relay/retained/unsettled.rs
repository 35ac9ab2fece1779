//! Retained messages that a stored session has open from before: each is read by the place of its record, and sent once more under its packet id.
//!
//! They are read when it is their turn, one at a time, so that any number of them takes the memory of one.

use std::{collections::VecDeque, sync::Arc};

use super::{Retained, asked::Asked, stream::Message};
use crate::ownership::{Place, Steps};

/// See the head of the file.
#[derive(Debug)]
pub struct Unsettled {
    /// Packet ids, and where the records lie.
    open: VecDeque<(u16, Place)>,
    first: First,
}

/// How far the first of them is.
#[derive(Debug)]
enum First {
    Unread,
    Asked(Asked<Option<Message>>),
    /// `None`: its record is gone.
    Read(Option<Message>),
}

/// What is to be done next.
#[derive(Debug)]
pub enum Turn {
    /// A message is to be sent with this packet id; `None`: it is gone. It stays next until [`Unsettled::done`].
    Message(u16, Option<Message>),
    /// It is being read; the connection is woken.
    Wait,
    /// Nothing more.
    End,
}

impl Unsettled {
    /// What a session has open of the retained topic with this id, in the order of the packet ids; `None` if that is nothing.
    pub fn of(steps: &Steps, topic: [u8; 16]) -> Option<Box<Self>> {
        let outbound = steps.outbound.iter().filter(|(_, outgoing)| !outgoing.released);
        let outbound = outbound.map(|(packet, outgoing)| (*packet, outgoing.place));
        let flight = steps.flight.iter().map(|(packet, place)| (*packet, *place));
        let mut open: Vec<_> = outbound.chain(flight).filter(|(_, place)| place.source.topic == topic).collect();
        open.sort_unstable_by_key(|(packet, _)| *packet);
        (!open.is_empty()).then(|| {
            Box::new(Self {
                open: open.into(),
                first: First::Unread,
            })
        })
    }

    /// The next. `wake` is called when a record has been read.
    pub fn turn(&mut self, retained: &Arc<Retained>, wake: impl FnOnce() + Send + 'static) -> Turn {
        let Some(&(packet, place)) = self.open.front() else {
            return Turn::End;
        };
        if let First::Unread = self.first {
            let retained = retained.clone();
            self.first = First::Asked(Asked::ask(async move { retained.message_at(place).await }, wake));
        }
        if let First::Asked(asked) = &mut self.first {
            match asked.answer() {
                Ok(message) => self.first = First::Read(message),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => return Turn::Wait,
                // It ended by a panic.
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => self.first = First::Read(None),
            }
        }
        match &self.first {
            First::Read(message) => Turn::Message(packet, message.clone()),
            First::Unread | First::Asked(_) => Turn::Wait,
        }
    }

    /// The one whose turn it was is in the client's hands, or given up.
    pub fn done(&mut self) {
        self.open.pop_front();
        self.first = First::Unread;
    }
}
