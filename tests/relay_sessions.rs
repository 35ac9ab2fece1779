//! Stored sessions over a fake cluster: what a real one does too rarely.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{iter::repeat_n, time::Duration};

use fake_broker::{Fake, Fault, client::until};
use kafka_protocol::messages::ApiKey;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, level, taking},
};

const RULES: &str = r#"rules:
  - {name: all, mqtt: "t/+", kafka: {topic: t, partition: 0}}
sessions: {expiry: {}}
limits: {connect_timeout: 2s}"#;

/// CONNECT of a client whose session outlives its connections by ten minutes.
fn staying(client: &str) -> v5::Connect {
    let mut connect = taking(client, 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    connect
}

/// Others may take this instance for dead: a session that it claims now would be an orphan's to them, and be taken from its client.
#[tokio::test]
async fn an_instance_that_does_not_reach_its_coordinator_claims_nothing_until_it_is_a_member_again() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.store.as_mut().unwrap().instance_timeout = Duration::from_millis(500);
    })
    .await;
    let mut first = Device::connected_as(stage.address, 5, &staying("first")).await;
    let coordinator = [ApiKey::FindCoordinator, ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup];
    for api in coordinator {
        stage.fake.world().groups.fail(api, repeat_n(Fault::Code(15), 100_000));
    }
    assert_eq!(first.rest().await, ["disconnect 0x89"], "its session is given up");
    let written = stage.fake.values("mqtt-sessions", 0).len();
    let mut second = Device::open(stage.address, 5).await;
    second.connect(&staying("second")).await;
    // No word before `connect_timeout`.
    assert_eq!(second.rest().await, ["connack 0x88 no connection within connect_timeout"]);
    assert_eq!(
        stage.fake.values("mqtt-sessions", 0).len(),
        written,
        "something was claimed or written"
    );
    let synced = stage.fake.seen(ApiKey::SyncGroup);
    stage.fake.world().groups.faults.clear();
    until("it is a member again", || stage.fake.seen(ApiKey::SyncGroup) > synced).await;
    for client in ["first", "second"] {
        Device::connected_as(stage.address, 5, &staying(client)).await;
    }
    until("both are claimed", || stage.fake.values("mqtt-sessions", 0).len() > written + 2).await;
}

/// Nothing of a clean start with session expiry 0 is stored, so nobody takes it for an orphan: it need not wait until others know of this
/// instance, also while the sessions are first read. A claim that it makes comes when they do.
#[tokio::test]
async fn clients_of_which_nothing_is_stored_do_not_wait_for_the_coordinator() {
    let joining = [ApiKey::FindCoordinator, ApiKey::JoinGroup];
    for (takeover, claims) in [("global", 1), ("local", 0)] {
        let fake = Fake::start(1).await;
        fake.topic("t", 1);
        fake.topic("mqtt-sessions", 1);
        for api in joining {
            fake.world().groups.fail(api, repeat_n(Fault::Code(15), 100_000));
        }
        fake.offsets_held.send_replace(true);
        let rules = RULES.replace("{expiry: {}}", &format!("{{expiry: {{}}, takeover: {takeover}}}"));
        let stage = Stage::with(fake, &rules, |_| ()).await;
        until("the sessions are read", || stage.fake.seen(ApiKey::ListOffsets) > 0).await;
        let mut device = Device::open(stage.address, 5).await;
        device.connect(&taking("fleeting", 10)).await;
        stage.counted("packets_total{type=\"connect\",direction=\"received\"}", 1).await;
        stage.fake.offsets_held.send_replace(false);
        assert_eq!(device.line().await, "connack 0x00", "{takeover}");
        assert_eq!(stage.fake.values("mqtt-sessions", 0).len(), 0, "{takeover}: something was claimed");
        // One whose session outlives its connection waits, and is refused in the end.
        let mut other = Device::open(stage.address, 5).await;
        other.connect(&staying("staying")).await;
        assert_eq!(
            other.rest().await,
            ["connack 0x88 no connection within connect_timeout"],
            "{takeover}"
        );
        stage.fake.world().groups.faults.clear();
        until("all is claimed that is to be", || {
            stage.fake.values("mqtt-sessions", 0).len() >= claims
        })
        .await;
        assert_eq!(device.fence().await, [""; 0], "{takeover}");
    }
}

