//! While Kafka is away or changes: what is given up after the delivery timeout, what waits, what comes from a partition that is new.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::Duration;

use fake_broker::{
    Fake, Fault,
    client::until,
    records::{Batch, record},
};
use mqtt_kafka_proxy::config::Config;
use relay_stage::{
    Stage,
    device::{Device, connect, subscribe, will},
};

const RULES: &str = r#"rules:
  - {name: all, mqtt: "t/+", kafka: {topic: t, partition: 0}}"#;

const NOTHING: [&str; 0] = [];

async fn fake() -> Fake {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake
}

fn impatient(config: &mut Config) {
    config.kafka.producer.delivery_timeout = Duration::from_millis(300);
}

#[tokio::test]
async fn a_kafka_that_never_was_there_makes_outcomes_unknown_and_subscriptions_refused() {
    let fake = fake().await;
    fake.paused.send_replace(true);
    let stage = Stage::launch(fake, RULES, impatient).await;
    let mut five = stage.v5("five").await;
    five.publish("t/a", 0, 0, "x").await;
    five.publish("t/a", 1, 1, "x").await;
    assert_eq!(five.line().await, "puback 1 0x83 unknown_outcome");
    five.send_subscribe(&subscribe("t/+", 1)).await;
    assert_eq!(five.line().await, "suback 1 0x83");
    five.publish("t/a", 2, 2, "x").await;
    assert_eq!(five.rest().await, ["disconnect 0x83"]);
    let mut four = stage.v4("four").await;
    four.send_subscribe(&subscribe("t/+", 1)).await;
    assert_eq!(four.line().await, "suback 1 0x80");
    four.publish("t/a", 1, 1, "x").await;
    assert_eq!(four.rest().await, NOTHING);
    assert_eq!(
        (stage.metric("refusals_total{reason=\"kafka_unavailable\"}"), stage.refusals()),
        (6, 6)
    );
    // It comes, and all goes on with the same process.
    stage.fake.paused.send_replace(false);
    stage.ready().await;
    let mut five = stage.v5("five").await;
    five.subscribed("t/+", 0).await;
    five.publish("t/a", 1, 1, "there").await;
    let mut lines = [five.line().await, five.line().await];
    lines.sort();
    assert_eq!(lines, ["puback 1", "publish 0 t/a q0 there"]);
    assert_eq!(stage.fake.all_values("t"), ["there"]);
}

#[tokio::test]
async fn a_will_waits_for_kafka() {
    let mut stage = Stage::start(fake().await, RULES).await;
    let mut greeting = connect("mortal");
    greeting.last_will = will("t/will");
    let mut device = Device::connected_as(stage.address, 5, &greeting).await;
    stage.fake.paused.send_replace(true);
    device.disconnect(0x04).await;
    assert_eq!(device.rest().await, NOTHING, "its socket is closed");
    drop(device);
    assert_eq!(stage.fake.all_values("t"), NOTHING);
    assert_eq!(stage.metric("connections{listener=\"tcp\"}"), 1, "its place waits with the will");
    stage.fake.paused.send_replace(false);
    assert_eq!(stage.stored("t", 1).await, ["gone"]);
    stage.begin_drain();
    stage.ended().await;
}

#[tokio::test]
async fn keep_alive_rests_while_the_socket_is_not_read() {
    let stage = Stage::with(fake().await, RULES, |config| {
        config.kafka.producer.memory = 16 * 1024;
        config.kafka.producer.batch_size = 4 * 1024;
    })
    .await;
    stage.fake.hold_produce(&[1]);
    let mut greeting = connect("blocked");
    greeting.keep_alive = 1;
    let mut blocked = Device::connected_as(stage.address, 4, &greeting).await;
    for id in 1..=30 {
        blocked.publish("t/a", 1, id, vec![b'x'; 1000]).await;
    }
    until("the memory is full", || stage.metric("kafka_memory_full_total") > 0).await;
    // Two lives of a client whose keep alive does not rest, one after the other, are longer than its own would be.
    for _ in 0..2 {
        let mut idle = connect("idle");
        idle.keep_alive = 1;
        let mut idle = Device::connected_as(stage.address, 5, &idle).await;
        assert_eq!(idle.rest().await, ["disconnect 0x8d"]);
    }
    stage.fake.hold_produce(&[]);
    for id in 1..=30 {
        assert_eq!(blocked.line().await, format!("puback {id}"));
    }
    // And it counts again.
    assert_eq!(blocked.rest().await, NOTHING);
}

#[tokio::test]
async fn partitions_that_a_topic_gains_are_read_from_their_beginning() {
    let stage = Stage::start(fake().await, RULES).await;
    let mut early = stage.v5("early").await;
    early.subscribed("t/+", 0).await;
    stage.fake.grow("t");
    let told = |value: &str| Batch::of(&[record("t/a", value).header("mqtt.topic", "t/a")]).bytes();
    stage.fake.write("t", 1, &told("stored before anybody knew"));
    // Whatever makes the metadata be asked for: here a leader that says it is none.
    stage.fake.world().produce_faults.push_back(Fault::Code(6));
    early.publish("t/p", 1, 1, "moved").await;
    let mut lines = [early.line().await, early.line().await, early.line().await];
    lines.sort();
    assert_eq!(
        lines,
        ["puback 1", "publish 0 t/a q0 stored before anybody knew", "publish 0 t/p q0 moved"]
    );
    // One who comes later starts at its own SUBSCRIBE, also there.
    let mut late = stage.v4("late").await;
    late.subscribed("t/+", 0).await;
    stage.fake.write("t", 1, &told("both"));
    for device in [&mut early, &mut late] {
        assert_eq!(device.line().await, "publish 0 t/a q0 both");
        assert_eq!(device.fence().await, NOTHING);
    }
}

#[tokio::test]
async fn a_topic_that_is_made_anew_is_read_from_its_beginning_for_early_and_late_subscribers() {
    let stage = Stage::start(fake().await, RULES).await;
    let told = |value: &str| Batch::of(&[record("t/a", value).header("mqtt.topic", "t/a")]).bytes();
    for _ in 0..5 {
        stage.fake.write("t", 0, &told("before"));
    }
    // It starts at offset 5, and gets nothing before the topic is another.
    let mut early = stage.v5("early").await;
    early.subscribed("t/+", 0).await;
    stage.fake.topic("t", 1);
    stage.fake.write("t", 0, &told("anew"));
    assert_eq!(early.line().await, "publish 0 t/a q0 anew");
    let mut late = stage.v4("late").await;
    late.subscribed("t/+", 0).await;
    stage.fake.write("t", 0, &told("both"));
    for device in [&mut early, &mut late] {
        assert_eq!(device.line().await, "publish 0 t/a q0 both");
        assert_eq!(device.fence().await, NOTHING);
    }
}
