//! The proxy's own records on their way to subscribers.

use super::*;
use crate::mqtt::properties::{PayloadFormat, UserProperties};

#[test]
fn topics_come_back_as_they_went() {
    let ambiguous = compile(vec![spec("a", "{a}/{b}", "t", Some("{a}-{b}"))]);
    assert_eq!(read(&ambiguous, &first(&ambiguous, "x-y/z")).unwrap().topic, "x-y/z");
    let set = compile(vec![spec("a", "a/{x}", "t", Some("{x}")), spec("b", "b/{r#}", "t", Some("{r}"))]);
    for topic in ["a/1", "b/1", "b", "b/", "b/1/2", "a/"] {
        assert_eq!(read(&set, &first(&set, topic)).unwrap().topic, topic);
    }
}

/// `mqtt.topic` is only written where key, Kafka topic and headers would not give the MQTT topic back.
#[test]
fn the_topic_header_says_what_nothing_else_does() {
    let header = |rules: Vec<RuleSpec>, topic| {
        let set = compile(rules);
        let record = first(&set, topic);
        assert_eq!(read(&set, &record).unwrap().topic, topic);
        record.header("mqtt.topic").is_some()
    };
    let one = |mqtt, topic, key| vec![spec("a", mqtt, topic, key)];
    assert!(!header(one("a/+", "t", None), "a/1"), "the key is the topic");
    assert!(
        !header(one("a/+/#", "t", None), "a/1/2"),
        "the key is the topic, whatever the filter"
    );
    assert!(
        !header(one("a/{r#}", "t-{r}", None), "a"),
        "the key is the topic, even if nothing is captured"
    );
    assert!(!header(one("a/{x}/{y}", "t-{y}", Some("{x}")), "a/1/2"), "topic and key hold both");
    assert!(!header(one("a/{x}/{y}", "t", Some("{y}/{x}")), "a/1/2"), "a level has no slash");
    assert!(!header(one("a/b", "t", Some("k")), "a/b"), "there is only one topic");
    assert!(header(one("a/{x}/+", "t", Some("{x}")), "a/1/2"), "a level that nothing holds");
    assert!(header(one("a/{x}/{y}", "t", Some("{x}-{y}")), "a/1/2"), "cut at any dash");
    assert!(header(one("a/{x}/{r#}", "t", Some("{r}/{x}")), "a/1/2"), "cut at any slash");
    assert!(
        header(one("a/{x}", "t", Some("{client}/{x}")), "a/1"),
        "client ids may have any form"
    );
    let by_header = with_headers(spec("a", "a/{x}/{y}", "t", Some("k")), &[("x", "<{x}>"), ("y", "{y}")]);
    assert!(!header(vec![by_header], "a/1/2"), "headers hold both");
    let second = vec![spec("a", "a/{x}", "t", Some("{x}")), spec("b", "b/{x}", "t", Some("{x}"))];
    assert!(header(second.clone(), "b/1"), "an earlier rule would take the record");
    assert!(!header(second, "a/1"), "it is the first");
    let templated = vec![spec("a", "a/{x}", "{x}", Some("k")), spec("b", "b/{x}", "t", Some("{x}"))];
    assert!(header(templated, "b/1"), "an earlier rule may read that topic");
}

#[test]
fn all_that_a_message_has_comes_back() {
    let set = compile(vec![spec("a", "a/{x}", "t", Some("{x}"))]);
    let block = user(&[("k", "v"), ("k", ""), ("", "ü"), ("mqtt.client", "x")]);
    let packet = Publish {
        qos: QoS::ExactlyOnce,
        retain: true,
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Bytes),
            message_expiry_interval: Some(0),
            response_topic: Some("re/ply"),
            correlation_data: Some(b""),
            content_type: Some(""),
            user: UserProperties::from_block(&block),
            ..PublishProperties::default()
        },
        ..publish("a/1", b"\0\xff")
    };
    let mut properties = SharedProperties::new();
    assert!(properties.extend(&packet.properties));
    let wanted = Message {
        rule: 0,
        topic: "a/1".into(),
        qos: QoS::ExactlyOnce,
        retain: true,
        expiry: Some(0),
        properties: properties.as_bytes().to_vec(),
        client: Some("c1".into()),
        payload: b"\0\xff".to_vec(),
        left_out: 0,
    };
    assert_eq!(read(&set, &write(&set, &packet).unwrap()[0]), Ok(wanted));
}

