//! From the mailbox to the session: messages in the order of the log, as far as the client's window and socket let them.

use std::time::Instant;

use bytes::Bytes;
use rustc_hash::FxHashMap;

use super::{
    chunk::{Chunk, Message as Stored, SourceId},
    desk::Desk,
    mailbox::{Item, Parcel},
    once::id,
    retained::{Streams, Unsettled},
    subscribing::StartAt,
    tenancy::{Known, Tenancy},
};
use crate::mqtt::{PacketId, QoS};
use crate::session::{Message, Session, SubscriptionKey, Taken};

/// Unsent bytes above which messages wait in the mailbox for the socket. Below the session's own limit, beyond which it
/// leaves QoS 0 messages out: a burst is written bit by bit, and only who is slow for long loses any.
pub(super) const MAX_UNSENT: usize = 128 * 1024;

/// What a connection keeps for its deliveries; empty while it has none.
#[derive(Debug, Default)]
pub struct Outbound {
    /// The parcel that the client's window or socket did not take whole.
    current: Option<Parcel>,
    /// Starts that no message has reached yet.
    pub(super) starts: FxHashMap<(SubscriptionKey, SourceId), i64>,
    /// Subscriptions whose start is not known yet: what they match waits.
    pub(super) pending: Vec<SubscriptionKey>,
    /// The last message was sent with this packet id, and will be settled.
    sent: Option<u16>,
    /// The last message waits for the store, under this packet id.
    asked: Option<u16>,
    /// Retained messages on their way.
    pub(super) retained: Streams,
    /// Those that a stored session has open from before; they come first.
    pub(super) unsettled: Option<Box<Unsettled>>,
}

/// Whether the next item may be tried.
#[derive(PartialEq, Eq)]
pub(super) enum Step {
    Next,
    Wait,
}

impl Desk {
    /// Hands messages to the session until there is none, or it takes no more. Shared subscriptions and others come first by turns.
    pub(super) fn hand_out(&mut self, session: &mut Session, now: Instant) {
        let shared_first = self.shares.as_mut().is_some_and(|shares| shares.takes_turn());
        if shared_first {
            self.hand_out_shared(session, now);
        }
        self.hand_out_parcels(session, now);
        if !shared_first {
            self.hand_out_shared(session, now);
        }
    }

    fn hand_out_parcels(&mut self, session: &mut Session, now: Instant) {
        if !self.hand_out_leftover(session, now, MAX_UNSENT) || !self.hand_out_retained(session, now, MAX_UNSENT) {
            return;
        }
        while session.is_live() && session.outbox().len() < MAX_UNSENT {
            let Some(mut parcel) = self.outbound.current.take().or_else(|| self.mailbox.take()) else {
                return;
            };
            if self.parcel(&mut parcel, session, now) == Step::Wait {
                self.outbound.current = Some(parcel);
                return;
            }
            self.mailbox.settle(&parcel);
        }
    }

    fn parcel(&mut self, parcel: &mut Parcel, session: &mut Session, now: Instant) -> Step {
        while let Some(item) = parcel.items.front() {
            if self.item(&parcel.chunk, item, session, now) == Step::Wait {
                return Step::Wait;
            }
            parcel.items.pop_front();
        }
        Step::Next
    }

    fn item(&mut self, chunk: &Chunk, item: &Item, session: &mut Session, now: Instant) -> Step {
        let message = &chunk.messages[item.message];
        let keys = item.keys.as_slice();
        if keys.iter().any(|key| self.outbound.pending.contains(key)) {
            return Step::Wait;
        }
        if let Some(tenancy) = self.tenancy.as_deref_mut().filter(|tenancy| tenancy.stored) {
            let (source, offset) = (chunk.from, message.offset);
            let gone = tenancy.looks_at(source, chunk.source, offset);
            tenancy.overtaken(source, offset);
            let (known, waits) = (tenancy.known(source, offset), !tenancy.leftover.is_empty());
            self.gone(gone, session, now);
            if waits {
                // What lies before it comes first.
                self.mailbox.ring();
                return Step::Wait;
            }
            match known {
                Known::New => {}
                Known::Settled => return Step::Next,
                Known::Again(packet) => return self.give_again(chunk, message, keys, packet, session, now),
            }
        }
        let step = self.started(chunk, message, keys, session, now);
        let (sent, asked) = (self.outbound.sent.take(), self.outbound.asked.take());
        if step == Step::Next
            && let Some(tenancy) = self.tenancy.as_deref_mut().filter(|tenancy| tenancy.stored)
        {
            match asked {
                Some(packet) => tenancy.asked(chunk.from, message.offset, packet),
                None => tenancy.passed(chunk.from, message.offset, sent, now),
            }
        }
        step
    }

    /// Sends a message that is open from before.
    fn give_again(
        &mut self,
        chunk: &Chunk,
        message: &Stored,
        keys: &[SubscriptionKey],
        packet: u16,
        session: &mut Session,
        now: Instant,
    ) -> Step {
        let Some(packet_id) = id(packet) else { return Step::Next };
        if let Taken::WindowFull | Taken::OutboxFull = self.send_again(chunk, message, keys, packet_id, session, now) {
            return Step::Wait;
        }
        if let Some(tenancy) = self.tenancy.as_deref_mut() {
            tenancy.came_again(chunk.from, message.offset);
        }
        Step::Next
    }

