//! Retained messages that stored sessions get: each has its packet id across connections, whatever breaks in between (§4.3.3, §4.4).

use std::sync::Arc;

use mqtt_kafka_proxy::mapping::partition_for_key;

use crate::{
    RETAINED,
    fake_broker::{
        Fake,
        client::until,
        records::{Batch, record},
    },
    relay_stage::{
        Stage,
        device::{Device, taking},
    },
};

const RULES: &str = r#"rules:
  - {name: t, mqtt: "t/{a}/{b}", kafka: {topic: t, key: "{a}", headers: {b: "{b}"}}, qos: 2}
sessions: {expiry: {}}"#;

/// Two instances, and a mapped topic that holds nine records.
async fn instances() -> [Stage; 2] {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("t", 1);
    fake.topic(RETAINED, 2);
    fake.topic("mqtt-sessions", 1);
    for _ in 0..9 {
        fake.record("t", 0, "filler", "x");
    }
    [instance(&fake).await, instance(&fake).await]
}

async fn instance(fake: &Arc<Fake>) -> Stage {
    let stage = Stage::with(fake.clone(), RULES, |config| config.session.retain_available = true).await;
    stage.relay.waits_for().wait_for(Option::is_none).await.unwrap();
    stage
}

async fn stored(stage: &Stage) -> Device {
    stored_taking(stage, 10).await
}

/// A client whose session outlives its connections by ten minutes.
async fn stored_taking(stage: &Stage, receive_maximum: u16) -> Device {
    let mut connect = taking("stored", receive_maximum);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    Device::connected_as(stage.address, 5, &connect).await
}

/// Writes a retained message whose mapped record lies at `mapped`: partition and offset of its record.
fn retain(stage: &Stage, topic: &str, payload: &str, mapped: i64) -> (usize, i64) {
    let id = stage.fake.world().topics["t"].id.as_simple().to_string();
    let record = record(topic, payload).header("mqtt.mapped", &format!("t/{id}/0/{mapped}"));
    let partition = partition_for_key(topic.as_bytes(), 2) as usize;
    (partition, stage.fake.write(RETAINED, partition, &Batch::of(&[record]).bytes()))
}

/// A message that is not retained.
fn live(stage: &Stage, payload: &str) {
    let record = record("1", payload).header("b", "x");
    stage.fake.write("t", 0, &Batch::of(&[record]).bytes());
}

async fn pubrec(device: &mut Device, id: u16) {
    device.bytes(&[0x50, 2, (id >> 8) as u8, id as u8]).await;
    assert_eq!(device.line().await, format!("pubrel {id}"));
}

async fn completes(device: &mut Device, id: u16) {
    pubrec(device, id).await;
    pubcomp(device, id).await;
}

async fn pubcomp(device: &mut Device, id: u16) {
    device.bytes(&[0x70, 2, (id >> 8) as u8, id as u8]).await;
}

