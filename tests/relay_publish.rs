//! PUBLISH through the whole proxy: what is acknowledged, when, in which order, and what a refusal of Kafka becomes.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::Duration;

use fake_broker::{Fake, Fault, client::until};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::TopicState;
use relay_stage::{Stage, device::Device};

/// Partitions 0 and 1 lie on brokers 1 and 2. `copy/…` makes a record in each.
const RULES: &str = r#"rules:
  - {name: zero, mqtt: "zero/+", kafka: {topic: t, partition: 0}}
  - {name: one, mqtt: "one/+", kafka: {topic: t, partition: 1}}
  - {name: lost, mqtt: "lost/+", kafka: {topic: nowhere}}
  - {name: skipped, mqtt: "skipped/+", kafka: {topic: t, partition: 0}, on_error: skip}
  - {name: skipped-lost, mqtt: "skipped-lost/+", kafka: {topic: nowhere}, on_error: skip}
  - {name: receipt, mqtt: "receipt/+", kafka: {topic: t, partition: 0}, acknowledge: on-receipt}
  - {name: origin, mqtt: "copy/+", kafka: {topic: t, partition: 0}}
  - {name: copy, mqtt: "copy/+", also: true, direction: publish, kafka: {topic: copies, partition: 1}}"#;

async fn stage() -> Stage {
    let fake = Fake::start(2).await;
    fake.topic("t", 2);
    fake.topic("copies", 2);
    let stage = Stage::start(fake, RULES).await;
    // Topics are known from here on, so that each test sees what it is about.
    let mut warm = stage.v5("warm").await;
    warm.publish("copy/warm", 1, 1, "warm").await;
    assert_eq!(warm.line().await, "puback 1");
    warm.disconnect(0).await;
    assert_eq!(warm.line().await, "closed");
    stage
}

