//! `explain`: what the rules of a file make of a message, a record or a filter, as a table or as one JSON object.

mod meaning;
mod question;
mod retained;
mod shown;
mod usage;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::mapping::{
    Denied, ExplainedRecord, NoRoute, OnError, PartitionChoice, PartitionSpec, Reading, RefusalReason, Rule, RuleId, RuleSet, Sample,
    SampleRecord, SchemaSpec, SkipReason, Unmapped, Verdict, partition_for_key,
};
use crate::resources::table_files;

use super::exit::{Exit, answer, tell};
pub(super) use question::Question;
pub(super) use usage::hint;

/// Of a message with the retain flag whose rule denies those.
const NOT_RETAINED: &str = "refused: its rule denies retained messages, so the connection ends (0x9A)";
/// Of a message that promises text and has none, where that is looked at.
const NOT_UTF8: &str = "refused: not_utf8: `payload_format_check`, and the payload is no UTF-8 (0x99)";

/// What of the configuration decides beside the rules.
pub(super) struct Setting<'a> {
    /// Kafka topics of the proxy's own state.
    pub(super) state_topics: &'a [&'a str],
    /// `payload_format_check`
    pub(super) payload_format_check: bool,
    /// Of the topics of its state, that of retained messages.
    pub(super) retained_topic: &'a str,
}

/// An answer.
struct Told {
    /// As JSON, in which reasons are codes.
    answer: Value,
    /// What the code of each of its `rules` means.
    of_rules: Vec<Option<String>>,
    /// What that of its `why` means.
    of_why: Option<String>,
}

