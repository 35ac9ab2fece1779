//! Too much for somebody: the producer's memory is full, a subscriber does not take what it asked for.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use fake_broker::{
    Fake,
    client::until,
    records::{Batch, record},
};
use mqtt_kafka_proxy::config::Config;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, connect, level, subscribe},
};
use tokio::net::TcpSocket;

const RULES: &str = r#"rules:
  - {name: waits, mqtt: "t/+", kafka: {topic: t, partition: 0}}
  - {name: drops, mqtt: "drop/+", kafka: {topic: t, partition: 0}, overflow: drop}
  - {name: dear, direction: publish, mqtt: "dear/+", on_error: skip, transform: 'last(range(1000000) | . + 1)', kafka: {topic: t, partition: 0}}
  - {name: late, mqtt: "late/+", kafka: {topic: late, partition: 0}}
  - {name: flood, direction: subscribe, mqtt: "flood/{key}", kafka: {topic: flood}, qos: 1}"#;

const NOTHING: [&str; 0] = [];

async fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    let fake = Fake::start(1).await;
    for topic in ["t", "flood"] {
        fake.topic(topic, 1);
    }
    Stage::with(fake, RULES, change).await
}

fn small_memory(config: &mut Config) {
    config.kafka.producer.memory = 64 * 1024;
    config.kafka.producer.batch_size = 8 * 1024;
}

/// `count` PUBLISHes of 1,000 bytes with running numbers, in one piece.
fn burst(device: &Device, topic: &str, qos: u8, count: u16) -> BytesMut {
    let mut out = BytesMut::new();
    for number in 1..=count {
        let mut publish = v5::Publish::new(topic, level(qos), format!("{number:01000}"));
        publish.pkid = number;
        device.encode_publish(&publish, &mut out);
    }
    out
}

#[tokio::test]
async fn with_full_memory_sockets_are_not_read_and_nothing_is_lost() {
    let stage = stage(small_memory).await;
    stage.fake.hold_produce(&[1]);
    let numbers: Vec<String> = (1..=300).map(|number| format!("{number:01000}")).collect();
    for qos in [0, 1] {
        let stored = stage.fake.all_values("t").len();
        let full = stage.metric("kafka_memory_full_total");
        // Version 3.1.1: no receive maximum stands in the way at QoS 0, and at QoS 1 it is not told.
        let device = stage.v4("flood").await;
        let packets = burst(&device, "t/a", qos, 300);
        let (read, mut write) = device.stream.into_split();
        let writes = tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut write, &packets).await.map(|()| write) });
        if qos == 0 {
            until("the memory is full", || stage.metric("kafka_memory_full_total") > full).await;
            assert!(stage.metric("kafka_memory_used_bytes") <= 64 * 1024);
        }
        // Others are served meanwhile.
        assert_eq!(stage.v5("other").await.fence().await, NOTHING);
        let publishes = stage.metric("packets_total{type=\"publish\",direction=\"received\"}");
        assert!(publishes < 200 + stored as u64, "{publishes} were read");
        stage.fake.hold_produce(&[]);
        let write = writes.await.unwrap().unwrap();
        let mut device = Device::on(read.reunite(write).unwrap(), 4);
        if qos == 1 {
            for number in 1..=300 {
                assert_eq!(device.line().await, format!("puback {number}"));
            }
        }
        let values = stage.stored("t", stored + 300).await;
        assert_eq!(values[stored..], numbers, "in order, each once");
        stage.fake.hold_produce(&[1]);
    }
}

#[tokio::test]
async fn a_rule_may_drop_what_memory_does_not_hold() {
    let stage = stage(small_memory).await;
    stage.fake.hold_produce(&[1]);
    let mut device = stage.v4("flood").await;
    let packets = burst(&device, "drop/a", 0, 300);
    device.bytes(&packets).await;
    // All of it was read: the PINGREQ behind it is answered.
    assert_eq!(device.fence().await, NOTHING);
    let dropped = stage.metric("messages_dropped_total{rule=\"drops\",reason=\"memory_full\"}") as usize;
    assert!(dropped > 200 && dropped < 300, "{dropped}");
    stage.fake.hold_produce(&[]);
    stage.stored("t", 300 - dropped).await;
    // QoS 1 of the same rule waits instead.
    device.publish("drop/a", 1, 1, "kept").await;
    assert_eq!(device.line().await, "puback 1");
}