/// Nothing is written of it, so it has a will as long as its instance is alive to send it, and no longer: nobody else knows of it.
#[tokio::test]
async fn under_local_takeover_a_throw_away_client_has_a_will_while_its_instance_is_alive() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = RULES.replace("{expiry: {}}", "{expiry: {}, takeover: local}");
    let mut stage = Stage::with(fake, &rules, |_| ()).await;
    let mut greeting = taking("fleeting", 10);
    greeting.last_will = relay_stage::device::will("t/gone");
    // Its connection breaks; then the instance is stopped, which is no death.
    drop(Device::connected_as(stage.address, 5, &greeting).await);
    assert_eq!(stage.stored("t", 1).await, ["gone"]);
    let _device = Device::connected_as(stage.address, 5, &greeting).await;
    stage.begin_drain();
    stage.ended().await;
    assert_eq!(stage.stored("t", 2).await, ["gone", "gone"]);
    assert_eq!(stage.fake.all_values("mqtt-sessions"), [""; 0]);
}

/// At QoS 0 nobody waits for it, and the others are acknowledged: it is counted by the rule.
#[tokio::test]
async fn what_kafka_refuses_of_a_stored_session_without_telling_it_is_counted_by_the_rule() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = RULES.replace("partition: 0}}", "partition: 0}, on_error: skip}");
    let stage = Stage::with(fake, &rules, |_| ()).await;
    stage.fake.world().topics.get_mut("t").unwrap().partitions[0].refuses = Some(29);
    let mut device = Device::connected_as(stage.address, 5, &staying("unasked")).await;
    device.publish("t/a", 0, 0, "lost").await;
    device.publish("t/a", 1, 1, "left out").await;
    assert_eq!(device.line().await, "puback 1");
    device.publish("t/a", 2, 2, "left out").await;
    assert_eq!(device.line().await, "pubrec 2");
    stage
        .counted("messages_dropped_total{rule=\"all\",reason=\"TOPIC_AUTHORIZATION_FAILED\"}", 3)
        .await;
}

/// What is damaged on its way is asked for again: were a claim left out, two instances could act for one session.
#[tokio::test]
async fn a_batch_of_the_sessions_that_was_damaged_on_its_way_is_not_left_out() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let stage = Stage::with(fake, RULES, |_| ()).await;
    let again = || stage.metrics.batches_read_again.get();
    for number in 0..20 {
        stage.fake.world().fetch_faults.push_back(Fault::Damaged);
        Device::connected_as(stage.address, 5, &staying(&format!("client-{number}"))).await;
    }
    assert!(again() > 0, "nothing was damaged");
    assert_eq!(stage.metrics.unreadable_batches.get(), 0);
}

/// A stage where a session, `d`, has settled so many records and is gone.
async fn settled_and_gone(records: usize) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = RULES.replace(
        "rules:",
        "rules:\n  - {name: back, direction: subscribe, mqtt: \"c/{key}\", qos: 1, kafka: {topic: t}}",
    );
    let stage = Stage::with(fake, &rules, |_| ()).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    device.subscribed("c/#", 1).await;
    for number in 0..records {
        stage.fake.record("t", 0, "k", &format!("old {number}"));
        let id = device.message(&format!("c/k q1 old {number}")).await;
        device.puback(id).await;
    }
    device.disconnect(0).await;
    stage
}

/// An unclean election cuts the log off below what a session has settled: what is written there from then on is new to it, and the
/// acknowledgement of a record that is no more settles none of those.
#[tokio::test]
async fn what_stands_where_the_log_was_cut_off_is_new_to_a_session_that_went_on() {
    let stage = settled_and_gone(100).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    stage.fake.record("t", 0, "k", "one more");
    let open = device.message("c/k q1 one more").await;
    stage.fake.cut_off("t", 0, 1, 50);
    stage.counted("kafka_log_truncations_total", 1).await;
    for number in 50..101 {
        stage.fake.record("t", 0, "k", &format!("new {number}"));
    }
    for number in 50..100 {
        let id = device.message(&format!("c/k q1 new {number}")).await;
        device.puback(id).await;
    }
    // It stands at the offset of the one that is no more.
    let last = device.message("c/k q1 new 100").await;
    device.puback(open).await;
    device.disconnect(0).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    assert_eq!(device.message("c/k q1 dup new 100").await, last, "it was not acknowledged");
}

