//! The way in: a PUBLISH becomes records. The draft holds them until they are in a batch, and is used again.

use std::ops::Range;

use super::filter::illegal_kafka_topic;
use super::headers::{Headers, Name, Value, must_escape};
use super::partition::partition_for_key;
use super::route::{Refusal, RefusalReason};
use super::rules::{Rule, RuleId, RuleSet, TopicSlot};
use super::said::time_of;
use super::spec::{PartitionSpec, Tombstones};
use super::template::{Captured, Piece, Template};
use super::transform::Ran;
use crate::kafka::{Header, RecordFields};
use crate::mqtt::Publish;

/// Milliseconds that a timestamp may be ahead of the clock: as much as Kafka allows by default (`message.timestamp.after.max.ms`). It
/// would keep a segment of the log for as long.
const MOST_AHEAD: i64 = 3_600_000;

/// A PUBLISH as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The packet.
    pub publish: &'a Publish<'a>,
    /// Its topic, an alias resolved.
    pub topic: &'a str,
    /// The client id.
    pub client: &'a str,
    /// Who the client was recognised as, if as anybody and if the rules ask.
    pub identity: Option<&'a str>,
    /// Time of receipt, milliseconds since the epoch.
    pub now_ms: i64,
}

/// Where a record goes within its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionChoice {
    /// This one.
    Index(u32),
    /// The one whose batch is open; the caller remembers it.
    Sticky,
    /// The next; the caller counts.
    RoundRobin,
}

/// Bytes of memory for values that are kept from one message to the next.
const MOST_KEPT: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(super) enum Text {
    /// The MQTT topic, or a part of it.
    Topic(Range<usize>),
    /// In the draft's own text.
    Own(Range<usize>),
}

/// What a record has as its value.
#[derive(Clone, Debug)]
pub(super) enum RecordValue {
    /// The payload.
    Payload,
    /// What the rule's conversion or schema has made of it, in the draft's values.
    Own(Range<usize>),
    /// Null.
    Null,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    rule: u32,
    topic: Range<usize>,
    /// Place of the Kafka topic among those that the rule's program may choose, if it chose one.
    pub(super) chosen: Option<usize>,
    pub(super) key: Text,
    /// What the rule's template made.
    partition: Option<u32>,
    timestamp: i64,
    pub(super) headers: Range<usize>,
    escaped: Range<usize>,
    pub(super) value: RecordValue,
}

impl Record {
    /// The rule that it is of.
    pub(super) fn rule(&self) -> RuleId {
        RuleId(self.rule)
    }
}

/// Records of one message, and the memory they are made in. Keep one for each connection: it allocates only to grow.
#[derive(Debug, Default)]
pub struct Draft {
    pub(super) text: String,
    /// Values that conversions made.
    pub(super) values: Vec<u8>,
    pub(super) found: Vec<u32>,
    pub(super) records: Vec<Record>,
    pub(super) headers: Vec<(Name, Value)>,
    escaped: Vec<Range<usize>>,
    pub(super) skipped: Vec<Refusal>,
    pub(super) dead_letters: Vec<Refusal>,
    pub(super) ran: Vec<Ran>,
    /// What a conversion said that failed.
    pub(super) trouble: Option<String>,
    /// Without a schema at hand a value stays what it is: for those who explain.
    pub(super) lenient: bool,
}

impl Draft {
    /// An empty draft.
    pub fn new() -> Self {
        Draft::default()
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
        self.found.clear();
        self.records.clear();
        self.headers.clear();
        self.escaped.clear();
        self.skipped.clear();
        self.dead_letters.clear();
        self.ran.clear();
        self.trouble = None;
        self.values.shrink_to(MOST_KEPT);
    }

    /// How many records the message makes, without dead letters; 0 only if every rule refused it with `on_error: skip` or `dead_letter`, or
    /// its program made nothing of it.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no record is to be written.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Rules that refused the message with `on_error: skip`: to be counted.
    pub fn skipped(&self) -> &[Refusal] {
        &self.skipped
    }

    /// Rules that refused the message and have a dead letter topic for it.
    pub fn dead_letters(&self) -> &[Refusal] {
        &self.dead_letters
    }

    /// Runs of conversions, also of those that failed: to be counted.
    pub fn ran(&self) -> &[Ran] {
        &self.ran
    }

    /// What the conversion said that failed last, for people.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The rule that record `i` is of.
    pub fn rule(&self, i: usize) -> RuleId {
        RuleId(self.records[i].rule)
    }

