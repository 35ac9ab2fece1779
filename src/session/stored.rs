//! What only a stored session has: QoS 2 steps that leave when the relay lets them, and exchanges from before that go on (§4.3.3, §4.4).
//!
//! A step that makes the client forget something must be safe from a crash first. From the client: PUBREC comes by [`Session::answer`] as
//! ever, PUBCOMP by [`Session::complete`]. To the client: a QoS 2 PUBLISH is encoded and held until [`Session::permit`], PUBREL until
//! [`Session::release`].

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::outbound::{Flight, Step as Out};
use super::{AckKind, Message, Output, Phase, Present, Session, Taken};
use crate::mqtt::publish::PublishHead;
use crate::mqtt::{PacketId, QoS, ReasonCode};

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Outgoing QoS 2 messages that wait for their permission, in order.
    held: VecDeque<Held>,
    /// Bytes of them.
    held_bytes: usize,
    /// Outgoing messages from before that were not sent again yet: the client's window knows nothing of them.
    pub(super) again: usize,
    /// Packet ids of the client's from before of which nothing was heard yet: receive maximum counts anew with each connection (§4.9).
    pub(super) former: usize,
    /// Filters of subscriptions that are stored and that the client has no right to.
    denied: Vec<Box<str>>,
}

impl Stored {
    /// A subscription that was left out is over; false if there is none.
    pub(super) fn forget_denied(&mut self, filter: &str) -> bool {
        let at = self.denied.iter().position(|denied| **denied == *filter);
        at.is_some_and(|at| !self.denied.swap_remove(at).is_empty())
    }
}

/// A PUBLISH that is encoded.
#[derive(Debug)]
struct Held {
    packet_id: PacketId,
    head: Box<[u8]>,
    payload: Bytes,
    expiry: Option<HeldExpiry>,
}

/// The message expiry interval of a PUBLISH that is encoded.
#[derive(Clone, Copy, Debug)]
struct HeldExpiry {
    /// Where its four bytes stand in the head.
    at: usize,
    /// As they say, from `since` on.
    seconds: u32,
    since: Instant,
}

impl Held {
    /// What is left of the message expiry interval [MQTT-3.3.2-6]. At least one second: it is written down as given, and is sent.
    fn regard_expiry(&mut self, now: Instant) {
        let Some(HeldExpiry { at, seconds, since }) = self.expiry else {
            return;
        };
        let waited = u32::try_from(now.saturating_duration_since(since).as_secs()).unwrap_or(u32::MAX);
        if let Some(field) = self.head[at..].first_chunk_mut() {
            *field = seconds.saturating_sub(waited).max(1).to_be_bytes();
        }
    }
}

/// How far an outgoing message of a session that goes on has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// QoS 1 without PUBACK.
    AtLeastOnce,
    /// QoS 2 without PUBREC.
    ExactlyOnce,
    /// QoS 2 with PUBREC: PUBREL is due.
    Released,
}

/// An outgoing message of a session that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// As it was sent with.
    pub packet_id: PacketId,
    /// For [`Output::Settled`].
    pub token: u64,
    /// How far it has come.
    pub reached: Reached,
}

impl Session {
    /// Enters what is open from before, and repeats PUBRELs in the order given [MQTT-4.4.0-1].
    pub(super) fn go_on(&mut self, present: &Present, now: Instant) {
        let mut stored = Stored {
            denied: present.denied.clone(),
            ..Stored::default()
        };
        for &packet_id in &present.received {
            self.inbound.enter_former(packet_id);
            stored.former += 1;
        }
        for open in &present.open {
            let step = match open.reached {
                Reached::AtLeastOnce => Out::Again { exactly_once: false },
                Reached::ExactlyOnce => Out::Again { exactly_once: true },
                Reached::Released => Out::Released,
            };
            stored.again += usize::from(step != Out::Released);
            self.outbound.enter(open.packet_id, Flight { token: open.token, step });
        }
        self.stored = Some(Box::new(stored));
        for open in present.open.iter().filter(|open| open.reached == Reached::Released) {
            self.send_ack(AckKind::Rel, open.packet_id, ReasonCode::Success, None, now);
        }
    }

    /// Bytes that wait for permissions.
    pub(super) fn held_bytes(&self) -> usize {
        self.stored.as_ref().map_or(0, |stored| stored.held_bytes)
    }

    /// Takes what was just encoded at the end of the outbox back, to be sent later; `expiry_at` is where its message expiry interval stands in it.
    pub(super) fn hold(&mut self, packet_id: PacketId, start: usize, message: &Message<'_>, expiry_at: Option<usize>, now: Instant) {
        let Some(stored) = &mut self.stored else { return };
        let payload = message.payload.clone();
        let expiry = expiry_at
            .zip(message.message_expiry_interval)
            .map(|(at, seconds)| HeldExpiry { at, seconds, since: now });
        let buffer = self.outbox.buffer();
        let head: Box<[u8]> = buffer[start..].into();
        buffer.truncate(start);
        self.sent[usize::from(head[0] >> 4)] -= 1;
        stored.held_bytes += head.len() + payload.len();
        stored.held.push_back(Held {
            packet_id,
            head,
            payload,
            expiry,
        });
    }

