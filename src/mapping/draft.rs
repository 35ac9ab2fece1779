//! The way in: a PUBLISH becomes records. The draft holds them until they are in a batch, and is used again.

use std::ops::Range;

use super::block::UserPairs;
use super::filter::illegal_kafka_topic;
use super::partition::partition_for_key;
use super::rules::{Rule, RuleId, RuleSet, TopicSlot};
use super::spec::{OnError, PartitionSpec, Unmapped};
use super::template::{Captured, Piece, Template};
use crate::kafka::RecordFields;
use crate::mqtt::{PayloadFormat, Publish};

/// A PUBLISH as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    /// The packet.
    pub publish: &'a Publish<'a>,
    /// Its topic, an alias resolved.
    pub topic: &'a str,
    /// The client id.
    pub client: &'a str,
    /// Time of receipt, milliseconds since the epoch.
    pub now_ms: i64,
}

/// Why a message makes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No rule matches; what then is to be done.
    Unmapped(Unmapped),
    /// A rule matches, but no record can be made of it.
    Refused(Refusal),
}

/// A rule that could not make a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which.
    pub rule: RuleId,
    /// Why.
    pub reason: RefusalReason,
}

/// Why no record can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The topic template filled with the captures is no legal Kafka topic name.
    IllegalKafkaTopic,
    /// The rule names a partition that the topic does not have.
    NoSuchPartition,
}

impl RefusalReason {
    /// For metrics and reason strings.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::IllegalKafkaTopic => "illegal Kafka topic name",
            RefusalReason::NoSuchPartition => "no such partition",
        }
    }
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

