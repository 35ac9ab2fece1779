//! Any bytes as a program and a payload, both ways and in every format: nothing panics or goes on for ever, and what comes out is a record or a reason.
//!
//! The first byte chooses the formats; the program ends at the first zero byte.

use mqtt_kafka_proxy::kafka::RecordFields;
use mqtt_kafka_proxy::mapping::{
    Draft, Format, Inbound, KafkaSpec, LocateScratch, Made, Restored, RuleSet, RuleSpec, Stored, Unmapped, ValueSpec,
};
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};

const FORMATS: [Format; 4] = [Format::Json, Format::Text, Format::Bytes, Format::Cbor];
/// A run has 20,000 steps, and a step for each 8 bytes of payload; the last may go beyond.
const STEPS: u64 = 20_010;

fn rules(program: &str, value: ValueSpec) -> Option<RuleSet> {
    let rule = RuleSpec {
        name: "r".into(),
        mqtt: "a/{x}".into(),
        transform: Some(program.into()),
        transform_back: Some(program.into()),
        value: Some(value),
        kafka: KafkaSpec {
            topic: "t".into(),
            key: Some("{x}".into()),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    RuleSet::compile(vec![rule], Unmapped::Reject).ok()
}

/// Whether the program is one, and made a record.
pub fn check(bytes: &[u8]) -> bool {
    let Some((&first, rest)) = bytes.split_first() else { return false };
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let (Ok(program), payload) = (std::str::from_utf8(&rest[..end]), rest.get(end + 1..).unwrap_or(b"")) else {
        return false;
    };
    let value = ValueSpec {
        format: FORMATS[usize::from(first & 3)],
        payload: Some(FORMATS[usize::from(first >> 2 & 3)]),
    };
    let Some(set) = rules(program, value) else { return false };
    let most = STEPS + payload.len() as u64 / 8;
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    };
    let inbound = Inbound {
        publish: &publish,
        topic: "a/b",
        client: "c",
        identity: None,
        now_ms: 7,
    };
    let mut draft = Draft::new();
    let routed = set.route(&inbound, &mut draft);
    assert_eq!(draft.ran().len(), 1);
    assert!(draft.ran()[0].steps <= most, "{} steps", draft.ran()[0].steps);
    assert_eq!(routed.is_err(), matches!(draft.ran()[0].made, Made::Refused(_)));
    for at in 0..draft.len() {
        let RecordFields { key, value, headers, .. } = draft.fields(at, &set, &inbound);
        assert!(key.is_some() && value.is_some() && headers.count() >= 1);
        assert_eq!(draft.kafka_topic(at, &set), "t");
    }
    back(&set, payload, most);
    !draft.is_empty()
}

fn back(set: &RuleSet, value: &[u8], most: u64) {
    let stored = Stored {
        timestamp: 7,
        key: Some(b"b"),
        value: Some(value),
        headers: [(&b"mqtt.topic"[..], Some(&b"a/b"[..]))].into_iter(),
    };
    let (mut scratch, mut restored) = (LocateScratch::default(), Restored::default());
    let reader = set.reader("t");
    let located = set.locate(&reader, 0, &stored, &mut scratch).expect("the rule wrote it");
    let outcome = set.restore(&located, &stored, stored.value, stored.key, 7, &mut restored);
    assert!(outcome.is_err() || restored.payload().is_some() || value.is_empty());
    assert!(restored.ran.is_none_or(|ran| ran.steps <= most));
}
