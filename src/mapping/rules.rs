//! The compiled rules and how they are found.

use std::sync::Arc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::fault::Field;
use super::filter::Filter;
use super::inverse::Recover;
use super::prefixes::Prefixes;
use super::reader::Reader;
use super::record_template::Part;
use super::said::Said;
use super::schema::SchemaSpec;
use super::sources::KafkaTopics;
use super::spec::{Acknowledge, Direction, OnError, Overflow, PartitionSpec, Retain, Tombstones, Unmapped};
use super::tables::Table;
use super::template::{Captured, Piece, Template};
use super::transform::Conversion;
use super::trie::Trie;
use crate::kafka::{Acks, Compression, TopicPattern};
use crate::mqtt::QoS;

/// A rule's place in the file, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A dense number of a constant Kafka topic: its place in `RuleSet::slots`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicSlot(pub u32);

/// One compiled rule.
#[derive(Debug)]
pub struct Rule {
    /// Its unique name.
    pub name: String,
    /// Which way it maps.
    pub direction: Direction,
    /// Whether it only makes copies.
    pub also: bool,
    /// Highest QoS for subscribers, and that of foreign records.
    pub qos: QoS,
    /// Retained messages.
    pub retain: Retain,
    /// When a PUBLISH is acknowledged.
    pub acknowledge: Acknowledge,
    /// QoS 0 and full memory.
    pub overflow: Overflow,
    /// What becomes of a refused message.
    pub on_error: OnError,
    /// The Kafka topic of what cannot be stored; with `OnError::DeadLetter`, and only then.
    pub dead_letter: Option<String>,
    /// What becomes of its topics the other way round, if no rule maps them; `None`: what the set says.
    pub(super) unmapped: Option<Unmapped>,
    /// How the partition is found.
    pub partition: PartitionSpec,
    /// Null values and empty payloads.
    pub tombstones: Tombstones,
    /// Whether `mqtt.client` is written.
    pub client_header: bool,
    /// How many replicas must have a record before its PUBLISH is acknowledged.
    pub acks: Acks,
    /// `None`: the producer's.
    pub compression: Option<Compression>,
    /// A session that returns starts at most so far back; `None`: as far as the topic reaches.
    pub offline_retention: Option<Duration>,
    /// The schemas of its values; `None`: payloads and values are the same bytes.
    pub schema: Option<SchemaSpec>,
    pub(super) partition_template: Option<Template>,
    /// `None`: the time of receipt.
    pub(super) timestamp: Option<Template>,
    pub(super) topic: Template,
    pub(super) slot: Option<TopicSlot>,
    /// `None`: the MQTT topic.
    pub(super) key: Option<Template>,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) shape: Shape,
    /// `None`: payloads are not looked into.
    pub(super) conversion: Option<Box<Conversion>>,
    /// Its topics can be told from Kafka topic, key and the rule's headers, `mqtt.topic` aside. True of rules that only read.
    pub(super) has_inverse: bool,
    /// `mqtt.topic` is written on every record: the way back would not find the topic, or an earlier rule would take it.
    pub(super) topic_header: bool,
}

/// The MQTT side of a rule.
#[derive(Debug)]
pub(super) enum Shape {
    /// A filter; its captures are read back from these places.
    Filter(Filter, Vec<Recover>),
    /// The template of a subscribe rule, by level, and the captures of its Kafka topic.
    Record(Vec<Vec<Part>>, Filter),
}

impl Rule {
    /// Its Kafka topic, if it is always the same one.
    pub fn kafka_topic(&self) -> Option<&str> {
        self.topic.constant()
    }

    /// All that it may name.
    pub fn kafka_topics(&self) -> KafkaTopics {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            _ => "*".to_owned(),
        };
        match self.kafka_topic() {
            Some(topic) => KafkaTopics::One(topic.to_owned()),
            None => KafkaTopics::Like(TopicPattern::new(&self.topic.pieces.iter().map(piece).collect::<String>())),
        }
    }

    /// Kafka topics that its program may choose, beside its own.
    pub fn topics(&self) -> &[String] {
        self.conversion.as_ref().map_or(&[], |conversion| &conversion.topics)
    }

    /// Tables that its programs look into, by their names.
    pub fn tables(&self) -> &[(String, Arc<Table>)] {
        self.conversion.as_ref().map_or(&[], |conversion| &conversion.tables)
    }

    /// Whether its program for the way back looks into tables.
    pub fn looks_up_on_the_way_back(&self) -> bool {
        let program = self.conversion.as_ref().and_then(|conversion| conversion.back.as_ref());
        program.is_some_and(|program| program.mentions("lookup"))
    }

    /// Whether the program of the rule may give records keys of its own.
    pub(super) fn chooses_keys(&self) -> bool {
        let program = self.conversion.as_ref().and_then(|conversion| conversion.forth.as_ref());
        program.is_some_and(|program| program.makes_records && program.mentions("key"))
    }

    /// Whether its retained messages are kept: allowed, and there may be a subscriber who gets them.
    pub fn keeps_retained(&self) -> bool {
        self.retain == Retain::Allow && self.publishes() && self.delivers()
    }

    /// Whether it asks who a client is.
    pub(super) fn asks_identity(&self) -> bool {
        let program = self.conversion.as_ref().and_then(|conversion| conversion.forth.as_ref());
        self.fields_with_identity().next().is_some() || program.is_some_and(|program| program.mentions("$identity"))
    }

    /// Its templates with `{identity}`.
    pub(super) fn fields_with_identity(&self) -> impl Iterator<Item = Field> {
        let values = self.headers.iter().enumerate();
        let values = values.map(|(at, (_, value))| (Field::HeaderValue(at), Some(value)));
        let others = [
            (Field::KafkaKey, self.key.as_ref()),
            (Field::KafkaPartition, self.partition_template.as_ref()),
            (Field::KafkaTimestamp, self.timestamp.as_ref()),
        ];
        let asks = |template: &Template| template.pieces.contains(&Piece::Said(Said::Identity));
        let all = others.into_iter().chain(values);
        all.filter(move |(_, template)| template.is_some_and(asks)).map(|(field, _)| field)
    }

    /// Whether nothing tells where the holes of its Kafka topic end. Of rules that only read, they are parted by text.
    pub(super) fn names_freely(&self) -> bool {
        self.filter().is_some() && !self.topic.is_unambiguous(|_| false)
    }

    /// Whether devices publish by it.
    pub fn publishes(&self) -> bool {
        self.direction != Direction::Subscribe
    }

    /// Whether devices subscribe by it.
    pub fn delivers(&self) -> bool {
        self.direction != Direction::Publish && !self.also
    }

    pub(super) fn filter(&self) -> Option<&Filter> {
        match &self.shape {
            Shape::Filter(filter, _) => Some(filter),
            Shape::Record(..) => None,
        }
    }
}

