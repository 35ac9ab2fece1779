//! SUBSCRIBE through the whole proxy: which records reach whom, from where on, how often, and how they look.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use fake_broker::{
    Fake, Fault,
    client::until,
    records::{Batch, Codec, Record, record},
};
use kafka_protocol::messages::ApiKey;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, level, subscribe, taking},
};

const RULES: &str = r#"rules:
  - {name: both, mqtt: "t/{k}/+", kafka: {topic: t, key: "{k}", partition: 0}}
  - {name: commands, direction: subscribe, mqtt: "cmd/{key}", kafka: {topic: cmds}}
  - {name: once, direction: subscribe, mqtt: "once/{key}", kafka: {topic: once}, qos: 1}
  - {name: stones, direction: subscribe, mqtt: "stones/{key}", kafka: {topic: stones, tombstones: deliver}}
  - {name: lost, direction: subscribe, mqtt: "lost/{key}", kafka: {topic: nowhere}}"#;

const NOTHING: [&str; 0] = [];

async fn stage() -> Stage {
    let fake = Fake::start(2).await;
    for topic in ["t", "cmds", "once", "stones"] {
        fake.topic(topic, 2);
    }
    Stage::start(fake, RULES).await
}

fn publish(topic: &str, value: &str) -> String {
    format!("publish 0 {topic} q0 {value}")
}

#[tokio::test]
async fn a_subscription_starts_between_its_subscribe_and_its_suback() {
    let stage = stage().await;
    let mut earlier: Vec<Device> = Vec::new();
    // The first of them finds nobody reading, the others a feed that runs.
    for round in 0..3 {
        stage.fake.record("cmds", 0, "a", &format!("before {round}"));
        let mut device = if round == 1 {
            stage.v4("d1").await
        } else {
            stage.v5(&format!("d{round}")).await
        };
        stage.fake.offsets_held.send_replace(true);
        let asked = stage.fake.seen(ApiKey::ListOffsets);
        device.send_subscribe(&subscribe("cmd/+", 0)).await;
        // One request to each broker; the broker has looked, and keeps what it saw to itself.
        until("both brokers are asked", || stage.fake.seen(ApiKey::ListOffsets) == asked + 2).await;
        let during = format!("during {round}");
        stage.fake.record("cmds", 0, "a", &during);
        assert_eq!(device.fence().await, NOTHING);
        stage.fake.offsets_held.send_replace(false);
        assert_eq!(device.line().await, "suback 1 0");
        let after = format!("after {round}");
        stage.fake.record("cmds", 0, "a", &after);
        assert_eq!(device.line().await, publish("cmd/a", &during));
        assert_eq!(device.line().await, publish("cmd/a", &after));
        for device in &mut earlier {
            for value in ["before", "during", "after"] {
                assert_eq!(device.line().await, publish("cmd/a", &format!("{value} {round}")));
            }
        }
        earlier.push(device);
    }
    for device in &mut earlier {
        assert_eq!(device.fence().await, NOTHING);
    }
}

fn with_id(filter: &str, qos: u8, id: usize) -> v5::Subscribe {
    let mut subscribe = subscribe(filter, qos);
    let user_properties = Vec::new();
    subscribe.properties = Some(v5::SubscribeProperties {
        id: Some(id),
        user_properties,
    });
    subscribe
}

#[tokio::test]
async fn overlapping_subscriptions_deliver_once_with_all_identifiers() {
    let stage = stage().await;
    let mut five = stage.v5("five").await;
    for (filter, qos, id) in [("cmd/a", 0, 1), ("cmd/+", 1, 2), ("cmd/#", 0, 3), ("cmd/b", 2, 4)] {
        five.send_subscribe(&with_id(filter, qos, id)).await;
        assert_eq!(five.line().await, format!("suback 1 {qos}"));
    }
    let mut four = stage.v4("four").await;
    four.subscribed("cmd/a", 0).await;
    four.subscribed("#", 0).await;
    stage
        .fake
        .write("cmds", 0, &Batch::of(&[record("a", "x").header("mqtt.qos", "2")]).bytes());
    let line = five.line().await;
    assert!(line.starts_with("publish 1 cmd/a q1 x "), "{line}");
    let mut ids: Vec<&str> = line.split(' ').skip(5).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["sub1", "sub2", "sub3"]);
    assert_eq!(five.fence().await, NOTHING);
    assert_eq!(four.line().await, publish("cmd/a", "x"));
    assert_eq!(four.fence().await, NOTHING);
}