/// A QoS 2 message holds memory until its pair is written, and a retained one until it has an offset: with nothing but such messages in the
/// memory, what they wait for gets some all the same.
#[tokio::test]
async fn with_memory_full_of_exactly_once_messages_their_pairs_are_written_and_they_are_retained() {
    for retain in [false, true] {
        let fake = Fake::start(1).await;
        for topic in ["t", "mqtt-sessions", "mqtt-retained"] {
            fake.topic(topic, 1);
        }
        let stage = Stage::with(fake, RULES, |config| {
            config.kafka.producer.memory = 64 * 1024;
            config.session.retain_available = true;
        })
        .await;
        let mut devices = Vec::new();
        for number in 0..24 {
            devices.push(Device::connected_as(stage.address, 5, &staying(&format!("car-{number}"))).await);
        }
        stage.fake.hold_produce(&[1]);
        for (number, device) in devices.iter_mut().enumerate() {
            let mut publish = v5::Publish::new(format!("t/{number}"), level(2), vec![b'x'; 10_800]);
            (publish.pkid, publish.retain) = (1, retain);
            device.send_publish(&publish).await;
        }
        until("the memory is full", || stage.metric("kafka_memory_full_total") > 0).await;
        stage.fake.hold_produce(&[]);
        for device in &mut devices {
            assert_eq!(device.line().await, "pubrec 1");
        }
        assert_eq!(stage.fake.values("t", 0).len(), 24);
    }
}

/// The same while its client is away.
#[tokio::test]
async fn what_is_written_behind_a_log_that_was_cut_off_meanwhile_is_new_to_who_returns() {
    let stage = settled_and_gone(20).await;
    stage.fake.cut_off("t", 0, 1, 5);
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    for number in 5..30 {
        stage.fake.record("t", 0, "k", &format!("new {number}"));
        let id = device.message(&format!("c/k q1 new {number}")).await;
        device.puback(id).await;
    }
}

/// The records of stored sessions that are written as their positions move: those of clients, and checkpoints.
fn written(stage: &Stage) -> (usize, usize) {
    let values = stage.fake.values("mqtt-sessions", 0);
    let checkpoints = values.iter().filter(|value| is_checkpoint(value)).count();
    (values.len() - checkpoints, checkpoints)
}

