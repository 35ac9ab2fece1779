//! `examples` of rules: messages and records, and what the rules must make of them. They are tried whenever the file is loaded.

use crate::mapping::{NoRoute, PartitionChoice, RuleId, RuleSet, Sample, SampleRecord, Verdict};

use super::tree::{Kind, Node, Place};
use super::walk::{Keys, Section, Walk};

const EXAMPLE: Keys = Keys {
    known: &["topic", "payload", "client", "identity", "user", "partitions", "record", "becomes"],
    later: &[],
};
const RECORD: Keys = Keys {
    known: &["topic", "partition", "key", "headers", "value", "tombstone"],
    later: &[],
};
const STORED: Keys = Keys {
    known: &["topic", "partition", "key", "timestamp", "headers", "value", "tombstone"],
    later: &[],
};
const DELIVERED: Keys = Keys {
    known: &["topic", "qos", "payload", "user"],
    later: &[],
};

/// All of a file together; each is asked of all rules.
const MOST_EXAMPLES: usize = 1_000;

type Pairs = Vec<(String, String)>;

/// An example as it is written.
pub(super) struct Example {
    place: Place,
    given: Given,
    becomes: Vec<Expected>,
}

enum Given {
    Message {
        topic: String,
        payload: String,
        client: String,
        identity: Option<String>,
        user: Pairs,
        partitions: Option<u32>,
    },
    Record {
        /// The rule's, if it is not written.
        topic: Option<String>,
        partition: i32,
        key: Option<String>,
        headers: Pairs,
        value: Option<String>,
    },
}

/// One thing that must come out; with none nothing must come out. `pair` is a name in a table.
struct Expected {
    place: Place,
    field: &'static str,
    pair: Option<String>,
    text: String,
}

/// What came out: fields, and names with values in tables.
#[derive(Default)]
struct Made {
    texts: Vec<(&'static str, String)>,
    table: Pairs,
}

impl Made {
    fn get(&self, expected: &Expected) -> Option<&str> {
        let text = match &expected.pair {
            Some(name) => self.table.iter().find(|(own, _)| own == name).map(|(_, value)| value),
            None => self.texts.iter().find(|(field, _)| *field == expected.field).map(|(_, text)| text),
        };
        text.map(String::as_str)
    }
}

impl Walk<'_> {
    /// The examples of a rule; `before` is how many the file had so far.
    pub(super) fn examples(&mut self, node: &Node, before: usize) -> Vec<Example> {
        let list = self.list(node, "rules[].examples");
        if let Some(extra) = list.get(MOST_EXAMPLES.saturating_sub(before)) {
            let message = format!("more than {MOST_EXAMPLES} examples");
            self.fault(extra.place, message, "keep one or two for each rule");
            return vec![];
        }
        list.iter().filter_map(|node| self.example(node)).collect()
    }

    fn example(&mut self, node: &Node) -> Option<Example> {
        let section = self.section(node, "rules[].examples[]", &EXAMPLE)?;
        let becomes = self.required(&section, "becomes", "nothing");
        let record = self.optional(&section, "record");
        let given = match record {
            Some(record) => self.record(&section, record),
            None => self.message(&section),
        };
        let (keys, table) = match record {
            Some(_) => (&DELIVERED, "user"),
            None => (&STORED, "headers"),
        };
        let becomes = self.becomes(becomes?, keys, table)?;
        let (given, place) = (given?, node.place);
        if let (Given::Message { partitions: None, .. }, Some(expected)) = (&given, becomes.iter().find(|e| e.field == "partition")) {
            let remedy = "write `partitions` beside `topic`: how many the Kafka topic has";
            self.fault(expected.place, "the partition cannot be told", remedy);
            return None;
        }
        Some(Example { place, given, becomes })
    }

    fn message(&mut self, section: &Section<'_>) -> Option<Given> {
        let topic = self.required(section, "topic", "vehicles/42/telemetry");
        let topic = topic.and_then(|n| self.text(n, "rules[].examples[].topic"));
        let partitions = self.optional(section, "partitions");
        let partitions = partitions.map(|n| self.number(n, "rules[].examples[].partitions", 1..=i32::MAX as u64));
        let [payload, client, identity] = ["payload", "client", "identity"].map(|key| self.words(section, key));
        let user = self.table(section, "user");
        Some(Given::Message {
            topic: topic?,
            payload: payload?.unwrap_or_default(),
            client: client?.unwrap_or_else(|| "client".to_owned()),
            identity: identity?,
            user: user?,
            partitions: partitions.map_or(Some(None), |n| Some(Some(n? as u32)))?,
        })
    }