#[tokio::test]
async fn a_subscribe_repeated_before_its_answer_doubles_and_loses_nothing() {
    let stage = stage().await;
    let mut device = stage.v5("eager").await;
    stage.fake.offsets_held.send_replace(true);
    device.send_subscribe(&with_id("cmd/a", 0, 7)).await;
    until("its start is asked for", || stage.fake.seen(ApiKey::ListOffsets) == 2).await;
    stage.fake.record("cmds", 0, "a", "between");
    device.send_subscribe(&with_id("cmd/a", 0, 7)).await;
    assert_eq!(device.fence().await, NOTHING);
    stage.fake.offsets_held.send_replace(false);
    assert_eq!(device.line().await, "suback 1 0");
    let mut lines = vec![device.line().await, device.line().await];
    lines.sort();
    assert_eq!(lines, ["publish 0 cmd/a q0 between sub7", "suback 1 0"]);
    stage.fake.record("cmds", 0, "a", "after");
    assert_eq!(device.line().await, "publish 0 cmd/a q0 after sub7");
    assert_eq!(device.fence().await, NOTHING);
}

#[tokio::test]
async fn nothing_comes_after_unsuback() {
    let stage = stage().await;
    let (mut leaves, mut stays) = (stage.v5("leaves").await, stage.v4("stays").await);
    leaves.subscribed("cmd/#", 0).await;
    leaves.subscribed("stones/#", 0).await;
    stays.subscribed("cmd/#", 0).await;
    leaves.unsubscribe("cmd/#").await;
    stage.fake.record("cmds", 1, "a", "x");
    assert_eq!(stays.line().await, publish("cmd/a", "x"));
    assert_eq!(leaves.fence().await, NOTHING);
    stage.fake.record("stones", 1, "a", "y");
    assert_eq!(leaves.line().await, publish("stones/a", "y"));
    // And again from now on.
    leaves.subscribed("cmd/#", 0).await;
    stage.fake.record("cmds", 1, "a", "z");
    assert_eq!(leaves.line().await, publish("cmd/a", "z"));
}

#[tokio::test]
async fn no_local_leaves_out_only_what_the_client_itself_published() {
    let stage = stage().await;
    let (mut own, mut other) = (stage.v5("own").await, stage.v5("other").await);
    let mut wish = subscribe("t/#", 0);
    wish.filters[0].set_nolocal(true);
    for device in [&mut own, &mut other] {
        device.send_subscribe(&wish).await;
        assert_eq!(device.line().await, "suback 1 0");
    }
    own.publish("t/a/b", 1, 1, "mine").await;
    assert_eq!(own.line().await, "puback 1");
    assert_eq!(other.line().await, publish("t/a/b", "mine"));
    other.publish("t/a/b", 1, 1, "theirs").await;
    assert_eq!(own.line().await, publish("t/a/b", "theirs"));
    assert_eq!(other.line().await, "puback 1");
    assert_eq!((own.fence().await, other.fence().await), (vec![], vec![]));
}

#[tokio::test]
async fn the_retain_flag_is_kept_for_those_who_ask() {
    let stage = stage().await;
    let (mut keeps, mut plain) = (stage.v5("keeps").await, stage.v5("plain").await);
    let mut wish = subscribe("cmd/#", 0);
    wish.filters[0].set_preserve_retain(true);
    keeps.send_subscribe(&wish).await;
    assert_eq!(keeps.line().await, "suback 1 0");
    plain.subscribed("cmd/#", 0).await;
    stage
        .fake
        .write("cmds", 0, &Batch::of(&[record("a", "x").header("mqtt.retain", "1")]).bytes());
    assert_eq!(keeps.line().await, "publish 0 cmd/a q0 retain x");
    assert_eq!(plain.line().await, publish("cmd/a", "x"));
}

