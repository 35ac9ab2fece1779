//! Templates of what a message says beside its topic, and what becomes of it if it does not say it.

use super::*;

/// 2026-11-26T04:07:23.042Z.
const NOW: i64 = 1_795_666_043_042;

/// Key, header `h` and partition of the record that a rule with this template in each place makes.
fn filled(template: &str, payload: &str, pairs: &[(&str, &str)]) -> Result<(String, String), RefusalReason> {
    let set = compile(vec![with_headers(
        spec("a", "v/{x}", "t", Some(&format!("{{x}}{template}"))),
        &[("h", template)],
    )]);
    let block = user(pairs);
    let mut packet = publish("v/1", payload.as_bytes());
    packet.properties.user = crate::mqtt::properties::UserProperties::from_block(&block);
    let inbound = Inbound {
        identity: Some("vin42"),
        now_ms: NOW,
        ..inbound(&packet)
    };
    let mut draft = Draft::new();
    match set.route(&inbound, &mut draft) {
        Ok(()) => {
            let fields = draft.fields(0, &set, &inbound);
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
            let header = fields.headers.clone().find(|(name, _)| *name == "h").unwrap().1;
            Ok((text(fields.key.unwrap()), text(header.unwrap())))
        }
        Err(NoRoute::Refused(refusal)) => Err(refusal.reason),
        Err(none) => panic!("{none:?}"),
    }
}

#[track_caller]
fn assert_filled(template: &str, payload: &str, pairs: &[(&str, &str)], made: &str) {
    assert_eq!(
        filled(template, payload, pairs),
        Ok((format!("1{made}"), made.to_owned())),
        "{template} of {payload}"
    );
}

#[test]
fn identity_time_and_user_properties_fill_templates() {
    assert_filled("{identity}/{client}", "", &[], "vin42/c1");
    assert_filled("{now}", "", &[], "1795666043042");
    assert_filled("<{now.iso}|{now.date}>", "", &[], "<2026-11-26T04:07:23.042Z|2026-11-26>");
    assert_filled(
        "{user.unit}{user.unit}",
        "",
        &[("x", "y"), ("unit", "rpm"), ("unit", "C")],
        "rpmrpm",
    );
    assert_filled("{user.a.b}", "", &[("a.b", "")], "");
    assert_eq!(filled("{user.unit}", "", &[("UNIT", "rpm")]), Err(RefusalReason::NoUserProperty));
}

#[test]
fn fields_of_json_fill_templates_as_they_are_written() {
    let payload = r#" {"id": "ü\"1", "plain": "a b", "n": {"big": 12345678901234567890123, "one": 1.50, "yes": true,
        "no": false, "null": null, "list": [1], "table": {}}, "n2": 1, "\u0069d2": "escaped name", "twice": 1, "twice": 2} "#;
    for (template, made) in [
        ("{payload.id}", "ü\"1"),
        ("{payload.plain}-{payload.n2}", "a b-1"),
        ("{payload.n.big}", "12345678901234567890123"),
        ("{payload.n.one}", "1.50"),
        ("{payload.n.yes}{payload.n.no}", "truefalse"),
        ("{payload.id2}", "escaped name"),
        ("{payload.twice}", "2"),
    ] {
        assert_filled(template, payload, &[], made);
    }
    for template in [
        "{payload.none}",
        "{payload.n}",
        "{payload.n.null}",
        "{payload.n.list}",
        "{payload.n.list.0}",
        "{payload.n2.x}",
        "{payload.id.x}",
    ] {
        assert_eq!(filled(template, payload, &[]), Err(RefusalReason::NoPayloadField), "{template}");
    }
    for payload in ["[{\"a\": 1}]", "1", "null", "\"a\"", "true", "1.5", "-1"] {
        assert_eq!(filled("{payload.a}", payload, &[]), Err(RefusalReason::NoPayloadField), "{payload}");
    }
    let deep = format!("{{\"a\": 1, \"b\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_filled("{payload.a}", &deep, &[], "1");
    let nested = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for payload in [
        "",
        "{",
        "{\"a\": 1",
        "{\"a\": 1} x",
        "{a: 1}",
        "{\"a\": 1,}",
        "{\"a\": \"\u{1}\"}",
        &nested[..900],
    ] {
        assert_eq!(filled("{payload.a}", payload, &[]), Err(RefusalReason::NotJson), "{payload}");
    }
    let long = format!("{{payload.{}}}", vec!["a"; 200].join("."));
    assert_eq!(filled(&long, &nested, &[]), Err(RefusalReason::NotJson), "it is too deep");
}

