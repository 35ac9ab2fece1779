//! What programs and formats of rules make of messages.

use super::*;

fn transforms(spec: RuleSpec, program: &str) -> RuleSpec {
    RuleSpec {
        transform: Some(program.into()),
        ..spec
    }
}

pub(super) fn telemetry(program: &str) -> RuleSpec {
    transforms(spec("telemetry", "v/{vin}/t", "t", Some("{vin}")), program)
}

fn formats(spec: RuleSpec, payload: Format, format: Format) -> RuleSpec {
    let payload = Some(payload);
    RuleSpec {
        value: Some(ValueSpec { format, payload }),
        ..spec
    }
}

pub(super) fn values(set: &RuleSet, payload: &[u8]) -> Vec<String> {
    let records = write(set, &publish("v/42/t", payload)).unwrap();
    records
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect()
}

pub(super) fn refusal(set: &RuleSet, payload: &[u8]) -> RefusalReason {
    match write(set, &publish("v/42/t", payload)) {
        Err(NoRoute::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

pub(super) fn faults(spec: RuleSpec) -> Vec<(Field, Option<usize>)> {
    let faults = RuleSet::compile(vec![spec], Unmapped::Reject).unwrap_err();
    faults.into_iter().map(|fault| (fault.field, fault.at)).collect()
}

#[test]
fn a_program_knows_the_message_and_selects_reshapes_and_splits() {
    let program =
        "select(.celsius > 90) | {vin: $vin, celsius, at: $now, who: $identity, client: $client, $topic, unit: $user.unit, $qos, $retain}";
    let set = compile(vec![telemetry(program)]);
    assert!(set.ask_identity());
    let block = user(&[("unit", "C")]);
    let mut packet = publish("v/42/t", br#"{"celsius":91.50,"x":1}"#);
    packet.properties.user = crate::mqtt::properties::UserProperties::from_block(&block);
    let records = write(&set, &packet).unwrap();
    let value = r#"{"vin":"42","celsius":91.5,"at":7,"who":"who","client":"c1","topic":"v/42/t","unit":"C","qos":1,"retain":false}"#;
    assert_eq!(String::from_utf8_lossy(records[0].value.as_deref().unwrap()), value);
    assert_eq!(
        (records.len(), records[0].key(), records[0].header("unit")),
        (1, "42", Some(&b"C"[..]))
    );

    assert!(values(&set, br#"{"celsius":90}"#).is_empty());
    let set = compile(vec![telemetry(".readings[]")]);
    assert_eq!(values(&set, br#"{"readings":[1,{"a":2},"x"]}"#), ["1", r#"{"a":2}"#, r#""x""#]);
    assert!(values(&set, br#"{"readings":[]}"#).is_empty());
}

#[test]
fn what_a_program_cannot_do_is_refused_with_its_reason_and_leaves_no_half() {
    let set = compile(vec![telemetry(".a, if .b then error(\"no b\") else until(false; .) end")]);
    assert_eq!(refusal(&set, b"{"), RefusalReason::NotJson);
    assert_eq!(refusal(&set, b"[1]"), RefusalReason::TransformError);
    assert_eq!(refusal(&set, br#"{"a":1,"b":1}"#), RefusalReason::TransformError);
    assert_eq!(refusal(&set, br#"{"a":1}"#), RefusalReason::TransformLimit);
    assert_eq!(
        refusal(&compile(vec![telemetry("range(1001)")]), b"1"),
        RefusalReason::TransformLimit
    );

    let skips = RuleSpec {
        on_error: Some(OnError::Skip),
        ..telemetry(".a, error")
    };
    let copies = also(transforms(spec("copies", "v/{vin}/t", "c", Some("{vin}")), ".a"));
    let set = compile(vec![skips, copies]);
    let records = write(&set, &publish("v/42/t", br#"{"a":1}"#)).unwrap();
    assert_eq!((records.len(), records[0].topic.as_str()), (1, "c"));

    let packet = publish("v/42/t", br#"{"a":1}"#);
    let mut draft = Draft::new();
    set.route(&inbound(&packet), &mut draft).unwrap();
    assert_eq!((draft.skipped().len(), draft.ran().len()), (1, 2));
    assert_eq!(draft.ran()[0].made, Made::Refused(RefusalReason::TransformError));
    assert_eq!(draft.ran()[1].made, Made::Records(1));
    assert!(draft.ran()[0].steps > 0 && draft.ordinary(&set).is_none());
    assert_eq!(draft.trouble(), Some(r#"{"a":1}"#));
}

#[test]
fn what_a_program_gives_a_record_wrongly_is_told_with_what_would_be_right() {
    for (program, words) in [
        (
            "record({key: .gone})",
            "`key` of a record is a string, and not a null: put `tostring` behind it, if the field is there that it is made of",
        ),
        (
            "record({key: .a})",
            "`key` of a record is a string, and not a number: put `tostring` behind it, if the field is there that it is made of",
        ),
        (
            "record({topic: [.a]})",
            "`topic` of a record is a string, and not a array: put `tostring` behind it, if the field is there that it is made of",
        ),
        ("record({headers: .a})", "`headers` of a record are an object, and not a number"),
        (
            "record({headers: {h: null}})",
            "the header `h` is a string, a number or a truth value, and not a null",
        ),
        (
            "record([[\"k\" + \"ey\", \"x\"]] | map({(.[0]): .[1]}) | add)",
            "a program that gives a record a `key` has that word in it: `record({key: …})`",
        ),
        (
            "lookup(\"t\"; [.a])",
            "cannot use [1] as key of a table: a string, number or truth value",
        ),
    ] {
        let mut rule = telemetry(program);
        if program.starts_with("lookup") {
            let table = Table::new("t.csv".into(), None, b"k,v\n1,2\n").unwrap();
            rule.lookup = vec![("t".into(), std::sync::Arc::new(table))];
        }
        let (set, packet, mut draft) = (compile(vec![rule]), publish("v/42/t", br#"{"a":1}"#), Draft::new());
        set.route(&inbound(&packet), &mut draft).unwrap_err();
        let told = draft.trouble().unwrap().trim_matches('"');
        assert_eq!(told, words, "{program}");
    }
}

#[test]
fn a_program_chooses_key_headers_and_one_of_the_topics_of_its_rule() {
    let program = ".value | record({key: $vin, headers: {unit: \"C\", n: 1}}), record({topic: $user.to // \"t\"})";
    let mut rule = with_headers(telemetry(program), &[("fixed", "{vin}")]);
    rule.kafka.topics = vec!["t2".into(), "t3".into()];
    let set = compile(vec![rule]);
    let ask = |to: &str, payload: &[u8]| {
        let block = user(&[("to", to)]);
        let mut packet = publish("v/42/t", payload);
        packet.properties.user = crate::mqtt::properties::UserProperties::from_block(&block);
        write(&set, &packet)
    };
    let records = ask("t3", br#"{"value":[1]}"#).unwrap();
    assert_eq!((records[0].topic.as_str(), records[0].key()), ("t", "42"));
    assert_eq!((records[1].topic.as_str(), records[1].key()), ("t3", "42"));
    let names = ["mqtt.topic", "mqtt.client", "mqtt.qos", "fixed", "unit", "n", "to"];
    assert_eq!(records[0].names(), names);
    assert_eq!(
        (records[0].header("unit"), records[0].header("n")),
        (Some(&b"C"[..]), Some(&b"1"[..]))
    );
    assert_eq!(records[1].names(), ["mqtt.topic", "mqtt.client", "mqtt.qos", "fixed", "to"]);
    for elsewhere in ["t4", "", "mqtt-sessions"] {
        let refused = ask(elsewhere, br#"{"value":[1]}"#);
        assert!(
            matches!(
                refused,
                Err(NoRoute::Refused(Refusal {
                    reason: RefusalReason::TransformOutput,
                    ..
                }))
            ),
            "{elsewhere}"
        );
    }
    // The key may be any: the way back goes by the header that says the topic.
    assert_eq!(read(&set, &records[0]).unwrap().topic, "v/42/t");
    let set = compile(vec![telemetry("record({key: .k})")]);
    let record = write(&set, &publish("v/42/t", br#"{"k":"v/1/t"}"#)).unwrap().remove(0);
    assert_eq!((record.key(), read(&set, &record).unwrap().topic.as_str()), ("v/1/t", "v/42/t"));
}

#[test]
fn nothing_that_a_device_sends_passes_for_a_record() {
    let forged = br#"{"record":{"topic":"t2"},"value":1,"with":{"key":"x"}}"#;
    let mut rule = telemetry("if .wrap then record({topic: \"t2\"}) else . end");
    rule.kafka.topics = vec!["t2".into()];
    let record = write(&compile(vec![rule]), &publish("v/42/t", forged)).unwrap().remove(0);
    assert_eq!((record.topic.as_str(), record.value.as_deref()), ("t", Some(&forged[..])));
    for stray in [
        "record({})|.value",
        "record(1)",
        "record({key: 1})",
        "record({headers: {\"mqtt.topic\": \"x\"}})",
        "record({headers: {\"\": \"x\"}})",
        "record({other: 1})",
        "record({(\"k\" + \"ey\"): \"x\"}) # ",
        "record({headers: {a: []}})",
    ] {
        let reason = refusal(&compile(vec![telemetry(stray)]), b"1");
        assert!(
            matches!(reason, RefusalReason::TransformOutput | RefusalReason::TransformError),
            "{stray}"
        );
    }
}

#[test]
fn payloads_and_values_have_formats() {
    let plain = || spec("telemetry", "v/{vin}/t", "t", Some("{vin}"));
    let text = compile(vec![formats(telemetry("{line: .}"), Format::Text, Format::Json)]);
    assert_eq!(values(&text, "ä \"x\"".as_bytes()), [r#"{"line":"ä \"x\""}"#]);
    assert_eq!(refusal(&text, b"\xff"), RefusalReason::NotText);
    let bytes = compile(vec![formats(telemetry("{bytes: .}"), Format::Bytes, Format::Json)]);
    assert_eq!(values(&bytes, b"\xff\x00"), [r#"{"bytes":"/wA="}"#]);
    let back = compile(vec![formats(telemetry(".b"), Format::Json, Format::Bytes)]);
    assert_eq!(
        write(&back, &publish("v/42/t", br#"{"b":"/wA="}"#)).unwrap()[0].value.as_deref(),
        Some(&b"\xff\x00"[..])
    );
    for wrong in [&br#"{"b":"?"}"#[..], br#"{"b":1}"#] {
        assert_eq!(refusal(&back, wrong), RefusalReason::TransformOutput);
    }
    let words = compile(vec![formats(telemetry(".w"), Format::Json, Format::Text)]);
    assert_eq!(values(&words, br#"{"w":"a\nb"}"#), ["a\nb"]);
    assert_eq!(refusal(&words, br#"{"w":1}"#), RefusalReason::TransformOutput);
    // Without a program the payload is checked, and written as the format wants it.
    let checked = compile(vec![formats(plain(), Format::Json, Format::Json)]);
    assert_eq!(values(&checked, b" { \"a\" : 1.0 } "), [r#"{"a":1}"#]);
    assert_eq!(refusal(&checked, b"x"), RefusalReason::NotJson);
}

#[test]
fn an_empty_payload_that_is_retained_clears_and_is_no_programs_business() {
    let set = compile(vec![telemetry(".a")]);
    let packet = Publish {
        retain: true,
        ..publish("v/42/t", b"")
    };
    assert_eq!(write(&set, &packet).unwrap()[0].value.as_deref(), Some(&b""[..]));
    assert_eq!(refusal(&set, b""), RefusalReason::NotJson);
}

#[test]
fn faults_of_programs_stand_where_they_are() {
    assert_eq!(faults(telemetry(".a | nothing(1)")), [(Field::Transform, Some(5))]);
    assert_eq!(faults(telemetry("$other")), [(Field::Transform, Some(0))]);
    let mut rule = telemetry(".");
    rule.kafka.topics = vec!["t2".into()];
    assert_eq!(faults(rule.clone()), [(Field::KafkaTopics(0), None)]);
    rule.transform = Some("record({topic: \"t2\"})".into());
    rule.kafka.topics.push("no topic".into());
    assert_eq!(faults(rule), [(Field::KafkaTopics(1), Some(2))]);
    let subscribes = transforms(subscribe("s", "a/{key}", "t"), ".");
    assert_eq!(faults(subscribes), [(Field::Transform, None)]);
    // A capture that only the program uses is used.
    compile(vec![transforms(spec("s", "a/{x}/{y}", "t", Some("{x}")), "{y: $y}")]);
}

fn restores(spec: RuleSpec, program: &str) -> RuleSpec {
    RuleSpec {
        transform_back: Some(program.into()),
        ..spec
    }
}

/// The payload that a record becomes, or why it becomes none.
fn restored(set: &RuleSet, record: &Record) -> Result<Vec<u8>, SkipReason> {
    let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
    let stored = Stored {
        timestamp: 7,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    };
    let (mut scratch, mut out) = (LocateScratch::default(), Restored::default());
    let reader = set.reader(&record.topic);
    let located = set.locate(&reader, 0, &stored, &mut scratch).unwrap();
    match set.restore(&located, &stored, stored.value, stored.key, 8, &mut out) {
        Ok(()) => Ok(out.payload().or(stored.value).unwrap_or(b"").to_vec()),
        Err(skip) => Err(skip.reason),
    }
}

#[test]
fn a_program_makes_payloads_of_values_on_the_way_back() {
    let program = "select(.on != null) | {set: .on, vin: $vin, $key, $topic, at: $now, unit: $headers.unit}";
    let set = compile(vec![restores(spec("commands", "v/{vin}/t", "t", Some("{vin}")), program)]);
    let record = |value: &[u8]| Record {
        value: Some(value.to_vec()),
        ..Record::foreign("t", Some(b"42"), &[("unit", b"C")])
    };
    let payload = restored(&set, &record(br#"{"on":true}"#)).unwrap();
    let expected = r#"{"set":true,"vin":"42","key":"42","topic":"v/42/t","at":8,"unit":"C"}"#;
    assert_eq!(String::from_utf8(payload).unwrap(), expected);
    assert_eq!(restored(&set, &record(b"{}")), Err(SkipReason::NotSelected));
    assert_eq!(restored(&set, &record(b"x")), Err(SkipReason::Refused(RefusalReason::NotJson)));
    assert_eq!(
        restored(&set, &record(b"1")),
        Err(SkipReason::Refused(RefusalReason::TransformError))
    );
    // What goes to Kafka is left alone.
    assert_eq!(values(&set, b"x"), ["x"]);

    for (program, reason) in [
        ("1, 2", RefusalReason::TransformOutput),
        ("record({topic: \"x\"})", RefusalReason::TransformOutput),
        ("until(false; .)", RefusalReason::TransformLimit),
    ] {
        let set = compile(vec![restores(subscribe("s", "v/{key}", "t"), program)]);
        assert_eq!(restored(&set, &record(b"1")), Err(SkipReason::Refused(reason)), "{program}");
    }
    let set = compile(vec![restores(subscribe("s", "v/{key}", "t"), ".")]);
    assert_eq!(restored(&set, &record(b"")).unwrap(), b"");
    let set = compile(vec![formats(subscribe("s", "v/{key}", "t"), Format::Bytes, Format::Json)]);
    assert_eq!(restored(&set, &record(br#""/wA=""#)).unwrap(), b"\xff\x00");
    assert_eq!(
        faults(restores(subscribe("s", "v/{key}", "t"), "$vin")),
        [(Field::TransformBack, Some(0))]
    );
    let writes = RuleSpec {
        direction: Direction::Publish,
        ..restores(spec("s", "v", "t", None), ".")
    };
    assert_eq!(faults(writes), [(Field::TransformBack, None)]);
}

#[test]
fn programs_on_the_way_back_know_what_the_kafka_topic_holds() {
    let program = "{v: ., site: $site, line: $_line, $topic}";
    let set = compile(vec![
        restores(subscribe("reads", "plants/{site}/{key}", "plant-{site}.{_line}"), program),
        restores(spec("both", "halls/{site}/{_line}", "hall-{site}", Some("{_line}")), program),
    ]);
    let record = |topic: &str| Record {
        value: Some(b"1".to_vec()),
        ..Record::foreign(topic, Some(b"7"), &[])
    };
    let payload = |topic: &str| String::from_utf8(restored(&set, &record(topic)).unwrap()).unwrap();
    assert_eq!(
        payload("plant-a.b.c"),
        r#"{"v":1,"site":"a","line":"b.c","topic":"plants/a/7"}"#,
        "each takes as little as it can"
    );
    assert_eq!(payload("plant-."), r#"{"v":1,"site":"","line":"","topic":"plants//7"}"#);
    assert_eq!(
        payload("hall-north"),
        r#"{"v":1,"site":"north","line":"7","topic":"halls/north/7"}"#
    );

    // The program is a use, and what it does not use is told as before.
    compile(vec![restores(subscribe("s", "all/{key}", "plant-{site}"), "{v: ., site: $site}")]);
    let unused = restores(subscribe("s", "all/{key}", "plant-{site}"), "{site}");
    assert_eq!(faults(unused), [(Field::KafkaTopic, Some(6))]);
    let unknown = restores(subscribe("s", "all/{site}/{key}", "plant-{site}"), "$site, $line");
    assert_eq!(faults(unknown), [(Field::TransformBack, Some(7))]);
    // Of a topic that cannot be read nobody knows the captures: one fault, and not two.
    let torn = restores(subscribe("s", "all/{key}", "plant-{site"), "$site");
    assert_eq!(faults(torn), [(Field::KafkaTopic, Some(6))]);
}

#[test]
fn cbor_is_read_and_written() {
    let set = compile(vec![formats(telemetry("., (.u | type)"), Format::Cbor, Format::Json)]);
    // {"a": 1.5, 2: h'ff00', "u": 18446744073709551615, "t": 0("x"), "n": [null, -1, true]}
    let payload = b"\xa5\x61a\xf9\x3e\x00\x02\x42\xff\x00\x61u\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x61t\xc0\x61x\x61n\x83\xf6\x20\xf5";
    let json = r#"{"a":1.5,"2":"/wA=","u":18446744073709551615,"t":"x","n":[null,-1,true]}"#;
    assert_eq!(values(&set, payload), [json, "\"number\""]);
    // {1.5: 1, true: 2, h'ff': 3}
    assert_eq!(
        values(&set, b"\xa3\xf9\x3e\x00\x01\xf5\x02\x41\xff\x03")[0],
        r#"{"1.5":1,"true":2,"/w==":3}"#
    );
    let deep = [vec![0x81; 100_000], vec![0]].concat();
    let long = b"\x9b\x00\x00\xff\xff\xff\xff\xff\xff\x00";
    for wrong in [
        &payload[..payload.len() - 1],
        &b"\x00\x00"[..],
        b"",
        &deep,
        long,
        b"\x5b\x00\x00\xff\xff\xff\xff\xff\xff\x00",
        b"\xa1\x80\x00",
    ] {
        assert_eq!(refusal(&set, wrong), RefusalReason::NotCbor, "{}", wrong.len());
    }
    let back = compile(vec![formats(telemetry("."), Format::Json, Format::Cbor)]);
    let written = write(&back, &publish("v/42/t", json.as_bytes())).unwrap().remove(0).value.unwrap();
    assert_eq!(values(&set, &written), [json, "\"number\""]);
}
