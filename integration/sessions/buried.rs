//! Dead letters against a real Kafka: what a rule cannot map, and what Kafka refuses, of connections with and without a stored session.

use super::{Greeting, connect, runtime};
use crate::load::client::Event;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};

/// Records of `narrow` have 300 bytes at most.
fn stage(kafka: &Kafka) -> Proxy {
    kafka.topic("buried", 2);
    kafka.command(&["topic", "buried-narrow", "1", "1", "max.message.bytes=300"]);
    let rule =
        "  - {name: strict, mqtt: \"strict/+\", kafka: {topic: buried-narrow, key: \"{payload.id}\"}, on_error: {dead_letter: buried}}";
    let topics = ", topics: {sessions: buried-sessions, retained: buried-retained, partitions: 1, replication: 1}";
    let sessions = "sessions: {expiry: {}, instance_timeout: 2s}";
    Proxy::start_in(&[], &kafka.bootstrap, &format!("{rule}\n{sessions}"), topics)
}

#[test]
fn what_cannot_be_stored_goes_to_the_dead_letter_topic_with_its_reason() {
    let kafka = shared_kafka();
    let proxy = stage(&kafka);
    let large = format!(r#"{{"id": 1, "text": "{}"}}"#, "x".repeat(1000));
    runtime().block_on(async {
        for (name, expiry) in [("clean", 0), ("stored", 600)] {
            let greeting = Greeting {
                expiry,
                clean: expiry == 0,
                ..Greeting::staying(name)
            };
            let (mut client, _) = connect(proxy.mqtt, greeting).await;
            let messages = [(1, "no json"), (2, "no json"), (1, &large), (2, &large), (2, r#"{"id": 7}"#)];
            for (id, (qos, payload)) in (1..).zip(messages) {
                client.publish(&format!("strict/{name}"), qos, id, payload.as_bytes()).unwrap();
                client.flush().await.unwrap();
                let expected = if qos == 1 { Event::PubAck(id, 0) } else { Event::PubRec(id, 0) };
                assert_eq!(client.next_within(DEADLINE).await.unwrap(), expected, "{name}");
            }
        }
    });
    assert_eq!(kafka.consume("buried-narrow", "%k|%s"), vec![r#"7|{"id": 7}"#; 2]);
    let mut buried = kafka.consume("buried", "%k|%S|%h");
    buried.sort();
    let mut expected = vec![];
    for name in ["clean", "stored"] {
        for qos in [1, 2] {
            let said = format!("__connect.errors.connector.name=strict,mqtt.topic=strict/{name},mqtt.client={name},mqtt.qos={qos}");
            let why = |stage: &str, why: &str| format!("__connect.errors.stage={stage},__connect.errors.exception.message={why}");
            expected.push(format!("strict/{name}|7|{said},{}", why("TRANSFORMATION", "not_json")));
            let (size, why) = (large.len(), why("KAFKA_PRODUCE", "MESSAGE_TOO_LARGE"));
            expected.push(format!("strict/{name}|{size}|__connect.errors.topic=buried-narrow,{said},{why}"));
        }
    }
    expected.sort();
    assert_eq!(buried, expected);
    for reason in ["not_json", "MESSAGE_TOO_LARGE"] {
        assert_eq!(proxy.metric(&["dead_letters_total", "strict", reason]), 4.0, "{reason}");
    }
    // A will of a stored session: at CONNECT it is not known what it will be worth.
    let will = Some(("strict/will", "gone", 0));
    drop(runtime().block_on(connect(
        proxy.mqtt,
        Greeting {
            will,
            ..Greeting::staying("dying")
        },
    )));
    let is_will = |record: &String| record == "strict/will|gone";
    eventually("the will is buried", || kafka.consume("buried", "%k|%s").into_iter().find(is_will));
}
