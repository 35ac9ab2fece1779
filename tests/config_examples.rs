//! `examples` of rules: they are tried when the file is loaded, and what fails is told where it stands.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use mqtt_kafka_proxy::config::{self, Problem};

const HEAD: &str = r#"listeners: [{name: tcp, address: "0.0.0.0:1883", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["localhost:9092"]}
rules:
  - {name: alarms, also: true, mqtt: "v/{vin}/alarm", kafka: {topic: alarms, key: "{vin}", partition: sticky}}
  - name: telemetry
    mqtt: "v/{vin}/{sensor}"
    kafka: {topic: telemetry, key: "{vin}", headers: {sensor: "{sensor}"}}
    examples:
"#;

const TAIL: &str = r#"  - {name: commands, direction: subscribe, mqtt: "c/{key}", qos: 1, kafka: {topic: commands}}
  - {name: said, mqtt: s, kafka: {topic: said, key: "{identity}:{user.unit}:{payload.lane}:{now.date}:{client}"}}
  - {name: timed, mqtt: "t/{at}", kafka: {topic: timed, timestamp: "{at}"}}
  - {name: halls, mqtt: "plant/{hall}/#", kafka: {topic: "plant-{hall}"}}
  - {name: late, mqtt: "v/{all#}", kafka: {topic: late, key: "{all}"}}
  - {name: split, direction: publish, mqtt: "p/+", transform: 'if type == "array" then .[] else error("no list") end', kafka: {topic: split}}
  - {name: lenient, direction: publish, on_error: skip, mqtt: "l/+", transform: 'error("never")', kafka: {topic: lenient}}
  - {name: frames, mqtt: "f/{x}", value: {format: cbor}, kafka: {topic: frames, key: "{x}"}}
  - {name: back, direction: subscribe, mqtt: "b/{key}", transform_back: 'if . then error("no") else empty end', kafka: {topic: back}}
"#;

fn environment(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "hunter2hunter2".to_owned())
}

fn faults(text: &str) -> Vec<Problem> {
    config::parse(text, Path::new("/etc/proxy"), &environment).err().unwrap_or_default()
}

/// The one fault of a file stands where `at` stands last.
#[track_caller]
fn assert_told(text: &str, at: &str, words: &str) {
    let found = faults(text);
    let [one] = found.as_slice() else {
        panic!("one fault expected: {found:#?}\n{text}")
    };
    let before = &text[..text.rfind(at).unwrap()];
    let (line, column) = (before.matches('\n').count() + 1, before.len() - before.rfind('\n').unwrap());
    assert_eq!((one.line as usize, one.column as usize), (line, column), "{one}\n{text}");
    assert!(one.to_string().contains(words), "{one}\nhas no: {words}");
    assert!(!one.to_string().contains("hunter2"), "{one}");
}

/// With an example of the rule `telemetry`, which is line 9.
fn telemetry(example: &str) -> String {
    format!("{HEAD}      - {example}\n{TAIL}")
}

/// With an example of the rule of this name, at its end.
fn of(name: &str, example: &str) -> String {
    let file = telemetry("{topic: v/1/rpm, becomes: {key: 1}}");
    let start = file.find(&format!("name: {name}")).unwrap();
    let end = start + file[start..].find("}\n").unwrap();
    format!("{}, examples: [{example}]{}", &file[..end], &file[end..])
}