fn is_checkpoint(value: &str) -> bool {
    value.starts_with(r#"{"v":1,"run":"#)
}

/// A stage with these checkpoints, and devices that get what is written under `c/` and their names, all at the tail.
async fn at_the_tail(fake: impl Into<std::sync::Arc<Fake>>, every: Duration, devices: usize) -> (Stage, Vec<Device>) {
    let rules = RULES.replace(
        "rules:",
        "rules:\n  - {name: back, direction: subscribe, mqtt: \"c/{key}\", qos: 1, kafka: {topic: t}}",
    );
    let stage = Stage::with(fake, &rules, |config| {
        config.store.as_mut().unwrap().checkpoint_every = every;
    })
    .await;
    let mut there = Vec::new();
    for number in 0..devices {
        let mut device = Device::connected_as(stage.address, 5, &staying(&format!("d{number}"))).await;
        device.subscribed(&format!("c/d{number}"), 1).await;
        there.push(device);
    }
    let named = |stage: &Stage| {
        let values = stage.fake.values("mqtt-sessions", 0);
        values
            .iter()
            .filter(|value| !is_checkpoint(value) && value.contains(r#""run":1"#))
            .count()
    };
    until("all are spoken for", || named(&stage) >= devices && written(&stage).1 > 0).await;
    (stage, there)
}

/// A message a second for each of them, and not one write for any: what is written is bounded by checkpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_at_the_tail_cost_a_write_every_few_seconds_and_not_a_thousand_each_second() {
    const DEVICES: usize = 1000;
    const SECONDS: usize = 6;
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let every = Duration::from_millis(2500);
    let (stage, devices) = at_the_tail(fake, every, DEVICES).await;
    let (own, checkpoints) = written(&stage);
    let began = std::time::Instant::now();
    let mut taking = Vec::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        taking.push(tokio::spawn(async move {
            for second in 0..SECONDS {
                let id = device.message(&format!("c/d{number} q1 {second}")).await;
                device.puback(id).await;
            }
            device
        }));
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for text in 0..SECONDS {
        second.tick().await;
        for number in 0..DEVICES {
            stage.fake.record("t", 0, &format!("d{number}"), &text.to_string());
        }
    }
    let mut devices = Vec::new();
    for taken in taking {
        devices.push(taken.await.unwrap());
    }
    until("a checkpoint says all that is settled", || {
        let end = format!("/0@{}\"]}}", DEVICES * SECONDS);
        let values = stage.fake.values("mqtt-sessions", 0);
        values.iter().any(|value| is_checkpoint(value) && value.ends_with(&end))
    })
    .await;
    let (own, checkpoints) = (written(&stage).0 - own, written(&stage).1 - checkpoints);
    let most = (began.elapsed().as_secs_f64() / every.as_secs_f64()) as usize + 2;
    println!("{DEVICES} sessions, {SECONDS} messages each: {checkpoints} checkpoints and {own} records of sessions");
    assert!((1..=most).contains(&checkpoints), "{checkpoints} checkpoints, not {most}");
    // Of a machine that is busy a few may be slower than a checkpoint: each says so, and that it has caught up.
    assert!(
        own <= DEVICES * SECONDS / 20,
        "{own} records of sessions beside {checkpoints} checkpoints"
    );
}

/// Nothing is sent to a session for as long as others get a thousand messages: whoever claims it reads on where the checkpoint is.
#[tokio::test]
async fn a_session_to_which_nothing_is_sent_stands_where_the_last_checkpoint_is() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let (stage, mut devices) = at_the_tail(fake.clone(), Duration::from_millis(300), 1).await;
    let own = written(&stage).0;
    for number in 0..1000 {
        fake.record("t", 0, "somebody", &number.to_string());
    }
    until("a checkpoint passes them", || {
        let values = fake.values("mqtt-sessions", 0);
        values.iter().any(|value| is_checkpoint(value) && value.ends_with("/0@1000\"]}"))
    })
    .await;
    assert_eq!(written(&stage).0, own, "and nothing is written of the session");
    let (elsewhere, _) = at_the_tail(fake.clone(), Duration::from_secs(600), 0).await;
    let mut idle = Device::connected_as(elsewhere.address, 5, &staying("d0")).await;
    let state = fake
        .values("mqtt-sessions", 0)
        .into_iter()
        .rfind(|value| value.contains("connected"))
        .unwrap();
    assert!(state.contains(r#"/0@1000"]"#), "{state}");
    fake.record("t", 0, "d0", "for it");
    let id = idle.message("c/d0 q1 for it").await;
    idle.puback(id).await;
    assert_eq!(devices[0].rest().await, ["disconnect 0x8e"]);
}

/// Who was away comes back to an instance that has read on for others, and while Kafka does not say where one of its topics ends it has no seat: it
/// has settled nothing of what has come meanwhile, also if it is refused in the end.
#[tokio::test]
async fn a_session_that_is_still_coming_back_is_not_taken_for_one_that_has_settled_all() {
    let fake = Fake::start(2).await;
    for topic in ["t", "u", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    fake.lead("u", 0, 2);
    let rules = RULES.replace(
        "rules:",
        "rules:\n  - {name: back, direction: subscribe, mqtt: \"c/{key}\", qos: 1, kafka: {topic: t}}\n  \
         - {name: more, direction: subscribe, mqtt: \"e/{key}\", qos: 1, kafka: {topic: u}}",
    );
    let every = Duration::from_millis(100);
    let stage = Stage::with(fake, &rules, |config| config.store.as_mut().unwrap().checkpoint_every = every).await;
    let mut others = Device::connected_as(stage.address, 5, &staying("others")).await;
    others.subscribed("c/others", 1).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    device.subscribed("c/d", 1).await;
    device.subscribed("e/d", 1).await;
    device.disconnect(0).await;
    for number in 0..1000 {
        let key = if number == 500 { "d" } else { "somebody" };
        stage.fake.record("t", 0, key, &number.to_string());
    }
    let passed = || {
        let values = stage.fake.values("mqtt-sessions", 0);
        values.iter().rposition(|value| is_checkpoint(value) && value.contains("/0@1000\""))
    };
    until("a checkpoint passes them", || passed().is_some()).await;
    stage.fake.stop(&[2]);
    let mut refused = Device::open(stage.address, 5).await;
    refused.connect(&staying("d")).await;
    assert_eq!(refused.rest().await, ["connack 0x88 no connection within connect_timeout"]);
    stage.fake.stop(&[]);
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    let id = device.message("c/d q1 500").await;
    device.puback(id).await;
}

/// CONNECT with session expiry 0 ends a session when its connection ends; not one that was refused.
#[tokio::test]
async fn a_connect_that_is_refused_changes_nothing_of_the_session() {
    let fake = Fake::start(2).await;
    for topic in ["t", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    fake.lead("t", 0, 2);
    let rules = RULES.replace(
        "rules:",
        "rules:\n  - {name: back, direction: subscribe, mqtt: \"c/{key}\", qos: 1, kafka: {topic: t}}",
    );
    let stage = Stage::with(fake, &rules, |_| {}).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    device.subscribed("c/d", 1).await;
    device.disconnect(0).await;
    stage.fake.record("t", 0, "d", "while it was away");
    stage.fake.stop(&[2]);
    let mut ends = staying("d");
    ends.properties.as_mut().unwrap().session_expiry_interval = Some(0);
    let mut refused = Device::open(stage.address, 5).await;
    refused.connect(&ends).await;
    assert_eq!(refused.rest().await, ["connack 0x88 no connection within connect_timeout"]);
    stage.fake.stop(&[]);
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    let id = device.message("c/d q1 while it was away").await;
    device.puback(id).await;
}

/// Two clients subscribe again and again, so there is never a second in which the partition has nothing to do: a session whose time is over ends
/// all the same.
#[tokio::test]
async fn on_a_busy_partition_sessions_end_in_time() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let (stage, mut devices) = at_the_tail(fake, Duration::from_secs(5), 2).await;
    let mut short = staying("short");
    short.properties.as_mut().unwrap().session_expiry_interval = Some(1);
    let mut short = Device::connected_as(stage.address, 5, &short).await;
    short.disconnect(0).await;
    let has_ended = || {
        stage
            .fake
            .values("mqtt-sessions", 0)
            .iter()
            .any(|value| value.contains("\"ended\""))
    };
    let began = std::time::Instant::now();
    let mut next = tokio::time::interval(Duration::from_millis(100));
    while !has_ended() {
        assert!(began.elapsed() < Duration::from_secs(10), "its end is not written");
        for (number, device) in devices.iter_mut().enumerate() {
            next.tick().await;
            device.subscribed(&format!("c/d{number}"), 1).await;
        }
    }
}

/// A PUBLISH of QoS 2 that is to be retained; PUBREC has come.
async fn retained(device: &mut Device, topic: &str, id: u16, payload: &str) {
    let mut publish = v5::Publish::new(topic, level(2), payload);
    (publish.pkid, publish.retain) = (id, true);
    device.send_publish(&publish).await;
    assert_eq!(device.line().await, format!("pubrec {id}"));
    device.pubrel(id).await;
    assert_eq!(device.line().await, format!("pubcomp {id}"));
}

/// The topic has LogAppendTime, so also of a new record its broker says when it was appended, and its clock is behind that of the broker which
/// has the retained topic. By the timestamps the message would be older than the one that is retained, which lies in another partition.
#[tokio::test]
async fn a_new_message_is_retained_whatever_the_clocks_of_brokers_say() {
    let fake = Fake::start(1).await;
    fake.topic("t", 2);
    fake.topic("mqtt-sessions", 1);
    fake.topic("mqtt-retained", 1);
    for partition in &mut fake.world().topics.get_mut("t").unwrap().partitions {
        partition.log_append_time = Some(1);
    }
    let rules = RULES.replace("partition: 0", "partition: round-robin");
    let stage = Stage::with(fake, &rules, |config| config.session.retain_available = true).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    retained(&mut device, "t/1", 1, "first").await;
    retained(&mut device, "t/1", 2, "second").await;
    let (one, other) = (stage.fake.values("t", 0), stage.fake.values("t", 1));
    assert_eq!((one.len(), other.len()), (1, 1), "each lies in a partition of its own");
    assert_eq!(stage.fake.values("mqtt-retained", 0), ["first", "second"]);
}

/// The message is in the topic of its rule, so it is no dead letter: it is acknowledged, and that it is not retained is counted.
#[tokio::test]
async fn a_stored_message_that_kafka_does_not_retain_is_counted_and_is_no_dead_letter() {
    let fake = Fake::start(1).await;
    for topic in ["t", "mqtt-sessions", "mqtt-retained", "dead"] {
        fake.topic(topic, 1);
    }
    fake.world().topics.get_mut("mqtt-retained").unwrap().partitions[0].refuses = Some(87);
    let rules = RULES.replace("partition: 0}}", "partition: 0}, on_error: {dead_letter: dead}}");
    let stage = Stage::with(fake, &rules, |config| config.session.retain_available = true).await;
    let mut device = Device::connected_as(stage.address, 5, &staying("d")).await;
    let before = stage.refusals();
    retained(&mut device, "t/1", 1, "kept").await;
    assert_eq!(stage.fake.values("t", 0), ["kept"]);
    assert_eq!(stage.fake.values("dead", 0), Vec::<String>::new());
    assert_eq!(stage.refusals(), before + 1);
}

/// Nothing of it is stored, so it stays when its instance gives its sessions up; its client id is unique over all instances nevertheless.
#[tokio::test]
async fn a_client_of_which_nothing_is_stored_is_taken_over_also_from_an_instance_that_had_given_everything_up() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let first = Stage::with(fake.clone(), RULES, |config| {
        config.store.as_mut().unwrap().instance_timeout = Duration::from_millis(500);
    })
    .await;
    let mut fleeting = Device::connected_as(first.address, 5, &taking("fleeting", 10)).await;
    until("it is claimed", || !fake.values("mqtt-sessions", 0).is_empty()).await;
    let mut stored = Device::connected_as(first.address, 5, &staying("stored")).await;
    for api in [ApiKey::FindCoordinator, ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup] {
        fake.world().groups.fail(api, repeat_n(Fault::Code(15), 100_000));
    }
    assert_eq!(stored.rest().await, ["disconnect 0x89"], "all is given up");
    fake.world().groups.faults.clear();
    assert_eq!(fleeting.fence().await, [""; 0]);
    let second = Stage::with(fake.clone(), RULES, |_| ()).await;
    let mut elsewhere = Device::connected_as(second.address, 5, &taking("fleeting", 10)).await;
    assert_eq!(fleeting.rest().await, ["disconnect 0x8e"]);
    assert_eq!(elsewhere.fence().await, [""; 0]);
}

/// It is let in while Kafka is away, before anybody knows where sessions are stored. Its claim follows.
#[tokio::test]
async fn a_client_that_came_before_kafka_is_taken_over_elsewhere() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    fake.paused.send_replace(true);
    let first = Stage::launch(fake.clone(), RULES, |_| ()).await;
    let mut early = Device::connected_as(first.address, 5, &taking("fleeting", 10)).await;
    fake.paused.send_replace(false);
    first.ready().await;
    until("it is claimed", || !fake.values("mqtt-sessions", 0).is_empty()).await;
    let second = Stage::with(fake.clone(), RULES, |_| ()).await;
    let mut elsewhere = Device::connected_as(second.address, 5, &taking("fleeting", 10)).await;
    assert_eq!(early.rest().await, ["disconnect 0x8e"]);
    assert_eq!(elsewhere.fence().await, [""; 0]);
}

/// A client repeats a PUBLISH of QoS 2 that Kafka has, since it has not heard PUBREC, to an instance with other rules (a configuration is rolled out).
#[tokio::test]
async fn a_message_that_is_repeated_to_an_instance_whose_rule_writes_elsewhere_is_taken_by_its_pair() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    for topic in ["t", "u", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    let first = Stage::with(fake.clone(), RULES, |_| ()).await;
    let mut device = Device::connected_as(first.address, 5, &staying("d")).await;
    device.publish("t/1", 2, 7, "once").await;
    assert_eq!(device.line().await, "pubrec 7");
    drop((device, first));
    assert_eq!(fake.values("t", 0), ["once"]);
    let second = Stage::with(fake.clone(), &RULES.replace("topic: t,", "topic: u,"), |_| ()).await;
    let mut device = Device::connected_as(second.address, 5, &staying("d")).await;
    device.publish("t/1", 2, 7, "once").await;
    let said = device.line().await;
    assert_eq!(
        (said.as_str(), fake.values("t", 0).len(), fake.values("u", 0).len()),
        ("pubrec 7", 1, 0)
    );
}

/// The same in 3.1.1, which has no word for a refusal: the device sends it again, and the pair is gone.
#[tokio::test]
async fn what_an_old_client_repeats_to_such_an_instance_is_not_written_twice() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    for topic in ["t", "u", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    let first = Stage::with(fake.clone(), RULES, |_| ()).await;
    let mut device = Device::connected_as(first.address, 4, &staying("d")).await;
    device.publish("t/1", 2, 7, "once").await;
    assert_eq!(device.line().await, "pubrec 7");
    drop((device, first));
    let second = Stage::with(fake.clone(), &RULES.replace("topic: t,", "topic: u,"), |_| ()).await;
    for _ in 0..3 {
        let mut device = Device::open(second.address, 4).await;
        device.connect(&staying("d")).await;
        device.line().await;
        device.publish("t/1", 2, 7, "once").await;
        if device.line().await == "pubrec 7" {
            break;
        }
    }
    assert_eq!((fake.values("t", 0).len(), fake.values("u", 0).len()), (1, 0));
}

/// The partition of the pair is one that the topic has gained, of which the second instance has not heard yet.
#[tokio::test]
async fn a_message_that_is_repeated_to_an_instance_that_does_not_know_its_partition_is_not_written_twice() {
    for version in [5, 4] {
        let fake = std::sync::Arc::new(Fake::start(1).await);
        fake.topic("t", 2);
        fake.topic("mqtt-sessions", 1);
        let rules = RULES.replace(", partition: 0", "");
        let first = Stage::with(fake.clone(), &rules, |_| ()).await;
        // One whose key belongs to the second partition.
        let mut topic = None;
        for number in 0..8 {
            let name = format!("t/{number}");
            let mut probe = first.v5("probe").await;
            probe.publish(&name, 1, 1, "probe").await;
            assert_eq!(probe.line().await, "puback 1");
            if !fake.values("t", 1).is_empty() {
                topic = Some(name);
                break;
            }
        }
        let topic = topic.unwrap();
        let before = fake.all_values("t").len();
        let mut device = Device::connected_as(first.address, version, &staying("d")).await;
        device.publish(&topic, 2, 7, "once").await;
        assert_eq!(device.line().await, "pubrec 7");
        drop((device, first));
        fake.world().fewer.insert("t".to_owned(), 1);
        fake.world().late = None;
        // It is not told of the partition for longer than it waits.
        let second = Stage::with(fake.clone(), &rules, |config| {
            config.kafka.producer.delivery_timeout = Duration::from_secs(1);
        })
        .await;
        let mut said = Vec::new();
        for _ in 0..3 {
            let mut device = Device::open(second.address, version).await;
            device.connect(&staying("d")).await;
            device.line().await;
            device.publish(&topic, 2, 7, "once").await;
            said.push(device.line().await);
            if said.last().unwrap() == "pubrec 7" {
                break;
            }
            fake.world().fewer.clear();
        }
        let count = fake.all_values("t").len() - before;
        assert_eq!(
            (count, said.last().map(String::as_str)),
            (1, Some("pubrec 7")),
            "version {version}: {said:?}"
        );
    }
}

/// A 3.1.1 device that has lost its memory begins with packet id 1 again, at QoS 1. The exchange from before stays as it was.
#[tokio::test]
async fn a_device_that_has_lost_its_memory_is_not_locked_out() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let stage = Stage::with(fake, RULES, |_| ()).await;
    for version in [4, 5] {
        let client = format!("d{version}");
        let mut device = Device::connected_as(stage.address, version, &staying(&client)).await;
        device.publish("t/1", 2, 1, "before").await;
        assert_eq!(device.line().await, "pubrec 1");
        drop(device);
        let mut device = Device::connected_as(stage.address, version, &staying(&client)).await;
        device.publish("t/1", 1, 1, "after").await;
        assert_eq!(device.line().await, "puback 1");
        device.publish("t/1", 2, 1, "before").await;
        assert_eq!(device.line().await, "pubrec 1");
    }
    assert_eq!(stage.fake.values("t", 0), ["before", "after", "before", "after"]);
}

/// Its program makes fewer records of a message than it did when the pairs were written (it was changed, or looks at the time or a table).
#[tokio::test]
async fn a_message_of_which_the_rules_make_fewer_records_when_it_is_repeated_comes_to_an_end() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    for topic in ["t", "mqtt-sessions"] {
        fake.topic(topic, 1);
    }
    let rules = |program: &str| RULES.replace("partition: 0}}", &format!("partition: 0}}, transform: '{program}'}}"));
    let first = Stage::with(fake.clone(), &rules(".[]"), |_| ()).await;
    let mut device = Device::connected_as(first.address, 5, &staying("d")).await;
    device.publish("t/1", 2, 7, "[1,2]").await;
    assert_eq!(device.line().await, "pubrec 7");
    drop((device, first));
    let second = Stage::with(fake.clone(), &rules(".[0]"), |_| ()).await;
    let mut device = Device::connected_as(second.address, 5, &staying("d")).await;
    device.publish("t/1", 2, 7, "[1,2]").await;
    assert_eq!(device.line().await, "pubrec 7");
    assert_eq!(fake.values("t", 0), ["1", "2"]);
    // Nothing that follows rests on a sequence that may not be there.
    device.publish("t/1", 2, 8, "[3,4]").await;
    assert_eq!(device.line().await, "pubrec 8");
    assert_eq!(fake.values("t", 0), ["1", "2", "3"]);
}