#[tokio::test]
async fn the_lowest_of_record_rule_and_grant_is_the_qos() {
    let stage = stage().await;
    let mut device = stage.v5("low").await;
    device.subscribed("once/#", 2).await;
    device.subscribed("cmd/#", 2).await;
    let with_qos = |key: &str, qos: &str| Batch::of(&[record(key, "x").header("mqtt.qos", qos)]).bytes();
    for (topic, batch, told) in [
        ("once", with_qos("a", "2"), "publish 1 once/a q1 x"),
        ("once", with_qos("a", "0"), "publish 0 once/a q0 x"),
        ("once", Batch::of(&[record("a", "foreign")]).bytes(), "publish 2 once/a q1 foreign"),
        ("cmds", with_qos("a", "2"), "publish 3 cmd/a q2 x"),
    ] {
        stage.fake.write(topic, 0, &batch);
        assert_eq!(device.line().await, told);
    }
    let mut lower = stage.v4("lower").await;
    lower.subscribed("cmd/#", 1).await;
    stage.fake.write("cmds", 0, &with_qos("a", "2"));
    assert_eq!(lower.line().await, "publish 1 cmd/a q1 x");
}

#[tokio::test]
async fn the_expiry_interval_goes_on_counting_and_what_is_over_is_left_out() {
    let stage = stage().await;
    let mut device = stage.v5("late").await;
    device.subscribed("cmd/#", 0).await;
    let old = |value: &str, expiry: &str, age_ms: i64| Record {
        age_ms,
        ..record("a", value).header("mqtt.expiry", expiry)
    };
    let records = [old("over", "10", 10_500), old("alive", "1000", 400_500), record("a", "eternal")];
    stage.fake.write("cmds", 0, &Batch::of(&records).bytes());
    let line = device.line().await;
    let remaining: u32 = line.strip_prefix("publish 0 cmd/a q0 alive expires").unwrap().parse().unwrap();
    assert!((580..=600).contains(&remaining), "{remaining}");
    assert_eq!(device.line().await, publish("cmd/a", "eternal"));
    assert_eq!(stage.metric("messages_dropped_total{rule=\"commands\",reason=\"expired\"}"), 1);
}

#[tokio::test]
async fn aborted_transactions_never_reach_a_device() {
    let stage = stage().await;
    let mut device = stage.v5("careful").await;
    device.subscribed("cmd/#", 0).await;
    {
        let mut world = stage.fake.world();
        let partition = &mut world.topics.get_mut("cmds").unwrap().partitions[0];
        let of = |value: &str| Batch::of(&[record("a", value)]);
        partition.push(&of("plain 1").bytes());
        partition.aborted.push((70, partition.end));
        partition.push(&of("aborted").transaction(70, 0).bytes());
        partition.push(&of("committed").transaction(71, 0).bytes());
        partition.push(&of("aborted too").transaction(70, 1).bytes());
        partition.push(&Batch::marker(70, false).bytes());
        partition.push(&of("second try").transaction(70, 2).bytes());
        partition.push(&Batch::marker(70, true).bytes());
        partition.push(&Batch::marker(71, true).bytes());
        partition.push(&of("plain 2").bytes());
    }
    stage.fake.appended.notify_waiters();
    for value in ["plain 1", "committed", "second try", "plain 2"] {
        assert_eq!(device.line().await, publish("cmd/a", value));
    }
    assert_eq!(device.fence().await, NOTHING);
}