#[tokio::test]
async fn a_publish_that_waits_too_long_is_given_up_and_the_next_go_on() {
    let stage = stage(|config| {
        small_memory(config);
        config.kafka.producer.delivery_timeout = Duration::from_millis(400);
        config.kafka.producer.memory = 16 * 1024;
    })
    .await;
    stage.fake.hold_produce(&[1]);
    let mut device = stage.v5("flood").await;
    let packets = burst(&device, "t/a", 1, 40);
    device.bytes(&packets).await;
    for number in 1..=40 {
        assert_eq!(device.line().await, format!("puback {number} 0x83 unknown_outcome"));
    }
    stage.fake.hold_produce(&[]);
    // Memory comes back with Kafka's late answers or with their expiry.
    until("memory is free", || stage.metric("kafka_memory_used_bytes") == 0).await;
    device.publish("t/a", 1, 41, "x").await;
    assert_eq!(device.line().await, "puback 41");
}

/// A subscriber whose socket takes little at a time.
async fn narrow(stage: &Stage, version: u8, client: &str, qos: u8) -> Device {
    narrow_as(stage, version, &connect(client), qos).await
}

async fn narrow_as(stage: &Stage, version: u8, greeting: &v5::Connect, qos: u8) -> Device {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut device = Device::on(socket.connect(stage.address).await.unwrap(), version);
    device.connect(greeting).await;
    assert_eq!(device.line().await, "connack 0x00");
    device.send_subscribe(&subscribe("flood/#", qos)).await;
    assert_eq!(device.line().await, format!("suback 1 {qos}"));
    device
}

/// One batch of `count` records of `size` bytes.
fn flood(count: usize, size: usize) -> Vec<u8> {
    Batch::of(&vec![record("a", &"x".repeat(size)); count]).bytes()
}

#[tokio::test]
async fn a_burst_reaches_a_slow_reader_whole_and_without_a_push() {
    let stage = stage(|_| {}).await;
    let mut slow = narrow(&stage, 4, "slow", 0).await;
    // More than the sockets' buffers and the outbox hold, less than the mailbox.
    stage.fake.write("flood", 0, &flood(6_000, 1_000));
    until("the outbox is full", || {
        stage.metric("messages_total{rule=\"flood\",direction=\"to_device\"}") > 100
    })
    .await;
    for at in 0..6_000 {
        assert_eq!(slow.line().await, "publish 0 flood/a q0 1000 bytes", "message {at}");
    }
}

#[tokio::test]
async fn who_does_not_read_at_qos_0_loses_what_does_not_fit_and_stays() {
    let stage = stage(|_| {}).await;
    let mut slow = narrow(&stage, 5, "slow", 0).await;
    let mut quick = stage.v5("quick").await;
    quick.subscribed("flood/#", 0).await;
    let dropped = || stage.metric("messages_dropped_total{rule=\"flood\",reason=\"mailbox_full\"}");
    let mut sent = 0;
    while dropped() == 0 {
        stage.fake.write("flood", 0, &flood(500, 10_000));
        sent += 500;
        for _ in 0..500 {
            assert_eq!(quick.line().await, "publish 0 flood/a q0 10000 bytes", "the others are unharmed");
        }
        assert!(sent <= 10_000, "the mailbox has no bound");
    }
    let dropped = dropped() as usize;
    for at in 0..sent - dropped {
        assert_eq!(slow.line().await, "publish 0 flood/a q0 10000 bytes", "message {at}");
    }
    assert_eq!(slow.fence().await, NOTHING);
    stage.fake.record("flood", 0, "b", "again");
    assert_eq!(slow.line().await, "publish 0 flood/b q0 again");
}

