//! How connections begin and end: takeover, wills, a Kafka that is away, malformed packets, the end of the process.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::Duration;

use fake_broker::{Fake, client::until};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::config::Config;
use relay_stage::{
    Stage,
    device::{Device, connect, subscribe, will},
};

const RULES: &str = r#"rules:
  - {name: all, mqtt: "t/+", kafka: {topic: t, partition: 0}}
  - {name: lost, mqtt: "lost/+", kafka: {topic: nowhere}}"#;

const NOTHING: [&str; 0] = [];

async fn fake() -> Fake {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake
}

async fn stage() -> Stage {
    Stage::start(fake().await, RULES).await
}

#[tokio::test]
async fn a_second_connection_of_a_client_id_takes_the_first_over() {
    for version in [5, 4] {
        let stage = stage().await;
        let mut greeting = connect("same");
        greeting.last_will = will("t/will");
        let mut first = Device::connected_as(stage.address, version, &greeting).await;
        let mut second = Device::connected(stage.address, version, "same").await;
        let told: &[&str] = if version == 5 { &["disconnect 0x8e"] } else { &[] };
        assert_eq!(first.rest().await, told);
        assert_eq!(stage.stored("t", 1).await, ["gone"], "a takeover is no normal end");
        second.publish("t/a", 1, 1, "goes on").await;
        assert_eq!(second.line().await, "puback 1");
        // The end of the first has not taken the second's place away.
        let mut third = Device::connected(stage.address, version, "same").await;
        assert_eq!(second.rest().await, told);
        assert_eq!(third.fence().await, NOTHING);
    }
}

#[tokio::test]
async fn a_will_is_sent_unless_the_client_says_goodbye() {
    for (end, sent) in [(None, true), (Some(0x00), false), (Some(0x04), true), (Some(0x80), true)] {
        let mut stage = stage().await;
        let mut greeting = connect("mortal");
        greeting.last_will = will("t/will");
        let mut device = Device::connected_as(stage.address, 5, &greeting).await;
        if let Some(reason) = end {
            device.disconnect(reason).await;
            assert_eq!(device.rest().await, NOTHING);
        }
        drop(device);
        if sent {
            assert_eq!(stage.stored("t", 1).await, ["gone"]);
        }
        stage.begin_drain();
        stage.ended().await;
        assert_eq!(stage.fake.all_values("t").len(), usize::from(sent), "after {end:?}");
    }
}

#[tokio::test]
async fn a_will_goes_where_its_rule_says_also_if_that_is_nowhere() {
    let mut stage = stage().await;
    for version in [5, 4] {
        let mut greeting = connect("unheard");
        greeting.last_will = will("lost/will");
        drop(Device::connected_as(stage.address, version, &greeting).await);
    }
    stage.counted("refusals_total{reason=\"no_such_topic\"}", 2).await;
    stage.begin_drain();
    stage.ended().await;
}

/// Else who comes and leaves again and again piles wills up.
#[tokio::test]
async fn a_will_that_waits_keeps_the_place_of_its_connection() {
    let stage = Stage::with(fake().await, RULES, |config| config.limits.connections_per_address = Some(1)).await;
    let mut greeting = connect("mortal");
    greeting.last_will = will("lost/will");
    let mut device = Device::connected_as(stage.address, 5, &greeting).await;
    // Nobody has asked for its topic yet.
    stage.fake.paused.send_replace(true);
    device.disconnect(0x04).await;
    assert_eq!(device.rest().await, NOTHING);
    drop(device);
    // The first few may come before it is closed.
    for refused in 1..=100 {
        assert_eq!(Device::open(stage.address, 5).await.rest().await, NOTHING);
        let counted = stage.metric("connections_refused_total{listener=\"tcp\",reason=\"address_limit\"}");
        assert_eq!(counted, refused, "one was let in");
    }
    stage.fake.paused.send_replace(false);
    stage.counted("connections{listener=\"tcp\"}", 0).await;
    assert_eq!(stage.metric("refusals_total{reason=\"no_such_topic\"}"), 1);
    assert_eq!(stage.v5("next").await.fence().await, NOTHING);
}

