//! Retained messages, the whole proxy against the fake broker: what is written, who gets what, and each order of events that could go wrong.
#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod fake_broker;
mod relay_stage;
mod retained_sessions;

use fake_broker::{
    Fake, Fault,
    client::until,
    records::{Batch, Record, record},
};
use mqtt_kafka_proxy::config::Config;
use mqttbytes::v5;
use relay_stage::{
    PATIENCE, Stage,
    device::{Device, connect, level, subscribe, taking, will},
};
use tokio::time::timeout;

const RULES: &str = "\
rules:
  - {name: t, mqtt: \"t/{a}/{b}\", kafka: {topic: t, key: \"{a}\", headers: {b: \"{b}\"}}}
  - {name: no, mqtt: \"no/+\", retain: deny, kafka: {topic: t}}
  - {name: any, mqtt: \"any/{kafka}\", kafka: {topic: \"{kafka}\"}}
  - {name: out, direction: publish, mqtt: \"out/+\", kafka: {topic: t}}";

const RETAINED: &str = "mqtt-retained";

async fn stage_with(change: impl FnOnce(&mut Config)) -> Stage {
    let fake = Fake::start(2).await;
    fake.topic("t", 1);
    fake.topic(RETAINED, 4);
    // The mapped topic is led by broker 1, this one by the other.
    (0..4).for_each(|partition| fake.lead(RETAINED, partition, 2));
    let stage = Stage::with(fake, RULES, |config| {
        config.session.retain_available = true;
        change(config);
    })
    .await;
    stage.relay.waits_for().wait_for(Option::is_none).await.unwrap();
    stage
}

async fn stage() -> Stage {
    stage_with(|_| {}).await
}

async fn retain(device: &mut Device, topic: &str, qos: u8, payload: &str) {
    let mut publish = v5::Publish::new(topic, level(qos), payload);
    (publish.pkid, publish.retain) = (7, true);
    device.send_publish(&publish).await;
}

async fn retained(device: &mut Device, topic: &str, payload: &str) {
    retain(device, topic, 1, payload).await;
    assert_eq!(device.line().await, "puback 7");
}

/// A record as another instance writes it: of `topic`, whose mapped record lies at `offset` of partition 0 of "t".
fn kept(stage: &Stage, topic: &str, payload: &str, offset: i64) -> Record {
    let id = stage.fake.world().topics["t"].id.as_simple().to_string();
    record(topic, payload).header("mqtt.mapped", &format!("t/{id}/0/{offset}"))
}

fn write(stage: &Stage, topic: &str, record: Record) -> i64 {
    let partition = mqtt_kafka_proxy::mapping::partition_for_key(topic.as_bytes(), 4);
    stage.fake.write(RETAINED, partition as usize, &Batch::of(&[record]).bytes())
}

/// Mapped records, so that offsets below nine are those of records that are there.
fn nine_records(stage: &Stage) {
    for _ in 0..9 {
        stage.fake.record("t", 0, "filler", "x");
    }
}

/// All that a new subscriber of a filter gets.
async fn all(stage: &Stage, client: &str, filter: &str) -> Vec<String> {
    let mut device = stage.v5(client).await;
    device.subscribed(filter, 1).await;
    let mut lines = device.fence().await;
    // Packet ids in the order of delivery say nothing here.
    lines
        .iter_mut()
        .for_each(|line| *line = line.splitn(3, ' ').nth(2).unwrap().to_owned());
    lines.sort();
    lines
}

#[tokio::test]
async fn a_new_subscription_gets_what_was_retained_and_an_empty_payload_clears_it() {
    let stage = stage().await;
    for version in [4, 5] {
        let mut device = Device::connected(stage.address, version, "publisher").await;
        retained(&mut device, "t/1/x", "old").await;
        retained(&mut device, "t/1/x", "one").await;
        retained(&mut device, "t/2/x", "two").await;
        device.publish("t/2/x", 1, 7, "not retained").await;
        assert_eq!(device.line().await, "puback 7");
        retained(&mut device, "t/3/x", "cleared").await;
        retained(&mut device, "t/3/x", "").await;
        assert_eq!(all(&stage, "wide", "t/+/x").await, ["t/1/x q1 retain one", "t/2/x q1 retain two"]);
        assert_eq!(all(&stage, "exact", "t/2/x").await, ["t/2/x q1 retain two"]);
        assert_eq!(all(&stage, "other", "t/2/y").await, Vec::<String>::new());
        assert_eq!(all(&stage, "cleared", "t/3/#").await, Vec::<String>::new());
        let mut old = stage.v4("old").await;
        old.subscribed("t/1/#", 0).await;
        assert_eq!(old.line().await, "publish 0 t/1/x q0 retain one");
    }
    // The record is readable: the topic as key, the value, where the mapped record lies.
    assert!(stage.fake.all_values(RETAINED).contains(&"two".to_owned()));
}

#[tokio::test]
async fn quality_of_service_0_is_retained_too_also_if_its_client_is_gone() {
    let stage = stage().await;
    let mut device = stage.v5("quick").await;
    retain(&mut device, "t/1/x", 0, "zero").await;
    device.disconnect(0).await;
    stage.stored(RETAINED, 1).await;
    assert_eq!(all(&stage, "s", "t/#").await, ["t/1/x q0 retain zero"]);
}

#[tokio::test]
async fn it_is_acknowledged_when_both_topics_have_it() {
    let stage = stage().await;
    stage.fake.hold_produce(&[2]);
    let mut device = stage.v5("patient").await;
    retain(&mut device, "t/1/x", 1, "both").await;
    stage.stored(RETAINED, 1).await;
    assert_eq!(device.fence().await, Vec::<String>::new(), "Kafka has not answered for the second");
    stage.fake.hold_produce(&[]);
    assert_eq!(device.line().await, "puback 7");
    let values = stage.fake.values("t", 0);
    assert_eq!(values, ["both"]);
}

#[tokio::test]
async fn what_kafka_refuses_of_either_record_is_refused() {
    let stage = stage().await;
    let mut device = stage.v5("refused").await;
    // The mapped record, then the retained one.
    for faults in [vec![Fault::Code(29)], vec![Fault::StoredBut(0), Fault::Code(29)]] {
        stage.fake.world().produce_faults.extend(faults);
        retain(&mut device, "t/1/x", 1, "no").await;
        assert_eq!(device.line().await, "puback 7 0x87 TOPIC_AUTHORIZATION_FAILED");
    }
    retained(&mut device, "t/1/x", "yes").await;
    assert_eq!(all(&stage, "s", "t/#").await, ["t/1/x q1 retain yes"]);
}

#[tokio::test]
async fn retain_handling_and_the_flag_are_as_the_subscriber_asked() {
    let stage = stage().await;
    let mut publisher = stage.v5("publisher").await;
    retained(&mut publisher, "t/1/x", "kept").await;
    use v5::RetainForwardRule::{Never, OnEverySubscribe, OnNewSubscribe};
    for (rule, times) in [(OnEverySubscribe, [1, 1]), (OnNewSubscribe, [1, 0]), (Never, [0, 0])] {
        let mut device = stage.v5("handles").await;
        let mut wish = subscribe("t/#", 0);
        wish.filters[0].retain_forward_rule = rule;
        for count in times {
            device.send_subscribe(&wish).await;
            assert_eq!(device.line().await, "suback 1 0");
            let lines = device.fence().await;
            assert_eq!(lines, vec!["publish 0 t/1/x q0 retain kept"; count]);
        }
        // An ordinary message has no flag for who did not ask to keep it.
        retained(&mut publisher, "t/1/x", "kept").await;
        assert_eq!(device.line().await, "publish 0 t/1/x q0 kept");
        device.disconnect(0).await;
    }
}

#[tokio::test]
async fn identifiers_no_local_and_granted_quality_hold_for_them() {
    let stage = stage().await;
    let mut device = stage.v5("self").await;
    let mut publish = v5::Publish::new("t/1/x", level(2), "mine");
    (publish.pkid, publish.retain) = (7, true);
    device.send_publish(&publish).await;
    assert_eq!(device.line().await, "pubrec 7");
    let mut wish = subscribe("t/#", 1);
    wish.properties = Some(v5::SubscribeProperties {
        id: Some(42),
        user_properties: vec![],
    });
    device.send_subscribe(&wish).await;
    assert_eq!(device.line().await, "suback 1 1");
    assert_eq!(device.line().await, "publish 1 t/1/x q1 retain mine sub42");
    wish.filters[0].nolocal = true;
    device.send_subscribe(&wish).await;
    assert_eq!(device.line().await, "suback 1 1");
    assert_eq!(device.fence().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_rule_that_denies_them_ends_the_connection() {
    let stage = stage().await;
    let mut device = stage.v5("denied").await;
    retain(&mut device, "no/1", 1, "x").await;
    assert_eq!(device.rest().await, ["disconnect 0x9a"]);
    let mut device = stage.v4("denied").await;
    retain(&mut device, "no/1", 1, "x").await;
    assert_eq!(device.rest().await, Vec::<String>::new());
    let mut device = Device::open(stage.address, 5).await;
    let mut with_will = connect("will");
    with_will.last_will = will("no/1");
    with_will.last_will.as_mut().unwrap().retain = true;
    device.connect(&with_will).await;
    assert_eq!(device.rest().await, ["connack 0x9a"]);
    // Without the flag all is well; and of a rule that nobody can subscribe to nothing is kept.
    let mut device = stage.v5("allowed").await;
    device.publish("no/1", 1, 7, "plain").await;
    assert_eq!(device.line().await, "puback 7");
    retained(&mut device, "out/1", "plain").await;
    assert_eq!(stage.fake.all_values(RETAINED), Vec::<String>::new());
    assert_eq!(stage.fake.values("t", 0), ["plain", "plain"]);
}

#[tokio::test]
async fn a_will_is_retained() {
    let stage = stage().await;
    let mut dying = connect("dying");
    dying.last_will = will("t/1/will");
    dying.last_will.as_mut().unwrap().retain = true;
    drop(Device::connected_as(stage.address, 5, &dying).await);
    stage.stored(RETAINED, 1).await;
    assert_eq!(all(&stage, "s", "t/#").await, ["t/1/will q1 retain gone"]);
}

/// The publisher's other instance was slow: the mapped record lies before the start, the retained record comes after SUBACK.
#[tokio::test]
async fn what_is_read_late_is_delivered_late_and_once() {
    let stage = stage().await;
    let mapped = stage.fake.record("t", 0, "1", "late");
    let mut device = stage.v5("s").await;
    device.subscribed("t/#", 1).await;
    assert_eq!(device.fence().await, Vec::<String>::new());
    write(&stage, "t/1/x", kept(&stage, "t/1/x", "late", mapped));
    assert_eq!(device.line().await, "publish 1 t/1/x q2 retain late".replace("q2", "q1"));
    // The same once more, and one that lost: nothing.
    write(&stage, "t/1/x", kept(&stage, "t/1/x", "late", mapped));
    // One whose mapped record comes by itself: not from here as well.
    let mut publisher = stage.v5("publisher").await;
    retained(&mut publisher, "t/1/x", "live").await;
    assert_eq!(device.line().await, "publish 2 t/1/x q1 live");
    assert_eq!(device.fence().await, Vec::<String>::new());
}

/// Both records are there before the SUBSCRIBE is answered, but the mapped one lies behind its start.
#[tokio::test]
async fn what_comes_as_an_ordinary_message_is_not_delivered_twice() {
    let stage = stage().await;
    write(&stage, "t/1/x", kept(&stage, "t/1/x", "twice?", 0));
    let mut device = stage.v5("s").await;
    device.subscribed("t/#", 1).await;
    stage
        .fake
        .write("t", 0, &Batch::of(&[record("1", "twice?").header("b", "x")]).bytes());
    assert_eq!(device.line().await, "publish 1 t/1/x q1 twice?");
    assert_eq!(device.fence().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_higher_mapped_offset_wins_whichever_comes_later() {
    let stage = stage().await;
    nine_records(&stage);
    for (topic, payload, offset) in [
        ("t/1/x", "five", 5),
        ("t/1/x", "three", 3),
        ("t/2/x", "one", 1),
        ("t/2/x", "", 2),
        ("t/3/x", "", 7),
        ("t/3/x", "four", 4),
    ] {
        write(&stage, topic, kept(&stage, topic, payload, offset));
    }
    assert_eq!(all(&stage, "s", "t/#").await, ["t/1/x q1 retain five"]);
}

#[tokio::test]
async fn expiry_is_honoured_and_what_remains_is_told() {
    let stage = stage().await;
    nine_records(&stage);
    let expiring = |topic: &str, seconds: &str, age_ms| {
        let mut record = kept(&stage, topic, "x", 1).header("mqtt.expiry", seconds);
        record.age_ms = age_ms;
        write(&stage, topic, record);
    };
    expiring("t/1/gone", "60", 61_000);
    expiring("t/2/x", "6000", 1_000_000);
    let lines = all(&stage, "s", "t/#").await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    let left: u32 = lines[0].strip_prefix("t/2/x q1 retain x expires").unwrap().parse().unwrap();
    assert!((4_990..=5_000).contains(&left), "{left}");
}

#[tokio::test]
async fn records_that_no_proxy_wrote_are_left_out_and_counted() {
    let stage = stage().await;
    nine_records(&stage);
    write(&stage, "t/1/x", record("t/1/x", "no header"));
    write(&stage, "t/2/x", record("t/2/x", "wrong header").header("mqtt.mapped", "t/zz/0/1"));
    write(&stage, "t/+/x", kept(&stage, "t/+/x", "no topic name", 1));
    stage.counted("retained_foreign_records_total", 3).await;
    // Of a rule that is no longer there: nobody's fault.
    write(&stage, "gone/1", kept(&stage, "gone/1", "x", 1));
    write(&stage, "t/3/x", kept(&stage, "t/3/x", "good", 1));
    assert_eq!(all(&stage, "s", "t/#").await, ["t/3/x q1 retain good"]);
    assert_eq!(stage.metric("retained_foreign_records_total"), 3);
    stage.counted("retained_messages", 1).await;
}

#[tokio::test]
async fn a_tombstone_removes_what_it_was_written_for() {
    let stage = stage().await;
    nine_records(&stage);
    let tombstone = |topic: &str, offset| {
        let mut record = kept(&stage, topic, "", offset);
        record.value = None;
        write(&stage, topic, record);
    };
    for topic in ["t/1/x", "t/2/x"] {
        write(&stage, topic, kept(&stage, topic, "x", 5));
    }
    tombstone("t/1/x", 5);
    // Written for what stood there before.
    tombstone("t/2/x", 4);
    assert_eq!(all(&stage, "s", "t/#").await, ["t/2/x q1 retain x"]);
    stage.counted("retained_messages", 1).await;
}

/// With no memory at all each message is read from the log when somebody asks for it.
#[tokio::test]
async fn beyond_the_memory_messages_come_from_the_log() {
    let stage = stage_with(|config| config.retained_memory = 1).await;
    let mut publisher = stage.v5("publisher").await;
    for n in 0..60 {
        retained(&mut publisher, &format!("t/{n}/x"), &format!("message {n}")).await;
    }
    let mut expected: Vec<_> = (0..60).map(|n| format!("t/{n}/x q1 retain message {n}")).collect();
    expected.sort();
    let mut device = stage.v5("s").await;
    device.subscribed("t/#", 1).await;
    let mut lines = Vec::new();
    while lines.len() < 60 {
        lines.push(device.line().await.splitn(3, ' ').nth(2).unwrap().to_owned());
    }
    lines.sort();
    assert_eq!(lines, expected);
    let held = stage.metric("retained_bytes");
    assert!(held < 60 * 250, "{held} bytes for names");
}

/// While a body is asked for, its message is written once more, and compaction takes the first of the two. Of one that is gone nothing comes.
#[tokio::test]
async fn a_message_that_is_written_once_more_is_found_where_it_is() {
    let stage = stage_with(|config| config.retained_memory = 1).await;
    nine_records(&stage);
    let in_one = |topic: &String| mqtt_kafka_proxy::mapping::partition_for_key(topic.as_bytes(), 4) == 0;
    let topics: Vec<String> = (100..).map(|n| format!("t/{n}/x")).filter(in_one).take(5).collect();
    let write_again = |at: usize| write(&stage, &topics[at], kept(&stage, &topics[at], "kept", 1));
    let offsets: Vec<i64> = (0..5).map(write_again).collect();
    stage.counted("retained_messages", 5).await;
    let reads = || stage.fake.world().reads.get(&2).copied().unwrap_or(0);
    let before = reads();
    let mut device = Device::connected_as(stage.address, 5, &taking("narrow", 1)).await;
    device.subscribed("t/#", 1).await;
    let first = device.message(&format!("{} q1 retain kept", topics[0])).await;
    until("the second is read", || reads() >= before + 2).await;
    stage.fake.paused.send_replace(true);
    device.puback(first).await;
    let second = device.message(&format!("{} q1 retain kept", topics[1])).await;
    // Now the third is asked for, and nobody answers.
    [2, 3].into_iter().for_each(|at| stage.fake.compact(RETAINED, 0, offsets[at]));
    assert_eq!(write_again(2), 5);
    stage.fake.paused.send_replace(false);
    device.puback(second).await;
    for at in [2, 4] {
        let id = device.message(&format!("{} q1 retain kept", topics[at])).await;
        device.puback(id).await;
    }
    assert_eq!(device.fence().await, Vec::<String>::new());
}

/// A wide wildcard and a client that takes one message at a time: nothing is lost, and what the log brings waits its turn.
#[tokio::test]
async fn delivery_follows_the_clients_window() {
    let stage = stage().await;
    let mut publisher = stage.v5("publisher").await;
    for n in 0..30 {
        retained(&mut publisher, &format!("t/{n:02}/x"), "old").await;
    }
    let mut device = Device::connected_as(stage.address, 5, &taking("narrow", 1)).await;
    device.subscribed("t/#", 1).await;
    retained(&mut publisher, "t/00/x", "new").await;
    for n in 0..30 {
        let id = device.message(&format!("t/{n:02}/x q1 retain old")).await;
        assert_eq!(device.fence().await, Vec::<String>::new());
        device.puback(id).await;
    }
    device.message("t/00/x q1 new").await;
}

/// The end of a partition was lost (an unclean election), so all of them are read anew: nobody gets again what he had, walks go on, and what was
/// lost is forgotten.
#[tokio::test]
async fn what_is_read_anew_is_not_told_again_and_open_walks_go_on() {
    let stage = stage().await;
    nine_records(&stage);
    let partition_of = |topic: &str| mqtt_kafka_proxy::mapping::partition_for_key(topic.as_bytes(), 4) as usize;
    let topics: Vec<String> = (0..20).map(|n| format!("t/{n:02}/x")).collect();
    for topic in &topics {
        write(&stage, topic, kept(&stage, topic, "kept", 1));
    }
    let mut wide = stage.v5("wide").await;
    wide.subscribed("t/#", 0).await;
    assert_eq!(wide.fence().await.len(), 20);
    let mut narrow = Device::connected_as(stage.address, 5, &taking("narrow", 1)).await;
    narrow.subscribed("t/#", 1).await;
    let mut held = narrow.message(&format!("{} q1 retain kept", topics[0])).await;
    // The last of the partition where the walk's next topic lies is lost: not that topic.
    let partition = partition_of(&topics[1]);
    let lost = topics.iter().rfind(|topic| partition_of(topic) == partition).unwrap();
    assert_ne!(*lost, topics[1]);
    let end = stage.fake.world().topics[RETAINED].partitions[partition].end;
    stage.fake.cut_off(RETAINED, partition, 2, end - 1);
    // What is written there instead is news, and comes late.
    let late = (0..)
        .map(|n| format!("t/late/{n}"))
        .find(|topic| partition_of(topic) == partition)
        .unwrap();
    assert_eq!(write(&stage, &late, kept(&stage, &late, "news", 5)), end - 1);
    assert_eq!(wide.line().await, format!("publish 0 {late} q0 retain news"));
    let mut waits = stage.relay.waits_for();
    timeout(PATIENCE, waits.wait_for(Option::is_none)).await.unwrap().unwrap();
    for topic in topics[1..].iter().filter(|topic| *topic != lost) {
        narrow.puback(held).await;
        held = narrow.message(&format!("{topic} q1 retain kept")).await;
    }
    narrow.puback(held).await;
    let id = narrow.message(&format!("{late} q1 retain news")).await;
    narrow.puback(id).await;
    assert!(wide.fence().await.is_empty() && narrow.fence().await.is_empty());
    assert_eq!(all(&stage, "new", "t/#").await.len(), 20);
}

/// A device names the Kafka topic by its MQTT topic: the proxy's own topics are not among those.
#[tokio::test]
async fn nobody_writes_or_reads_a_state_topic() {
    let stage = stage().await;
    let mut device = stage.v5("curious").await;
    device.publish("any/mqtt-retained", 1, 7, "forged").await;
    assert_eq!(device.line().await, "puback 7 0x83 state_topic");
    device.send_subscribe(&subscribe("any/mqtt-retained", 1)).await;
    assert_eq!(device.line().await, "suback 1 0x83");
    assert_eq!(stage.fake.all_values(RETAINED), Vec::<String>::new());
    device.publish("any/t", 1, 7, "fine").await;
    assert_eq!(device.line().await, "puback 7");
}

/// The brokers do not tell yet where the topic ends.
#[tokio::test]
async fn a_subscribe_waits_until_the_topic_was_read() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic(RETAINED, 1);
    fake.offsets_held.send_replace(true);
    let stage = Stage::with(fake, RULES, |config| config.session.retain_available = true).await;
    let mut device = stage.v5("s").await;
    device.send_subscribe(&subscribe("t/#", 1)).await;
    let mut waits = stage.relay.waits_for();
    waits
        .wait_for(|what| *what == Some("the retained messages are being read"))
        .await
        .unwrap();
    assert_eq!(device.fence().await, Vec::<String>::new());
    stage.fake.offsets_held.send_replace(false);
    assert_eq!(device.line().await, "suback 1 1");
    timeout(PATIENCE, waits.wait_for(Option::is_none)).await.unwrap().unwrap();
}

/// Both while it is read the first time and afterwards.
#[tokio::test]
async fn what_was_damaged_on_its_way_is_asked_for_again() {
    let stage = stage().await;
    nine_records(&stage);
    for number in 1..=5 {
        stage.fake.world().fetch_faults.push_back(Fault::Damaged);
        let topic = format!("t/{number}/x");
        write(&stage, &topic, kept(&stage, &topic, "good", number));
        stage.counted("retained_messages", number as u64).await;
    }
    assert!(stage.metric("batches_read_again_total") > 0, "nothing was damaged");
    assert_eq!(stage.metric("unreadable_batches_total"), 0);
}