/// The rule takes no retained messages any more: the one that was begun is completed without being retained, and the next one is refused. So it is where another rule
/// still takes them, and where none does.
#[tokio::test]
async fn a_retained_message_that_is_repeated_when_its_rule_takes_none_any_more_comes_to_an_end() {
    for some_are_retained in [true, false] {
        let fake = std::sync::Arc::new(Fake::start(1).await);
        for topic in ["t", "mqtt-sessions", "mqtt-retained"] {
            fake.topic(topic, 1);
        }
        let publish = |id: u16, payload: &str| {
            let mut publish = v5::Publish::new("t/1", level(2), payload);
            (publish.pkid, publish.retain) = (id, true);
            publish
        };
        let first = Stage::with(fake.clone(), RULES, |config| config.session.retain_available = true).await;
        let mut device = Device::connected_as(first.address, 5, &staying("d")).await;
        device.send_publish(&publish(7, "once")).await;
        assert_eq!(device.line().await, "pubrec 7");
        drop((device, first));
        let rules = RULES.replace("partition: 0}}", "partition: 0}, retain: deny}");
        let second = Stage::with(fake.clone(), &rules, |config| config.session.retain_available = some_are_retained).await;
        let mut device = Device::connected_as(second.address, 5, &staying("d")).await;
        device.send_publish(&publish(7, "once")).await;
        assert_eq!(device.line().await, "pubrec 7");
        device.pubrel(7).await;
        assert_eq!(device.line().await, "pubcomp 7");
        device.send_publish(&publish(7, "next")).await;
        assert_eq!(device.rest().await, ["disconnect 0x9a"]);
        assert_eq!(
            (fake.values("t", 0), fake.values("mqtt-retained", 0)),
            (vec!["once".to_owned()], vec!["once".to_owned()])
        );
    }
}

