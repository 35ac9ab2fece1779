//! `kafka.topics`: the two topics in which the proxy keeps its own state; and `retained`, the memory for what one of them holds.

use crate::mapping::illegal_kafka_topic;
use crate::relay::StateTopics;

use super::rule_places::child;
use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk, written};

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
    pub(super) fn keep_apart(&mut self, top: &Section<'_>, topics: &StateTopics) {
        let rules = match top.get("rules").map(|n| &n.kind) {
            Some(Kind::List(rules)) => rules.as_slice(),
            _ => &[],
        };
        let own = [topics.sessions.name.as_str(), topics.retained.name.as_str()];
        for rule in rules {
            for node in topics_of(rule) {
                // What cannot be read is told where the rules are read.
                let Some(Ok(named)) = self.filled(node) else { continue };
                if !own.contains(&named.as_str()) {
                    continue;
                }
                self.fault(
                    node.place,
                    format!("the rule names the state topic {}", written(node)),
                    "give the rule another topic, or the state another one in `kafka.topics`",
                );
            }
        }
    }
}

/// The Kafka topics that a rule names.
fn topics_of(rule: &Node) -> Vec<&Node> {
    let kafka = child(rule, "kafka");
    let chosen = match kafka.and_then(|n| child(n, "topics")).map(|n| &n.kind) {
        Some(Kind::List(topics)) => topics.as_slice(),
        _ => &[],
    };
    let topic = kafka.and_then(|n| child(n, "topic"));
    let dead_letter = child(rule, "on_error").and_then(|n| child(n, "dead_letter"));
    topic.into_iter().chain(chosen).chain(dead_letter).collect()
}
