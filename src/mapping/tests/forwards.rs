//! From PUBLISH to records.

use super::*;
use crate::mqtt::properties::{PayloadFormat, UserProperties};

fn publish_only(spec: RuleSpec) -> RuleSpec {
    RuleSpec {
        direction: Direction::Publish,
        ..spec
    }
}

fn refused(rule: u32) -> NoRoute {
    let reason = RefusalReason::IllegalKafkaTopic;
    NoRoute::Refused(Refusal {
        rule: RuleId(rule),
        reason,
    })
}

#[test]
fn the_first_ordinary_rule_that_publishes_takes_a_message() {
    let set = compile(vec![
        subscribe("out", "a/{key}", "t"),
        publish_only(spec("exact", "a/b", "t0", None)),
        spec("deep", "a/b/{r#}", "t1", Some("{r}")),
        spec("wide", "a/{x}", "t2", Some("{x}")),
        spec("rest", "{r#}", "t3", Some("{r}")),
    ]);
    for (topic, rule) in [
        ("a/b", 1),
        ("a/b/", 2),
        ("a/b/c/d", 2),
        ("a/c", 3),
        ("a/", 3),
        ("a", 4),
        ("/", 4),
        ("b/c", 4),
    ] {
        assert_eq!(first(&set, topic).rule, rule, "{topic}");
    }
}

#[test]
fn every_copy_follows_the_ordinary_record() {
    let set = compile(vec![
        also(spec("alarms", "v/{vin}/temp", "alarms", Some("{vin}"))),
        spec("a", "v/{vin}/{s}", "t-{s}", Some("{vin}")),
        also(spec("all", "#", "archive", None)),
    ]);
    let made = write(&set, &publish("v/42/temp", b"x")).unwrap();
    let places: Vec<_> = made.iter().map(|r| (r.rule, r.topic.as_str(), r.key())).collect();
    assert_eq!(places, [(1, "t-temp", "42"), (0, "alarms", "42"), (2, "archive", "v/42/temp")]);
    let marks: Vec<_> = made.iter().map(|r| r.header("mqtt.copy")).collect();
    assert_eq!(marks, [None, Some(&b"alarms"[..]), Some(b"all")]);
    // Where no ordinary rule matches, the copies are all there is.
    let made = write(&set, &publish("other", b"x")).unwrap();
    assert_eq!(made.iter().map(|r| r.rule).collect::<Vec<_>>(), [2]);
}

#[test]
fn what_no_rule_maps_is_told_with_what_is_to_be_done() {
    for unmapped in [Unmapped::Reject, Unmapped::Drop] {
        let rules = vec![spec("a", "a/+", "t", None), subscribe("s", "b/{key}", "t")];
        let set = RuleSet::compile(rules, unmapped).unwrap();
        for topic in ["b/1", "a", "a/1/2", "$a/1", "A/1"] {
            assert_eq!(write(&set, &publish(topic, b"")), Err(NoRoute::Unmapped(unmapped)), "{topic}");
        }
    }
}

#[test]
fn no_wildcard_takes_a_topic_of_the_servers_own() {
    let set = compile(vec![
        spec("rest", "{r#}", "t", Some("{r}")),
        also(spec("plus", "+/x", "t", None)),
        spec("named", "$app/{x}", "app", Some("{x}")),
    ]);
    assert_eq!(write(&set, &publish("$SYS/x", b"")), Err(NoRoute::Unmapped(Unmapped::Reject)));
    assert_eq!(first(&set, "$app/1").rule, 2);
    assert_eq!(first(&set, "a/$SYS").rule, 0);
}

