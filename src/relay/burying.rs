//! Messages that cannot be stored where their rule wants them, at the desk of a connection: refused, passed over, or on their way to the
//! dead letter topic.

use std::sync::Arc;

use super::{
    Shared,
    desk::Desk,
    inbound::{Placed, Wait},
    routing::reason_of,
};
use crate::{
    mapping::{
        Acknowledge, DeadLetter, Draft, Failure, Inbound, NoRoute, OnError, Overflow, Refusal, Rule, RuleId, Stage, partition_for_key,
    },
    mqtt::{QoS, ReasonCode},
    session::{Answer, Ticket},
    upstream::{AppendError, Appender, Receipts, Reserved, Topic, TopicState, WriteOptions},
};

/// Why a record cannot go where its rule wants it.
#[derive(Debug)]
pub enum Obstacle {
    /// Not yet.
    Wait(Wait),
    /// Never.
    Refused(ReasonCode, &'static str),
    /// The client of Kafka was shut down.
    Closed,
}

impl From<AppendError> for Obstacle {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::MemoryFull => Obstacle::Wait(Wait::Memory),
            AppendError::TooLarge => Obstacle::Refused(ReasonCode::PacketTooLarge, "too_large"),
            AppendError::NoPartition => Obstacle::Refused(ReasonCode::ImplementationSpecificError, "no_such_partition"),
            AppendError::Closed => Obstacle::Closed,
        }
    }
}

/// A message that is kept beside its record.
pub(super) type Kept<'a> = (&'a Arc<Receipts>, u64);

impl Desk {
    /// Record `at` of a message, those of its dead letters behind the others.
    pub(super) fn place_any(&mut self, draft: &Draft, at: usize, inbound: &Inbound<'_>, ticket: Option<Ticket>) -> Placed {
        match draft.dead_letters().get(at.wrapping_sub(draft.len())) {
            Some(refusal) => self.bury(refusal.rule, None, inbound, ticket, unmappable(*refusal)),
            None => self.place(draft, at, inbound, ticket),
        }
    }

    /// A record that met an obstacle: the rule says what becomes of one that will never be stored.
    pub(super) fn hinder(&mut self, obstacle: Obstacle, draft: &Draft, at: usize, inbound: &Inbound<'_>, ticket: Option<Ticket>) -> Placed {
        let shared = self.shared.clone();
        let id = draft.rule(at);
        match obstacle {
            Obstacle::Wait(wait) => Placed::Wait(wait),
            Obstacle::Closed => Placed::Done(Answer::Unknown),
            Obstacle::Refused(reason, why) if shared.rules.rule(id).on_error == OnError::DeadLetter => {
                let topic = draft.kafka_topic(at, &shared.rules);
                self.bury(id, Some(topic), inbound, ticket, (reason, produced(why)))
            }
            Obstacle::Refused(reason, why) => Placed::Done(self.refusal(id, reason, why)),
        }
    }

    /// A record that will never be stored, and is no dead letter: the rule says whether the device is told.
    pub(super) fn refusal(&self, id: RuleId, reason: ReasonCode, why: &'static str) -> Answer {
        self.shared.metrics.refused(why);
        match self.shared.rules.rule(id).on_error {
            OnError::Reject | OnError::DeadLetter => Answer::Refused {
                reason,
                reason_string: Some(why),
            },
            OnError::Skip => {
                self.shared.rule_counters[id.0 as usize].dropped(why);
                Answer::Acked
            }
        }
    }

