//! Retained messages on a real Kafka: two instances, real clients.

use crate::deliver::Subscriber;
use crate::load::client::{Client, Event, Version};
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, output};
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

/// Published on one instance and acknowledged; at once subscribed to on the other. `RETAINED_TRIES` says how often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_on_one_instance_is_there_on_the_other() {
    let tries: u64 = std::env::var("RETAINED_TRIES").map_or(500, |text| text.parse().unwrap());
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
    assert_eq!(other.metric(&["retained_messages"]), 37.0_f64.min(tries as f64));
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
