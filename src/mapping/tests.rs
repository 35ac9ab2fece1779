//! The mapping as its users see it: rules in, messages through, both ways.

use super::*;
use crate::mqtt::{Publish, PublishProperties, QoS};

fn spec(name: &str, mqtt: &str, topic: &str, key: Option<&str>) -> RuleSpec {
    let kafka = KafkaSpec {
        topic: topic.into(),
        key: key.map(Into::into),
        ..KafkaSpec::default()
    };
    RuleSpec {
        name: name.into(),
        mqtt: mqtt.into(),
        kafka,
        ..RuleSpec::default()
    }
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    }
}

/// Topic, key and headers of every record that a message makes.
type Made = Vec<(String, String, Vec<(String, Vec<u8>)>)>;

fn route(set: &RuleSet, topic: &str) -> Result<Made, NoRoute> {
    let packet = publish(topic, b"payload");
    let inbound = Inbound {
        publish: &packet,
        topic,
        client: "c1",
        now_ms: 7,
    };
    let mut draft = Draft::new();
    set.route(&inbound, &mut draft)?;
    let record = |i| {
        let fields = draft.fields(i, set, &inbound);
        let headers = fields
            .headers
            .map(|(name, value)| (name.to_owned(), value.unwrap().to_vec()))
            .collect();
        (
            draft.kafka_topic(i, set).to_owned(),
            String::from_utf8(fields.key.unwrap().to_vec()).unwrap(),
            headers,
        )
    };
    Ok((0..draft.len()).map(record).collect())
}

fn back(set: &RuleSet, kafka_topic: &str, key: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Result<String, SkipReason> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value)));
    let record = Stored {
        timestamp: 7,
        key,
        value: Some(b"payload"),
        headers,
    };
    set.locate(&set.reader(kafka_topic), 3, &record, &mut LocateScratch::default())
        .map(|located| located.topic.to_owned())
        .map_err(|skip| skip.reason)
}

/// Publishes, and gives the topic that subscribers see.
fn round(set: &RuleSet, topic: &str) -> String {
    let made = route(set, topic).unwrap();
    let (kafka_topic, key, headers) = &made[0];
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    back(set, kafka_topic, Some(key.as_bytes()), &headers).unwrap()
}

#[test]
fn a_message_goes_to_the_first_ordinary_rule_and_to_every_copy() {
    let alarms = RuleSpec {
        also: true,
        ..spec("alarms", "v/{vin}/temp", "alarms", Some("{vin}"))
    };
    let set = RuleSet::compile(vec![alarms, spec("a", "v/{vin}/{s}", "t-{s}", Some("{vin}"))], Unmapped::Reject).unwrap();
    let made = route(&set, "v/42/temp").unwrap();
    assert_eq!((made[0].0.as_str(), made[0].1.as_str()), ("t-temp", "42"));
    assert_eq!((made[1].0.as_str(), made[1].1.as_str()), ("alarms", "42"));
    assert!(made[1].2.iter().any(|(name, _)| name == "mqtt.copy"));
    assert_eq!(
        back(&set, "alarms", Some(b"42"), &[("mqtt.copy", b"alarms")]),
        Err(SkipReason::Copy)
    );
    assert_eq!(route(&set, "w/1/2").unwrap_err(), NoRoute::Unmapped(Unmapped::Reject));
    let refused = NoRoute::Refused(Refusal {
        rule: RuleId(1),
        reason: RefusalReason::IllegalKafkaTopic,
    });
    assert_eq!(route(&set, "v/42/é").unwrap_err(), refused);
}

#[test]
fn topics_come_back_as_they_went() {
    let ambiguous = RuleSet::compile(vec![spec("a", "{a}/{b}", "t", Some("{a}-{b}"))], Unmapped::Reject).unwrap();
    assert_eq!(round(&ambiguous, "x-y/z"), "x-y/z");
    let set = RuleSet::compile(
        vec![spec("a", "a/{x}", "t", Some("{x}")), spec("b", "b/{r#}", "t", Some("{r}"))],
        Unmapped::Reject,
    )
    .unwrap();
    for topic in ["a/1", "b/1", "b", "b/", "b/1/2", "a/"] {
        assert_eq!(round(&set, topic), topic);
    }
    assert!(!route(&set, "a/1").unwrap()[0].2.iter().any(|(name, _)| name == "mqtt.topic"));
}

#[test]
fn foreign_records_are_delivered_where_a_topic_can_be_made() {
    let commands = RuleSpec {
        direction: Direction::Subscribe,
        ..spec("c", "v/{key}/commands", "commands", None)
    };
    let set = RuleSet::compile(vec![commands, spec("a", "a/{x}", "t", Some("{x}"))], Unmapped::Reject).unwrap();
    assert_eq!(back(&set, "commands", Some(b"42"), &[]).unwrap(), "v/42/commands");
    assert_eq!(back(&set, "commands", None, &[]), Err(SkipReason::NoKey));
    assert_eq!(back(&set, "commands", Some(b"\xff"), &[]), Err(SkipReason::KeyNotUtf8));
    assert_eq!(back(&set, "commands", Some(b"+"), &[]), Err(SkipReason::IllegalTopic));
    // A header that the rule could not have written is not believed.
    assert_eq!(back(&set, "t", Some(b"1"), &[("mqtt.topic", b"secret/1")]).unwrap(), "a/1");
    assert_eq!(back(&set, "t", Some(b"1"), &[("mqtt.topic", b"a/2")]).unwrap(), "a/1");
}

#[test]
fn filters_name_their_sources() {
    let set = RuleSet::compile(vec![spec("a", "v/{x}/{s}", "t-{s}", Some("{x}"))], Unmapped::Reject).unwrap();
    let source = |key: Option<&str>| {
        vec![Source {
            rule: RuleId(0),
            kafka_topic: "t-s".into(),
            key: key.map(|key| key.as_bytes().to_vec()),
        }]
    };
    assert_eq!(set.sources("v/1/s").unwrap(), source(Some("1")));
    assert_eq!(set.sources("+/+/s").unwrap(), source(None));
    assert!(matches!(set.sources("v/1/#"), Err(NoSources::NotReadable { .. })));
    assert_eq!(set.sources("w/1/s"), Err(NoSources::Unmapped));
    assert_eq!(set.sources("v/1"), Err(NoSources::Unmapped));
}

#[test]
fn every_fault_is_told_at_once_and_where() {
    let mut bad = spec("a", "v/{x}/{x}/{unused}", "é{y}", Some("{z}"));
    bad.kafka.headers.push(("mqtt.h".into(), "{".into()));
    let faults = RuleSet::compile(
        vec![spec("a", "v/#", "t", None), bad, spec("b", "v/{x}", "t", Some("{x}"))],
        Unmapped::Reject,
    )
    .unwrap_err();
    let places: Vec<_> = faults.iter().map(|fault| (fault.rule, fault.field, fault.at)).collect();
    for place in [
        (1, Field::Name, Some(0)),
        (1, Field::Mqtt, Some(6)),
        (1, Field::HeaderName(0), Some(0)),
        (1, Field::HeaderValue(0), Some(0)),
        (2, Field::Mqtt, Some(0)),
    ] {
        assert!(places.contains(&place), "{place:?} in {places:?}");
    }
}
