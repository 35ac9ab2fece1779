//! Retained messages on a real Kafka: two instances, real clients.

use crate::chaos::is_long;
use crate::deliver::Subscriber;
use crate::load::client::{Client, Event, Version};
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, output};
use bytes::BytesMut;
use mqttbytes::{QoS, v4, v5};

/// A topic of its own for what a test retains, so that wide wildcards and counts are its own as well.
fn topics(of: &str) -> String {
    format!(", topics: {{sessions: {of}-sessions, retained: {of}-retained, partitions: 4, replication: 1}}")
}

fn encoded(version: Version, topic: &str, payload: &str) -> BytesMut {
    let mut out = BytesMut::new();
    match version {
        Version::V4 => {
            let mut publish = v4::Publish::new(topic, QoS::AtLeastOnce, payload);
            (publish.pkid, publish.retain) = (7, true);
            publish.write(&mut out).unwrap();
        }
        Version::V5 => {
            let mut publish = v5::Publish::new(topic, QoS::AtLeastOnce, payload);
            (publish.pkid, publish.retain) = (7, true);
            publish.write(&mut out).unwrap();
        }
    }
    out
}

/// Publishes and waits for PUBACK.
async fn retain(client: &mut Client, version: Version, topic: &str, payload: &str) {
    client.output.extend_from_slice(&encoded(version, topic, payload));
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(7, 0));
}

async fn next_payload(client: &mut Client) -> (String, String) {
    loop {
        let event = client.next_within(DEADLINE).await.unwrap();
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
        if let Event::Publish { topic, payload, .. } = event {
            return (topic, String::from_utf8(payload.to_vec()).unwrap());
        }
    }
}

/// Published on one instance and acknowledged; at once subscribed to on the other: 500 times, 10,000 in the long form.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_on_one_instance_is_there_on_the_other() {
    let tries: u64 = if is_long() { 10_000 } else { 500 };
    let kafka = shared_kafka();
    kafka.topic("linear", 4);
    let [one, other] = [(); 2].map(|()| Proxy::start(&kafka.bootstrap, &rule("linear"), &topics("linear")));
    let mut done = 0;
    while done < tries {
        // A few clients each time: neither subscriptions nor connections are used for ever.
        let version = if done % 200 == 0 { Version::V4 } else { Version::V5 };
        let mut publisher = Client::connect(one.mqtt, version, "publisher").await.unwrap();
        let mut subscriber = Client::connect(other.mqtt, version, "subscriber").await.unwrap();
        for _ in 0..100.min(tries - done) {
            let (value, vin) = (format!("value {done}"), done % 37);
            let topic = format!("linear/{vin}/telemetry/rpm");
            retain(&mut publisher, version, &topic, &value).await;
            // By its name, and now and then by a wildcard. Each is asked for anew.
            let filter = if done % 5 == 0 { format!("linear/{vin}/#") } else { topic.clone() };
            assert!(subscriber.subscribe(&filter, 1).await.unwrap() < 0x80);
            assert_eq!(next_payload(&mut subscriber).await, (topic, value));
            subscriber.unsubscribe(&filter).await.unwrap();
            done += 1;
        }
    }
    assert_eq!(other.metric(&["retained_messages"]), 37.0);
    println!("retained: {done} published on one instance, each there at once on the other");
}

fn mosquitto(program: &str, proxy: &Proxy, version: &str, rest: &[&str]) -> String {
    let port = proxy.mqtt.port().to_string();
    let arguments = [&["-h", "127.0.0.1", "-p", &port, "-V", version], rest].concat();
    output(program, &arguments)
}

#[test]
fn mosquitto_and_paho_of_either_version_get_them_until_they_are_cleared() {
    let kafka = shared_kafka();
    kafka.topic("kept", 2);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("kept"), &topics("kept"));
    for version in ["mqttv311", "mqttv5"] {
        let topic = format!("kept/{version}/telemetry/rpm");
        mosquitto("mosquitto_pub", &proxy, version, &["-q", "1", "-r", "-t", &topic, "-m", "1850"]);
        for reader in ["mqttv311", "mqttv5"] {
            let got = mosquitto(
                "mosquitto_sub",
                &proxy,
                reader,
                &[
                    "-q",
                    "1",
                    "-t",
                    &format!("kept/{version}/#"),
                    "-C",
                    "1",
                    "-W",
                    "30",
                    "-F",
                    "%t %r %p",
                ],
            );
            assert_eq!(got.trim(), format!("{topic} 1 1850"));
        }
        for reader in ["4", "5"] {
            let paho = Subscriber::paho(&proxy, reader, &topic);
            let got = paho.message();
            assert!(got.starts_with(&format!("{topic}|1|1850|")), "{got}");
        }
        mosquitto("mosquitto_pub", &proxy, version, &["-q", "1", "-r", "-n", "-t", &topic]);
    }
    // All that is left is nothing: what comes first is what is published later.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "later").await.unwrap();
        client.subscribe("kept/#", 1).await.unwrap();
        client.publish("kept/1/telemetry/rpm", 1, 1, b"live").unwrap();
        client.flush().await.unwrap();
        assert_eq!(
            next_payload(&mut client).await,
            ("kept/1/telemetry/rpm".to_owned(), "live".to_owned())
        );
    });
    // What an operator sees.
    let records = kafka.consume("kept-retained", "%k|%s|%h");
    let first = records
        .iter()
        .find(|line| line.starts_with("kept/mqttv5/telemetry/rpm|1850|"))
        .unwrap();
    assert!(first.contains("mqtt.mapped=kept/") && first.contains("sensor=rpm"), "{first}");
}