#[tokio::test]
async fn who_takes_nothing_and_says_nothing_is_closed_after_its_keep_alive() {
    let stage = stage(|_| {}).await;
    let mut greeting = connect("silent");
    greeting.keep_alive = 1;
    let silent = narrow_as(&stage, 5, &greeting, 0).await;
    // More than the sockets' buffers hold, in messages so large that one fills the outbox: its packets are not read then.
    for _ in 0..20 {
        stage.fake.write("flood", 0, &flood(1, 700_000));
    }
    until("it is closed", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    drop(silent);
}

#[tokio::test]
async fn many_small_records_one_by_one_do_not_overflow_a_mailbox() {
    let stage = stage(|_| {}).await;
    let mut greeting = connect("careful");
    greeting.keep_alive = 0;
    let mut device = Device::connected_as(stage.address, 5, &greeting).await;
    device.subscribed("flood/#", 1).await;
    // Each is a fetch of its own, and far less than the mailbox holds lies in wait.
    let mut watcher = stage.v5("watcher").await;
    watcher.subscribed("flood/#", 0).await;
    for number in 0..2_000 {
        let value = number.to_string();
        stage.fake.record("flood", 0, "a", &value);
        assert_eq!(watcher.line().await, format!("publish 0 flood/a q0 {value}"));
    }
    for number in 0..2_000 {
        let id = device.message(&format!("flood/a q1 {number}")).await;
        device.puback(id).await;
    }
}

#[tokio::test]
async fn who_is_faster_than_allowed_is_read_more_slowly_and_nobody_else_is() {
    let stage = stage(|config| config.rate.messages = std::num::NonZeroU32::new(10)).await;
    let start = std::time::Instant::now();
    let device = stage.v4("fast").await;
    let packets = burst(&device, "t/a", 0, 50);
    let (_read, mut write) = device.stream.into_split();
    tokio::io::AsyncWriteExt::write_all(&mut write, &packets).await.unwrap();
    let mut other = stage.v4("slow").await;
    other.publish("drop/a", 1, 7, "other").await;
    assert_eq!(other.line().await, "puback 7");
    let early = stage.fake.all_values("t").len();
    assert!(
        early < 60 && start.elapsed() < Duration::from_secs(2),
        "{early} after {:?}",
        start.elapsed()
    );
    until("all of them", || stage.fake.all_values("t").len() == 51).await;
    // Ten at once, then ten a second.
    assert!(start.elapsed() >= Duration::from_millis(3900), "{:?}", start.elapsed());
    let mut values = stage.fake.all_values("t");
    values.retain(|value| value != "other");
    assert_eq!(values, (1..=50).map(|number| format!("{number:01000}")).collect::<Vec<_>>());
}

/// Bytes have a bucket of their own, and one packet may be larger than it holds.
#[tokio::test]
async fn who_sends_more_bytes_than_allowed_is_read_more_slowly_and_loses_nothing() {
    let stage = stage(|config| config.rate.bytes = std::num::NonZeroU32::new(10_000)).await;
    let start = std::time::Instant::now();
    let device = stage.v4("fast").await;
    let mut packets = burst(&device, "t/a", 0, 30);
    let large = v5::Publish::new("t/a", level(0), "x".repeat(20_000));
    device.encode_publish(&large, &mut packets);
    packets.extend_from_slice(&burst(&device, "t/a", 0, 1));
    let (_read, mut write) = device.stream.into_split();
    tokio::io::AsyncWriteExt::write_all(&mut write, &packets).await.unwrap();
    let mut other = stage.v4("slow").await;
    other.publish("drop/a", 1, 7, "other").await;
    assert_eq!(other.line().await, "puback 7", "nobody else waits");
    let early = stage.fake.all_values("t").len();
    assert!(
        early < 30 && start.elapsed() < Duration::from_secs(2),
        "{early} after {:?}",
        start.elapsed()
    );
    until("all of them", || stage.fake.all_values("t").len() == 33).await;
    // 10,000 at once, then so many a second, and the last waits until all before it is paid for.
    assert!(start.elapsed() >= Duration::from_millis(3900), "{:?}", start.elapsed());
    let mut values = stage.fake.all_values("t");
    values.retain(|value| value != "other");
    let mut numbers: Vec<String> = (1..=30).map(|number| format!("{number:01000}")).collect();
    numbers.extend(["x".repeat(20_000), format!("{:01000}", 1)]);
    assert_eq!(values, numbers);
}

#[tokio::test]
async fn before_connect_less_is_taken_than_after_it() {
    use tokio::io::AsyncReadExt;
    let stage = stage(|config| config.session.connect_packet_size = 1000).await;
    let mut stranger = tokio::net::TcpStream::connect(stage.address).await.unwrap();
    // A CONNECT that says it has 1,024 bytes: refused by its length, before it has come.
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"\x10\x80\x08\0\x04MQTT")
        .await
        .unwrap();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(relay_stage::PATIENCE, stranger.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "the connection ends");
    let mut device = stage.v4("large").await;
    device.publish("t/a", 1, 1, "x".repeat(100_000)).await;
    until("the message", || stage.fake.all_values("t").len() == 1).await;
}

