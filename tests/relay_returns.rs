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
use mqtt_kafka_proxy::config::Config;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, level, subscribe, taking},
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
        .map(|number| v5::SubscribeFilter::new(format!("$share/h{number}/c/#"), level(1)))
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

/// No local, retain as published, its identifier, and that it stands already (retain handling 1).
#[tokio::test]
async fn the_options_of_a_subscription_go_on_at_another_instance() {
    let fake = fake().await;
    fake.topic("mqtt-retained", 1);
    let rules = RULES.replace(
        "rules:",
        "rules:\n  - {name: own, mqtt: \"o/{key}\", kafka: {topic: t, key: \"{key}\"}}",
    );
    let rules = rules
        .lines()
        .filter(|line| !line.contains("name: back"))
        .collect::<Vec<_>>()
        .join("\n");
    let retaining = |config: &mut Config| config.session.retain_available = true;
    let (first, second) = (
        Stage::with(fake.clone(), &rules, retaining).await,
        Stage::with(fake.clone(), &rules, retaining).await,
    );
    let mut others = first.v5("others").await;
    retained(&mut others, "o/a").await;
    let mut asked = subscribe("o/#", 1);
    asked.filters[0].nolocal = true;
    asked.filters[0].preserve_retain = true;
    asked.filters[0].retain_forward_rule = v5::RetainForwardRule::OnNewSubscribe;
    asked.properties = Some(v5::SubscribeProperties {
        id: Some(7),
        user_properties: Vec::new(),
    });
    let mut device = here(&first).await;
    device.send_subscribe(&asked).await;
    assert_eq!(device.line().await, "suback 1 1");
    let id = device.message("o/a q1 retain kept sub7").await;
    device.puback(id).await;
    assert!(device.fence().await.is_empty());
    leaves(device).await;
    let mut device = here(&second).await;
    device.publish("o/b", 1, 5, "its own").await;
    assert_eq!(device.line().await, "puback 5");
    let mut others = second.v5("others").await;
    retained(&mut others, "o/c").await;
    let id = device.message("o/c q1 retain kept sub7").await;
    device.puback(id).await;
    assert!(device.fence().await.is_empty(), "what it has published itself is not for it");
    device.send_subscribe(&asked).await;
    assert_eq!(device.line().await, "suback 1 1");
    assert!(device.fence().await.is_empty(), "the subscription is not new");
}

/// A retained message of QoS 1, which is there.
async fn retained(device: &mut Device, topic: &str) {
    let mut publish = v5::Publish::new(topic, level(1), "kept");
    (publish.pkid, publish.retain) = (3, true);
    device.send_publish(&publish).await;
    assert_eq!(device.line().await, "puback 3");
}

/// All of them were away while the messages came, and come back together, each at a speed of its own.
#[tokio::test]
async fn a_fleet_that_returns_costs_about_one_pass_over_the_log() {
    const MESSAGES: usize = 2_000;
    const FLEET: usize = 30;
    let stage = Stage::with(fake().await, RULES, |config| {
        config.kafka.consumer.fetch_size = 128 * 1024;
        config.sweeps.memory = 8 * 1024 * 1024;
    })
    .await;
    let connect = |number: usize| {
        let mut connect = staying(&format!("d{number}"));
        connect.properties.as_mut().unwrap().receive_maximum = Some(1 + number as u16 % 20);
        connect
    };
    for number in 0..FLEET {
        let mut device = Device::connected_as(stage.address, 5, &connect(number)).await;
        device.subscribed("c/#", 1).await;
        leaves(device).await;
    }
    for first in (0..MESSAGES).step_by(100) {
        let records: Vec<_> = (first..first + 100).map(|n| record("k", &format!("{n:<1000}"))).collect();
        stage.fake.write("t", 0, &Batch::of(&records).bytes());
    }
    let before = stage.metric("kafka_fetched_bytes_total");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..FLEET {
        let (address, connect) = (stage.address, connect(number));
        tasks.spawn(async move {
            let mut device = Device::connected_as(address, 5, &connect).await;
            takes(&mut device, 0..MESSAGES).await;
        });
    }
    tasks.join_all().await;
    let read = stage.metric("kafka_fetched_bytes_total") - before;
    let passes = read as f64 / (MESSAGES * 1_000) as f64;
    println!("a fleet of {FLEET} that returns: {passes:.2} passes over the log");
    assert!(passes < 2.0, "{passes}");
}

