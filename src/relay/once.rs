//! QoS 2 of stored sessions: exactly once from the client into Kafka, and from Kafka to the client. What is said when is the store's to
//! decide; here it is carried between it and the session.

use std::{hash::BuildHasher, num::NonZeroU16, sync::Arc, time::Instant};

use rustc_hash::FxBuildHasher;

use super::{
    answers::{refusal, unasked, waiter},
    burying::{Obstacle, produced, reserve, unmappable},
    dead_letters::HeldLetter,
    desk::Desk,
    hub::stored_source,
    inbound::{DRAFT, Placed, Wait, inbound, now_ms},
    retained::Job,
    routing::lacks_what_may_come,
    store::{Held, Letter, Order, Unsaid},
    tenancy::Publishing,
};
use crate::{
    mapping::{DeadLetter, Draft, Failure, Inbound, OnError, RuleId},
    mqtt::{PacketId, Publish, QoS, ReasonCode},
    ownership::MOST_RECORDS,
    session::{Answer, Session, Ticket},
    upstream::{AppendError, WriteOptions},
};

/// What becomes of a PUBLISH.
enum Made {
    Records(Vec<Held>),
    Answer(Answer),
    Wait(Wait),
    /// Its topic takes no retained messages.
    RetainDenied,
}

impl Desk {
    /// Whether a PUBLISH is the store's.
    pub(super) fn is_once(&self, publish: &Publish<'_>) -> bool {
        publish.qos == QoS::ExactlyOnce && self.tenancy.as_ref().is_some_and(|tenancy| tenancy.stored)
    }

    /// Makes the records of a PUBLISH, which has waited if it says when it `came`, and gives them to the store, all or none. They are acknowledged by Kafka whatever the rule asks for.
    pub(super) fn publish_once(
        &mut self,
        session: &mut Session,
        publish: &Publish<'_>,
        ticket: Ticket,
        (waited, came): (bool, Option<i64>),
        now: Instant,
    ) {
        let identity = self.identity();
        let now_ms = came.unwrap_or_else(now_ms);
        let (topic, client) = (session.resolved_topic(publish), session.client_id());
        let inbound = inbound(publish, topic, client, identity.as_deref(), now_ms);
        let made = DRAFT.with_borrow_mut(|draft| self.make(draft, &inbound, waited));
        match made {
            Made::Records(records) => self.give_to_store(session, publish, ticket, Ok(records)),
            Made::Answer(answer) => self.leave_out(session, publish, ticket, answer, now),
            Made::RetainDenied => session.retain_denied(now),
            Made::Wait(wait) => {
                self.block(Some(ticket), (0, 1), now_ms, wait, now);
            }
        }
    }

    /// Whether a PUBLISH would overtake one before it on its way into Kafka: QoS 2 of a stored session goes record by record, behind its pairs, all others in
    /// batches. Those of one topic keep their order, whatever their qualities of service.
    pub(super) fn is_overtaking(&self, session: &Session, publish: &Publish<'_>) -> bool {
        let Some(tenancy) = self.tenancy.as_ref().filter(|tenancy| tenancy.stored) else {
            return false;
        };
        if self.is_once(publish) {
            return self.awaited > 0;
        }
        let mut publishing = tenancy.publishing.values().peekable();
        publishing.peek().is_some() && {
            let topic = FxBuildHasher.hash_one(session.resolved_topic(publish));
            publishing.any(|other| other.topic == topic)
        }
    }

    /// What goes with a record into a batch, and whether this connection gets its receipt: of a stored session in any case.
    pub(super) fn waiter(&self, ticket: Option<Ticket>, rule: RuleId) -> (u64, bool) {
        let is_stored = self.tenancy.as_ref().is_some_and(|tenancy| tenancy.stored);
        match ticket {
            Some(ticket) => (waiter(ticket, rule), true),
            None => (unasked(rule), is_stored),
        }
    }

    /// Whether a will would overtake what its client has published before it, which is still in batches. One whose session is another's is theirs to send.
    pub(super) fn holds_will(&self) -> bool {
        let is_stored = self.tenancy.as_ref().is_some_and(|tenancy| tenancy.stored);
        let is_due = self.will.is_some() && !self.is_draining() && !self.mailbox.is_to_end();
        is_stored && is_due && self.awaited > 0
    }

    /// Its records, or the answer to one that makes none.
    fn give_to_store(&mut self, session: &Session, publish: &Publish<'_>, ticket: Ticket, records: Result<Vec<Held>, Answer>) {
        if let (Some(tenancy), Some(packet)) = (self.tenancy.as_deref_mut(), publish.packet_id) {
            let packet = packet.0.get();
            let left_out = records.as_ref().err().copied();
            let topic = FxBuildHasher.hash_one(session.resolved_topic(publish));
            tenancy.publishing.insert(packet, Publishing { ticket, topic, left_out });
            let records = records.unwrap_or_default();
            tenancy.order(Order::Publish(tenancy.id(), packet, records));
        }
    }

