//! Faulty files: each fault is told with its line, its column and what would be right, and all of them at once.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod config_file;

use std::path::Path;

use config_file::{GOOD, open_to_all, with};
use mqtt_kafka_proxy::config::{self, Problem};

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2hunter2".to_owned()),
        "PORT" => Some("1884".to_owned()),
        _ => None,
    }
}

fn faults(text: &str) -> Vec<Problem> {
    config::parse(text, Path::new("/etc/proxy"), &environment).err().unwrap_or_default()
}

/// The one fault of a file.
#[track_caller]
fn only(text: &str) -> Problem {
    config_file::only(&faults(text), text)
}

#[track_caller]
fn assert_fault(text: &str, line: u32, column: u32, words: &str) {
    config_file::assert_fault(&faults(text), text, (line, column), words);
}

#[test]
fn the_good_file_is_good() {
    assert_eq!(faults(GOOD), []);
}

#[test]
fn a_value_at_fault_is_told_where_it_stands() {
    for (line, column, words) in [
        ("limits: {packet_size: 1MB}", 23, "wrong unit; write 1MiB"),
        ("limits: {packet_size: 64B}", 23, "out of range; give 128B to 256MiB"),
        ("limits: {connect_timeout: 10}", 27, "no unit; write 10ms or 10s"),
        ("limits: {connect_rate: 5000}", 24, "no unit; write 5000/s"),
        ("limits: {connections: many}", 23, "not a whole number"),
        ("limits: {receive_maximum: 0}", 27, "out of range; give 1 to 65535"),
        ("limits: {receive_maximum: 65536}", 27, "out of range"),
        ("limits: {keep_alive: {max: 1500ms}}", 28, "whole seconds"),
        ("limits: {keep_alive: 1h}", 22, "not a table"),
        ("limits: {conections: 5}", 10, "did you mean `connections`?"),
        ("limits: {<<: {connections: 5}}", 10, "write the keys out"),
        ("limits: [1]", 9, "not a table"),
        ("limits:", 1, "no value"),
        ("unmapped: ignore", 11, "write `reject` or `drop`"),
        ("payload_format_check: yes", 23, "write `true` or `false`"),
        ("unmapped: dorp", 11, "did you mean `drop`?"),
        ("unmapped: inject", 11, "write `reject` or `drop`"),
        ("unmapped: [drop]", 11, "a list or a table"),
        ("admin: {address: \":9090\"}", 18, "write \"0.0.0.0:9090\""),
        ("admin: {address: \"localhost:9090\"}", 18, "write \"127.0.0.1:9090\""),
        ("admin: {address: \"0.0.0.0:1883\"}", 18, "taken in line 2"),
        (
            "admin: {address: \"0.0.0.0:9090\", hosts: [\"a:80\"]}",
            42,
            "without scheme and port",
        ),
        ("admin: {address: \"0.0.0.0:9090\", hosts: []}", 41, "is empty"),
        ("admin: {}", 8, "add `address:"),
        ("lisener: []", 1, "did you mean `listeners`?"),
        ("frobnicate: 1", 1, "the keys here are listeners"),
        ("\"admin\": {address: \"${GONE}\"}", 21, "no `GONE`"),
        ("unmapped: !!str drop", 11, "tag"),
        ("limits: {{a: b}: c}", 10, "as a key"),
        ("rules: []", 1, "second time, first in line 5"),
        ("unmapped: drop\nunmapped: drop", 1, "second time, first in line 9"),
    ] {
        let at = u32::try_from(8 + line.lines().count()).unwrap();
        assert_fault(&with(line), at, column, words);
    }
}

