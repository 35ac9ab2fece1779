//! `explain` on the command line: both ways and filters, as a table and as JSON.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::{Value, json};

const FILE: &str = r#"
listeners: [{name: tcp, address: "127.0.0.1:0", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
rules:
  - name: telemetry
    mqtt: "vehicles/{vin}/telemetry/{sensor}"
    kafka: {topic: vehicle-telemetry, key: "{vin}", headers: {sensor: "{sensor}"}}
  - {name: alarms, also: true, direction: publish, mqtt: "vehicles/{vin}/telemetry/temperature", kafka: {topic: alarms, key: "{vin}", partition: 2}}
  - {name: commands, direction: subscribe, mqtt: "vehicles/{key}/commands", kafka: {topic: vehicle-commands}}
  - {name: halls, mqtt: "plant/{hall}/#", kafka: {topic: "plant-{hall}"}}
  - {name: meters, mqtt_regex: "meters/(?<kind>[a-z]+)-(?<number>[0-9]+)", kafka: {topic: "meters-{kind}", key: "{number}"}}
  - {name: said, mqtt: "said/#", kafka: {topic: said, key: "{identity}:{user.unit}", partition: "{payload.lane}", timestamp: "{payload.lane}", headers: {at: "{now.iso}"}}}
  - {name: lines, mqtt_regex: "lines/(?<kind>[a-z]+)-[0-9]+", kafka: {topic: "lines-{kind}"}}
  - {name: rest, mqtt: "{all#}", kafka: {topic: rest, key: "{all}"}}
  - {name: strict, mqtt: "$strict/x", kafka: {topic: strict, key: "{payload.id}"}, on_error: {dead_letter: dead}}
  - {name: named, direction: subscribe, mqtt: "to/{header.to}", kafka: {topic: vehicle-commands}}
  - {name: rested, direction: subscribe, mqtt: "rested/{header.to}", kafka: {topic: rest}}
"#;

const WITH_TABLES: &str = r#"
listeners: [{name: tcp, address: "127.0.0.1:0", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
rules:
  - {name: looked, mqtt: "looked/{vin}", kafka: {topic: looked, key: "{vin}"}, lookup: {vins: {topic: vins, sample: vins.json}}, transform: 'lookup("vins"; $vin)', examples: [{topic: looked/7, payload: "1", becomes: {value: '"north"'}}]}
  - {name: kept, mqtt: "kept/{k}", kafka: {topic: kept, key: "{k}", tombstones: both}, examples: [{topic: kept/7, payload: "", becomes: {key: "7", tombstone: true}}, {topic: kept/7, payload: "1", becomes: {value: "1", tombstone: false}}]}
  - {name: blind, mqtt: "blind/{vin}", kafka: {topic: blind, key: "{vin}"}, lookup: {sites: {topic: sites}}, transform: 'lookup("sites"; $vin)', transform_back: 'lookup("sites"; $key)'}
"#;

const OF_SITES: &str = r#"
listeners: [{name: tcp, address: "127.0.0.1:0", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["127.0.0.1:1"]}
rules:
  - {name: reads, direction: subscribe, mqtt: "plants/{key}", kafka: {topic: "plant-{site}"}, transform_back: '{v: ., site: $site}', examples: [{record: {topic: plant-a, key: "7", value: "1"}, becomes: {payload: '{"v":1,"site":"a"}'}}]}
  - {name: both, mqtt: "halls/{site}/{x}", kafka: {topic: "hall-{site}", key: "{x}"}, transform_back: '{v: ., site: $site}'}
"#;

/// Exit code, stdout, stderr.
fn explain(arguments: &[&str]) -> (i32, String, String) {
    explain_by(FILE, arguments)
}

fn explain_by(file: &str, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("proxy.yaml"), file).unwrap();
    std::fs::write(folder.path().join("vins.json"), r#"{"7": "north"}"#).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let output = command.arg("explain").args(arguments).current_dir(folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn told(arguments: &[&str]) -> Value {
    let (code, out, err) = explain(&[arguments, &["--json"]].concat());
    let told: Value = serde_json::from_str(&out).unwrap();
    let expected = if told["why"].is_null() { 0 } else { 65 };
    assert_eq!((code, err.as_str()), (expected, ""), "{arguments:?}");
    told
}

#[test]
fn a_message_is_followed_into_its_records() {
    let topic = "vehicles/21/telemetry/temperature";
    let with = [
        "--payload",
        "97.5",
        "--client",
        "device-1",
        "--property",
        "unit=C",
        "--partitions",
        "7",
    ];
    let told = told(&[&[topic][..], &with].concat());
    let verdicts: Vec<&str> = told["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["verdict"].as_str().unwrap())
        .collect();
    let expected = [
        "takes it",
        "makes a copy",
        "only reads Kafka",
        "no: level 1 is `vehicles`, not `plant`",
        "no: level 1 is `vehicles`, not `meters`",
        "no: level 1 is `vehicles`, not `said`",
        "no: level 1 is `vehicles`, not `lines`",
        "matches, but comes after the rule that takes it (telemetry)",
        "no: level 1 is `vehicles`, not `$strict`",
        "only reads Kafka",
        "only reads Kafka",
    ];
    assert_eq!(verdicts, expected);
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    // Kafka's `UtilsTest.testMurmur2`: "21" hashes to -973932308; & 0x7fffffff that is 1173551340, and 3 modulo 7.
    let first = json!({
        "rule": "telemetry", "topic": "vehicle-telemetry", "partition": 3, "key": "21", "value": "97.5",
        "headers": [header("mqtt.client", "device-1"), header("mqtt.qos", "1"), header("sensor", "temperature"), header("unit", "C")],
    });
    assert_eq!(told["records"][0], first);
    assert_eq!(
        (&told["records"][1]["topic"], &told["records"][1]["partition"]),
        (&json!("alarms"), &json!(2))
    );
    assert_eq!(told["why"], Value::Null);
}

#[test]
fn a_message_that_makes_no_record_is_told_why() {
    let refused = told(&["plant/hall 1/temperature"]);
    assert_eq!(refused["why"], "refused: illegal_kafka_topic");
    assert_eq!(refused["rules"][3]["verdict"], "matches and refuses it: illegal_kafka_topic");
    assert_eq!(refused["records"], json!([]));
    let system = told(&["$SYS/uptime"]);
    assert_eq!(system["why"], "no rule matches");
    assert_eq!(system["rules"][7]["verdict"], "no: no wildcard takes a topic that begins with `$`");
    assert_eq!(system["rules"][0]["verdict"], "no: level 1 is `$SYS`, not `vehicles`");
    let short = told(&["vehicles/42"]);
    assert_eq!(short["rules"][0]["verdict"], "no: it has 4 levels or more, the topic 2");
    let long = told(&["vehicles/42/telemetry/engine/rpm"]);
    assert_eq!(long["rules"][0]["verdict"], "no: it has 4 levels, the topic more");
    let outside = told(&["vehicles/42/telemetry/temperature", "--partitions", "2"]);
    assert_eq!(outside["why"], "refused: no_such_partition: alarms has not so many partitions");
    assert_eq!(outside["rules"][1]["verdict"], "matches and refuses it: no_such_partition");
    let records = outside["records"].as_array().unwrap();
    assert_eq!(
        records.iter().map(|record| &record["topic"]).collect::<Vec<_>>(),
        ["vehicle-telemetry"]
    );
}

#[test]
fn a_record_for_a_partition_that_is_not_there_is_what_the_rule_makes_of_it() {
    let told = |on_error: &str| {
        let (head, _) = FILE.split_once("rules:\n").unwrap();
        let file = format!("{head}rules:\n  - {{name: far, mqtt: x, kafka: {{topic: t, partition: 5}}{on_error}}}\n");
        let (code, out, err) = explain_by(&file, &["x", "--payload", "21", "--partitions", "3", "--json"]);
        assert_eq!(err, "");
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, refused) = told("");
    assert_eq!((code, &refused["records"]), (65, &json!([])), "{refused}");
    let (code, skipped) = told(", on_error: skip");
    let why =
        "refused: no_such_partition: t has not so many partitions (on_error: skip: the message is acknowledged, and not stored there)";
    assert_eq!((code, &skipped["why"]), (65, &json!(why)));
    assert_eq!(
        skipped["rules"][0]["verdict"],
        "matches and skips it (acknowledged and counted): no_such_partition"
    );
    let (code, buried) = told(", on_error: {dead_letter: dead}");
    assert_eq!(
        buried["rules"][0]["verdict"],
        "matches and makes a dead letter of it: no_such_partition"
    );
    let letter = &buried["records"][0];
    assert_eq!((code, &letter["topic"], &letter["value"]), (0, &json!("dead"), &json!("21")));
    for (name, value) in [
        ("__connect.errors.topic", "t"),
        ("__connect.errors.stage", "KAFKA_PRODUCE"),
        ("__connect.errors.exception.message", "no_such_partition"),
    ] {
        let header = json!({"name": name, "value": value});
        assert!(letter["headers"].as_array().unwrap().contains(&header), "{letter}");
    }
}

#[test]
fn a_record_for_a_topic_of_the_proxys_own_state_is_refused() {
    let rule = |on_error: &str| {
        let (head, _) = FILE.split_once("rules:\n").unwrap();
        format!(
            "{head}rules:\n  - {{name: any, mqtt: \"a/{{x}}\", kafka: {{topic: \"mqtt-{{x}}\"}}{on_error}}}\n  - {{name: copy, also: true, direction: publish, mqtt: \"a/+\", kafka: {{topic: copies}}}}\n"
        )
    };
    let told = |on_error: &str, topic: &str| {
        let (code, out, err) = explain_by(&rule(on_error), &[topic, "--json"]);
        assert_eq!(err, "");
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    for own in ["sessions", "retained"] {
        let (code, refused) = told("", &format!("a/{own}"));
        assert_eq!(code, 65);
        assert_eq!(
            refused["why"],
            format!("refused: state_topic: mqtt-{own} holds the proxy's own state")
        );
        assert_eq!(refused["rules"][0]["verdict"], "matches and refuses it: state_topic");
        let records = refused["records"].as_array().unwrap();
        assert_eq!(records.iter().map(|record| &record["topic"]).collect::<Vec<_>>(), ["copies"]);
    }
    let (_, skipped) = told(", on_error: skip", "a/sessions");
    assert!(
        skipped["why"].as_str().unwrap().contains("the message is acknowledged"),
        "{skipped}"
    );
    let (code, buried) = told(", on_error: {dead_letter: dead}", "a/sessions");
    let letter = &buried["records"][0];
    assert_eq!((code, &letter["topic"], &letter["dead_letter"]), (0, &json!("dead"), &json!(true)));
    let why = json!({"name": "__connect.errors.exception.message", "value": "state_topic"});
    assert!(letter["headers"].as_array().unwrap().contains(&why), "{letter}");
    assert_eq!(told("", "a/x").1["records"][0]["topic"], "mqtt-x");
}

#[test]
fn a_record_is_followed_to_its_message() {
    let command = told(&[
        "--kafka",
        "vehicle-commands",
        "--key",
        "42",
        "--payload",
        "unlock",
        "--header",
        "trace=7",
    ]);
    let message = json!({
        "rule": "commands", "topic": "vehicles/42/commands", "qos": 2, "payload": "unlock",
        "user": [{"name": "trace", "value": "7"}],
    });
    assert_eq!(command["message"], message);
    assert_eq!(
        command["rules"],
        json!([{"rule": "commands", "verdict": "takes it as vehicles/42/commands"}, {"rule": "named", "verdict": "no: no_header"}])
    );
    let back = told(&["--kafka", "vehicle-telemetry", "--key", "42", "--header", "sensor=rpm"]);
    assert_eq!(back["message"]["topic"], "vehicles/42/telemetry/rpm");
    let keyless = told(&["--kafka", "vehicle-commands"]);
    assert_eq!(
        (&keyless["message"], &keyless["why"]),
        (&Value::Null, &json!("passed over: no_key"))
    );
    let nobody = told(&["--kafka", "elsewhere", "--key", "42"]);
    assert_eq!(nobody["why"], "passed over: no_rule");
    let tombstone = told(&["--kafka", "vehicle-commands", "--key", "42", "--tombstone"]);
    assert_eq!(tombstone["why"], "passed over: tombstone");
    let copy = told(&[
        "--kafka",
        "vehicle-telemetry",
        "--key",
        "42",
        "--header",
        "sensor=rpm",
        "--header",
        "mqtt.copy=x",
    ]);
    assert_eq!(copy["why"], "passed over: copy");
}

#[test]
fn a_filter_is_followed_to_what_is_read() {
    let vehicle = told(&["--subscribe", "vehicles/42/+"]);
    let rules: Vec<&str> = vehicle["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["commands", "rest"]);
    let all = json!({"rule": "commands", "topic": "vehicle-commands", "partitions": "all", "key": null});
    assert_eq!(vehicle["sources"][0], all);
    assert_eq!(told(&["--subscribe", "plant/north/#"])["sources"][0]["topic"], "plant-north");
    assert_eq!(told(&["--subscribe", "plant/+/temperature"])["sources"][0]["topic"], "plant-*");
    assert_eq!(told(&["--subscribe", "$SYS/#"])["why"], "no rule delivers such topics");
    // All partitions are read, whoever else writes to them; what the proxy itself writes is in one. Of "21" see above.
    let own = |filter: &str| told(&["--subscribe", filter, "--partitions", "7"])["sources"][0].clone();
    let fixed = own("vehicles/21/telemetry/rpm");
    assert_eq!(
        (&fixed["key"], &fixed["partitions"], &fixed["own_partition"]),
        (&json!("21"), &json!("all"), &json!(3))
    );
    assert_eq!(own("vehicles/+/telemetry/rpm")["own_partition"], Value::Null);
    assert_eq!(own("vehicles/21/commands")["own_partition"], Value::Null, "the proxy writes none");
    let (_, out, _) = explain(&["--subscribe", "vehicles/21/telemetry/rpm", "--partitions", "7"]);
    assert!(out.contains("  own_partition       3\n"), "{out}");
}

#[test]
fn the_table_tells_the_same_and_obeys_no_payload() {
    let (code, out, _) = explain(&["vehicles/42/telemetry/rpm", "--payload", "\u{1b}[2J\n1850"]);
    assert_eq!(code, 0);
    for line in [
        "rule telemetry        takes it",
        "rule commands         only reads Kafka",
        "record                by rule telemetry",
        "  topic               vehicle-telemetry",
        "  partition           hash",
        "  key                 42",
        "  header              sensor=rpm",
        "  value               \\u{1b}[2J\\n1850",
    ] {
        assert!(out.lines().any(|own| own == line), "no {line} in\n{out}");
    }
    let (code, out, _) = explain(&["--kafka", "vehicle-commands"]);
    assert_eq!(code, 65);
    let words = "no_key: the rule makes the MQTT topic of the key, and the record has none";
    assert!(out.ends_with(&format!("nothing               passed over: {words}\n")), "{out}");
    assert!(
        out.lines().any(|line| line == format!("rule commands         no: {words}")),
        "{out}"
    );
}

#[test]
fn a_question_that_is_none_is_64() {
    let questions: [&[&str]; 11] = [
        &[],
        &["a/+"],
        &["a", "--kafka", "t"],
        &["a", "--key", "k"],
        &["a", "--header", "h=1"],
        &["a", "--tombstone"],
        &["--subscribe", "a", "--key", "k"],
        &["--subscribe", "a/#/b"],
        &["--subscribe", "$share/group/a"],
        &["a", "--property", "none"],
        &["a", "--partitions", "0"],
    ];
    for question in questions {
        let (code, out, err) = explain(question);
        assert_eq!((code, out.as_str()), (64, ""), "{question:?}");
        let last = err.lines().last().unwrap_or_default();
        assert!(last.starts_with("for example: mqtt-kafka-proxy explain "), "{question:?}: {err}");
    }
}

/// What is missing, and a question of that kind.
#[test]
fn a_question_that_lacks_something_is_told_what_and_shown_one_that_does_not() {
    let questions: [(&[&str], &str, &str); 6] = [
        (
            &[],
            "what is asked about is missing: the topic of a message, `--kafka TOPIC`",
            "explain vehicles/",
        ),
        (&["--payload", "1"], "what is asked about is missing", "explain vehicles/"),
        (&["--key", "42"], "`--kafka TOPIC` is missing", "explain --kafka "),
        (&["a", "--key", "42"], "`--kafka TOPIC` is missing", "explain --kafka "),
        (
            &["a", "--subscribe", "b"],
            "one question is about one of three",
            "explain --subscribe ",
        ),
        (
            &["a/+"],
            "what a subscriber of a filter reads tells `--subscribe FILTER`",
            "explain vehicles/",
        ),
    ];
    for (question, missing, example) in questions {
        let (code, _, err) = explain(question);
        assert_eq!(code, 64, "{question:?}");
        let last = err.lines().last().unwrap_or_default();
        assert!(err.contains(missing) && last.contains(example), "{question:?}: {err}");
    }
}

#[test]
fn a_message_of_which_nothing_is_stored_is_told_why_and_that_it_is_acknowledged() {
    let (head, _) = FILE.split_once("rules:\n").unwrap();
    let copy = "  - {name: copy, also: true, direction: publish, mqtt: \"a/copied\", kafka: {topic: copies}}\n";
    let told = |program: &str, topic: &str| {
        let rule =
            format!("  - {{name: any, direction: publish, mqtt: \"a/+\", on_error: skip, transform: '{program}', kafka: {{topic: t}}}}\n");
        let (code, out, err) = explain_by(&format!("{head}rules:\n{rule}{copy}"), &[topic, "--payload", "junk", "--json"]);
        assert_eq!(err, "");
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, skipped) = told(".x", "a/x");
    let why = "skipped: not_json (on_error: skip: the message is acknowledged and counted, and stored nowhere)";
    assert_eq!((code, &skipped["why"]), (65, &json!(why)));
    assert_eq!(
        skipped["rules"][0]["verdict"],
        "matches and skips it (acknowledged and counted): not_json"
    );
    let (code, copied) = told(".x", "a/copied");
    assert_eq!(
        (code, &copied["why"], &copied["records"][0]["topic"]),
        (0, &Value::Null, &json!("copies"))
    );
    let select = "  - {name: any, direction: publish, mqtt: \"a/+\", transform: 'select(.x)', kafka: {topic: t}}\n";
    let (code, out, _) = explain_by(&format!("{head}rules:\n{select}"), &["a/x", "--payload", "{}"]);
    let line = out.lines().find(|line| line.starts_with("nothing ")).unwrap_or_default();
    assert!(code == 65 && line.contains("dropped: "), "{out}");
}

#[test]
fn a_value_of_a_schema_is_given_as_json_or_it_is_told() {
    let (head, _) = FILE.split_once("rules:\n").unwrap();
    let rule = "  - {name: avro, direction: subscribe, mqtt: \"m/{key}\", value: {format: avro, registry: \"http://127.0.0.1:1\"}, kafka: {topic: t}}\n";
    let told = |value: &str| {
        let (code, out, err) = explain_by(
            &format!("{head}rules:\n{rule}"),
            &["--kafka", "t", "--key", "1", "--payload", value, "--json"],
        );
        assert_eq!(err, "");
        (code, serde_json::from_str::<Value>(&out).unwrap())
    };
    let (code, taken) = told("{\"x\": 1}");
    assert_eq!((code, &taken["message"]["topic"]), (0, &json!("m/1")));
    let (code, refused) = told("x");
    let why = refused["why"].as_str().unwrap_or_default();
    assert!(
        code == 65 && why.starts_with("passed over: not_json (a value that would be "),
        "{refused}"
    );
    assert_eq!(refused["message"], Value::Null);
}

/// Codes stay in front: metrics have them.
#[test]
fn codes_have_words_for_people_and_none_for_programs() {
    let questions: [(&[&str], i32, &str, &str); 8] = [
        (&["plant/hall 1/x"], 65, "illegal_kafka_topic", "is not allowed there"),
        (&["said/x"], 65, "no_identity", "the client was recognised as nobody"),
        (
            &["$strict/x", "--payload", "junk"],
            0,
            "not_json",
            "the rule reads the payload as JSON, and it is none",
        ),
        (
            &["--kafka", "lines-oil", "--key", "lines/gas-1"],
            65,
            "other_form",
            "the record has no header `mqtt.topic` that tells a topic, and its Kafka topic, key or headers do not look as the rule writes them",
        ),
        (
            &["--kafka", "meters-gas", "--key", "12"],
            65,
            "no_inverse",
            "it needs the header `mqtt.topic`",
        ),
        (
            &["--kafka", "vehicle-commands", "--key", "42"],
            0,
            "no_header",
            "a header that the record lacks, or that is not UTF-8: `to`",
        ),
        (
            &["$strict/x", "--payload", "{}"],
            0,
            "no_payload_field",
            "the payload has no such field, or it is no text, number or truth value: `{payload.id}`",
        ),
        (
            &[
                "said/x",
                "--identity",
                "vin",
                "--property",
                "unit=C",
                "--payload",
                r#"{"lane": "left"}"#,
            ],
            65,
            "not_a_partition",
            "is no number of a partition: `left`",
        ),
    ];
    for (question, expected, code, words) in questions {
        let (exit, out, _) = explain(question);
        let tells = |line: &&str| line.contains(&format!("{code}: ")) && line.contains(words);
        assert_eq!((exit, out.lines().find(tells).is_some()), (expected, true), "{question:?}: {out}");
        let (_, out, _) = explain(&[question, &["--json"]].concat());
        assert!(out.contains(code) && !out.contains(words), "{question:?}: {out}");
    }
    let (code, out, _) = explain_by(WITH_TABLES, &["blind/7", "--payload", "1"]);
    let line = out.lines().find(|line| line.starts_with("rule blind")).unwrap_or_default();
    assert!(
        code == 65 && line.contains("`explain` reads no Kafka") && line.contains("sample: FILE"),
        "{out}"
    );
}

#[test]
fn what_becomes_of_the_retain_flag_is_told() {
    let file = FILE.replace(
        "rules:\n",
        "rules:\n  - {name: up, direction: publish, mqtt: \"up/{x}\", kafka: {topic: up, key: \"{x}\"}}\n",
    );
    let file = file.replace(
        "kafka: {bootstrap_servers: [\"127.0.0.1:1\"]}",
        "kafka: {bootstrap_servers: [\"127.0.0.1:1\"], topics: {retained: kept}}",
    );
    let told = |arguments: &[&str]| {
        let (code, out, err) = explain_by(&file, &[arguments, &["--json"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
        let told: Value = serde_json::from_str(&out).unwrap();
        let (_, lines, _) = explain_by(&file, arguments);
        let line = lines.lines().find_map(|line| line.strip_prefix("retained              "));
        assert_eq!(told["retained"]["then"].as_str(), line, "{lines}");
        told["retained"].clone()
    };
    let topic = "vehicles/42/telemetry/rpm";
    let kept = told(&[topic, "--payload", "1850", "--retain"]);
    assert_eq!((&kept["kept"], &kept["topic"]), (&json!(true), &json!("kept")));
    let words = "the running proxy also keeps it in kept, as the retained message of vehicles/42/telemetry/rpm";
    assert_eq!(kept["then"], words);
    let cleared = told(&[topic, "--retain"]);
    assert!(cleared["then"].as_str().unwrap().starts_with("cleared: "), "{cleared}");
    let written = told(&["up/1", "--payload", "1", "--retain"]);
    assert_eq!((&written["kept"], &written["topic"]), (&json!(false), &Value::Null));
    assert!(written["then"].as_str().unwrap().contains("rule up only writes"), "{written}");
    assert_eq!(told(&[topic, "--payload", "1850"]), Value::Null, "it has no such flag");
    let buried = told(&["$strict/x", "--payload", "junk", "--retain"]);
    assert_eq!(buried["kept"], json!(false), "a dead letter is not retained");
}

#[test]
fn a_rule_with_an_expression_is_explained_all_ways() {
    let taken = told(&["meters/gas-12"]);
    let record = &taken["records"][0];
    assert_eq!(
        (&record["rule"], &record["topic"], &record["key"]),
        (&json!("meters"), &json!("meters-gas"), &json!("12"))
    );
    assert_eq!(
        told(&["meters/gas"])["rules"][4]["verdict"],
        json!("no: the expression does not match")
    );
    let back = told(&["--kafka", "meters-gas", "--key", "12", "--header", "mqtt.topic=meters/gas-12"]);
    assert_eq!(
        (&back["message"]["rule"], &back["message"]["topic"]),
        (&json!("meters"), &json!("meters/gas-12"))
    );
    assert_eq!(
        told(&["--kafka", "meters-gas", "--key", "12"])["why"],
        json!("passed over: no_inverse")
    );
    assert_eq!(
        back["rules"],
        json!([{"rule": "meters", "verdict": "takes it as meters/gas-12, by the header mqtt.topic"}])
    );
    // The header names a topic that has another key.
    let other = told(&["--kafka", "meters-gas", "--key", "13", "--header", "mqtt.topic=meters/gas-12"]);
    assert_eq!(other["rules"], json!([{"rule": "meters", "verdict": "no: no_inverse"}]));
    assert_eq!(
        other["note"],
        json!("mqtt.topic tells nothing: no rule writes meters/gas-12 to this Kafka topic with this key")
    );
    // The key is a topic of the rule, which writes it elsewhere.
    let lines = |topic| told(&["--kafka", topic, "--key", "lines/gas-1"]);
    let verdict = "takes it as lines/gas-1";
    assert_eq!(lines("lines-gas")["rules"], json!([{"rule": "lines", "verdict": verdict}]));
    assert_eq!(lines("lines-gas")["message"]["topic"], json!("lines/gas-1"));
    assert_eq!(lines("lines-oil")["rules"], json!([{"rule": "lines", "verdict": "no: other_form"}]));
    assert_eq!(lines("lines-oil")["why"], json!("passed over: other_form"));
    let read = told(&["--subscribe", "meters/gas-12"]);
    assert_eq!(
        (&read["sources"][0]["topic"], &read["sources"][0]["key"]),
        (&json!("meters-gas"), &json!("12"))
    );
}

#[test]
fn of_several_rules_that_read_a_record_one_takes_it() {
    let commands = told(&["--kafka", "vehicle-commands", "--key", "42", "--header", "to=42"]);
    let second = "could take it as to/42, but comes after the rule that does (commands)";
    assert_eq!(commands["rules"][1], json!({"rule": "named", "verdict": second}));
    let copy = told(&["--kafka", "vehicle-commands", "--key", "42", "--header", "mqtt.copy=x"]);
    assert_eq!(copy["rules"][0]["verdict"], json!("is not asked: copies are not delivered"));
    let own = told(&["--kafka", "rest", "--key", "a", "--header", "mqtt.topic=a"]);
    assert_eq!(own["rules"][0]["verdict"], json!("takes it as a, by the header mqtt.topic"));
    assert_eq!(
        own["rules"][1]["verdict"],
        json!("is not asked: by the header mqtt.topic another rule has written it (rest)")
    );
}

#[test]
fn a_dead_letter_is_explained_and_is_something() {
    let told = told(&["$strict/x", "--payload", "junk", "--partitions", "1"]);
    assert_eq!(
        told["rules"][8]["verdict"],
        json!("matches and makes a dead letter of it: not_json")
    );
    let letter = &told["records"][0];
    assert_eq!(
        (
            &letter["topic"],
            &letter["key"],
            &letter["value"],
            &letter["dead_letter"],
            &letter["partition"]
        ),
        (&json!("dead"), &json!("$strict/x"), &json!("junk"), &json!(true), &json!(0))
    );
    let why = json!({"name": "__connect.errors.exception.message", "value": "not_json"});
    assert!(letter["headers"].as_array().unwrap().contains(&why), "{letter}");
    let (_, out, _) = explain(&["$strict/x"]);
    assert!(
        out.contains("dead letter           by rule strict\n") && out.contains("  partition           hash\n"),
        "{out}"
    );
}

#[test]
fn what_a_message_says_is_explained() {
    let good = [
        "said/x",
        "--identity",
        "vin42",
        "--property",
        "unit=C",
        "--payload",
        r#"{"lane": 2}"#,
    ];
    let record = &told(&[&good[..], &["--partitions", "3"]].concat())["records"][0];
    assert_eq!((&record["key"], &record["partition"]), (&json!("vin42:C"), &json!(2)));
    assert_eq!(record["timestamp"], json!(2));
    let at = record["headers"]
        .as_array()
        .unwrap()
        .iter()
        .find(|header| header["name"] == "at")
        .unwrap();
    // The time of the question.
    assert!(at["value"].as_str().unwrap() > "2026-01-01T00:00:00.000Z");
    assert_eq!(told(&good)["records"][0]["partition"], json!("{payload.lane}"));
    assert_eq!(told(&["said/x"])["why"], json!("refused: no_identity"));
    assert_eq!(
        told(&good[..3])["rules"][5]["verdict"],
        json!("matches and refuses it: no_user_property")
    );
    assert_eq!(told(&[&good[..5], &["--payload", "x"]].concat())["why"], json!("refused: not_json"));
}

#[test]
fn what_a_packet_says_beside_its_payload_is_explained() {
    let rules = r#"
  - {name: jq, direction: publish, mqtt: "x/+", transform: '{$qos, $retain}', kafka: {topic: t}}
  - {name: free, mqtt: free, retain: deny, kafka: {topic: free}}
  - {name: copy, also: true, direction: publish, mqtt: free, kafka: {topic: copies}}
"#;
    let (head, _) = FILE.split_once("rules:\n").unwrap();
    let file = format!("{head}rules:{rules}");
    let asked = |arguments: &[&str]| {
        let (code, out, err) = explain_by(&file, &[arguments, &["--json"]].concat());
        (code, serde_json::from_str::<Value>(&out).unwrap_or_default(), err)
    };
    let words = [
        "--content-type",
        "text/csv",
        "--response-topic",
        "re/1",
        "--correlation-data",
        "7",
        "--message-expiry",
        "60",
        "--payload-format",
        "1",
    ];
    let (code, told, _) = asked(&[&["x/1", "--payload", "{}", "--qos", "0", "--retain"], &words[..]].concat());
    let record = &told["records"][0];
    assert_eq!((code, &record["value"]), (0, &json!(r#"{"qos":0,"retain":true}"#)), "{told}");
    for (name, value) in [
        ("mqtt.qos", "0"),
        ("mqtt.retain", "1"),
        ("mqtt.expiry", "60"),
        ("mqtt.content-type", "text/csv"),
        ("mqtt.payload-format", "1"),
        ("mqtt.response-topic", "re/1"),
        ("mqtt.correlation-data", "7"),
    ] {
        let header = json!({"name": name, "value": value});
        assert!(record["headers"].as_array().unwrap().contains(&header), "{name}: {told}");
    }
    let (code, told, _) = asked(&["x/1", "--payload", "{}"]);
    assert_eq!((code, &told["records"][0]["value"]), (0, &json!(r#"{"qos":1,"retain":false}"#)));
    let format = |told: &Value| told["records"][0]["headers"].to_string().contains("mqtt.payload-format");
    assert!(!format(&told), "{told}");
    assert!(format(&asked(&["x/1", "--payload", "{}", "--payload-format", "0"]).1));
    // Nothing is stored of what ends its connection, not even the copy.
    let (code, told, _) = asked(&["free", "--retain"]);
    assert_eq!((code, &told["records"]), (65, &json!([])));
    assert_eq!(
        told["why"],
        "refused: its rule denies retained messages, so the connection ends (0x9A)"
    );
    let verdicts = [
        "matches, and denies retained messages",
        "matches, but another rule refuses the message (free)",
    ];
    assert_eq!(
        verdicts.map(|verdict| json!(verdict)),
        [1, 2].map(|at| told["rules"][at]["verdict"].clone())
    );
    assert_eq!(asked(&["free"]).1["records"].as_array().unwrap().len(), 2);
    for question in [
        &["free", "--qos", "3"][..],
        &["free", "--response-topic", "a/+"],
        &["free", "--payload-format", "2"],
        &["--kafka", "t", "--retain"],
        &["--subscribe", "a", "--content-type", "x"],
    ] {
        let (code, _, err) = asked(question);
        assert!(code == 64 && !err.is_empty(), "{question:?}: {code}");
    }
}

#[test]
fn a_payload_that_is_not_what_its_format_says_is_refused_where_that_is_checked() {
    let asked = |file: &str, format: &str, payload: &str| {
        let (code, out, err) = explain_by(file, &["free", "--payload-format", format, "--payload-base64", payload, "--json"]);
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
        (code, told["why"].as_str().unwrap_or_default().to_owned())
    };
    let checked = format!("{FILE}payload_format_check: true\n");
    let (code, why) = asked(&checked, "1", "/w==");
    assert!(code == 65 && why.starts_with("refused: not_utf8"), "{why}");
    for (file, format, payload) in [(FILE, "1", "/w=="), (&*checked, "0", "/w=="), (&*checked, "1", "QQ==")] {
        assert_eq!(asked(file, format, payload), (0, String::new()));
    }
}

#[test]
fn an_empty_payload_that_becomes_a_null_value_is_told() {
    let (code, out, _) = explain_by(WITH_TABLES, &["kept/7", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    let record = &told["records"][0];
    assert_eq!((code, &record["value"], &record["tombstone"]), (0, &Value::Null, &json!(true)));
    let (_, out, _) = explain_by(WITH_TABLES, &["kept/7"]);
    assert!(out.contains("  tombstone           true\n") && !out.contains("  value"), "{out}");
    let (_, out, _) = explain_by(WITH_TABLES, &["--kafka", "kept", "--key", "7", "--tombstone", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["message"]["topic"], &told["message"]["payload"]),
        (&json!("kept/7"), &json!(""))
    );
}

#[test]
fn programs_on_the_way_back_know_what_the_kafka_topic_holds() {
    for (topic, mqtt) in [("plant-b", "plants/7"), ("hall-b", "halls/b/7")] {
        let (code, out, err) = explain_by(OF_SITES, &["--kafka", topic, "--key", "7", "--payload", "1", "--json"]);
        assert_eq!((code, err.as_str()), (0, ""));
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["message"]["topic"], mqtt);
        assert_eq!(told["message"]["payload"], r#"{"v":1,"site":"b"}"#);
    }
}

#[test]
fn bytes_that_are_no_text_are_asked_about_in_base64_or_as_a_file() {
    let record = |told: &Value| (told["records"][0]["value"].clone(), told["records"][0]["value_base64"].clone());
    let given = told(&["plain", "--payload-base64", "AP9B"]);
    assert_eq!(record(&given), (json!("\\x00\\xffA"), json!("AP9B")));
    let words = told(&["plain", "--payload-base64", "QQ=="]);
    assert_eq!(record(&words), (json!("A"), Value::Null));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frame.bin");
    std::fs::write(&file, b"\xfe").unwrap();
    let read = told(&["plain", "--payload-file", file.to_str().unwrap()]);
    assert_eq!(record(&read), (json!("\\xfe"), json!("/g==")));
    let back = told(&[
        "--kafka",
        "vehicle-commands",
        "--key-base64",
        "NDI=",
        "--payload-base64",
        "/w==",
        "--header-base64",
        "raw=/w==",
        "--header-base64",
        "unit=Qw==",
    ]);
    let message = &back["message"];
    assert_eq!(
        (&message["topic"], &message["payload_base64"], &message["user"]),
        (
            &json!("vehicles/42/commands"),
            &json!("/w=="),
            &json!([{"name": "unit", "value": "C"}])
        )
    );
    let no_text = told(&["--kafka", "vehicle-commands", "--key-base64", "/w=="]);
    assert!(no_text["message"].is_null(), "{no_text}");
}

#[test]
fn bytes_that_cannot_be_had_are_told() {
    for (arguments, code, words) in [
        (["plain", "--payload-base64", "?"], 64, "no base64"),
        (["plain", "--payload-file", "not-there.bin"], 66, "not-there.bin: cannot be read"),
        (["--kafka=x", "--header-base64", "a"], 64, "write NAME=BASE64"),
    ] {
        let (told, _, err) = explain(&arguments);
        assert!(told == code && err.contains(words), "{arguments:?}: {told} {err}");
    }
    let (code, ..) = explain(&["plain", "--payload", "x", "--payload-base64", "eA=="]);
    assert_eq!(code, 64);
}

/// No Kafka is asked: rows of a topic are those of its sample, and without one it is said that they are not known.
#[test]
fn tables_of_kafka_topics_are_their_samples() {
    let told = |arguments: &[&str]| -> Value {
        let (_, out, err) = explain_by(WITH_TABLES, &[arguments, &["--json"]].concat());
        assert_eq!(err, "");
        serde_json::from_str(&out).unwrap()
    };
    let sampled = told(&["looked/7", "--payload", "1"]);
    assert_eq!(sampled["records"][0]["value"], "\"north\"");
    let unknown = told(&["blind/7", "--payload", "1"]);
    let why = unknown["why"].as_str().unwrap();
    assert!(
        why.starts_with("refused: no_table (") && why.contains("name a file of rows as its `sample`"),
        "{why}"
    );
    let back = told(&["--kafka", "blind", "--key", "7", "--payload", "1"]);
    let why = back["why"].as_str().unwrap();
    assert!(why.starts_with("passed over: no_table (") && why.contains("`sample`"), "{why}");
}