#[tokio::test]
async fn a_will_that_no_rule_maps_is_refused_with_the_connect() {
    let stage = stage().await;
    for (version, told) in [(5, "connack 0x90"), (4, "connack 0x05")] {
        let mut greeting = connect("stray");
        greeting.last_will = will("elsewhere");
        let mut device = Device::open(stage.address, version).await;
        device.connect(&greeting).await;
        let rest = device.rest().await;
        assert!(rest.len() == 1 && rest[0].starts_with(told), "{rest:?}");
    }
    assert_eq!((stage.metric("refusals_total{reason=\"unmapped\"}"), stage.refusals()), (2, 2));
    assert_eq!(stage.metric("connections_closed_total{reason=\"topic_name_invalid\"}"), 2);
}

/// The Kafka topic of this rule is what the device says: the proxy's own topics are not among those.
#[tokio::test]
async fn a_will_for_a_state_topic_is_refused_with_the_connect() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = "rules: [{name: any, mqtt: \"any/{kafka}\", kafka: {topic: \"{kafka}\"}}]";
    let stage = Stage::start(fake, rules).await;
    for (topic, told) in [("any/mqtt-retained", "connack 0x83"), ("any/t", "connack 0x00")] {
        let mut greeting = connect("forger");
        greeting.last_will = will(topic);
        let mut device = Device::open(stage.address, 5).await;
        device.connect(&greeting).await;
        assert_eq!(device.line().await.split(' ').take(2).collect::<Vec<_>>().join(" "), told);
    }
    assert_eq!(stage.metric("refusals_total{reason=\"state_topic\"}"), 1);
}

/// A takeover, silence and the end of the process refuse nobody anything; a malformed packet is counted as such.
#[tokio::test]
async fn what_is_no_refusal_is_counted_apart() {
    let mut stage = stage().await;
    let first = stage.v5("same").await;
    let _second = stage.v5("same").await;
    stage.counted("connections_closed_total{reason=\"session_taken_over\"}", 1).await;
    drop(first);
    stage.v4("broken").await.bytes(&[0x36, 0]).await;
    stage.counted("connections_closed_total{reason=\"malformed_packet\"}", 1).await;
    assert_eq!(stage.metric("malformed_packets_total{reason=\"malformed_packet\"}"), 1);
    // A second CONNECT is a packet as good as any, which the session refuses.
    let mut again = stage.v4("again").await;
    again.connect(&connect("again")).await;
    again.rest().await;
    stage.counted("connections_closed_total{reason=\"protocol_error\"}", 1).await;
    assert_eq!(
        (stage.metric("refusals_total{reason=\"protocol_error\"}"), stage.refusals()),
        (1, 1)
    );
    stage.begin_drain();
    stage.ended().await;
    stage.counted("connections_closed_total{reason=\"server_shutting_down\"}", 1).await;
    assert_eq!(stage.refusals(), 1);
}

#[tokio::test]
async fn without_kafka_only_those_connect_that_need_nothing_of_it() {
    let fake = fake().await;
    fake.paused.send_replace(true);
    let change = |config: &mut Config| {
        config.limits.connect_timeout = Duration::from_millis(300);
        config.session.connect_timeout = Duration::from_millis(300);
    };
    let stage = Stage::launch(fake, RULES, change).await;
    for (version, told) in [(5, "connack 0x88"), (4, "connack 0x03")] {
        assert_eq!(Device::connected(stage.address, version, "plain").await.fence().await, NOTHING);
        let mut with_will = connect("will");
        with_will.last_will = will("t/will");
        let mut stored = connect("stored");
        stored.clean_session = false;
        for greeting in [with_will, stored] {
            let mut device = Device::open(stage.address, version).await;
            device.connect(&greeting).await;
            let rest = device.rest().await;
            assert!(rest.len() == 1 && rest[0].starts_with(told), "never silence: {rest:?}");
        }
    }
}

#[tokio::test]
async fn a_connect_that_waits_for_kafka_is_accepted_when_it_comes() {
    let fake = fake().await;
    fake.paused.send_replace(true);
    let stage = Stage::launch(fake, RULES, |_| {}).await;
    let mut greeting = connect("patient");
    greeting.last_will = will("t/will");
    let mut device = Device::open(stage.address, 5).await;
    device.connect(&greeting).await;
    // A request lies with the broker, so the proxy has nothing but to wait.
    assert_eq!(stage.fake.seen(ApiKey::Produce), 0);
    stage.fake.paused.send_replace(false);
    assert_eq!(device.line().await, "connack 0x00");
}

