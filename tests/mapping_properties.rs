//! Properties of the mapping over random rules and topics: what goes in comes back, and nothing panics.

use mqtt_kafka_proxy::mapping::{Draft, Inbound, KafkaSpec, LocateScratch, RuleSet, RuleSpec, Stored, Unmapped};
use mqtt_kafka_proxy::mqtt::publish::SharedProperties;
use mqtt_kafka_proxy::mqtt::{Publish, PublishProperties, QoS};
use proptest::prelude::*;

fn rules(filters: &[String]) -> Option<RuleSet> {
    let rule = |(i, filter): (usize, &String)| RuleSpec {
        name: format!("r{i}"),
        mqtt: filter.clone(),
        kafka: KafkaSpec {
            topic: format!("t{}", i % 2),
            key: Some("{x}-{y}".into()),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    };
    RuleSet::compile(filters.iter().enumerate().map(rule).collect(), Unmapped::Reject).ok()
}

/// The matching of MQTT §4.7, level by level, without a trie.
fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
    if topic[0].starts_with('$') && filter[0].starts_with(['{', '+', '#']) {
        return false;
    }
    for (i, level) in filter.iter().enumerate() {
        match *level {
            "#" => return true,
            level if i < topic.len() && (level == topic[i] || level == "+" || level.starts_with('{')) => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}

proptest! {
    #[test]
    fn the_first_rule_takes_a_topic_and_gives_it_back(
        tails in prop::collection::vec("(/(a|b|\\+)){0,3}(/#)?", 1..6),
        topic in "[ab$-]{0,2}(/[ab-]{0,2}){0,4}",
    ) {
        let filters: Vec<String> = tails.iter().map(|tail| format!("{{x}}/{{y}}{tail}")).collect();
        let Some(set) = rules(&filters) else { return Ok(()) };
        let packet = Publish {
            dup: false, qos: QoS::AtLeastOnce, retain: false, topic: &topic, packet_id: None,
            properties: PublishProperties::default(), payload: b"payload",
        };
        let inbound = Inbound { publish: &packet, topic: &topic, client: "c", now_ms: 1 };
        let mut draft = Draft::new();
        let routed = set.route(&inbound, &mut draft);
        let first = filters.iter().position(|filter| matches(filter, &topic));
        prop_assert_eq!(routed.ok().map(|()| draft.rule(0).0 as usize), first);
        if first.is_some() {
            let fields = draft.fields(0, &set, &inbound);
            let headers = fields.headers.clone().map(|(name, value)| (name.as_bytes(), value));
            let record = Stored { timestamp: 1, key: fields.key, value: fields.value, headers };
            let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::new());
            let located = set.locate(&set.reader(draft.kafka_topic(0, &set)), 0, &record, &mut scratch).unwrap();
            let message = set.message(&located, &record, &mut properties);
            prop_assert_eq!((message.topic, message.payload, message.client), (topic.as_str(), &b"payload"[..], Some("c")));
        }
    }

    #[test]
    fn no_text_panics(filter in ".{0,20}", key in ".{0,20}", topic in ".{0,20}", subscribed in "[ab+#$/]{1,9}") {
        let kafka = KafkaSpec { topic: "t".into(), key: Some(key), ..KafkaSpec::default() };
        let spec = RuleSpec { name: "r".into(), mqtt: filter, kafka, ..RuleSpec::default() };
        if let Ok(set) = RuleSet::compile(vec![spec], Unmapped::Reject) {
            let _ = set.sources(&subscribed);
            let packet = Publish {
                dup: false, qos: QoS::AtMostOnce, retain: false, topic: &topic, packet_id: None,
                properties: PublishProperties::default(), payload: b"",
            };
            let _ = set.route(&Inbound { publish: &packet, topic: &topic, client: "", now_ms: 0 }, &mut Draft::new());
        }
    }
}