    /// Sends a message once more, under the packet id that it has. One that is too large by now is gone.
    pub(super) fn send_again(
        &mut self,
        chunk: &Chunk,
        message: &Stored,
        keys: &[SubscriptionKey],
        packet_id: PacketId,
        session: &mut Session,
        now: Instant,
    ) -> Taken {
        let payload = chunk.payload(message);
        let again = Message {
            // It has begun to be delivered in time.
            message_expiry_interval: remaining(message, now).map(|seconds| seconds.max(1)),
            ..as_message(chunk, message, &payload, keys)
        };
        let taken = session.redeliver(packet_id, &again, now);
        if taken == Taken::TooLarge {
            self.shared.rule_counters[message.rule].dropped("packet_too_large");
            self.gone([packet_id.0.get()], session, now);
        }
        taken
    }

    /// Messages from before, by their packet ids, cannot be had any more. What is settled by that is told before a packet id is given to another
    /// message: told later, it would be taken for the end of that one.
    pub(super) fn gone(&mut self, packets: impl IntoIterator<Item = u16>, session: &mut Session, now: Instant) {
        for packet_id in packets.into_iter().filter_map(id) {
            if let Some(token) = session.gone(packet_id) {
                self.settled(token, now);
            }
        }
    }

    /// Gives it to those of its subscriptions that have started.
    fn started(&mut self, chunk: &Chunk, message: &Stored, keys: &[SubscriptionKey], session: &mut Session, now: Instant) -> Step {
        if self.outbound.starts.is_empty() {
            return self.give(chunk, message, keys, session, now);
        }
        let outbound = &mut self.outbound;
        let started: Vec<_> = keys.iter().copied().filter(|key| outbound.started(*key, chunk, message)).collect();
        if started.is_empty() {
            Step::Next
        } else {
            self.give(chunk, message, &started, session, now)
        }
    }

    fn give(&mut self, chunk: &Chunk, message: &Stored, keys: &[SubscriptionKey], session: &mut Session, now: Instant) -> Step {
        let stored = self.tenancy.as_deref().filter(|tenancy| tenancy.stored);
        let token = stored.map_or(0, Tenancy::token);
        match self.offer_message(chunk, message, keys, token, session, now) {
            Taken::WindowFull | Taken::OutboxFull => return Step::Wait,
            Taken::Asked => self.outbound.asked = Some(session.last_packet_id()),
            Taken::Sent { qos } => self.outbound.sent = (qos != QoS::AtMostOnce).then(|| session.last_packet_id()),
            _ => {}
        }
        Step::Next
    }

    /// Offers the session a message under a token, and counts what becomes of it.
    pub(super) fn offer_message(
        &self,
        chunk: &Chunk,
        message: &Stored,
        keys: &[SubscriptionKey],
        token: u64,
        session: &mut Session,
        now: Instant,
    ) -> Taken {
        let payload = chunk.payload(message);
        let taken = session.deliver_stored(
            &Message {
                message_expiry_interval: remaining(message, now),
                token,
                ..as_message(chunk, message, &payload, keys)
            },
            now,
        );
        let rule = &self.shared.rule_counters[message.rule];
        match taken {
            Taken::Sent { .. } | Taken::Asked => {
                rule.messages_out.inc();
                rule.bytes_out.inc_by(message.payload_len() as u64);
            }
            Taken::Dropped => rule.dropped("slow_reader"),
            Taken::TooLarge => rule.dropped("packet_too_large"),
            Taken::Expired => rule.dropped("expired"),
            Taken::WindowFull | Taken::OutboxFull | Taken::NoLocal | Taken::NotSubscribed | Taken::Closed => {}
        }
        taken
    }
}

/// Seconds until a message expires.
fn remaining(message: &Stored, now: Instant) -> Option<u32> {
    message
        .expires
        .map(|end| end.saturating_duration_since(now).as_secs_f64().ceil() as u32)
}

/// A message as the session takes it, but for its expiry and its token.
fn as_message<'a>(chunk: &'a Chunk, message: &'a Stored, payload: &'a Bytes, keys: &'a [SubscriptionKey]) -> Message<'a> {
    Message {
        topic: chunk.topic(message),
        payload,
        shared_properties: chunk.properties(message),
        qos: message.qos,
        retain: message.retain,
        retained: false,
        message_expiry_interval: None,
        publisher: chunk.client(message),
        subscriptions: keys,
        token: 0,
    }
}

impl Outbound {
    /// Whether a parcel was not taken whole.
    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// Keeps the starts of subscriptions that begin. No others: nobody would take them away again.
    pub(super) fn begin(&mut self, starts: Vec<StartAt>, begins: impl Fn(SubscriptionKey) -> bool) {
        let kept = starts.into_iter().filter(|start| begins(start.key));
        self.starts.extend(kept.map(|start| ((start.key, start.source), start.offset)));
    }

    /// Whether a message lies at or behind the start of a subscription. Messages of a source come in the order of their
    /// offsets, so a start that was reached once need not be kept.
    fn started(&mut self, key: SubscriptionKey, chunk: &Chunk, message: &Stored) -> bool {
        match self.starts.get(&(key, chunk.source)) {
            None => true,
            Some(start) if message.offset < *start => false,
            Some(_) => self.starts.remove(&(key, chunk.source)).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_that_was_overtaken_by_its_unsubscribe_leaves_nothing_behind() {
        let mut outbound = Outbound::default();
        let start = |key| StartAt {
            key: SubscriptionKey(key),
            source: SourceId(7),
            place: crate::ownership::Source {
                topic: [7; 16],
                partition: 0,
            },
            offset: 40,
        };
        outbound.begin(vec![start(1), start(2)], |key| key == SubscriptionKey(2));
        let kept: Vec<_> = outbound.starts.into_iter().collect();
        assert_eq!(kept, [((SubscriptionKey(2), SourceId(7)), 40)]);
    }
}
