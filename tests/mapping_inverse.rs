//! Rules of all kinds, as they stand in a file, with names and texts that mean something to templates, expressions, programs, YAML or URLs: what is
//! published comes back from its record, and published again it makes the same records.

#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod rules_at_random;

use std::cell::RefCell;
use std::collections::BTreeMap;

use mqtt_kafka_proxy::mapping::{
    Draft, Field, Inbound, LocateScratch, NoRoute, PartitionChoice, RefusalReason, Restored, RuleSet, Skip, SkipReason, Stored,
};
use mqtt_kafka_proxy::mqtt::properties::UserProperties;
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use rules_at_random::{HEADERS, NUMBERS, SPECIAL, TIMES, case, neighbour, rules};

const PARTITIONS: u32 = 20;
const NOW: i64 = 1_300_000_000_000;

#[derive(Clone, Debug, PartialEq)]
struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    /// Encoded.
    user: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
struct Record {
    kafka_topic: String,
    partition: Option<PartitionChoice>,
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

/// The records of a message, and whether the first is that of its ordinary rule.
fn publish(set: &RuleSet, message: &Message) -> Result<(Vec<Record>, bool), NoRoute> {
    let properties = PublishProperties {
        user: UserProperties::from_block(&message.user),
        ..PublishProperties::default()
    };
    let packet = Publish {
        dup: false,
        qos: message.qos,
        retain: message.retain,
        topic: &message.topic,
        packet_id: None,
        properties,
        payload: &message.payload,
    };
    let inbound = Inbound {
        publish: &packet,
        topic: &message.topic,
        client: "c/{x}",
        identity: Some("who %2F"),
        now_ms: NOW,
    };
    let mut draft = Draft::new();
    set.route(&inbound, &mut draft)?;
    let record = |i| {
        let fields = draft.fields(i, set, &inbound);
        let header = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.unwrap().to_vec());
        Record {
            kafka_topic: draft.kafka_topic(i, set).to_owned(),
            partition: draft.partition(i, set, &inbound, PARTITIONS).ok(),
            timestamp: fields.timestamp,
            key: fields.key.unwrap().to_vec(),
            value: fields.value.map(<[u8]>::to_vec),
            headers: fields.headers.map(header).collect(),
        }
    };
    let records = (0..draft.len()).map(record).collect();
    Ok((records, draft.ordinary(set).is_some()))
}

/// The message that a record becomes.
fn read(set: &RuleSet, record: &Record) -> Result<Message, Skip> {
    let headers = record.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice())));
    let stored = Stored {
        timestamp: record.timestamp,
        key: Some(&record.key),
        value: record.value.as_deref(),
        headers,
    };
    let (mut scratch, mut block, mut restored) = (LocateScratch::default(), SharedProperties::new(), Restored::default());
    let reader = set.reader(&record.kafka_topic);
    let located = set.locate(&reader, 0, &stored, &mut scratch)?;
    set.restore(&located, &stored, stored.value, stored.key, NOW, &mut restored)?;
    let message = set.message(&located, &stored, &mut block);
    Ok(Message {
        topic: message.topic.to_owned(),
        payload: restored.payload().unwrap_or(message.payload).to_vec(),
        qos: message.qos,
        retain: message.retain,
        user: message.shared_properties.to_vec(),
    })
}

/// Whether a message may be refused so: it lacks what the rule asks for, or has it in another form.
fn may_be(reason: RefusalReason) -> bool {
    use RefusalReason::{NoPayloadField, NoUserProperty, NotAPartition, NotATimestamp, NotCbor, NotJson};
    let lacks = [NoPayloadField, NoUserProperty, NotAPartition, NotATimestamp, NotCbor, NotJson];
    lacks.contains(&reason)
}

/// Among other rules: the ordinary record is the message, the copies are no messages, and what is delivered makes the same records. Whether there was an
/// ordinary record.
fn goes_round_among(set: &RuleSet, message: &Message) -> Result<bool, TestCaseError> {
    let (records, is_ordinary) = match publish(set, message) {
        Ok(made) => made,
        Err(NoRoute::Refused(refusal)) => {
            prop_assert!(may_be(refusal.reason), "{refusal:?}");
            return Ok(false);
        }
        Err(NoRoute::Unmapped(_)) => {
            prop_assert!(message.topic.starts_with('$'));
            return Ok(false);
        }
    };
    let copies = &records[usize::from(is_ordinary)..];
    for copy in copies {
        let (rule, reason) = (None, SkipReason::Copy);
        prop_assert_eq!(read(set, copy), Err(Skip { rule, reason }));
    }
    if is_ordinary {
        let back = read(set, &records[0]);
        prop_assert_eq!(back.as_ref(), Ok(message), "{:?}", records[0]);
        prop_assert_eq!(publish(set, &back.unwrap()), Ok((records.clone(), true)));
    }
    Ok(is_ordinary)
}