#[tokio::test]
async fn puback_and_pubrec_wait_for_kafkas_answer() {
    let stage = stage().await;
    for mut device in [stage.v5("five").await, stage.v4("four").await] {
        let before = stage.fake.all_values("t").len();
        stage.fake.hold_produce(&[1, 2]);
        device.publish("zero/a", 1, 1, "first").await;
        device.publish("zero/a", 2, 2, "second").await;
        device.publish("zero/a", 0, 0, "third").await;
        // The broker has the first already, and keeps its answer to itself.
        until("the first is stored", || stage.fake.all_values("t").len() > before).await;
        assert_eq!(device.fence().await, [] as [&str; 0], "an acknowledgement left before Kafka's");
        stage.fake.hold_produce(&[]);
        assert_eq!(device.line().await, "puback 1");
        assert_eq!(device.line().await, "pubrec 2");
        device.pubrel(2).await;
        assert_eq!(device.line().await, "pubcomp 2");
        stage.stored("t", before + 3).await;
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_that_kafka_never_answers() {
    let stage = stage().await;
    stage.fake.world().produce_always = Some(Fault::CloseBefore);
    let before = stage.fake.seen(ApiKey::Produce);
    let mut device = stage.v5("patient").await;
    device.publish("zero/a", 1, 1, "lost").await;
    until("it was sent again and again", || stage.fake.seen(ApiKey::Produce) > before + 3).await;
    assert_eq!(device.fence().await, [] as [&str; 0]);
    stage.fake.world().produce_always = None;
    assert_eq!(device.line().await, "puback 1");
    assert_eq!(stage.fake.values("t", 0), ["warm", "lost"]);
}

#[tokio::test]
async fn acknowledgements_leave_in_the_order_of_the_publishes() {
    let stage = stage().await;
    for mut device in [stage.v5("five").await, stage.v4("four").await] {
        let answered = stage.cluster.counters().records.get();
        stage.fake.hold_produce(&[1]);
        device.publish("zero/a", 1, 1, "slow").await;
        device.publish("one/a", 1, 2, "fast").await;
        device.publish("one/a", 2, 3, "fast").await;
        // Kafka's answers for the later ones have come.
        until("the fast ones are answered", || {
            stage.cluster.counters().records.get() == answered + 2
        })
        .await;
        assert_eq!(device.fence().await, [] as [&str; 0], "[MQTT-4.6.0-2]");
        stage.fake.hold_produce(&[]);
        for expected in ["puback 1", "puback 2", "pubrec 3"] {
            assert_eq!(device.line().await, expected);
        }
    }
}

#[tokio::test]
async fn a_message_with_copies_is_acknowledged_when_all_are_stored() {
    let stage = stage().await;
    let mut device = stage.v5("copies").await;
    for held in [1, 2] {
        let answered = stage.cluster.counters().records.get();
        stage.fake.hold_produce(&[held]);
        device.publish("copy/a", 1, 7, "twice").await;
        until("one of two is answered", || stage.cluster.counters().records.get() == answered + 1).await;
        assert_eq!(device.fence().await, [] as [&str; 0], "one of its records has no answer");
        stage.fake.hold_produce(&[]);
        assert_eq!(device.line().await, "puback 7");
    }
    assert_eq!(stage.fake.all_values("t"), ["warm", "twice", "twice"]);
    assert_eq!(stage.fake.all_values("copies"), ["warm", "twice", "twice"]);
}

#[tokio::test]
async fn a_copy_that_is_refused_refuses_the_message() {
    let stage = stage().await;
    let mut device = stage.v5("copies").await;
    stage.fake.hold_produce(&[1]);
    let answered = stage.cluster.counters().records.get();
    device.publish("copy/a", 1, 7, "half").await;
    until("one of two is answered", || stage.cluster.counters().records.get() == answered + 1).await;
    assert_eq!(stage.fake.all_values("copies"), ["warm", "half"]);
    stage.fake.hold_produce(&[]);
    assert_eq!(device.line().await, "puback 7");
    // Both requests are answered with an error: one refusal is told, once.
    stage.fake.world().produce_faults.extend([Fault::Code(87), Fault::Code(87)]);
    device.publish("copy/a", 1, 8, "none").await;
    assert_eq!(device.line().await, "puback 8 0x83 INVALID_RECORD");
    assert_eq!(device.fence().await, [] as [&str; 0]);
}

/// Nobody is told, so it is counted: by the rule, with Kafka's word for it.
#[tokio::test]
async fn what_kafka_refuses_of_messages_that_nobody_waits_for_is_counted_by_their_rule() {
    let stage = stage().await;
    let refuse = |code| stage.fake.world().topics.get_mut("t").unwrap().partitions[0].refuses = code;
    let dropped = |rule: &str| format!("messages_dropped_total{{rule=\"{rule}\",reason=\"TOPIC_AUTHORIZATION_FAILED\"}}");
    let mut device = stage.v5("unasked").await;
    refuse(Some(29));
    for _ in 0..2 {
        device.publish("zero/a", 0, 0, "lost").await;
    }
    device.publish("receipt/a", 1, 1, "lost").await;
    assert_eq!(device.line().await, "puback 1");
    device.publish("skipped/a", 1, 2, "left out").await;
    assert_eq!(device.line().await, "puback 2");
    device.publish("zero/a", 1, 3, "refused").await;
    assert_eq!(device.line().await, "puback 3 0x87 TOPIC_AUTHORIZATION_FAILED");
    for (rule, count) in [("zero", 2), ("receipt", 1), ("skipped", 1)] {
        stage.counted(&dropped(rule), count).await;
    }
    refuse(None);
    device.publish("zero/a", 0, 0, "stored").await;
    device.publish("receipt/a", 1, 4, "stored").await;
    assert_eq!(device.line().await, "puback 4");
    until("both are stored", || stage.fake.values("t", 0).len() == 3).await;
    assert_eq!((stage.metric(&dropped("zero")), stage.metric(&dropped("receipt"))), (2, 1));
}

#[tokio::test]
async fn a_copy_that_is_left_out_is_counted_once_however_long_the_message_waits() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    // The second copy's name is none that Kafka takes.
    let rules = r#"rules:
  - {name: origin, mqtt: "copy/+", kafka: {topic: t}}
  - {name: copy, mqtt: "copy/{k}", also: true, direction: publish, kafka: {topic: "copy-{k}"}, on_error: skip}"#;
    let stage = Stage::start(fake, rules).await;
    let mut device = stage.v5("copies").await;
    // It waits until the topic is known.
    device.publish("copy/é", 1, 1, "x").await;
    assert_eq!(device.line().await, "puback 1");
    let series = r#"records_skipped_total{rule="copy",reason="illegal_kafka_topic"}"#;
    assert_eq!(stage.metric(series), 1);
}

#[tokio::test]
async fn a_kafka_topic_that_does_not_exist_is_refused_or_skipped_by_its_rule() {
    let stage = stage().await;
    let mut five = stage.v5("five").await;
    five.publish("lost/a", 1, 1, "x").await;
    assert_eq!(five.line().await, "puback 1 0x83 no_such_topic");
    five.publish("lost/a", 2, 2, "x").await;
    assert_eq!(five.line().await, "pubrec 2 0x83 no_such_topic");
    five.publish("lost/a", 0, 0, "x").await;
    five.publish("skipped-lost/a", 1, 3, "x").await;
    assert_eq!(five.line().await, "puback 3");
    assert_eq!(stage.metric("refusals_total{reason=\"no_such_topic\"}"), 4);

    let mut four = stage.v4("four").await;
    four.publish("skipped-lost/a", 1, 3, "x").await;
    assert_eq!(four.line().await, "puback 3");
    four.publish("lost/a", 0, 0, "x").await;
    four.publish("lost/a", 1, 1, "x").await;
    assert_eq!(four.rest().await, [] as [&str; 0], "3.1.1 has no word for it but the end");
    // The topic appears: the next message goes through.
    stage.fake.topic("nowhere", 1);
    until("the topic is known", || {
        matches!(stage.cluster.topic("nowhere"), mqtt_kafka_proxy::upstream::TopicState::Ready(_))
    })
    .await;
    five.publish("lost/a", 1, 4, "found").await;
    assert_eq!(five.line().await, "puback 4");
}

/// Kafka's code, and what a version 5 device is told.
const REFUSALS: &[(i16, &str)] = &[
    (29, "0x87 TOPIC_AUTHORIZATION_FAILED"),
    (31, "0x87 CLUSTER_AUTHORIZATION_FAILED"),
    // 0x95 stands in no PUBACK (§3.4.2.1).
    (10, "0x83 MESSAGE_TOO_LARGE"),
    (18, "0x83 RECORD_LIST_TOO_LARGE"),
    (87, "0x83 INVALID_RECORD"),
];

#[tokio::test]
async fn refusals_of_kafka_become_the_reason_codes_of_the_contract() {
    let stage = stage().await;
    for (code, told) in REFUSALS {
        let mut five = stage.v5("five").await;
        for (qos, name) in [(1, "puback"), (2, "pubrec")] {
            stage.fake.world().produce_faults.push_back(Fault::Code(*code));
            five.publish("zero/a", qos, 5, "refused").await;
            assert_eq!(five.line().await, format!("{name} 5 {told}"));
        }
        stage.fake.world().produce_faults.push_back(Fault::Code(*code));
        five.publish("skipped/a", 1, 6, "skipped").await;
        assert_eq!(five.line().await, "puback 6");
        let mut four = stage.v4("four").await;
        stage.fake.world().produce_faults.push_back(Fault::Code(*code));
        four.publish("zero/a", 1, 5, "refused").await;
        assert_eq!(four.rest().await, [] as [&str; 0]);
    }
    assert_eq!(stage.fake.all_values("t"), ["warm"]);
}

#[tokio::test]
async fn a_rule_may_acknowledge_on_receipt() {
    let stage = stage().await;
    stage.fake.hold_produce(&[1, 2]);
    for mut device in [stage.v5("five").await, stage.v4("four").await] {
        device.publish("receipt/a", 1, 1, "early").await;
        assert_eq!(device.line().await, "puback 1");
        device.publish("receipt/a", 2, 2, "early").await;
        assert_eq!(device.line().await, "pubrec 2");
        // Behind one that waits, the order of acknowledgements holds.
        device.publish("zero/a", 1, 3, "late").await;
        device.publish("receipt/a", 1, 4, "early").await;
        assert_eq!(device.fence().await, [] as [&str; 0]);
    }
}

#[tokio::test]
async fn what_no_rule_maps_is_refused_or_dropped() {
    for (unmapped, five_told, five_sub) in [
        ("reject", "puback 1 0x90 unmapped", "suback 1 0x8f"),
        ("drop", "puback 1", "suback 1 1"),
    ] {
        let fake = Fake::start(1).await;
        fake.topic("t", 2);
        let stage = Stage::start(fake, &format!("{RULES}\nunmapped: {unmapped}")).await;
        let mut five = stage.v5("five").await;
        five.publish("stray", 0, 0, "x").await;
        five.publish("stray", 1, 1, "x").await;
        assert_eq!(five.line().await, five_told);
        five.send_subscribe(&relay_stage::device::subscribe("stray", 1)).await;
        assert_eq!(five.line().await, five_sub);
        assert_eq!(stage.metric("refusals_total{reason=\"unmapped\"}"), 3);
        let mut four = stage.v4("four").await;
        four.send_subscribe(&relay_stage::device::subscribe("stray", 1)).await;
        assert_eq!(four.line().await, if unmapped == "drop" { "suback 1 1" } else { "suback 1 0x80" });
        four.publish("stray", 1, 1, "x").await;
        let expected: &[&str] = if unmapped == "drop" { &["puback 1"] } else { &[] };
        four.disconnect(0).await;
        assert_eq!(four.rest().await, expected);
        // Each once: that a client of 3.1.1 is answered by the end of its connection is no second refusal.
        assert_eq!((stage.metric("refusals_total{reason=\"unmapped\"}"), stage.refusals()), (5, 5));
    }
}

#[tokio::test]
async fn after_the_delivery_timeout_the_outcome_is_unknown() {
    let fake = Fake::start(1).await;
    fake.topic("t", 2);
    let change = |config: &mut mqtt_kafka_proxy::config::Config| {
        config.kafka.producer.delivery_timeout = Duration::from_millis(300);
    };
    let stage = Stage::with(fake, RULES, change).await;
    stage.fake.world().produce_always = Some(Fault::CloseBefore);
    let mut five = stage.v5("five").await;
    five.publish("zero/a", 1, 1, "x").await;
    assert_eq!(five.line().await, "puback 1 0x83 unknown_outcome");
    // QoS 2 must be sent again to learn its fate, and so must everything of 3.1.1.
    five.publish("zero/a", 2, 2, "x").await;
    assert_eq!(five.rest().await, ["disconnect 0x83"]);
    for qos in [1, 2] {
        let mut four: Device = stage.v4("four").await;
        four.publish("zero/a", qos, 2, "x").await;
        assert_eq!(four.rest().await, [] as [&str; 0]);
    }
    assert_eq!(
        (stage.metric("refusals_total{reason=\"kafka_unavailable\"}"), stage.refusals()),
        (4, 4)
    );
}

#[tokio::test]
async fn a_rule_that_maps_one_way_says_what_becomes_of_the_other() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = r#"rules:
  - {name: commands, direction: subscribe, mqtt: "c/{key}", kafka: {topic: t}, unmapped: drop}
  - {name: alarms, direction: publish, mqtt: "a/+", kafka: {topic: t}, unmapped: drop}"#;
    let stage = Stage::start(fake, rules).await;
    let mut five = stage.v5("five").await;
    five.publish("c/1", 1, 1, "x").await;
    assert_eq!(five.line().await, "puback 1");
    five.publish("d/1", 1, 2, "x").await;
    assert_eq!(five.line().await, "puback 2 0x90 unmapped");
    for (filter, told) in [("a/1", "suback 1 1"), ("b/1", "suback 1 0x8f")] {
        five.send_subscribe(&relay_stage::device::subscribe(filter, 1)).await;
        assert_eq!(five.line().await, told);
    }
    assert_eq!(stage.metric("refusals_total{reason=\"unmapped\"}"), 4);
    assert_eq!(stage.fake.all_values("t"), [] as [&str; 0]);
}