/// An instance that starts reads all of it before it is ready, also what finds no memory.
#[test]
fn an_instance_that_starts_knows_them_all() {
    let kafka = shared_kafka();
    kafka.topic("fresh", 2);
    let retained = "retained: {memory: 1MiB}";
    let settings = topics("fresh");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let payload = "x".repeat(40_000);
    {
        let proxy = Proxy::start(&kafka.bootstrap, &rule("fresh"), &settings);
        runtime.block_on(async {
            let mut client = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
            for n in 0..100 {
                retain(&mut client, Version::V5, &format!("fresh/{n}/telemetry/rpm"), &payload).await;
            }
        });
    }
    // 4 MB of messages, 1 MiB of memory.
    let proxy = Proxy::start(&kafka.bootstrap, &format!("{}\n{retained}", rule("fresh")), &settings);
    assert_eq!(proxy.metric(&["retained_messages"]), 100.0);
    let held = proxy.metric(&["retained_bytes"]);
    // Names are kept in any case.
    let most = 1_048_576.0 + 100.0 * 400.0;
    assert!(held > 900_000.0 && held <= most, "{held}");
    runtime.block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "subscriber").await.unwrap();
        client.subscribe("fresh/#", 1).await.unwrap();
        let mut got = std::collections::BTreeSet::new();
        while got.len() < 100 {
            let (topic, value) = next_payload(&mut client).await;
            assert_eq!(value.len(), payload.len());
            assert!(got.insert(topic), "each once");
        }
    });
    assert!(proxy.metric(&["retained_bytes"]) <= most);
}

/// A retained message that expires after so many seconds.
async fn retain_for(client: &mut Client, topic: &str, payload: &str, seconds: u32) {
    let mut publish = v5::Publish::new(topic, QoS::AtLeastOnce, payload);
    (publish.pkid, publish.retain) = (7, true);
    publish.properties = Some(v5::PublishProperties {
        message_expiry_interval: Some(seconds),
        payload_format_indicator: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        subscription_identifiers: Vec::new(),
        content_type: None,
    });
    let mut out = BytesMut::new();
    publish.write(&mut out).unwrap();
    client.output.extend_from_slice(&out);
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(7, 0));
}

/// What compaction leaves of a key: the last record, with value and headers; `None` is a tombstone.
fn last(kafka: &Kafka, of: &str, key: &str) -> Option<(String, String)> {
    let records = kafka.consume(&format!("{of}-retained"), "%k|%S|%s|%h");
    let line = records.iter().rev().find(|line| line.starts_with(&format!("{key}|"))).unwrap();
    let parts: Vec<&str> = line.splitn(4, '|').collect();
    (parts[1] != "-1").then(|| (parts[2].to_owned(), parts[3].to_owned()))
}

fn header<'a>(headers: &'a str, name: &str) -> &'a str {
    let value = headers.split(',').find_map(|header| header.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{name} in {headers}"))
}

/// With stored sessions, whose membership is that of the custodian, and without.
#[test]
fn what_is_gone_gets_a_tombstone_and_what_compaction_would_lose_is_written_again() {
    let kafka = shared_kafka();
    std::thread::scope(|scope| {
        scope.spawn(|| is_looked_after(&kafka, "gone", ""));
        scope.spawn(|| is_looked_after(&kafka, "gonestored", "\nsessions: {expiry: {}, instance_timeout: 2s}"));
    });
}

fn is_looked_after(kafka: &Kafka, name: &str, sessions: &str) {
    kafka.topic(name, 1);
    let settings = format!(
        ", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 1, replication: 1}}, producer: {{delivery_timeout: 3s}}"
    );
    let start = || Proxy::start(&kafka.bootstrap, &format!("{}{sessions}", rule(name)), &settings);
    let [expires, cleared, late] = ["expires", "cleared", "late"].map(|vin| format!("{name}/{vin}/telemetry/rpm"));
    let proxy = start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
        retain_for(&mut client, &expires, "for a second", 1).await;
        retain(&mut client, Version::V5, &cleared, "to be cleared").await;
        retain(&mut client, Version::V5, &cleared, "").await;
        retain(&mut client, Version::V5, &late, "older").await;
    });
    let (_, older) = last(kafka, name, &late).unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
        retain_for(&mut client, &late, "newer", 600).await;
    });
    let (_, newer) = last(kafka, name, &late).unwrap();
    for topic in [&expires, &cleared] {
        eventually("what is gone has a tombstone", || last(kafka, name, topic).is_none().then_some(()));
    }
    assert_eq!(proxy.metric(&["retained_tombstones_total"]), 2.0);
    // As if the instance that wrote the older one had been long about it.
    let mapped = format!("mqtt.mapped={}", header(&older, "mqtt.mapped"));
    kafka.produce(&format!("{name}-retained"), &late, &[&mapped, "mqtt.qos=1"], "older");
    let again = eventually("the newer one is the last of its key again", || {
        last(kafka, name, &late)
            .filter(|(value, _)| value == "newer")
            .map(|(_, headers)| headers)
    });
    assert_eq!(
        header(&again, "mqtt.mapped"),
        header(&newer, "mqtt.mapped"),
        "it is the same message"
    );
    assert_eq!(header(&newer, "mqtt.expiry"), "600");
    let left: u32 = header(&again, "mqtt.expiry").parse().unwrap();
    assert!((500..600).contains(&left), "more than a second has passed: {left}");
    drop(proxy);
    // One that starts says the same.
    let proxy = start();
    assert_eq!(proxy.metric(&["retained_messages"]), 1.0);
    runtime.block_on(async {
        let mut client = Client::connect(proxy.mqtt, Version::V5, "subscriber").await.unwrap();
        client.subscribe(&format!("{name}/#"), 1).await.unwrap();
        assert_eq!(next_payload(&mut client).await, (late, "newer".to_owned()));
    });
}