/// A will whose pair is written is sent by whoever claims the session; by the rules of before, and by others.
#[tokio::test]
async fn a_will_whose_pair_is_written_is_sent_by_an_instance_whose_rule_writes_elsewhere() {
    for rules in [RULES.to_owned(), RULES.replace("topic: t,", "topic: u,")] {
        let fake = std::sync::Arc::new(Fake::start(1).await);
        for topic in ["t", "u", "mqtt-sessions"] {
            fake.topic(topic, 1);
        }
        let quick = |config: &mut mqtt_kafka_proxy::config::Config| {
            config.store.as_mut().unwrap().instance_timeout = Duration::from_millis(500);
        };
        // NOT_ENOUGH_REPLICAS: not now.
        fake.world().topics.get_mut("t").unwrap().partitions[0].refuses = Some(19);
        let first = Stage::with(fake.clone(), RULES, quick).await;
        let mut connect = staying("d");
        connect.last_will = relay_stage::device::will("t/gone");
        let device = Device::connected_as(first.address, 5, &connect).await;
        drop(device);
        until("the pair is written", || {
            fake.values("mqtt-sessions", 0).iter().any(|value| value.contains("pairs"))
        })
        .await;
        first.cluster.shutdown().await;
        drop(first);
        let produced = fake.seen(ApiKey::Produce);
        let second = Stage::with(fake.clone(), &rules, quick).await;
        until("it is tried", || fake.seen(ApiKey::Produce) > produced + 1).await;
        fake.world().topics.get_mut("t").unwrap().partitions[0].refuses = None;
        assert_eq!(second.stored("t", 1).await, ["gone"]);
        assert_eq!((fake.values("t", 0).len(), fake.values("u", 0).len()), (1, 0));
    }
}
