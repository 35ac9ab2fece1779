//! Kafka topics that come, go, and grow while devices are subscribed.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{sync::Arc, time::Duration};

use fake_broker::{Fake, client::until};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::TopicState;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, subscribe, taking},
};
use tokio::time::Instant;

const RULES: &str = r#"rules:
  - {name: more, mqtt: "m/+", qos: 1, kafka: {topic: late}}
  - {name: cmds, direction: subscribe, mqtt: "c/{key}", qos: 1, kafka: {topic: cmds}}
  - {name: late, direction: subscribe, mqtt: "l/{key}", qos: 1, kafka: {topic: late}}
sessions: {expiry: {}}"#;

/// A cluster with the topic `cmds`.
fn cluster(fake: Fake) -> Arc<Fake> {
    fake.topic("cmds", 1);
    fake.topic("mqtt-sessions", 1);
    Arc::new(fake)
}

async fn stage() -> Stage {
    on(cluster(Fake::start(1).await)).await
}

/// An instance that hears of what changes soon.
async fn on(fake: Arc<Fake>) -> Stage {
    Stage::with(fake, RULES, |config| config.kafka.metadata_max_age = Duration::from_millis(100)).await
}

/// CONNECT of a client whose session outlives its connections by ten minutes.
fn staying(client: &str) -> v5::Connect {
    let mut connect = taking(client, 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    connect
}

async fn back(stage: &Stage, client: &str) -> Device {
    Device::connected_as(stage.address, 5, &staying(client)).await
}

/// Takes and acknowledges messages of these payloads, in this order.
async fn takes<T: ToString>(device: &mut Device, payloads: impl IntoIterator<Item = T>) {
    for payload in payloads {
        let id = device.message(&format!("l/k q1 {}", payload.to_string())).await;
        device.puback(id).await;
    }
}

/// Takes `late` out of the cluster; returns once the proxy knows.
async fn take_away(stage: &Stage) -> impl FnOnce() + use<> {
    let fake = stage.fake.clone();
    let topic = fake.world().topics.remove("late").unwrap();
    until("it is missing", || matches!(stage.cluster.topic("late"), TopicState::Missing)).await;
    move || drop(fake.world().topics.insert("late".to_owned(), topic))
}

/// Writes records until one reaches a device, and then ten more: none is left out from the first that comes on.
async fn reaches(stage: &Stage, device: &mut Device) {
    let write = |number: usize| stage.fake.record("late", 0, "k", &format!("new {number}"));
    let told = |line: &str| match line.split_once(" l/k q1 new ") {
        Some((_, number)) => number.parse::<usize>().unwrap(),
        None => panic!("{line}"),
    };
    let (mut written, mut came) = (0, Vec::new());
    while came.is_empty() {
        write(written);
        written += 1;
        came.extend(device.fence().await.iter().map(|line| told(line)));
        // The interval of this poll.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(written < 20_000, "nothing comes");
    }
    for number in written..written + 10 {
        write(number);
    }
    while came.last() != Some(&(written + 9)) {
        came.push(told(&device.line().await));
    }
    assert_eq!(came, (came[0]..written + 10).collect::<Vec<_>>());
}

/// All that it holds was stored after the SUBSCRIBE, so it begins with the first record.
#[tokio::test]
async fn a_kafka_topic_that_appears_after_its_subscribers_is_delivered_from_its_first_record() {
    let stage = stage().await;
    let mut first = stage.v5("first").await;
    first.subscribed("#", 1).await;
    stage.fake.topic("late", 2);
    stage.fake.record("late", 0, "k", "one");
    stage.fake.record("late", 1, "k", "two");
    let mut got = vec![first.line().await, first.line().await];
    got.sort();
    assert!(got[0].ends_with("l/k q1 one") && got[1].ends_with("l/k q1 two"), "{got:?}");
    // Who comes when it is there begins as with any other.
    let mut second = stage.v5("second").await;
    second.subscribed("l/#", 1).await;
    stage.fake.record("late", 0, "k", "three");
    for device in [&mut first, &mut second] {
        let line = device.line().await;
        assert!(line.ends_with("l/k q1 three"), "{line}");
    }
}

/// It may be as old as it likes, and what it holds was not stored after the SUBSCRIBE.
#[tokio::test]
async fn a_kafka_topic_that_could_not_be_seen_is_delivered_from_where_it_ends_when_it_can() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    stage.fake.record("late", 0, "k", "old");
    stage.fake.world().forbidden = Some("late".to_owned());
    let mut device = stage.v5("first").await;
    device.subscribed("#", 1).await;
    stage.fake.world().forbidden = None;
    reaches(&stage, &mut device).await;
}