#[test]
fn a_topic_that_kafka_would_not_take_is_refused_or_left_out() {
    let by_topic = |name| spec(name, "a/{x}", "{x}", Some("{x}"));
    let skip = |spec| RuleSpec {
        on_error: Some(OnError::Skip),
        ..spec
    };
    let rejecting = compile(vec![by_topic("a")]);
    let long = format!("a/{}", "x".repeat(250));
    for topic in ["a/é", "a/", "a/.", "a/..", "a/a b", long.as_str()] {
        assert_eq!(write(&rejecting, &publish(topic, b"")), Err(refused(0)), "{topic}");
    }
    assert_eq!(first(&rejecting, &long[..251]).topic.len(), 249);
    let rest = compile(vec![spec("r", "a/{r#}", "{r}", Some("k"))]);
    assert_eq!(write(&rest, &publish("a/b/c", b"")), Err(refused(0)));
    assert_eq!(write(&rest, &publish("a", b"")), Err(refused(0)));
    // A copy that cannot be made spoils the message, unless its rule says otherwise.
    let plain = || spec("b", "a/+", "b", None);
    let spoiled = compile(vec![also(by_topic("a")), plain()]);
    assert_eq!(write(&spoiled, &publish("a/é", b"")), Err(refused(0)));
    let set = compile(vec![also(skip(by_topic("a"))), plain()]);
    let packet = publish("a/é", b"");
    let mut draft = Draft::new();
    set.route(&inbound(&packet), &mut draft).unwrap();
    assert_eq!((draft.len(), draft.rule(0)), (1, RuleId(1)));
    let reason = RefusalReason::IllegalKafkaTopic;
    assert_eq!(draft.skipped(), [Refusal { rule: RuleId(0), reason }]);
    // The draft is used again: nothing of the former message is left in it.
    let packet = publish("a/1", b"");
    set.route(&inbound(&packet), &mut draft).unwrap();
    assert_eq!((draft.len(), draft.skipped().len(), draft.kafka_topic(1, &set)), (2, 0, "1"));
}

#[test]
fn partitions_are_chosen_as_the_rule_says() {
    let choice = |partition, count| {
        let mut rule = spec("a", "a/{x}", "t", Some("{x}"));
        rule.kafka.partition = partition;
        let set = compile(vec![rule]);
        let packet = publish("a/foobar", b"");
        let inbound = inbound(&packet);
        let mut draft = Draft::new();
        set.route(&inbound, &mut draft).unwrap();
        draft.partition(0, &set, &inbound, count)
    };
    // murmur2("foobar") is -790332482, which is 1357151166 without its sign.
    assert_eq!(choice(None, 1000), Ok(PartitionChoice::Index(166)));
    assert_eq!(choice(Some(PartitionSpec::Hash), 7), Ok(PartitionChoice::Index(1_357_151_166 % 7)));
    assert_eq!(choice(Some(PartitionSpec::RoundRobin), 7), Ok(PartitionChoice::RoundRobin));
    assert_eq!(choice(Some(PartitionSpec::Sticky), 7), Ok(PartitionChoice::Sticky));
    assert_eq!(choice(Some(PartitionSpec::Number(6)), 7), Ok(PartitionChoice::Index(6)));
    let (rule, reason) = (RuleId(0), RefusalReason::NoSuchPartition);
    assert_eq!(choice(Some(PartitionSpec::Number(7)), 7), Err(Refusal { rule, reason }));
}

#[test]
fn refusals_have_words() {
    assert_eq!(RefusalReason::IllegalKafkaTopic.as_str(), "illegal_kafka_topic");
    assert_eq!(RefusalReason::NoSuchPartition.as_str(), "no_such_partition");
}

#[test]
fn headers_are_written_only_when_they_say_something() {
    let mut rule = with_headers(
        spec("a", "a/{x}/+", "t", Some("{client}:{x}")),
        &[("x", "<{x}>"), ("who", "{client}")],
    );
    rule.qos = Some(QoS::AtLeastOnce);
    let plain = compile(vec![rule.clone()]);
    assert_eq!(first(&plain, "a/1/2").names(), ["mqtt.topic", "mqtt.client", "x", "who"]);
    rule.kafka.client_header = Some(false);
    let set = compile(vec![rule]);
    let block = user(&[("u", "1"), ("u", "2")]);
    let packet = Publish {
        qos: QoS::AtMostOnce,
        retain: true,
        properties: PublishProperties {
            payload_format: Some(PayloadFormat::Utf8),
            message_expiry_interval: Some(4_294_967_295),
            response_topic: Some("re/ply"),
            correlation_data: Some(b"\xff\0"),
            content_type: Some("text/plain"),
            user: UserProperties::from_block(&block),
            ..PublishProperties::default()
        },
        ..publish("a/1/2", b"\xfe")
    };
    let record = write(&set, &packet).unwrap().remove(0);
    assert_eq!((record.key(), record.value.as_deref()), ("c1:1", Some(&b"\xfe"[..])));
    let wanted: [(&str, &[u8]); 12] = [
        ("mqtt.topic", b"a/1/2"),
        ("mqtt.qos", b"0"),
        ("mqtt.retain", b"1"),
        ("mqtt.expiry", b"4294967295"),
        ("mqtt.content-type", b"text/plain"),
        ("mqtt.payload-format", b"1"),
        ("mqtt.response-topic", b"re/ply"),
        ("mqtt.correlation-data", b"\xff\0"),
        ("x", b"<1>"),
        ("who", b"c1"),
        ("u", b"1"),
        ("u", b"2"),
    ];
    assert_eq!(record.headers, Record::foreign("", None, &wanted).headers);
}

