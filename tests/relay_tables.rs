//! A Kafka topic as a lookup table of programs: read at the start, kept live, and never taken for empty where it is not known.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::Duration;

use fake_broker::{
    Fake, Fault,
    client::until,
    records::{Batch, Record, record},
};
use mqtt_kafka_proxy::config::Config;
use relay_stage::{
    Stage,
    device::{Device, connect, will},
};

const RULES: &str = r#"rules:
  - name: told
    mqtt: "told/{vin}"
    kafka: {topic: t, key: "{vin}"}
    lookup: {vins: {topic: vins, memory: 4KiB}}
    transform: '{site: lookup("vins"; $vin)}'
  - name: skipped
    mqtt: "skipped/{vin}"
    on_error: skip
    kafka: {topic: t, key: "{vin}"}
    lookup: {vins: {topic: vins, memory: 4KiB}}
    transform: 'try lookup("vins"; $vin) catch "caught"'
  - name: buried
    mqtt: "buried/{vin}"
    on_error: {dead_letter: dead}
    kafka: {topic: t, key: "{vin}"}
    lookup: {mine: {topic: vins, memory: 4KiB}}
    transform: 'lookup("mine"; $vin) // "nothing"'
  - name: back
    direction: subscribe
    mqtt: "back/{key}"
    kafka: {topic: commands}
    lookup: {vins: {topic: vins, memory: 4KiB}}
    transform_back: '{site: lookup("vins"; $key), do: .}'
  - name: willed
    mqtt: "willed/{vin}"
    kafka: {topic: wills, key: "{vin}"}
    value: {payload: text, format: json}
    lookup: {vins: {topic: vins, memory: 4KiB}}
    transform: '[., lookup("vins"; $vin)]'
  - name: split
    direction: publish
    mqtt: "split/{vin}"
    kafka: {topic: t, key: "{vin}"}
    lookup: {vins: {topic: vins, memory: 4KiB}}
    transform: 'range(lookup("vins"; $vin)) | {n: ., text: ("x" * 20000)}'
  - {name: plain, mqtt: "plain/{k}", kafka: {topic: plain, key: "{k}"}}"#;

async fn fake(partitions: usize) -> Fake {
    let fake = Fake::start(1).await;
    for topic in ["t", "dead", "plain", "commands", "wills"] {
        fake.topic(topic, 1);
    }
    if partitions > 0 {
        fake.topic("vins", partitions);
    }
    fake
}

fn tombstone(key: &str) -> Vec<u8> {
    let none = Record {
        value: None,
        ..record(key, "")
    };
    Batch::of(&[none]).bytes()
}

/// What the table of the stage counts.
fn of(stage: &Stage, series: &str) -> u64 {
    stage.metric(&format!("lookup_table_{series}{{topic=\"vins\"}}"))
}

