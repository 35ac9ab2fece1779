//! `kafka.topics`: the two topics in which the proxy keeps its own state; and `retained`, the memory for what one of them holds.

use crate::mapping::{RuleSet, illegal_kafka_topic};
use crate::relay::StateTopics;

use super::tree::Node;
use super::walk::{Keys, Section, Walk};

const TOPICS: Keys = Keys {
    known: &["sessions", "retained", "create", "partitions", "replication"],
    later: &[],
};

const RETAINED: Keys = Keys {
    known: &["memory"],
    later: &[],
};

/// Memory for retained messages, in bytes: by default, and what may be set.
const MEMORY: u64 = 256 << 20;
const MEMORY_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 40;

/// Partitions of one state topic. Each is read by every instance.
const MOST_PARTITIONS: u64 = 1_000;
/// Replicas, far beyond what anybody runs.
const MOST_REPLICAS: u64 = 15;

impl Walk<'_> {
    /// `kafka.topics`.
    pub(super) fn state_topics(&mut self, node: &Node) -> StateTopics {
        let mut topics = StateTopics::default();
        let Some(section) = self.section(node, "kafka.topics", &TOPICS) else {
            return topics;
        };
        let sessions = self.topic_name(&section, "sessions");
        let retained = self.topic_name(&section, "retained");
        let create = self.optional(&section, "create").and_then(|n| self.flag(n, "kafka.topics.create"));
        let partitions = self
            .optional(&section, "partitions")
            .and_then(|n| self.number(n, "kafka.topics.partitions", 1..=MOST_PARTITIONS));
        let replication = self
            .optional(&section, "replication")
            .and_then(|n| self.number(n, "kafka.topics.replication", 1..=MOST_REPLICAS));
        for (topic, name) in [(&mut topics.sessions, sessions), (&mut topics.retained, retained)] {
            topic.name = name.unwrap_or(std::mem::take(&mut topic.name));
            topic.create = create.unwrap_or(topic.create);
            topic.partitions = partitions.and_then(|n| n.try_into().ok()).unwrap_or(topic.partitions);
            topic.replication = replication.and_then(|n| n.try_into().ok()).unwrap_or(topic.replication);
        }
        if topics.sessions.name == topics.retained.name {
            self.fault(
                section.place,
                "`kafka.topics.sessions` and `retained` are the same topic",
                "give each a topic of its own",
            );
        }
        topics
    }

    /// `retained.memory`, in bytes.
    pub(super) fn retained(&mut self, top: &Section<'_>) -> usize {
        let section = self.optional(top, "retained").and_then(|n| self.section(n, "retained", &RETAINED));
        let memory = section
            .and_then(|section| self.optional(&section, "memory").cloned())
            .and_then(|n| self.size(&n, "retained.memory", MEMORY_RANGE));
        usize::try_from(memory.unwrap_or(MEMORY)).unwrap_or(usize::MAX)
    }

    fn topic_name(&mut self, section: &Section<'_>, key: &str) -> Option<String> {
        let node = self.optional(section, key)?;
        self.parsed(node, &section.path(key), |text| match illegal_kafka_topic(text) {
            None => Ok(text.to_owned()),
            Some((_, why)) => Err((
                format!("is no name of a Kafka topic: {why}"),
                "write up to 249 letters, digits, `.`, `_` and `-`".to_owned(),
            )),
        })
    }

    /// No rule may name a state topic: what devices publish would be taken for the proxy's own state.
    pub(super) fn keep_apart(&mut self, top: &Section<'_>, topics: &StateTopics, rules: &RuleSet) {
        let place = top.get("rules").map_or(top.place, |n| n.place);
        for (_, rule) in rules.iter() {
            let named = [rule.kafka_topic(), rule.dead_letter.as_deref()];
            let own = [&topics.sessions, &topics.retained];
            if let Some(topic) = own.into_iter().find(|own| named.contains(&Some(&own.name))) {
                self.fault(
                    place,
                    format!("rule `{}` names the state topic `{}`", rule.name, topic.name),
                    "give the rule another topic, or the state another one in `kafka.topics`",
                );
            }
        }
    }
}
