//! The oldest Apache Kafka that is supported, with all that the proxy does to a Kafka.

use crate::compression::{ours_is_read_by_kcat, theirs_is_delivered};
use crate::groups::hand_over;
use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Progress, run};
use crate::publish::{crowd, rule};
use crate::security::{Authority, PASSWORD, mechanisms, round_trip};
use crate::sessions::{message, publish};
use crate::share_groups::SHARE_GROUP;
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base};
use crate::wire::{delete_topic, transaction};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::runtime::Runtime;

const COMMANDS: &str = "  - {name: commands, direction: subscribe, mqtt: \"commands/{key}\", kafka: {topic: commands}, qos: 1}";

async fn publish_at_every_qos(proxy: &Proxy) {
    let mut client = Client::connect(proxy.mqtt, Version::V5, "device").await.unwrap();
    for qos in 0..3 {
        let id = if qos == 0 { 0 } else { 7 };
        let topic = "telemetry/42/telemetry/rpm";
        client.publish(topic, qos, id, format!("at {qos}").as_bytes()).unwrap();
        client.flush().await.unwrap();
        match qos {
            0 => continue,
            1 => assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(7, 0)),
            _ => {
                let received = client.next_within(DEADLINE).await.unwrap();
                assert_eq!(received, Event::PubRec(7, 0));
                client.answer(&received).unwrap();
                client.flush().await.unwrap();
                assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubComp(7));
            }
        }
    }
}

/// Produce has no topic ids here. So the new topic gets a record of the producer before the proxy knows that it is another, and must not take
/// the first one after that for the same.
async fn publish_to_a_topic_that_is_made_anew(kafka: &Kafka, proxy: &Proxy) {
    const TOPIC: &str = "anew/42/telemetry/rpm";
    let mut publisher = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
    let mut reader = Client::connect(proxy.mqtt, Version::V5, "reader").await.unwrap();
    // The proxy knows the topic, has written nothing to it, and reads it no more.
    assert_eq!(reader.subscribe(TOPIC, 1).await.unwrap(), 1);
    reader.unsubscribe(TOPIC).await.unwrap();
    delete_topic(&kafka.bootstrap, "anew");
    kafka.topic("anew", 1);
    kafka.produce("anew", "42", &["sensor=rpm"], "it is led");
    publish(&mut publisher, TOPIC, "before it is known").await;
    // Fetches have topic ids: this one tells.
    assert_eq!(reader.subscribe(TOPIC, 1).await.unwrap(), 1);
    eventually("it is known", || proxy.log().contains("made anew").then_some(()));
    publish(&mut publisher, TOPIC, "after").await;
    assert_eq!(kafka.consume("anew", "%s"), ["it is led", "before it is known", "after"]);
}

/// It has none: whoever is configured for them is told so, and no shared subscription becomes one of the other kind.
async fn share_groups_are_refused(kafka: &Kafka) {
    let rules = format!("{COMMANDS}\n{SHARE_GROUP}");
    let (code, said) = Proxy::check_online(&kafka.bootstrap, &rules, "");
    let words = "the brokers lack ShareGroupHeartbeat 1, ShareFetch 2";
    assert!(code != 0 && said.contains(words), "{code}: {said}");
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    eventually("it is told at start", || {
        proxy.log().contains("the brokers have no share groups").then_some(())
    });
    for (version, code) in [(Version::V5, 0x9e), (Version::V4, 0x80)] {
        let mut client = Client::connect(proxy.mqtt, version, "refused").await.unwrap();
        assert_eq!(client.subscribe("$share/g/commands/42", 1).await.unwrap(), code, "{version:?}");
        assert_eq!(client.subscribe("commands/42", 1).await.unwrap(), 1, "others are not harmed");
    }
    assert_eq!(proxy.metric(&["shared_memberships"]), 0.0);
}

/// Its listeners for TLS and for SASL in it, and the authority that signed their certificate. Kafka had no SCRAM without ZooKeeper then.
struct Listeners {
    authority: Authority,
    tls: u16,
    sasl: u16,
}