#[test]
fn values_at_fault() {
    for (value, at, words) in [
        ("{registry: \"http://r\"}", "{", "has no `format`"),
        ("{format: avro}", "{", "has no `registry`"),
        ("{format: arvo, registry: \"http://r\"}", "arvo", "did you mean `avro`?"),
        ("{format: avro, registry: \"r:8081\"}", "\"r", "does not begin with http://"),
        ("{format: avro, registry: \"http://r/?x=y\"}", "\"http", "has a query"),
        (
            "{format: avro, registry: \"http://r\", message: a.B}",
            "a.B",
            "only for `format: protobuf`",
        ),
        ("{format: avro, registry: \"http://r\", username: a}", "a}", "write both of them"),
        (
            "{format: avro, registry: \"http://r\", token: abc}",
            "abc",
            "stands in the file itself",
        ),
        ("{format: avro, registry: \"http://r\", refresh: 1s}", "1s", "out of range"),
        ("{format: avro, registry: \"http://r\", subject: \"\"}", "\"\"}", "no subject"),
        // Nothing is registered by the proxy.
        ("{format: avro, registry: \"http://r\", auto_register: true}", "auto", "unknown key"),
    ] {
        let line = format!("  - {{name: b, mqtt: \"b/{{x}}\", kafka: {{topic: b, key: \"{{x}}\"}}, value: {value}}}");
        let column = line.find(value).unwrap() + value.find(at).unwrap() + 1;
        assert_fault(
            &GOOD.replacen("rules:\n", &format!("rules:\n{line}\n"), 1),
            6,
            u32::try_from(column).unwrap(),
            words,
        );
    }
    // A topic that is not always the same one names no subject, and what is only read needs none.
    for (rule, words) in [
        (
            "{name: b, mqtt: \"b/{x}\", kafka: {topic: \"b-{x}\"}, value: {format: avro, registry: \"http://r\"}}",
            "write `subject`",
        ),
        (
            "{name: b, mqtt: \"b/x\", kafka: {topic: b, topics: [c]}, transform: 'record({topic: \"c\"})', value: {format: avro, registry: \"http://r\"}}",
            "may choose among several Kafka topics",
        ),
        (
            "{name: b, direction: subscribe, mqtt: \"b/{key}\", kafka: {topic: b}, value: {format: avro, registry: \"http://r\", subject: s}}",
            "only reads",
        ),
    ] {
        let fault = only(&GOOD.replacen("rules:\n", &format!("rules:\n  - {rule}\n"), 1));
        assert!(fault.to_string().contains(words), "{fault}");
    }
    // With a subject of all of them there is nothing to tell.
    let chosen = "{name: b, mqtt: \"b/x\", kafka: {topic: b, topics: [c]}, transform: 'record({topic: \"c\"})', \
                  value: {format: avro, registry: \"http://r\", subject: s}}";
    assert_eq!(faults(&GOOD.replacen("rules:\n", &format!("rules:\n  - {chosen}\n"), 1)), []);
}

#[test]
fn listeners_at_fault() {
    for (listener, column, words) in [
        ("{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtts}", 5, "without `tls`"),
        (
            "{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, tls: {certificate: a, key: b}}",
            63,
            "write `protocol: mqtts`",
        ),
        (
            "{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtts, tls: {certificate: a}}",
            64,
            "has no `key`",
        ),
        (
            "{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtts, tls: {certificate: a, key: b, client_ca: c}}",
            100,
            "without `client_auth`",
        ),
        (
            "{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtts, tls: {certificate: a, key: b, client_auth: required}}",
            102,
            "without `client_ca`",
        ),
        ("{name: \"t p\", address: \"0.0.0.0:1883\", protocol: mqtt}", 12, "no name"),
        (
            "{name: tcp, address: \"0.0.0.0:70000\", protocol: mqtt}",
            26,
            "no IP address with a port",
        ),
        ("{name: tcp, address: \"0.0.0.0:1883\"}", 5, "has no `protocol`"),
        (
            "{name: tcp, address: \"0.0.0.0:1883\", protocol: http}",
            52,
            "write `mqtt`, `mqtts`, `ws` or `wss`",
        ),
    ] {
        let good = open_to_all("{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt}");
        let text = GOOD.replace(&good, &open_to_all(listener));
        assert_fault(&text, 2, column, words);
    }
    let second = open_to_all("{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt}");
    let twice = GOOD.replace("kafka:\n", &format!("  - {second}\nkafka:\n"));
    let found = faults(&twice);
    assert_eq!(
        found.iter().map(|p| (p.line, p.column)).collect::<Vec<_>>(),
        [(3, 12), (3, 26)],
        "{found:#?}"
    );
}

