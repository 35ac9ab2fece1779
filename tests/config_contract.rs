//! Every key of the contract: it works, or it is refused as "not supported yet". None is ignored, none is unknown.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod config_file;

use std::path::Path;
use std::sync::OnceLock;

use config_file::only;
use mqtt_kafka_proxy::config::{self, Problem};
use tempfile::TempDir;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// The file is taken.
    Taken,
    /// One fault says that it is not supported yet.
    Later,
}
use Is::{Later, Taken};

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
    format!(
        "listeners:\n  - {{name: tls, address: \"0.0.0.0:8883\"{listener}}}\n\
         kafka:\n  bootstrap_servers: [\"localhost:9092\"]\n{kafka}\
         rules:\n  - name: all\n    mqtt: \"a/{{x}}\"\n{rule}    kafka: {{topic: t, key: \"{{x}}\"{rule_kafka}}}\n{top}\n"
    )
}

const TLS: &str = ", protocol: mqtts, tls: {certificate: a, key: b";

#[track_caller]
fn check(text: &str, is: Is, key: &str) {
    let found = faults(text);
    match is {
        Taken => assert_eq!(found, [], "{key}\n{text}"),
        Later => {
            let one = only(&found, text);
            let line = text.lines().nth(one.line as usize - 1).unwrap();
            let words = format!("{one}");
            assert!(words.contains("not supported yet"), "{key}: {words}");
            let name = key.split([':', ' ']).next().unwrap();
            assert!(line.contains(name), "{key} is told at another line: {words}\n{text}");
            assert!(!words.contains("secret"), "{words}");
        }
    }
}

#[test]
fn of_listeners() {
    for (entry, is) in [
        (", protocol: mqtt", Taken),
        (", protocol: ws", Taken),
        (", protocol: ws, path: \"*\", frame_size: 1MiB", Taken),
        (", protocol: mqtt, proxy_protocol: true, proxy_from: [\"10.0.0.0/8\"]", Taken),
        (", protocol: mqtt, proxy_protocol: false", Taken),
        (", protocol: mqtt, limits: {connections: 5, connect_rate: 5/s}", Taken),
    ] {
        check(&file(entry, "", "", "", ""), is, entry.rsplit(", ").next().unwrap());
    }
    for (entry, is) in [
        ("", Taken),
        (", client_ca: c, client_auth: optional", Taken),
        (", client_ca: c, client_auth: required", Taken),
        (", client_auth: none", Taken),
        (", ticket_keys: \"file:certs/tickets\"", Taken),
        (", client_ca: c, client_auth: required, client_crl: d", Taken),
        (", more: [{certificate: c, key: d}]", Taken),
    ] {
        check(
            &file(&format!("{TLS}{entry}}}"), "", "", "", ""),
            is,
            entry.trim_start_matches(", "),
        );
    }
}

#[test]
fn of_limits_sessions_and_the_rest_of_the_top() {
    for (entry, is) in [
        ("limits: {connections: 100000}", Taken),
        ("limits: {connect_rate: 5000/s}", Taken),
        ("limits: {connections_per_address: 100}", Taken),
        (
            "limits: {connections_per_identity: 10}\nauthentication: [{method: anonymous}]",
            Taken,
        ),
        ("limits: {connect_packet_size: 64KiB}", Taken),
        ("limits: {topic_length: 200B, topic_levels: 7, subscriptions: 20}", Taken),
        ("limits: {message_rate: 100/s, byte_rate: 1MiB}", Taken),
        ("limits: {packet_size: 1MiB}", Taken),
        ("limits: {connect_timeout: 10s}", Taken),
        ("limits: {receive_maximum: 64}", Taken),
        ("limits: {keep_alive: {max: 1h}}", Taken),
        ("unmapped: reject", Taken),
        ("unmapped: drop", Taken),
        ("sessions: {takeover: local}", Taken),
        ("sessions: {expiry: {}, takeover: global}", Taken),
        ("sessions: {expiry: {default: 1h, max: 7d}, damaged: refuse}", Taken),
        ("sessions: {shared: consumer-group}", Taken),
        ("sessions: {shared: share-group}", Taken),
        ("sessions: {expiry: {}, instance_timeout: 15s}", Taken),
        ("sessions: {group_prefix: \"mqtt-\"}", Taken),
        ("payload_format_check: true", Taken),
        ("retained: {memory: 256MiB}", Taken),
        ("authentication: [{method: certificate, identity: common_name}]", Taken),
        ("authentication: [{method: anonymous}]", Taken),
        (
            "authorization: [{allow: [publish], who: {identity: \"*\"}, topics: [\"v/{identity}/#\"]}]",
            Taken,
        ),
        ("unauthorized: drop", Taken),
        ("admin: {address: \"127.0.0.1:9090\"}", Taken),
    ] {
        check(&file(", protocol: mqtt", "", "", "", entry), is, entry);
    }
}

