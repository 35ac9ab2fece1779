//! Records of other programs on their way to subscribers.

use super::*;

fn skip(set: &RuleSet, topic: &str, key: Option<&[u8]>) -> Skip {
    read(set, &Record::foreign(topic, key, &[])).unwrap_err()
}

#[test]
fn captures_are_read_from_where_the_rule_would_have_put_them() {
    let one = |mqtt, topic, key| compile(vec![spec("a", mqtt, topic, key)]);
    // Filter, templates of topic and key; then a record's topic and key, and the topic it is delivered with.
    type Row = (
        &'static str,
        &'static str,
        Option<&'static str>,
        &'static str,
        &'static str,
        &'static str,
    );
    let table: [Row; 9] = [
        ("a/{x}", "t-{x}", None, "t-1", "a/1", "a/1"),
        ("a/+/#", "t", None, "t", "a/1/2/3", "a/1/2/3"),
        ("a/{x}", "t", Some("{x}"), "t", "1", "a/1"),
        ("a/{x}", "t", Some("dev-{x}.z"), "t", "dev-1.z.z", "a/1.z"),
        ("a/{x}", "t-{x}", Some("k"), "t-1", "k", "a/1"),
        ("a/{x}/{y}", "t-{x}", Some("{y}"), "t-1", "2", "a/1/2"),
        ("a/{x}/{y}", "t", Some("{y}/-{x}"), "t", "2/-1", "a/1/2"),
        ("a/{r#}", "t", Some("{r}"), "t", "1/2/3", "a/1/2/3"),
        ("a/b", "t", Some("k"), "t", "k", "a/b"),
    ];
    for (mqtt, kafka_topic, template, topic, key, wanted) in table {
        let set = one(mqtt, kafka_topic, template);
        assert_eq!(
            back(&set, topic, Some(key.as_bytes()), &[]).as_deref(),
            Ok(wanted),
            "{mqtt} {template:?}"
        );
    }
    let rule = with_headers(spec("h", "a/{x}/{y}", "t", Some("{client}")), &[("h1", "<{x}>"), ("h2", "{y}")]);
    let set = compile(vec![rule]);
    let headers: [(&str, &[u8]); 3] = [("h2", b"2"), ("h1", b"<1>"), ("h2", b"3")];
    assert_eq!(
        back(&set, "t", None, &headers).as_deref(),
        Ok("a/1/2"),
        "the first of each name counts"
    );
}

#[test]
fn subscribe_rules_make_topics_of_all_that_a_record_has() {
    let one = |mqtt| compile(vec![subscribe("s", mqtt, "t.x")]);
    let headers: [(&str, &[u8]); 2] = [("h", b"1"), ("deep", b"1/2")];
    let table = [
        ("v/{key}/c", "k", "v/k/c"),
        ("{topic}/{partition}", "k", "t.x/3"),
        ("v-{key}-{header.h}/{{x}}", "ü", "v-ü-1/{x}"),
        ("v/{key#}", "k/l/m", "v/k/l/m"),
        ("v/{header.deep#}", "k", "v/1/2"),
        ("/{key}/", "", "//"),
        ("fixed", "k", "fixed"),
        ("$app/{key}", "k", "$app/k"),
    ];
    for (mqtt, key, wanted) in table {
        assert_eq!(
            back(&one(mqtt), "t.x", Some(key.as_bytes()), &headers).as_deref(),
            Ok(wanted),
            "{mqtt}"
        );
    }
    assert_eq!(back(&one("v/{key}"), "t.x", Some(b"k/l"), &headers), Err(SkipReason::OtherForm));
    assert_eq!(back(&one("v/{header.deep}"), "t.x", None, &headers), Err(SkipReason::OtherForm));
    assert_eq!(back(&one("{key}/x"), "t.x", Some(b"$SYS"), &[]), Err(SkipReason::IllegalTopic));
}