/// By the vectors of Kafka's own tests murmur2 is even for "21" and odd for "abc": of two partitions they have one each.
#[tokio::test]
async fn when_a_topic_grows_keys_move_with_new_records_only() {
    let fake = Fake::start(1).await;
    fake.topic("keyed", 1);
    let rules = r#"rules: [{name: keyed, mqtt: "keyed/{k}", kafka: {topic: keyed, key: "{k}"}}]"#;
    let stage = Stage::start(fake, rules).await;
    let mut device = stage.v5("d").await;
    device.publish("keyed/abc", 1, 1, "abc before").await;
    assert_eq!(device.line().await, "puback 1");
    device.publish("keyed/21", 1, 2, "21 before").await;
    assert_eq!(device.line().await, "puback 2");
    // On its way while the topic grows: its sequence is one of its partition.
    stage.fake.world().produce_always = Some(Fault::CloseBefore);
    let attempts = stage.fake.seen(ApiKey::Produce);
    device.publish("keyed/abc", 1, 3, "abc on its way").await;
    until("it was sent", || stage.fake.seen(ApiKey::Produce) > attempts).await;
    stage.fake.grow("keyed");
    let grown = || matches!(stage.cluster.topic("keyed"), TopicState::Ready(topic) if topic.partitions.len() == 2);
    until("it is known to have grown", grown).await;
    device.publish("keyed/abc", 1, 4, "abc after").await;
    device.publish("keyed/21", 1, 5, "21 after").await;
    stage.fake.world().produce_always = None;
    for number in 3..=5 {
        assert_eq!(device.line().await, format!("puback {number}"));
    }
    assert_eq!(
        stage.fake.values("keyed", 0),
        ["abc before", "21 before", "abc on its way", "21 after"]
    );
    assert_eq!(stage.fake.values("keyed", 1), ["abc after"]);
}
