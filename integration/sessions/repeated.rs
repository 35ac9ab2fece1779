//! A retained QoS 2 message that its client repeats, since for all it knows nobody has it: by then something else may be retained.

use super::once::publish_packet;
use super::{Greeting, connect, runtime};
use crate::load::client::{Client, Event};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};

/// What is gone has a tombstone after ten seconds, in the few partitions of a topic of two.
fn instance(kafka: &Kafka, name: &str, partition: &str) -> Proxy {
    kafka.topic(name, 2);
    let rule = format!("  - {{name: {name}, mqtt: \"{name}/{{device}}\", kafka: {{topic: {name}, key: \"{{device}}\"{partition}}}}}");
    let topics = format!(
        ", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 1, replication: 1}}, producer: {{delivery_timeout: 3s}}"
    );
    Proxy::start(
        &kafka.bootstrap,
        &format!("{rule}\nsessions: {{expiry: {{}}, instance_timeout: 2s}}"),
        &topics,
    )
}

/// Retains at QoS 2, and takes note of PUBREC only.
async fn retain(client: &mut Client, topic: &str, payload: &str, dup: bool) {
    let mut packet = publish_packet(topic, 7, payload, dup);
    packet[0] |= 1;
    client.output.extend_from_slice(&packet);
    client.flush().await.unwrap();
    assert!(matches!(client.next_within(DEADLINE).await.unwrap(), Event::PubRec(7, reason) if reason < 0x80));
}

/// One retains a message and goes away, another one what comes behind it; then the first repeats its message. Values of the topic's
/// records, and what is retained by then for who comes later.
async fn repeats(proxy: &Proxy, topic: &str, second: &str, meanwhile: impl FnOnce()) {
    let (mut pump, _) = connect(proxy.mqtt, Greeting::staying("pump")).await;
    retain(&mut pump, topic, "first", false).await;
    drop(pump);
    let (mut other, _) = connect(proxy.mqtt, Greeting::staying("other")).await;
    retain(&mut other, topic, second, false).await;
    meanwhile();
    let (mut pump, present) = connect(proxy.mqtt, Greeting::staying("pump")).await;
    assert!(present);
    retain(&mut pump, topic, "first", true).await;
}

/// The first messages of a subscription, up to one that is published now.
async fn subscribed(proxy: &Proxy, topic: &str) -> Vec<String> {
    let (mut reader, _) = connect(proxy.mqtt, Greeting::staying("reader")).await;
    reader.subscribe(topic, 1).await.unwrap();
    let (mut other, _) = connect(proxy.mqtt, Greeting::staying("last")).await;
    super::publish(&mut other, topic, "last").await;
    let mut got = Vec::new();
    while got.last().is_none_or(|last| last != "last") {
        got.push(super::message(&mut reader).await);
    }
    got
}

#[test]
fn what_was_cleared_and_forgotten_stays_so_when_it_is_repeated() {
    let kafka = shared_kafka();
    let proxy = instance(&kafka, "repcleared", "");
    let records = || kafka.consume("repcleared-retained", "%S");
    runtime().block_on(async {
        let tombstone = || {
            eventually("what was cleared has a tombstone", || {
                records().last().filter(|size| *size == "-1").map(drop)
            });
        };
        repeats(&proxy, "repcleared/1", "", tombstone).await;
        assert_eq!(subscribed(&proxy, "repcleared/1").await, ["last"]);
    });
    assert_eq!(kafka.consume("repcleared", "%s"), ["first", "", "last"]);
}

#[test]
fn what_was_retained_in_another_partition_stays_when_an_older_one_is_repeated() {
    let kafka = shared_kafka();
    let proxy = instance(&kafka, "repother", ", partition: round-robin");
    runtime().block_on(async {
        repeats(&proxy, "repother/1", "second", || ()).await;
        assert_eq!(subscribed(&proxy, "repother/1").await, ["second", "last"]);
    });
    let first = kafka.consume("repother-retained", "%h");
    let place = |headers: &str| headers.split(',').next().unwrap().rsplit('/').nth(1).unwrap().to_owned();
    assert_ne!(place(&first[0]), place(&first[1]), "each lies in a partition of its own");
}
