//! What a rule may say besides being well formed: header names, Kafka topic names, captures that nothing uses.

use super::fault::{Faults, Field};
use super::filter::{Filter, illegal_kafka_char, illegal_kafka_topic};
use super::format::Format;
use super::said::is_reserved;
use super::spec::{Direction, PartitionSpec, Retain, RuleSpec, Timestamp, Tombstones};
use super::template::{Template, Token, lex, place_of};
use super::transform::named_in;

/// Checks what needs no template to be read.
pub(super) fn check_words(spec: &RuleSpec, faults: &mut Faults) {
    refuse_keys_of_the_other_way(spec, faults);
    check_retain(spec, faults);
    check_dead_letter(spec, faults);
    check_unmapped(spec, faults);
    check_payload_fields(spec, faults);
}

/// Fields are looked for in JSON, so CBOR never has one: every message would be refused.
fn check_payload_fields(spec: &RuleSpec, faults: &mut Faults) {
    if spec.value.as_ref().and_then(|value| value.payload) != Some(Format::Cbor) {
        return;
    }
    let kafka = &spec.kafka;
    let partition = match &kafka.partition {
        Some(PartitionSpec::Template(template)) => Some(template),
        _ => None,
    };
    let timestamp = match &kafka.timestamp {
        Some(Timestamp::Template(template)) => Some(template),
        _ => None,
    };
    let headers = kafka.headers.iter().enumerate();
    let headers = headers.map(|(place, (_, value))| (Field::HeaderValue(place), Some(value)));
    let others = [
        (Field::KafkaKey, kafka.key.as_ref()),
        (Field::KafkaPartition, partition),
        (Field::KafkaTimestamp, timestamp),
    ];
    for (field, template) in others.into_iter().chain(headers) {
        // What cannot be read at all has been told.
        let tokens = template.and_then(|template| lex(template).ok()).unwrap_or_default();
        for token in tokens {
            if let Token::Hole { at, name, .. } = token
                && name.starts_with("payload.")
            {
                let message = format!("`{{{name}}}` is a field of JSON, but the payloads of this rule are CBOR");
                let remedy = "set keys and headers by `record({…})` in a `transform`, which reads CBOR, too";
                faults.add(field, Some(at), message, remedy);
            }
        }
    }
}

/// What a rule says about a way that it does not take would be ignored, so it is refused.
fn refuse_keys_of_the_other_way(spec: &RuleSpec, faults: &mut Faults) {
    if spec.direction == Direction::Subscribe {
        refuse_publish_keys(spec, faults);
    } else if spec.direction == Direction::Publish || spec.also {
        refuse_subscribe_keys(spec, faults);
    }
}

/// A rule that only writes has no say in what subscribers get; nor have copies, which are never delivered.
fn refuse_subscribe_keys(spec: &RuleSpec, faults: &mut Faults) {
    let keys = [
        (spec.qos.is_some(), Field::Qos, "qos"),
        (spec.transform_back.is_some(), Field::TransformBack, "transform_back"),
        (
            spec.kafka.tombstones.is_some_and(|tombstones| tombstones != Tombstones::Both),
            Field::KafkaTombstones,
            "kafka.tombstones",
        ),
        (
            spec.kafka.offline_retention.is_some(),
            Field::KafkaOfflineRetention,
            "kafka.offline_retention",
        ),
    ];
    let instead = if spec.also {
        "remove `also`: copies are never delivered"
    } else {
        "make the rule `direction: subscribe` or `both`"
    };
    for (_, field, name) in keys.into_iter().filter(|(written, ..)| *written) {
        let message = format!("`{name}` says what subscribers get, but this rule only writes");
        faults.add(field, None, message, format!("leave `{name}` out, or {instead}"));
    }
}

