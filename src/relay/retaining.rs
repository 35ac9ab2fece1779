//! Retained messages at the desk of a connection: which subscriptions get them, and their delivery, as far as window and socket allow.

use std::{sync::Arc, time::Instant};

use super::{
    Shared,
    desk::Desk,
    retained::{RetainedMessage, RetainedStep, Stream},
};
use crate::{
    mapping::{Draft, Retain},
    mqtt::{Publish, RetainHandling, SubscribeFilter},
    session::{Message, Session, Taken},
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

    /// Hands retained messages to the session. False: there are more, and what the log brings waits behind them.
    pub(super) fn hand_out_retained(&mut self, session: &mut Session, now: Instant, room: usize) -> bool {
        if self.outbound.retained.is_empty() {
            return true;
        }
        let Some(retained) = self.shared.retained.clone() else {
            return true;
        };
        for _ in 0..STEPS {
            if !session.is_live() || session.outbox().len() >= room {
                return false;
            }
            let Some(stream) = self.outbound.retained.first(&self.outbound.pending) else {
                return true;
            };
            let (key, mailbox) = (stream.key, self.mailbox.clone());
            match stream.step(&retained, now, move || mailbox.ring()) {
                RetainedStep::Message(message) => {
                    let taken = give(&self.shared, stream, &message, session, now);
                    if !taken {
                        return false;
                    }
                    stream.taken();
                }
                RetainedStep::Pause => {}
                RetainedStep::Wait => return false,
                RetainedStep::End => self.outbound.retained.finish(key),
            }
        }
        self.mailbox.ring();
        false
    }
}

/// False: it must be tried again.
fn give(shared: &Arc<Shared>, stream: &Stream, message: &RetainedMessage, session: &mut Session, now: Instant) -> bool {
    let body = &message.body;
    let remaining = body
        .expires
        .map(|end| end.saturating_duration_since(now).as_secs_f64().ceil() as u32);
    let payload = body.payload();
    let taken = session.deliver(
        &Message {
            topic: &message.topic,
            payload: &payload,
            shared_properties: body.properties(),
            qos: body.qos,
            retain: true,
            retained: true,
            message_expiry_interval: remaining,
            publisher: body.client(),
            subscriptions: &[stream.key],
            token: 0,
        },
        now,
    );
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
    true
}
