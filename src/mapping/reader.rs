//! Who reads a Kafka topic: its delivering rules, in order, and the few of them that a key allows.

use rustc_hash::FxHashMap;

use super::inverse::Recover;
use super::rules::{Rule, RuleId, RuleSet, Shape, TopicSlot};
use super::template::Template;

/// A Kafka topic with the rules that read it; made once for a topic.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) topic: String,
    pub(super) slot: Option<TopicSlot>,
    /// All of them, in order.
    pub(super) rules: Vec<u32>,
    /// Whether some write the MQTT topic as the key: those are found by walking the key.
    pub(super) whole_key: bool,
    /// Those that write one key only. The rule file chooses these keys, so the fast hash is safe.
    by_key: FxHashMap<Box<[u8]>, Vec<u32>>,
    /// Those that may want any key, so each is tried: keys with holes, templates of subscribe rules. Most keys have
    /// one form, so the first takes the record; where the forms differ, a try ends at the first byte that differs.
    any_key: Vec<u32>,
}

impl Reader {
    /// Whether no rule reads this topic.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// All that read it, in order.
    pub fn rules(&self) -> impl Iterator<Item = RuleId> + '_ {
        self.rules.iter().map(|id| RuleId(*id))
    }

    /// Rules that may make a topic of a record with this key, in order; `whole` are those whose filter the key matches.
    pub(super) fn candidates<'a>(&'a self, key: Option<&[u8]>, whole: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let mut lists: [&[u32]; 3] = match key {
            Some(key) => [whole, self.by_key.get(key).map_or(&[], Vec::as_slice), &self.any_key],
            // Without a key no rule can be ruled out by it.
            None => [&[], &[], &self.rules],
        };
        std::iter::from_fn(move || {
            let least = lists.iter().filter_map(|list| list.first()).min().copied()?;
            for list in &mut lists {
                *list = list.strip_prefix(&[least]).unwrap_or(list);
            }
            Some(least)
        })
    }

    /// Whether the rule writes to this topic for a message with these captures.
    pub(super) fn is_target(&self, rule: &Rule, gives: impl FnOnce(&Template, &[u8]) -> bool) -> bool {
        match rule.slot {
            Some(slot) => Some(slot) == self.slot,
            None => gives(&rule.topic, self.topic.as_bytes()),
        }
    }
}

impl RuleSet {
    /// Which rules read a Kafka topic. Ask once for a topic, not for a record.
    pub fn reader(&self, kafka_topic: &str) -> Reader {
        let mut reader = Reader {
            topic: kafka_topic.to_owned(),
            slot: self.slot(kafka_topic),
            rules: self.readers_of(kafka_topic),
            whole_key: false,
            by_key: FxHashMap::default(),
            any_key: Vec::new(),
        };
        for &id in &reader.rules {
            let rule = &self.rules[id as usize];
            let constant = rule.key.as_ref().and_then(Template::constant);
            match (&rule.shape, constant) {
                (Shape::Filter(_, recovers), _) if recovers.contains(&Recover::WholeKey) => reader.whole_key = true,
                (Shape::Filter(..), Some(key)) => reader.by_key.entry(key.as_bytes().into()).or_default().push(id),
                _ => reader.any_key.push(id),
            }
        }
        reader
    }
}