    /// Puts a message into the open batch of its dead letter topic.
    fn bury(
        &mut self,
        id: RuleId,
        kafka_topic: Option<&str>,
        inbound: &Inbound<'_>,
        ticket: Option<Ticket>,
        (reason, failure): (ReasonCode, Failure),
    ) -> Placed {
        let shared = self.shared.clone();
        let rule = shared.rules.rule(id);
        let letter = DeadLetter::copy(&shared.rules, id, inbound, kafka_topic);
        let (topic, partition) = match self.grave(rule, inbound.topic) {
            Ok(Some(grave)) => grave,
            Ok(None) => return Placed::Done(self.refusal(id, reason, failure.why)),
            Err(wait) => return Placed::Wait(wait),
        };
        let ticket = ticket.filter(|_| rule.acknowledge == Acknowledge::AfterKafka);
        let awaited = ticket.is_some();
        let (waiter, is_counted) = self.waiter(ticket, id);
        let waiter = Some((if is_counted { &self.receipts } else { &shared.lost }, waiter));
        let fields = letter.fields(failure);
        match self.appender.append(&topic, partition, &fields, WriteOptions::default(), waiter) {
            Ok(()) => {
                shared.rule_counters[id.0 as usize].dead_letter(failure.why);
                self.awaited += u32::from(is_counted);
                if awaited { Placed::Awaited } else { Placed::Done(Answer::Acked) }
            }
            Err(AppendError::MemoryFull) if inbound.publish.qos == QoS::AtMostOnce && rule.overflow == Overflow::Drop => {
                shared.rule_counters[id.0 as usize].dropped("memory_full");
                Placed::Done(Answer::Acked)
            }
            Err(AppendError::MemoryFull) => Placed::Wait(Wait::Memory),
            Err(AppendError::Closed) => Placed::Done(Answer::Unknown),
            Err(AppendError::TooLarge | AppendError::NoPartition) => Placed::Done(self.refusal(id, reason, failure.why)),
        }
    }

    /// Where the dead letters of a rule go that are of this MQTT topic; `None`: there is no such Kafka topic.
    pub(super) fn grave(&self, rule: &Rule, mqtt_topic: &str) -> Result<Option<(Arc<Topic>, usize)>, Wait> {
        let name = rule.dead_letter.as_deref().unwrap_or("");
        match self.shared.cluster.topic(name) {
            TopicState::Ready(topic) => {
                let partition = partition_for_key(mqtt_topic.as_bytes(), topic.partitions.len() as u32);
                Ok(Some((topic, partition as usize)))
            }
            TopicState::Unknown => Err(Wait::Topic(name.to_owned())),
            TopicState::Missing => {
                self.shared.missing.missing(name);
                Ok(None)
            }
        }
    }
}

/// Keeps a message beside its record, if the rule has a place for dead letters. `None`: it has none.
pub(super) fn keep<'s>(
    shared: &'s Shared,
    appender: &mut Appender,
    (draft, at): (&Draft, usize),
    inbound: &Inbound<'_>,
    waiter: Option<(&Arc<Receipts>, u64)>,
) -> Result<Option<Kept<'s>>, AppendError> {
    let (Some(letters), Some(_)) = (&shared.dead_letters, &shared.rules.rule(draft.rule(at)).dead_letter) else {
        return Ok(None);
    };
    let (letter, reserved) = reserve(shared, appender, (draft, at), inbound)?;
    Ok(Some(letters.keep(letter, reserved, waiter)))
}

/// A copy of a message, and memory for it.
pub(super) fn reserve(
    shared: &Shared,
    appender: &mut Appender,
    (draft, at): (&Draft, usize),
    inbound: &Inbound<'_>,
) -> Result<(DeadLetter, Reserved), AppendError> {
    let rules = &shared.rules;
    let letter = DeadLetter::copy(rules, draft.rule(at), inbound, Some(draft.kafka_topic(at, rules)));
    let reserved = appender.reserve(letter.weight())?;
    Ok((letter, reserved))
}

/// The record of a kept message was not taken; what must be waited for is that of both.
pub(super) fn forget(shared: &Shared, appender: &mut Appender, kept: Option<Kept<'_>>, error: AppendError) -> AppendError {
    let letters = shared.dead_letters.as_deref();
    let reserved = kept.zip(letters).and_then(|((_, number), letters)| letters.cancel(number));
    reserved.map_or(error, |reserved| appender.put_back(reserved, error))
}

/// What the rule could not map.
pub(super) fn unmappable(refusal: Refusal) -> (ReasonCode, Failure) {
    (reason_of(NoRoute::Refused(refusal)), Failure::from(refusal))
}

/// What could not go where its rule wanted it.
pub(super) fn produced(why: &'static str) -> Failure {
    Failure {
        stage: Stage::Produce,
        why,
    }
}