/// Somebody who subscribes when it can be seen has it read for those who wait, too.
#[tokio::test]
async fn who_subscribes_to_a_topic_that_can_be_seen_changes_nothing_for_those_who_wait_for_it() {
    for is_new in [true, false] {
        let stage = stage().await;
        if !is_new {
            stage.fake.topic("late", 1);
            stage.fake.record("late", 0, "k", "old");
            stage.fake.world().forbidden = Some("late".to_owned());
        }
        let mut waits = stage.v5("waits").await;
        waits.subscribed("#", 1).await;
        if is_new {
            stage.fake.topic("late", 1);
            stage.fake.record("late", 0, "k", "old");
        }
        stage.fake.world().forbidden = None;
        let mut second = stage.v5("second").await;
        loop {
            second.send_subscribe(&subscribe("l/#", 1)).await;
            match &*second.line().await {
                "suback 1 0x83" => {}
                line => break assert_eq!(line, "suback 1 1"),
            }
        }
        stage.fake.record("late", 0, "k", "new");
        assert!(second.line().await.ends_with("l/k q1 new"));
        if is_new {
            assert!(waits.line().await.ends_with("l/k q1 old"), "it was stored behind its SUBSCRIBE");
        }
        assert!(waits.line().await.ends_with("l/k q1 new"));
    }
}

#[tokio::test]
async fn a_topic_that_is_made_once_it_could_be_seen_is_delivered_from_its_first_record() {
    let stage = stage().await;
    stage.fake.world().forbidden = Some("late".to_owned());
    let mut device = stage.v5("first").await;
    device.subscribed("#", 1).await;
    stage.fake.world().forbidden = None;
    let asked = stage.fake.seen(ApiKey::Metadata);
    until("the right is known", || stage.fake.seen(ApiKey::Metadata) >= asked + 2).await;
    stage.fake.topic("late", 1);
    for number in 0..3 {
        stage.fake.record("late", 0, "k", &number.to_string());
    }
    takes(&mut device, 0..3).await;
}

/// Its SUBSCRIBE comes while there is no such topic, though the proxy has known one.
#[tokio::test]
async fn who_subscribes_while_a_topic_is_away_gets_all_of_one_that_is_made_anew() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    stage.fake.record("late", 0, "k", "old");
    until("it is known", || matches!(stage.cluster.topic("late"), TopicState::Ready(_))).await;
    drop(take_away(&stage).await);
    let mut device = stage.v5("first").await;
    device.subscribed("#", 1).await;
    stage.fake.topic("late", 1);
    for number in 0..3 {
        stage.fake.record("late", 0, "k", &number.to_string());
    }
    takes(&mut device, 0..3).await;
}

/// It cannot be told from one that could not be seen.
#[tokio::test]
async fn who_subscribes_while_a_topic_is_away_gets_what_is_new_if_the_same_comes_back() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    stage.fake.record("late", 0, "k", "old");
    until("it is known", || matches!(stage.cluster.topic("late"), TopicState::Ready(_))).await;
    let comes_back = take_away(&stage).await;
    let mut device = stage.v5("first").await;
    device.subscribed("#", 1).await;
    comes_back();
    reaches(&stage, &mut device).await;
}

/// A session that waits for a topic to appear gets all of it: while it is connected, and what comes while it is away, on any instance.
#[tokio::test]
async fn a_topic_that_appears_later_reaches_a_stored_session_from_its_first_record() {
    let stage = stage().await;
    let mut here = back(&stage, "here").await;
    here.subscribed("#", 1).await;
    let mut away = back(&stage, "away").await;
    away.subscribed("#", 1).await;
    away.disconnect(0).await;
    // It comes back before there is such a topic, and waits on.
    let mut away = back(&stage, "away").await;
    stage.fake.topic("late", 1);
    for number in 0..3 {
        stage.fake.record("late", 0, "k", &number.to_string());
    }
    for device in [&mut here, &mut away] {
        takes(device, 0..3).await;
    }
    away.disconnect(0).await;
    stage.fake.record("late", 0, "k", "meanwhile");
    let other = on(stage.fake.clone()).await;
    let mut away = back(&other, "away").await;
    takes(&mut away, ["meanwhile"]).await;
    // Nothing comes twice.
    takes(&mut here, ["meanwhile"]).await;
    assert!(away.fence().await.is_empty() && here.fence().await.is_empty());
}