#[test]
fn the_lower_quality_of_record_and_rule_counts() {
    use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
    let table = [
        (AtMostOnce, [AtMostOnce, AtMostOnce, AtMostOnce]),
        (AtLeastOnce, [AtMostOnce, AtLeastOnce, AtLeastOnce]),
        (ExactlyOnce, [AtMostOnce, AtLeastOnce, ExactlyOnce]),
    ];
    for (of_rule, wanted) in table {
        let rule = RuleSpec {
            qos: Some(of_rule),
            ..spec("a", "a/{x}", "t", Some("{x}"))
        };
        let set = compile(vec![rule]);
        for (qos, wanted) in [AtMostOnce, AtLeastOnce, ExactlyOnce].into_iter().zip(wanted) {
            let packet = Publish {
                qos,
                ..publish("a/1", b"")
            };
            let record = write(&set, &packet).unwrap().remove(0);
            assert_eq!(read(&set, &record).unwrap().qos, wanted, "{qos:?} by a rule of {of_rule:?}");
        }
        assert_eq!(read(&set, &Record::foreign("t", Some(b"1"), &[])).unwrap().qos, of_rule);
    }
}

#[test]
fn copies_are_not_delivered_again() {
    let set = compile(vec![
        also(spec("copy", "a/{x}", "t", Some("{x}"))),
        spec("a", "a/{x}", "t", Some("{x}")),
    ]);
    let made = write(&set, &publish("a/1", b"x")).unwrap();
    assert_eq!(made.len(), 2);
    assert_eq!(read(&set, &made[0]).unwrap().topic, "a/1");
    let (rule, reason) = (None, SkipReason::Copy);
    assert_eq!(read(&set, &made[1]), Err(Skip { rule, reason }));
}

/// An empty payload stays an empty value: only a null value is a tombstone.
#[test]
fn tombstones_are_for_those_who_ask() {
    for (tombstones, delivered) in [(Tombstones::Skip, false), (Tombstones::Deliver, true)] {
        let mut rule = spec("a", "a/{x}", "t", Some("{x}"));
        rule.kafka.tombstones = Some(tombstones);
        let set = compile(vec![rule]);
        let mut record = write(&set, &publish("a/1", b"")).unwrap().remove(0);
        assert_eq!(record.value.as_deref(), Some(&b""[..]));
        assert_eq!(read(&set, &record).unwrap().payload, b"");
        record.value = None;
        let (rule, reason) = (Some(RuleId(0)), SkipReason::Tombstone);
        match read(&set, &record) {
            Ok(message) => assert!(delivered && message.payload.is_empty()),
            Err(skip) => assert_eq!((delivered, skip), (false, Skip { rule, reason })),
        }
    }
}

#[test]
fn tombstones_go_both_ways_where_the_rule_says_so() {
    let mut plain = spec("a", "a/{x}", "t", Some("{x}"));
    plain.kafka.tombstones = Some(Tombstones::Both);
    let mut program = plain.clone();
    program.transform = Some("{a: .}".into());
    program.transform_back = Some(".a".into());
    let copy = RuleSpec {
        direction: Direction::Publish,
        ..also(plain.clone())
    };
    for rule in [plain, program, copy] {
        let (copies, named) = (rule.also, spec("b", "a/+", "u", None));
        let set = compile(if copies { vec![rule, named] } else { vec![rule] });
        let made = write(&set, &publish("a/1", b"")).unwrap();
        let record = made.iter().find(|record| record.topic == "t").unwrap();
        assert_eq!((record.key(), record.value.as_deref()), ("1", None));
        if !copies {
            let message = read(&set, record).unwrap();
            assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("a/1", &b""[..]));
            assert!(write(&set, &publish("a/1", b"1")).unwrap()[0].value.is_some());
        }
    }
}

/// Two thousand rules on one Kafka topic: the one that wrote is found, not the first that could read.
#[test]
fn the_rule_that_wrote_is_found_among_many() {
    let rules = (0..2_000).map(|i| spec(&format!("r{i}"), &format!("f{i}/{{x}}"), "t", Some("{x}")));
    let set = compile(rules.collect());
    for i in [0, 1, 999, 1_999] {
        let topic = format!("f{i}/1");
        let message = read(&set, &first(&set, &topic)).unwrap();
        assert_eq!((message.rule, message.topic), (i, topic));
    }
}