#[tokio::test]
async fn a_client_without_an_id_is_given_one() {
    let stage = stage().await;
    let mut ids = Vec::new();
    let mut devices = Vec::new();
    for version in [5, 5, 4, 4] {
        let mut device = Device::open(stage.address, version).await;
        device.connect(&connect("")).await;
        if version == 5 {
            ids.push(device.assigned_id().await);
        } else {
            assert_eq!(device.line().await, "connack 0x00");
        }
        devices.push(device);
    }
    assert_ne!(ids[0], ids[1]);
    assert!(ids.iter().all(|id| !id.is_empty()));
    for device in &mut devices {
        assert_eq!(device.fence().await, NOTHING, "nobody was taken over");
    }
}

#[tokio::test]
async fn a_message_is_not_lost_when_its_sender_leaves_at_once() {
    let stage = stage().await;
    // Partitions of the topic are not known yet, so the PUBLISH waits; what lies behind it says goodbye.
    let mut device = stage.v5("hasty").await;
    device.bytes(&[0x30, 7, 0, 3, b't', b'/', b'a', 0, b'x', 0xe0, 0]).await;
    drop(device);
    assert_eq!(stage.stored("t", 1).await, ["x"]);
}

#[tokio::test]
async fn a_malformed_packet_hurts_nobody_else() {
    let stage = stage().await;
    let mut other = stage.v5("other").await;
    // QoS 3 does not exist [MQTT-3.3.1-4].
    let mut five = stage.v5("five").await;
    five.bytes(&[0x36, 6, 0, 1, b'a', 0, 1, 0]).await;
    assert_eq!(five.rest().await, ["disconnect 0x81"]);
    let mut four = stage.v4("four").await;
    four.bytes(&[0x36, 5, 0, 1, b'a', 0, 1]).await;
    assert_eq!(four.rest().await, NOTHING);
    // No MQTT at all.
    let mut stranger = Device::open(stage.address, 4).await;
    stranger.bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(stranger.rest().await, NOTHING);
    assert_eq!(stage.metric("malformed_packets_total{reason=\"malformed_packet\"}"), 2);
    assert_eq!(stage.metric("malformed_packets_total{reason=\"protocol_error\"}"), 1);
    other.publish("t/a", 1, 3, "unharmed").await;
    assert_eq!(other.line().await, "puback 3");
}

#[tokio::test]
async fn a_packet_above_the_limit_is_refused_by_its_length_alone() {
    let change = |config: &mut Config| config.session.maximum_packet_size = 1000;
    let stage = Stage::with(fake().await, RULES, change).await;
    let mut five = stage.v5("five").await;
    five.bytes(&[0x30, 0xff, 0xff, 0x7f]).await;
    assert_eq!(five.rest().await, ["disconnect 0x95"]);
    let mut four = stage.v4("four").await;
    four.bytes(&[0x30, 0xff, 0xff, 0x7f]).await;
    assert_eq!(four.rest().await, NOTHING);
}

#[tokio::test]
async fn at_the_end_of_the_process_what_is_in_flight_is_answered_first() {
    let mut stage = stage().await;
    let (mut five, mut four) = (stage.v5("five").await, stage.v4("four").await);
    let (mut idle5, mut idle4) = (stage.v5("idle5").await, stage.v4("idle4").await);
    stage.fake.hold_produce(&[1]);
    for device in [&mut five, &mut four] {
        device.publish("t/a", 1, 1, "in flight").await;
        device.publish("t/a", 2, 2, "in flight").await;
        assert_eq!(device.fence().await, NOTHING);
    }
    stage.begin_drain();
    assert_eq!(idle5.rest().await, ["disconnect 0x8b"]);
    assert_eq!(idle4.rest().await, NOTHING);
    stage.fake.hold_produce(&[]);
    assert_eq!(five.rest().await, ["puback 1", "pubrec 2", "disconnect 0x8b"]);
    assert_eq!(four.rest().await, ["puback 1", "pubrec 2"]);
    stage.ended().await;
    assert_eq!(stage.fake.all_values("t").len(), 4);
}

/// A window of one: what a 3.1.1 device says behind a PUBLISH without PUBACK is not read.
async fn one_at_a_time() -> Stage {
    Stage::with(fake().await, RULES, |config| config.session.receive_maximum = 1).await
}