/// A stored session goes on while a topic is away that it reads.
#[tokio::test]
async fn a_session_reads_a_topic_on_that_was_away_when_it_came_back() {
    for is_same in [true, false] {
        let stage = stage().await;
        stage.fake.topic("late", 1);
        let mut device = back(&stage, "d").await;
        device.subscribed("l/#", 1).await;
        for number in 0..5 {
            stage.fake.record("late", 0, "k", &number.to_string());
        }
        takes(&mut device, 0..5).await;
        device.disconnect(0).await;
        // Written while it is away.
        stage.fake.record("late", 0, "k", "5");
        let comes_back = take_away(&stage).await;
        let mut device = back(&stage, "d").await;
        // As many clients do at each CONNECT.
        device.subscribed("l/#", 1).await;
        let first = if is_same { 5 } else { 6 };
        if is_same {
            comes_back();
        } else {
            stage.fake.topic("late", 1);
        }
        for number in 6..10 {
            stage.fake.record("late", 0, "k", &number.to_string());
        }
        takes(&mut device, first..10).await;
        assert!(device.fence().await.is_empty());
        device.disconnect(0).await;
        let mut device = back(&stage, "d").await;
        assert!(device.fence().await.is_empty(), "all of it was acknowledged");
        stage.fake.record("late", 0, "k", "10");
        takes(&mut device, [10]).await;
    }
}

/// What waits for a topic ends with its subscription.
#[tokio::test]
async fn a_session_that_unsubscribes_while_a_topic_is_away_gets_nothing_of_it() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    let mut device = back(&stage, "d").await;
    device.subscribed("l/#", 1).await;
    device.subscribed("c/#", 1).await;
    device.disconnect(0).await;
    let comes_back = take_away(&stage).await;
    let mut device = back(&stage, "d").await;
    let mut other = stage.v5("other").await;
    other.subscribed("#", 1).await;
    device.unsubscribe("l/#").await;
    comes_back();
    reaches(&stage, &mut other).await;
    assert!(device.fence().await.is_empty());
    stage.fake.record("cmds", 0, "k", "x");
    assert!(device.line().await.ends_with("c/k q1 x"));
}

/// How many partitions of `late` an instance knows.
fn known(stage: &Stage) -> usize {
    match stage.cluster.topic("late") {
        TopicState::Ready(topic) => topic.partitions.len(),
        other => panic!("{other:?}"),
    }
}

/// Sent by one instance, and not acknowledged: the client goes over to one that has not heard of the new partition yet. It asks at once, and
/// if Kafka does not tell, it sends the message when it does.
#[tokio::test]
async fn what_is_open_of_a_new_partition_is_sent_again_by_an_instance_that_did_not_know_it() {
    for is_told in [true, false] {
        let fake = cluster(Fake::start(1).await);
        fake.topic("late", 1);
        // It asks anew after a minute.
        let slow = Stage::with(fake.clone(), &format!("{RULES}\nlimits: {{connect_timeout: 2s}}"), |_| ()).await;
        slow.v5("other").await.subscribed("l/#", 1).await;
        let quick = on(fake.clone()).await;
        let mut device = back(&quick, "d").await;
        device.subscribed("l/#", 1).await;
        fake.grow("late");
        fake.record("late", 1, "k", "0");
        fake.record("late", 1, "k", "1");
        takes(&mut device, [0]).await;
        let open = device.message("l/k q1 1").await;
        drop(device);
        assert_eq!([known(&quick), known(&slow)], [2, 1]);
        if !is_told {
            fake.world().fewer.insert("late".to_owned(), 1);
        }
        let mut device = back(&slow, "d").await;
        if !is_told {
            assert!(device.fence().await.is_empty());
            // So is it for who comes again meanwhile, and for who takes another subscription.
            drop(device);
            device = back(&slow, "d").await;
            device.subscribed("c/#", 1).await;
            device.unsubscribe("c/#").await;
            fake.world().fewer.clear();
            // It asks anew.
            let TopicState::Ready(topic) = slow.cluster.topic("late") else {
                panic!()
            };
            slow.cluster.topic_with(topic, 1, Instant::now() + Duration::from_secs(10)).await;
        }
        assert_eq!(device.message("l/k q1 dup 1").await, open);
        device.puback(open).await;
        fake.record("late", 1, "k", "2");
        takes(&mut device, [2]).await;
        assert!(device.fence().await.is_empty());
    }
}