/// All rules, compiled; immutable.
#[derive(Debug)]
pub struct RuleSet {
    pub(super) rules: Vec<Rule>,
    pub(super) trie: Trie,
    pub(super) ask_identity: bool,
    pub(super) slots: Vec<String>,
    /// The slot of a constant Kafka topic.
    pub(super) slot_of: FxHashMap<String, TopicSlot>,
    /// Delivering rules by slot, in order.
    pub(super) by_slot: Vec<Vec<u32>>,
    /// Delivering rules whose Kafka topic has holes, in order.
    pub(super) templated: Vec<u32>,
    pub(super) unmapped: Unmapped,
    /// Topics of rules that only read and have a word of their own for messages.
    pub(super) unmapped_topics: Trie,
}

impl RuleSet {
    /// The rule of an id that this set gave out.
    pub fn rule(&self, id: RuleId) -> &Rule {
        &self.rules[id.0 as usize]
    }

    /// The tables that programs of rules look into, each once.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        let mut known = FxHashSet::default();
        let all = self.rules.iter().flat_map(Rule::tables).map(|(_, table)| table);
        all.filter(|table| known.insert(Arc::as_ptr(table))).cloned().collect()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All rules in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RuleId, &Rule)> {
        self.rules.iter().enumerate().map(|(i, rule)| (RuleId(i as u32), rule))
    }

    /// What becomes of topics that no rule maps.
    pub fn unmapped(&self) -> Unmapped {
        self.unmapped
    }

    /// Whether some rule asks who a client is; otherwise `Inbound::identity` is not looked at.
    pub fn ask_identity(&self) -> bool {
        self.ask_identity
    }

    /// Whether some rule has a dead letter topic.
    pub fn has_dead_letters(&self) -> bool {
        self.rules.iter().any(|rule| rule.dead_letter.is_some())
    }

    /// Whether a PUBLISH with the retain flag may come at all.
    pub fn takes_retained(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.publishes() && !rule.also && rule.retain == Retain::Allow)
    }

    /// Whether some rule keeps retained messages.
    pub fn keeps_retained(&self) -> bool {
        self.rules.iter().any(Rule::keeps_retained)
    }

    /// The rule of a retained message of this MQTT topic whose record lies in the reader's Kafka topic.
    pub fn retained_rule(&self, reader: &Reader, topic: &str) -> Option<RuleId> {
        let takes = |id: &u32| {
            let rule = &self.rules[*id as usize];
            rule.keeps_retained() && rule.filter().is_some_and(|filter| filter.captures(topic).is_some())
        };
        reader.rules.iter().copied().find(takes).map(RuleId)
    }

    /// The slot of a Kafka topic that some rule names without holes.
    pub(super) fn slot(&self, kafka_topic: &str) -> Option<TopicSlot> {
        self.slot_of.get(kafka_topic).copied()
    }

    /// Delivering rules that may read this Kafka topic, in order.
    pub(super) fn readers_of(&self, kafka_topic: &str) -> Vec<u32> {
        let by_slot = self.slot(kafka_topic).map(|slot| &self.by_slot[slot.0 as usize]);
        let mut rules: Vec<u32> = by_slot.into_iter().flatten().copied().collect();
        rules.extend(self.templated.iter().filter(|&&id| self.may_name(id, kafka_topic)));
        rules.sort_unstable();
        rules
    }

    /// Whether some rule may read this Kafka topic; `forms` are those of the templated ones.
    pub(super) fn is_read(&self, kafka_topic: &str, forms: &Prefixes) -> bool {
        let by_slot = self.slot(kafka_topic).map(|slot| &self.by_slot[slot.0 as usize]);
        by_slot.is_some_and(|rules| !rules.is_empty()) || forms.of(kafka_topic).any(|id| self.may_name(id, kafka_topic))
    }

    /// Whether the topic template of this rule may be filled to this name.
    fn may_name(&self, id: u32, kafka_topic: &str) -> bool {
        let rule = &self.rules[id as usize];
        rule.names_freely() || rule.topic.read_back(kafka_topic, &mut Captured::default())
    }
}