#[test]
fn examples_that_hold_are_no_fault() {
    for example in [
        r#"{topic: v/21/rpm, payload: "1850", becomes: {topic: telemetry, key: "21", value: "1850", headers: {sensor: rpm}}}"#,
        // Kafka's `UtilsTest.testMurmur2`: "21" hashes to -973932308; & 0x7fffffff that is 1173551340, and 3 modulo 7.
        "{topic: v/21/rpm, partitions: 7, becomes: {partition: 3}}",
        r#"{topic: v/21/rpm, client: c9, user: {unit: "1/min"}, becomes: {headers: {mqtt.client: c9, unit: 1/min}}}"#,
        "{topic: w/1/rpm, becomes: refused}",
        r#"{record: {key: "7", headers: {sensor: rpm, unit: C}, value: x}, becomes: {topic: v/7/rpm, payload: x, qos: 2, user: {unit: C}}}"#,
        r#"{record: {key: "7"}, becomes: nothing}"#,
        r#"{record: {key: "7", headers: {sensor: rpm}, tombstone: true}, becomes: nothing}"#,
    ] {
        assert_eq!(faults(&telemetry(example)), [], "{example}");
    }
    for (name, example) in [
        (
            "alarms",
            "{topic: v/1/alarm, partitions: 3, becomes: {topic: alarms, partition: sticky, headers: {mqtt.copy: alarms}}}",
        ),
        (
            "commands",
            "{record: {key: a, value: x}, becomes: {topic: c/a, payload: x, qos: 1}}",
        ),
        ("commands", "{topic: c/a, becomes: refused}"),
        ("said", "{topic: v/1/rpm, becomes: nothing}"),
        (
            "said",
            r#"{topic: s, identity: vin, user: {unit: C}, payload: '{"lane": 3}', becomes: {key: "vin:C:3:1970-01-01:client"}}"#,
        ),
        ("timed", "{topic: t/2, becomes: {timestamp: 2}}"),
        ("timed", "{topic: t/1970-01-01T00:00:01.5Z, becomes: {timestamp: 1500}}"),
        (
            "halls",
            "{record: {topic: plant-north, key: plant/north/x}, becomes: {topic: plant/north/x}}",
        ),
    ] {
        assert_eq!(faults(&of(name, example)), [], "{name} {example}");
    }
}

#[test]
fn nothing_and_refused_are_what_the_rule_itself_does() {
    for (name, example) in [
        ("split", "{topic: p/x, payload: '[]', becomes: nothing}"),
        ("split", "{topic: p/x, payload: junk, becomes: refused}"),
        ("split", "{topic: p/x, payload: '5', becomes: refused}"),
        ("said", "{topic: s, becomes: refused}"),
        ("lenient", "{topic: l/x, payload: '5', becomes: nothing}"),
        ("back", "{record: {key: a, value: 'false'}, becomes: nothing}"),
    ] {
        assert_eq!(faults(&of(name, example)), [], "{name} {example}");
    }
    for (name, example, words) in [
        (
            "late",
            "{topic: \"v/#\", becomes: nothing}",
            "it is not the rule that drops this example: ",
        ),
        (
            "late",
            "{topic: v/1/rpm, becomes: nothing}",
            "drops this example: matches, but comes after the rule that takes it (`telemetry`)",
        ),
        (
            "late",
            "{topic: v/1/rpm, becomes: refused}",
            "does not refuse this example: matches, but",
        ),
        (
            "split",
            "{topic: p/x, payload: '5', becomes: nothing}",
            "the program fails, which is not `nothing`: matches and refuses it: transform_error (\"no list\")",
        ),
        (
            "split",
            "{topic: p/x, payload: '[]', becomes: refused}",
            "does not refuse this example: matches, and its program",
        ),
        (
            "split",
            "{topic: p/x, payload: '[1]', becomes: refused}",
            "makes something of this example",
        ),
        (
            "lenient",
            "{topic: l/x, payload: '5', becomes: refused}",
            "does not refuse this example: matches and skips it (acknowledged and counted): transform_error",
        ),
        (
            "split",
            "{topic: p/x, payload: junk, becomes: nothing}",
            "the message is refused, which is not `nothing` but `refused`: matches and refuses it: not_json",
        ),
        (
            "said",
            "{topic: s, becomes: nothing}",
            "which is not `nothing` but `refused`: matches and refuses it: no_identity",
        ),
        (
            "said",
            "{topic: w/1/rpm, becomes: nothing}",
            "which is not `nothing` but `refused`: no: level 1 is `w`, not `s` (and no other rule takes it)",
        ),
        (
            "split",
            "{record: {key: a}, becomes: {payload: a}}",
            "no_rule: the rule only writes (`direction: publish`)",
        ),
        (
            "back",
            "{record: {key: a, value: 'true'}, becomes: nothing}",
            "the program fails, which is not `nothing`: transform_error (\"no\")",
        ),
        (
            "late",
            "{record: {topic: telemetry, key: a, headers: {sensor: x}}, becomes: nothing}",
            "it is not the rule that drops this example: it belongs to `telemetry`",
        ),
    ] {
        assert_told(&of(name, example), example, words);
    }
}