/// Without keep alive nothing else ends it, and it holds what has come. A slow one gets through.
#[tokio::test]
async fn a_packet_that_begins_and_does_not_go_on_is_given_up() {
    let stage = stage(|config| config.session.packet_timeout = Duration::from_secs(1)).await;
    let mut quiet = stage.v5("quiet").await;
    let mut halting = stage.v5("halting").await;
    halting.bytes(b"\x30\x64\0\x03t/a").await;
    let drip = async {
        let mut device = stage.v5("dripping").await;
        device.bytes(b"\x30\xff\x7f\0\x03t/a").await;
        loop {
            let next = tokio::time::timeout(Duration::from_millis(20), device.line()).await;
            match next {
                Ok(line) => return line,
                Err(_) => device.bytes(b"x").await,
            }
        }
    };
    let slow = async {
        let mut device = stage.v5("slow").await;
        let (mut bytes, mut publish) = (BytesMut::new(), v5::Publish::new("t/slow", level(1), "x".repeat(12_000)));
        publish.pkid = 1;
        device.encode_publish(&publish, &mut bytes);
        for piece in bytes.chunks(1500) {
            device.bytes(piece).await;
            // Its pace: the whole takes longer than the time-out.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        device.line().await
    };
    let (dripped, slow) = tokio::join!(drip, slow);
    assert_eq!((dripped.as_str(), slow.as_str()), ("disconnect 0x97", "puback 1"));
    assert_eq!(halting.rest().await, ["disconnect 0x97"]);
    assert_eq!(quiet.fence().await, [] as [&str; 0]);
}

/// Each run costs all that it may. With all of them in one turn nobody else on the worker would be answered before the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_publishes_to_a_program_that_is_always_cut_off_holds_up_nobody_else() {
    const MESSAGES: u64 = 200;
    let stage = stage(|_| {}).await;
    let (mut flood, mut other) = (stage.v4("flood").await, stage.v4("other").await);
    assert_eq!(other.fence().await, NOTHING);
    let mut packets = BytesMut::new();
    for _ in 0..MESSAGES {
        flood.encode_publish(&v5::Publish::new("dear/a", level(0), "1"), &mut packets);
    }
    let taken = || stage.metric("transform_failures_total{rule=\"dear\",reason=\"transform_limit\"}");
    flood.bytes(&packets).await;
    // This thread is not the worker, which is at it by then: nothing is waited for that it would have to do.
    let start = Instant::now();
    while taken() == 0 {
        assert!(start.elapsed() < relay_stage::PATIENCE, "nothing is taken");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(other.fence().await, NOTHING);
    let before = taken();
    assert!(
        before < MESSAGES / 2,
        "PINGREQ was answered behind {before} messages of somebody else"
    );
    assert_eq!(flood.fence().await, NOTHING);
    assert_eq!(taken(), MESSAGES, "and all of them are taken");
}
