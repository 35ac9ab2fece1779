//! Devices publish, Kafka has it: with mosquitto over TLS, and with a hundred clients whose every message is accounted for.

use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Load, Progress, run};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, certificates, eventually, output};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// A rule named as its Kafka topic: `TOPIC/{vin}/telemetry/{sensor}` → `TOPIC`.
pub fn rule(topic: &str) -> String {
    format!(
        "  - {{name: {topic}, mqtt: \"{topic}/{{vin}}/telemetry/{{sensor}}\", \
         kafka: {{topic: {topic}, key: \"{{vin}}\", headers: {{sensor: \"{{sensor}}\"}}}}}}"
    )
}

/// Many clients, QoS 1, 16 in flight each, to a rule made by [`rule`].
pub fn crowd(address: SocketAddr, topic: &str, clients: u32, messages: u64) -> Load {
    Load {
        address,
        version: Version::V4,
        clients,
        messages,
        qos: 1,
        window: 16,
        payload: 100,
        topic: format!("{topic}/v{{}}/telemetry/rpm"),
        name: format!("{topic}-"),
        rate: None,
        patience: DEADLINE,
    }
}

fn mosquitto_pub(proxy: &Proxy, version: &str, qos: u8, topic: &str, message: &str, more: &[&str]) {
    let (port, qos, ca) = (proxy.tls.port().to_string(), qos.to_string(), certificates().join("ca.pem"));
    let mut arguments = vec![
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "--cafile",
        ca.to_str().unwrap(),
        "-i",
        "device-1",
        "-V",
        version,
        "-q",
        &qos,
    ];
    arguments.extend(["-t", topic, "-m", message]);
    arguments.extend(more);
    output("mosquitto_pub", &arguments);
}

#[test]
fn mosquitto_over_tls_becomes_a_record_with_key_headers_and_value() {
    let kafka = shared_kafka();
    kafka.topic("tls", 3);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("tls"), "");
    let mut sent = Vec::new();
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in 0..3 {
            let message = format!("{version} at {qos}");
            mosquitto_pub(&proxy, version, qos, "tls/42/telemetry/rpm", &message, &[]);
            sent.push(message);
        }
    }
    // QoS 0 is answered by nobody, so its record may come a moment later.
    let records = eventually("nine records", || {
        let records = kafka.consume("tls", "%k|%s|%h");
        (records.len() >= sent.len()).then_some(records)
    });
    let mut values: Vec<&str> = records.iter().filter_map(|record| record.split('|').nth(1)).collect();
    values.sort_unstable();
    assert_eq!(values, sent);
    for record in records {
        assert!(record.starts_with("42|"), "{record}");
        assert!(record.contains("mqtt.client=device-1") && record.contains("sensor=rpm"), "{record}");
    }
}

#[test]
fn properties_of_version_5_become_headers() {
    let kafka = shared_kafka();
    kafka.topic("properties", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("properties"), "");
    let properties = [
        "-D",
        "publish",
        "user-property",
        "unit",
        "1/min",
        "-D",
        "publish",
        "user-property",
        "unit",
        "rpm",
    ];
    let more = [
        &properties[..],
        &[
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "response-topic",
            "a/b",
        ],
    ]
    .concat();
    mosquitto_pub(&proxy, "mqttv5", 1, "properties/42/telemetry/rpm", "1850", &more);
    let records = kafka.consume("properties", "%h");
    assert_eq!(records.len(), 1);
    for header in ["unit=1/min", "unit=rpm", "mqtt.content-type=text/plain", "mqtt.response-topic=a/b"] {
        assert!(records[0].contains(header), "{header} in {records:?}");
    }
}

/// Sends and checks with the ledger, in Kafka and in the answers.
fn account(kafka: &Kafka, load: &Load, topic: &str) {
    let report = Runtime::new().unwrap().block_on(run(load, &Arc::new(Progress::default()))).unwrap();
    let total = u64::from(load.clients) * load.messages;
    assert_eq!((report.acknowledged, report.refused, report.answers_out_of_order), (total, 0, 0));
    ledger::read_topic(&kafka.bootstrap, topic)
        .unwrap()
        .exact(load.clients, load.messages)
        .unwrap();
}

#[test]
fn a_hundred_thousand_messages_of_a_hundred_clients_arrive_once_each_and_in_order() {
    let kafka = shared_kafka();
    kafka.topic("crowd", 6);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("crowd"), "");
    account(&kafka, &crowd(proxy.mqtt, "crowd", 100, 1000), "crowd");
}

#[test]
fn the_same_in_version_5_and_at_qos_2() {
    let kafka = shared_kafka();
    let rules = format!("{}\n{}", rule("crowd5"), rule("crowd2"));
    kafka.topic("crowd5", 6);
    kafka.topic("crowd2", 6);
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    account(
        &kafka,
        &Load {
            version: Version::V5,
            ..crowd(proxy.mqtt, "crowd5", 50, 200)
        },
        "crowd5",
    );
    account(
        &kafka,
        &Load {
            qos: 2,
            ..crowd(proxy.mqtt, "crowd2", 20, 50)
        },
        "crowd2",
    );
}