#[test]
fn every_reason_to_pass_a_record_over() {
    let by_header = with_headers(spec("h", "h/{x}", "headers", Some("k")), &[("x", "{x}")]);
    let set = compile(vec![
        spec("a", "a/{x}", "keys", Some("a-{x}")),
        spec("w", "w/+", "whole", None),
        by_header,
        subscribe("s", "{key#}", "any"),
    ]);
    type Row = (&'static str, Option<&'static [u8]>, Option<u32>, SkipReason);
    let table: [Row; 16] = [
        ("none", Some(b"k"), None, SkipReason::NoRule),
        ("keys", None, Some(0), SkipReason::NoKey),
        ("keys", Some(b"a-\xff"), Some(0), SkipReason::KeyNotUtf8),
        ("keys", Some(b"b-1"), Some(0), SkipReason::OtherForm),
        ("keys", Some(b"a-1/2"), Some(0), SkipReason::OtherForm),
        ("keys", Some(b"a-+"), Some(0), SkipReason::IllegalTopic),
        ("whole", None, Some(1), SkipReason::NoKey),
        ("whole", Some(b"\xff"), Some(1), SkipReason::KeyNotUtf8),
        ("whole", Some(b"v/1"), Some(1), SkipReason::OtherForm),
        ("whole", Some(b"w/#"), Some(1), SkipReason::IllegalTopic),
        ("headers", Some(b"k"), Some(2), SkipReason::NoHeader),
        ("headers", Some(b"other"), Some(2), SkipReason::OtherForm),
        ("any", Some(b""), Some(3), SkipReason::IllegalTopic),
        ("any", Some(b"a\0"), Some(3), SkipReason::IllegalTopic),
        ("any", Some(b"$SYS/x"), Some(3), SkipReason::IllegalTopic),
        ("any", Some(&[b'x'; 65_536]), Some(3), SkipReason::IllegalTopic),
    ];
    for (topic, key, rule, reason) in table {
        let rule = rule.map(RuleId);
        assert_eq!(
            skip(&set, topic, key),
            Skip { rule, reason },
            "{topic} {:?}",
            key.map(|key| &key[..key.len().min(9)])
        );
    }
    assert_eq!(back(&set, "headers", Some(b"k"), &[("x", b"\xff")]), Err(SkipReason::NoHeader));
    assert_eq!(back(&set, "headers", Some(b"k"), &[("x", b"1")]).as_deref(), Ok("h/1"));
    assert_eq!(back(&set, "none", None, &[("mqtt.copy", b"")]), Err(SkipReason::Copy));
    let names: Vec<_> = [
        SkipReason::NoRule,
        SkipReason::Copy,
        SkipReason::Tombstone,
        SkipReason::NoKey,
        SkipReason::KeyNotUtf8,
        SkipReason::NoHeader,
        SkipReason::OtherForm,
        SkipReason::IllegalTopic,
    ]
    .map(SkipReason::as_str)
    .into();
    let wanted = "no_rule copy tombstone no_key key_not_utf8 no_header other_form illegal_topic";
    assert_eq!(names.join(" "), wanted);
}

