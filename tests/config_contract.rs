//! Every key of the contract: it works. None is ignored, none is unknown.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::OnceLock;

use mqtt_kafka_proxy::config::{self, Problem};
use tempfile::TempDir;

/// Where the paths of the example begin: Kafka's authority is read.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap();
        std::fs::create_dir(folder.path().join("certs")).unwrap();
        std::fs::write(folder.path().join("certs/kafka-ca.pem"), authority.pem()).unwrap();
        folder
    });
    made.path()
}

fn faults(text: &str) -> Vec<Problem> {
    config::parse(text, folder(), &|_| Some("secret-of-the-environment".to_owned()))
        .err()
        .unwrap_or_default()
}

/// A file with one entry more in a section, and this one entry at the top.
fn file(listener: &str, kafka: &str, rule: &str, rule_kafka: &str, top: &str) -> String {
    let access = if top.contains("authentication:") {
        ""
    } else {
        "authentication: none\n"
    };
    format!(
        "listeners:\n  - {{name: tls, address: \"0.0.0.0:8883\"{listener}}}\n{access}\
         kafka:\n  bootstrap_servers: [\"localhost:9092\"]\n{kafka}\
         rules:\n  - name: all\n    mqtt: \"a/{{x}}\"\n{rule}    kafka: {{topic: t, key: \"{{x}}\"{rule_kafka}}}\n{top}\n"
    )
}

const TLS: &str = ", protocol: mqtts, tls: {certificate: a, key: b";

#[track_caller]
fn check(text: &str, key: &str) {
    assert_eq!(faults(text), [], "{key}\n{text}");
}

#[test]
fn of_listeners() {
    for entry in [
        ", protocol: mqtt",
        ", protocol: ws",
        ", protocol: ws, path: \"*\", frame_size: 1MiB",
        ", protocol: ws, origins: [\"https://app.example.org\", \"http://[::1]:8080\"]",
        ", protocol: mqtt, proxy_protocol: true, proxy_from: [\"10.0.0.0/8\"]",
        ", protocol: mqtt, proxy_protocol: false",
        ", protocol: mqtt, limits: {connections: 5, connect_rate: 5/s}",
    ] {
        check(&file(entry, "", "", "", ""), entry.rsplit(", ").next().unwrap());
    }
    for entry in [
        "",
        ", client_ca: c, client_auth: optional",
        ", client_ca: c, client_auth: required",
        ", client_auth: none",
        ", ticket_keys: \"file:certs/tickets\"",
        ", client_ca: c, client_auth: required, client_crl: d",
        ", more: [{certificate: c, key: d}]",
    ] {
        check(&file(&format!("{TLS}{entry}}}"), "", "", "", ""), entry.trim_start_matches(", "));
    }
}

#[test]
fn of_limits_sessions_and_the_rest_of_the_top() {
    for entry in [
        "limits: {connections: 100000}",
        "limits: {connect_rate: 5000/s}",
        "limits: {connections_per_address: 100}",
        "limits: {connections_per_identity: 10}\nauthentication: [{method: anonymous}]",
        "limits: {connect_packet_size: 64KiB}",
        "limits: {topic_length: 200B, topic_levels: 7, subscriptions: 20}",
        "limits: {message_rate: 100/s, byte_rate: 1MiB}",
        "limits: {packet_size: 1MiB}",
        "limits: {connect_timeout: 10s}",
        "limits: {packet_timeout: 2m}",
        "limits: {send_timeout: 2m}",
        "limits: {receive_maximum: 64}",
        "limits: {keep_alive: {max: 1h}}",
        "unmapped: reject",
        "unmapped: drop",
        "sessions: {takeover: local}",
        "sessions: {expiry: {}, takeover: global}",
        "sessions: {expiry: {default: 1h, max: 7d}, damaged: refuse}",
        "sessions: {shared: consumer-group}",
        "sessions: {shared: share-group}",
        "sessions: {expiry: {}, instance_timeout: 15s}",
        "sessions: {group_prefix: \"mqtt-\"}",
        "payload_format_check: true",
        "retained: {memory: 256MiB}",
        "authentication: [{method: certificate, identity: common_name}]",
        "authentication: [{method: anonymous}]",
        "authorization: [{allow: [publish], who: {identity: \"*\"}, topics: [\"v/{identity}/#\"]}]",
        "unauthorized: drop",
        "admin: {address: \"127.0.0.1:9090\"}",
        "admin: {address: \"127.0.0.1:9090\", hosts: [metrics.example.org]}",
    ] {
        check(&file(", protocol: mqtt", "", "", "", entry), entry);
    }
}

#[test]
fn of_kafka() {
    for entry in [
        "security: {protocol: plaintext}",
        "security: {protocol: ssl}",
        "security: {protocol: ssl, tls: {ca: certs/kafka-ca.pem}}",
        "security: {protocol: sasl_plaintext, sasl: {mechanism: SCRAM-SHA-512, username: proxy, password: \"${KAFKA_PASSWORD}\"}}",
        "producer: {linger: 5ms}",
        "producer: {batch_size: 256KiB}",
        "producer: {compression: lz4}",
        "producer: {memory: 64MiB}",
        "producer: {delivery_timeout: 30s}",
        "producer: {qos2_connections: 2}",
        "consumer: {max_wait: 500ms}",
        "consumer: {fetch_size: 1MiB}",
        "consumer: {isolation: read_committed}",
        "consumer: {rack: a}",
        "consumer: {sweeps: 4}",
        "consumer: {cache: 64MiB}",
        "topics: {sessions: mqtt-sessions}",
        "topics: {retained: mqtt-retained}",
        "topics: {create: true}",
        "topics: {partitions: 16}",
        "topics: {replication: 3}",
    ] {
        check(&file(", protocol: mqtt", &format!("  {entry}\n"), "", "", ""), entry);
    }
}