/// Alone: without what the proxy writes for itself, as of another producer, the record of a rule with an inverse has the same topic and payload, and one
/// of a rule without has none, which is told as a warning. Whether it has one; `None`: it made no record.
fn goes_round_alone(set: &RuleSet, message: &Message, has_absent_rest: bool) -> Result<Option<bool>, TestCaseError> {
    let Ok((mut records, true)) = publish(set, message) else {
        return Ok(None);
    };
    let warnings = set.warnings();
    let has_inverse = !warnings
        .iter()
        .any(|warning| matches!(warning.field, Field::Mqtt | Field::MqttRegex));
    let mut record = records.remove(0);
    let names_topic = record.headers.iter().any(|(name, _)| name == "mqtt.topic");
    prop_assert!(!has_inverse || !names_topic || has_absent_rest, "{record:?}");
    // Nothing else tells a rest of no level from an empty one.
    record
        .headers
        .retain(|(name, _)| !name.starts_with("mqtt.") || has_inverse && name == "mqtt.topic");
    let back = read(set, &record);
    if !has_inverse {
        prop_assert!(back.is_err(), "{back:?} of {record:?}");
        return Ok(Some(false));
    }
    let back = back.map(|back| (back.topic, back.payload));
    prop_assert_eq!(back, Ok((message.topic.clone(), message.payload.clone())), "{:?}", record);
    Ok(Some(true))
}

fn user() -> impl Strategy<Value = Vec<u8>> {
    let names = [&HEADERS[..], &["mqtt.topic", "mqtt.copy", "mqtt.user.h", ""][..]].concat();
    let other = prop::collection::vec((select(names), select(SPECIAL.to_vec())), 0..3);
    let known = (select(SPECIAL.to_vec()), select(NUMBERS.to_vec()), select(TIMES.to_vec()));
    (weighted(0.9, known), other).prop_map(|(known, other)| {
        let mut block = SharedProperties::new();
        let known = known.map(|(u, n, at)| [("u", u), ("n", n), ("at", at)]);
        for (name, value) in known.into_iter().flatten().chain(other) {
            assert!(block.user(name, value));
        }
        block.as_bytes().to_vec()
    })
}

/// Rules are written at random, so some have a fault, and some messages lack what their rule asks for: it is counted that there are many of each kind that
/// have an inverse, and of those that have none.
#[test]
fn rules_of_all_kinds_give_back_what_they_took() {
    let config = ProptestConfig {
        source_file: Some(file!()),
        ..ProptestConfig::with_cases(3_000)
    };
    let counted: RefCell<BTreeMap<&str, usize>> = RefCell::default();
    let count = |kind: &'static str| *counted.borrow_mut().entry(kind).or_default() += 1;
    let qos = select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let neighbours = prop::collection::vec((0..6_usize, any::<bool>()), 0..4);
    let all = (case(), qos, prop::bool::weighted(0.2), user(), neighbours, any::<bool>());
    let outcome = TestRunner::new(config).run(&all, |((case, payload), qos, retain, user, neighbours, single)| {
        let message = Message {
            topic: case.topic.clone(),
            payload,
            qos,
            retain,
            user,
        };
        let Some(alone) = rules(std::slice::from_ref(&case.rule), single).filter(|_| !message.topic.is_empty()) else {
            count("fault");
            return Ok(());
        };
        let written = case.rule["mqtt"].as_str().or(case.rule["mqtt_regex"].as_str()).unwrap();
        let has_absent_rest = written.ends_with("#}") && written.split('/').count() > message.topic.split('/').count();
        let has_inverse = goes_round_alone(&alone, &message, has_absent_rest)?;
        count(match has_inverse {
            Some(true) => "inverse",
            Some(false) => "none",
            None => "refused",
        });
        if has_inverse == Some(true) {
            case.kinds.iter().copied().for_each(count);
        }
        goes_round_among(&alone, &message)?;
        let (mut listed, mut behind) = (vec![], vec![]);
        for (number, (kind, is_before)) in neighbours.into_iter().enumerate() {
            let list = if is_before { &mut listed } else { &mut behind };
            list.push(neighbour(number, kind, &case.rule));
        }
        listed.push(case.rule.clone());
        listed.append(&mut behind);
        if listed.len() > 1
            && let Some(among) = rules(&listed, single)
            && goes_round_among(&among, &message)?
        {
            count("among others");
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let counted = counted.into_inner();
    let kinds = [
        "inverse",
        "none",
        "among others",
        "regex",
        "keyless",
        "pattern",
        "partition",
        "timestamp",
        "said",
        "program",
        "format",
        "tombstone",
    ];
    let few: Vec<_> = kinds
        .into_iter()
        .filter(|kind| counted.get(kind).is_none_or(|count| *count < 5))
        .collect();
    assert!(few.is_empty() && counted["inverse"] > 300, "{few:?} of {counted:?}");
}