    /// Answers a PUBLISH that makes no record. A pair of it that is written down from before must go first, or the next message of that
    /// packet id would be taken for this one.
    pub(super) fn leave_out(&mut self, session: &mut Session, publish: &Publish<'_>, ticket: Ticket, answer: Answer, now: Instant) {
        match answer {
            Answer::Refused { .. } | Answer::Acked if self.is_known(publish) => self.give_to_store(session, publish, ticket, Err(answer)),
            answer => self.answer(session, ticket, answer, now),
        }
    }

    /// Whether pairs of a PUBLISH may be written down from before this connection.
    pub(super) fn is_known(&self, publish: &Publish<'_>) -> bool {
        let former = |packet: PacketId| {
            self.tenancy
                .as_ref()
                .is_some_and(|tenancy| tenancy.former.contains(&packet.0.get()))
        };
        self.is_once(publish) && publish.packet_id.is_some_and(former)
    }

    fn make(&mut self, draft: &mut Draft, inbound: &Inbound<'_>, waited: bool) -> Made {
        let shared = self.shared.clone();
        let routed = match shared.route(inbound, draft) {
            Ok(routed) => routed,
            Err(wait) => return Made::Wait(wait),
        };
        if !waited {
            self.count_runs(draft, inbound);
        }
        // Kafka may have it from before, and the client would send it as another one: the pair stays, and so does what is repeated.
        if self.is_known(inbound.publish) && lacks_what_may_come(routed, draft) {
            return Made::Answer(Answer::Unknown);
        }
        if let Err(none) = routed {
            return Made::Answer(self.no_route(none, inbound));
        }
        // One that was begun before the rule took none is completed, without being retained: else it would end each connection of its client.
        if shared.retain_denied(inbound.publish, draft) && !self.is_known(inbound.publish) {
            return Made::RetainDenied;
        }
        if !waited {
            self.count_skipped(draft);
        }
        let mut records = Vec::with_capacity(draft.len());
        for at in 0..draft.len() + draft.dead_letters().len() {
            let made = match draft.dead_letters().get(at.wrapping_sub(draft.len())) {
                Some(refusal) => self.make_letter(refusal.rule, None, inbound, unmappable(*refusal)),
                None => self.make_one(draft, at, inbound),
            };
            match made {
                Ok(held) => records.push(held),
                Err(Placed::Done(Answer::Acked)) => {}
                Err(Placed::Done(answer)) => return Made::Answer(answer),
                Err(Placed::Wait(wait)) => return Made::Wait(wait),
                Err(Placed::Awaited) => unreachable!("nothing is awaited yet"),
            }
        }
        if records.is_empty() {
            return Made::Answer(Answer::Acked);
        }
        let in_one = |held: &Held| records.iter().filter(|other| other.source == held.source).count();
        if records.iter().any(|held| in_one(held) > MOST_RECORDS) {
            shared.metrics.refused("too_many_records");
            return Made::Answer(Answer::Refused {
                reason: ReasonCode::ImplementationSpecificError,
                reason_string: Some("too_many_records"),
            });
        }
        for at in 0..draft.len() {
            let counters = &shared.rule_counters[draft.rule(at).0 as usize];
            counters.messages_in.inc();
            counters.bytes_in.inc_by(inbound.publish.payload.len() as u64);
        }
        Made::Records(records)
    }

    fn make_one(&mut self, draft: &Draft, at: usize, inbound: &Inbound<'_>) -> Result<Held, Placed> {
        let shared = self.shared.clone();
        let rule = shared.rules.rule(draft.rule(at));
        let (topic, partition) = match self.destination(draft, at, inbound) {
            Ok(found) => found,
            Err(obstacle) => return self.make_otherwise(obstacle, draft, at, inbound),
        };
        let options = WriteOptions {
            compression: rule.compression,
            ..WriteOptions::default()
        };
        let fields = draft.fields(at, &shared.rules, inbound);
        let retains = inbound.publish.retain && rule.keeps_retained();
        let letter = match rule
            .dead_letter
            .as_ref()
            .map(|_| reserve(&shared, &mut self.appender, (draft, at), inbound))
        {
            Some(Err(error)) => return self.make_otherwise(error.into(), draft, at, inbound),
            letter => letter.and_then(Result::ok),
        };
        match self.appender.single(&fields, options) {
            Ok(single) => Ok(Held {
                single: Unsaid::new(single),
                to: topic.partitions[partition].clone(),
                source: stored_source(&topic, topic.partitions[partition].index()),
                retained: retains.then(|| {
                    let mut memory = Vec::new();
                    let payload = shared.rules.payload_of_own(draft.rule(at), fields.value, inbound, &mut memory);
                    Arc::new(Job::copy(inbound.topic, &fields, payload, &topic, None))
                }),
                skip: (rule.on_error == OnError::Skip).then(|| shared.rule_counters[draft.rule(at).0 as usize].clone()),
                letter: letter.map(|(letter, reserved)| Unsaid::new(HeldLetter::new(letter, reserved))),
            }),
            Err(error) => {
                let error = letter.map_or(error, |(_, reserved)| self.appender.put_back(reserved, error));
                self.make_otherwise(error.into(), draft, at, inbound)
            }
        }
    }

