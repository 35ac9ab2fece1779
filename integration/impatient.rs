//! A Kafka that is short of everything: it throttles, closes idle connections and forgets producers, each within seconds.

use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Progress, run};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base};
use crate::wire::{producer_quota, producers, transaction};
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::runtime::Runtime;

static KAFKA: LazyLock<Kafka> = LazyLock::new(|| {
    let settings = [
        // A second of quota can be used at once, not ten.
        "quota.window.num=2",
        "connections.max.idle.ms=3000",
        "producer.id.expiration.ms=1000",
        "producer.id.expiration.check.interval.ms=200",
    ];
    Kafka::start_with(free_base(1), 1, &settings).for_all()
});

fn publish_and_wait(runtime: &Runtime, client: &mut Client, topic: &str, value: &str) {
    client
        .publish(&format!("{topic}/42/telemetry/rpm"), 1, 7, value.as_bytes())
        .unwrap();
    runtime.block_on(client.flush()).unwrap();
    assert_eq!(runtime.block_on(client.next_within(DEADLINE)).unwrap(), Event::PubAck(7, 0));
}

#[test]
fn a_quota_slows_devices_down_and_loses_nothing() {
    const RATE: f64 = 200_000.0;
    KAFKA.topic("quota", 2);
    // It holds for the proxies of the other tests, too: they write a few bytes.
    producer_quota(&KAFKA.bootstrap, "mqtt-kafka-proxy", RATE);
    let proxy = Proxy::start(&KAFKA.bootstrap, &rule("quota"), "");
    let (clients, messages) = (20, 50);
    let mut load = crowd(proxy.mqtt, "quota", clients, messages);
    load.payload = 1_000;
    let bytes = f64::from(clients) * messages as f64 * load.payload as f64;
    let started = Instant::now();
    let report = Runtime::new()
        .unwrap()
        .block_on(run(&load, &Arc::new(Progress::default())))
        .unwrap();
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!((report.acknowledged, report.refused), (u64::from(clients) * messages, 0));
    ledger::read_topic(&KAFKA.bootstrap, "quota")
        .unwrap()
        .exact(clients, messages)
        .unwrap();
    println!(
        "quota: {bytes} bytes in {seconds:.1} s at {RATE} bytes/s; throttled {} s",
        proxy.metric(&["kafka_throttled_seconds"])
    );
    assert!(proxy.metric(&["kafka_throttled_seconds"]) > 0.0);
    // The first second's quota is free, and the last request is not waited for.
    assert!(bytes / seconds < 2.0 * RATE, "{bytes} bytes in {seconds} s");
    assert_eq!(proxy.metric(&["kafka_produce_retries"]), 0.0);
}

#[test]
fn idle_connections_that_kafka_closes_cost_no_line_and_no_record() {
    KAFKA.topic("idle", 1);
    let proxy = Proxy::start(&KAFKA.bootstrap, &rule("idle"), "");
    let runtime = Runtime::new().unwrap();
    let mut client = runtime.block_on(Client::connect(proxy.mqtt, Version::V5, "device")).unwrap();
    // What it says at its start is not meant.
    let started = proxy.log().len();
    for round in 0..2 {
        publish_and_wait(&runtime, &mut client, "idle", &format!("{round}"));
        let before = proxy.metric(&["kafka_disconnects"]);
        eventually("Kafka closes them", || {
            (proxy.metric(&["kafka_disconnects"]) > before).then_some(())
        });
    }
    publish_and_wait(&runtime, &mut client, "idle", "last");
    assert_eq!(KAFKA.consume("idle", "%s"), ["0", "1", "last"]);
    assert_eq!(proxy.metric(&["kafka_produce_retries"]), 0.0);
    let log = proxy.log();
    let faults: Vec<_> = log[started..]
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        // A busy machine is no fault of the connection's.
        .filter(|line| !line.contains("this process did not run"))
        .collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_producer_that_kafka_has_forgotten_goes_on_and_loses_and_doubles_nothing() {
    KAFKA.topic("forgotten", 1);
    let proxy = Proxy::start(&KAFKA.bootstrap, &rule("forgotten"), "");
    let runtime = Runtime::new().unwrap();
    let mut client = runtime.block_on(Client::connect(proxy.mqtt, Version::V5, "device")).unwrap();
    let mut sent = Vec::new();
    for round in 0..3 {
        for n in 0..4 {
            sent.push(format!("{round}.{n}"));
            publish_and_wait(&runtime, &mut client, "forgotten", sent.last().unwrap());
        }
        assert!(producers(&KAFKA.bootstrap, "forgotten") <= 1);
        eventually("Kafka forgets the producer", || {
            (producers(&KAFKA.bootstrap, "forgotten") == 0).then_some(())
        });
    }
    assert_eq!(KAFKA.consume("forgotten", "%s"), sent);
}

/// Of open and aborted transactions no device sees anything.
#[test]
fn only_what_is_committed_reaches_devices() {
    let rules = "  - {name: committed, direction: subscribe, mqtt: \"committed/{key}\", kafka: {topic: committed}, qos: 1}";
    KAFKA.topic("committed", 1);
    let proxy = Proxy::start(&KAFKA.bootstrap, rules, "");
    let runtime = Runtime::new().unwrap();
    let mut client = runtime.block_on(Client::connect(proxy.mqtt, Version::V5, "device")).unwrap();
    assert_eq!(runtime.block_on(client.subscribe("committed/42", 1)).unwrap(), 1);
    transaction(&KAFKA.bootstrap, "committed", "42", &["aborted", "whole"], false);
    transaction(&KAFKA.bootstrap, "committed", "42", &["one", "two"], true);
    let mut values = Vec::new();
    while values.len() < 2 {
        let event = runtime.block_on(client.next_within(DEADLINE)).unwrap();
        client.answer(&event).unwrap();
        runtime.block_on(client.flush()).unwrap();
        if let Event::Publish { payload, .. } = event {
            values.push(String::from_utf8(payload.to_vec()).unwrap());
        }
    }
    assert_eq!(values, ["one", "two"]);
}
