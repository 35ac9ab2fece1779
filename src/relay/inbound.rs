//! From a PUBLISH to the records of the cluster's open batches.
//!
//! The payload is copied once, from the socket's buffer into the batch. A PUBLISH that cannot go on (no memory in the
//! producer, a topic whose partitions are not known yet) stays at the front of the input, and the socket is not read:
//! back-pressure ends at the device, nothing is queued.

use std::{
    cell::RefCell,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    Shared,
    burying::{Obstacle, forget, keep},
    desk::Desk,
    retained::Job,
};
use crate::{
    mapping::{Acknowledge, Draft, Inbound, Overflow, Rule, RuleId},
    mqtt::{PayloadFormat, Publish, QoS, ReasonCode},
    session::{Answer, Session, Ticket},
    upstream::{AppendError, Topic, TopicState, WriteOptions},
};

/// Why a message is refused whose payload is no text, although it says so.
const NOT_UTF8: &str = "not_utf8";
/// Why a record is refused that would go to the proxy's own state.
const STATE_TOPIC: &str = "state_topic";

thread_local! {
    /// The scratch of routing: used and given back within one packet.
    pub(super) static DRAFT: RefCell<Draft> = RefCell::default();
}

/// Why a PUBLISH waits at the front of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For memory of the producer.
    Memory,
    /// For retained messages before it to be stored, until there is room for one of so many bytes.
    Retained(usize),
    /// For the partitions of a Kafka topic.
    Topic(String),
    /// For messages before it that go into Kafka by the other way, of stored sessions' QoS 2 or of all others. Nothing is begun of the message.
    Order,
    /// For a lookup table that is not read yet, while so many are not. Nothing is begun of the message.
    Table(usize),
}

/// A PUBLISH that waits.
#[derive(Debug)]
pub struct Blocked {
    /// Its ticket, if somebody waits for an answer.
    pub(super) ticket: Option<Ticket>,
    /// Records of it that are in the cluster's hands already.
    pub(super) done: usize,
    /// Records that it makes.
    pub(super) records: usize,
    /// Whether these are what it came to; before that it is entered nowhere.
    begun: bool,
    /// When it came, in milliseconds since the epoch: what it makes may depend on that, and stays the same.
    pub(super) now_ms: i64,
    /// What it waits for.
    pub wait: Wait,
    /// When waiting ends with an unknown outcome.
    pub until: Instant,
}

/// What became of one record.
pub enum Placed {
    /// In a batch; a receipt follows.
    Awaited,
    /// Nobody waits, or the rule does not ask for it.
    Done(Answer),
    /// It cannot go on yet.
    Wait(Wait),
}

impl Desk {
    /// Takes a PUBLISH the session has just admitted.
    pub(super) fn publish(&mut self, session: &mut Session, publish: &Publish<'_>, ticket: Option<Ticket>, now: Instant) {
        self.unanswered += u32::from(ticket.is_some());
        let objection = if !self.may_publish(session, publish) {
            Some(self.unauthorized(session.version()))
        } else {
            self.format_objection(publish)
        };
        match (objection, ticket) {
            (None, ticket) => self.go_on(session, publish, ticket, None, now),
            (Some(answer), Some(ticket)) => self.leave_out(session, publish, ticket, answer, now),
            (Some(answer), None) => Self::refused_at_qos_0(session, &answer, now),
        }
    }

    /// What a message is answered that is not what its payload format indicator says (§3.3.2.3.2). One that was begun before is completed.
    fn format_objection(&self, publish: &Publish<'_>) -> Option<Answer> {
        if self.shared.has_right_format(publish) || self.is_known(publish) {
            return None;
        }
        self.shared.metrics.refused(NOT_UTF8);
        Some(Answer::Refused {
            reason: ReasonCode::PayloadFormatInvalid,
            reason_string: Some(NOT_UTF8),
        })
    }