#[test]
fn all_records_of_a_message_are_compared_with_the_list_or_the_one_table_that_says_what_they_are() {
    let split = |becomes: &str| of("split", &format!("{{topic: p/x, payload: '[1,2]', becomes: {becomes}}}"));
    assert_eq!(faults(&split("[{value: 1}, {value: 2, key: p/x}]")), []);
    let one = of("split", "{topic: p/x, payload: '[1]', becomes: {value: 1}}");
    assert_eq!(faults(&one), []);
    for (becomes, at, words) in [
        (
            "{value: 1}",
            "{topic: p/x",
            "the rule makes 2 records of this example: a table under `becomes` is one",
        ),
        ("[{value: 1}]", "{topic: p/x", "the rule makes 2 records of this example, not 1"),
        (
            "[{value: 1}, {value: 2}, {value: 3}]",
            "{topic: p/x",
            "the rule makes 2 records of this example, not 3",
        ),
        ("[{value: 1}, {value: 3}]", "3}]", "`value` becomes `2`, not `3`"),
        ("[]", "[]", "is empty"),
        ("[{value: 1}, {}]", "{}]", "says nothing"),
        ("[{value: 1}, nothing]", "nothing]", "is not a table"),
        ("[{value: 1}, {partition: 0}]", "0}]", "the partition cannot be told"),
    ] {
        assert_told(&split(becomes), at, words);
    }
    let alone = of("frames", "{topic: f/x, payload: '5', becomes: [{key: x}]}");
    assert_eq!(faults(&alone), []);
}