#[tokio::test]
async fn a_topic_that_kafka_does_not_have_is_refused_with_0x83() {
    let kafka = shared_kafka();
    let proxy = Proxy::start(&kafka.bootstrap, &rule("nowhere"), "");
    let mut client = Client::connect(proxy.mqtt, Version::V5, "lost").await.unwrap();
    client.publish("nowhere/42/telemetry/rpm", 1, 7, b"1850").unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(7, 0x83));
    assert!(proxy.log().contains("nowhere"), "the log names the topic:\n{}", proxy.log());
    // Version 3.1.1 has no such answer: the connection ends and nothing was acknowledged.
    let mut client = Client::connect(proxy.mqtt, Version::V4, "lost").await.unwrap();
    client.publish("nowhere/42/telemetry/rpm", 1, 7, b"1850").unwrap();
    client.flush().await.unwrap();
    assert_eq!(
        client.next_within(DEADLINE).await.unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_topic_that_no_rule_maps_is_refused_with_0x90() {
    let kafka = shared_kafka();
    kafka.topic("mapped", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("mapped"), "");
    let mut client = Client::connect(proxy.mqtt, Version::V5, "stray").await.unwrap();
    client.publish("elsewhere", 1, 7, b"1850").unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(7, 0x90));
    assert_eq!(client.subscribe("elsewhere", 1).await.unwrap(), 0x8f);
}

#[test]
fn only_the_message_that_is_too_large_for_its_topic_is_refused() {
    const LARGE: u16 = 30;
    let kafka = shared_kafka();
    kafka.command(&["topic", "narrow", "1", "1", "max.message.bytes=20000"]);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("narrow"), "");
    let answers = Runtime::new().unwrap().block_on(burst_with_a_large_one(&proxy, LARGE));
    for (id, code) in answers {
        assert_eq!(code, if id == LARGE { 0x83 } else { 0 }, "packet {id}");
    }
    let values = kafka.consume("narrow", "%S %o");
    assert_eq!(values.len(), 59, "the large one is not in Kafka, the others are there once");
    assert!(values.iter().all(|v| v.starts_with("1000 ")), "{values:?}");
    assert!(proxy.metric(&["kafka_produce_split_total"]) > 0.0, "a batch was split");
    assert!(proxy.log().contains("MESSAGE_TOO_LARGE"), "{}", proxy.log());
}

/// Sixty QoS 1 messages of 1,000 bytes in one write, one of them of 30,000; all answers by packet id.
async fn burst_with_a_large_one(proxy: &Proxy, large: u16) -> Vec<(u16, u8)> {
    let mut client = Client::connect(proxy.mqtt, Version::V5, "narrow").await.unwrap();
    for id in 1..=60 {
        let payload = vec![b'x'; if id == large { 30_000 } else { 1_000 }];
        client.publish("narrow/42/telemetry/rpm", 1, id, &payload).unwrap();
    }
    client.flush().await.unwrap();
    let mut answers = Vec::new();
    while answers.len() < 60 {
        match client.next_within(DEADLINE).await.unwrap() {
            Event::PubAck(id, code) => answers.push((id, code)),
            other => panic!("{other:?}"),
        }
    }
    answers
}

#[test]
fn every_acks_and_every_compression_reaches_a_real_kafka() {
    let kafka = shared_kafka();
    let choices = [
        "acks: all",
        "acks: leader",
        "acks: none",
        "compression: none",
        "compression: {codec: gzip, level: 9}",
        "compression: snappy",
        "compression: lz4",
        "compression: {codec: zstd, level: 9}",
    ];
    let topic = |at: usize| format!("choice-{at}");
    let rules: Vec<String> = (0..).zip(choices).map(|(at, choice)| choice_rule(&topic(at), choice)).collect();
    (0..choices.len()).for_each(|at| kafka.topic(&topic(at), 2));
    let proxy = Proxy::start(&kafka.bootstrap, &rules.join("\n"), "");
    for (at, choice) in (0..).zip(choices) {
        let load = crowd(proxy.mqtt, &topic(at), 5, 100);
        let report = Runtime::new()
            .unwrap()
            .block_on(run(&load, &Arc::new(Progress::default())))
            .unwrap();
        assert_eq!((report.acknowledged, report.refused), (500, 0), "{choice}");
        // With `acks: none` the last may still be on their way.
        eventually(choice, || {
            let read = ledger::read_topic(&kafka.bootstrap, &topic(at)).unwrap();
            read.exact(5, 100).ok()
        });
    }
}

fn choice_rule(topic: &str, choice: &str) -> String {
    rule(topic).replace("headers:", &format!("{choice}, headers:"))
}