#[tokio::test]
async fn compressed_batches_of_any_codec_are_delivered() {
    let stage = stage().await;
    let mut device = stage.v4("unpacks").await;
    device.subscribed("cmd/#", 0).await;
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let values: Vec<_> = (0..50).map(|i| format!("{codec:?} {i}")).collect();
        let records: Vec<_> = values.iter().map(|value| record("a", value)).collect();
        stage.fake.write("cmds", 0, &Batch::of(&records).codec(codec).bytes());
        for value in values {
            assert_eq!(device.line().await, publish("cmd/a", &value));
        }
    }
    // A damaged one is counted, and those behind it come.
    let mut damaged = Batch::of(&[record("a", "damaged")]).bytes();
    *damaged.last_mut().unwrap() ^= 1;
    stage.fake.write("cmds", 0, &damaged);
    stage.fake.record("cmds", 0, "a", "whole");
    assert_eq!(device.line().await, publish("cmd/a", "whole"));
    assert_eq!(stage.metric("unreadable_batches_total"), 1);
    assert_eq!(stage.metric("batches_read_again_total"), 1);
}

#[tokio::test]
async fn a_batch_that_was_damaged_on_its_way_is_read_again() {
    let stage = stage().await;
    let mut device = stage.v4("patient").await;
    device.subscribed("cmd/#", 0).await;
    stage.fake.world().fetch_faults.push_back(Fault::Damaged);
    stage.fake.record("cmds", 0, "a", "before");
    assert_eq!(device.line().await, publish("cmd/a", "before"));
    until("the fault was taken", || stage.fake.world().fetch_faults.is_empty()).await;
    for value in ["one", "two", "three"] {
        stage.fake.world().topics.get_mut("cmds").unwrap().partitions[0].push(&Batch::of(&[record("a", value)]).bytes());
    }
    stage.fake.record("cmds", 0, "a", "four");
    for value in ["one", "two", "three", "four"] {
        assert_eq!(device.line().await, publish("cmd/a", value));
    }
    assert_eq!(stage.metric("unreadable_batches_total"), 0);
    assert_eq!(stage.metric("batches_read_again_total"), 1);
    assert_eq!(device.fence().await, NOTHING);
}

#[tokio::test]
async fn tombstones_are_skipped_or_delivered_by_their_rule() {
    let stage = stage().await;
    let mut device = stage.v5("mourner").await;
    device.subscribed("#", 0).await;
    let stone = Record {
        value: None,
        ..record("a", "")
    };
    stage.fake.write("cmds", 0, &Batch::of(&[stone.clone(), record("a", "x")]).bytes());
    assert_eq!(device.line().await, publish("cmd/a", "x"));
    stage.fake.write("stones", 0, &Batch::of(&[stone, record("a", "y")]).bytes());
    assert_eq!(device.line().await, publish("stones/a", ""));
    assert_eq!(device.line().await, publish("stones/a", "y"));
    assert_eq!(stage.metric("records_skipped_total{rule=\"commands\",reason=\"tombstone\"}"), 1);
}

#[tokio::test]
async fn the_clients_receive_maximum_and_packet_size_are_kept() {
    let stage = stage().await;
    let mut greeting = taking("small", 2);
    greeting.properties.as_mut().unwrap().max_packet_size = Some(100);
    let mut device = Device::connected_as(stage.address, 5, &greeting).await;
    let mut wish = subscribe("cmd/#", 2);
    wish.filters[0].qos = level(1);
    device.send_subscribe(&wish).await;
    assert_eq!(device.line().await, "suback 1 1");
    let large = "x".repeat(200);
    for value in ["1", &large, "2", "3", "4"] {
        stage.fake.record("cmds", 0, "a", value);
    }
    let first = device.message("cmd/a q1 1").await;
    let second = device.message("cmd/a q1 2").await;
    assert_eq!(device.fence().await, NOTHING, "[MQTT-3.3.4-9]");
    device.puback(first).await;
    let third = device.message("cmd/a q1 3").await;
    assert_eq!(device.fence().await, NOTHING);
    device.puback(third).await;
    device.puback(second).await;
    device.message("cmd/a q1 4").await;
    assert_eq!(
        stage.metric("messages_dropped_total{rule=\"commands\",reason=\"packet_too_large\"}"),
        1
    );
}

