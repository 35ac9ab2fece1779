//! Subscriptions over Kafka topics that are only known by the form of their names: those that are there, and those that come.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{sync::Arc, time::Duration};

use fake_broker::{Fake, client::until};
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, subscribe, taking},
};

const RULES: &str = r#"rules:
  - {name: plants, direction: subscribe, mqtt: "plants/{site}/{key}", qos: 1, kafka: {topic: "plant-{site}"}}
  - {name: both, mqtt: "halls/{hall}/{x}", qos: 1, kafka: {topic: "hall-{hall}", key: "{x}"}}
  - {name: made, direction: subscribe, mqtt: "made/{key}", qos: 1, kafka: {topic: "made-{site}"}, transform_back: '"\($site) \(.)"'}
sessions: {expiry: {}}"#;

/// How soon an instance lists the topics anew.
const AGE: Duration = Duration::from_millis(200);

async fn stage_with(topics: &[&str]) -> Stage {
    let fake = Fake::start(1).await;
    topics.iter().for_each(|topic| fake.topic(topic, 1));
    fake.topic("mqtt-sessions", 1);
    on(Arc::new(fake)).await
}

async fn on(fake: Arc<Fake>) -> Stage {
    Stage::with(fake, RULES, |config| config.kafka.metadata_max_age = AGE).await
}

/// The same, which lists topics only when somebody asks.
async fn slow_stage(topics: &[&str]) -> Stage {
    let fake = Fake::start(1).await;
    topics.iter().for_each(|topic| fake.topic(topic, 1));
    fake.topic("mqtt-sessions", 1);
    Stage::start(fake, RULES).await
}

