//! SUBSCRIBE and UNSUBSCRIBE (§3.8 to §3.11).
//!
//! A subscription is entered when its SUBSCRIBE comes and delivers from its answer on. UNSUBSCRIBE takes it out at once:
//! what is still on its way under its key is turned away.

use std::time::Instant;

use super::table::{Options, Requested, Subscription, SubscriptionKey};
use super::{Output, Phase, Session, Ticket};
use crate::mqtt::{Packet, ReasonCode, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe};

impl Session {
    /// All subscriptions, also those that wait for an answer, ordered by key.
    pub fn subscriptions(&self) -> &[Subscription] {
        self.subscriptions.all()
    }

    /// What became of the filters of a SUBSCRIBE or UNSUBSCRIBE, in the packet's order; empty once it is answered.
    pub fn requested(&self, ticket: Ticket) -> &[Requested] {
        self.subscriptions.requested(ticket)
    }

    /// How many filters of an unanswered SUBSCRIBE are beyond [`Settings::subscriptions_maximum`]: those are refused with 0x97, and
    /// [`Session::requested`] tells nothing of them.
    ///
    /// [`Settings::subscriptions_maximum`]: super::Settings::subscriptions_maximum
    pub fn beyond(&self, ticket: Ticket) -> usize {
        self.subscriptions.beyond(ticket)
    }

    /// The options of a SUBSCRIBE's filters as they were asked for, beside [`Session::requested`].
    pub fn asked_options(&self, ticket: Ticket) -> &[Options] {
        self.subscriptions.asked_options(ticket)
    }

    /// Notes that a SUBSCRIBE will be answered with a grant. False: its options are no more what is asked for, since a later SUBSCRIBE for
    /// the same filter was granted, or an UNSUBSCRIBE has come.
    pub fn grant(&mut self, key: SubscriptionKey, ticket: Ticket) -> bool {
        self.subscriptions.grant(key, ticket)
    }

    /// SUBSCRIBE of the client.
    pub(super) fn subscribe(&mut self, subscribe: &Subscribe<'_>, now: Instant) {
        if self.subscriptions.is_busy() {
            return self.end(ReasonCode::MessageRateTooHigh, "too many unanswered SUBSCRIBEs", now);
        }
        // [MQTT-3.8.3-4]
        if subscribe
            .filters
            .iter()
            .any(|filter| filter.no_local && filter.filter.starts_with("$share/"))
        {
            return self.end(ReasonCode::ProtocolError, "no local on a shared subscription", now);
        }
        let maximum = self.settings.subscriptions_maximum;
        // What one packet may ask for is bounded as well: a filter of one byte a quarter of a million times would cost far more than its
        // packet, each time it is looked for and for as long as it waits. Of those beyond there is only their number.
        let asked = &subscribe.filters[..subscribe.filters.len().min(maximum)];
        let filters = asked.iter().map(|filter| match self.settings.topic_fits(filter.filter) {
            true => Ok(filter.filter),
            false => Err(ReasonCode::TopicFilterInvalid),
        });
        let requested = self.subscriptions.request(filters, maximum);
        let options = asked.iter().map(|filter| options(filter, subscribe.subscription_id)).collect();
        let beyond = subscribe.filters.len() - asked.len();
        let ticket = self.subscriptions.push(subscribe.packet_id, requested, Some(options), beyond);
        self.outputs.push_back(Output::Subscribe { ticket });
    }

    /// Answers a SUBSCRIBE: one reason for each filter, `Success`, `GrantedQoS1` or `GrantedQoS2` or an error; a missing one counts as
    /// 0x80. What is granted never exceeds what was asked for. Subscriptions deliver from here on. Unknown tickets are ignored.
    pub fn answer_subscribe(&mut self, ticket: Ticket, answers: &[ReasonCode], now: Instant) {
        if self.phase != Phase::Live {
            return;
        }
        let Some(pending) = self.subscriptions.take_pending(ticket, true) else {
            return;
        };
        let answers = answers.iter().copied().chain(std::iter::repeat(ReasonCode::UnspecifiedError));
        let filters = pending.requested.iter().zip(&pending.options).zip(answers);
        let reasons = filters
            .map(|((requested, options), answer)| self.subscriptions.decide(ticket, *requested, *options, answer))
            .chain(std::iter::repeat_n(ReasonCode::QuotaExceeded, pending.beyond))
            .collect();
        self.subscriptions.forget_refused();
        let suback = SubAck {
            packet_id: pending.packet_id,
            reasons,
            reason_string: None,
            user: Default::default(),
        };
        self.send_or_end(&Packet::SubAck(suback), now);
    }

    /// UNSUBSCRIBE of the client.
    pub(super) fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>, now: Instant) {
        if self.subscriptions.is_busy() {
            return self.end(ReasonCode::MessageRateTooHigh, "too many unanswered UNSUBSCRIBEs", now);
        }
        // UNSUBACK has no word for it; nobody needs as many.
        if unsubscribe.filters.len() > self.settings.subscriptions_maximum {
            return self.end(ReasonCode::QuotaExceeded, "more filters than a client may have subscriptions", now);
        }
        let requested = self.remove(unsubscribe);
        let ticket = self.subscriptions.push(unsubscribe.packet_id, requested, None, 0);
        self.outputs.push_back(Output::Unsubscribe { ticket });
    }

    fn remove(&mut self, unsubscribe: &Unsubscribe<'_>) -> Vec<Requested> {
        let mut requested = self.subscriptions.remove(unsubscribe.filters.iter().copied());
        if let Some(stored) = &mut self.stored {
            for (filter, requested) in unsubscribe.filters.iter().zip(&mut requested) {
                if stored.forget_denied(filter) && *requested == Requested::NotFound {
                    *requested = Requested::Denied;
                }
            }
        }
        requested
    }

    /// Answers an UNSUBSCRIBE, when nothing more is delivered for its filters. Unknown tickets are ignored.
    pub fn answer_unsubscribe(&mut self, ticket: Ticket, now: Instant) {
        if self.phase != Phase::Live {
            return;
        }
        let Some(pending) = self.subscriptions.take_pending(ticket, false) else {
            return;
        };
        let reason = |requested: &Requested| match requested {
            Requested::Removed { .. } | Requested::Denied => ReasonCode::Success,
            _ => ReasonCode::NoSubscriptionExisted,
        };
        let reasons = pending.requested.iter().map(reason).collect();
        let unsuback = UnsubAck {
            packet_id: pending.packet_id,
            reasons,
            reason_string: None,
            user: Default::default(),
        };
        self.send_or_end(&Packet::UnsubAck(unsuback), now);
    }
}

fn options(filter: &SubscribeFilter<'_>, subscription_id: Option<u32>) -> Options {
    Options {
        qos: filter.qos,
        no_local: filter.no_local,
        retain_as_published: filter.retain_as_published,
        retain_handling: filter.retain_handling,
        subscription_id,
    }
}
