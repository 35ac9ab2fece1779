//! To the device: deliveries, their acknowledgements, the send window (§3.3, §4.3, §4.9).
//!
//! Nothing is sent twice on a live connection [MQTT-4.4.0-1], so no payload is kept; what a stored session has open from before is in
//! `stored`.

use std::num::NonZeroU16;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::alias::{OutboundAliases, TopicForm};
use super::{AckKind, Message, Output, Phase, Session, Taken};
use crate::mqtt::publish::{PublishHead, encode_head, head_len};
use crate::mqtt::{Ack, PacketId, QoS, ReasonCode, Version};

/// All there are (§2.2.1).
const PACKET_IDS: usize = u16::MAX as usize;

/// The device's unsettled messages.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// By packet id, which we choose.
    open: FxHashMap<u16, Flight>,
    last_id: u16,
    /// A delivery met a full window and waits for news.
    turned_away: bool,
    aliases: OutboundAliases,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) token: u64,
    pub(super) step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// QoS 1 without PUBACK.
    AtLeastOnce,
    /// QoS 2 without PUBREC.
    ExactlyOnce,
    /// QoS 2: PUBREL is sent, PUBCOMP awaited.
    Released,
    /// QoS 2 of a stored session: it waits for the relay.
    Held,
    /// QoS 2 of a stored session: PUBREC came, PUBREL waits for the relay.
    Received,
    /// Of a session that goes on: to be sent again.
    Again {
        /// QoS 2, else 1.
        exactly_once: bool,
    },
}

impl Outbound {
    pub(super) fn shrink(&mut self) {
        if self.open.is_empty() {
            self.open = FxHashMap::default();
        }
    }

    /// A packet id that is not open. The caller has asked [`Session::has_room`], so one is free.
    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.open.contains_key(&self.last_id)
            {
                return PacketId(id);
            }
        }
    }

    /// The id that was given last.
    pub(super) fn last_id(&self) -> u16 {
        self.last_id
    }

    /// A message from before.
    pub(super) fn enter(&mut self, packet_id: PacketId, flight: Flight) {
        self.open.insert(packet_id.0.get(), flight);
    }

    pub(super) fn set(&mut self, packet_id: PacketId, step: Step) {
        if let Some(flight) = self.open.get_mut(&packet_id.0.get()) {
            flight.step = step;
        }
    }

    /// Somebody waits for room in the window.
    pub(super) fn turn_away(&mut self) {
        self.turned_away = true;
    }

    pub(super) fn step(&self, packet_id: PacketId) -> Option<Step> {
        self.open.get(&packet_id.0.get()).map(|flight| flight.step)
    }
}

impl Session {
    /// How many QoS 1 and 2 messages the client takes at the moment (§4.9): what is open from before and was not sent again counts
    /// for nothing towards it, but has its packet id.
    pub fn window(&self) -> usize {
        let again = self.stored.as_ref().map_or(0, |stored| stored.again);
        usize::from(self.peer.receive_maximum).saturating_sub(self.outbound.open.len() - again)
    }

    /// Whether another message can be begun.
    fn has_room(&self) -> bool {
        self.window() > 0 && self.outbound.open.len() < PACKET_IDS
    }

    /// How many of them it takes at a time.
    pub fn receive_maximum(&self) -> usize {
        usize::from(self.peer.receive_maximum)
    }

    /// Sends a message to the client, if it may have it now; see [`Taken`] for all that can become of it.
    ///
    /// The effective QoS is the lower of the message's and the highest granted by the subscriptions that match; overlapping
    /// subscriptions get one copy with all their identifiers [MQTT-3.3.4-2], [MQTT-3.3.4-4].
    pub fn deliver(&mut self, message: &Message<'_>, now: Instant) -> Taken {
        self.deliver_as(message, false, now)
    }

    /// The same for a record that a stored session has a place for: at QoS 2 it is not sent before it is written down.
    pub fn deliver_stored(&mut self, message: &Message<'_>, now: Instant) -> Taken {
        self.deliver_as(message, self.stored.is_some(), now)
    }

    fn deliver_as(&mut self, message: &Message<'_>, hold: bool, now: Instant) -> Taken {
        if self.phase != Phase::Live {
            return Taken::Closed;
        }
        let matched = match self.subscriptions.matched(message, &self.client_id) {
            Ok(matched) => matched,
            Err(why_not) => return why_not,
        };
        if message.message_expiry_interval == Some(0) {
            return Taken::Expired;
        }
        if matched.qos != QoS::AtMostOnce && !self.has_room() {
            self.outbound.turned_away = true;
            return Taken::WindowFull;
        }
        if self.outbox.len() + self.held_bytes() >= self.settings.outbound_queue {
            return if matched.qos == QoS::AtMostOnce {
                Taken::Dropped
            } else {
                Taken::OutboxFull
            };
        }
        self.write(message, matched.qos, matched.retain, hold, now)
    }

