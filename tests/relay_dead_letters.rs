//! What cannot be stored and has a dead letter topic: it is stored there before it is acknowledged, whoever refused it.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use fake_broker::{Fake, Fault, client::until};
use mqtt_kafka_proxy::config::Config;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{connect, level},
};

/// Partition 0 of `t` lies on broker 1, that of `dead` too, that of `copies` on broker 2.
const RULES: &str = r#"rules:
  - {name: strict, mqtt: "strict/+", kafka: {topic: t, partition: "{payload.lane}"}, on_error: {dead_letter: dead}}
  - {name: plain, mqtt: "plain/+", kafka: {topic: t, partition: 0}, on_error: {dead_letter: dead}}
  - {name: lost, mqtt: "lost/+", kafka: {topic: nowhere}, on_error: {dead_letter: dead}}
  - {name: graveless, mqtt: "graveless/+", kafka: {topic: t, partition: 0, key: "{payload.id}"}, on_error: {dead_letter: missing}}
  - {name: receipt, mqtt: "receipt/+", kafka: {topic: t, partition: 0}, acknowledge: on-receipt, on_error: {dead_letter: dead}}
  - {name: origin, mqtt: "copy/+", kafka: {topic: t, partition: 0}}
  - {name: copy, mqtt: "copy/+", also: true, direction: publish, kafka: {topic: copies, key: "{payload.id}", partition: 1}, on_error: {dead_letter: dead}}"#;

async fn stage_with(change: impl FnOnce(&mut Config)) -> Stage {
    let fake = Fake::start(2).await;
    fake.topic("t", 1);
    fake.topic("copies", 2);
    fake.topic("dead", 1);
    let stage = Stage::with(fake, RULES, change).await;
    // Topics are known from here on, so that each test sees what it is about.
    let mut warm = stage.v5("warm").await;
    for (id, topic) in [(1, "plain/warm"), (2, "strict/warm"), (3, "copy/warm")] {
        warm.publish(topic, 1, id, "warm").await;
        assert_eq!(warm.line().await, format!("puback {id}"));
    }
    warm.disconnect(0).await;
    assert_eq!(warm.line().await, "closed");
    assert_eq!(stage.fake.all_values("dead"), ["warm", "warm"]);
    stage
}

async fn stage() -> Stage {
    stage_with(|_| {}).await
}