#[tokio::test]
async fn a_filter_whose_kafka_topic_is_missing_is_refused() {
    let stage = stage().await;
    for (mut device, told) in [(stage.v5("five").await, "suback 1 0x83"), (stage.v4("four").await, "suback 1 0x80")] {
        device.send_subscribe(&subscribe("lost/a", 1)).await;
        assert_eq!(device.line().await, told);
        device.subscribed("cmd/a", 1).await;
    }
    assert_eq!((stage.metric("refusals_total{reason=\"no_such_topic\"}"), stage.refusals()), (2, 2));
    let mut device = stage.v4("five").await;
    device.send_subscribe(&subscribe(&"/".repeat(128), 1)).await;
    assert_eq!(device.line().await, "suback 1 0x80");
    assert_eq!(stage.metric("refusals_total{reason=\"topic_filter_invalid\"}"), 1);
}

#[tokio::test]
async fn packets_are_counted_by_type_and_direction() {
    let stage = stage().await;
    let mut device = stage.v5("counted").await;
    device.subscribed("t/#", 1).await;
    device.publish("t/a/b", 1, 1, "x").await;
    let mut lines = [device.line().await, device.line().await];
    lines.sort();
    assert_eq!(lines, ["puback 1", "publish 1 t/a/b q1 x"]);
    device.puback(1).await;
    device.publish("t/a/b", 2, 2, "y").await;
    let mut lines = [device.line().await, device.line().await];
    lines.sort();
    assert_eq!(lines, ["publish 2 t/a/b q1 y", "pubrec 2"]);
    device.pubrel(2).await;
    assert_eq!(device.line().await, "pubcomp 2");
    assert_eq!(device.fence().await, NOTHING);
    device.unsubscribe("t/#").await;
    device.bytes(&[0x36, 6, 0, 1, b'a', 0, 1, 0]).await;
    assert_eq!(device.rest().await, ["disconnect 0x81"]);
    let count = |kind: &str, direction: &str| stage.metric(&format!("packets_total{{type=\"{kind}\",direction=\"{direction}\"}}"));
    let expected = [
        ("connect", 1),
        ("publish", 2),
        ("puback", 1),
        ("pubrel", 1),
        ("subscribe", 1),
        ("unsubscribe", 1),
        ("pingreq", 1),
    ];
    for (kind, times) in expected {
        assert_eq!((kind, count(kind, "received")), (kind, times));
    }
    let expected = [
        ("connack", 1),
        ("publish", 2),
        ("puback", 1),
        ("pubrec", 1),
        ("pubcomp", 1),
        ("suback", 1),
        ("unsuback", 1),
    ];
    for (kind, times) in expected.into_iter().chain([("pingresp", 1), ("disconnect", 1), ("connect", 0)]) {
        assert_eq!((kind, count(kind, "sent")), (kind, times));
    }
}

#[tokio::test]
async fn what_a_packet_asks_for_beyond_the_limit_is_refused_and_counted_filter_by_filter() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = "rules: [{name: all, mqtt: \"t/{k}\", kafka: {topic: t, key: \"{k}\"}}]\nlimits: {subscriptions: 4, topic_length: 10B}\n";
    let stage = Stage::start(fake, rules).await;
    let mut device = stage.v5("greedy").await;
    let mut asked = subscribe("t/a", 1);
    for filter in ["elsewhere", "t/longer/than/ten", "t/b", "t/c", "t/d", "t/e"] {
        asked.filters.extend(subscribe(filter, 1).filters);
    }
    device.send_subscribe(&asked).await;
    assert_eq!(device.line().await, "suback 1 1,0x8f,0x8f,1,0x97,0x97,0x97");
    assert_eq!(stage.metric("refusals_total{reason=\"quota_exceeded\"}"), 3);
    assert_eq!(stage.metric("refusals_total{reason=\"topic_filter_invalid\"}"), 1);
    assert_eq!(stage.metric("refusals_total{reason=\"unmapped\"}"), 1);
}