    /// Encodes a message that may go now, and remembers it if it will be acknowledged.
    fn write(&mut self, message: &Message<'_>, qos: QoS, retain: bool, hold: bool, now: Instant) -> Taken {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.outbound.free_id());
        let ids = self.subscriptions.take_matched_ids();
        let head = PublishHead {
            dup: false,
            qos,
            retain,
            topic: message.topic,
            packet_id,
            topic_alias: None,
            message_expiry_interval: message.message_expiry_interval,
            subscription_ids: &ids,
        };
        let held = packet_id.filter(|_| qos == QoS::ExactlyOnce && hold);
        let start = self.outbox.buffer().len();
        // No alias in what leaves later: others may leave before it.
        let written = match held {
            Some(_) => self.try_head(&head, message),
            None => self.write_head(head, message),
        };
        let length = self.outbox.buffer().len() - start;
        let expiry_at = held.and_then(|_| head.expiry_at(self.version, length, message.shared_properties));
        self.subscriptions.put_matched_ids(ids);
        if !written {
            return Taken::TooLarge;
        }
        match held {
            Some(packet_id) => self.hold(packet_id, start, message, expiry_at, now),
            None => self.outbox.push_shared(message.payload.clone()),
        }
        if let Some(packet_id) = packet_id {
            let step = match qos {
                QoS::ExactlyOnce if held.is_some() => Step::Held,
                QoS::ExactlyOnce => Step::ExactlyOnce,
                _ => Step::AtLeastOnce,
            };
            self.outbound.open.insert(
                packet_id.0.get(),
                Flight {
                    token: message.token,
                    step,
                },
            );
        }
        if held.is_some() { Taken::Asked } else { Taken::Sent { qos } }
    }

    /// Writes all but the payload, with an alias for the topic where there is one; false if the packet is too large for the client.
    pub(super) fn write_head(&mut self, head: PublishHead<'_>, message: &Message<'_>) -> bool {
        let maximum = if self.version == Version::V5 {
            self.peer.topic_alias_maximum
        } else {
            0
        };
        match self.outbound.aliases.form(message.topic, maximum) {
            TopicForm::Name => self.try_head(&head, message),
            TopicForm::Alias(alias) => self.try_head(
                &PublishHead {
                    topic: "",
                    topic_alias: Some(alias),
                    ..head
                },
                message,
            ),
            TopicForm::Teach(alias) => {
                // Teaching makes the packet three bytes longer: if that is too much, the plain form may still fit.
                if self.try_head(
                    &PublishHead {
                        topic_alias: Some(alias),
                        ..head
                    },
                    message,
                ) {
                    self.outbound.aliases.taught(message.topic, alias);
                    return true;
                }
                self.try_head(&head, message)
            }
        }
    }

    fn try_head(&mut self, head: &PublishHead<'_>, message: &Message<'_>) -> bool {
        let limit = self.peer.maximum_packet_size;
        let length = || head_len(head, self.version, message.shared_properties, message.payload.len());
        // Most clients set no limit; what no version can encode, the encoder refuses.
        if limit != u32::MAX && length() > limit as usize {
            return false;
        }
        let buffer = self.outbox.buffer();
        let start = buffer.len();
        let written = encode_head(head, self.version, message.shared_properties, message.payload.len(), buffer).is_ok();
        if written {
            let kind = buffer[start] >> 4;
            self.sent[usize::from(kind)] += 1;
        } else {
            buffer.truncate(start);
        }
        written
    }

    /// PUBACK of the client. One for an id that is not open is passed over: it harms nothing, and clients that were
    /// restored from a snapshot send them.
    pub(super) fn puback(&mut self, ack: &Ack<'_>, now: Instant) {
        match self.outbound.step(ack.packet_id) {
            Some(Step::AtLeastOnce | Step::Again { exactly_once: false }) => self.settle(ack.packet_id),
            Some(_) => self.end(ReasonCode::ProtocolError, "PUBACK for a QoS 2 message", now),
            None => {}
        }
    }

    /// PUBREC: the client has the message, or refuses it for good.
    pub(super) fn pubrec(&mut self, ack: &Ack<'_>, now: Instant) {
        match self.outbound.step(ack.packet_id) {
            Some(Step::AtLeastOnce | Step::Again { exactly_once: false }) => {
                self.end(ReasonCode::ProtocolError, "PUBREC for a QoS 1 message", now);
            }
            Some(Step::Held) => self.end(ReasonCode::ProtocolError, "PUBREC before PUBLISH", now),
            // PUBREL is on its way.
            Some(Step::Received) => {}
            // An error ends the exchange (§4.3.3), the id is free.
            Some(Step::ExactlyOnce | Step::Again { .. }) if ack.reason.is_error() => self.settle(ack.packet_id),
            Some(Step::ExactlyOnce | Step::Again { .. }) if self.stored.is_some() => self.received(ack.packet_id),
            Some(_) => {
                if let Some(flight) = self.outbound.open.get_mut(&ack.packet_id.0.get()) {
                    flight.step = Step::Released;
                }
                self.send_ack(AckKind::Rel, ack.packet_id, ReasonCode::Success, None, now);
            }
            // Nothing to release, and an error wants no answer.
            None if ack.reason.is_error() => {}
            None => self.send_ack(AckKind::Rel, ack.packet_id, ReasonCode::PacketIdentifierNotFound, None, now),
        }
    }

    /// PUBCOMP ends a QoS 2 exchange, whatever its reason; one for an id that is not open is passed over.
    pub(super) fn pubcomp(&mut self, ack: &Ack<'_>, now: Instant) {
        match self.outbound.step(ack.packet_id) {
            Some(Step::Released) => self.settle(ack.packet_id),
            Some(_) => self.end(ReasonCode::ProtocolError, "PUBCOMP without PUBREL", now),
            None => {}
        }
    }

    /// By a packet of the client. Outputs are polled before the next packet id is given.
    fn settle(&mut self, packet_id: PacketId) {
        let settled = self.free(packet_id).map(|token| Output::Settled { token });
        self.outputs.extend(settled);
    }

    /// Takes a message out; its token, if it has one.
    pub(super) fn free(&mut self, packet_id: PacketId) -> Option<u64> {
        let flight = self.outbound.open.remove(&packet_id.0.get())?;
        if matches!(flight.step, Step::Again { .. }) {
            self.sent_again();
        }
        if std::mem::take(&mut self.outbound.turned_away) {
            self.outputs.push_back(Output::WindowOpen);
        }
        (flight.token != 0).then_some(flight.token)
    }
}
