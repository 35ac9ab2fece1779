//! The hot paths of the mapping allocate nothing once their memory is warm.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use mqtt_kafka_proxy::mapping::{
    Direction, Draft, Inbound, KafkaSpec, LocateScratch, PartitionSpec, RuleSet, RuleSpec, Skip, Stored, Timestamp, Unmapped,
};
use mqtt_kafka_proxy::mqtt::properties::{PayloadFormat, UserProperties};
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};

const ROUNDS: usize = 100;

fn rule(name: &str, mqtt: &str, topic: &str, key: Option<&str>) -> RuleSpec {
    RuleSpec {
        name: name.into(),
        mqtt: mqtt.into(),
        kafka: KafkaSpec {
            topic: topic.into(),
            key: key.map(Into::into),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    }
}

/// Rules of every shape: constant and templated Kafka topics, whole keys, headers, copies, a rule that only reads.
fn rules() -> RuleSet {
    let mut rules: Vec<RuleSpec> = (0..100)
        .map(|i| rule(&format!("r{i}"), &format!("fleet{i}/{{vin}}/{{s}}"), "fleet", Some("{vin}/{s}")))
        .collect();
    let mut said = rule("said", "s/{x}", "said", Some("{payload.a.id}:{identity}"));
    said.kafka.headers = vec![("at".into(), "{now.iso}".into()), ("u".into(), "{user.plain}-{x}".into())];
    said.kafka.timestamp = Some(Timestamp::Template("{payload.lane}".into()));
    said.kafka.partition = Some(PartitionSpec::Template("{payload.lane}".into()));
    let mut headers = rule("headers", "h/{x}/{y}", "h-{x}", Some("{client}:{y}"));
    headers.kafka.headers = vec![("x".into(), "<{x}>".into()), ("y".into(), "{y}".into())];
    rules.extend([
        headers,
        said,
        rule("whole", "w/#", "whole", None),
        RuleSpec {
            mqtt_regex: Some("e/(?<x>[a-z]+)-(?:\\w|-)*(?<y>[0-9]+)?/.*".into()),
            ..rule("expression", "", "e-{x}", Some("{y}:{x}"))
        },
        RuleSpec {
            also: true,
            ..rule("copy", "#", "archive", None)
        },
        RuleSpec {
            direction: Direction::Subscribe,
            ..rule("reads", "out/{key}/{partition}/{header.x}", "out", None)
        },
    ]);
    RuleSet::compile(rules, Unmapped::Reject).unwrap()
}

/// A message with all properties there are; its user properties must be escaped by some rules.
fn with_publish(topic: &str, check: impl FnOnce(&Inbound<'_>)) {
    let mut block = SharedProperties::new();
    for name in ["x", "mqtt.topic", "plain", "plain"] {
        assert!(block.user(name, "value"));
    }
    let packet = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic,
        packet_id: None,
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_interval: Some(4_000_000_000),
            response_topic: Some("re/ply"),
            correlation_data: Some(&[7; 16]),
            content_type: Some("application/json"),
            user: UserProperties::from_block(block.as_bytes()),
            ..PublishProperties::default()
        },
        payload: br#"{"b": [1, "x"], "a": {"id": "plain", "x": 1.5}, "lane": 3}"#,
    };
    check(&Inbound {
        publish: &packet,
        topic,
        client: "device-1",
        identity: Some("who"),
        now_ms: 1,
    });
}

/// Routes a message and walks all that a batch would take of its records; gives their number.
fn write(set: &RuleSet, inbound: &Inbound<'_>, draft: &mut Draft) -> usize {
    set.route(inbound, draft).unwrap();
    for i in 0..draft.len() {
        let fields = draft.fields(i, set, inbound);
        // Headers are walked twice: for the length, then for the bytes.
        let bytes: usize = fields
            .headers
            .clone()
            .map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len))
            .sum();
        assert!(bytes > 0 && fields.headers.count() > 0 && !draft.kafka_topic(i, set).is_empty());
        draft.partition(i, set, inbound, 12).unwrap();
    }
    draft.len()
}