    /// Tries a PUBLISH again that waited.
    pub(super) fn resume(&mut self, session: &mut Session, publish: &Publish<'_>, now: Instant) {
        let Some(blocked) = self.blocked.take() else { return };
        let waited = (blocked.begun.then_some((blocked.done, blocked.records)), blocked.now_ms);
        self.go_on(session, publish, blocked.ticket, Some(waited), now);
        match &mut self.blocked {
            Some(again) if now < blocked.until => again.until = blocked.until,
            Some(_) => self.give_up(session, now),
            None => {}
        }
    }

    /// Waited too long: whether Kafka will ever have it cannot be said. Records that were placed still get their receipts,
    /// and the answer leaves with the last of them.
    fn give_up(&mut self, session: &mut Session, now: Instant) {
        let Some(blocked) = self.blocked.take() else { return };
        self.shared.metrics.refused("kafka_unavailable");
        let left = blocked.records - blocked.done;
        if let Some((ticket, answer)) = blocked.ticket.and_then(|ticket| self.will_not_be(ticket, left)) {
            self.answer(session, ticket, answer, now);
        }
    }

    /// So many records of a PUBLISH will not be placed. Its answer, if all others have their receipts.
    fn will_not_be(&mut self, ticket: Ticket, left: usize) -> Option<(Ticket, Answer)> {
        (0..left).filter_map(|_| self.answers.complete(ticket, Answer::Unknown)).last()
    }

    pub(super) fn answer(&mut self, session: &mut Session, ticket: Ticket, answer: Answer, now: Instant) {
        self.unanswered -= 1;
        session.answer(ticket, answer, now);
    }

    /// Routes a PUBLISH and appends its records; if it has waited, from the record that it had come to, and of how many, if it had come to records.
    fn go_on(
        &mut self,
        session: &mut Session,
        publish: &Publish<'_>,
        ticket: Option<Ticket>,
        waited: Option<(Option<(usize, usize)>, i64)>,
        now: Instant,
    ) {
        let (waited, came) = waited.unzip();
        let waited = waited.flatten();
        if waited.is_none() && self.is_overtaking(session, publish) {
            return self.block(ticket, (0, 1), came.unwrap_or_else(now_ms), Wait::Order, now);
        }
        if let Some(ticket) = ticket.filter(|_| self.is_once(publish)) {
            return self.publish_once(session, publish, ticket, (waited.is_some(), came), now);
        }
        let now_ms = came.unwrap_or_else(now_ms);
        let answer = DRAFT.with_borrow_mut(|draft| {
            let shared = self.shared.clone();
            let identity = self.identity();
            let (topic, client) = (session.resolved_topic(publish), session.client_id());
            let inbound = inbound(publish, topic, client, identity.as_deref(), now_ms);
            let routed = match shared.route(&inbound, draft) {
                Ok(routed) => routed,
                Err(wait) => {
                    self.block(ticket, waited.unwrap_or((0, 1)), now_ms, wait, now);
                    self.blocked.iter_mut().for_each(|blocked| blocked.begun = waited.is_some());
                    return None;
                }
            };
            let records = if routed.is_ok() {
                draft.len() + draft.dead_letters().len()
            } else {
                0
            };
            match waited {
                None => self.count_runs(draft, &inbound),
                // A table or a schema has changed meanwhile, and with it what the message makes: what is placed has its receipts, the rest
                // is not known any more. Its client sends it again.
                Some((done, began_with)) if records != began_with => {
                    let ticket = ticket?;
                    return self.will_not_be(ticket, began_with - done).map(|(_, answer)| answer);
                }
                Some(_) => {}
            }
            if let Err(none) = routed {
                return Some(self.no_route(none, &inbound));
            }
            if shared.retain_denied(publish, draft) {
                session.retain_denied(now);
                return None;
            }
            if waited.is_none() {
                self.enter(draft, ticket);
            }
            if records == 0 {
                return Some(Answer::Acked);
            }
            let done = waited.map_or(0, |(done, _)| done);
            self.place_rest(draft, (done, records), &inbound, ticket, now)
        });
        if let (Some(ticket), Some(answer)) = (ticket, answer) {
            self.answer(session, ticket, answer, now);
        }
    }