#[test]
fn kafka_at_fault() {
    for (entry, column, words) in [
        ("bootstrap_servers: []", 22, "empty"),
        ("bootstrap_servers: [localhost]", 23, "no port"),
        ("bootstrap_servers: [\"a:9092,b\"]", 23, "no port"),
        ("bootstrap_servers: [\"a b:9092\"]", 23, "host name"),
        ("bootstrap_servers: [\"a:0\"]", 23, "no port from 1"),
        ("bootstrap_servers: \"a:1\"\n  producer: {linger: 5}", 22, "no unit"),
        ("bootstrap_servers: \"a:1\"\n  producer: {linger: 1m}", 22, "out of range"),
        ("bootstrap_servers: \"a:1\"\n  producer: {compression: lzma}", 27, "is not a choice"),
        (
            "bootstrap_servers: \"a:1\"\n  producer: {compression: lz}",
            27,
            "did you mean `lz4`?",
        ),
        ("bootstrap_servers: \"a:1\"\n  producer: {compression: {level: 3}}", 27, "codec"),
        (
            "bootstrap_servers: \"a:1\"\n  producer: {compression: {codec: gzip, level: 10}}",
            48,
            "out of range",
        ),
        (
            "bootstrap_servers: \"a:1\"\n  producer: {compression: {codec: lz4, level: 1}}",
            47,
            "this codec has no levels",
        ),
        (
            "bootstrap_servers: \"a:1\"\n  producer: {batch_size: 16MiB, memory: 1MiB}",
            41,
            "smaller than `batch_size`",
        ),
        ("bootstrap_servers: \"a:1\"\n  consumer: {max_wait: 1h}", 24, "out of range"),
        (
            "bootstrap_servers: \"a:1\"\n  consumer: {cache: 15MiB}",
            21,
            "smaller than sixteen times `fetch_size`",
        ),
        ("bootstrap_servers: \"a:1\"\n  consumer: {sweeps: 0}", 22, "out of range"),
        ("bootstrap_servers: \"a:1\"\n  consumer: {rack: \"\"}", 20, "is no name of a rack"),
        (
            "bootstrap_servers: \"a:1\"\n  consumer: {isolation: read_uncomitted}",
            25,
            "did you mean `read_uncommitted`?",
        ),
    ] {
        let text = GOOD.replace("bootstrap_servers: [\"localhost:9092\"]", entry);
        let line = u32::try_from(3 + entry.lines().count()).unwrap();
        assert_fault(&text, line, column, words);
    }
}