/// A subscribe rule has no say in how messages are written.
fn refuse_publish_keys(spec: &RuleSpec, faults: &mut Faults) {
    let keys = [
        (spec.mqtt_regex.is_some(), Field::MqttRegex, "mqtt_regex"),
        (spec.also, Field::Also, "also"),
        (spec.retain.is_some(), Field::Retain, "retain"),
        (spec.acknowledge.is_some(), Field::Acknowledge, "acknowledge"),
        (spec.overflow.is_some(), Field::Overflow, "overflow"),
        (spec.on_error.is_some(), Field::OnError, "on_error"),
        (spec.transform.is_some(), Field::Transform, "transform"),
        (!spec.kafka.topics.is_empty(), Field::KafkaTopics(0), "kafka.topics"),
        (spec.kafka.key.is_some(), Field::KafkaKey, "kafka.key"),
        (spec.kafka.partition.is_some(), Field::KafkaPartition, "kafka.partition"),
        (!spec.kafka.headers.is_empty(), Field::HeaderName(0), "kafka.headers"),
        (spec.kafka.timestamp.is_some(), Field::KafkaTimestamp, "kafka.timestamp"),
        (
            spec.kafka.tombstones == Some(Tombstones::Both),
            Field::KafkaTombstones,
            "kafka.tombstones: both",
        ),
        (spec.kafka.client_header.is_some(), Field::KafkaClientHeader, "kafka.client_header"),
        (spec.kafka.acks.is_some(), Field::KafkaAcks, "kafka.acks"),
        (spec.kafka.compression.is_some(), Field::KafkaCompression, "kafka.compression"),
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

/// A retained message is ordered by the offset of its record, which `acks: none` never learns; and of copies none is kept. Of a rule that only
/// writes nothing is kept either, so its retained messages are stored like any other.
fn check_retain(spec: &RuleSpec, faults: &mut Faults) {
    if spec.also && spec.retain.is_some() && spec.direction != Direction::Subscribe {
        let message = "`retain` is the ordinary rule's to say, but this rule only makes copies";
        faults.add(Field::Retain, None, message, "leave `retain` out");
    } else if spec.retain == Some(Retain::Allow) && spec.loses_offsets() {
        let message = "retained messages cannot be kept with `acks: none`: nobody learns where they are stored";
        faults.add(Field::Retain, None, message, "write `retain: deny`, or another `acks`");
    }
}

/// A rule that maps both ways leaves nothing of its topics to `unmapped`; copies are mapped one way only.
fn check_unmapped(spec: &RuleSpec, faults: &mut Faults) {
    if spec.unmapped.is_some() && spec.direction == Direction::Both && !spec.also {
        let message = "`unmapped` is for topics that a rule maps one way only, but this one maps both ways";
        let remedy = "leave `unmapped` out, or make the rule `direction: publish` or `subscribe`";
        faults.add(Field::Unmapped, None, message, remedy);
    }
}

/// Checks the name of a dead letter topic, which has no holes.
pub(super) fn check_dead_letter(spec: &RuleSpec, faults: &mut Faults) {
    let illegal = spec.dead_letter.as_deref().and_then(illegal_kafka_topic);
    if let Some((at, why)) = illegal {
        let remedy = "write a name without placeholders: 1 to 249 of the ASCII letters, digits, `.`, `_` and `-`";
        faults.add(Field::DeadLetter, Some(at), why, remedy);
    }
}

/// Checks the name of a rule's header.
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

/// Checks what can be known of a Kafka topic's name before its holes are filled; those of a rule that only reads
/// are told by `template`.
pub(super) fn check_kafka_topic(written: &str, reads_only: bool, faults: &mut Faults) {
    // What cannot be read at all has been told.
    let Ok(tokens) = lex(written) else { return };
    let remedy = "1 to 249 of the ASCII letters, digits, `.`, `_` and `-`";
    let mut constant = true;
    for token in &tokens {
        match token {
            Token::Hole { at, name, rest: false } if is_reserved(name) && !reads_only => faults.add(
                Field::KafkaTopic,
                Some(*at),
                format!("`{{{name}}}` does not choose a Kafka topic"),
                "use it in the key or in a header",
            ),
            Token::Text { at, text } => {
                if let Some(i) = illegal_kafka_char(text) {
                    let at = place_of(written, *at, i);
                    faults.add(Field::KafkaTopic, Some(at), "a character that no Kafka topic name has", remedy);
                    constant = false;
                }
            }
            Token::Hole { .. } => {}
        }
        constant &= matches!(token, Token::Text { .. });
    }
    if constant && let Some((at, why)) = illegal_kafka_topic(written) {
        faults.add(Field::KafkaTopic, Some(at), why, remedy);
    }
}

/// Tells the captures that nothing uses.
pub(super) fn check_unused(filter: &Filter, templates: &[&Template], spec: &RuleSpec, faults: &mut Faults) {
    let variables = named_in([&spec.transform, &spec.transform_back].into_iter().flatten());
    for (i, (name, at)) in filter.captures.iter().enumerate() {
        let i = u8::try_from(i).expect("at most MAX_CAPTURES");
        let in_program = variables.iter().any(|variable| variable.strip_prefix('$') == Some(name));
        if !in_program && !templates.iter().any(|template| template.uses(i)) {
            let wild = match (&filter.expression, filter.is_rest(i)) {
                (Some(_), _) => "(?:…)",
                (None, true) => "#",
                (None, false) => "+",
            };
            let remedy =
                format!("use it in kafka.topic, key, partition, timestamp or headers, or in a transform, or write `{wild}` in its place");
            faults.add(
                filter.field(),
                Some(*at),
                format!("no template uses the capture `{{{name}}}`"),
                remedy,
            );
        }
    }
}
