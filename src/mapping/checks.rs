//! What a rule may say besides being well formed: header names, Kafka topic names, captures that nothing uses.

use super::fault::{Faults, Field};
use super::filter::{Filter, illegal_kafka_char, illegal_kafka_topic};
use super::spec::RuleSpec;
use super::template::{Piece, Template};

pub(super) fn refuse_publish_keys(spec: &RuleSpec, faults: &mut Faults) {
    let keys = [
        (spec.also, Field::Also, "also"),
        (spec.acknowledge.is_some(), Field::Acknowledge, "acknowledge"),
        (spec.overflow.is_some(), Field::Overflow, "overflow"),
        (spec.on_error.is_some(), Field::OnError, "on_error"),
        (spec.kafka.key.is_some(), Field::KafkaKey, "kafka.key"),
        (spec.kafka.partition.is_some(), Field::KafkaPartition, "kafka.partition"),
        (!spec.kafka.headers.is_empty(), Field::HeaderName(0), "kafka.headers"),
        (spec.kafka.client_header.is_some(), Field::KafkaClientHeader, "kafka.client_header"),
    ];
    for (_, field, name) in keys.into_iter().filter(|(written, ..)| *written) {
        let remedy = format!("leave `{name}` out, or make the rule `direction: publish` or `both`");
        faults.add(
            field,
            None,
            format!("`{name}` says how messages are written, but this rule only reads"),
            remedy,
        );
    }
}

pub(super) fn check_header_name(name: &str, i: usize, all: &[(String, String)], faults: &mut Faults) {
    if name.is_empty() {
        faults.add(Field::HeaderName(i), Some(0), "the header has no name", "give it a name");
    } else if name.starts_with("mqtt.") {
        let remedy = "choose a name that does not begin with `mqtt.`";
        faults.add(
            Field::HeaderName(i),
            Some(0),
            format!("`{name}`: names with `mqtt.` are the proxy's own"),
            remedy,
        );
    } else if all[..i].iter().any(|(other, _)| other == name) {
        faults.add(
            Field::HeaderName(i),
            Some(0),
            format!("the header `{name}` is named twice"),
            "name each header once",
        );
    }
}

pub(super) fn check_kafka_topic(topic: &Template, written: &str, faults: &mut Faults) {
    if let Some(name) = topic.constant() {
        if let Some((at, why)) = illegal_kafka_topic(name) {
            let remedy = "1 to 249 of the ASCII letters, digits, `.`, `_` and `-`";
            faults.add(
                Field::KafkaTopic,
                Some(at),
                format!("`{name}` is not a Kafka topic name: {why}"),
                remedy,
            );
        }
        return;
    }
    for piece in &topic.pieces {
        if *piece == Piece::Client {
            let at = written.find("{client}");
            faults.add(
                Field::KafkaTopic,
                at,
                "`{client}` does not choose a Kafka topic",
                "use it in the key or in a header",
            );
        }
        if let Piece::Text(text) = piece
            && let Some(i) = illegal_kafka_char(text)
        {
            let at = written.find(text.as_str()).map(|start| start + i);
            let remedy = "use ASCII letters, digits, `.`, `_` and `-`";
            faults.add(Field::KafkaTopic, at, "a character that no Kafka topic name has", remedy);
        }
    }
}

pub(super) fn check_unused(filter: &Filter, topic: &Template, key: Option<&Template>, headers: &[(String, Template)], faults: &mut Faults) {
    for (i, (name, at)) in filter.captures.iter().enumerate() {
        let i = u8::try_from(i).expect("at most MAX_CAPTURES");
        let used = topic.uses(i) || key.is_some_and(|key| key.uses(i)) || headers.iter().any(|(_, value)| value.uses(i));
        if !used {
            let wild = if filter.is_rest(i) { "#" } else { "+" };
            let remedy = format!("use it in kafka.topic, key or headers, or write `{wild}` in its place");
            faults.add(Field::Mqtt, Some(*at), format!("no template uses the capture `{{{name}}}`"), remedy);
        }
    }
}