/// What `mapping` finds in a string is told where it stands in the file.
#[test]
fn rules_at_fault() {
    for (rule, line, column, words) in [
        ("name: all\n    mqtt: \"a/{b/c\"\n    kafka: {topic: t}", 7, 14, "without its `}`"),
        ("name: all\n    mqtt: a/#/b\n    kafka: {topic: t}", 7, 13, "stand last"),
        ("name: all\n    mqtt: \"a/{b}\"\n    kafka: {topic: t}", 7, 14, "no template uses"),
        (
            "name: all\n    mqtt: \"a/{b}\"\n    kafka: {topic: t, key: \"é{b}{c}\"}",
            8,
            33,
            "{c}",
        ),
        ("name: all\n    mqtt: \"a/b\"\n    kafka: {topic: \"a b\"}", 8, 22, "Kafka topic"),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, headers: {x: \"{c}\"}}",
            8,
            37,
            "{c}",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, headers: {x: [1]}}",
            8,
            36,
            "a list or a table",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, partition: odd}",
            8,
            34,
            "write hash, round-robin, sticky, a number",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, partition: -1}",
            8,
            34,
            "write hash",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, client_header: yes}",
            8,
            38,
            "write `true` or `false`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    qos: 3",
            9,
            10,
            "write `0`, `1` or `2`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    qso: 1",
            9,
            5,
            "did you mean `qos`?",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    direction: up",
            9,
            16,
            "`publish`, `subscribe` or `both`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    direction: publish\n    qos: 1",
            10,
            10,
            "this rule only writes; leave `qos` out, or make the rule `direction: subscribe` or `both`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    direction: publish\n    kafka: {topic: t, tombstones: skip}",
            9,
            35,
            "this rule only writes; leave `kafka.tombstones` out",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    also: true\n    kafka: {topic: t}\n    qos: 1",
            10,
            10,
            "this rule only writes; leave `qos` out, or remove `also`",
        ),
        (
            "name: all\n    mqtt: \"a/{key}\"\n    direction: subscribe\n    kafka: {topic: t, timestamp: receipt}",
            9,
            34,
            "this rule only reads; leave `kafka.timestamp` out",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, timestamp: now}",
            8,
            34,
            "write `receipt`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, acks: one}",
            8,
            29,
            "Kafka's acks=1 is `leader` here",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, acks: leaders}",
            8,
            29,
            "write `all`, `leader` or `none`",
        ),
        // What it would be by the default is no fault of its own.
        (
            "name: all\n    mqtt: \"a/{key}\"\n    kafka: {topic: t}\n    direction: subscibe",
            9,
            16,
            "did you mean `subscribe`?",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t, acks: none}\n    retain: deny\n    also: ture",
            10,
            11,
            "did you mean `true`?",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: dead_letter",
            9,
            15,
            "write `reject`, `skip` or {dead_letter: TOPIC}",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: {dead_letter: \"dead letters\"}",
            9,
            34,
            "made of ASCII letters",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: {dead_letter: t}",
            9,
            29,
            "`t` is written by rule `all`, too; give dead letters a topic that no rule writes to",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: {}",
            9,
            15,
            "add `dead_letter: vehicle-dead-letters`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: {dead_letter: mqtt-sessions}",
            9,
            29,
            "names the state topic `mqtt-sessions`",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    transform: 'record({topic: \"mqtt-retained\"})'\n    kafka: {topic: t, topics: [mqtt-retained]}",
            9,
            32,
            "names the state topic `mqtt-retained`",
        ),
        // What cannot be read of a rule hides nothing that is wrong whatever it would be.
        (
            "name: all\n    mqtt: \"a/{b}\"\n    kafka: {topic: t, key: [x], headers: {h: \"{b}\"}}",
            8,
            28,
            "a list or a table",
        ),
        (
            "name: all\n    mqtt: \"a/{b}\"\n    transform: [x]\n    kafka: {topic: t, key: k}",
            8,
            16,
            "a list or a table",
        ),
        (
            "name: all\n    mqtt: \"vehicles/{key}/x\"\n    direcion: subscribe\n    transform_back: .a\n    kafka: {topic: \"t-{site}\"}",
            8,
            5,
            "did you mean `direction`?",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    unmapped: drop",
            9,
            15,
            "this one maps both ways; leave `unmapped` out",
        ),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    direction: publish\n    unmapped: keep",
            10,
            15,
            "write `reject` or `drop`",
        ),
        // What is missing by a slip is not told twice, nor what follows from it.
        (
            "name: all\n    mqtt: \"a/{key}\"\n    kafka: {topic: t}\n    direcion: subscribe",
            9,
            5,
            "did you mean `direction`?",
        ),
        (
            "name: all\n    mqtt: \"a/{b}\"\n    kafka: {topic: t, kye: \"{b}\"}",
            8,
            23,
            "did you mean `key`?",
        ),
        ("name: all\n    mqtt: \"a/b\"\n    kafka: {topc: t}", 8, 13, "did you mean `topic`?"),
        ("nme: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}", 6, 5, "did you mean `name`?"),
        (
            "name: all\n    mqtt: \"a/b\"\n    kafka: {topic: t}\n    on_error: {dead_leter: t}",
            9,
            16,
            "did you mean `dead_letter`?",
        ),
        ("name: all\n    mqtt: \"a/b\"", 6, 5, "has no `kafka`"),
        ("name: all\n    mqtt: \"a/b\"\n    kafka: {key: k}", 8, 12, "has no `topic`"),
        ("name: all\n    kafka: {topic: t}", 6, 5, "has no `mqtt`"),
        ("mqtt: \"a/b\"\n    kafka: {topic: t}", 6, 5, "has no `name`"),
    ] {
        let text = GOOD.replace(
            "name: all\n    mqtt: \"{topic#}\"\n    kafka: {topic: mqtt, key: \"{topic}\"}",
            rule,
        );
        assert_fault(&text, line, column, words);
    }
    let text = with("  - {name: all, mqtt: other, kafka: {topic: other}}").replace("{topic#}", "base/{topic#}");
    assert_fault(&text, 9, 12, "taken in line 6");
}

#[test]
fn state_topics_have_names_of_their_own_and_bounds() {
    for (entry, column, words) in [
        ("{sessions: \"a b\"}", 22, "ASCII letters"),
        ("{retained: \"\"}", 22, "is empty"),
        ("{sessions: same, retained: same}", 11, "the same topic"),
        ("{retained: mqtt-sessions}", 11, "the same topic"),
        ("{partitions: 0}", 24, "partitions"),
        ("{partitions: 1001}", 24, "partitions"),
        ("{replication: 0}", 25, "replication"),
        ("{replication: 16}", 25, "replication"),
        ("{create: maybe}", 20, "create"),
        ("{segments: 1}", 12, "unknown key"),
    ] {
        assert_fault(&GOOD.replace("rules:", &format!("  topics: {entry}\nrules:")), 5, column, words);
    }
    // Whoever may publish there would write sessions of others.
    let text = GOOD.replace("rules:", "  topics: {sessions: mqtt}\nrules:");
    assert_fault(&text, 9, 20, "the rule names the state topic `mqtt`");
}