fn oldest_kafka() -> (Kafka, Listeners) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("authorities-{}", std::process::id()));
    let authority = Authority::new(&folder, "oldest");
    authority.issue("broker", &["localhost", "127.0.0.1"]);
    let base = free_base(3);
    let (tls, sasl, controller) = (base + 1, base + 2, base + 10);
    let places = format!("PLAINTEXT://127.0.0.1:{base},SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}");
    let mut settings = vec![
        format!("listeners={places},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners={places}"),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", authority.file("broker.store")),
    ];
    settings.extend(mechanisms("sasl_ssl", &["PLAIN"]));
    let kafka = Kafka::start_oldest(base, &settings.iter().map(String::as_str).collect::<Vec<_>>());
    (kafka, Listeners { authority, tls, sasl })
}

/// A record each way over TLS, and over TLS with a password.
fn get_in(kafka: &Kafka, listeners: &Listeners) {
    let tls = format!("tls: {{ca: \"{}\"}}", listeners.authority.file("ca.pem"));
    round_trip(kafka, listeners.tls, &format!("{{protocol: ssl, {tls}}}"), &[]);
    let sasl = "sasl: {mechanism: PLAIN, username: proxy, password: \"${KAFKA_PASSWORD}\"}";
    let security = format!("{{protocol: sasl_ssl, {sasl}, {tls}}}");
    round_trip(kafka, listeners.sasl, &security, &[("KAFKA_PASSWORD", PASSWORD)]);
}

#[test]
fn the_oldest_supported_kafka_does_all_that_is_needed() {
    let (kafka, listeners) = oldest_kafka();
    assert!(kafka.command(&["logs"]).contains("Kafka version: 3.3"));
    for topic in ["telemetry", "crowd", "commands", "anew"] {
        kafka.topic(topic, 1);
    }
    let rules = [rule("telemetry"), rule("crowd"), rule("anew"), COMMANDS.to_owned()].join("\n");
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let runtime = Runtime::new().unwrap();

    // Devices to Kafka, at each quality of service.
    runtime.block_on(publish_at_every_qos(&proxy));
    let records = eventually("three records", || {
        let records = kafka.consume("telemetry", "%k|%s");
        (records.len() == 3).then_some(records)
    });
    assert_eq!(records, ["42|at 0", "42|at 1", "42|at 2"]);

    // Kafka to devices: from the end offset on, and only what is committed.
    kafka.produce("commands", "42", &[], "before");
    let mut subscriber = runtime.block_on(Client::connect(proxy.mqtt, Version::V5, "subscriber")).unwrap();
    assert_eq!(runtime.block_on(subscriber.subscribe("commands/42", 1)).unwrap(), 1);
    kafka.produce("commands", "42", &[], "plain");
    transaction(&kafka.bootstrap, "commands", "42", &["aborted"], false);
    transaction(&kafka.bootstrap, "commands", "42", &["committed", "too"], true);
    for expected in ["plain", "committed", "too"] {
        assert_eq!(runtime.block_on(message(&mut subscriber)), expected);
    }

    // A broker that dies under load and comes back: retries double nothing.
    let (clients, messages) = (20, 250);
    let load = crowd(proxy.mqtt, "crowd", clients, messages);
    let progress = Arc::new(Progress::default());
    let all = runtime.spawn({
        let (load, progress) = (load.clone(), Arc::clone(&progress));
        async move { run(&load, &progress).await }
    });
    eventually("the load is under way", || (progress.done.load(Relaxed) > 500).then_some(()));
    kafka.command(&["kill", "1"]);
    kafka.command(&["start"]);
    let report = runtime.block_on(all).unwrap().unwrap();
    assert_eq!((report.acknowledged, report.refused), (u64::from(clients) * messages, 0));
    ledger::read_topic(&kafka.bootstrap, "crowd")
        .unwrap()
        .exact(clients, messages)
        .unwrap();

    runtime.block_on(publish_to_a_topic_that_is_made_anew(&kafka, &proxy));

    // Members of a group.
    kafka.topic("grouped", 4);
    runtime.block_on(hand_over(&kafka, "grouped"));

    // Every codec, both ways.
    ours_is_read_by_kcat(&kafka, &runtime);
    theirs_is_delivered(&kafka, &runtime, false);

    get_in(&kafka, &listeners);

    runtime.block_on(share_groups_are_refused(&kafka));

    // And the subscriber goes on.
    kafka.produce("commands", "42", &[], "after");
    assert_eq!(runtime.block_on(message(&mut subscriber)), "after");
}