#[test]
fn a_device_cannot_write_the_headers_of_the_proxy_or_of_the_rule() {
    let set = compile(vec![with_headers(spec("a", "a/{x}", "t", Some("k")), &[("x", "{x}")])]);
    let pairs = [
        ("mqtt.topic", "secret"),
        ("mqtt.copy", "1"),
        ("x", "2"),
        ("mqtt.user.x", "3"),
        ("X", "4"),
        ("mqtt.", "5"),
        ("mqtt", "6"),
        ("", "7"),
        ("x", "8"),
    ];
    let block = user(&pairs);
    let packet = Publish {
        properties: PublishProperties {
            user: UserProperties::from_block(&block),
            ..PublishProperties::default()
        },
        ..publish("a/1", b"")
    };
    let record = write(&set, &packet).unwrap().remove(0);
    let escaped = [
        "mqtt.client",
        "mqtt.qos",
        "x",
        "mqtt.user.mqtt.topic",
        "mqtt.user.mqtt.copy",
        "mqtt.user.x",
        "mqtt.user.mqtt.user.x",
        "X",
        "mqtt.user.mqtt.",
        "mqtt",
        "",
        "mqtt.user.x",
    ];
    assert_eq!(record.names(), escaped);
    assert_eq!(record.header("x"), Some(&b"1"[..]));
    let message = read(&set, &record).unwrap();
    assert_eq!((message.topic.as_str(), message.left_out), ("a/1", 0));
    assert_eq!(message.properties, user(&pairs));
}

#[test]
fn braces_and_unicode_stand_for_themselves() {
    let rule = spec("a", "größe/{{x}}/{v}/{{", "t", Some("}}{{{v}}}→"));
    let set = compile(vec![with_headers(rule, &[("ключ", "{{{v}")])]);
    let record = first(&set, "größe/{x}/ü€/{");
    assert_eq!((record.key(), record.header("ключ")), ("}{ü€}→", Some("{ü€".as_bytes())));
    assert_eq!(read(&set, &record).unwrap().topic, "größe/{x}/ü€/{");
    assert_eq!(write(&set, &publish("größe/x/ü/{", b"")), Err(NoRoute::Unmapped(Unmapped::Reject)));
}

#[test]
fn empty_levels_are_levels() {
    let set = compile(vec![
        spec("a", "{a}/{b}/{c}", "t", Some("{a}/{b}/{c}")),
        spec("r", "x/{r#}", "u", Some("{r}")),
    ]);
    for (topic, key) in [("//", "//"), ("/b/", "/b/"), ("a//c", "a//c")] {
        assert_eq!((first(&set, topic).topic.as_str(), first(&set, topic).key()), ("t", key));
    }
    // `x` and `x/` have the same key; only the topic tells them apart.
    assert_eq!((first(&set, "x").key(), first(&set, "x/").key()), ("", ""));
    assert_eq!(first(&set, "x").header("mqtt.topic"), Some(&b"x"[..]));
    assert_eq!(first(&set, "x/").header("mqtt.topic"), None);
    for topic in ["x", "x/", "x//", "x/a/b/"] {
        assert_eq!(read(&set, &first(&set, topic)).unwrap().topic, topic);
    }
}