    /// What the rule says of a record that met an obstacle.
    fn make_otherwise(&mut self, obstacle: Obstacle, draft: &Draft, at: usize, inbound: &Inbound<'_>) -> Result<Held, Placed> {
        let shared = self.shared.clone();
        let rule = shared.rules.rule(draft.rule(at));
        match obstacle {
            Obstacle::Wait(wait) => Err(Placed::Wait(wait)),
            Obstacle::Closed => Err(Placed::Done(Answer::Unknown)),
            Obstacle::Refused(reason, why) if rule.on_error == OnError::DeadLetter => {
                let topic = draft.kafka_topic(at, &shared.rules);
                self.make_letter(draft.rule(at), Some(topic), inbound, (reason, produced(why)))
            }
            Obstacle::Refused(reason, why) => Err(Placed::Done(self.refusal(draft.rule(at), reason, why))),
        }
    }

    /// A dead letter, which has a pair like any record.
    fn make_letter(
        &mut self,
        id: RuleId,
        kafka_topic: Option<&str>,
        inbound: &Inbound<'_>,
        (reason, failure): (ReasonCode, Failure),
    ) -> Result<Held, Placed> {
        let shared = self.shared.clone();
        let rule = shared.rules.rule(id);
        let (topic, partition) = match self.grave(rule, inbound.topic) {
            Ok(Some(grave)) => grave,
            Ok(None) => return Err(Placed::Done(self.refusal(id, reason, failure.why))),
            Err(wait) => return Err(Placed::Wait(wait)),
        };
        let letter = DeadLetter::copy(&shared.rules, id, inbound, kafka_topic);
        match self.appender.single(&letter.fields(failure), WriteOptions::default()) {
            Ok(single) => {
                shared.rule_counters[id.0 as usize].dead_letter(failure.why);
                Ok(Held {
                    single: Unsaid::new(single),
                    to: topic.partitions[partition].clone(),
                    source: stored_source(&topic, topic.partitions[partition].index()),
                    retained: None,
                    skip: None,
                    letter: None,
                })
            }
            Err(AppendError::MemoryFull) => Err(Placed::Wait(Wait::Memory)),
            Err(AppendError::Closed) => Err(Placed::Done(Answer::Unknown)),
            Err(AppendError::TooLarge | AppendError::NoPartition) => Err(Placed::Done(self.refusal(id, reason, failure.why))),
        }
    }

    /// What the store lets happen in the exchange of messages.
    pub(super) fn step(&mut self, session: &mut Session, letter: &Letter, now: Instant) {
        let Some(tenancy) = self.tenancy.as_deref_mut() else { return };
        match *letter {
            Letter::PubRec(packet) => {
                if let Some(Publishing { ticket, .. }) = tenancy.publishing.remove(&packet) {
                    self.answer(session, ticket, Answer::Acked, now);
                }
            }
            Letter::Refused(packet, code) => {
                tenancy.former.remove(&packet);
                if let Some(Publishing { ticket, left_out, .. }) = tenancy.publishing.remove(&packet) {
                    let answer = left_out.unwrap_or_else(|| refusal(code, &self.shared));
                    self.answer(session, ticket, answer, now);
                }
            }
            Letter::PubComp(packet) => {
                tenancy.former.remove(&packet);
                id(packet).into_iter().for_each(|id| session.complete(id, now));
            }
            Letter::Publish(packet) => id(packet).into_iter().for_each(|id| session.permit(id, now)),
            Letter::PubRel(packet) => id(packet).into_iter().for_each(|id| session.release(id, now)),
            _ => {}
        }
    }

    /// PUBREL or PUBREC of the client, for the store.
    pub(super) fn ask_store(&mut self, order: impl FnOnce(crate::ownership::ConnectionId) -> Order) {
        if let Some(tenancy) = &self.tenancy {
            tenancy.order(order(tenancy.id()));
        }
    }
}

/// A packet id of the store.
pub fn id(packet: u16) -> Option<PacketId> {
    NonZeroU16::new(packet).map(PacketId)
}