fn counted(stage: &Stage, rule: &str, reason: &str) -> u64 {
    stage.metric(&format!(r#"dead_letters_total{{rule="{rule}",reason="{reason}"}}"#))
}

#[tokio::test]
async fn what_a_rule_cannot_map_is_acknowledged_when_its_dead_letter_is_stored() {
    let stage = stage().await;
    for mut device in [stage.v5("five").await, stage.v4("four").await] {
        let before = stage.fake.all_values("dead").len();
        stage.fake.hold_produce(&[1, 2]);
        device.publish("strict/a", 1, 1, "one").await;
        device.publish("strict/a", 2, 2, "two").await;
        device.publish("strict/a", 0, 0, "none").await;
        until("the first is stored", || stage.fake.all_values("dead").len() > before).await;
        assert_eq!(device.fence().await, [] as [&str; 0], "an acknowledgement left before Kafka's");
        stage.fake.hold_produce(&[]);
        assert_eq!(device.line().await, "puback 1");
        assert_eq!(device.line().await, "pubrec 2");
        stage.stored("dead", before + 3).await;
    }
    assert_eq!(counted(&stage, "strict", "not_json"), 7);
    let mut five = stage.v5("five").await;
    // What is known of the partitions only when it is to be placed.
    five.publish("strict/a", 1, 1, r#"{"lane": 9}"#).await;
    assert_eq!(five.line().await, "puback 1");
    assert_eq!(counted(&stage, "strict", "no_such_partition"), 1);
    five.publish("strict/a", 1, 2, r#"{"lane": 0}"#).await;
    assert_eq!(five.line().await, "puback 2");
    assert_eq!(stage.fake.all_values("t").last().unwrap(), r#"{"lane": 0}"#);
    five.publish("lost/a", 1, 3, "lost").await;
    assert_eq!(five.line().await, "puback 3");
    assert_eq!(counted(&stage, "lost", "no_such_topic"), 1);
    assert_eq!(stage.refusals(), 0);
}

#[tokio::test]
async fn what_kafka_refuses_is_acknowledged_when_its_dead_letter_is_stored() {
    let stage = stage().await;
    for (version, mut device) in [(5, stage.v5("five").await), (4, stage.v4("four").await)] {
        for (qos, answer) in [(1, "puback 7"), (2, "pubrec 7")] {
            stage.fake.world().produce_faults.push_back(Fault::Code(87));
            device.publish("plain/a", qos, 7, format!("{version} {qos}")).await;
            assert_eq!(device.line().await, answer);
            assert_eq!(stage.fake.all_values("dead").last().unwrap(), &format!("{version} {qos}"));
        }
        device.pubrel(7).await;
        assert_eq!(device.line().await, "pubcomp 7");
        // Nobody waits for these: one has its acknowledgement, the other needs none.
        for (topic, qos) in [("receipt/a", 1), ("plain/a", 0)] {
            let before = stage.fake.all_values("dead").len();
            stage.fake.world().produce_faults.push_back(Fault::Code(87));
            device.publish(topic, qos, u16::from(qos), "quiet").await;
            if qos == 1 {
                assert_eq!(device.line().await, "puback 1");
            }
            stage.stored("dead", before + 1).await;
        }
    }
    assert_eq!(
        (
            counted(&stage, "plain", "INVALID_RECORD"),
            counted(&stage, "receipt", "INVALID_RECORD")
        ),
        (6, 2)
    );
    assert_eq!(stage.fake.all_values("t"), ["warm", "warm"]);
    assert_eq!(stage.refusals(), 0);
    until("no memory is held", || stage.metric("kafka_memory_used_bytes") == 0).await;
}

#[tokio::test]
async fn a_copy_becomes_a_dead_letter_beside_its_original_and_both_must_be_stored() {
    let stage = stage().await;
    let mut device = stage.v5("copies").await;
    device.publish("copy/a", 1, 1, "x").await;
    assert_eq!(device.line().await, "puback 1");
    assert_eq!(stage.fake.all_values("t").last().unwrap(), "x");
    assert_eq!(stage.fake.all_values("dead").last().unwrap(), "x");
    // The original, which has no dead letter topic, is refused: so is the message.
    stage.fake.hold_produce(&[1]);
    stage.fake.world().produce_faults.extend([Fault::Code(87), Fault::Code(87)]);
    stage.fake.hold_produce(&[]);
    device.publish("copy/a", 1, 2, "y").await;
    assert_eq!(device.line().await, "puback 2 0x83 INVALID_RECORD");
}

#[tokio::test]
async fn where_the_dead_letter_cannot_be_stored_the_device_is_told_what_was_wrong() {
    let stage = stage().await;
    let mut five = stage.v5("five").await;
    five.publish("graveless/a", 1, 1, "x").await;
    assert_eq!(five.line().await, "puback 1 0x99 not_json");
    stage.fake.world().produce_faults.push_back(Fault::Code(87));
    five.publish("graveless/a", 1, 2, r#"{"id": 1}"#).await;
    assert_eq!(five.line().await, "puback 2 0x83 INVALID_RECORD");
    // The dead letter is refused for a reason of its own.
    stage.fake.world().produce_faults.extend([Fault::Code(87), Fault::Code(29)]);
    five.publish("plain/a", 1, 3, "x").await;
    assert_eq!(five.line().await, "puback 3 0x83 INVALID_RECORD");
    stage.fake.world().produce_faults.push_back(Fault::Code(29));
    five.publish("strict/a", 1, 4, "x").await;
    assert_eq!(five.line().await, "puback 4 0x87 TOPIC_AUTHORIZATION_FAILED");
    let mut four = stage.v4("four").await;
    four.publish("graveless/a", 1, 1, "x").await;
    assert_eq!(four.rest().await, [] as [&str; 0], "3.1.1 has no word for it but the end");
    assert_eq!(stage.fake.all_values("dead"), ["warm", "warm"]);
    until("no memory is held", || stage.metric("kafka_memory_used_bytes") == 0).await;
}

#[tokio::test]
async fn a_will_that_cannot_be_mapped_is_buried() {
    let mut stage = stage().await;
    let mut connect = connect("will");
    connect.last_will = Some(v5::LastWill::new("strict/will", "gone", level(1), false));
    let mut device = relay_stage::device::Device::open(stage.address, 5).await;
    device.connect(&connect).await;
    assert!(device.line().await.starts_with("connack 0"));
    drop(device);
    stage.stored("dead", 3).await;
    stage.begin_drain();
    stage.ended().await;
}

/// Each message takes memory twice until its receipt. All of them are refused while nothing is left, and each finds its way.
#[tokio::test]
async fn with_full_memory_sockets_are_not_read_and_dead_letters_are_stored_all_the_same() {
    const COUNT: u16 = 120;
    let stage = stage_with(|config| {
        config.kafka.producer.memory = 64 * 1024;
        config.kafka.producer.batch_size = 8 * 1024;
    })
    .await;
    stage.fake.world().topics.get_mut("t").unwrap().partitions[0].refuses = Some(87);
    for qos in [0, 1] {
        let before = stage.fake.all_values("dead").len();
        stage.fake.hold_produce(&[1]);
        let mut device = stage.v5("many").await;
        let mut out = bytes::BytesMut::new();
        for number in 1..=COUNT {
            let mut publish = v5::Publish::new("plain/a", level(qos), format!("{number:01000}"));
            publish.pkid = number;
            device.encode_publish(&publish, &mut out);
        }
        let (blocked, taken) = (stage.metric("kafka_memory_full_total"), stage.metric(TAKEN));
        device.bytes(&out).await;
        until("the memory is full", || stage.metric("kafka_memory_full_total") > blocked).await;
        assert!(stage.metric("kafka_memory_used_bytes") <= 64 * 1024);
        // Without what is kept beside the records there would be memory for 64 of them.
        let taken = stage.metric(TAKEN) - taken;
        assert!((10..40).contains(&taken), "{taken} were taken");
        stage.fake.hold_produce(&[]);
        if qos == 1 {
            for number in 1..=COUNT {
                assert_eq!(device.line().await, format!("puback {number}"));
            }
        }
        let mut stored = stage.stored("dead", before + usize::from(COUNT)).await.split_off(before);
        stored.sort_unstable();
        assert_eq!(stored, (1..=COUNT).map(|number| format!("{number:01000}")).collect::<Vec<_>>());
        until("no memory is held", || stage.metric("kafka_memory_used_bytes") == 0).await;
    }
}

/// Put into a batch by the rule `plain`.
const TAKEN: &str = r#"messages_total{rule="plain",direction="to_kafka"}"#;

/// What is kept beside a record fills the memory, and what is to be retained of it is larger than the record itself, so the memory of the records does not do for it.
#[tokio::test]
async fn with_memory_full_of_what_may_become_dead_letters_messages_are_retained_all_the_same() {
    const EACH: u16 = 30;
    const DEVICES: u16 = 4;
    let fake = Fake::start(2).await;
    for topic in ["t", "dead", "mqtt-retained"] {
        fake.topic(topic, 1);
    }
    fake.lead("mqtt-retained", 0, 2);
    let rules = r#"rules:
  - {name: plain, mqtt: "plain/+", kafka: {topic: t, partition: 0, key: none}, transform: ".v", on_error: {dead_letter: dead}}"#;
    let stage = Stage::with(fake, rules, |config| {
        config.kafka.producer.memory = 64 * 1024;
        config.session.retain_available = true;
    })
    .await;
    let payload = |number: u16| format!(r#"{{"v": {number}, "pad": "{}"}}"#, "x".repeat(1000));
    for qos in [0, 1] {
        let before = stage.fake.all_values("t").len();
        stage.fake.hold_produce(&[1]);
        let blocked = stage.metric("kafka_memory_full_total");
        let mut devices = Vec::new();
        for device in 1..=DEVICES {
            let mut device = stage.v5(&format!("many-{device}")).await;
            let mut out = bytes::BytesMut::new();
            for number in 1..=EACH {
                let mut publish = v5::Publish::new("plain/a", level(qos), payload(number));
                (publish.pkid, publish.retain) = (number, true);
                device.encode_publish(&publish, &mut out);
            }
            device.bytes(&out).await;
            devices.push(device);
        }
        until("the memory is full", || stage.metric("kafka_memory_full_total") > blocked).await;
        stage.fake.hold_produce(&[]);
        for device in devices.iter_mut().filter(|_| qos == 1) {
            for number in 1..=EACH {
                assert_eq!(device.line().await, format!("puback {number}"));
            }
        }
        stage.stored("t", before + usize::from(EACH * DEVICES)).await;
        stage.stored("mqtt-retained", before + usize::from(EACH * DEVICES)).await;
        until("no memory is held", || stage.metric("kafka_memory_used_bytes") == 0).await;
    }
    assert_eq!(stage.fake.all_values("dead"), [""; 0]);
}
