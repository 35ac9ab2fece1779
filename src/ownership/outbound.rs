//! To the client: QoS 2 by pairs of (packet id, record), QoS 1 and positions as they come by (§4.3, §4.4 of MQTT).

use std::collections::{BTreeMap, VecDeque};

use super::guard::Guard;
use super::output::{ConnectionId, Output};
use super::owner::{Dirty, Owner, Rests};
use super::record::Millis;
use super::steps::Outgoing;
use super::text::{Place, Source};
use super::walk::Walk;

/// Positions are written at most this often.
const POSITIONS_EVERY: Millis = 1000;

impl Owner {
    /// A QoS 2 message got a packet id, and came by that shared subscription if there is one: it is sent when that is read back.
    pub(super) fn send(&mut self, packet: u16, place: Place, share: Option<Box<str>>, outputs: &mut VecDeque<Output>) {
        let released = false;
        self.body.steps.flight.remove(&packet);
        self.body.steps.outbound.insert(packet, Outgoing { place, released, share });
        self.rest(Guard::PublishAfterReadBack, Dirty::Steps, Rests::Publish(packet), outputs);
    }

    /// A QoS 1 message was sent.
    pub(super) fn sent(&mut self, packet: u16, place: Place, now: Millis) {
        self.body.steps.outbound.remove(&packet);
        self.body.steps.flight.insert(packet, place);
        self.positions_moved(now);
    }

    /// PUBACK, PUBCOMP, an error in PUBREC, or the record is gone: it is settled. Nothing rests on that: if it is lost, PUBREL is repeated.
    pub(super) fn settled(&mut self, packet: u16, now: Millis) {
        self.body.steps.flight.remove(&packet);
        self.body.steps.outbound.remove(&packet);
        self.positions_moved(now);
    }

    /// PUBREC: from here on the message must not be sent again.
    pub(super) fn pubrec(&mut self, connection: ConnectionId, packet: u16, outputs: &mut VecDeque<Output>) {
        let Some(outgoing) = self.body.steps.outbound.get_mut(&packet) else {
            return outputs.push_back(Output::PubRel(connection, packet));
        };
        if !std::mem::replace(&mut outgoing.released, true) {
            self.rest(Guard::PubRelAfterReadBack, Dirty::Steps, Rests::PubRel(packet), outputs);
        } else if !self.waiting.iter().any(|(_, rests)| *rests == Rests::PubRel(packet)) {
            outputs.push_back(Output::PubRel(connection, packet));
        }
    }

    /// Everything of a source below `offset` was sent or is not wanted. Nothing is written of that where the next checkpoint says it, given
    /// that the last, `settled`, has. A position that goes back (the log was cut off, a subscription begins anew) is told by the session itself.
    pub(super) fn position(&mut self, source: Source, offset: i64, settled: &BTreeMap<Source, i64>, now: Millis) {
        let spoken_for = settled.get(&source).filter(|_| self.body.steps.run.is_some());
        let before = self.body.steps.positions.get(&source);
        let goes_back = before.into_iter().chain(spoken_for).any(|known| *known > offset);
        let is_told = before.is_some() && spoken_for.is_some() && !goes_back;
        if goes_back {
            self.leave_the_tail(settled);
        }
        self.body.steps.positions.insert(source, offset);
        if !is_told {
            self.positions_moved(now);
        }
    }

    /// A walk over retained messages has come so far, or (`None`) is over. The latter is written with the next record that is written anyway: a
    /// SUBSCRIBE costs one. A crash before that has it walked once more, behind the last message of QoS 2.
    pub(super) fn walked(&mut self, filter: Box<str>, walk: Option<Walk>, now: Millis) {
        match walk {
            Some(walk) => {
                self.body.steps.walks.insert(filter, walk);
                self.positions_moved(now);
            }
            None => drop(self.body.steps.walks.remove(&filter)),
        }
    }

    fn positions_moved(&mut self, now: Millis) {
        self.positions_due.get_or_insert(now + POSITIONS_EVERY);
    }
}
