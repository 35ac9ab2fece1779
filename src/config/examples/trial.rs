//! What the rules make of examples, beside what they must make of them.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Becomes, Example, Expected, Given, Pairs};
use crate::config::{tree::Place, walk::Walk};
use crate::mapping::{
    ExplainedRecord, NoRoute, PartitionChoice, RefusalReason, RuleId, RuleSet, Sample, SamplePacket, SampleRecord, SkipReason, Unmapped,
    Verdict,
};

/// A record or message that came out: fields, and names with values in tables.
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

    /// What there is instead, in the table that something is not in.
    fn has(&self, expected: &Expected) -> String {
        if expected.pair.is_none() || self.table.is_empty() {
            return String::new();
        }
        let names: Vec<String> = self.table.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!(": there is {}", names.join(", "))
    }
}

/// Why nothing came out.
enum Nothing {
    /// It is not for the rule, or the rule drops it.
    Dropped(String),
    /// The rule refuses it, or all refuse it because no rule takes it.
    Refused(String),
    /// The rule's program fails.
    Failed(String),
    /// Another rule has it, or there is no such message.
    Stray(String),
}

impl Nothing {
    /// By the reason of a refusal.
    fn of(reason: RefusalReason, why: String) -> Self {
        match reason {
            RefusalReason::TransformError
            | RefusalReason::TransformLimit
            | RefusalReason::TransformOutput
            | RefusalReason::NoTable
            | RefusalReason::TableFull => Nothing::Failed(why),
            _ => Nothing::Refused(why),
        }
    }

    fn words(&self) -> &str {
        let (Nothing::Dropped(why) | Nothing::Refused(why) | Nothing::Failed(why) | Nothing::Stray(why)) = self;
        why
    }
}

impl Walk<'_> {
    /// Tries the examples; each with the number of its rule. Gives whether all are as they must be.
    pub(in crate::config) fn try_examples(&mut self, examples: &[(RuleId, Example)], rules: &RuleSet) -> bool {
        let before = self.problems.len();
        for (id, example) in examples {
            for (place, message) in told(example, &outcome(example, *id, rules)) {
                let message = self.without_secrets(&message);
                let name = self.without_secrets(&rules.rule(*id).name);
                let remedy = format!("mend the rule `{name}` or the example; `explain` tells more");
                self.fault(place, message, remedy);
            }
        }
        self.problems.len() == before
    }
}

/// What is not as it must be.
fn told(example: &Example, outcome: &Result<Vec<Made>, Nothing>) -> Vec<(Place, String)> {
    let one = |message: String| vec![(example.place, message)];
    match (&example.becomes, outcome) {
        (Becomes::Nothing, Err(Nothing::Dropped(_))) | (Becomes::Refused, Err(Nothing::Refused(_) | Nothing::Failed(_))) => {
            vec![]
        }
        (Becomes::Nothing | Becomes::Refused, Ok(made)) => one(format!("the rule makes something of this example: {}", first_words(made))),
        (Becomes::Nothing, Err(Nothing::Refused(why))) => {
            one(format!("the message is refused, which is not `nothing` but `refused`: {why}"))
        }
        (Becomes::Nothing, Err(Nothing::Failed(why))) => one(format!("the program fails, which is not `nothing`: {why}")),
        (Becomes::Nothing, Err(Nothing::Stray(why))) => one(format!("it is not the rule that drops this example: {why}")),
        (Becomes::Refused, Err(no)) => one(format!("the rule does not refuse this example: {}", no.words())),
        (Becomes::One(_) | Becomes::All(_), Err(no)) => one(format!("the rule makes nothing of this example: {}", no.words())),
        (Becomes::One(expected), Ok(made)) => {
            let count = format!(
                "the rule makes {} records of this example: a table under `becomes` is one, a list has several",
                made.len()
            );
            let count = (made.len() != 1).then_some((example.place, count));
            let first = made.first().map_or(vec![], |made| differences(expected, made));
            count.into_iter().chain(first).collect()
        }
        (Becomes::All(lists), Ok(made)) => {
            let count = format!("the rule makes {} of this example, not {}", records(made.len()), lists.len());
            let count = (made.len() != lists.len()).then_some((example.place, count));
            let each = lists.iter().zip(made).flat_map(|(expected, made)| differences(expected, made));
            count.into_iter().chain(each).collect()
        }
    }
}

fn records(count: usize) -> String {
    format!("{count} {}", if count == 1 { "record" } else { "records" })
}

fn first_words(made: &[Made]) -> String {
    let first = made.first().and_then(|made| made.texts.first());
    first.map_or(String::new(), |(field, text)| format!("{field} `{text}`"))
}

