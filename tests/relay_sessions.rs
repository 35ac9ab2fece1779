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
