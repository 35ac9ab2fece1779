//! `rules`: the file's words into [`RuleSpec`]s, and what `mapping` says of them back into lines and columns.

use std::collections::{BTreeSet, HashMap};

use crate::mapping::{Acknowledge, Direction, Fault, Field, Known, OnError, Overflow, Retain, RuleId, RuleSet, RuleSpec, Unmapped};
use crate::mqtt::QoS;
use crate::relay::Access;

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
/// Of the file, and of a rule.
pub(super) const UNMAPPED: [(&str, Unmapped); 2] = [("reject", Unmapped::Reject), ("drop", Unmapped::Drop)];

const DIRECTIONS: [(&str, Direction); 3] = [
    ("publish", Direction::Publish),
    ("subscribe", Direction::Subscribe),
    ("both", Direction::Both),
];

/// Rules beyond which a file is refused: more than that is a program, not a file.
const MOST_RULES: usize = 10_000;

/// A rule as far as it can be read.
struct Read {
    spec: RuleSpec,
    /// Else it is not compiled: what its strings have wrong by themselves is told all the same.
    whole: bool,
    known: Known,
}

impl Walk<'_> {
    /// `rules`, compiled. `None`: with faults, which are noted.
    pub(super) fn rules(&mut self, node: &Node, unmapped: Unmapped, access: &Access) -> Option<RuleSet> {
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
        let (mut specs, mut read, mut examples, mut torn) = (vec![], vec![], vec![], vec![]);
        for node in list {
            let id = RuleId(specs.len() as u32);
            match self.rule(node, &mut names) {
                Some(Read { spec, whole: true, .. }) => {
                    specs.push(spec);
                    read.push(node);
                }
                Some(Read { spec, known, .. }) => torn.extend(spec.faults_in_pieces(known).into_iter().map(|fault| (node, fault))),
                None => {}
            }
            if let Some(node) = child(node, "examples").filter(|node| !node.is_nothing() && !self.lenient) {
                let more = self.examples(node, examples.len());
                examples.extend(more.into_iter().map(|example| (id, example)));
            }
        }
        let compiled = RuleSet::compile(specs, unmapped);
        let whole = self.problems.len() == before;
        for (node, fault) in torn {
            self.mapping_fault(node, &fault, before);
        }
        match compiled {
            Ok(rules) if whole && self.lenient => Some(rules),
            Ok(rules) if whole => {
                let asking_who = if access.asks_who() { vec![] } else { rules.asking_who() };
                for warning in rules.warnings().into_iter().chain(asking_who) {
                    let rule = read.get(warning.rule).copied().unwrap_or(node);
                    let place = place_of(rule, &warning);
                    let (message, remedy) = (self.without_secrets(&warning.message), self.without_secrets(&warning.remedy));
                    self.warnings.push(place.problem(message, remedy));
                }
                // An alias brings the same warning to each rule that it fills.
                let mut told = BTreeSet::new();
                self.warnings.retain(|warning| told.insert(warning.clone()));
                let tried = self.try_examples(&examples, &rules);
                // Samples are for examples and for those who explain.
                self.tables.iter().for_each(|table| table.forget());
                tried.then_some(rules)
            }
            Ok(_) => None,
            Err(faults) => {
                for fault in faults {
                    self.mapping_fault(read.get(fault.rule).copied().unwrap_or(node), &fault, before);
                }
                None
            }
        }
    }

    /// A fault of `mapping`, told in the file's terms. `before` is where the faults of `rules` begin.
    fn mapping_fault(&mut self, rule: &Node, fault: &Fault, before: usize) {
        let place = place_of(rule, fault);
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
                let (message, remedy) = (self.without_secrets(&fault.message), self.without_secrets(&fault.remedy));
                self.fault(place, message, remedy);
            }
        }
    }

    /// `None`: it is no table.
    fn rule(&mut self, node: &Node, names: &mut HashMap<String, u32>) -> Option<Read> {
        let section = self.section(node, "rules[]", &RULE)?;
        let name = self
            .required(&section, "name", "telemetry")
            .and_then(|n| self.name(n, "rules[].name", names));
        let mqtt = self.mqtt(&section);
        let kafka = self
            .required(&section, "kafka", "{topic: vehicle-telemetry}")
            .and_then(|n| self.rule_kafka(n))
            .unwrap_or_default();
        let (on_error, dead_letter) = self.on_error(&section).unzip();
        let transform = self.rule_text(&section, "transform");
        let transform_back = self.rule_text(&section, "transform_back");
        let lookup = self.optional(&section, "lookup").map_or(Some(vec![]), |n| self.lookup(n));
        let direction = match self.optional(&section, "direction") {
            Some(n) => self.choice(n, "rules[].direction", &DIRECTIONS, &[]),
            None => Some(Direction::default()).filter(|_| !section.means("direction")),
        };
        let also = match self.optional(&section, "also") {
            Some(n) => self.flag(n, "rules[].also"),
            None => Some(false).filter(|_| !section.means("also")),
        };
        // What a value says has no say in what else is wrong with the rule, and a name that is missing neither.
        let value = self.optional(&section, "value");
        let value = value.and_then(|n| self.value(n, direction, &kafka));
        let (value, schema) = value.unwrap_or_default();
        let known = Known {
            direction: direction.is_some(),
            also: also.is_some(),
            mqtt: mqtt.is_some(),
            topic: kafka.topic,
            tables: lookup.is_some() && !section.means("lookup"),
        };
        // By the defaults it would have faults that are none.
        let whole = !section.is_misspelt() && kafka.whole && transform.is_some() && transform_back.is_some();
        let whole = whole && known == Known::ALL;
        let (mqtt, mqtt_regex) = mqtt.unwrap_or_default();
        let spec = RuleSpec {
            name: name.unwrap_or_else(|| format!("(in line {})", node.place.line)),
            direction: direction.unwrap_or_default(),
            mqtt,
            mqtt_regex,
            also: also.unwrap_or_default(),
            on_error,
            dead_letter: dead_letter.flatten(),
            transform: transform.flatten(),
            transform_back: transform_back.flatten(),
            lookup: lookup.unwrap_or_default(),
            value,
            schema,
            kafka: kafka.spec,
            ..self.choices(&section)
        };
        Some(Read { spec, whole, known })
    }

    /// Of a rule, what is one word of a few.
    fn choices(&mut self, section: &Section<'_>) -> RuleSpec {
        let qos = [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)];
        let acknowledge = [("after-kafka", Acknowledge::AfterKafka), ("on-receipt", Acknowledge::OnReceipt)];
        RuleSpec {
            qos: self.chosen(section, "qos", &qos, &[]),
            retain: self.chosen(section, "retain", &[("allow", Retain::Allow), ("deny", Retain::Deny)], &[]),
            acknowledge: self.chosen(section, "acknowledge", &acknowledge, &[]),
            overflow: self.chosen(section, "overflow", &[("wait", Overflow::Wait), ("drop", Overflow::Drop)], &[]),
            unmapped: self.chosen(section, "unmapped", &UNMAPPED, &[]),
            ..RuleSpec::default()
        }
    }

    /// A text that may be left out. `None`: it is there and cannot be read, or it is misspelt.
    #[expect(clippy::option_option, reason = "absent and unreadable are told apart")]
    fn rule_text(&mut self, section: &Section<'_>, key: &str) -> Option<Option<String>> {
        match self.optional(section, key) {
            Some(node) => self.text(node, &section.path(key)).map(Some),
            None => Some(None),
        }
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

    pub(super) fn chosen<T: Copy>(&mut self, section: &Section<'_>, key: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let node = self.optional(section, key)?;
        self.choice(node, &section.path(key), words, later)
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