/// The partition comes while the session that returns has asked where its own end, and others have read it by then.
#[tokio::test]
async fn a_session_that_returns_while_a_topic_grows_misses_nothing() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    let mut here = back(&stage, "here").await;
    here.subscribed("l/#", 1).await;
    let mut away = back(&stage, "away").await;
    away.subscribed("l/#", 1).await;
    away.disconnect(0).await;
    stage.fake.offsets_held.send_replace(true);
    let asked = stage.fake.seen(ApiKey::ListOffsets);
    let mut away = Device::open(stage.address, 5).await;
    away.connect(&staying("away")).await;
    until("it has asked", || stage.fake.seen(ApiKey::ListOffsets) > asked).await;
    stage.fake.grow("late");
    stage.fake.record("late", 1, "k", "young");
    takes(&mut here, ["young"]).await;
    stage.fake.offsets_held.send_replace(false);
    assert_eq!(away.line().await, "connack 0x00");
    takes(&mut away, ["young"]).await;
    stage.fake.record("late", 1, "k", "younger");
    takes(&mut away, ["younger"]).await;
}

/// Of a topic that could not be seen the group has committed nothing, and what it holds is old.
#[tokio::test]
async fn a_shared_subscription_begins_a_topic_that_could_not_be_seen_where_it_ends_when_it_can() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    stage.fake.record("late", 0, "k", "old");
    stage.fake.world().forbidden = Some("late".to_owned());
    let mut device = stage.v5("first").await;
    device.subscribed("$share/g/#", 1).await;
    stage.fake.world().forbidden = None;
    reaches(&stage, &mut device).await;
}

/// With the topic Kafka deletes what groups have committed of it.
#[tokio::test]
async fn a_shared_subscription_begins_a_topic_that_was_made_anew_with_its_first_record() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    for number in 0..3 {
        stage.fake.record("late", 0, "k", &number.to_string());
    }
    let mut device = stage.v5("first").await;
    device.subscribed("$share/g/#", 1).await;
    drop(take_away(&stage).await);
    until("the group has given it up", || {
        let world = stage.fake.world();
        let mut members = world.groups.groups.values().flat_map(|group| group.members.values());
        members.all(|member| !member.assignment.windows(4).any(|name| name == b"late"))
    })
    .await;
    for group in stage.fake.world().groups.groups.values_mut() {
        group.offsets.retain(|(topic, _), _| topic != "late");
    }
    stage.fake.topic("late", 1);
    for number in 0..3 {
        stage.fake.record("late", 0, "k", &number.to_string());
    }
    takes(&mut device, 0..3).await;
}

/// Nobody has read it since it was deleted, so nobody knows.
#[tokio::test]
async fn a_session_comes_back_to_a_topic_that_was_just_deleted() {
    let stage = Stage::start(cluster(Fake::start(1).await), RULES).await;
    stage.fake.topic("late", 1);
    let mut device = back(&stage, "d").await;
    device.subscribed("#", 1).await;
    stage.fake.record("late", 0, "k", "0");
    takes(&mut device, [0]).await;
    device.disconnect(0).await;
    stage.fake.world().topics.remove("late").unwrap();
    let mut device = back(&stage, "d").await;
    let mut other = stage.v5("other").await;
    other.subscribed("#", 1).await;
    stage.fake.topic("late", 1);
    stage.fake.record("late", 0, "k", "new");
    for device in [&mut device, &mut other] {
        takes(device, ["new"]).await;
    }
}