    /// The rule that says what becomes of the retain flag: the ordinary one, if it makes a record. That is the first then.
    pub fn ordinary<'s>(&self, set: &'s RuleSet) -> Option<&'s Rule> {
        let first = self.records.first()?;
        Some(set.rule(RuleId(first.rule))).filter(|rule| !rule.also)
    }

    /// The Kafka topic of record `i`; a legal name.
    pub fn kafka_topic<'a>(&'a self, i: usize, set: &'a RuleSet) -> &'a str {
        let rule = set.rule(self.rule(i));
        match (self.records[i].chosen, rule.slot) {
            (Some(chosen), _) => &rule.topics()[chosen],
            (None, Some(slot)) => &set.slots[slot.0 as usize],
            (None, None) => &self.text[self.records[i].topic.clone()],
        }
    }

    /// The slot of record `i`'s Kafka topic, if the rule names it without holes and its program chose no other.
    pub fn topic_slot(&self, i: usize, set: &RuleSet) -> Option<TopicSlot> {
        set.rule(self.rule(i)).slot.filter(|_| self.records[i].chosen.is_none())
    }

    /// The partition of record `i` in a topic that has `count` of them (> 0).
    pub fn partition(&self, i: usize, set: &RuleSet, inbound: &Inbound<'_>, count: u32) -> Result<PartitionChoice, Refusal> {
        let id = self.rule(i);
        let made = self.records[i].partition;
        match set.rule(id).partition {
            PartitionSpec::Hash => Ok(PartitionChoice::Index(partition_for_key(self.key(i, inbound).as_bytes(), count))),
            PartitionSpec::RoundRobin => Ok(PartitionChoice::RoundRobin),
            PartitionSpec::Sticky => Ok(PartitionChoice::Sticky),
            PartitionSpec::Number(n) if n < count => Ok(PartitionChoice::Index(n)),
            PartitionSpec::Template(_) if made.is_some_and(|n| n < count) => Ok(PartitionChoice::Index(made.expect("it is some"))),
            PartitionSpec::Number(_) | PartitionSpec::Template(_) => Err(Refusal {
                rule: id,
                reason: RefusalReason::NoSuchPartition,
            }),
        }
    }

    /// The Kafka topic that the rule's template made; empty if it has no holes.
    pub(super) fn text_of(&self, record: &Record) -> &str {
        &self.text[record.topic.clone()]
    }

    pub(super) fn key<'a>(&'a self, i: usize, inbound: &Inbound<'a>) -> &'a str {
        self.read(&self.records[i].key, inbound)
    }

    pub(super) fn read<'a>(&'a self, text: &Text, inbound: &Inbound<'a>) -> &'a str {
        match text {
            Text::Topic(range) => &inbound.topic[range.clone()],
            Text::Own(range) => &self.text[range.clone()],
        }
    }

    /// Record `i`, ready for a batch. `inbound` must be the one that was routed.
    pub fn fields<'a>(
        &'a self,
        i: usize,
        set: &'a RuleSet,
        inbound: &Inbound<'a>,
    ) -> RecordFields<'a, impl Iterator<Item = Header<'a>> + Clone + use<'a>> {
        let record = &self.records[i];
        let headers = Headers {
            draft: self,
            inbound: *inbound,
            rule: &set.rules[record.rule as usize],
            own: self.headers[record.headers.clone()].iter(),
            user: inbound.publish.properties.user.iter(),
            escaped: self.escaped[record.escaped.clone()].iter(),
        };
        RecordFields {
            timestamp: record.timestamp,
            key: Some(self.key(i, inbound).as_bytes()),
            value: match &record.value {
                RecordValue::Payload => Some(inbound.publish.payload),
                RecordValue::Own(range) => Some(&self.values[range.clone()]),
                RecordValue::Null => None,
            },
            headers,
        }
    }

    fn render(&mut self, template: &Template, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Result<Text, RefusalReason> {
        if let [Piece::Capture(i)] = template.pieces.as_slice()
            && let Some(part) = captured[usize::from(*i)]
        {
            // A capture is a part of the topic: its distance from the topic's end tells where.
            let start = part.as_ptr().addr() - inbound.topic.as_ptr().addr();
            return Ok(Text::Topic(start..start + part.len()));
        }
        let start = self.text.len();
        // A rest of no level counts as empty; such a record carries `mqtt.topic`.
        for piece in &template.pieces {
            match piece {
                Piece::Text(text) => self.text.push_str(text),
                Piece::Capture(i) => self.text.push_str(captured[usize::from(*i)].unwrap_or("")),
                Piece::Client => self.text.push_str(inbound.client),
                Piece::Said(said) => said.append(inbound, &mut self.text)?,
            }
        }
        Ok(Text::Own(start..self.text.len()))
    }

    fn time(&mut self, template: &Template, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Result<i64, RefusalReason> {
        let made = self.render(template, captured, inbound)?;
        let time = time_of(self.read(&made, inbound)).filter(|time| *time <= inbound.now_ms.saturating_add(MOST_AHEAD));
        time.ok_or(RefusalReason::NotATimestamp)
    }

    fn partition_number(&mut self, template: &Template, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Result<u32, RefusalReason> {
        let made = self.render(template, captured, inbound)?;
        self.read(&made, inbound).parse().map_err(|_| RefusalReason::NotAPartition)
    }

    /// Writes the values of the records from `from` on as the rule's schema says, if it has one.
    fn obey_schema(&mut self, rule: &Rule, from: usize, inbound: &Inbound<'_>) -> Result<(), RefusalReason> {
        let Some(schema) = &rule.schema else { return Ok(()) };
        for at in from..self.records.len() {
            // What a program made lies where the record's value is written to.
            let made;
            let json = match &self.records[at].value {
                RecordValue::Own(range) => {
                    made = self.values[range.clone()].to_vec();
                    &made
                }
                RecordValue::Payload | RecordValue::Null => inbound.publish.payload,
            };
            let start = self.values.len();
            let value = schema.parse(json);
            match value.and_then(|value| schema.write(value.as_ref(), &mut self.values)) {
                Ok(true) => self.records[at].value = RecordValue::Own(start..self.values.len()),
                Ok(false) => self.records[at].value = RecordValue::Null,
                Err(unwritable) if self.lenient && unwritable.reason == RefusalReason::NoSchema => {}
                Err(unwritable) => {
                    self.records.truncate(from);
                    self.trouble = unwritable.misfit.map(|misfit| misfit.to_string());
                    return Err(unwritable.reason);
                }
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, id: u32, rule: &Rule, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Result<(), RefusalReason> {
        let filter = rule.filter().expect("only rules with a filter capture anything");
        let start = self.text.len();
        if rule.slot.is_none() {
            for piece in &rule.topic.pieces {
                match piece {
                    Piece::Text(text) => self.text.push_str(text),
                    Piece::Capture(i) => self.text.push_str(captured[usize::from(*i)].unwrap_or("")),
                    // The compiler of rules keeps these out of Kafka topics.
                    Piece::Client | Piece::Said(_) => {}
                }
            }
            if illegal_kafka_topic(&self.text[start..]).is_some() {
                return Err(RefusalReason::IllegalKafkaTopic);
            }
        }
        let topic = start..self.text.len();
        let key = match &rule.key {
            Some(key) => self.render(key, captured, inbound)?,
            None => Text::Topic(0..inbound.topic.len()),
        };
        let partition = match &rule.partition_template {
            Some(template) => Some(self.partition_number(template, captured, inbound)?),
            None => None,
        };
        let timestamp = match &rule.timestamp {
            Some(template) => self.time(template, captured, inbound)?,
            None => inbound.now_ms,
        };
        // A rest of no level and an empty one leave the same in key and headers, unless the key is the whole topic.
        let rest_missing = rule.key.is_some() && captured[..filter.captures.len()].iter().any(Option::is_none);
        let headers = self.headers.len();
        self.own_headers(rule, inbound, rest_missing);
        for (i, (_, value)) in rule.headers.iter().enumerate() {
            let value = self.render(value, captured, inbound)?;
            self.headers.push((Name::Rule(i), Value::Text(value)));
        }
        let escaped = self.escaped.len();
        for (name, _) in inbound.publish.properties.user.iter().filter(|(name, _)| must_escape(name, rule)) {
            let start = self.text.len();
            self.text.push_str("mqtt.user.");
            self.text.push_str(name);
            self.escaped.push(start..self.text.len());
        }
        let is_empty = inbound.publish.payload.is_empty();
        let is_tombstone = is_empty && rule.tombstones == Tombstones::Both;
        let record = Record {
            rule: id,
            topic,
            chosen: None,
            key,
            partition,
            timestamp,
            headers: headers..self.headers.len(),
            escaped: escaped..self.escaped.len(),
            value: if is_tombstone { RecordValue::Null } else { RecordValue::Payload },
        };
        let before = self.records.len();
        match &rule.conversion {
            // An empty payload clears what is retained of its topic, and nothing else can be said of it.
            Some(conversion) if conversion.converts() && !is_tombstone && !(inbound.publish.retain && is_empty) => {
                self.convert(conversion, rule, &record, inbound, filter, captured)?;
            }
            _ => self.records.push(record),
        }
        self.obey_schema(rule, before, inbound)
    }
}
