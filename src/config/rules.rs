//! `rules`: the file's words into [`RuleSpec`]s, and what `mapping` says of them back into lines and columns.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::kafka::Acks;
use crate::mapping::{
    Acknowledge, Direction, Fault, Field, KafkaSpec, OnError, Overflow, PartitionSpec, Retain, RuleId, RuleSet, RuleSpec, Timestamp,
    Tombstones, Unmapped,
};
use crate::mqtt::QoS;

use super::problem::Problem;
use super::rule_places::{child, node_of, place_of};
use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk, is_filled, written};

const RULE: Keys = Keys {
    known: &[
        "name",
        "direction",
        "mqtt",
        "mqtt_regex",
        "also",
        "qos",
        "retain",
        "acknowledge",
        "overflow",
        "on_error",
        "unmapped",
        "transform",
        "transform_back",
        "value",
        "lookup",
        "examples",
        "kafka",
    ],
    later: &[],
};
const ON_ERROR: Keys = Keys {
    known: &["dead_letter"],
    later: &[],
};
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

/// Of the file, and of a rule.
pub(super) const UNMAPPED: [(&str, Unmapped); 2] = [("reject", Unmapped::Reject), ("drop", Unmapped::Drop)];

/// Beyond ten years it is a slip.
const OFFLINE_RETENTION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(10 * 365 * 86_400);
/// Rules beyond which a file is refused: more than that is a program, not a file.
const MOST_RULES: usize = 10_000;