#[test]
fn of_rules() {
    for entry in [
        "direction: publish",
        "direction: both",
        "also: true",
        "qos: 1",
        "acknowledge: after-kafka",
        "acknowledge: on-receipt",
        "overflow: wait",
        "overflow: drop",
        "on_error: reject",
        "on_error: skip",
        "on_error: {dead_letter: dead}",
        "retain: allow",
        "retain: deny",
        "direction: publish\n    unmapped: drop",
        "transform: 'select(.celsius > 90)'",
        "transform_back: .",
        "value: {format: json, payload: text}",
        "value: {format: avro, registry: \"http://r:8081\"}",
        "transform: .lookup\n    lookup: {}",
        "transform: .lookup\n    lookup: {vins: {topic: vins, key: vin, format: json, memory: 64MiB}}",
        "examples: [{topic: a/b, payload: c, becomes: {key: b, value: c}}]",
    ] {
        check(&file(", protocol: mqtt", "", &format!("    {entry}\n"), "", ""), entry);
    }
    for entry in [
        "partition: hash",
        "partition: round-robin",
        "partition: sticky",
        "partition: 3",
        "partition: \"{x}\"",
        "headers: {sensor: \"{x}\"}",
        "timestamp: receipt",
        "timestamp: \"{x}\"",
        "acks: all",
        "acks: leader",
        "acks: none",
        "compression: zstd",
        "offline_retention: 1d",
        "tombstones: skip",
        "tombstones: deliver",
        "tombstones: both",
        "client_header: false",
    ] {
        check(&file(", protocol: mqtt", "", "", &format!(", {entry}"), ""), entry);
    }
}

/// `mqtt_regex` stands instead of `mqtt`.
#[test]
fn a_rule_has_a_filter_or_an_expression() {
    let text = file(", protocol: mqtt", "", "", "", "").replace("    mqtt: \"a/{x}\"", "    mqtt_regex: \"a/(?<x>.*)\"");
    check(&text, "mqtt_regex");
}

/// The contract's example as it stands there.
#[test]
fn the_whole_example_has_no_fault() {
    let text = r#"
listeners:
  - {name: tcp,  address: "0.0.0.0:1883", protocol: mqtt}
  - name: tls
    address: "0.0.0.0:8883"
    protocol: mqtts
    tls: {certificate: certs/server.pem, key: certs/server.key, client_ca: certs/ca.pem, client_auth: required, ticket_keys: "file:certs/tickets"}
    proxy_protocol: false
limits: {connections: 100000, connect_rate: 5000/s, packet_size: 1MiB, connect_timeout: 10s, receive_maximum: 64, keep_alive: {max: 1h}}
kafka:
  bootstrap_servers: ["localhost:9092"]
  security: {protocol: sasl_ssl, sasl: {mechanism: SCRAM-SHA-512, username: proxy, password: "${KAFKA_PASSWORD}"}, tls: {ca: certs/kafka-ca.pem}}
  producer: {linger: 5ms, batch_size: 256KiB, compression: lz4, memory: 64MiB, delivery_timeout: 30s, qos2_connections: 4}
  consumer: {max_wait: 500ms, fetch_size: 1MiB, isolation: read_committed}
  topics: {sessions: mqtt-sessions, retained: mqtt-retained, create: true, partitions: 16, replication: 3}
rules:
  - name: telemetry
    mqtt: "vehicles/{vin}/telemetry/{sensor}"
    kafka: {topic: vehicle-telemetry, key: "{vin}", headers: {sensor: "{sensor}"}}
    acknowledge: after-kafka
  - name: commands
    direction: subscribe
    kafka: {topic: vehicle-commands}
    mqtt: "vehicles/{key}/commands"
    qos: 1
  - name: alarms
    mqtt: "vehicles/{vin}/telemetry/temperature"
    also: true
    kafka: {topic: alarms, key: "{vin}"}
    transform: 'select(.celsius > 90) | {vin: $vin, celsius, at: $now}'
unmapped: reject
sessions: {expiry: {default: 1h, max: 7d}, takeover: global, shared: consumer-group, instance_timeout: 15s, group_prefix: "mqtt-"}
retained: {memory: 256MiB}
authentication: [{method: certificate, identity: common_name}, {method: password_file, file: users.txt}, {method: jwt, jwks: keys.json, claim: sub}]
authorization:
  - {allow: [publish],   who: {identity: "*"}, topics: ["vehicles/{identity}/#"]}
  - {allow: [subscribe], who: {identity: "*"}, topics: ["vehicles/{identity}/commands"]}
admin: {address: "127.0.0.1:9090"}
"#;
    // Both are files, which are not there.
    let text = &text.replace(
        "{method: password_file, file: users.txt}, {method: jwt, jwks: keys.json, claim: sub}",
        "{method: anonymous}",
    );
    let found = faults(text);
    assert!(found.is_empty(), "{found:#?}");
}
