//! The first half of the way back: whose record this is and what its MQTT topic is. Nothing is encoded for it and
//! nothing allocated, since most records are wanted by nobody.

use super::deliver::Stored;
use super::filter::is_topic_name;
use super::inverse::by_inverse;
use super::own_headers::{Place, Raw};
use super::reader::Reader;
use super::record_template::by_template;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::skip::{Skip, SkipReason};
use super::spec::Tombstones;
use super::template::Piece;

/// To ask so many rules one by one is quicker than to walk the trie of all.
const FEW: usize = 3;

/// Memory in which topics are made and rules gathered; used again.
#[derive(Debug, Default)]
pub struct LocateScratch {
    topic: String,
    found: Vec<u32>,
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// The rule that takes it.
    pub rule: RuleId,
    /// A legal topic name.
    pub topic: &'a str,
    /// The Kafka topic in which it lies; of a retained message that of the record that it was kept with.
    pub kafka_topic: &'a str,
}

impl RuleSet {
    /// Finds the topic of a record: that of `mqtt.topic` if a rule could have written it, else that of the first rule
    /// that can make one. The record becomes a message by `message`, if somebody wants that topic.
    ///
    /// # Errors
    /// Why the record is not for subscribers.
    pub fn locate<'s, 'r: 's, H>(
        &self,
        reader: &'s Reader,
        partition: i32,
        record: &Stored<'r, H>,
        scratch: &'s mut LocateScratch,
    ) -> Result<Located<'s>, Skip>
    where
        H: Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + Clone,
    {
        let place = Place::read(record.headers.clone());
        if place.copy {
            let (rule, reason) = (None, SkipReason::Copy);
            return Err(Skip { rule, reason });
        }
        let named = place.topic.and_then(|topic| std::str::from_utf8(topic).ok());
        let writer = named.and_then(|topic| self.writer(reader, topic, record.key, &place, &mut scratch.found));
        let (id, topic) = match (writer, named) {
            (Some(id), Some(topic)) => (id, topic),
            _ => (self.maker(reader, partition, record, &place, scratch)?, scratch.topic.as_str()),
        };
        let rule = RuleId(id);
        if record.value.is_none() && self.rule(rule).tombstones == Tombstones::Skip {
            let (rule, reason) = (Some(rule), SkipReason::Tombstone);
            return Err(Skip { rule, reason });
        }
        let kafka_topic = &reader.topic;
        Ok(Located { rule, topic, kafka_topic })
    }

    /// The first rule that writes a message of this topic with exactly this Kafka topic and key.
    pub(super) fn writer(&self, reader: &Reader, topic: &str, key: Option<&[u8]>, place: &Place<'_>, found: &mut Vec<u32>) -> Option<u32> {
        if !is_topic_name(topic) {
            return None;
        }
        let could = |id: &u32| could_have_made(&self.rules[*id as usize], reader, topic, key, place);
        // All that could are readers of the Kafka topic.
        if reader.rules.len() <= FEW {
            return reader.rules.iter().copied().find(could);
        }
        self.filters_of(topic, found);
        found.iter().copied().find(could)
    }

    /// Rules whose filter matches a topic, in order.
    fn filters_of(&self, topic: &str, found: &mut Vec<u32>) {
        found.clear();
        self.trie.matches(topic, found);
        if found.len() > 1 {
            found.sort_unstable();
        }
    }

    /// The first rule that can make a topic of the record, as of one that another program wrote.
    fn maker<'a, H>(
        &self,
        reader: &Reader,
        partition: i32,
        record: &Stored<'a, H>,
        place: &Place<'a>,
        scratch: &mut LocateScratch,
    ) -> Result<u32, Skip>
    where
        H: Iterator<Item = Raw<'a>> + Clone,
    {
        let LocateScratch { topic, found } = scratch;
        found.clear();
        if reader.whole_key
            && let Some(Ok(key)) = record.key.map(std::str::from_utf8)
        {
            self.filters_of(key, found);
            found.retain(|&id| {
                let rule = &self.rules[id as usize];
                rule.key.is_none() && could_have_made(rule, reader, key, record.key, place)
            });
        }
        if let Some(id) = reader
            .candidates(record.key, found)
            .find(|&id| self.make(id, reader, partition, record, topic).is_ok())
        {
            return Ok(id);
        }
        let Some(&first) = reader.rules.first() else {
            let (rule, reason) = (None, SkipReason::NoRule);
            return Err(Skip { rule, reason });
        };
        // None can. The reason is that of the first, the one the record is most likely meant for.
        let made = self.make(first, reader, partition, record, topic);
        Err(Skip {
            rule: Some(RuleId(first)),
            reason: made.err().unwrap_or(SkipReason::OtherForm),
        })
    }

    /// Makes the topic that this rule gives the record.
    pub(super) fn make<'a, H>(
        &self,
        id: u32,
        reader: &Reader,
        partition: i32,
        record: &Stored<'a, H>,
        out: &mut String,
    ) -> Result<(), SkipReason>
    where
        H: Iterator<Item = Raw<'a>> + Clone,
    {
        out.clear();
        let rule = &self.rules[id as usize];
        match &rule.shape {
            Shape::Filter(filter, recovers) => by_inverse(rule, filter, recovers, reader, record, out)?,
            Shape::Record(levels, _) => by_template(levels, (&reader.topic, &rule.topic), partition, record, out)?,
        }
        if is_topic_name(out) {
            Ok(())
        } else {
            Err(SkipReason::IllegalTopic)
        }
    }
}

/// Whether this rule delivers, and maps `topic` to exactly this Kafka topic and key.
fn could_have_made(rule: &Rule, reader: &Reader, topic: &str, key: Option<&[u8]>, place: &Place<'_>) -> bool {
    let (Some(filter), Some(key), true) = (rule.filter(), key, rule.delivers()) else {
        return false;
    };
    let Some(captured) = filter.captures(topic) else { return false };
    reader.is_target(rule, |template, name| template.gives(&captured, b"", name))
        && match &rule.key {
            _ if rule.chooses_keys() => true,
            None => key == topic.as_bytes(),
            // A key of what the message said beside its topic cannot be checked; nor can one with the client id where the rule leaves
            // that out of the headers.
            Some(template) if !template.is_told_by_records() => true,
            Some(template) => match place.client {
                Some(client) => template.gives(&captured, client, key),
                None => template.pieces.contains(&Piece::Client) || template.gives(&captured, b"", key),
            },
        }
}