/// The rule that refuses says what becomes of the message; nothing of the refused record is in the others.
#[test]
fn what_a_message_does_not_say_is_refused_or_passed_over() {
    let rule = |on_error| RuleSpec {
        on_error,
        ..also(with_headers(
            spec("copy", "v/#", "copies", Some("k-{user.a}")),
            &[("h", "{user.a}"), ("g", "{user.b}")],
        ))
    };
    let plain = || with_headers(spec("plain", "v/{x}", "t", Some("k{x}")), &[("x", "<{x}>")]);
    let block = user(&[("a", "1")]);
    let mut packet = publish("v/1", b"");
    packet.properties.user = crate::mqtt::properties::UserProperties::from_block(&block);
    let (rule_id, reason) = (RuleId(0), RefusalReason::NoUserProperty);
    let refused = Err(NoRoute::Refused(Refusal { rule: rule_id, reason }));
    assert_eq!(write(&compile(vec![rule(None), plain()]), &packet), refused);
    let set = compile(vec![
        rule(Some(OnError::Skip)),
        also(plain()),
        RuleSpec {
            name: "last".into(),
            ..plain()
        },
    ]);
    let records = write(&set, &packet).unwrap();
    assert_eq!(records.iter().map(|record| record.rule).collect::<Vec<_>>(), [2, 1]);
    for record in records {
        assert_eq!(
            (record.key(), record.header("x"), record.header("h")),
            ("k1", Some(&b"<1>"[..]), None)
        );
    }
}

#[test]
fn nobody_has_no_identity() {
    let set = compile(vec![spec("a", "v", "t", Some("{identity}"))]);
    assert!(set.ask_identity() && !compile(vec![spec("a", "v", "t", Some("{client}"))]).ask_identity());
    let packet = publish("v", b"");
    let (rule, reason) = (RuleId(0), RefusalReason::NoIdentity);
    assert_eq!(
        set.route(&inbound(&packet), &mut Draft::new()),
        Err(NoRoute::Refused(Refusal { rule, reason }))
    );
}

#[test]
fn a_template_chooses_the_partition() {
    let mut rule = spec("a", "v/{lane}", "t", Some("k"));
    rule.kafka.partition = Some(PartitionSpec::Template("{lane}".into()));
    let set = compile(vec![rule]);
    let choose = |topic: &str, count| {
        let packet = publish(topic, b"");
        let inbound = inbound(&packet);
        let mut draft = Draft::new();
        match set.route(&inbound, &mut draft) {
            Ok(()) => draft.partition(0, &set, &inbound, count).map_err(|refusal| refusal.reason),
            Err(NoRoute::Refused(refusal)) => Err(refusal.reason),
            Err(none) => panic!("{none:?}"),
        }
    };
    assert_eq!(choose("v/6", 7), Ok(PartitionChoice::Index(6)));
    assert_eq!(choose("v/7", 7), Err(RefusalReason::NoSuchPartition));
    assert_eq!(choose("v/4294967295", 7), Err(RefusalReason::NoSuchPartition));
    for topic in ["v/x", "v/-1", "v/", "v/4294967296", "v/1.0"] {
        assert_eq!(choose(topic, 7), Err(RefusalReason::NotAPartition), "{topic}");
    }
    // The partition is no place that the way back reads, nor one that a subscriber's filter tells.
    assert!(first(&set, "v/6").header("mqtt.topic").is_some());
    assert_eq!(read(&set, &first(&set, "v/6")).unwrap().topic, "v/6");
    assert_eq!(set.sources("v/6").unwrap()[0].key, None);
}

/// A key of what the record does not hold is no proof against its header; a foreign record has no other way back.
#[test]
fn keys_of_what_the_message_said_come_back_by_the_header() {
    let set = compile(vec![
        spec("a", "v/{x}", "t", Some("{user.u}.{x}")),
        spec("b", "w", "t", Some("{now}")),
    ]);
    let block = user(&[("u", "1")]);
    let mut packet = publish("v/2", b"");
    packet.properties.user = crate::mqtt::properties::UserProperties::from_block(&block);
    let record = write(&set, &packet).unwrap().remove(0);
    assert_eq!((record.key(), record.header("mqtt.topic")), ("1.2", Some(&b"v/2"[..])));
    assert_eq!(read(&set, &record).unwrap().topic, "v/2");
    assert_eq!(set.sources("v/2").unwrap()[0].key, None);
    assert_eq!(back(&set, "t", Some(b"9"), &[("mqtt.topic", b"v/2")]), Ok("v/2".into()));
    assert_eq!(back(&set, "t", Some(b"9"), &[("mqtt.topic", b"v/2/3")]), Ok("w".into()));
}