    fn record(&mut self, example: &Section<'_>, node: &Node) -> Option<Given> {
        for key in ["topic", "payload", "client", "identity", "user", "partitions"] {
            if let Some(stray) = example.get(key) {
                let message = format!("`{key}` is a message's, and this example is of a record");
                self.fault(
                    stray.place,
                    message,
                    "write what the record has under `record`, and what it becomes under `becomes`",
                );
            }
        }
        let section = self.section(node, "rules[].examples[].record", &RECORD)?;
        let partition = self.optional(&section, "partition").map_or(Some(0), |n| {
            self.number(n, "rules[].examples[].record.partition", 0..=i32::MAX as u64)
        });
        let tombstone = self.optional(&section, "tombstone");
        let tombstone = tombstone.map_or(Some(false), |n| self.flag(n, "rules[].examples[].record.tombstone"));
        let [value, topic, key] = ["value", "topic", "key"].map(|key| self.words(&section, key));
        let headers = self.table(&section, "headers");
        let value = value?.unwrap_or_default();
        Some(Given::Record {
            topic: topic?,
            partition: partition? as i32,
            key: key?,
            headers: headers?,
            value: if tombstone? { None } else { Some(value) },
        })
    }

    /// What must come out; empty: nothing.
    fn becomes(&mut self, node: &Node, keys: &Keys, table: &'static str) -> Option<Vec<Expected>> {
        match &node.kind {
            Kind::Table(entries) if !entries.is_empty() => {}
            Kind::Table(_) => {
                let remedy = "write what must come out, or `nothing`";
                self.fault(node.place, "`rules[].examples[].becomes` says nothing", remedy);
                return None;
            }
            _ => {
                self.choice(node, "rules[].examples[].becomes", &[("nothing", ())], &[])?;
                return Some(vec![]);
            }
        }
        let section = self.section(node, "rules[].examples[].becomes", keys)?;
        let (mut expected, mut readable) = (Vec::new(), true);
        for field in keys.known.iter().copied().filter(|field| *field != table) {
            if let Some(node) = self.optional(&section, field) {
                let (place, pair) = (node.place, None);
                match self.text(node, &section.path(field)) {
                    Some(text) => expected.push(Expected { place, field, pair, text }),
                    None => readable = false,
                }
            }
        }
        if let Some(node) = self.optional(&section, table) {
            let values = self.pairs(node, &section.path(table))?;
            let Kind::Table(entries) = &node.kind else { return None };
            expected.extend(values.into_iter().zip(entries).map(|((name, text), (key, _))| Expected {
                place: key.place,
                field: table,
                pair: Some(name),
                text,
            }));
        }
        // Without any it has a key that is unknown, or has no value: that is told.
        (readable && !expected.is_empty()).then_some(expected)
    }

    /// A text that may be left out. `None`: it is there and cannot be read.
    #[expect(clippy::option_option, reason = "absent and unreadable are told apart")]
    fn words(&mut self, section: &Section<'_>, key: &str) -> Option<Option<String>> {
        match self.optional(section, key) {
            Some(node) => self.text(node, &section.path(key)).map(Some),
            None => Some(None),
        }
    }

    fn table(&mut self, section: &Section<'_>, key: &str) -> Option<Pairs> {
        match self.optional(section, key) {
            Some(node) => self.pairs(node, &section.path(key)),
            None => Some(vec![]),
        }
    }

    /// Tries the examples; each with the number of its rule. Gives whether all are as they must be.
    pub(super) fn try_examples(&mut self, examples: &[(RuleId, Example)], rules: &RuleSet) -> bool {
        let before = self.problems.len();
        for (id, example) in examples {
            let told = match outcome(example, *id, rules) {
                Ok(made) if example.becomes.is_empty() => {
                    let message = format!("the rule makes something of this example: {}", first_words(&made));
                    vec![(example.place, message)]
                }
                Err(_) if example.becomes.is_empty() => vec![],
                Ok(made) => differences(example, &made),
                Err(why) => vec![(example.place, format!("the rule makes nothing of this example: {why}"))],
            };
            for (place, message) in told {
                let message = self.without_secrets(message);
                self.fault(place, message, "mend the rule or the example; `explain` tells more");
            }
        }
        self.problems.len() == before
    }
}