#[test]
fn bytes_that_are_no_text_are_written_in_base64() {
    for (name, example) in [
        (
            "telemetry",
            r#"{topic: v/1/rpm, payload_base64: "/w==", becomes: {value_base64: "/w=="}}"#,
        ),
        // RFC 8949: a map of one pair, a text of one byte, and 1.
        ("frames", r#"{topic: f/x, payload: '{"a":1}', becomes: {value_base64: "oWFhAQ=="}}"#),
        (
            "frames",
            r#"{record: {key: x, value_base64: "oWFhAQ=="}, becomes: {topic: f/x, payload: '{"a":1}', payload_base64: eyJhIjoxfQ==}}"#,
        ),
    ] {
        let file = if name == "telemetry" {
            telemetry(example)
        } else {
            of(name, example)
        };
        assert_eq!(faults(&file), [], "{example}");
    }
    for (example, at, words) in [
        (
            r#"{topic: v/1/rpm, payload_base64: "?", becomes: {key: 1}}"#,
            "\"?\"",
            "`payload_base64` is no base64",
        ),
        (
            r#"{topic: v/1/rpm, payload: x, payload_base64: "eA==", becomes: {key: 1}}"#,
            "\"eA==\"",
            "`payload` and `payload_base64`",
        ),
        (r#"{record: {value_base64: "x"}, becomes: nothing}"#, "\"x\"", "is no base64"),
        (
            r#"{topic: v/1/rpm, becomes: {value_base64: "eQ=="}}"#,
            "\"eQ==\"",
            "`value_base64` becomes ``, not `eQ==`",
        ),
    ] {
        assert_told(&telemetry(example), at, words);
    }
}

#[test]
fn an_example_that_fails_is_told_where_it_expects_something_else() {
    for (example, at, words) in [
        (
            r#"{topic: v/1/rpm, becomes: {key: "2"}}"#,
            "\"2\"",
            "`key` becomes `1`, not `2`; mend the rule `telemetry` or the example",
        ),
        (
            r#"{record: {key: "7", headers: {sensor: rpm}}, becomes: {user: {unit: C}}}"#,
            "unit: C}",
            "the user property `unit` must be `C`, and what the rule makes has none",
        ),
        (
            "{topic: v/1/rpm, becomes: {headers: {sensor: temp}}}",
            "sensor: temp",
            "`sensor` becomes `rpm`, not `temp`",
        ),
        (
            "{topic: v/1/rpm, becomes: {headers: {unit: C}}}",
            "unit: C}",
            "the header `unit` must be `C`, and what the rule makes has none: there is `mqtt.client`",
        ),
        (
            "{topic: v/1/rpm, becomes: nothing}",
            "{topic: v/1",
            "makes something of this example: topic `telemetry`",
        ),
        (
            "{topic: w/1/rpm, becomes: {key: 1}}",
            "{topic: w/1",
            "makes nothing of this example: no: level 1 is `w`, not `v`",
        ),
        (
            "{topic: v/+/rpm, becomes: {key: 1}}",
            "{topic: v/+",
            "makes nothing of this example",
        ),
        (
            "{record: {key: a}, becomes: {topic: v/a}}",
            "{record: {key: a}, becomes",
            "makes nothing of this example: no_header",
        ),
        (
            r#"{topic: v/1/rpm, becomes: {key: "${SECRET}"}}"#,
            "\"${SECRET}\"",
            "`key` becomes `1`, not `…`",
        ),
    ] {
        assert_told(&telemetry(example), at, words);
    }
    assert_told(
        &of("said", "{topic: s, becomes: {key: x}}"),
        "{topic: s, becomes",
        "makes nothing of this example: matches and refuses it: no_identity",
    );
}

#[test]
fn examples_are_told_where_they_are_no_examples() {
    for (example, at, words) in [
        (
            "{topic: v/1/rpm}",
            "{topic: v/1",
            "has no `becomes`; add `becomes: {key: \"42\"}` with what the record has, `becomes: nothing` or `becomes: refused`",
        ),
        (
            "{record: {key: a}}",
            "{record: {key",
            "has no `becomes`; add `becomes: {topic: vehicles/42/commands}` with what the message has, or `becomes: nothing`",
        ),
        ("{becomes: {key: 1}}", "{becomes", "has no `topic`"),
        (
            "{topic: v/1/rpm, becomes: {}}",
            "{}}",
            "says nothing; write what must come out, of topic, partition, key, timestamp",
        ),
        (
            "{topic: v/1/rpm, becomes: something}",
            "something",
            "write `nothing`, `refused`, or `{key: …}` with what the record has; a list of such tables",
        ),
        ("{topic: v/1/rpm, becomes: {payload: x}}", "payload: x", "unknown key `payload`"),
        ("{topic: v/1/rpm, becomes: {partition: 1}}", "1}}", "the partition cannot be told"),
        ("{topic: v/1/rpm, partitions: 0, becomes: {key: 1}}", "0, becomes", "out of range"),
        ("{topic: v/1/rpm, user: [a], becomes: {key: 1}}", "[a], becomes", "is not a table"),
        (
            "{topic: v/1/rpm, record: {key: a}, becomes: {topic: x}}",
            "v/1/rpm, record",
            "`topic` is a message's",
        ),
        (
            "{record: {key: a, payload: x}, becomes: {topic: x}}",
            "payload: x",
            "unknown key `payload`",
        ),
        ("{record: {key: a}, becomes: {key: x}}", "key: x", "unknown key `key`"),
        (
            "{record: {key: a}, becomes: [{topic: x}]}",
            "[{topic: x}]",
            "is a list, and a record becomes one message; write `{topic: …}`",
        ),
        (
            "{record: {key: a}, becomes: refused}",
            "refused",
            "write `nothing`, or `{topic: …}` with what the message has",
        ),
        ("{record: {key: a, value: [x]}, becomes: nothing}", "[x]", "is a list or a table"),
        ("v/1/rpm", "v/1/rpm", "is not a table"),
    ] {
        assert_told(&telemetry(example), at, words);
    }
}

#[test]
fn all_faults_of_examples_are_told_and_with_other_faults_they_are_not_tried() {
    let three = telemetry(r#"{topic: v/1/rpm, becomes: {topic: x, key: "2", headers: {sensor: y}}}"#);
    assert_eq!(faults(&three).len(), 3);
    let other = three.replace("mqtt: s,", "mqtt: \"#/s\",");
    assert_eq!(faults(&other).len(), 1);
    let many = vec!["{topic: v/1/rpm, becomes: {key: 1}}"; 1_000].join(", ");
    let file =
        |many: &str| telemetry("{topic: v/1/rpm, becomes: {key: 1}}").replace("examples:\n      - ", &format!("examples: [{many}] # "));
    assert_eq!(faults(&file(&many)), []);
    let more = format!("{many}, {{topic: v/1/rpm, becomes: {{key: 1}}}}");
    let found = faults(&file(&more));
    assert!(found.len() == 1 && found[0].message == "more than 1000 examples", "{found:#?}");
}