/// Without `expiry` nothing is stored.
#[test]
fn what_speaks_of_stored_sessions_wants_some() {
    for said in ["takeover: global", "instance_timeout: 15s", "damaged: fresh"] {
        let column = 13 + said.find(':').unwrap() as u32 + 1;
        assert_fault(
            &with(&format!("sessions: {{{said}}}")),
            9,
            column,
            "this says something of stored sessions",
        );
    }
    assert_fault(
        &with("sessions: {expiry: {default: 2h, max: 1h}}"),
        9,
        20,
        "`sessions.expiry.default` is longer than `max`",
    );
}

#[test]
fn what_is_retained_is_bounded_and_rules_say_so() {
    assert_fault(&with("retained: {memory: 1KiB}"), 9, 20, "retained.memory");
    assert_fault(&with("retained: {bodies: 1}"), 9, 12, "unknown key");
    assert_fault(&with("    retain: maybe"), 9, 13, "retain");
    for (entry, words) in [
        ("retain: deny, direction: subscribe, mqtt: x, kafka: {topic: t}", "only reads"),
        ("retain: deny, also: true, mqtt: x, kafka: {topic: t}", "only makes copies"),
        (
            "retain: allow, mqtt: x, kafka: {topic: t, acks: none}",
            "cannot be kept with `acks: none`",
        ),
    ] {
        let text = GOOD.replace("rules:\n", &format!("rules:\n  - {{name: x, {entry}}}\n"));
        assert_fault(&text, 6, 23, words);
    }
}

#[test]
fn tables_of_programs_are_told_where_they_are_wrong() {
    for (entry, line, column, words) in [
        ("lookup: [a]", 9, 13, "is not a table"),
        ("lookup: {sites: nowhere.csv}", 9, 21, "nowhere.csv cannot be read"),
        (
            "lookup: {sites: nowhere.csv}",
            9,
            21,
            "; make the file, or let this user read it; a relative path begins",
        ),
        ("transform: 'lookup(\"sites\"; 1)'", 9, 25, "there is no table `sites`"),
        ("lookup: {a: {key: b}}", 9, 17, "names neither `file` nor `topic`"),
        ("lookup: {a: {file: a.csv, topic: b}}", 9, 38, "names a `file` and a `topic`"),
        ("lookup: {a: {topic: b, memory: 1}}", 9, 36, "memory"),
        ("lookup: {a: {topic: \"b/c\"}}", 9, 25, "is no name of a Kafka topic"),
        ("lookup: {a: {topic: b, format: avro}}", 9, 36, "avro"),
        (
            "lookup: {a: {topic: b, sample: nowhere.json}}",
            9,
            36,
            "nowhere.json cannot be read",
        ),
        (
            "transform: 'lookup(\"a\"; 1)'\n    lookup: {a: {topic: b}, c: {topic: b, format: text}}",
            10,
            32,
            "the topic `b` is a table of other keys",
        ),
    ] {
        // A table that no program looks into is a fault of its own.
        let named = entry.strip_prefix("lookup: {").and_then(|rest| rest.split_once(':'));
        let used = named.map_or(String::new(), |(name, _)| format!("\n    transform: 'lookup(\"{name}\"; 1)'"));
        assert_fault(&with(&format!("    {entry}{used}")), line, column, words);
    }
}

/// Wherever YAML lets a program be broken: its lines are those of the file.
#[test]
fn faults_of_programs_of_several_lines_are_told_at_their_lines() {
    for (entry, places) in [
        ("transform: |\n      {a: $vin,\n\n        b: nothing}", [(10, 11), (12, 12)]),
        (
            "transform: |2-  # a remark\n      {a: $vin,\n        b: nothing}",
            [(10, 11), (11, 12)],
        ),
        (
            "transform: |\n\n      # ä\n      \"ä\" | {a: $vin, b: nothing}",
            [(12, 17), (12, 26)],
        ),
        ("transform: >-\n      {a: $vin,\n\n      b:\n       nothing}", [(10, 11), (13, 8)]),
        ("transform: \"{a: $vin,\n      b: nothing}\"", [(9, 21), (10, 10)]),
        ("transform: \"{\\\"a\\\": $vin,\\n\\\n      b: nothing}\"", [(9, 25), (10, 10)]),
        ("transform: '\"it''s\" | {a: $vin,\n\n      b: nothing}'", [(9, 31), (11, 10)]),
        ("transform: .a | $vin\n      | nothing", [(9, 21), (10, 9)]),
    ] {
        let told = faults(&with(&format!("    {entry}")));
        let found: Vec<_> = told.iter().map(|problem| (problem.line, problem.column)).collect();
        assert_eq!(found, places, "{entry}: {told:?}");
    }
}