/// How many allocations many rounds make after a few that warm the memory up.
fn allocations<T>(mut round: impl FnMut() -> T) -> u64 {
    let mut rounds = |count| (0..count).for_each(|_| _ = round());
    rounds(3);
    allocation_counter::measure(|| rounds(ROUNDS)).count_total
}

#[test]
fn a_message_that_is_routed_allocates_nothing() {
    let set = rules();
    for topic in ["fleet0/WVW1/rpm", "fleet99/WVW1/rpm", "h/1/2", "w/a/b/c", "e/ab-ü-7/x", "s/1"] {
        with_publish(topic, |inbound| {
            let mut draft = Draft::new();
            assert_eq!(write(&set, inbound, &mut draft), 2, "a record and its copy");
            assert_eq!(allocations(|| write(&set, inbound, &mut draft)), 0, "{topic}");
        });
    }
}

#[test]
fn a_record_allocates_nothing_wanted_or_not() {
    let set = rules();
    for topic in ["fleet0/WVW1/rpm", "fleet99/WVW1/rpm", "h/1/2", "w/a/b/c", "e/ab-ü-7/x", "s/1"] {
        with_publish(topic, |inbound| {
            let mut draft = Draft::new();
            set.route(inbound, &mut draft).unwrap();
            let fields = draft.fields(0, &set, inbound);
            let record = Stored {
                timestamp: 1,
                key: fields.key,
                value: fields.value,
                headers: fields.headers.map(|(name, value)| (name.as_bytes(), value)),
            };
            let reader = set.reader(draft.kafka_topic(0, &set));
            let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::new());
            let unwanted = allocations(|| {
                let located = set.locate(&reader, 0, &record, &mut scratch).unwrap();
                assert_eq!(located.topic, topic);
            });
            let wanted = allocations(|| {
                let located = set.locate(&reader, 0, &record, &mut scratch).unwrap();
                let message = set.message(&located, &record, &mut properties);
                assert!(message.shared_properties.len() > 100);
            });
            assert_eq!((unwanted, wanted), (0, 0), "{topic}");
        });
    }
}

#[test]
fn a_foreign_record_allocates_nothing_delivered_or_skipped() {
    let set = rules();
    type Row = (&'static str, Option<&'static [u8]>, Result<&'static str, &'static str>);
    let table: [Row; 7] = [
        ("fleet", Some(b"WVW1/rpm"), Ok("fleet0/WVW1/rpm")),
        ("fleet", Some(b"WVW1"), Err("other_form")),
        ("whole", Some(b"w/1"), Ok("w/1")),
        ("whole", Some(b"v/1"), Err("other_form")),
        ("out", Some(b"42"), Ok("out/42/7/one")),
        ("out", None, Err("no_key")),
        ("unknown", Some(b"42"), Err("no_rule")),
    ];
    for (kafka_topic, key, wanted) in table {
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"x", Some(b"one")), (b"mqtt.topic", Some(b"not/mapped"))];
        let record = Stored {
            timestamp: 1,
            key,
            value: Some(b"value"),
            headers: headers.into_iter(),
        };
        let (reader, mut scratch) = (set.reader(kafka_topic), LocateScratch::default());
        let count = allocations(|| {
            let located = set.locate(&reader, 7, &record, &mut scratch);
            let found = located.map(|located| located.topic).map_err(|Skip { reason, .. }| reason.as_str());
            assert_eq!(found, wanted);
        });
        assert_eq!(count, 0, "{kafka_topic} {wanted:?}");
    }
}

/// The counter counts: memory that is not warm yet must be asked for.
#[test]
fn a_cold_draft_does_allocate() {
    let set = rules();
    with_publish("fleet0/WVW1/rpm", |inbound| {
        assert!(allocations(|| write(&set, inbound, &mut Draft::new())) >= ROUNDS as u64);
    });
}