#[test]
fn names_of_what_messages_say_are_told_where_they_cannot_stand() {
    let faults = |spec| -> Vec<(Field, Option<usize>, String)> {
        let found = RuleSet::compile(vec![spec], Unmapped::Reject).map(|_| "no fault").unwrap_err();
        found.into_iter().map(|f| (f.field, f.at, f.message)).collect()
    };
    for name in ["identity", "now", "now.iso", "now.date", "user.x", "payload.x.y"] {
        let told = format!("`{{{name}}}` is of the message, not a capture");
        let rule = spec("a", &format!("v/{{{name}}}"), "t", Some(&format!("{{{name}}}")));
        assert_eq!(faults(rule), [(Field::Mqtt, Some(2), told)], "{name}");
        let told = format!("`{{{name}}}` does not choose a Kafka topic");
        let rule = spec("a", "v", &format!("t-{{{name}}}"), None);
        assert_eq!(faults(rule), [(Field::KafkaTopic, Some(2), told)], "{name}");
    }
    for name in ["user.", "payload.", "payload.a..b", "now.week", "payload", "identity.x"] {
        let told = format!("`{{{name}}}` is not a capture of `mqtt`");
        let rule = spec("a", "v", "t", Some(&format!("{{{name}}}")));
        assert_eq!(faults(rule), [(Field::KafkaKey, Some(0), told)], "{name}");
    }
    let partition = |template: &str| {
        let mut rule = spec("a", "v", "t", None);
        rule.kafka.partition = Some(PartitionSpec::Template(template.into()));
        faults(rule)
    };
    let told = |at, message: &str| vec![(Field::KafkaPartition, Some(at), message.to_owned())];
    assert_eq!(partition("1{y}"), told(1, "`{y}` is not a capture of `mqtt`"));
    assert_eq!(partition("{{"), told(0, "`{{` is no way to choose a partition"));
    assert_eq!(partition("{"), told(0, "a `{` without its `}`"));
}

#[test]
fn a_template_makes_the_timestamp() {
    let mut rule = spec("a", "v/{at}", "t", Some("k"));
    rule.kafka.timestamp = Some(Timestamp::Template("{at}".into()));
    let set = compile(vec![rule]);
    let made = |topic: &str| {
        let packet = publish(topic, b"");
        let inbound = Inbound {
            publish: &packet,
            topic,
            client: "c",
            identity: None,
            now_ms: NOW,
        };
        let mut draft = Draft::new();
        match set.route(&inbound, &mut draft) {
            Ok(()) => Ok(draft.fields(0, &set, &inbound).timestamp),
            Err(NoRoute::Refused(refusal)) => Err(refusal.reason),
            Err(none) => panic!("{none:?}"),
        }
    };
    for (text, time) in [
        ("0", 0),
        ("1795666043042", NOW),
        ("2026-11-26T04:07:23.042Z", NOW),
        ("2026-11-26T04:07:23Z", NOW - 42),
        ("1970-01-01T00:00:00Z", 0),
        // As far ahead as Kafka allows by default.
        ("1795669643042", NOW + 3_600_000),
    ] {
        assert_eq!(made(&format!("v/{text}")), Ok(time), "{text}");
    }
    for text in [
        "",
        "-1",
        "1.5",
        "now",
        "1969-12-31T23:59:59Z",
        "2026-11-26T04:07:23+01:00",
        "1795669643043",
        "99999999999999999999",
        "9999-12-31T23:59:59Z",
    ] {
        assert_eq!(made(&format!("v/{text}")), Err(RefusalReason::NotATimestamp), "{text}");
    }
    let fault = |template: &str| {
        let mut rule = spec("a", "v", "t", None);
        rule.kafka.timestamp = Some(Timestamp::Template(template.into()));
        let found = RuleSet::compile(vec![rule], Unmapped::Reject).map(|_| "no fault").unwrap_err();
        (found.len(), found[0].field, found[0].at, found[0].message.clone())
    };
    let told = |at, message: &str| (1, Field::KafkaTimestamp, Some(at), message.to_owned());
    assert_eq!(fault("{y}"), told(0, "`{y}` is not a capture of `mqtt`"));
    assert_eq!(fault("{{"), told(0, "`{{` is no timestamp"));
}

#[test]
fn fields_of_a_payload_that_is_never_json_are_a_fault() {
    let by = |payload| {
        let mut spec = spec("a", "a", "t", None);
        spec.kafka.key = Some("x{payload.id}".into());
        spec.kafka.headers = vec![("h".into(), "{payload.id}".into())];
        spec.kafka.partition = Some(PartitionSpec::Template("{payload.line}".into()));
        spec.kafka.timestamp = Some(Timestamp::Template("{payload.time}".into()));
        spec.value = Some(ValueSpec {
            format: Format::Json,
            payload,
        });
        spec
    };
    let told = super::transforms::faults(by(Some(Format::Cbor)));
    let wanted = [
        (Field::KafkaKey, Some(1)),
        (Field::KafkaPartition, Some(0)),
        (Field::KafkaTimestamp, Some(0)),
        (Field::HeaderValue(0), Some(0)),
    ];
    assert_eq!(told, wanted);
    // Text and bytes may be JSON.
    for payload in [None, Some(Format::Json), Some(Format::Text), Some(Format::Bytes)] {
        compile(vec![by(payload)]);
    }
}