    /// Appends its records from this one on. Its answer, if that is known with the last of them.
    fn place_rest(
        &mut self,
        draft: &Draft,
        (mut done, records): (usize, usize),
        inbound: &Inbound<'_>,
        ticket: Option<Ticket>,
        now: Instant,
    ) -> Option<Answer> {
        let mut whole = None;
        while done < records {
            match self.place_any(draft, done, inbound, ticket) {
                Placed::Wait(wait) => {
                    self.block(ticket, (done, records), inbound.now_ms, wait, now);
                    return None;
                }
                Placed::Awaited => {}
                Placed::Done(answer) => whole = ticket.and_then(|ticket| self.answers.complete(ticket, answer)).or(whole),
            }
            done += 1;
        }
        whole.map(|(_, answer)| answer)
    }

    /// Leaves a PUBLISH at the front of the input.
    pub(super) fn block(&mut self, ticket: Option<Ticket>, (done, records): (usize, usize), now_ms: i64, wait: Wait, now: Instant) {
        let until = now + self.shared.settings.delivery_timeout;
        let begun = !matches!(wait, Wait::Table(_) | Wait::Order);
        self.blocked = Some(Box::new(Blocked {
            ticket,
            done,
            records,
            begun,
            now_ms,
            wait,
            until,
        }));
    }

    /// Puts one record into the open batch of its partition.
    pub(super) fn place(&mut self, draft: &Draft, at: usize, inbound: &Inbound<'_>, ticket: Option<Ticket>) -> Placed {
        let (topic, partition) = match self.destination(draft, at, inbound) {
            Ok(found) => found,
            Err(obstacle) => return self.hinder(obstacle, draft, at, inbound, ticket),
        };
        match self.append(draft, at, inbound, ticket, (&topic, partition)) {
            Ok(placed) => placed,
            Err(AppendError::MemoryFull) if may_drop(self.shared.rules.rule(draft.rule(at)), inbound) => {
                self.shared.rule_counters[draft.rule(at).0 as usize].dropped("memory_full");
                Placed::Done(Answer::Acked)
            }
            Err(error) => self.hinder(error.into(), draft, at, inbound, ticket),
        }
    }

    fn append(
        &mut self,
        draft: &Draft,
        at: usize,
        inbound: &Inbound<'_>,
        ticket: Option<Ticket>,
        (topic, partition): (&Arc<Topic>, usize),
    ) -> Result<Placed, AppendError> {
        let shared = &self.shared;
        let rules = &shared.rules;
        let id = draft.rule(at);
        let rule = rules.rule(id);
        let ticket = ticket.filter(|_| rule.acknowledge == Acknowledge::AfterKafka);
        let awaited = ticket.is_some();
        let (waiter, is_counted) = self.waiter(ticket, id);
        let waiter = Some((if is_counted { &self.receipts } else { &shared.lost }, waiter));
        let kept = keep(shared, &mut self.appender, (draft, at), inbound, waiter)?;
        let waiter = kept.or(waiter);
        let options = WriteOptions {
            acks: rule.acks,
            compression: rule.compression,
        };
        let fields = draft.fields(at, rules, inbound);
        // A copy of it is kept until its offset is known: then it is written once more, and only then acknowledged.
        let retained = shared.retained.as_ref().filter(|_| inbound.publish.retain && rule.keeps_retained());
        let begun = retained.map(|retained| {
            let mut memory = Vec::new();
            let payload = rules.payload_of_own(id, fields.value, inbound, &mut memory);
            let letter = shared.dead_letters.as_ref().zip(kept.map(|(_, number)| number));
            let job = Job::copy(inbound.topic, &fields, payload, topic, waiter).beside(letter);
            (retained, retained.begin(job))
        });
        let waiter = match &begun {
            Some((_, Err(weight))) => {
                forget(shared, &mut self.appender, kept, AppendError::MemoryFull);
                return if may_drop(rule, inbound) {
                    Err(AppendError::MemoryFull)
                } else {
                    Ok(Placed::Wait(Wait::Retained(*weight)))
                };
            }
            Some((_, Ok(waiter))) => Some(*waiter),
            None => waiter,
        };
        let appended = self.appender.append(topic, partition, &fields, options, waiter);
        if let (Err(_), Some((retained, Ok((_, number))))) = (appended, begun) {
            retained.cancel(number);
        }
        match appended {
            Ok(()) => {
                let counters = &shared.rule_counters[id.0 as usize];
                counters.messages_in.inc();
                counters.bytes_in.inc_by(inbound.publish.payload.len() as u64);
                self.awaited += u32::from(is_counted);
                Ok(if awaited { Placed::Awaited } else { Placed::Done(Answer::Acked) })
            }
            Err(error) => Err(forget(shared, &mut self.appender, kept, error)),
        }
    }