/// A device with a will.
async fn mortal(stage: &Stage, version: u8) -> Device {
    let mut greeting = connect("mortal");
    greeting.last_will = will("t/will");
    Device::connected_as(stage.address, version, &greeting).await
}

/// Its PUBLISH, which Kafka does not answer.
async fn held(stage: &Stage, mut device: Device) -> Device {
    stage.fake.hold_produce(&[1]);
    device.publish("t/a", 1, 1, "1").await;
    until("it is on its way", || {
        stage.metric("messages_total{rule=\"all\",direction=\"to_kafka\"}") == 1
    })
    .await;
    device
}

/// All connections end; what Kafka has then.
async fn in_the_end(mut stage: Stage) -> Vec<String> {
    stage.fake.hold_produce(&[]);
    until("it is gone", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    stage.begin_drain();
    stage.ended().await;
    stage.fake.all_values("t")
}

#[tokio::test]
async fn a_goodbye_that_cannot_be_read_yet_is_heard_before_another_connection_takes_over() {
    let stage = one_at_a_time().await;
    let mut first = held(&stage, mortal(&stage, 4).await).await;
    first.publish("t/a", 1, 2, "2").await;
    first.disconnect(0).await;
    let second = Device::connected(stage.address, 4, "mortal").await;
    stage.fake.hold_produce(&[]);
    assert_eq!(first.rest().await, ["puback 1", "puback 2"]);
    drop((first, second));
    assert_eq!(in_the_end(stage).await, ["1", "2"], "no will: it said goodbye");
}

/// Kafka may be away for long, and the other connection is there.
#[tokio::test]
async fn who_cannot_be_heard_in_time_is_taken_over() {
    let stage = one_at_a_time().await;
    let mut first = held(&stage, mortal(&stage, 4).await).await;
    first.disconnect(0).await;
    let second = Device::connected(stage.address, 4, "mortal").await;
    assert_eq!(first.rest().await, NOTHING);
    assert_eq!(stage.metric("connections_closed_total{reason=\"session_taken_over\"}"), 1);
    drop((first, second));
    assert_eq!(in_the_end(stage).await, ["1", "gone"]);
}

#[tokio::test]
async fn a_goodbye_while_the_process_stops_is_heard() {
    let stage = one_at_a_time().await;
    let mut idle = stage.v5("idle").await;
    let mut device = held(&stage, mortal(&stage, 5).await).await;
    stage.begin_drain();
    assert_eq!(idle.rest().await, ["disconnect 0x8b"]);
    assert_eq!(device.fence().await, NOTHING, "PINGREQ is answered");
    device.disconnect(0).await;
    assert_eq!(device.rest().await, NOTHING);
    assert_eq!(in_the_end(stage).await, ["1"], "no will: it said goodbye");
}

/// It closes its socket with an answer in it that it has not read, so the connection is reset, and no answer can be written any more.
#[tokio::test]
async fn a_goodbye_is_heard_of_a_device_that_reads_no_answers() {
    let stage = one_at_a_time().await;
    let mut device = mortal(&stage, 4).await;
    device.bytes(&[0xc0, 0]).await;
    assert_eq!(device.stream.peek(&mut [0; 2]).await.unwrap(), 2, "PINGRESP");
    let mut device = held(&stage, device).await;
    for id in 2..=9 {
        device.publish("t/a", 1, id, id.to_string()).await;
    }
    device.disconnect(0).await;
    drop(device);
    let stored = in_the_end(stage).await;
    assert_eq!(stored, (1..=9).map(|n| n.to_string()).collect::<Vec<_>>(), "all of it, and no will");
}

#[tokio::test]
async fn who_has_not_even_connected_does_not_delay_the_end() {
    let fake = fake().await;
    fake.paused.send_replace(true);
    let mut stage = Stage::launch(fake, RULES, |config| {
        config.limits.connect_timeout = Duration::from_secs(3600);
        config.session.connect_timeout = Duration::from_secs(3600);
    })
    .await;
    let mut silent = Device::open(stage.address, 5).await;
    let mut waiting = Device::open(stage.address, 5).await;
    let mut greeting = connect("waiting");
    greeting.clean_session = false;
    waiting.connect(&greeting).await;
    stage.counted("packets_total{type=\"connect\",direction=\"received\"}", 1).await;
    stage.counted("connections{listener=\"tcp\"}", 2).await;
    stage.begin_drain();
    assert_eq!(silent.rest().await, NOTHING);
    let told = waiting.rest().await;
    assert!(told.len() == 1 && told[0].starts_with("connack 0x88"), "{told:?}");
    drop((silent, waiting));
    stage.ended().await;
}

/// Until the broker sees no more polls: with the `max_wait` of these tests a partition that somebody reads is polled all the time.
async fn nothing_is_read(stage: &Stage) {
    let quiet = async {
        loop {
            let polls = stage.fake.seen(ApiKey::Fetch);
            // The span in which nobody may poll.
            tokio::time::sleep(20 * MAX_WAIT).await;
            if polls == stage.fake.seen(ApiKey::Fetch) {
                return;
            }
        }
    };
    let ended = tokio::time::timeout(relay_stage::PATIENCE, quiet).await;
    assert!(ended.is_ok(), "somebody who is gone is still read for");
}

const MAX_WAIT: Duration = Duration::from_millis(10);

async fn polling() -> Stage {
    Stage::with(fake().await, RULES, |config| config.kafka.consumer.max_wait = MAX_WAIT).await
}

#[tokio::test]
async fn five_hundred_connections_leave_nothing_behind() {
    let stage = polling().await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for device in 0..10 {
        exercise(&stage, device).await;
    }
    until("the warm-up is over", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    let before = alive();
    for device in 10..510 {
        exercise(&stage, device).await;
    }
    until("all are gone", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    // A few lanes to the broker may have come, each a task here and one of the fake's.
    until("their tasks are", || alive() <= before + 8).await;
    until("their memory is", || stage.metric("kafka_memory_used_bytes") == 0).await;
    nothing_is_read(&stage).await;
    assert_eq!(stage.metric("connection_panics_total"), 0);
    assert_eq!(stage.metric("connections_opened_total{listener=\"tcp\"}"), 510);
}

/// While Kafka is away a SUBSCRIBE waits for it as long as the delivery timeout; not for one who is gone.
#[tokio::test]
async fn who_leaves_while_kafka_is_away_leaves_no_task() {
    let fake = fake().await;
    fake.paused.send_replace(true);
    let change = |config: &mut Config| {
        config.kafka.producer.delivery_timeout = 10 * relay_stage::PATIENCE;
    };
    let stage = Stage::launch(fake, RULES, change).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut device = stage.v5("asks").await;
    for _ in 0..10 {
        device.send_subscribe(&subscribe("t/+", 1)).await;
    }
    assert_eq!(device.fence().await, NOTHING);
    let waiting = tasks();
    assert!(waiting >= before + 11, "ten SUBSCRIBEs and their connection: {before}, {waiting}");
    drop(device);
    until("ten tasks are gone", || tasks() + 10 <= waiting).await;
}

#[tokio::test]
async fn who_leaves_before_suback_is_not_read_for() {
    let stage = polling().await;
    stage.fake.offsets_held.send_replace(true);
    let mut device = stage.v5("impatient").await;
    device.send_subscribe(&subscribe("t/+", 1)).await;
    until("its start is asked for", || stage.fake.seen(ApiKey::ListOffsets) == 1).await;
    drop(device);
    until("it is gone", || stage.metric("connections{listener=\"tcp\"}") == 0).await;
    stage.fake.offsets_held.send_replace(false);
    // The answer has come when another's has, which was asked for later on the same connection.
    let mut other = stage.v5("other").await;
    other.subscribed("t/b", 1).await;
    other.unsubscribe("t/b").await;
    nothing_is_read(&stage).await;
}

/// Connects, subscribes, publishes, and leaves with or without goodbye; every second one before its answers come.
async fn exercise(stage: &Stage, number: usize) {
    let version = if number.is_multiple_of(3) { 4 } else { 5 };
    let mut device = Device::connected(stage.address, version, &format!("d{number}")).await;
    let topic = format!("t/{number}");
    if number.is_multiple_of(2) {
        device.subscribed(&topic, 1).await;
        device.publish(&topic, 1, 1, "x").await;
        let mut got = [device.line().await, device.line().await];
        got.sort();
        assert_eq!(got, ["puback 1".to_owned(), format!("publish 1 {topic} q1 x")]);
    } else {
        device.send_subscribe(&subscribe("t/#", 1)).await;
        device.publish(&topic, 1, 1, "x").await;
    }
    if number.is_multiple_of(5) {
        device.disconnect(0).await;
    }
}
