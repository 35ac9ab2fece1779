//! Confluent's own serializers read what the proxy writes, and the other way round, in each format.

use serde_json::{Value, json};

use super::{V1, V2, proxy, publish, registry};
use crate::deliver::Subscriber;
use crate::shared_kafka;
use crate::stage::{Proxy, output, root};

/// Runs `integration/confluent.py`; what it prints.
pub(super) fn confluent(arguments: &[&str]) -> String {
    let python = root().join(".run/python/bin/python");
    let script = root().join("integration/confluent.py");
    output(python.to_str().unwrap(), &[&[script.to_str().unwrap()], arguments].concat())
}

/// The next messages have these topics, and these values as payloads.
fn brings<const N: usize>(subscriber: &Subscriber, expected: [(&str, Value); N]) {
    for (topic, value) in expected {
        let message = subscriber.message();
        let (head, payload) = message.rsplit_once('|').unwrap();
        assert!(head.starts_with(&format!("message {topic}|")), "{message}");
        assert_eq!(serde_json::from_str::<Value>(payload).unwrap(), value);
    }
}

#[test]
fn avro_of_a_device_is_read_by_confluent_s_client_and_the_other_way_round() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("avro", 1);
    registry.register("avro-value", &json!({"schema": V1}));
    registry.register("avro-value", &json!({"schema": V2}));
    let proxy = proxy(&kafka, "avro", "avro", &registry.url(), "");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "avro/#");
    publish(&proxy, "avro/one", r#"{"site": "berlin", "celsius": 21.5, "level": 3}"#);
    publish(&proxy, "avro/two", r#"{"site": "köln"}"#);
    publish(&proxy, "avro/none", r#"{"site": 7}"#);
    assert_eq!(proxy.metric(&["refusals_total", "schema_mismatch"]), 1.0);
    // An older version than the one that the proxy writes, and has never seen.
    let old = r#"{"site": "bonn"}"#;
    confluent(&["write", "avro", &kafka.bootstrap, &registry.url(), "avro", "old", old, V1]);
    brings(
        &subscriber,
        [
            ("avro/one", json!({"site": "berlin", "celsius": 21.5, "level": 3})),
            ("avro/two", json!({"site": "köln", "celsius": 0.0, "level": null})),
            ("avro/old", json!({"site": "bonn"})),
        ],
    );
    let read = confluent(&["read", "avro", &kafka.bootstrap, &registry.url(), "avro", "3"]);
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(
        lines,
        [
            r#"one {"celsius": 21.5, "level": 3, "site": "berlin"}"#,
            r#"two {"celsius": 0.0, "level": null, "site": "k\u00f6ln"}"#,
            r#"old {"site": "bonn"}"#
        ]
    );
    let rules = "  - {name: avro, mqtt: \"avro/{key}\", kafka: {topic: avro, key: \"{key}\"}, value: {format: avro, registry: \"URL\"}}
  - {name: none, mqtt: \"none/{key}\", kafka: {topic: avro, key: \"none/{key}\"}, value: {format: avro, registry: \"URL\", subject: none}}";
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules.replace("URL", &registry.url()), "");
    assert_eq!(code, 69, "{said}");
    assert!(said.contains("avro-value is written with the schema"), "{said}");
    assert!(said.contains("has no subject `none`"), "{said}");
}

/// A message that is not the first of its file, so that the framing has to say which it is.
const READING: &str = "syntax = \"proto3\"; package plant; message Other { int32 a = 1; }
    message Reading { string site = 1; double celsius = 2; int64 total = 3; }";

#[test]
fn protobuf_of_a_device_is_read_by_confluent_s_client_and_the_other_way_round() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("protobuf", 1);
    registry.register("protobuf-value", &json!({"schemaType": "PROTOBUF", "schema": READING}));
    let proxy = proxy(&kafka, "protobuf", "protobuf", &registry.url(), ", message: plant.Reading");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "protobuf/#");
    publish(
        &proxy,
        "protobuf/one",
        r#"{"site": "köln", "celsius": 21.5, "total": "9007199254740993"}"#,
    );
    publish(&proxy, "protobuf/two", r#"{"site": "berlin"}"#);
    publish(&proxy, "protobuf/none", r#"{"site": 7}"#);
    assert_eq!(proxy.metric(&["refusals_total", "schema_mismatch"]), 1.0);
    // A newer version than the one that the proxy writes, and has never seen.
    let newer = READING.replace("int64 total = 3;", "int64 total = 3; repeated string faults = 4;");
    let url = registry.url();
    let faults = r#"{"site": "bonn", "faults": ["hot", "loud"]}"#;
    let of_class = [newer.as_str(), "plant.Reading"];
    let written = ["write", "protobuf", &kafka.bootstrap, &url, "protobuf", "new", faults];
    confluent(&[&written[..], &of_class].concat());
    brings(
        &subscriber,
        [
            (
                "protobuf/one",
                json!({"site": "köln", "celsius": 21.5, "total": "9007199254740993"}),
            ),
            ("protobuf/two", json!({"site": "berlin"})),
            ("protobuf/new", json!({"site": "bonn", "faults": ["hot", "loud"]})),
        ],
    );
    let read = ["read", "protobuf", &kafka.bootstrap, &url, "protobuf", "3"];
    let read = confluent(&[&read[..], &of_class].concat());
    assert_eq!(
        read.lines().collect::<Vec<_>>(),
        [
            r#"one {"celsius": 21.5, "site": "k\u00f6ln", "total": "9007199254740993"}"#,
            r#"two {"site": "berlin"}"#,
            r#"new {"faults": ["hot", "loud"], "site": "bonn"}"#
        ]
    );
}

#[test]
fn json_with_a_schema_of_a_device_is_read_by_confluent_s_client_and_the_other_way_round() {
    let (kafka, registry) = (shared_kafka(), registry());
    kafka.topic("json-schema", 1);
    let schema = |more: &str| {
        let draft = "http://json-schema.org/draft-07/schema#";
        let properties = format!(r#"{{"site": {{"type": "string"}}, "celsius": {{"type": "number", "maximum": 200}}{more}}}"#);
        format!(
            r#"{{"$schema": "{draft}", "title": "Reading", "type": "object", "required": ["site"], "additionalProperties": false, "properties": {properties}}}"#
        )
    };
    registry.register("json-schema-value", &json!({"schemaType": "JSON", "schema": schema("")}));
    let proxy = proxy(&kafka, "json-schema", "json_schema", &registry.url(), "");
    let subscriber = Subscriber::mosquitto(&proxy, "mqttv5", "json-schema/#");
    publish(&proxy, "json-schema/one", r#"{"site": "köln", "celsius": 21.5}"#);
    publish(&proxy, "json-schema/two", r#"{"site": "berlin"}"#);
    publish(&proxy, "json-schema/none", r#"{"site": "bonn", "celsius": 201}"#);
    assert_eq!(proxy.metric(&["refusals_total", "schema_mismatch"]), 1.0);
    // A newer version than the one that the proxy writes, and has never seen.
    let newer = schema(r#", "faults": {"type": "array", "items": {"type": "string"}}"#);
    let faults = r#"{"site": "bonn", "faults": ["hot", "loud"]}"#;
    let url = registry.url();
    confluent(&["write", "json", &kafka.bootstrap, &url, "json-schema", "new", faults, &newer]);
    brings(
        &subscriber,
        [
            ("json-schema/one", json!({"site": "köln", "celsius": 21.5})),
            ("json-schema/two", json!({"site": "berlin"})),
            ("json-schema/new", json!({"site": "bonn", "faults": ["hot", "loud"]})),
        ],
    );
    let read = confluent(&["read", "json", &kafka.bootstrap, &url, "json-schema", "3"]);
    assert_eq!(
        read.lines().collect::<Vec<_>>(),
        [
            r#"one {"celsius": 21.5, "site": "k\u00f6ln"}"#,
            r#"two {"site": "berlin"}"#,
            r#"new {"faults": ["hot", "loud"], "site": "bonn"}"#
        ]
    );
}