/// Rules by which the records of `t` come at QoS 2, unless they say otherwise.
const ONCE: &str = r#"rules:
  - {name: back, direction: subscribe, mqtt: "c/{key}", qos: 2, kafka: {topic: t}}
sessions: {expiry: {}}"#;

/// Writes a record for `c/k` that comes at QoS 1 whatever its rule says.
fn write_at_qos_1(stage: &Stage, value: &str) {
    let record = record("k", value).header("mqtt.qos", "1");
    stage.fake.write("t", 0, &Batch::of(&[record]).bytes());
}

/// The packet id of what cannot be had any more goes to the next message, in the same turn of the connection.
#[tokio::test]
async fn what_gets_the_packet_id_of_a_message_that_is_gone_stays_open() {
    let stage = Stage::start(fake().await, ONCE).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 2).await;
    write_at_qos_1(&stage, "gone");
    let former = device.message("c/k q1 gone").await;
    leaves(device).await;
    stage.fake.compact("t", 0, 0);
    stage.fake.record("t", 0, "k", "next");
    let mut device = here(&stage).await;
    let next = device.message("c/k q2 next").await;
    assert_eq!(next, former, "this is about packet ids that are used again");
    leaves(device).await;
    let mut device = here(&stage).await;
    assert_eq!(device.line().await, format!("publish {next} c/k q2 dup next"));
}

/// [MQTT-3.10.4-3]: what the server has begun to send it completes, though its client has unsubscribed, and whatever else it reads.
#[tokio::test]
async fn what_was_begun_is_completed_after_unsubscribe_and_a_lost_connection() {
    for (qos, other) in [(1, None), (2, None), (1, Some("c/other")), (2, Some("c/other"))] {
        let stage = Stage::start(fake().await, ONCE).await;
        let mut device = here(&stage).await;
        device.subscribed("c/k", qos).await;
        stage.fake.record("t", 0, "k", "begun");
        let id = device.message(&format!("c/k q{qos} begun")).await;
        device.unsubscribe("c/k").await;
        if let Some(other) = other {
            device.subscribed(other, qos).await;
        }
        drop(device);
        for _ in 0..2 {
            let mut device = here(&stage).await;
            assert_eq!(device.line().await, format!("publish {id} c/k q{qos} dup begun"), "{other:?}");
        }
        stage.fake.record("t", 0, "k", "not its own");
        let mut device = here(&stage).await;
        assert_eq!(device.line().await, format!("publish {id} c/k q{qos} dup begun"), "{other:?}");
        let answer = [if qos == 1 { 0x40 } else { 0x50 }, 2, 0, id as u8];
        device.bytes(&answer).await;
        if qos == 2 {
            assert_eq!(device.line().await, format!("pubrel {id}"));
            device.bytes(&[0x70, 2, 0, id as u8]).await;
        }
        leaves(device).await;
        assert!(here(&stage).await.fence().await.is_empty(), "it is over");
    }
}

/// The right is asked for what it was sent with: its record may come with more than its client may have.
#[tokio::test]
async fn what_was_begun_is_completed_by_the_right_to_what_it_was_sent_with() {
    let rules = format!("{ONCE}\nauthorization: [{{allow: [subscribe], topics: [\"c/#\"], qos: 1}}]");
    let stage = Stage::start(fake().await, &rules).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 1).await;
    stage.fake.record("t", 0, "k", "begun");
    let id = device.message("c/k q1 begun").await;
    device.unsubscribe("c/k").await;
    drop(device);
    assert_eq!(here(&stage).await.line().await, format!("publish {id} c/k q1 dup begun"));
}