/// The same of those who come.
#[tokio::test]
async fn who_subscribes_to_a_topic_that_was_just_deleted_gets_all_of_the_next() {
    for filter in ["#", "$share/g/#"] {
        let stage = Stage::start(cluster(Fake::start(1).await), RULES).await;
        stage.fake.topic("late", 1);
        stage.fake.record("late", 0, "k", "old");
        until("it is known", || matches!(stage.cluster.topic("late"), TopicState::Ready(_))).await;
        stage.fake.world().topics.remove("late").unwrap();
        let mut device = stage.v5("first").await;
        device.subscribed(filter, 1).await;
        stage.fake.topic("late", 1);
        for number in 0..3 {
            stage.fake.record("late", 0, "k", &number.to_string());
        }
        takes(&mut device, 0..3).await;
    }
}

/// What was sent and not acknowledged when its topic went away is sent again when it is back: with the same packet id if the topic only
/// could not be seen, otherwise with another, since the client's window is not held for what may be gone for good.
#[tokio::test]
async fn what_was_not_acknowledged_of_a_topic_that_was_away_is_sent_again() {
    for is_hidden in [true, false] {
        let stage = stage().await;
        stage.fake.topic("late", 1);
        let mut device = back(&stage, "d").await;
        device.subscribed("l/#", 1).await;
        for number in 0..4 {
            stage.fake.record("late", 0, "k", &number.to_string());
        }
        let mut open = Vec::new();
        for number in 0..4 {
            open.push(device.message(&format!("l/k q1 {number}")).await);
        }
        // The first and the third are acknowledged.
        device.puback(open[0]).await;
        device.puback(open[2]).await;
        device.disconnect(0).await;
        let comes_back = take_away(&stage).await;
        let stage = if is_hidden {
            // Another instance, which has never seen it.
            stage.fake.world().forbidden = Some("late".to_owned());
            on(stage.fake.clone()).await
        } else {
            stage
        };
        let mut device = back(&stage, "d").await;
        assert!(device.fence().await.is_empty());
        comes_back();
        stage.fake.world().forbidden = None;
        for (number, former) in [(1, open[1]), (3, open[3])] {
            let flag = if is_hidden { " dup" } else { "" };
            let id = device.message(&format!("l/k q1{flag} {number}")).await;
            assert!(!is_hidden || id == former);
            device.puback(id).await;
        }
        stage.fake.record("late", 0, "k", "4");
        takes(&mut device, [4]).await;
        device.disconnect(0).await;
        let mut device = back(&stage, "d").await;
        assert!(device.fence().await.is_empty(), "all of it was acknowledged");
    }
}

/// A session has one place in a log, for all of its subscriptions.
#[tokio::test]
async fn another_subscription_to_a_topic_that_a_session_waits_for_doubles_and_loses_nothing() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    let mut device = back(&stage, "d").await;
    device.subscribed("l/#", 1).await;
    // Somebody else has it read meanwhile.
    let mut other = stage.v5("other").await;
    other.subscribed("l/#", 0).await;
    stage.fake.record("late", 0, "k", "0");
    takes(&mut device, [0]).await;
    device.disconnect(0).await;
    stage.fake.record("late", 0, "k", "1");
    let comes_back = take_away(&stage).await;
    let mut device = back(&stage, "d").await;
    device.subscribed("#", 1).await;
    comes_back();
    stage.fake.record("late", 0, "k", "2");
    takes(&mut device, [1, 2]).await;
    stage.fake.record("late", 0, "k", "3");
    takes(&mut device, [3]).await;
    assert!(device.fence().await.is_empty());
}

/// Who has waited for it left before it came.
#[tokio::test]
async fn a_topic_that_comes_when_nobody_waits_for_it_any_more_grows_for_those_who_subscribe_later() {
    let stage = stage().await;
    stage.fake.topic("late", 1);
    let mut device = back(&stage, "d").await;
    device.subscribed("l/#", 1).await;
    device.subscribed("c/#", 1).await;
    device.disconnect(0).await;
    let comes_back = take_away(&stage).await;
    let mut device = back(&stage, "d").await;
    device.unsubscribe("l/#").await;
    comes_back();
    until("it is back", || matches!(stage.cluster.topic("late"), TopicState::Ready(_))).await;
    device.fence().await;
    let mut later = stage.v5("later").await;
    later.subscribed("l/#", 1).await;
    stage.fake.grow("late");
    stage.fake.record("late", 1, "k", "young");
    takes(&mut later, ["young"]).await;
    assert!(device.fence().await.is_empty());
}
