//! What a stored session finds when it comes back: its shared subscriptions, its places in logs that changed meanwhile, its options.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{sync::Arc, time::Duration};

use fake_broker::{
    Fake,
    client::until,
    records::{Batch, Record, record},
};
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, subscribe, taking},
};

const RULES: &str = r#"rules:
  - {name: back, direction: subscribe, mqtt: "c/{key}", qos: 1, kafka: {topic: t}}
sessions: {expiry: {}}"#;

/// CONNECT of a client whose session outlives its connections by ten minutes.
fn staying(client: &str) -> v5::Connect {
    let mut connect = taking(client, 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    connect
}

async fn fake() -> Arc<Fake> {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    Arc::new(fake)
}

async fn here(stage: &Stage) -> Device {
    Device::connected_as(stage.address, 5, &staying("d")).await
}

/// A DISCONNECT, which has been taken.
async fn leaves(mut device: Device) {
    device.disconnect(0).await;
    assert_eq!(device.rest().await, [""; 0]);
}

/// Writes records with these numbers, for `c/k`.
fn write(stage: &Stage, numbers: std::ops::Range<usize>) {
    for number in numbers {
        stage.fake.record("t", 0, "k", &number.to_string());
    }
}

async fn takes(device: &mut Device, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let id = device.message(&format!("c/k q1 {number}")).await;
        device.puback(id).await;
    }
}

/// A session that has settled so many records of `c/k` and is gone.
async fn settled_and_gone(records: usize) -> Stage {
    let stage = Stage::start(fake().await, RULES).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 1).await;
    write(&stage, 0..records);
    takes(&mut device, 0..records).await;
    leaves(device).await;
    stage
}

async fn cut_off(stage: &Stage, end: i64) {
    stage.fake.cut_off("t", 0, 1, end);
    stage.counted("kafka_log_truncations_total", 1).await;
}

/// Kafka keeps the first member of a group waiting for others, for three seconds by default. One after the other, four shared subscriptions
/// would outlast `connect_timeout`; the groups are empty again once the session is refused, and so it would go for ever.
#[tokio::test]
async fn the_groups_of_all_shared_subscriptions_of_a_client_are_joined_at_once() {
    let stage = Stage::with(fake().await, &format!("{RULES}\nlimits: {{connect_timeout: 3s}}"), |config| {
        config.kafka.producer.delivery_timeout = Duration::from_secs(3);
    })
    .await;
    let mut device = here(&stage).await;
    for number in 0..5 {
        device.subscribed(&format!("$share/g{number}/c/#"), 1).await;
    }
    leaves(device).await;
    until("the groups are left", || stage.metric("shared_memberships") == 0).await;
    stage.fake.world().groups.initial_delay = Duration::from_secs(1);
    let mut device = here(&stage).await;
    let mut others = subscribe("$share/h0/c/#", 1);
    others.filters = (0..5)
        .map(|number| v5::SubscribeFilter::new(format!("$share/h{number}/c/#"), relay_stage::device::level(1)))
        .collect();
    device.send_subscribe(&others).await;
    assert_eq!(device.line().await, "suback 1 1,1,1,1,1");
}

/// It gets nothing before it leaves: that its place has gone back with the log is told all the same.
#[tokio::test]
async fn a_place_that_went_back_with_the_log_is_written_down() {
    let stage = settled_and_gone(20).await;
    stage.fake.cut_off("t", 0, 1, 5);
    let mut device = here(&stage).await;
    assert!(device.fence().await.is_empty());
    leaves(device).await;
    write(&stage, 5..35);
    takes(&mut here(&stage).await, 5..35).await;
}

/// The same of one that is there as the log is cut off, and gets nothing more of it.
#[tokio::test]
async fn a_place_that_went_back_while_its_client_was_there_is_written_down() {
    let stage = settled_and_gone(20).await;
    let mut other = stage.v5("other").await;
    other.subscribed("c/other", 1).await;
    let mut device = here(&stage).await;
    assert!(device.fence().await.is_empty());
    cut_off(&stage, 5).await;
    // With the second the first was handed out to all.
    for number in 5..7 {
        stage.fake.record("t", 0, "other", &number.to_string());
        let id = other.message(&format!("c/other q1 {number}")).await;
        other.puback(id).await;
    }
    assert!(device.fence().await.is_empty());
    leaves(device).await;
    write(&stage, 7..35);
    takes(&mut here(&stage).await, 7..35).await;
}

/// The session has come back before, and nothing has come since.
#[tokio::test]
async fn what_stands_where_the_log_was_cut_off_is_new_to_a_session_that_got_nothing_yet() {
    let stage = settled_and_gone(20).await;
    let mut device = here(&stage).await;
    assert!(device.fence().await.is_empty());
    cut_off(&stage, 5).await;
    write(&stage, 5..30);
    takes(&mut device, 5..30).await;
}

/// A subscription starts at 10, the log ends at 5 then: once 5 and 6 are settled the session goes on at 7, whatever its start was.
#[tokio::test]
async fn a_start_that_lies_behind_a_log_that_was_cut_off_goes_back_with_it() {
    for away in [false, true] {
        let stage = Stage::start(fake().await, RULES).await;
        write(&stage, 0..10);
        let mut device = here(&stage).await;
        device.subscribed("c/k", 1).await;
        if away {
            leaves(device).await;
            stage.fake.cut_off("t", 0, 1, 5);
            device = here(&stage).await;
        } else {
            cut_off(&stage, 5).await;
        }
        write(&stage, 5..7);
        takes(&mut device, 5..7).await;
        leaves(device).await;
        write(&stage, 7..12);
        takes(&mut here(&stage).await, 7..12).await;
    }
}

/// A record for `c/u` that is so old.
fn aged(value: &str, age: Duration) -> Vec<u8> {
    let age_ms = age.as_millis() as i64;
    Batch::of(&[Record {
        age_ms,
        ..record("k", value)
    }])
    .bytes()
}

/// An operator adds a rule over a Kafka topic that is years old and starts the proxy anew: a session whose filter it meets gets what
/// came since its client left, and not those years.
#[tokio::test]
async fn a_session_gets_of_a_kafka_topic_that_a_rule_reads_now_what_is_younger_than_its_absence() {
    let fake = fake().await;
    fake.topic("u", 2);
    for number in 0..100 {
        fake.write("u", number % 2, &aged(&format!("old {number}"), Duration::from_secs(3600)));
    }
    let before = Stage::start(fake.clone(), RULES).await;
    let mut device = here(&before).await;
    device.subscribed("c/#", 1).await;
    leaves(device).await;
    for number in 0..3 {
        fake.record("u", 1, "k", &format!("new {number}"));
    }
    let more = RULES.replace(
        "sessions",
        "  - {name: more, direction: subscribe, mqtt: \"c/u/{key}\", qos: 1, kafka: {topic: u}}\nsessions",
    );
    let after = Stage::start(fake.clone(), &more).await;
    let mut device = here(&after).await;
    for number in 0..3 {
        let id = device.message(&format!("c/u/k q1 new {number}")).await;
        device.puback(id).await;
    }
    assert!(device.fence().await.is_empty());
    leaves(device).await;
    fake.record("u", 0, "k", "one more");
    let mut device = here(&after).await;
    device.message("c/u/k q1 one more").await;
    assert!(device.fence().await.is_empty());
}
