//! Retained messages at the desk of a connection: which subscriptions get them, and their delivery, as far as window and socket allow.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{
    Shared,
    desk::Desk,
    once::id,
    retained::{Retained, RetainedMessage, RetainedStep, Stream, Turn, Unsettled},
    tenancy::Tenancy,
};
use crate::{
    mapping::{Draft, Retain},
    mqtt::{Publish, QoS, RetainHandling, SubscribeFilter, topic::matches},
    session::{Message, Session, SubscriptionKey, Taken},
};

/// Steps of one turn of the connection; then the others of the process have theirs.
const STEPS: usize = 256;

impl Shared {
    /// Whether the topic of a routed PUBLISH takes no retained messages, and it is one.
    pub(super) fn retain_denied(&self, publish: &Publish<'_>, draft: &Draft) -> bool {
        publish.retain && draft.ordinary(&self.rules).is_some_and(|rule| rule.retain == Retain::Deny)
    }

    /// Whether a Kafka topic is one of the proxy's own state.
    pub(super) fn is_state_topic(&self, name: &str) -> bool {
        self.hub.is_own(name)
    }

    /// Whether a subscription gets retained messages with its SUBSCRIBE (§3.8.3.1). `new`: it did not exist before.
    pub(super) fn gets_retained(&self, filter: &SubscribeFilter<'_>, new: bool) -> bool {
        let wanted = match filter.retain_handling {
            // A shared one gets none (§4.8.2).
            _ if filter.filter.starts_with("$share/") => false,
            RetainHandling::Always => true,
            RetainHandling::IfNew => new,
            RetainHandling::Never => false,
        };
        wanted && self.retained.is_some()
    }
}

impl Desk {
    /// Retained messages that subscriptions would miss.
    pub(super) fn read_late(&mut self, session: &Session) {
        if self.shared.retained.is_none() {
            return;
        }
        for late in self.mailbox.take_late() {
            if let Ok(at) = session.subscriptions().binary_search_by_key(&late.key, |s| s.key) {
                let filter = &session.subscriptions()[at].filter;
                self.outbound.retained.add(Stream::late(late, filter));
            }
        }
    }

    /// Hands retained messages to the session, first those that it has open from before. False: there are more, and what the log brings waits behind them.
    pub(super) fn hand_out_retained(&mut self, session: &mut Session, now: Instant, room: usize) -> bool {
        if self.outbound.retained.is_empty() && self.outbound.unsettled.is_none() {
            return true;
        }
        let Some(retained) = self.shared.retained.clone() else {
            return true;
        };
        if let Some(unsettled) = self.outbound.unsettled.take() {
            self.outbound.unsettled = self.send_unsettled(unsettled, &retained, session, now, room);
            if self.outbound.unsettled.is_some() {
                return false;
            }
        }
        for _ in 0..STEPS {
            if !session.is_live() || session.outbox().len() >= room {
                return false;
            }
            let Some(stream) = self.outbound.retained.first(&self.outbound.pending) else {
                return true;
            };
            let (key, is_walk, mailbox) = (stream.key, stream.is_walk(), self.mailbox.clone());
            match stream.step(&retained, now, move || mailbox.ring()) {
                RetainedStep::Message(message) => {
                    let of = (&*self.shared, &*retained);
                    if !give(of, stream, &message, self.tenancy.as_deref_mut(), session, now) {
                        return false;
                    }
                    stream.taken();
                }
                RetainedStep::Pause => {}
                RetainedStep::Wait => return false,
                RetainedStep::End => {
                    self.outbound.retained.finish(key);
                    if let Some(tenancy) = self.tenancy.as_deref_mut().filter(|_| is_walk) {
                        tenancy.walk_is_over(key);
                    }
                }
            }
        }
        self.mailbox.ring();
        false
    }
    /// Sends again what is open from before, as far as the client and its socket let it. What is left of it comes back.
    fn send_unsettled(
        &mut self,
        mut unsettled: Box<Unsettled>,
        retained: &Arc<Retained>,
        session: &mut Session,
        now: Instant,
        room: usize,
    ) -> Option<Box<Unsettled>> {
        for _ in 0..STEPS {
            if !session.is_live() || session.outbox().len() >= room {
                return Some(unsettled);
            }
            let mailbox = self.mailbox.clone();
            match unsettled.turn(retained, move || mailbox.ring()) {
                Turn::Message(packet, message) => {
                    if !self.settle_or_send(packet, message, session, now) {
                        return Some(unsettled);
                    }
                    unsettled.done();
                }
                Turn::Wait => return Some(unsettled),
                Turn::End => return None,
            }
        }
        self.mailbox.ring();
        Some(unsettled)
    }

