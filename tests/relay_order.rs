//! Messages of one topic from one client keep their order in one partition, whatever their qualities of service: those of QoS 2 of a stored session go into
//! Kafka another way than all others.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use fake_broker::{Fake, client::until};
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, level, taking, will},
};

const RULES: &str = r#"rules:
  - {name: back, mqtt: "c/{key}", qos: 2, kafka: {topic: t, partition: 0, key: "{key}"}}
sessions: {expiry: {}}"#;

const PUBLISHES: &str = r#"packets_total{type="publish",direction="received"}"#;
const GOODBYES: &str = r#"packets_total{type="disconnect",direction="received"}"#;

async fn stage() -> Stage {
    let fake = Fake::start(1).await;
    for topic in ["t", "mqtt-sessions", "mqtt-retained"] {
        fake.topic(topic, 1);
    }
    Stage::with(fake, RULES, |config| config.session.retain_available = true).await
}

/// CONNECT of a client whose session is stored.
fn staying(client: &str) -> v5::Connect {
    let mut connect = taking(client, 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    connect
}

async fn device(stage: &Stage, client: &str) -> Device {
    Device::connected_as(stage.address, 5, &staying(client)).await
}

/// Records of clients' messages that were written down before they go into Kafka.
fn pairs(stage: &Stage) -> usize {
    let values = stage.fake.values("mqtt-sessions", 0);
    values.iter().filter(|value| value.contains("\"in\":[")).count()
}

#[tokio::test]
async fn qos_2_is_not_overtaken_by_what_is_published_behind_it() {
    for second in [1, 0] {
        let stage = stage().await;
        let mut device = device(&stage, "d").await;
        for round in 0..3_u16 {
            device.publish("c/1", 2, 2 * round + 1, format!("{round} first")).await;
            let packet = if second == 0 { 0 } else { 2 * round + 2 };
            device.publish("c/1", second, packet, format!("{round} second")).await;
        }
        until("all are there", || stage.fake.all_values("t").len() == 6).await;
        let wanted: Vec<_> = (0..3)
            .flat_map(|round| [format!("{round} first"), format!("{round} second")])
            .collect();
        assert_eq!(stage.fake.values("t", 0), wanted, "QoS {second}");
    }
}

/// One whose topic has its leader at the second broker; all else is with the first.
async fn two_brokers() -> Stage {
    let fake = Fake::start(2).await;
    fake.topic("t", 2);
    fake.topic("mqtt-sessions", 1);
    let rules = r#"rules:
  - {name: held, mqtt: "c/{key}", kafka: {topic: t, partition: 1, key: "{key}"}}
  - {name: free, mqtt: "free", kafka: {topic: t, partition: 0}}
sessions: {expiry: {}}"#;
    Stage::with(fake, rules, |_| ()).await
}

/// Kafka has not answered what is before it, and may still ask for it once more.
#[tokio::test]
async fn qos_2_does_not_overtake_what_is_under_way() {
    for qos in [1, 0] {
        let stage = two_brokers().await;
        let mut slow = device(&stage, "slow").await;
        let mut other = device(&stage, "other").await;
        stage.fake.hold_produce(&[2]);
        slow.publish("c/1", qos, qos.into(), "first").await;
        until("the first is there", || !stage.fake.values("t", 1).is_empty()).await;
        slow.publish("c/1", 2, 2, "second").await;
        until("both are read", || stage.metric(PUBLISHES) == 2).await;
        other.publish("free", 2, 1, "beside").await;
        assert_eq!(other.line().await, "pubrec 1");
        // What it had given to the store would be written by now.
        assert_eq!(pairs(&stage), 1, "the other's");
        stage.fake.hold_produce(&[]);
        if qos == 1 {
            assert_eq!(slow.line().await, "puback 1");
        }
        assert_eq!(slow.line().await, "pubrec 2");
        assert_eq!(pairs(&stage), 2);
        assert_eq!(stage.fake.values("t", 1), ["first", "second"]);
    }
}

/// Birth and death: were the death the older record, the device would be retained as alive.
#[tokio::test]
async fn a_will_does_not_overtake_what_its_client_has_published() {
    let stage = two_brokers().await;
    let mut connect = staying("slow");
    connect.last_will = will("c/1");
    let mut slow = Device::connected_as(stage.address, 5, &connect).await;
    let mut other = device(&stage, "other").await;
    stage.fake.hold_produce(&[2]);
    slow.publish("c/1", 1, 1, "born").await;
    until("it is there", || !stage.fake.values("t", 1).is_empty()).await;
    // With the will.
    slow.disconnect(4).await;
    until("it is read", || stage.metric(GOODBYES) == 1).await;
    other.publish("free", 2, 1, "beside").await;
    assert_eq!(other.line().await, "pubrec 1");
    // Had the store been told of the end, it would be written by now.
    let ended = || {
        let values = stage.fake.values("mqtt-sessions", 0);
        values.iter().any(|value| value.contains("\"connected\":false"))
    };
    assert!(!ended());
    stage.fake.hold_produce(&[]);
    until("the will is sent", || stage.fake.values("t", 1) == ["born", "gone"]).await;
    assert!(ended());
}

#[tokio::test]
async fn what_a_device_retains_last_is_retained() {
    let stage = stage().await;
    let mut device = device(&stage, "d").await;
    for (id, qos, payload) in [(1, 2, "on"), (2, 1, "off")] {
        let mut publish = v5::Publish::new("c/1", level(qos), payload);
        (publish.pkid, publish.retain) = (id, true);
        device.send_publish(&publish).await;
    }
    assert_eq!([device.line().await, device.line().await], ["pubrec 1", "puback 2"]);
    let mut other = stage.v5("other").await;
    other.subscribed("c/1", 1).await;
    other.message("c/1 q1 retain off").await;
}

/// Only those of its own topic wait for a message.
#[tokio::test]
async fn other_topics_do_not_wait() {
    let stage = stage().await;
    let mut device = device(&stage, "d").await;
    device.publish("c/1", 2, 1, "begun").await;
    device.publish("c/2", 1, 2, "beside").await;
    device.publish("c/1", 1, 3, "behind").await;
    let mut said = [device.line().await, device.line().await, device.line().await];
    said.sort();
    assert_eq!(said, ["puback 2", "puback 3", "pubrec 1"]);
    assert_eq!(stage.fake.values("t", 0), ["beside", "begun", "behind"]);
}
