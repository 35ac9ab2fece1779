//! What a session has from before: messages that are open towards the client, and what was settled.

use std::collections::BTreeMap;

use super::{Progress, Tenancy};
use crate::{
    ownership::{Place, Source, Steps},
    relay::{leftover::Left, once::id, subscribing::StartAt},
    session::{Open, Reached},
};

/// What a record is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It was not looked at yet.
    New,
    /// It was sent before with this packet id, and is to be sent again.
    Again(u16),
    /// It was settled before this connection.
    Settled,
}

impl Tenancy {
    /// A session that goes on; `retained` is the id of the topic of retained messages. What is open towards the client comes back, in the order in
    /// which it was sent.
    pub fn goes_on(&mut self, steps: &Steps, retained: Option<[u8; 16]>) -> Vec<Open> {
        let is_retained = |place: &Place| retained == Some(place.source.topic);
        let known = steps
            .positions
            .iter()
            .map(|(source, next)| (*source, Progress::at(*next, Some(*next))));
        self.sources.extend(known);
        self.former = steps.inbound.keys().copied().collect();
        self.told = steps.flight.keys().copied().collect();
        let flight = steps
            .flight
            .iter()
            .map(|(packet, place)| (*place, *packet, Reached::AtLeastOnce, is_retained(place)));
        let outbound = steps.outbound.iter().map(|(packet, outgoing)| {
            let reached = if outgoing.released {
                Reached::Released
            } else {
                Reached::ExactlyOnce
            };
            let apart = outgoing.share.is_some() || is_retained(&outgoing.place);
            (outgoing.place, *packet, reached, apart)
        });
        let mut open: Vec<_> = flight.chain(outbound).collect();
        open.sort_by_key(|(place, ..)| (place.source, place.offset));
        open.into_iter().filter_map(|open| self.enter(open)).collect()
    }

    fn enter(&mut self, (place, packet, reached, apart): (Place, u16, Reached, bool)) -> Option<Open> {
        let Place { source, offset } = place;
        if reached != Reached::Released && !apart {
            self.again.insert((source, offset), packet);
        }
        self.sent(source, offset, packet, reached != Reached::AtLeastOnce);
        if apart {
            self.is_apart();
        }
        Some(Open {
            packet_id: id(packet)?,
            token: self.token,
            reached,
        })
    }

    /// A partition that no subscription reads any more is read again. What a former one has begun to deliver is completed [MQTT-3.10.4-3]:
    /// it is told as open, with a position behind it.
    pub(super) fn begins_anew(&mut self, start: &StartAt) {
        let mut anew = Progress::at(start.offset, None);
        if let Some(former) = self.sources.remove(&start.place).filter(|former| !former.open.is_empty()) {
            (anew.open, anew.floor) = (former.open, start.offset);
        }
        self.sources.insert(start.place, anew);
    }

    /// What a record is to this session.
    pub fn known(&self, source: Source, offset: i64) -> Known {
        match self.again.get(&(source, offset)) {
            Some(packet) => Known::Again(*packet),
            None if self.owed.contains(&(source, offset)) => Known::New,
            None if self.sources.get(&source).is_some_and(|progress| offset < progress.resumed) => Known::Settled,
            None => Known::New,
        }
    }

    /// A message from before was sent again, or cannot be.
    pub fn came_again(&mut self, source: Source, offset: i64) {
        self.again.remove(&(source, offset));
    }

    /// Messages from before that are gone or that no subscription matches any more, since one behind them has come.
    pub fn overtaken(&mut self, source: Source, offset: i64) {
        if self.again.is_empty() {
            return;
        }
        let overtaken = self.again.range((source, 0)..(source, offset));
        let left: Vec<_> = overtaken.map(|(at, packet)| (*at, *packet)).collect();
        for (at, packet) in left {
            self.again.remove(&at);
            self.leave_over((at, packet), false);
        }
    }

    /// Messages from before of partitions that are not read any more are read by their places. While a topic of the session cannot be seen none
    /// is: it may be one of its. One that is not there at all may come back all the same: what is open at QoS 1 is then sent once more.
    pub fn unread(&mut self, is_read: impl Fn(&Source) -> bool) {
        if self.away.iter().any(|away| away.hidden) {
            return;
        }
        let (read, left): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.again)
            .into_iter()
            .partition(|((source, _), _)| is_read(source));
        self.again = read;
        let waits = !self.away.is_empty();
        left.into_iter().for_each(|left| self.leave_over(left, waits));
    }

    fn leave_over(&mut self, ((source, offset), packet): ((Source, i64), u16), waits: bool) {
        let once = || self.open.values().any(|sent| sent.packet == packet && sent.exactly_once);
        let is_owed = waits && !once();
        let place = Place { source, offset };
        self.leftover.add(Left { packet, place, is_owed });
    }

    /// The record of a message from before cannot be had.
    pub fn gives_up(&mut self, left: Left) {
        if left.is_owed {
            self.owed.insert((left.place.source, left.place.offset));
        }
    }

    /// What lies below an offset is none of the session's, but for what is open: it was settled, or is too old.
    pub fn leaves_out(&mut self, source: Source, below: i64) {
        if let Some(progress) = self.sources.get_mut(&source) {
            progress.resumed = progress.resumed.max(below);
        }
    }
}