/// Answers the question on stdout; that nothing comes of it is told by the code, too.
pub(super) fn explain(question: &Question, rules: &RuleSet, setting: &Setting<'_>) -> Exit {
    for table in rules.tables() {
        if let Err((path, why)) = table_files::stand_in(&table) {
            tell(&format_args!("{} {why}", path.display()));
            return Exit::Usage;
        }
    }
    let payload = match question.payload() {
        Ok(payload) => payload,
        Err(why) => {
            tell(&why);
            return Exit::NoInput;
        }
    };
    let told = match (&question.kafka, &question.subscribe, &question.topic) {
        (Some(topic), ..) => Ok(delivery(question, topic, &payload, rules)),
        (_, Some(filter), _) => filter_sources(filter, question.partitions, rules),
        (.., topic) => publish(question, topic.as_deref().unwrap_or(""), &payload, rules, setting),
    };
    match told {
        Ok(told) => {
            let words = if question.json {
                told.answer.to_string()
            } else {
                shown::table(&told)
            };
            match answer(words.trim_end()) {
                Exit::Done if told.answer["why"].is_string() => Exit::Nothing,
                exit => exit,
            }
        }
        Err(why) => {
            tell(&format_args!("{why}\n{}", usage::of_question(question)));
            Exit::Usage
        }
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

fn publish(question: &Question, topic: &str, payload: &[u8], rules: &RuleSet, setting: &Setting<'_>) -> Result<Told, String> {
    let packet = question.packet.sample();
    let explained = rules.explain_publish(&Sample {
        topic,
        client: &question.client,
        identity: question.identity.as_deref(),
        now_ms: now_ms(),
        payload,
        user: &question.property,
        packet,
        partitions: question.partitions,
        state_topics: setting.state_topics,
    })?;
    // That is looked at before any rule.
    if setting.payload_format_check && packet.is_utf8 == Some(true) && std::str::from_utf8(payload).is_err() {
        return Ok(Told {
            answer: json!({"rules": [], "records": [], "why": NOT_UTF8}),
            of_rules: vec![],
            of_why: None,
        });
    }
    let verdict = |(id, verdict): &(RuleId, Verdict)| {
        let by = match verdict {
            Verdict::Earlier(other) | Verdict::RefusedBy(other) => format!(" ({})", rules.rule(*other).name),
            _ => String::new(),
        };
        json!({"rule": rules.rule(*id).name, "verdict": format!("{verdict}{by}")})
    };
    let retained = retained::told(topic, packet.retain, &explained, rules, setting.retained_topic);
    let with_detail = |words, id| meaning::with_detail(words, &explained.details, Some(id));
    let of_rule = |(id, verdict): &(RuleId, Verdict)| with_detail(meaning::of_verdict(verdict), *id);
    let of_rules = explained.verdicts.iter().map(of_rule).collect();
    let trouble = explained.trouble.as_ref().map_or(String::new(), |words| format!(" ({words})"));
    let mut of_why = None;
    let (records, why) = match explained.outcome {
        Ok(records) if explained.retain_denied.is_some() => (records, Some(NOT_RETAINED.to_owned())),
        Ok(records) if records.is_empty() && explained.denied.is_none() => {
            let skipped = explained.verdicts.iter().find_map(|(id, verdict)| match verdict {
                Verdict::Skips(reason) => Some((*id, *reason)),
                _ => None,
            });
            of_why = skipped.and_then(|(id, reason)| with_detail(meaning::of_why(reason), id));
            (records, Some(unstored(skipped.map(|(_, reason)| reason), &trouble)))
        }
        Ok(records) => (records, explained.denied.map(|no| denied(rules.rule(no.rule), &no))),
        Err(NoRoute::Unmapped(unmapped)) => {
            let then = then(unmapped, "the message is acknowledged, and stored nowhere");
            (vec![], Some(format!("no rule matches{then}")))
        }
        Err(NoRoute::Refused(refusal)) => {
            of_why = with_detail(meaning::of_why(refusal.reason), refusal.rule);
            let (code, more) = (refusal.reason.as_str(), no_topic_here(refusal.reason));
            (vec![], Some(format!("refused: {code}{trouble}{more}")))
        }
    };
    let mut answer = json!({
        "rules": explained.verdicts.iter().map(verdict).collect::<Vec<_>>(),
        "records": records.iter().map(|record| told(record, rules)).collect::<Vec<_>>(),
        "why": why,
    });
    if let Some(retained) = retained {
        answer["retained"] = retained;
    }
    Ok(Told { answer, of_rules, of_why })
}

fn told(record: &ExplainedRecord, rules: &RuleSet) -> Value {
    let partition = match record.partition {
        None if record.dead_letter => json!(PartitionSpec::Hash.to_string()),
        None => json!(rules.rule(record.rule).partition.to_string()),
        Some(PartitionChoice::Index(number)) => json!(number),
        Some(_) => json!(rules.rule(record.rule).partition.to_string()),
    };
    let mut told = json!({
        "rule": rules.rule(record.rule).name,
        "topic": record.kafka_topic,
        "partition": partition,
        "key": text(&record.key),
        "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
        "value": record.value.as_deref().map(text),
    });
    add_base64(&mut told, "key_base64", &record.key);
    add_base64(&mut told, "value_base64", record.value.as_deref().unwrap_or_default());
    if let Some(value) = rules.rule(record.rule).schema.as_ref().filter(|_| !record.dead_letter) {
        told["schema"] = json!(schema(value));
    }
    if record.value.is_none() {
        told["tombstone"] = json!(true);
    }
    if record.dead_letter {
        told["dead_letter"] = json!(true);
    }
    if let Some(time) = record.timestamp {
        told["timestamp"] = json!(time);
    }
    told
}

/// Why a message that nobody refuses makes no record: a rule lets it be for a reason, or programs make nothing of it.
fn unstored(skipped: Option<RefusalReason>, trouble: &str) -> String {
    match skipped {
        Some(reason) => format!(
            "skipped: {}{trouble}{} (on_error: skip: the message is acknowledged and counted, and stored nowhere)",
            reason.as_str(),
            no_topic_here(reason)
        ),
        None => "dropped: no rule makes a record of it (the message is acknowledged, and stored nowhere)".to_owned(),
    }
}

/// That a record of a rule cannot go where it is sent.
fn denied(rule: &Rule, no: &Denied) -> String {
    let then = match rule.on_error {
        OnError::Skip => " (on_error: skip: the message is acknowledged, and not stored there)",
        OnError::Reject | OnError::DeadLetter => "",
    };
    let (reason, topic) = (no.as_str(), &no.kafka_topic);
    let what = match no.partition {
        None => "holds the proxy's own state",
        Some(_) => "has not so many partitions",
    };
    format!("refused: {reason}: {topic} {what}{then}")
}

/// What is to be said where a table would have to be read.
fn no_topic_here(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::NoTable => ": Kafka is not asked here; name a file of rows as its `sample` under `lookup`",
        _ => "",
    }
}

/// What becomes of a value before it is in Kafka; the registry is not asked here.
fn schema(value: &SchemaSpec) -> String {
    let subject = value.writer.as_ref().map_or("", |writing| &writing.subject);
    format!(
        "the value becomes {} by the newest schema of {subject}, or is refused; no registry is asked for it here",
        value.format()
    )
}

fn delivery(question: &Question, kafka_topic: &str, payload: &[u8], rules: &RuleSet) -> Told {
    let headers = question.headers();
    let explained = rules.explain_record(&SampleRecord {
        kafka_topic,
        partition: question.partition,
        key: question.key(),
        value: (!question.tombstone).then_some(payload),
        headers: &headers,
        now_ms: now_ms(),
    });
    let reading = |(id, reading): &(RuleId, Reading)| {
        let by = match reading {
            Reading::Later(_, other) | Reading::WrittenBy(other) => format!(" ({})", rules.rule(*other).name),
            _ => String::new(),
        };
        json!({"rule": rules.rule(*id).name, "verdict": format!("{reading}{by}")})
    };
    let readings: Vec<_> = explained.readings.iter().map(reading).collect();
    let with_detail = |words, id| meaning::with_detail(words, &explained.details, id);
    let of_rule = |(id, reading): &(RuleId, Reading)| with_detail(meaning::of_reading(reading, rules.rule(*id)), Some(*id));
    let of_rules = explained.readings.iter().map(of_rule).collect();
    let mut of_why = None;
    let idle = |topic| format!("mqtt.topic tells nothing: no rule writes {topic} to this Kafka topic with this key");
    let note = explained.idle_header.map(idle);
    let (message, why) = match explained.outcome {
        Ok(message) => {
            let user = message.user.iter().map(|(name, value)| json!({"name": name, "value": value}));
            let mut told = json!({
                "rule": rules.rule(message.rule).name,
                "topic": message.topic,
                "qos": message.qos,
                "user": user.collect::<Vec<_>>(),
                "payload": text(&message.payload),
            });
            add_base64(&mut told, "payload_base64", &message.payload);
            if let Some(value) = &rules.rule(message.rule).schema {
                let words = format!(
                    "the value is taken as JSON; in Kafka it is {}, with its schema's id in front",
                    value.format()
                );
                told["schema"] = json!(words);
            }
            (Some(told), None)
        }
        Err(skip) => {
            let words = explained.trouble.map_or(String::new(), |words| format!(" ({words})"));
            let rule = skip.rule.map(|id| rules.rule(id));
            let more = match (skip.reason, rule.and_then(|rule| rule.schema.as_ref())) {
                (SkipReason::Refused(RefusalReason::NotJson), Some(value)) => {
                    format!(" (a value that would be {} in Kafka is given here as JSON)", value.format())
                }
                (SkipReason::Refused(reason), _) => no_topic_here(reason).to_owned(),
                _ => String::new(),
            };
            of_why = with_detail(meaning::of_passing(skip.reason, rule), skip.rule);
            (None, Some(format!("passed over: {}{words}{more}", skip.reason.as_str())))
        }
    };
    Told {
        answer: json!({"rules": readings, "note": note, "message": message, "why": why}),
        of_rules,
        of_why,
    }
}

fn filter_sources(filter: &str, partitions: Option<u32>, rules: &RuleSet) -> Result<Told, String> {
    let (sources, why) = match rules.explain_filter(filter)? {
        Ok(sources) => (sources, None),
        Err(unmapped) => {
            let then = then(unmapped, "the subscription is granted, and nothing comes");
            (vec![], Some(format!("no rule delivers such topics{then}")))
        }
    };
    // A fixed key does not narrow what is read: other producers may have put it anywhere.
    let source = sources.iter().map(|source| {
        let mut told = json!({
            "rule": rules.rule(source.rule).name,
            "topic": source.kafka_topics.to_string(),
            "partitions": "all",
            "key": source.key.as_deref().map(text),
        });
        let rule = rules.rule(source.rule);
        if let (Some(key), Some(count), true) = (&source.key, partitions, rule.publishes()) {
            told["own_partition"] = json!(partition_for_key(key, count));
        }
        told
    });
    Ok(Told {
        answer: json!({"sources": source.collect::<Vec<_>>(), "why": why}),
        of_rules: vec![],
        of_why: None,
    })
}

/// What is to be said where a refusal would not surprise.
fn then(unmapped: Unmapped, drop: &str) -> String {
    match unmapped {
        Unmapped::Reject => String::new(),
        Unmapped::Drop => format!(" (unmapped: drop: {drop})"),
    }
}

fn header((name, value): &(String, Vec<u8>)) -> Value {
    let mut told = json!({"name": name, "value": text(value)});
    add_base64(&mut told, "value_base64", value);
    told
}

/// For programs: bytes that are no text, and so are only shown as some.
fn add_base64(told: &mut Value, name: &str, bytes: &[u8]) {
    if std::str::from_utf8(bytes).is_err() {
        told[name] = json!(BASE64_STANDARD.encode(bytes));
    }
}

/// Bytes as text; what is none as it is escaped in Rust.
fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.escape_ascii().to_string(), str::to_owned)
}