impl Walk<'_> {
    /// `rules`, compiled. `None`: with faults, which are noted.
    pub(super) fn rules(&mut self, node: &Node, unmapped: Unmapped) -> Option<RuleSet> {
        let list = self.list(node, "rules");
        if list.is_empty() {
            return None;
        }
        if list.len() > MOST_RULES {
            self.fault(
                list[MOST_RULES].place,
                format!("more than {MOST_RULES} rules"),
                "let captures do the work of many rules",
            );
            return None;
        }
        let before = self.problems.len();
        let mut names = HashMap::new();
        // What `mapping` sees has the indices of `read`: a rule that cannot be read is not in there.
        let (mut specs, mut read, mut examples) = (vec![], vec![], vec![]);
        for node in list {
            let id = RuleId(specs.len() as u32);
            if let Some(spec) = self.rule(node, &mut names) {
                specs.push(spec);
                read.push(node);
            }
            if let Some(node) = child(node, "examples").filter(|node| !node.is_nothing()) {
                let more = self.examples(node, examples.len());
                examples.extend(more.into_iter().map(|example| (id, example)));
            }
        }
        let compiled = RuleSet::compile(specs, unmapped);
        let whole = self.problems.len() == before;
        match compiled {
            Ok(rules) if whole => {
                for warning in rules.warnings() {
                    let rule = read.get(warning.rule).copied().unwrap_or(node);
                    let place = place_of(rule, &warning);
                    let (message, remedy) = (self.without_secrets(warning.message), self.without_secrets(warning.remedy));
                    self.warnings.push(place.problem(message, remedy));
                }
                self.try_examples(&examples, &rules).then_some(rules)
            }
            Ok(_) => None,
            Err(faults) => {
                for fault in faults {
                    self.mapping_fault(read.get(fault.rule).copied().unwrap_or(node), fault, before);
                }
                None
            }
        }
    }

    /// A fault of `mapping`, told in the file's terms. `before` is where the faults of `rules` begin.
    fn mapping_fault(&mut self, rule: &Node, fault: Fault, before: usize) {
        let place = place_of(rule, &fault);
        // One fault, one line: a name that is taken was noted on the way.
        let same = |p: &Problem| (p.line, p.column) == (place.line, place.column);
        if fault.field == Field::Name && self.problems[before..].iter().any(same) {
            return;
        }
        match node_of(rule, fault.field) {
            // A piece of what the environment holds would show it as well as the whole.
            Some(node) if is_filled(node) => {
                let message = format!("{} is wrong once it is filled in from the environment", written(node));
                self.fault(place, message, "check the variable, or its default");
            }
            _ => {
                let (message, remedy) = (self.without_secrets(fault.message), self.without_secrets(fault.remedy));
                self.fault(place, message, remedy);
            }
        }
    }

    /// `None`: without what a rule cannot be without.
    fn rule(&mut self, node: &Node, names: &mut HashMap<String, u32>) -> Option<RuleSpec> {
        let section = self.section(node, "rules[]", &RULE)?;
        let name = self
            .required(&section, "name", "telemetry")
            .and_then(|n| self.name(n, "rules[].name", names));
        let (mqtt, mqtt_regex) = self.mqtt(&section).unzip();
        let kafka = self
            .required(&section, "kafka", "{topic: vehicle-telemetry}")
            .and_then(|n| self.rule_kafka(n));
        let both_ways = [
            ("publish", Direction::Publish),
            ("subscribe", Direction::Subscribe),
            ("both", Direction::Both),
        ];
        let (on_error, dead_letter) = self.on_error(&section).unzip();
        // `Some(None)`: it is there and cannot be read. Without it the rule would have faults that are none.
        let transform = self.optional(&section, "transform").map(|n| self.text(n, "rules[].transform"));
        let back = self
            .optional(&section, "transform_back")
            .map(|n| self.text(n, "rules[].transform_back"));
        let lookup = self.optional(&section, "lookup").map(|n| self.lookup(n));
        let direction = self.chosen(&section, "direction", &both_ways, &[]);
        let also = self.optional(&section, "also").and_then(|n| self.flag(n, "rules[].also"));
        let value = match (self.optional(&section, "value"), &kafka) {
            (Some(n), Some(kafka)) => Some(self.value(n, direction.unwrap_or_default(), &kafka.topic)),
            _ => None,
        };
        // By the defaults a rule would have faults that are none.
        let unreadable = |key, read: bool| section.get(key).is_some() && !read;
        let unreadable = unreadable("direction", direction.is_some()) || unreadable("also", also.is_some()) || section.is_misspelt();
        let spec = RuleSpec {
            direction: direction.unwrap_or_default(),
            also: also.unwrap_or_default(),
            qos: self.chosen(
                &section,
                "qos",
                &[("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)],
                &[],
            ),
            retain: self.chosen(&section, "retain", &[("allow", Retain::Allow), ("deny", Retain::Deny)], &[]),
            acknowledge: self.chosen(
                &section,
                "acknowledge",
                &[("after-kafka", Acknowledge::AfterKafka), ("on-receipt", Acknowledge::OnReceipt)],
                &[],
            ),
            overflow: self.chosen(&section, "overflow", &[("wait", Overflow::Wait), ("drop", Overflow::Drop)], &[]),
            unmapped: self.chosen(&section, "unmapped", &UNMAPPED, &[]),
            on_error,
            dead_letter: dead_letter.flatten(),
            ..RuleSpec::default()
        };
        if unreadable {
            return None;
        }
        let (value, schema) = value.map_or(Some((None, None)), |value| value)?;
        Some(RuleSpec {
            name: name?,
            mqtt: mqtt?,
            mqtt_regex: mqtt_regex?,
            kafka: kafka?,
            transform: transform.map_or(Some(None), |transform| transform.map(Some))?,
            transform_back: back.map_or(Some(None), |back| back.map(Some))?,
            lookup: lookup.unwrap_or(Some(vec![]))?,
            value,
            schema,
            ..spec
        })
    }

    /// The MQTT side, a filter or a regular expression.
    fn mqtt(&mut self, section: &Section<'_>) -> Option<(String, Option<String>)> {
        let Some(node) = self.optional(section, "mqtt_regex") else {
            let filter = self.required(section, "mqtt", "\"vehicles/{vin}/telemetry\"")?;
            return Some((self.text(filter, "rules[].mqtt")?, None));
        };
        if section.get("mqtt").is_some() {
            self.fault(
                node.place,
                "`rules[].mqtt_regex` stands beside `rules[].mqtt`",
                "a rule has one of them: write a filter where one is enough",
            );
            return None;
        }
        Some((String::new(), Some(self.text(node, "rules[].mqtt_regex")?)))
    }

    fn rule_kafka(&mut self, node: &Node) -> Option<KafkaSpec> {
        let section = self.section(node, "rules[].kafka", &RULE_KAFKA)?;
        let topic = match self.required(&section, "topic", "vehicle-telemetry") {
            Some(n) => self.text(n, "rules[].kafka.topic"),
            None => None,
        };
        let topics = self.optional(&section, "topics").map(|n| self.texts(n, "rules[].kafka.topics"));
        // `Some(None)`: it is there and cannot be read. Without it the rule would have faults that are none.
        let key = self.optional(&section, "key").map(|n| self.text(n, "rules[].kafka.key"));
        let partition = self.optional(&section, "partition").and_then(|n| self.partition(n));
        let headers = self.optional(&section, "headers").map(|n| self.pairs(n, "rules[].kafka.headers"));
        let skip_or_deliver = [("skip", Tombstones::Skip), ("deliver", Tombstones::Deliver)];
        let tombstones = self.chosen(&section, "tombstones", &skip_or_deliver, &[]);
        let client_header = self
            .optional(&section, "client_header")
            .and_then(|n| self.flag(n, "rules[].kafka.client_header"));
        let acks = self.optional(&section, "acks").and_then(|n| self.acks(n));
        let compression = self
            .optional(&section, "compression")
            .and_then(|n| self.compression(n, "rules[].kafka.compression"));
        let timestamp = self.optional(&section, "timestamp").and_then(|n| self.timestamp(n));
        let offline_retention = self
            .optional(&section, "offline_retention")
            .and_then(|n| self.duration(n, "rules[].kafka.offline_retention", OFFLINE_RETENTION));
        if section.is_misspelt() {
            return None;
        }
        let (key, headers) = (key.map_or(Some(None), |key| key.map(Some))?, headers.unwrap_or(Some(vec![]))?);
        Some(KafkaSpec {
            topic: topic?,
            topics: topics.unwrap_or(Some(vec![]))?,
            key,
            partition,
            headers,
            tombstones,
            timestamp,
            client_header,
            acks,
            compression,
            offline_retention,
        })
    }

    fn chosen<T: Copy>(&mut self, section: &Section<'_>, key: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let node = self.optional(section, key)?;
        self.choice(node, &section.path(key), words, later)
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

    /// With the topic of `dead_letter`.
    fn on_error(&mut self, section: &Section<'_>) -> Option<(OnError, Option<String>)> {
        let node = self.optional(section, "on_error")?;
        if let Kind::Table(_) = &node.kind {
            let table = self.section(node, "rules[].on_error", &ON_ERROR)?;
            let topic = self.required(&table, "dead_letter", "vehicle-dead-letters")?;
            return Some((OnError::DeadLetter, Some(self.text(topic, "rules[].on_error.dead_letter")?)));
        }
        let word = self.parsed(node, "rules[].on_error", |text| match text {
            "reject" => Ok(OnError::Reject),
            "skip" => Ok(OnError::Skip),
            _ => Err((
                "is not a choice".to_owned(),
                "write `reject`, `skip` or {dead_letter: TOPIC}".to_owned(),
            )),
        });
        word.map(|word| (word, None))
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

    /// Names with values.
    pub(super) fn pairs(&mut self, node: &Node, name: &str) -> Option<Vec<(String, String)>> {
        let Kind::Table(entries) = &node.kind else {
            self.fault(
                node.place,
                format!("`{name}` is not a table"),
                "write names with values, for example {sensor: rpm}",
            );
            return None;
        };
        // All of them, so that all their faults are told.
        let read: Vec<_> = entries
            .iter()
            .map(|(key, n)| Some((key.text.clone(), self.text(n, name)?)))
            .collect();
        read.into_iter().collect()
    }
}