/// The same of one who unsubscribes when it has come back, before its window let all of it come again.
#[tokio::test]
async fn what_was_begun_is_completed_though_its_client_unsubscribes_when_it_is_back() {
    let stage = Stage::start(fake().await, ONCE).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 1).await;
    write(&stage, 0..3);
    for number in 0..3 {
        device.message(&format!("c/k q1 {number}")).await;
    }
    leaves(device).await;
    // Nothing of this has begun.
    write(&stage, 3..5);
    let mut narrow = staying("d");
    narrow.properties.as_mut().unwrap().receive_maximum = Some(1);
    let mut device = Device::connected_as(stage.address, 5, &narrow).await;
    let first = device.message("c/k q1 dup 0").await;
    device.unsubscribe("c/k").await;
    device.puback(first).await;
    for number in 1..3 {
        let id = device.message(&format!("c/k q1 dup {number}")).await;
        device.puback(id).await;
    }
    assert!(device.fence().await.is_empty());
}

/// What cannot be had any more is released all the same.
#[tokio::test]
async fn what_was_begun_and_is_gone_is_released_after_unsubscribe() {
    let stage = Stage::start(fake().await, ONCE).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 2).await;
    stage.fake.record("t", 0, "k", "gone");
    let id = device.message("c/k q2 gone").await;
    device.unsubscribe("c/k").await;
    drop(device);
    stage.fake.record("t", 0, "k", "next");
    stage.fake.compact("t", 0, 0);
    assert_eq!(here(&stage).await.line().await, format!("pubrel {id}"));
}

/// Who returns late gets nothing older than `offline_retention`, whether or not a message was left open.
#[tokio::test]
async fn a_message_that_was_left_open_brings_nothing_back_that_is_too_old() {
    let rules = RULES.replace("topic: t}", "topic: t, offline_retention: 1h}");
    for acknowledges in [true, false] {
        let stage = Stage::start(fake().await, &rules).await;
        let aged = |value: &str| {
            let mut record = record("k", value);
            record.age_ms = 2 * 3_600_000;
            stage.fake.write("t", 0, &Batch::of(&[record]).bytes());
        };
        let mut device = here(&stage).await;
        device.subscribed("c/k", 1).await;
        aged("open");
        let id = device.message("c/k q1 open").await;
        if acknowledges {
            device.puback(id).await;
        }
        leaves(device).await;
        (0..5).for_each(|number| aged(&format!("too old {number}")));
        stage.fake.record("t", 0, "k", "young");
        let mut device = here(&stage).await;
        if !acknowledges {
            device.message("c/k q1 dup open").await;
        }
        device.message("c/k q1 young").await;
    }
}

/// Nor where Kafka does not say in time where that begins: its CONNECT is refused then, as where it does not say where a partition ends.
#[tokio::test]
async fn who_returns_while_kafka_does_not_say_what_is_too_old_is_not_let_in() {
    let rules = RULES.replace("topic: t}", "topic: t, offline_retention: 1h}");
    // Kafka's silence is known before CONNECT has waited for as long as it may.
    let brief = |config: &mut Config| config.kafka.request_timeout = Duration::from_secs(1);
    let stage = Stage::with(fake().await, &rules, brief).await;
    let mut device = here(&stage).await;
    device.subscribed("c/k", 1).await;
    leaves(device).await;
    let mut old = record("k", "too old");
    old.age_ms = 2 * 3_600_000;
    stage.fake.write("t", 0, &Batch::of(&[old]).bytes());
    stage.fake.record("t", 0, "k", "young");
    stage.fake.world().without_times = true;
    let mut device = Device::open(stage.address, 5).await;
    device.connect(&staying("d")).await;
    assert_eq!(device.line().await, "connack 0x88");
    stage.fake.world().without_times = false;
    here(&stage).await.message("c/k q1 young").await;
}