    /// The packet id that a message was sent with last, or will be; 0 if none was.
    pub fn last_packet_id(&self) -> u16 {
        self.outbound.last_id()
    }

    /// A QoS 2 message that was [`Taken::Asked`] may be sent.
    pub fn permit(&mut self, packet_id: PacketId, now: Instant) {
        let Some(stored) = self.stored.as_deref_mut().filter(|_| self.phase == Phase::Live) else {
            return;
        };
        let Some(at) = stored.held.iter().position(|held| held.packet_id == packet_id) else {
            return;
        };
        let Some(mut held) = stored.held.remove(at) else { return };
        held.regard_expiry(now);
        let Held { head, payload, .. } = held;
        stored.held_bytes -= head.len() + payload.len();
        self.sent[usize::from(head[0] >> 4)] += 1;
        self.outbox.buffer().extend_from_slice(&head);
        self.outbox.push_shared(payload);
        self.outbound.set(packet_id, Out::ExactlyOnce);
    }

    /// PUBREL may leave: that the client has the message is safe.
    pub fn release(&mut self, packet_id: PacketId, now: Instant) {
        if self.phase == Phase::Live && self.outbound.step(packet_id) == Some(Out::Received) {
            self.outbound.set(packet_id, Out::Released);
            self.send_ack(AckKind::Rel, packet_id, ReasonCode::Success, None, now);
        }
    }

    /// PUBCOMP may leave: that the client has forgotten the message is safe.
    pub fn complete(&mut self, packet_id: PacketId, now: Instant) {
        if self.phase != Phase::Live {
            return;
        }
        let Some(former) = self.inbound.completed(packet_id) else { return };
        if let Some(stored) = self.stored.as_mut().filter(|_| former) {
            stored.former -= 1;
        }
        self.send_ack(AckKind::Comp, packet_id, ReasonCode::Success, None, now);
    }

    /// Sends a message from before again, with DUP and its packet id. [`Taken::NotSubscribed`] if it is not open any more; what is
    /// [`Taken::TooLarge`] by now is [`gone`](Self::gone).
    pub fn redeliver(&mut self, packet_id: PacketId, message: &Message<'_>, _now: Instant) -> Taken {
        if self.phase != Phase::Live {
            return Taken::Closed;
        }
        let Some(Out::Again { exactly_once }) = self.outbound.step(packet_id) else {
            return Taken::NotSubscribed;
        };
        if self.window() == 0 {
            self.outbound.turn_away();
            return Taken::WindowFull;
        }
        if self.outbox.len() + self.held_bytes() >= self.settings.outbound_queue {
            return Taken::OutboxFull;
        }
        // Without a subscription it is the client's all the same [MQTT-3.10.4-3].
        let matched = self.subscriptions.matched(message, &self.client_id);
        let retain = matched.map_or(message.retained, |matched| matched.retain);
        let (qos, step) = match exactly_once {
            true => (QoS::ExactlyOnce, Out::ExactlyOnce),
            false => (QoS::AtLeastOnce, Out::AtLeastOnce),
        };
        let ids = self.subscriptions.take_matched_ids();
        let head = PublishHead {
            dup: true,
            qos,
            retain,
            topic: message.topic,
            packet_id: Some(packet_id),
            topic_alias: None,
            message_expiry_interval: message.message_expiry_interval,
            subscription_ids: &ids,
        };
        let written = self.write_head(head, message);
        self.subscriptions.put_matched_ids(ids);
        if !written {
            return Taken::TooLarge;
        }
        self.outbox.push_shared(message.payload.clone());
        self.outbound.set(packet_id, step);
        self.sent_again();
        Taken::Sent { qos }
    }

    /// The quality of service of an exchange from before whose message was not sent again yet.
    pub fn open_again(&self, packet_id: PacketId) -> Option<QoS> {
        match self.outbound.step(packet_id) {
            Some(Out::Again { exactly_once: true }) => Some(QoS::ExactlyOnce),
            Some(Out::Again { exactly_once: false }) => Some(QoS::AtLeastOnce),
            _ => None,
        }
    }

    /// The message of an exchange from before cannot be had any more. At QoS 2 the client may have it, so its packet id is released
    /// in order: as if PUBREC had come.
    ///
    /// At QoS 1 its packet id is free at once, and the token of what is settled by that is returned. It is no [`Output`]: the next message may get that
    /// packet id before an output is polled, and would then be taken for the one that is settled.
    #[must_use]
    pub fn gone(&mut self, packet_id: PacketId) -> Option<u64> {
        match self.outbound.step(packet_id) {
            Some(Out::Again { exactly_once: false }) => return self.free(packet_id),
            Some(Out::Again { exactly_once: true }) => self.received(packet_id),
            _ => {}
        }
        None
    }

    /// PUBREC of a stored session: PUBREL waits for the relay.
    pub(super) fn received(&mut self, packet_id: PacketId) {
        if matches!(self.outbound.step(packet_id), Some(Out::Again { .. })) {
            self.sent_again();
        }
        self.outbound.set(packet_id, Out::Received);
        self.outputs.push_back(Output::PubRec { packet_id });
    }

    /// One less of those that were not sent again.
    pub(super) fn sent_again(&mut self) {
        if let Some(stored) = &mut self.stored {
            stored.again -= 1;
        }
    }
}