#[test]
fn a_topic_header_is_believed_only_if_a_rule_could_have_written_it() {
    let set = compile(vec![
        spec("a", "a/{x}", "t", Some("{x}")),
        spec("b", "b/{x}", "t", Some("{x}-{client}")),
        spec("c", "c/{x}", "t-{x}", None),
        RuleSpec {
            direction: Direction::Publish,
            ..spec("in", "in/{x}", "t", Some("{x}"))
        },
    ]);
    let by = |topic: &str, key: &[u8], headers: &[(&str, &[u8])]| {
        let message = read(&set, &Record::foreign(topic, Some(key), headers)).unwrap();
        (message.rule, message.topic)
    };
    let a = |topic: &str| (0, topic.to_owned());
    assert_eq!(by("t", b"1", &[("mqtt.topic", b"a/1")]), a("a/1"));
    assert_eq!(by("t", b"1", &[("mqtt.topic", b"secret/1")]), a("a/1"), "no filter takes it");
    assert_eq!(by("t", b"1", &[("mqtt.topic", b"a/2")]), a("a/1"), "it has another key");
    assert_eq!(by("t", b"1", &[("mqtt.topic", b"in/1")]), a("a/1"), "that rule does not deliver");
    assert_eq!(by("t", b"1-c", &[("mqtt.topic", b"b/1"), ("mqtt.client", b"c")]), (1, "b/1".into()));
    assert_eq!(
        by("t", b"1-c", &[("mqtt.topic", b"b/1"), ("mqtt.client", b"d")]),
        a("a/1-c"),
        "another client's key"
    );
    assert_eq!(
        by("t", b"1-c", &[("mqtt.topic", b"b/1")]),
        (1, "b/1".into()),
        "without the client it cannot be told"
    );
    assert_eq!(by("t-1", b"c/1", &[("mqtt.topic", b"c/1")]), (2, "c/1".into()));
    assert_eq!(
        by("t", b"1", &[("mqtt.topic", b"a/\xff"), ("mqtt.topic", b"b/1")]),
        a("a/1"),
        "the first counts"
    );
    // A whole topic as the key says the same as the header: it must lead to this Kafka topic.
    assert_eq!(back(&set, "t-2", Some(b"c/1"), &[]), Err(SkipReason::OtherForm));
}

#[test]
fn the_first_rule_that_can_make_a_topic_takes_a_record() {
    let set = compile(vec![
        spec("k", "k", "t", Some("key-1")),
        spec("w", "w/+", "t", None),
        spec("k2", "k2", "t", Some("key-2")),
        subscribe("s", "s/{key}", "t"),
        spec("late", "late", "t", Some("key-3")),
        spec("w2", "w2/#", "t", None),
        subscribe("rest", "rest/{key#}", "t"),
        spec("w3", "w3/#", "t", None),
    ]);
    let by = |key: Option<&[u8]>| read(&set, &Record::foreign("t", key, &[])).map(|m| (m.rule, m.topic)).unwrap();
    for (key, rule, topic) in [
        ("key-1", 0, "k"),
        ("key-2", 2, "k2"),
        ("key-3", 3, "s/key-3"),
        ("w/1", 1, "w/1"),
        ("w2/1", 5, "w2/1"),
        ("w2", 3, "s/w2"),
        ("w3/1", 6, "rest/w3/1"),
        ("", 3, "s/"),
    ] {
        assert_eq!(by(Some(key.as_bytes())), (rule, topic.to_owned()), "{key}");
    }
    // Without a key, the first rule that needs none.
    assert_eq!(by(None), (0, "k".into()));
}

#[test]
fn what_is_no_property_is_left_out_and_counted() {
    let set = compile(vec![with_headers(spec("a", "a/{x}", "t", Some("{x}")), &[("own", "{x}")])]);
    let long = [b'x'; 65_536];
    let mut record = Record::foreign(
        "t",
        Some(b"1"),
        &[
            ("plain", b"1"),
            ("own", b"2"),
            ("mqtt.user.own", b"3"),
            ("mqtt.unknown", b"4"),
            ("not text", b"\xff"),
            ("nul", b"\0"),
            ("long", &long),
            ("mqtt.response-topic", b"a/#"),
            ("mqtt.correlation-data", &long),
            ("mqtt.content-type", b"\0"),
            ("mqtt.payload-format", b"7"),
            ("mqtt.expiry", b"soon"),
            ("mqtt.qos", b"9"),
            ("mqtt.retain", b"0"),
        ],
    );
    record.headers.push((b"null".to_vec(), None));
    record.headers.push((b"\xff".to_vec(), None));
    let message = read(&set, &record).unwrap();
    assert_eq!(message.properties, user(&[("plain", "1"), ("own", "3"), ("null", "")]));
    assert_eq!(message.left_out, 7);
    assert_eq!((message.expiry, message.retain, message.client), (None, false, None));
    assert_eq!(message.qos, QoS::ExactlyOnce);
}