    /// The topic and partition of a record, if it can go there now.
    pub(super) fn destination(&self, draft: &Draft, at: usize, inbound: &Inbound<'_>) -> Result<(Arc<Topic>, usize), Obstacle> {
        let rules = &self.shared.rules;
        let id = draft.rule(at);
        let refused = |why| Obstacle::Refused(ReasonCode::ImplementationSpecificError, why);
        let name = draft.kafka_topic(at, rules);
        if self.shared.is_state_topic(name) {
            return Err(refused(STATE_TOPIC));
        }
        let topic = match self.shared.cluster.topic(name) {
            TopicState::Ready(topic) => topic,
            TopicState::Unknown => return Err(Obstacle::Wait(Wait::Topic(name.to_owned()))),
            TopicState::Missing => {
                self.shared.missing.missing(name);
                return Err(refused("no_such_topic"));
            }
        };
        let count = topic.partitions.len();
        match draft.partition(at, rules, inbound, count as u32) {
            Ok(choice) => {
                let partition = self
                    .shared
                    .spread
                    .partition(choice, (id.0 as usize, name), inbound.publish.payload.len(), count);
                Ok((topic, partition))
            }
            Err(refusal) => Err(refused(refusal.reason.as_str())),
        }
    }

    /// The proxy's own state is nobody's to write, whatever a topic puts into a rule's Kafka topic.
    pub(super) fn refuse_state_topic(&self, id: RuleId) -> Answer {
        self.refusal(id, ReasonCode::ImplementationSpecificError, STATE_TOPIC)
    }

    /// What is done once for a PUBLISH, also if its first record waits.
    fn enter(&mut self, draft: &Draft, ticket: Option<Ticket>) {
        self.count_skipped(draft);
        if let Some(ticket) = ticket {
            self.answers.expect(ticket, draft.len() + draft.dead_letters().len());
        }
    }
}

impl Shared {
    /// Whether the payload of a message, or of a will, is what its payload format indicator says, as far as that is to be checked.
    pub(super) fn has_right_format(&self, publish: &Publish<'_>) -> bool {
        let is_text = publish.properties.payload_format == Some(PayloadFormat::Utf8);
        !self.settings.payload_format_check || !is_text || std::str::from_utf8(publish.payload).is_ok()
    }
}

/// Whether a message may be given up while memory is full.
fn may_drop(rule: &Rule, inbound: &Inbound<'_>) -> bool {
    inbound.publish.qos == QoS::AtMostOnce && rule.overflow == Overflow::Drop
}

/// What the rules are told of a PUBLISH, or of a will, that came at `now_ms`.
pub(super) fn inbound<'a>(
    publish: &'a Publish<'a>,
    topic: &'a str,
    client: &'a str,
    identity: Option<&'a str>,
    now_ms: i64,
) -> Inbound<'a> {
    Inbound {
        publish,
        topic,
        client,
        identity,
        now_ms,
    }
}

/// Time of receipt in milliseconds since the epoch, the timestamp of records.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