fn differences(expected: &[Expected], made: &Made) -> Vec<(Place, String)> {
    let told = |expected: &Expected| {
        let what = match &expected.pair {
            Some(name) if expected.field == "headers" => format!("the header `{name}`"),
            Some(name) => format!("the user property `{name}`"),
            None => format!("`{}`", expected.field),
        };
        match made.get(expected) {
            Some(text) if text == expected.text => None,
            Some(text) => Some((expected.place, format!("{what} becomes `{text}`, not `{}`", expected.text))),
            None => Some((
                expected.place,
                format!(
                    "{what} must be `{}`, and what the rule makes has none{}",
                    expected.text,
                    made.has(expected)
                ),
            )),
        }
    };
    expected.iter().filter_map(told).collect()
}

/// What this rule makes of an example, or why it makes nothing.
fn outcome(example: &Example, id: RuleId, rules: &RuleSet) -> Result<Vec<Made>, Nothing> {
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
                payload,
                user,
                packet: SamplePacket::default(),
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
                kafka_topic: kafka_topic.ok_or_else(|| {
                    Nothing::Stray("its `record` has no `topic`, and the rule reads more than one Kafka topic".to_owned())
                })?,
                partition: *partition,
                key: key.as_deref().map(str::as_bytes),
                value: value.as_deref(),
                headers: &headers,
                now_ms: 0,
            };
            delivered(&sample, id, rules)
        }
    }
}

fn stored(sample: &Sample<'_>, id: RuleId, rules: &RuleSet) -> Result<Vec<Made>, Nothing> {
    let explained = rules.explain_publish_of(id, sample).map_err(Nothing::Stray)?;
    let records = match &explained.outcome {
        Ok(records) => records.as_slice(),
        Err(NoRoute::Unmapped(_) | NoRoute::Refused(_)) => &[],
    };
    let own: Vec<Made> = records
        .iter()
        .filter(|record| record.rule == id)
        .map(|record| made(record, rules))
        .collect();
    if !own.is_empty() {
        return Ok(own);
    }
    let verdict = explained.verdicts.iter().find(|(rule, _)| *rule == id).map(|(_, verdict)| verdict);
    let unmapped = matches!(&explained.outcome, Err(NoRoute::Unmapped(Unmapped::Reject)));
    Err(match verdict {
        Some(verdict @ (Verdict::Earlier(other) | Verdict::RefusedBy(other))) => {
            Nothing::Stray(format!("{verdict} (`{}`)", rules.rule(*other).name))
        }
        Some(Verdict::Refuses(reason)) => {
            let words = explained.trouble.map_or(String::new(), |words| format!(" ({words})"));
            Nothing::of(*reason, format!("matches and refuses it: {}{words}", reason.as_str()))
        }
        Some(verdict) if unmapped => Nothing::Refused(format!("{verdict} (and no other rule takes it)")),
        verdict => Nothing::Dropped(verdict.map_or(String::new(), Verdict::to_string)),
    })
}

fn made(record: &ExplainedRecord, rules: &RuleSet) -> Made {
    let mut texts = vec![
        ("topic", record.kafka_topic.clone()),
        ("key", text(&record.key)),
        ("tombstone", record.value.is_none().to_string()),
    ];
    if let Some(value) = &record.value {
        texts.extend([("value", text(value)), ("value_base64", BASE64_STANDARD.encode(value))]);
    }
    texts.extend(record.timestamp.map(|time| ("timestamp", time.to_string())));
    match record.partition {
        Some(PartitionChoice::Index(number)) => texts.push(("partition", number.to_string())),
        Some(_) => texts.push(("partition", rules.rule(record.rule).partition.to_string())),
        None => {}
    }
    let table = record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    Made { texts, table }
}

fn delivered(sample: &SampleRecord<'_>, id: RuleId, rules: &RuleSet) -> Result<Vec<Made>, Nothing> {
    let explained = rules.explain_record(sample);
    let words = explained.trouble.map_or(String::new(), |words| format!(" ({words})"));
    let message = explained.outcome.map_err(|skip| {
        let why = format!("{}{words}", skip.reason.as_str());
        match skip.reason {
            // Nobody is refused on the way back.
            SkipReason::Refused(reason) => match Nothing::of(reason, why) {
                Nothing::Refused(why) => Nothing::Dropped(why),
                failed => failed,
            },
            SkipReason::NoRule if rules.rule(id).also => Nothing::Dropped(format!("{why}: the rule only makes copies (`also: true`)")),
            SkipReason::NoRule if !rules.rule(id).delivers() => {
                Nothing::Dropped(format!("{why}: the rule only writes (`direction: publish`)"))
            }
            _ => Nothing::Dropped(why),
        }
    })?;
    if message.rule != id {
        return Err(Nothing::Stray(format!("it belongs to `{}`", rules.rule(message.rule).name)));
    }
    let texts = vec![
        ("topic", message.topic),
        ("qos", message.qos.to_string()),
        ("payload", text(&message.payload)),
        ("payload_base64", BASE64_STANDARD.encode(&message.payload)),
    ];
    Ok(vec![Made {
        texts,
        table: message.user,
    }])
}

/// Bytes as text; what is none as it is escaped in Rust.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