#[test]
fn templates_of_partitions_and_timestamps_are_told_where_they_are_wrong() {
    for (entry, column, words) in [
        ("partition: \"{lane}\"", 38, "`{lane}` is not a capture of `mqtt`"),
        ("partition: \"1{payload.}\"", 39, "`{payload.}` is not a capture of `mqtt`"),
        ("partition: \"{{\"", 38, "is no way to choose a partition"),
        ("timestamp: \"{t}\"", 38, "`{t}` is not a capture of `mqtt`"),
        ("timestamp: \"{{\"", 38, "is no timestamp"),
        ("timestamp: now", 37, "is no timestamp"),
        ("partition: everywhere", 37, "is no way to choose a partition"),
    ] {
        assert_fault(&GOOD.replace("topic: mqtt,", &format!("topic: mqtt, {entry},")), 8, column, words);
    }
}

#[test]
fn expressions_are_told_where_they_are_wrong() {
    for (line, column, words) in [
        ("mqtt_regex: \"a/(?<x>.*\"", 20, "unclosed group"),
        ("mqtt_regex: 'a/(b)'", 20, "a group without a name"),
        ("mqtt_regex: \"ä/(?<y>b)\"", 20, "no template uses the capture `{y}`"),
        ("mqtt_regex: [a]", 17, "is a list or a table"),
        (
            "mqtt_regex: \"${SECRET}(\"",
            17,
            "is wrong once it is filled in from the environment",
        ),
    ] {
        let text = GOOD.replace("mqtt: \"{topic#}\"", line).replace("key: \"{topic}\"", "key: k");
        assert_fault(&text, 7, column, words);
    }
    let both = with("    mqtt_regex: \"(?<topic>.*)\"");
    assert_fault(&both, 9, 17, "`rules[].mqtt_regex` stands beside `rules[].mqtt`");
}

#[test]
fn fifty_faults_are_fifty_lines() {
    // Not `{topic#}`, behind which no rule is ever reached.
    let mut text = GOOD.replace("{topic#}", "base/{topic#}");
    for n in 0..50 {
        text.push_str(&format!("  - {{name: r{n}, mqtt: \"x{n}/y\", kafka: {{topic: t}}, colour: red}}\n"));
    }
    let found = faults(&text);
    assert_eq!(found.len(), 50, "{found:#?}");
    let lines: Vec<u32> = found.iter().map(|p| p.line).collect();
    assert_eq!(lines, (9..59).collect::<Vec<_>>());
    assert!(found.iter().all(|p| p.message.contains("colour")));
}