    /// Sends a message once more, with the packet id that it has; one that is gone is given up. False: it must be tried again.
    fn settle_or_send(&mut self, packet: u16, message: Option<RetainedMessage>, session: &mut Session, now: Instant) -> bool {
        let Some(packet_id) = id(packet) else { return true };
        let Some(message) = message else {
            self.gone([packet], session, now);
            return true;
        };
        let by = subscription(session, &message, session.open_again(packet_id));
        // Without a subscription it is the client's all the same [MQTT-3.10.4-3], unless it has lost the right to it.
        let qos = session.open_again(packet_id).unwrap_or(message.body.qos);
        if by.is_none() && !self.may_keep(session.client_id(), &message.topic, qos, now) {
            self.gone([packet], session, now);
            return true;
        }
        let payload = message.body.payload();
        let again = Message {
            // It has begun to be delivered in time.
            message_expiry_interval: remaining(&message, now).map(|seconds| seconds.max(1)),
            ..as_message(&message, &payload, by.as_slice())
        };
        match session.redeliver(packet_id, &again, now) {
            Taken::WindowFull | Taken::OutboxFull => return false,
            Taken::TooLarge => {
                self.shared.rule_counters[message.rule].dropped("packet_too_large");
                self.gone([packet], session, now);
            }
            _ => {}
        }
        true
    }
}

/// Of a session's subscriptions that a retained message may have come by: one by which it would have the quality of service with which it is `open`, or else one
/// with the highest. It is told its identifier, and what came by another subscription would have been open otherwise.
fn subscription(session: &Session, message: &RetainedMessage, open: Option<QoS>) -> Option<SubscriptionKey> {
    let subscriptions = session.subscriptions().iter();
    let may = |filter: &str| !filter.starts_with("$share/") && matches(filter, &message.topic);
    let matching = subscriptions.filter(|subscription| may(&subscription.filter));
    let granted = matching.filter_map(|subscription| Some((subscription.options?.qos, subscription.key)));
    let fits = |granted: QoS| Some(granted.min(message.body.qos)) == open;
    granted.max_by_key(|(qos, _)| (fits(*qos), *qos)).map(|(_, key)| key)
}

/// Seconds until a message expires.
fn remaining(message: &RetainedMessage, now: Instant) -> Option<u32> {
    let expires = message.body.expires?;
    Some(expires.saturating_duration_since(now).as_secs_f64().ceil() as u32)
}

/// A message as the session takes it, but for its expiry and its token.
fn as_message<'a>(message: &'a RetainedMessage, payload: &'a Bytes, subscriptions: &'a [SubscriptionKey]) -> Message<'a> {
    Message {
        topic: &message.topic,
        payload,
        shared_properties: message.body.properties(),
        qos: message.body.qos,
        retain: true,
        retained: true,
        message_expiry_interval: None,
        publisher: message.body.client(),
        subscriptions,
        token: 0,
    }
}

/// Gives a message to the session; one that is stored has a place for it. False: it must be tried again.
fn give(
    (shared, retained): (&Shared, &Retained),
    stream: &Stream,
    message: &RetainedMessage,
    tenancy: Option<&mut Tenancy>,
    session: &mut Session,
    now: Instant,
) -> bool {
    let stored = tenancy.filter(|tenancy| tenancy.stored);
    let stored = stored.and_then(|tenancy| Some((retained.stored_place(message.place)?, tenancy)));
    let payload = message.body.payload();
    let message_of_it = Message {
        message_expiry_interval: remaining(message, now),
        token: stored.as_ref().map_or(0, |(_, tenancy)| tenancy.token()),
        ..as_message(message, &payload, std::slice::from_ref(&stream.key))
    };
    let taken = match stored {
        Some(_) => session.deliver_stored(&message_of_it, now),
        None => session.deliver(&message_of_it, now),
    };
    let rule = &shared.rule_counters[message.rule];
    match taken {
        Taken::Sent { .. } | Taken::Asked => {
            rule.messages_out.inc();
            rule.bytes_out.inc_by(payload.len() as u64);
        }
        Taken::WindowFull | Taken::OutboxFull => return false,
        Taken::Dropped => rule.dropped("slow_reader"),
        Taken::TooLarge => rule.dropped("packet_too_large"),
        Taken::Expired => rule.dropped("expired"),
        Taken::NoLocal | Taken::NotSubscribed | Taken::Closed => {}
    }
    if let Some((place, tenancy)) = stored {
        if stream.is_walk() {
            tenancy.walked(stream.key, &message.topic, now);
        }
        match taken {
            Taken::Asked => tenancy.asked_retained(place, session.last_packet_id()),
            Taken::Sent { qos } if qos != QoS::AtMostOnce => tenancy.sent_retained(place, session.last_packet_id(), now),
            _ => {}
        }
    }
    true
}