fn failures(stage: &Stage, rule: &str, reason: &str) -> u64 {
    stage.metric(&format!(r#"transform_failures_total{{rule="{rule}",reason="{reason}"}}"#))
}

/// Publishes to the rule that tells what the table has, and gives that.
async fn told(stage: &Stage, device: &mut Device, vin: &str) -> String {
    let before = stage.fake.all_values("t").len();
    device.publish(&format!("told/{vin}"), 1, 9, "{}").await;
    assert_eq!(device.line().await, "puback 9");
    stage.stored("t", before + 1).await.pop().unwrap()
}

/// Until the table has what was written.
async fn until_told(stage: &Stage, device: &mut Device, vin: &str, value: &str) {
    while told(stage, device, vin).await != value {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_topic_is_read_at_the_start_and_followed_from_then_on() {
    let fake = fake(3).await;
    fake.record("vins", 0, "a", r#""old""#);
    fake.record("vins", 0, "a", r#""Berlin""#);
    fake.record("vins", 1, "b", r#"{"x":[1]}"#);
    fake.record("vins", 1, "gone", "1");
    fake.write("vins", 1, &tombstone("gone"));
    fake.record("vins", 2, "c", "no json");
    let stage = Stage::start(fake, RULES).await;
    let mut device = stage.v5("five").await;
    // Whatever comes first waits for the table.
    assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":"Berlin"}"#);
    assert_eq!(told(&stage, &mut device, "b").await, r#"{"site":{"x":[1]}}"#);
    for nobody in ["gone", "c", "never"] {
        assert_eq!(told(&stage, &mut device, nobody).await, r#"{"site":null}"#);
    }
    assert_eq!(
        (of(&stage, "rows"), of(&stage, "complete"), of(&stage, "skipped_records_total")),
        (2, 1, 1)
    );
    assert!(of(&stage, "bytes") > 0 && of(&stage, "updated_timestamp_seconds") > 1_700_000_000);

    stage.fake.record("vins", 2, "c", r#""Rome""#);
    until_told(&stage, &mut device, "c", r#"{"site":"Rome"}"#).await;
    stage.fake.record("vins", 0, "a", r#""Oslo""#);
    until_told(&stage, &mut device, "a", r#"{"site":"Oslo"}"#).await;
    stage.fake.write("vins", 2, &tombstone("c"));
    until_told(&stage, &mut device, "c", r#"{"site":null}"#).await;
    stage.counted("lookup_table_rows{topic=\"vins\"}", 2).await;
    // What was aborted was never said.
    let lost = Batch::of(&[record("a", r#""lost""#)]).transaction(7, 0).bytes();
    let first = stage.fake.write("vins", 0, &lost);
    stage.fake.world().topics.get_mut("vins").unwrap().partitions[0]
        .aborted
        .push((7, first));
    stage.fake.write("vins", 0, &Batch::marker(7, false).bytes());
    stage.fake.record("vins", 0, "d", "1");
    until_told(&stage, &mut device, "d", r#"{"site":1}"#).await;
    assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":"Oslo"}"#);
    assert_eq!(failures(&stage, "told", "no_table"), 0);
}

/// The topic exists, and nothing of it can be read yet: what needs it waits, and nothing else does.
#[tokio::test]
async fn messages_wait_for_a_table_that_is_being_read() {
    let fake = fake(1).await;
    fake.record("vins", 0, "a", "1");
    fake.record("commands", 0, "a", r#""old""#);
    fake.offsets_held.send_replace(true);
    let stage = Stage::start(fake, RULES).await;
    assert_eq!(*stage.relay.waits_for().borrow(), Some("starting"));
    let mut waits_for = stage.relay.waits_for();
    let reads = |what: &Option<&str>| *what == Some("topics of lookup tables are being read");
    waits_for.wait_for(reads).await.unwrap();
    let mut greeting = connect("five");
    greeting.last_will = will("willed/a");
    let mut device = Device::connected_as(stage.address, 5, &greeting).await;
    let mut other = stage.v5("other").await;
    device.publish("told/a", 1, 1, "{}").await;
    device.publish("buried/a", 2, 2, "{}").await;
    other.publish("plain/a", 1, 1, "at once").await;
    assert_eq!(other.line().await, "puback 1");
    assert_eq!(stage.fake.all_values("t"), Vec::<String>::new());
    stage.fake.offsets_held.send_replace(false);
    assert_eq!(device.line().await, "puback 1");
    assert_eq!(device.line().await, "pubrec 2");
    assert_eq!(stage.stored("t", 2).await, [r#"{"site":1}"#, "1"]);
    waits_for.wait_for(Option::is_none).await.unwrap();
    assert_eq!(
        (failures(&stage, "told", "no_table"), failures(&stage, "buried", "no_table")),
        (0, 0)
    );
    // The will was let in before it could be said what it becomes.
    drop(device);
    assert_eq!(stage.stored("wills", 1).await, [r#"["gone",1]"#]);
}

fn impatient(config: &mut Config) {
    config.kafka.producer.delivery_timeout = Duration::from_millis(500);
}

#[tokio::test]
async fn without_its_topic_a_rule_does_what_on_error_says_and_others_go_on() {
    let stage = Stage::with(fake(0).await, RULES, impatient).await;
    let mut device = stage.v5("five").await;
    device.publish("told/a", 1, 1, "{}").await;
    assert_eq!(device.line().await, "puback 1 0x83 no_table");
    let mut waits_for = stage.relay.waits_for();
    waits_for.wait_for(Option::is_none).await.unwrap();
    device.publish("skipped/a", 1, 2, "{}").await;
    assert_eq!(device.line().await, "puback 2");
    device.publish("buried/a", 2, 3, "{\"all\":1}").await;
    assert_eq!(device.line().await, "pubrec 3");
    assert_eq!(stage.stored("dead", 1).await, ["{\"all\":1}"]);
    device.publish("plain/a", 1, 4, "x").await;
    assert_eq!(device.line().await, "puback 4");
    assert_eq!(stage.fake.all_values("t"), Vec::<String>::new());
    for rule in ["told", "skipped", "buried"] {
        assert_eq!(failures(&stage, rule, "no_table"), 1, "{rule}");
    }
    assert_eq!(stage.metric(r#"dead_letters_total{rule="buried",reason="no_table"}"#), 1);
    // It is made, and nothing need be started anew.
    stage.fake.topic("vins", 1);
    stage.fake.record("vins", 0, "a", r#""there""#);
    loop {
        device.publish("told/a", 1, 5, "{}").await;
        match device.line().await.as_str() {
            "puback 5" => break,
            refused => assert_eq!(refused, "puback 5 0x83 no_table"),
        }
    }
    assert_eq!(stage.stored("t", 1).await, [r#"{"site":"there"}"#]);
}

#[tokio::test]
async fn a_table_that_has_no_room_for_all_gives_no_wrong_answers() {
    let fake = fake(1).await;
    let large = format!("\"{}\"", "x".repeat(1_500));
    for key in ["a", "b"] {
        fake.record("vins", 0, key, &large);
    }
    let stage = Stage::start(fake, RULES).await;
    let mut device = stage.v5("five").await;
    assert_eq!(told(&stage, &mut device, "never").await, r#"{"site":null}"#);
    stage.fake.record("vins", 0, "c", &large);
    stage.counted("lookup_table_left_out_records_total{topic=\"vins\"}", 1).await;
    stage.counted("lookup_table_complete{topic=\"vins\"}", 0).await;
    // It keeps what it had.
    assert_eq!(told(&stage, &mut device, "a").await, format!("{{\"site\":{large}}}"));
    for (topic, answer) in [("told/c", "puback 2 0x83 table_full"), ("told/never", "puback 2 0x83 table_full")] {
        device.publish(topic, 1, 2, "{}").await;
        assert_eq!(device.line().await, answer);
    }
    device.publish("skipped/c", 1, 3, "{}").await;
    assert_eq!(device.line().await, "puback 3");
    assert_eq!(failures(&stage, "skipped", "table_full"), 1);
    // What it has goes on to be kept live, and what comes and fits is known.
    stage.fake.record("vins", 0, "a", "1");
    until_told(&stage, &mut device, "a", r#"{"site":1}"#).await;
    stage.fake.record("vins", 0, "c", "2");
    loop {
        device.publish("buried/c", 1, 4, "{}").await;
        assert_eq!(device.line().await, "puback 4");
        if stage.fake.all_values("t").last().unwrap() == "2" {
            break;
        }
    }
}

#[tokio::test]
async fn a_topic_that_is_made_anew_grows_or_loses_records_is_read_anew() {
    let fake = fake(1).await;
    fake.record("vins", 0, "a", "1");
    fake.record("vins", 0, "b", "1");
    let stage = Stage::with(fake, RULES, |config| config.kafka.metadata_max_age = Duration::from_millis(100)).await;
    let mut device = stage.v5("five").await;
    assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":1}"#);
    stage.fake.topic("vins", 1);
    stage.fake.record("vins", 0, "b", "2");
    until_told(&stage, &mut device, "b", r#"{"site":2}"#).await;
    assert_eq!(
        told(&stage, &mut device, "a").await,
        r#"{"site":null}"#,
        "rows of the topic that is gone are"
    );
    stage.fake.grow("vins");
    stage.fake.record("vins", 1, "a", "3");
    until_told(&stage, &mut device, "a", r#"{"site":3}"#).await;
    // An unclean election: what the log holds now is what counts.
    stage.fake.record("vins", 0, "c", "4");
    until_told(&stage, &mut device, "c", r#"{"site":4}"#).await;
    stage.fake.cut_off("vins", 0, 1, 1);
    stage.fake.record("vins", 0, "d", "5");
    until_told(&stage, &mut device, "d", r#"{"site":5}"#).await;
    assert_eq!(told(&stage, &mut device, "c").await, r#"{"site":null}"#);
    assert_eq!(told(&stage, &mut device, "b").await, r#"{"site":2}"#);
    assert_eq!(failures(&stage, "told", "no_table"), 0, "meanwhile there were the rows of before");
}

#[tokio::test]
async fn a_broker_that_is_away_or_damages_what_it_sends_leaves_the_table_as_it_is() {
    let fake = fake(1).await;
    fake.record("vins", 0, "a", "1");
    let stage = Stage::start(fake, RULES).await;
    let mut device = stage.v5("five").await;
    assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":1}"#);
    stage
        .fake
        .world()
        .fetch_faults
        .extend([Fault::CloseBefore, Fault::Garbage, Fault::Whole(29)]);
    stage.fake.record("vins", 0, "a", "2");
    until_told(&stage, &mut device, "a", r#"{"site":2}"#).await;
    stage.fake.world().fetch_faults.extend([Fault::Damaged]);
    stage.fake.record("vins", 0, "b", "3");
    until_told(&stage, &mut device, "b", r#"{"site":3}"#).await;
    assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":2}"#);
    until("what was damaged was asked for again", || {
        stage.metric("batches_read_again_total") == 1
    })
    .await;
    assert_eq!(stage.metric("unreadable_batches_total"), 0);
}

#[tokio::test]
async fn records_on_their_way_to_devices_wait_for_the_table_too() {
    let fake = fake(1).await;
    fake.record("vins", 0, "a", "1");
    fake.world().fetch_takes.insert("vins".to_owned(), Duration::from_secs(2));
    let stage = Stage::start(fake, RULES).await;
    let mut subscriber = stage.v5("five").await;
    subscriber.subscribed("back/+", 1).await;
    stage.fake.record("commands", 0, "a", r#""lock""#);
    let id = subscriber.message(r#"back/a q1 {"site":1,"do":"lock"}"#).await;
    subscriber.puback(id).await;
    stage.fake.record("commands", 0, "b", r#""lock""#);
    let id = subscriber.message(r#"back/b q1 {"site":null,"do":"lock"}"#).await;
    subscriber.puback(id).await;
    assert_eq!(failures(&stage, "back", "no_table"), 0);
}

/// That Kafka is away says nothing of a table: no rule takes it for a reason to pass a message over.
#[tokio::test]
async fn a_kafka_that_is_away_at_the_start_is_waited_for_as_ever() {
    let fake = fake(1).await;
    fake.record("vins", 0, "a", "1");
    fake.paused.send_replace(true);
    let stage = Stage::launch(fake, RULES, impatient).await;
    let mut device = stage.v5("five").await;
    for id in [1, 2] {
        device.publish("skipped/a", 1, id, "{}").await;
        assert_eq!(device.line().await, format!("puback {id} 0x83 unknown_outcome"));
    }
    stage.fake.paused.send_replace(false);
    stage.ready().await;
    device.publish("skipped/a", 1, 3, "{}").await;
    assert_eq!(device.line().await, "puback 3");
    assert_eq!(stage.stored("t", 1).await, ["1"]);
    assert_eq!(failures(&stage, "skipped", "no_table"), 0);
}

/// A message waits in the middle of its records for memory, and meanwhile a row changes by which it makes more, fewer or none: those that it had begun
/// with are not all there, so it is not acknowledged, and whatever comes behind it is answered as ever.
#[tokio::test]
async fn a_message_that_makes_other_records_when_it_goes_on_is_sent_again() {
    for (now, name) in [("1", "fewer"), ("0", "none"), ("6", "more")] {
        let fake = fake(1).await;
        fake.record("vins", 0, "a", "4");
        let mut stage = Stage::with(fake, RULES, |config| {
            config.kafka.producer.memory = 64 * 1024;
            config.kafka.producer.batch_size = 8 * 1024;
        })
        .await;
        let mut device = stage.v5("five").await;
        assert_eq!(told(&stage, &mut device, "a").await, r#"{"site":4}"#);
        stage.fake.hold_produce(&[1]);
        device.publish("split/a", 1, 1, "{}").await;
        until("the memory is full", || stage.metric("kafka_memory_full_total") > 0).await;
        stage.fake.record("vins", 0, "a", now);
        stage.fake.record("vins", 0, "behind it", "0");
        stage.counted("lookup_table_rows{topic=\"vins\"}", 2).await;
        stage.fake.hold_produce(&[]);
        assert_eq!(device.line().await, "puback 1 0x83 unknown_outcome", "{name}");
        assert_eq!(told(&stage, &mut device, "a").await, format!(r#"{{"site":{now}}}"#), "{name}");
        stage.begin_drain();
        stage.ended().await;
    }
}