/// A device whose session outlives its connections.
async fn back(stage: &Stage, client: &str) -> Device {
    let mut connect: v5::Connect = taking(client, 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    Device::connected_as(stage.address, 5, &connect).await
}

/// Takes and acknowledges messages, in this order.
async fn takes(device: &mut Device, messages: &[&str]) {
    for message in messages {
        let id = device.message(message).await;
        device.puback(id).await;
    }
}

#[tokio::test]
async fn a_filter_reads_the_topics_that_it_leaves_open_and_no_others() {
    let stage = stage_with(&["plant-a", "plant-b", "other"]).await;
    let mut all = stage.v5("all").await;
    all.subscribed("plants/+/k", 1).await;
    let mut one = stage.v5("one").await;
    one.subscribed("plants/a/k", 1).await;
    stage.fake.record("plant-a", 0, "k", "1");
    takes(&mut all, &["plants/a/k q1 1"]).await;
    takes(&mut one, &["plants/a/k q1 1"]).await;
    stage.fake.record("plant-b", 0, "k", "2");
    stage.fake.record("plant-b", 0, "other", "3");
    takes(&mut all, &["plants/b/k q1 2"]).await;
    assert!(one.fence().await.is_empty() && all.fence().await.is_empty());
    // What nobody reads is not fetched.
    let polled = stage.fake.world().polls.iter().flatten().any(|(topic, _)| topic == "other");
    assert!(!polled);
}

#[tokio::test]
async fn a_program_is_told_what_the_topic_of_each_record_holds() {
    let stage = stage_with(&["made-a", "made-b"]).await;
    let mut all = stage.v5("all").await;
    all.subscribed("made/+", 1).await;
    stage.fake.record("made-a", 0, "k", "1");
    takes(&mut all, &["made/k q1 \"a 1\""]).await;
    stage.fake.record("made-b", 0, "k", "2");
    takes(&mut all, &["made/k q1 \"b 2\""]).await;
}

#[tokio::test]
async fn a_topic_that_comes_later_is_read_from_its_first_record() {
    let stage = stage_with(&[]).await;
    let mut device = stage.v5("device").await;
    device.subscribed("plants/#", 1).await;
    stage.fake.topic("plant-new", 2);
    stage.fake.record("plant-new", 0, "k", "1");
    stage.fake.record("plant-new", 0, "k", "2");
    takes(&mut device, &["plants/new/k q1 1", "plants/new/k q1 2"]).await;
    stage.fake.record("plant-new", 1, "k", "3");
    takes(&mut device, &["plants/new/k q1 3"]).await;
    device.unsubscribe("plants/#").await;
    stage.fake.record("plant-new", 0, "k", "4");
    stage.fake.topic("plant-newer", 1);
    stage.fake.record("plant-newer", 0, "k", "5");
    // Nobody wants to know of names any more.
    let listings = || stage.fake.world().listings;
    let before = listings();
    stage.fake.topic("plant-b", 1);
    let mut other = stage.v5("other").await;
    other.subscribed("plants/b/#", 1).await;
    stage.fake.record("plant-b", 0, "k", "6");
    takes(&mut other, &["plants/b/k q1 6"]).await;
    assert!(device.fence().await.is_empty());
    assert!(listings() <= before + 1, "one may have been on its way");
}

/// Another client reads it by then, and is somewhere else in it.
#[tokio::test]
async fn whoever_finds_a_topic_late_has_what_others_have_had() {
    let stage = slow_stage(&[]).await;
    let mut first = stage.v5("first").await;
    first.subscribed("plants/+/k", 1).await;
    stage.fake.topic("plant-a", 1);
    stage.fake.record("plant-a", 0, "k", "1");
    let mut second = stage.v5("second").await;
    second.subscribed("plants/a/k", 1).await;
    stage.fake.record("plant-a", 0, "k", "2");
    takes(&mut second, &["plants/a/k q1 2"]).await;
    // Has the topics listed.
    let mut third = stage.v5("third").await;
    third.subscribed("halls/#", 1).await;
    takes(&mut first, &["plants/a/k q1 1", "plants/a/k q1 2"]).await;
    assert!(second.fence().await.is_empty() && third.fence().await.is_empty());
}

/// The second subscription is the first of its connection to read the topic; the older one is not taken back afterwards.
#[tokio::test]
async fn two_subscriptions_of_one_client_meet_in_a_topic_that_comes() {
    for second in ["plants/a/#", "plants/+/l"] {
        let stage = slow_stage(&[]).await;
        let mut device = stage.v5("device").await;
        device.subscribed("plants/+/k", 1).await;
        stage.fake.topic("plant-a", 1);
        stage.fake.record("plant-a", 0, "k", "1");
        stage.fake.record("plant-a", 0, "l", "old");
        device.send_subscribe(&subscribe(second, 1)).await;
        let mut lines = Vec::new();
        let expected = if second == "plants/a/#" { 3 } else { 2 };
        while lines.len() < expected {
            let line = device.line().await;
            if line == "suback 1 1" {
                stage.fake.record("plant-a", 0, "l", "2");
                stage.fake.record("plant-a", 0, "m", "3");
                continue;
            }
            let (id, words) = line.strip_prefix("publish ").unwrap().split_once(' ').unwrap();
            lines.push(words.to_owned());
            device.puback(id.parse().unwrap()).await;
        }
        let all = ["plants/a/k q1 1", "plants/a/l q1 2", "plants/a/m q1 3"];
        assert_eq!(lines, all[..expected], "{second}");
        assert!(device.fence().await.is_empty());
    }
}

#[tokio::test]
async fn a_stored_session_has_what_came_in_topics_that_were_made_while_it_was_away() {
    let stage = stage_with(&["plant-a"]).await;
    let mut device = back(&stage, "device").await;
    device.subscribed("plants/+/k", 1).await;
    stage.fake.record("plant-a", 0, "k", "1");
    takes(&mut device, &["plants/a/k q1 1"]).await;
    stage.fake.topic("plant-b", 1);
    stage.fake.record("plant-b", 0, "k", "2");
    takes(&mut device, &["plants/b/k q1 2"]).await;
    device.disconnect(0).await;
    stage.fake.record("plant-b", 0, "k", "3");
    stage.fake.topic("plant-c", 1);
    stage.fake.record("plant-c", 0, "k", "4");
    let other = on(stage.fake.clone()).await;
    let mut device = back(&other, "device").await;
    let mut lines = Vec::new();
    for _ in 0..2 {
        let line = device.line().await;
        let (id, words) = line.strip_prefix("publish ").unwrap().split_once(' ').unwrap();
        lines.push(words.to_owned());
        device.puback(id.parse().unwrap()).await;
    }
    lines.sort();
    assert_eq!(lines, ["plants/b/k q1 3", "plants/c/k q1 4"]);
    // It looks out as before.
    stage.fake.topic("plant-d", 1);
    stage.fake.record("plant-d", 0, "k", "5");
    takes(&mut device, &["plants/d/k q1 5"]).await;
    assert!(device.fence().await.is_empty());
}

#[tokio::test]
async fn a_topic_that_cannot_be_seen_is_not_there_and_state_topics_are_nobodys() {
    const ALL: &str = r#"rules:
  - {name: any, direction: subscribe, mqtt: "t/{name}/{key}", qos: 1, kafka: {topic: "{name}"}}"#;
    let fake = Fake::start(1).await;
    for topic in ["open", "closed", "mqtt-retained", "__consumer_offsets"] {
        fake.topic(topic, 1);
    }
    fake.world().forbidden = Some("closed".to_owned());
    let stage = Stage::start(fake, ALL).await;
    let mut device = stage.v5("device").await;
    device.subscribed("#", 1).await;
    for topic in ["closed", "mqtt-retained", "__consumer_offsets"] {
        stage.fake.record(topic, 0, "k", "no");
    }
    stage.fake.record("open", 0, "k", "1");
    takes(&mut device, &["t/open/k q1 1"]).await;
    assert!(device.fence().await.is_empty());
    let polled = stage.fake.world().polls.iter().flatten().any(|(topic, _)| topic != "open");
    assert!(!polled);
}

#[tokio::test]
async fn a_topic_that_is_deleted_and_made_anew_is_read_from_its_first_record() {
    let stage = stage_with(&[]).await;
    let mut device = stage.v5("device").await;
    device.subscribed("plants/#", 1).await;
    for round in ["1", "2"] {
        stage.fake.topic("plant-a", 1);
        stage.fake.record("plant-a", 0, "k", round);
        takes(&mut device, &[&format!("plants/a/k q1 {round}")]).await;
        if round == "2" {
            break;
        }
        stage.fake.world().topics.remove("plant-a").unwrap();
        let missing = || matches!(stage.cluster.topic("plant-a"), mqtt_kafka_proxy::upstream::TopicState::Missing);
        until("it is missing", missing).await;
    }
}

#[tokio::test]
async fn a_shared_subscription_takes_topics_that_come_later() {
    let stage = stage_with(&["plant-a"]).await;
    let mut device = stage.v5("device").await;
    device.subscribed("$share/g/plants/+/k", 1).await;
    stage.fake.record("plant-a", 0, "k", "1");
    takes(&mut device, &["plants/a/k q1 1"]).await;
    stage.fake.topic("plant-b", 1);
    stage.fake.record("plant-b", 0, "k", "2");
    takes(&mut device, &["plants/b/k q1 2"]).await;
    stage.fake.record("plant-a", 0, "k", "3");
    takes(&mut device, &["plants/a/k q1 3"]).await;
    assert!(device.fence().await.is_empty());
    // One that begins without any.
    let mut none = stage.v5("none").await;
    none.subscribed("$share/h/halls/+/k", 1).await;
    stage.fake.topic("hall-1", 1);
    stage.fake.record("hall-1", 0, "k", "4");
    takes(&mut none, &["halls/1/k q1 4"]).await;
}

/// A device's own topic: what it publishes reaches those who subscribed by a wildcard.
#[tokio::test]
async fn what_devices_publish_to_topics_with_captures_comes_back_over_wildcards() {
    let stage = stage_with(&["hall-1", "hall-2"]).await;
    let mut reader = stage.v5("reader").await;
    reader.subscribed("halls/+/x", 1).await;
    let mut writer = stage.v5("writer").await;
    for (hall, id) in [("1", 1), ("2", 2)] {
        writer.publish(&format!("halls/{hall}/x"), 1, id, hall).await;
        assert_eq!(writer.line().await, format!("puback {id}"));
        takes(&mut reader, &[&format!("halls/{hall}/x q1 {hall}")]).await;
    }
}