#[derive(Clone, Debug)]
enum Text {
    /// The MQTT topic, or a part of it.
    Topic(Range<usize>),
    /// In the draft's own text.
    Own(Range<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Fixed(&'static str),
    Rule(usize),
}

#[derive(Clone, Debug)]
enum Value {
    Text(Text),
    Client,
    RuleName,
    Fixed(&'static str),
    ContentType,
    ResponseTopic,
    Correlation,
}

#[derive(Debug)]
struct Record {
    rule: u32,
    topic: Range<usize>,
    key: Text,
    headers: Range<usize>,
    escaped: Range<usize>,
}

/// Records of one message, and the memory they are made in. Keep one for each connection: it allocates only to grow.
#[derive(Debug, Default)]
pub struct Draft {
    text: String,
    found: Vec<u32>,
    records: Vec<Record>,
    headers: Vec<(Name, Value)>,
    escaped: Vec<Range<usize>>,
    skipped: Vec<Refusal>,
}

impl Draft {
    /// An empty draft.
    pub fn new() -> Self {
        Draft::default()
    }

    fn clear(&mut self) {
        self.text.clear();
        self.found.clear();
        self.records.clear();
        self.headers.clear();
        self.escaped.clear();
        self.skipped.clear();
    }

    /// How many records the message makes; 0 only if every rule refused it with `on_error: skip`.
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

    /// The rule that record `i` is of.
    pub fn rule(&self, i: usize) -> RuleId {
        RuleId(self.records[i].rule)
    }

    /// The Kafka topic of record `i`; a legal name.
    pub fn kafka_topic<'a>(&'a self, i: usize, set: &'a RuleSet) -> &'a str {
        match self.topic_slot(i, set) {
            Some(slot) => &set.slots[slot.0 as usize],
            None => &self.text[self.records[i].topic.clone()],
        }
    }

    /// The slot of record `i`'s Kafka topic, if the rule names it without holes.
    pub fn topic_slot(&self, i: usize, set: &RuleSet) -> Option<TopicSlot> {
        set.rule(self.rule(i)).slot
    }

    /// The partition of record `i` in a topic that has `count` of them (> 0).
    pub fn partition(&self, i: usize, set: &RuleSet, inbound: &Inbound<'_>, count: u32) -> Result<PartitionChoice, Refusal> {
        let id = self.rule(i);
        match set.rule(id).partition {
            PartitionSpec::Hash => Ok(PartitionChoice::Index(partition_for_key(self.key(i, inbound).as_bytes(), count))),
            PartitionSpec::RoundRobin => Ok(PartitionChoice::RoundRobin),
            PartitionSpec::Sticky => Ok(PartitionChoice::Sticky),
            PartitionSpec::Number(n) if n < count => Ok(PartitionChoice::Index(n)),
            PartitionSpec::Number(_) => Err(Refusal {
                rule: id,
                reason: RefusalReason::NoSuchPartition,
            }),
        }
    }

    fn key<'a>(&'a self, i: usize, inbound: &Inbound<'a>) -> &'a str {
        self.read(&self.records[i].key, inbound)
    }

    fn read<'a>(&'a self, text: &Text, inbound: &Inbound<'a>) -> &'a str {
        match text {
            Text::Topic(range) => &inbound.topic[range.clone()],
            Text::Own(range) => &self.text[range.clone()],
        }
    }

    /// Record `i`, ready for a batch. `inbound` must be the one that was routed.
    pub fn fields<'a>(&'a self, i: usize, set: &'a RuleSet, inbound: &Inbound<'a>) -> RecordFields<'a, Headers<'a>> {
        let record = &self.records[i];
        let headers = Headers {
            draft: self,
            inbound: *inbound,
            rule: &set.rules[record.rule as usize],
            own: self.headers[record.headers.clone()].iter(),
            user: UserPairs(inbound.publish.properties.user.block),
            escaped: self.escaped[record.escaped.clone()].iter(),
        };
        RecordFields {
            timestamp: inbound.now_ms,
            key: Some(self.key(i, inbound).as_bytes()),
            value: Some(inbound.publish.payload),
            headers,
        }
    }

    fn render(&mut self, template: &Template, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Text {
        if let [Piece::Capture(i)] = template.pieces.as_slice()
            && let Some(part) = captured[usize::from(*i)]
        {
            // A capture is a part of the topic: its distance from the topic's end tells where.
            let start = part.as_ptr().addr() - inbound.topic.as_ptr().addr();
            return Text::Topic(start..start + part.len());
        }
        let start = self.text.len();
        // A rest of no level counts as empty; such a record carries `mqtt.topic`.
        for piece in &template.pieces {
            self.text.push_str(match piece {
                Piece::Text(text) => text,
                Piece::Capture(i) => captured[usize::from(*i)].unwrap_or(""),
                Piece::Client => inbound.client,
            });
        }
        Text::Own(start..self.text.len())
    }

    fn add(&mut self, id: u32, rule: &Rule, inbound: &Inbound<'_>) -> Result<(), RefusalReason> {
        let filter = rule.filter().expect("only rules with a filter are in the trie");
        let captured = filter.captures(inbound.topic).expect("the trie found it");
        let start = self.text.len();
        if rule.slot.is_none() {
            for piece in &rule.topic.pieces {
                match piece {
                    Piece::Text(text) => self.text.push_str(text),
                    Piece::Capture(i) => self.text.push_str(captured[usize::from(*i)].unwrap_or("")),
                    Piece::Client => {}
                }
            }
            if illegal_kafka_topic(&self.text[start..]).is_some() {
                return Err(RefusalReason::IllegalKafkaTopic);
            }
        }
        let topic = start..self.text.len();
        let key = match &rule.key {
            Some(key) => self.render(key, &captured, inbound),
            None => Text::Topic(0..inbound.topic.len()),
        };
        let rest_missing = captured[..filter.captures.len()].iter().any(Option::is_none);
        let headers = self.headers.len();
        self.own_headers(rule, inbound, rest_missing);
        for (i, (_, value)) in rule.headers.iter().enumerate() {
            let value = self.render(value, &captured, inbound);
            self.headers.push((Name::Rule(i), Value::Text(value)));
        }
        let escaped = self.escaped.len();
        for (name, _) in UserPairs(inbound.publish.properties.user.block).filter(|(name, _)| must_escape(name, rule)) {
            let start = self.text.len();
            self.text.push_str("mqtt.user.");
            self.text.push_str(name);
            self.escaped.push(start..self.text.len());
        }
        self.records.push(Record {
            rule: id,
            topic,
            key,
            headers: headers..self.headers.len(),
            escaped: escaped..self.escaped.len(),
        });
        Ok(())
    }

    fn own_headers(&mut self, rule: &Rule, inbound: &Inbound<'_>, rest_missing: bool) {
        let publish = inbound.publish;
        let properties = &publish.properties;
        if rule.topic_header || rest_missing {
            self.headers
                .push((Name::Fixed("mqtt.topic"), Value::Text(Text::Topic(0..inbound.topic.len()))));
        }
        if rule.client_header {
            self.headers.push((Name::Fixed("mqtt.client"), Value::Client));
        }
        // Without the header a record is read with the rule's QoS.
        if publish.qos != rule.qos {
            self.headers
                .push((Name::Fixed("mqtt.qos"), Value::Fixed(["0", "1", "2"][publish.qos as usize])));
        }
        if publish.retain {
            self.headers.push((Name::Fixed("mqtt.retain"), Value::Fixed("1")));
        }
        if let Some(seconds) = properties.message_expiry_interval {
            let start = self.text.len();
            push_decimal(&mut self.text, seconds);
            self.headers
                .push((Name::Fixed("mqtt.expiry"), Value::Text(Text::Own(start..self.text.len()))));
        }
        if properties.content_type.is_some() {
            self.headers.push((Name::Fixed("mqtt.content-type"), Value::ContentType));
        }
        if let Some(format) = properties.payload_format {
            let value = if format == PayloadFormat::Utf8 { "1" } else { "0" };
            self.headers.push((Name::Fixed("mqtt.payload-format"), Value::Fixed(value)));
        }
        if properties.response_topic.is_some() {
            self.headers.push((Name::Fixed("mqtt.response-topic"), Value::ResponseTopic));
        }
        if properties.correlation_data.is_some() {
            self.headers.push((Name::Fixed("mqtt.correlation-data"), Value::Correlation));
        }
        if rule.also {
            self.headers.push((Name::Fixed("mqtt.copy"), Value::RuleName));
        }
    }
}

/// A user property that would pass for a header of the proxy or of the rule.
fn must_escape(name: &str, rule: &Rule) -> bool {
    name.starts_with("mqtt.") || rule.headers.iter().any(|(own, _)| own == name)
}

fn push_decimal(out: &mut String, number: u32) {
    use std::fmt::Write;
    write!(out, "{number}").expect("a String takes all");
}

impl RuleSet {
    /// Finds the rules of a message and drafts its records: that of the first ordinary rule, then the copies.
    pub fn route(&self, inbound: &Inbound<'_>, draft: &mut Draft) -> Result<(), NoRoute> {
        draft.clear();
        let mut found = std::mem::take(&mut draft.found);
        self.trie.matches(inbound.topic, &mut found);
        found.sort_unstable();
        let ordinary = found.iter().copied().find(|&id| !self.rules[id as usize].also);
        let copies = found.iter().copied().filter(|&id| self.rules[id as usize].also);
        let mut outcome = if found.is_empty() {
            Err(NoRoute::Unmapped(self.unmapped))
        } else {
            Ok(())
        };
        for id in ordinary.into_iter().chain(copies) {
            let rule = &self.rules[id as usize];
            if let Err(reason) = draft.add(id, rule, inbound) {
                let refusal = Refusal { rule: RuleId(id), reason };
                if rule.on_error == OnError::Reject {
                    outcome = Err(NoRoute::Refused(refusal));
                    break;
                }
                draft.skipped.push(refusal);
            }
        }
        draft.found = found;
        outcome
    }
}

/// Headers of one record: the proxy's own, the rule's, then the user properties.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    draft: &'a Draft,
    inbound: Inbound<'a>,
    rule: &'a Rule,
    own: std::slice::Iter<'a, (Name, Value)>,
    user: UserPairs<'a>,
    escaped: std::slice::Iter<'a, Range<usize>>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = crate::kafka::Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((name, value)) = self.own.next() else {
            let (name, value) = self.user.next()?;
            let escaped = must_escape(name, self.rule).then(|| self.escaped.next()).flatten();
            let name = escaped.map_or(name, |range| &self.draft.text[range.clone()]);
            return Some((name, Some(value.as_bytes())));
        };
        let name = match name {
            Name::Fixed(name) => name,
            Name::Rule(i) => self.rule.headers[*i].0.as_str(),
        };
        let properties = &self.inbound.publish.properties;
        let value = match value {
            Value::Text(text) => self.draft.read(text, &self.inbound).as_bytes(),
            Value::Client => self.inbound.client.as_bytes(),
            Value::RuleName => self.rule.name.as_bytes(),
            Value::Fixed(text) => text.as_bytes(),
            Value::ContentType => properties.content_type.unwrap_or("").as_bytes(),
            Value::ResponseTopic => properties.response_topic.unwrap_or("").as_bytes(),
            Value::Correlation => properties.correlation_data.unwrap_or(&[]),
        };
        Some((name, Some(value)))
    }
}
