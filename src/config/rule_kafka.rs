//! `kafka` of a rule: the file's words into a [`KafkaSpec`].

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::kafka::Acks;
use crate::mapping::{KafkaSpec, PartitionSpec, Timestamp, Tombstones};

use super::tree::Node;
use super::walk::{Keys, Walk};

const RULE_KAFKA: Keys = Keys {
    known: &[
        "topic",
        "topics",
        "key",
        "partition",
        "headers",
        "timestamp",
        "acks",
        "tombstones",
        "client_header",
        "compression",
        "offline_retention",
    ],
    later: &[],
};

/// Beyond ten years it is a slip.
const OFFLINE_RETENTION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 365 * 86_400);
/// As far as it can be read.
#[derive(Default)]
pub(super) struct ReadKafka {
    pub(super) spec: KafkaSpec,
    /// Whether its topic is known.
    pub(super) topic: bool,
    /// Whether nothing is at fault by which other faults would be told that are none.
    pub(super) whole: bool,
}

impl ReadKafka {
    pub(super) fn known_topic(&self) -> Option<&str> {
        self.topic.then_some(self.spec.topic.as_str())
    }
}

impl Walk<'_> {
    /// `None`: it is no table.
    pub(super) fn rule_kafka(&mut self, node: &Node) -> Option<ReadKafka> {
        let section = self.section(node, "rules[].kafka", &RULE_KAFKA)?;
        let topic = self
            .required(&section, "topic", "vehicle-telemetry")
            .and_then(|n| self.text(n, "rules[].kafka.topic"));
        let topics = self.optional(&section, "topics");
        let topics = topics.map_or(Some(vec![]), |n| self.texts(n, "rules[].kafka.topics"));
        // `Some(None)`: it is there and cannot be read. Without it the rule would have faults that are none.
        let key = self.optional(&section, "key").map(|n| self.text(n, "rules[].kafka.key"));
        let partition = self.optional(&section, "partition").map(|n| self.partition(n));
        let headers = self.optional(&section, "headers");
        let headers = headers.map_or(Some(vec![]), |n| self.pairs(n, "rules[].kafka.headers"));
        let ways = [
            ("skip", Tombstones::Skip),
            ("deliver", Tombstones::Deliver),
            ("both", Tombstones::Both),
        ];
        let tombstones = self.chosen(&section, "tombstones", &ways, &[]);
        let client_header = self
            .optional(&section, "client_header")
            .and_then(|n| self.flag(n, "rules[].kafka.client_header"));
        let acks = self.optional(&section, "acks").and_then(|n| self.acks(n));
        let compression = self
            .optional(&section, "compression")
            .and_then(|n| self.compression(n, "rules[].kafka.compression"));
        let timestamp = self.optional(&section, "timestamp").map(|n| self.timestamp(n));
        let offline_retention = self
            .optional(&section, "offline_retention")
            .and_then(|n| self.duration(n, "rules[].kafka.offline_retention", OFFLINE_RETENTION));
        let unreadable = matches!(key, Some(None)) || matches!(partition, Some(None)) || matches!(timestamp, Some(None));
        let whole = !section.is_misspelt() && !unreadable && topic.is_some() && topics.is_some() && headers.is_some();
        Some(ReadKafka {
            topic: topic.is_some(),
            whole,
            spec: KafkaSpec {
                topic: topic.unwrap_or_default(),
                topics: topics.unwrap_or_default(),
                key: key.flatten(),
                partition: partition.flatten(),
                headers: headers.unwrap_or_default(),
                tombstones,
                timestamp: timestamp.flatten(),
                client_header,
                acks,
                compression,
                offline_retention,
            },
        })
    }

    fn acks(&mut self, node: &Node) -> Option<Acks> {
        self.parsed(node, "rules[].kafka.acks", |text| {
            let remedy = match text {
                "all" => return Ok(Acks::All),
                "leader" => return Ok(Acks::Leader),
                "none" => return Ok(Acks::None),
                // As Kafka's own producers call them.
                "-1" => "Kafka's acks=-1 is `all` here",
                "1" | "one" => "Kafka's acks=1 is `leader` here",
                "0" | "zero" => "Kafka's acks=0 is `none` here",
                _ => "write `all`, `leader` or `none`",
            };
            Err(("is not a choice".to_owned(), remedy.to_owned()))
        })
    }

    fn timestamp(&mut self, node: &Node) -> Option<Timestamp> {
        self.parsed(node, "rules[].kafka.timestamp", |text| match text {
            "receipt" => Ok(Timestamp::Receipt),
            template if template.contains('{') => Ok(Timestamp::Template(template.to_owned())),
            _ => Err((
                "is no timestamp".to_owned(),
                "write `receipt`, or a template such as \"{payload.time}\"".to_owned(),
            )),
        })
    }

    fn partition(&mut self, node: &Node) -> Option<PartitionSpec> {
        let words = "write hash, round-robin, sticky, a number from 0, or a template such as \"{lane}\"";
        self.parsed(node, "rules[].kafka.partition", |text| match text {
            "hash" => Ok(PartitionSpec::Hash),
            "round-robin" => Ok(PartitionSpec::RoundRobin),
            "sticky" => Ok(PartitionSpec::Sticky),
            // Kafka's partitions are counted in 31 bits.
            number if number.parse::<i32>().is_ok_and(|n| n >= 0) => Ok(PartitionSpec::Number(number.parse().expect("it was read as i32"))),
            template if template.contains('{') => Ok(PartitionSpec::Template(template.to_owned())),
            _ => Err(("is no way to choose a partition".to_owned(), words.to_owned())),
        })
    }
}