fn first_words(made: &Made) -> String {
    made.texts
        .first()
        .map_or(String::new(), |(field, text)| format!("{field} `{text}`"))
}

fn differences(example: &Example, made: &Made) -> Vec<(Place, String)> {
    let told = |expected: &Expected| {
        let what = expected.pair.as_deref().unwrap_or(expected.field);
        match made.get(expected) {
            Some(text) if text == expected.text => None,
            Some(text) => Some((expected.place, format!("`{what}` becomes `{text}`, not `{}`", expected.text))),
            None => Some((
                expected.place,
                format!("nothing becomes `{what}`, which must be `{}`", expected.text),
            )),
        }
    };
    example.becomes.iter().filter_map(told).collect()
}

/// What this rule makes of an example, or why it makes nothing.
fn outcome(example: &Example, id: RuleId, rules: &RuleSet) -> Result<Made, String> {
    match &example.given {
        Given::Message {
            topic,
            payload,
            client,
            identity,
            user,
            partitions,
        } => {
            let sample = Sample {
                state_topics: &[],
                topic,
                client,
                identity: identity.as_deref(),
                // The epoch: what an example becomes is the same every day.
                now_ms: 0,
                payload: payload.as_bytes(),
                user,
                partitions: *partitions,
            };
            stored(&sample, id, rules)
        }
        Given::Record {
            topic,
            partition,
            key,
            headers,
            value,
        } => {
            let kafka_topic = topic.as_deref().or(rules.rule(id).kafka_topic());
            let own = |(name, value): &(String, String)| (name.clone(), value.clone().into_bytes());
            let headers: Vec<_> = headers.iter().map(own).collect();
            let sample = SampleRecord {
                kafka_topic: kafka_topic.ok_or("it has no `topic`, and the rule has more than one")?,
                partition: *partition,
                key: key.as_deref().map(str::as_bytes),
                value: value.as_deref().map(str::as_bytes),
                headers: &headers,
                now_ms: 0,
            };
            delivered(&sample, id, rules)
        }
    }
}

fn stored(sample: &Sample<'_>, id: RuleId, rules: &RuleSet) -> Result<Made, String> {
    let explained = rules.explain_publish(sample)?;
    let records = match &explained.outcome {
        Ok(records) => records.as_slice(),
        Err(NoRoute::Unmapped(_) | NoRoute::Refused(_)) => &[],
    };
    let Some(record) = records.iter().find(|record| record.rule == id) else {
        let verdict = explained.verdicts.iter().find(|(rule, _)| *rule == id).map(|(_, verdict)| verdict);
        return Err(match verdict {
            Some(verdict @ (Verdict::Earlier(other) | Verdict::RefusedBy(other))) => format!("{verdict} (`{}`)", rules.rule(*other).name),
            Some(verdict) => verdict.to_string(),
            None => String::new(),
        });
    };
    let mut texts = vec![
        ("topic", record.kafka_topic.clone()),
        ("key", text(&record.key)),
        ("tombstone", record.value.is_none().to_string()),
    ];
    texts.extend(record.value.as_deref().map(|value| ("value", text(value))));
    texts.extend(record.timestamp.map(|time| ("timestamp", time.to_string())));
    match record.partition {
        Some(PartitionChoice::Index(number)) => texts.push(("partition", number.to_string())),
        Some(_) => texts.push(("partition", rules.rule(id).partition.to_string())),
        None => {}
    }
    let table = record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    Ok(Made { texts, table })
}

fn delivered(sample: &SampleRecord<'_>, id: RuleId, rules: &RuleSet) -> Result<Made, String> {
    let explained = rules.explain_record(sample);
    let words = explained.trouble.map_or(String::new(), |words| format!(" ({words})"));
    let message = explained.outcome.map_err(|skip| format!("{}{words}", skip.reason.as_str()))?;
    if message.rule != id {
        return Err(format!("it belongs to `{}`", rules.rule(message.rule).name));
    }
    Ok(Made {
        texts: vec![
            ("topic", message.topic),
            ("qos", message.qos.to_string()),
            ("payload", text(&message.payload)),
        ],
        table: message.user,
    })
}

/// Bytes as text; what is none as it is escaped in Rust.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