/// Somebody else claims the session, so what its instance tells from then on counts for nothing: as if it had died.
async fn dies(stage: &Stage, mut device: Device) {
    let claim = record("claim:stored", r#"{"v":1,"owner":"elsewhere","n":1,"since":1764102345678}"#);
    let claim = claim.header("v", "1").header("owner", "elsewhere").header("n", "1");
    stage.fake.write("mqtt-sessions", 0, &Batch::of(&[claim]).bytes());
    assert_eq!(device.rest().await, ["disconnect 0x8e"]);
}

/// Were its packet id forgotten, the next message would get it, and the client take that for the one that it has [MQTT-4.3.3-10].
#[tokio::test]
async fn what_the_client_has_is_released_and_its_packet_id_is_no_other_messages() {
    let [one, other] = instances().await;
    retain(&one, "t/1/x", "kept", 1);
    let mut device = stored(&one).await;
    device.subscribed("t/#", 2).await;
    let id = device.message("t/1/x q2 retain kept").await;
    pubrec(&mut device, id).await;
    drop(device);
    let mut device = stored(&other).await;
    assert_eq!(device.line().await, format!("pubrel {id}"));
    live(&other, "live");
    let next = device.message("t/1/x q2 live").await;
    assert_ne!(next, id);
    pubcomp(&mut device, id).await;
    completes(&mut device, next).await;
    device.disconnect(0).await;
    assert!(stored(&one).await.fence().await.is_empty(), "each came once");
}

/// Also if its instance dies right after the PUBLISH.
#[tokio::test]
async fn a_message_of_qos_2_comes_again_until_the_client_has_it() {
    let [one, other] = instances().await;
    retain(&one, "t/1/x", "kept", 1);
    let mut device = stored(&one).await;
    device.subscribed("t/#", 2).await;
    let id = device.message("t/1/x q2 retain kept").await;
    dies(&one, device).await;
    live(&other, "live");
    for stage in [&other, &one] {
        let mut device = stored(stage).await;
        assert_eq!(device.message("t/1/x q2 dup retain kept").await, id);
    }
    let mut device = stored(&other).await;
    assert_eq!(device.message("t/1/x q2 dup retain kept").await, id);
    let next = device.message("t/1/x q2 dup live").await;
    completes(&mut device, id).await;
    completes(&mut device, next).await;
    device.disconnect(0).await;
    assert!(stored(&one).await.fence().await.is_empty(), "each came once");
}

#[tokio::test]
async fn a_message_of_qos_1_comes_again_until_it_is_acknowledged() {
    let [one, other] = instances().await;
    retain(&one, "t/1/x", "kept", 1);
    let mut device = stored(&one).await;
    device.subscribed("t/#", 1).await;
    let id = device.message("t/1/x q1 retain kept").await;
    drop(device);
    let mut device = stored(&other).await;
    assert_eq!(device.message("t/1/x q1 dup retain kept").await, id);
    // It is told again when it is open for longer, without the end of a connection.
    device.puback(id).await;
    retain(&one, "t/2/x", "more", 2);
    device.subscribed("t/2/x", 1).await;
    let more = device.message("t/2/x q1 retain more").await;
    let is_told = || {
        let values = one.fake.values("mqtt-sessions", 0);
        let flight = format!("\"flight\":[\"{more} ");
        values.last().is_some_and(|last| last.contains(&flight))
    };
    until("it is told to be open", is_told).await;
    dies(&other, device).await;
    let mut device = stored(&one).await;
    assert_eq!(device.message("t/2/x q1 dup retain more").await, more);
    device.puback(more).await;
    device.disconnect(0).await;
    assert!(stored(&other).await.fence().await.is_empty());
}

/// What was replaced meanwhile, and compacted, is nobody's any more. At QoS 2 the client may have it, so its packet id is released in order.
#[tokio::test]
async fn what_is_gone_from_the_topic_is_released() {
    let [one, other] = instances().await;
    for (qos, first) in [(2, 0), (1, 4)] {
        let (partition, offset) = retain(&one, "t/1/x", "old", first);
        let mut device = stored(&one).await;
        device.subscribed("t/+/x", qos).await;
        let id = device.message(&format!("t/1/x q{qos} retain old")).await;
        drop(device);
        retain(&one, "t/1/x", "new", first + 1);
        one.fake.compact(RETAINED, partition, offset);
        let mut device = stored(&other).await;
        if qos == 2 {
            assert_eq!(device.line().await, format!("pubrel {id}"));
            pubcomp(&mut device, id).await;
        }
        live(&other, "live");
        let next = device.message(&format!("t/1/x q{qos} live")).await;
        match qos {
            2 => completes(&mut device, next).await,
            _ => device.puback(next).await,
        }
        device.unsubscribe("t/+/x").await;
        device.disconnect(0).await;
        assert!(stored(&one).await.fence().await.is_empty());
    }
}

/// As many at a time as the client takes, before anything new, and also if the subscription is over.
#[tokio::test]
async fn what_is_open_comes_as_the_window_allows_also_without_its_subscription() {
    let [one, other] = instances().await;
    for n in 0..4 {
        retain(&one, &format!("t/{n}/x"), "kept", n);
    }
    let mut device = stored_taking(&one, 3).await;
    device.subscribed("t/#", 2).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(device.message(&format!("t/{n}/x q2 retain kept")).await);
    }
    device.unsubscribe("t/#").await;
    device.subscribed("t/1/x", 1).await;
    drop(device);
    live(&other, "live");
    let mut device = stored_taking(&other, 1).await;
    for (n, id) in ids.into_iter().enumerate() {
        assert_eq!(device.message(&format!("t/{n}/x q2 dup retain kept")).await, id);
        assert!(device.fence().await.is_empty(), "it takes one at a time");
        completes(&mut device, id).await;
    }
    device.message("t/1/x q1 live").await;
}

/// A message whose record is read only after SUBACK.
#[tokio::test]
async fn what_came_late_is_the_sessions_too() {
    let [one, other] = instances().await;
    let mut device = stored(&one).await;
    device.subscribed("t/#", 2).await;
    retain(&one, "t/1/x", "late", 1);
    let id = device.message("t/1/x q2 retain late").await;
    drop(device);
    let mut device = stored(&other).await;
    assert_eq!(device.message("t/1/x q2 dup retain late").await, id);
    completes(&mut device, id).await;
    assert!(device.fence().await.is_empty());
}