#[test]
fn of_kafka() {
    for (entry, is) in [
        ("security: {protocol: plaintext}", Taken),
        ("security: {protocol: ssl}", Taken),
        ("security: {protocol: ssl, tls: {ca: certs/kafka-ca.pem}}", Taken),
        (
            "security: {protocol: sasl_plaintext, sasl: {mechanism: SCRAM-SHA-512, username: proxy, password: \"${KAFKA_PASSWORD}\"}}",
            Taken,
        ),
        ("producer: {linger: 5ms}", Taken),
        ("producer: {batch_size: 256KiB}", Taken),
        ("producer: {compression: lz4}", Taken),
        ("producer: {memory: 64MiB}", Taken),
        ("producer: {delivery_timeout: 30s}", Taken),
        ("producer: {qos2_connections: 2}", Taken),
        ("consumer: {max_wait: 500ms}", Taken),
        ("consumer: {fetch_size: 1MiB}", Taken),
        ("consumer: {isolation: read_committed}", Taken),
        ("consumer: {rack: a}", Taken),
        ("consumer: {sweeps: 4}", Taken),
        ("consumer: {cache: 64MiB}", Taken),
        ("topics: {sessions: mqtt-sessions}", Taken),
        ("topics: {retained: mqtt-retained}", Taken),
        ("topics: {create: true}", Taken),
        ("topics: {partitions: 16}", Taken),
        ("topics: {replication: 3}", Taken),
    ] {
        check(&file(", protocol: mqtt", &format!("  {entry}\n"), "", "", ""), is, entry);
    }
}

#[test]
fn of_rules() {
    for (entry, is) in [
        ("direction: publish", Taken),
        ("direction: both", Taken),
        ("also: true", Taken),
        ("qos: 1", Taken),
        ("acknowledge: after-kafka", Taken),
        ("acknowledge: on-receipt", Taken),
        ("overflow: wait", Taken),
        ("overflow: drop", Taken),
        ("on_error: reject", Taken),
        ("on_error: skip", Taken),
        ("on_error: {dead_letter: dead}", Taken),
        ("retain: allow", Taken),
        ("retain: deny", Taken),
        ("direction: publish\n    unmapped: drop", Taken),
        ("transform: 'select(.celsius > 90)'", Taken),
        ("transform_back: .", Taken),
        ("value: {format: json, payload: text}", Taken),
        ("value: {format: avro, registry: \"http://r:8081\"}", Taken),
        ("transform: .lookup\n    lookup: {}", Taken),
        ("lookup: {vins: {topic: vins}}", Later),
        ("examples: [{topic: a/b, payload: c, becomes: {key: b, value: c}}]", Taken),
    ] {
        check(&file(", protocol: mqtt", "", &format!("    {entry}\n"), "", ""), is, entry);
    }
    for (entry, is) in [
        ("partition: hash", Taken),
        ("partition: round-robin", Taken),
        ("partition: sticky", Taken),
        ("partition: 3", Taken),
        ("partition: \"{x}\"", Taken),
        ("headers: {sensor: \"{x}\"}", Taken),
        ("timestamp: receipt", Taken),
        ("timestamp: \"{x}\"", Taken),
        ("acks: all", Taken),
        ("acks: leader", Taken),
        ("acks: none", Taken),
        ("compression: zstd", Taken),
        ("offline_retention: 1d", Taken),
        ("tombstones: skip", Taken),
        ("tombstones: deliver", Taken),
        ("client_header: false", Taken),
    ] {
        check(&file(", protocol: mqtt", "", "", &format!(", {entry}"), ""), is, entry);
    }
}

/// `mqtt_regex` stands instead of `mqtt`.
#[test]
fn a_rule_has_a_filter_or_an_expression() {
    let text = file(", protocol: mqtt", "", "", "", "").replace("    mqtt: \"a/{x}\"", "    mqtt_regex: \"a/(?<x>.*)\"");
    check(&text, Taken, "mqtt_regex");
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