/// Faults of all layers together: syntax of values, keys twice, missing keys, rules.
#[test]
fn one_run_tells_the_faults_of_every_part() {
    let text = "\
listeners: [{name: a, address: nowhere, protocol: mqtt, authentication: none}]
limits: {packet_size: 1}
limits: {}
kafka: {bootstrap_servers: [\"x\"], acks: all}
rules:
  - {name: r, mqtt: \"a/{b}\", kafka: {topic: t}}
  - {name: s, mqtt: c}
unmapped: maybe
";
    let lines: Vec<u32> = faults(text).iter().map(|p| p.line).collect();
    assert_eq!(lines, [1, 2, 3, 4, 4, 6, 7, 8]);
}

#[test]
fn what_the_environment_holds_is_in_no_error() {
    for line in [
        "unmapped: \"${SECRET}\"",
        "limits: {packet_size: \"${PORT}\"}",
        "limits: {connect_timeout: \"${PORT}\"}",
        "limits: {connections: \"x${PORT}\"}",
        "admin: {address: \":${PORT}\"}",
        "admin: {address: \"${SECRET}\"}",
    ] {
        let fault = only(&with(line)).to_string();
        assert!(!fault.contains("hunter2") && !fault.contains("1884"), "{fault}");
        assert!(fault.contains("${"), "what is written is shown: {fault}");
    }
    let rule = GOOD.replace("topic: mqtt,", "topic: \"${SECRET} ${SECRET}\",");
    let fault = only(&rule).to_string();
    assert!(!fault.contains("hunter2"), "{fault}");
}

#[test]
fn what_is_no_yaml_is_one_fault() {
    for (text, line, words) in [
        ("", 1, "empty"),
        ("# only a comment\n", 1, "empty"),
        ("a: b: c\n", 1, "not YAML"),
        ("listeners: [\n", 2, "not YAML"),
        ("a: 1\n---\nb: 1\n", 2, "second document"),
        ("- a\n", 1, "not a table"),
        ("a: &x [*x]\n", 1, "inside what it names"),
        ("a: \"\\z\"\n", 1, "not YAML"),
    ] {
        let fault = only(text);
        assert_eq!(fault.line, line, "{text}: {fault}");
        assert!(fault.to_string().contains(words), "{text}: {fault}");
    }
}

/// The parser sees a table where a template was meant.
#[test]
fn a_template_without_quotes_is_named_where_it_breaks_the_table_around_it() {
    let hint = "stands in no quotes, and a brace begins a table";
    for (kafka, template) in [
        ("{topic: plant-{site}, key: x}", "{site}"),
        ("{topic: mqtt, key: {vin}x}", "{vin}"),
        ("{topic: mqtt, headers: {sensor: \"{a}\", unit: x{user.unit}}}", "{user.unit}"),
        ("{topic: mqtt, key: it's-{vin}}", "{vin}"),
        ("{topic: mqtt, key: a/{rest#}}", "{rest#}"),
    ] {
        let text = GOOD.replace("{topic: mqtt, key: \"{topic}\"}", kafka);
        let fault = only(&text);
        assert_eq!(fault.line, 8, "{fault}");
        assert!(fault.message.contains("did not find expected ',' or '}'"), "{fault}");
        assert!(fault.remedy.starts_with(&format!("`{template}` {hint}")), "{fault}");
    }
    for kafka in ["{topic: mqtt, key: \"{topic}\" x}", "{topic: mqtt, key: '{topic}' x} # {topic}"] {
        let text = GOOD.replace("{topic: mqtt, key: \"{topic}\"}", kafka);
        let fault = only(&text);
        assert!(fault.message.contains("not YAML") && !fault.remedy.contains(hint), "{fault}");
    }
    // One that stands alone is a table for the parser: that is told as such.
    let alone = only(&GOOD.replace("key: \"{topic}\"}", "key: {topic}}"));
    assert!(alone.to_string().contains("put it in quotes if it begins with `{`"), "{alone}");
}

/// What a program has of colons, braces and `#` means something to YAML.
#[test]
fn a_program_without_quotes_is_named_where_it_is_no_yaml() {
    for (key, rule) in [
        (
            "transform",
            "  - name: p\n    mqtt: p\n    transform: select(.x > 1) | {a: .b}\n    kafka: {topic: p}\n",
        ),
        (
            "transform_back",
            "  - {name: p, mqtt: p, transform_back: {a: .b} | .a, kafka: {topic: p}}\n",
        ),
    ] {
        let fault = only(&format!("{GOOD}{rule}"));
        assert!(fault.message.contains("not YAML"), "{fault}");
        let remedy = format!("the program of `{key}` stands in no quotes: put it in single quotes, or write `{key}: |`");
        assert!(fault.remedy.starts_with(&remedy), "{fault}");
    }
    let quoted = only(&format!("{GOOD}  - {{name: p, transform: '{{a: .b}}' x}}\n"));
    assert!(
        quoted.message.contains("not YAML") && quoted.remedy.starts_with("mend the syntax"),
        "{quoted}"
    );
}

#[test]
fn an_mqtt_that_is_a_comment_is_told_as_such() {
    let text = format!("{GOOD}  - name: p\n    mqtt: #\n    kafka: {{topic: p}}\n");
    let found = faults(&text);
    let told = found.iter().find(|fault| fault.message.contains("has no value")).unwrap();
    assert!(told.remedy.contains("a `#` that stands in no quotes begins a comment"), "{told}");
    let other = only(&format!("{GOOD}    qos:\n"));
    assert!(
        other.message.contains("has no value") && !other.remedy.contains("comment"),
        "{other}"
    );
}

#[test]
fn aliases_and_depth_are_bounded() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        laughs.push_str(&format!("a{n}: &a{n} [{}]\n", before.trim_end_matches(", ")));
    }
    let found = faults(&laughs);
    assert!(
        found.iter().any(|p| p.message.contains("those that aliases repeat included")),
        "{found:#?}"
    );
    let deep = format!("a: {}", "[".repeat(100));
    assert!(only(&deep).message.contains("levels"));
}

proptest::proptest! {
    /// Whatever is done to a file: an answer, each fault inside the text, no panic.
    #[test]
    fn no_damage_is_beyond_an_answer(cuts in proptest::collection::vec((0usize..9_000, 0usize..40, "[\\[\\]{}:,&*!|>'\"#%@`$ \\n\\t\\-a-c0-9é\\u{0}]{0,6}"), 1..6)) {
        let mut text: Vec<char> = include_str!("../proxy.yaml").chars().collect();
        for (at, gone, put) in cuts {
            let at = at % text.len();
            let end = (at + gone).min(text.len());
            text.splice(at..end, put.chars());
            text.push('\n');
        }
        let text: String = text.into_iter().collect();
        // A line may end in any of YAML's ways; the line after the last is where a file ends too early.
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
        for fault in faults(&text) {
            proptest::prop_assert!((1..=lines).contains(&usize::try_from(fault.line).unwrap()) && fault.column > 0, "{}", fault);
        }
    }
}

#[test]
fn a_key_of_another_protocol_is_told() {
    for (entry, said) in [
        ("protocol: mqtt, path: /mqtt}", "`path` on a listener with `protocol: mqtt`"),
        (
            "protocol: mqtts, tls: {certificate: a, key: b}, frame_size: 1MiB}",
            "`frame_size` on a listener with `protocol: mqtts`",
        ),
        (
            "protocol: ws, tls: {certificate: a, key: b}}",
            "write `protocol: wss`, or remove `tls`",
        ),
        ("protocol: wss}", "`protocol: wss` without `tls`"),
        ("protocol: ws, path: mqtt}", "is no path"),
        ("protocol: ws, path: \"/mqtt?a=b\"}", "is no path"),
        ("protocol: ws, frame_size: 4B}", "is out of range"),
        (
            "protocol: mqtt, origins: [\"https://app.example.org\"]}",
            "`origins` on a listener with `protocol: mqtt`",
        ),
        ("protocol: ws, origins: []}", "is empty"),
        ("protocol: ws, origins: https://app.example.org}", "is not a list"),
        ("protocol: ws, origins: [app.example.org]}", "is no origin of a web page"),
        ("protocol: ws, origins: [\"*\"]}", "write scheme, host and perhaps a port"),
        (
            "protocol: ws, origins: [\"https://app.example.org/\"]}",
            "is no origin of a web page",
        ),
        (
            "protocol: ws, origins: [\"https://App.example.org:443\"]}",
            "has the port that browsers leave out; write \"https://app.example.org\"",
        ),
        (
            "protocol: mqtts, tls: {certificate: a, key: b, ticket_keys: c}}",
            "`tls.ticket_keys` is no file",
        ),
        (
            "protocol: mqtts, tls: {certificate: a, key: b, client_crl: c}}",
            "`client_crl` without `client_ca`",
        ),
        (
            "protocol: mqtts, tls: {certificate: a, key: b, more: [{certificate: c}]}}",
            "has no `key`",
        ),
        ("protocol: mqtt, proxy_protocol: true}", "anybody could say who he is"),
        (
            "protocol: mqtt, proxy_from: [\"10.0.0.0/8\"]}",
            "`proxy_from` without `proxy_protocol`",
        ),
        (
            "protocol: mqtt, proxy_protocol: true, proxy_from: [\"10.0.0.0/33\"]}",
            "is no range of addresses",
        ),
        ("protocol: mqtt, proxy_protocol: true, proxy_from: []}", "is empty"),
        ("protocol: mqtt, limits: {connections: 0}}", "is out of range"),
    ] {
        let found = only(&GOOD.replace(&open_to_all("protocol: mqtt}"), &open_to_all(entry))).to_string();
        assert!(found.contains(said), "{entry}: {found}");
    }
}

/// What the system is given is the path from the file's folder on.
#[test]
fn the_path_of_a_socket_is_as_long_as_the_system_takes_it() {
    let folder = "/etc/proxy/";
    for (length, fits) in [(107 - folder.len(), true), (108 - folder.len(), false)] {
        let address = format!("unix:{}", "s".repeat(length));
        let found = faults(&GOOD.replace("0.0.0.0:1883", &address));
        let said = "a path of 108 bytes, folder included, and 107 are possible";
        assert!(
            if fits {
                found.is_empty()
            } else {
                found[0].to_string().contains(said)
            },
            "{found:?}"
        );
    }
}
