//! Retained messages that stored sessions get: each has its packet id across connections, whatever breaks in between (§4.3.3, §4.4).

use std::sync::Arc;

use mqtt_kafka_proxy::mapping::partition_for_key;
use mqttbytes::v5;

use crate::{
    RETAINED,
    fake_broker::{
        Fake,
        client::until,
        records::{Batch, record},
    },
    relay_stage::{
        Stage,
        device::{Device, subscribe, taking},
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
    instance_by(fake, RULES).await
}

async fn instance_by(fake: &Arc<Fake>, rules: &str) -> Stage {
    let stage = Stage::with(fake.clone(), rules, |config| config.session.retain_available = true).await;
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

/// A retained message as its publisher's instance writes it: both records.
fn publish(stage: &Stage, topic: &str, payload: &str) {
    let levels: Vec<&str> = topic.split('/').collect();
    let mapped = record(levels[1], payload).header("b", levels[2]);
    let mapped = stage.fake.write("t", 0, &Batch::of(&[mapped]).bytes());
    retain(stage, topic, payload, mapped);
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

/// The next message, which is taken whole.
async fn takes(device: &mut Device, qos: u8, content: &str) {
    let id = device.message(content).await;
    match qos {
        2 => completes(device, id).await,
        _ => device.puback(id).await,
    }
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

/// It came by one of two subscriptions that match: of which, its quality of service tells, unless both were granted the same.
#[tokio::test]
async fn a_message_comes_again_with_the_identifier_of_the_subscription_that_it_came_by() {
    for (qos, quiet) in [(1, 2), (2, 1)] {
        let [one, other] = instances().await;
        retain(&one, "t/1/x", "kept", 1);
        let mut device = stored(&one).await;
        for (filter, granted, id, handling) in [
            ("t/#", quiet, 40 + usize::from(quiet), v5::RetainForwardRule::Never),
            ("t/1/#", qos, 40 + usize::from(qos), v5::RetainForwardRule::OnEverySubscribe),
        ] {
            let mut wish = subscribe(filter, granted);
            wish.filters[0].retain_forward_rule = handling;
            wish.properties = Some(v5::SubscribeProperties {
                id: Some(id),
                user_properties: vec![],
            });
            device.send_subscribe(&wish).await;
            assert_eq!(device.line().await, format!("suback 1 {granted}"));
        }
        let id = device.message(&format!("t/1/x q{qos} retain kept sub4{qos}")).await;
        drop(device);
        let mut device = stored(&other).await;
        assert_eq!(device.message(&format!("t/1/x q{qos} dup retain kept sub4{qos}")).await, id);
    }
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

/// The packet id of one that is gone goes to the next message, in the same turn of the connection.
#[tokio::test]
async fn what_gets_the_packet_id_of_one_that_is_gone_stays_open() {
    let [one, other] = instances().await;
    let mut device = stored(&one).await;
    let mapped = one.fake.world().topics["t"].id.as_simple().to_string();
    let old = record("t/1/x", "old")
        .header("mqtt.mapped", &format!("t/{mapped}/0/0"))
        .header("mqtt.qos", "1");
    let partition = partition_for_key(b"t/1/x", 2) as usize;
    let offset = one.fake.write(RETAINED, partition, &Batch::of(&[old]).bytes());
    device.subscribed("t/1/x", 2).await;
    let former = device.message("t/1/x q1 retain old").await;
    drop(device);
    retain(&one, "t/1/x", "new", 1);
    one.fake.compact(RETAINED, partition, offset);
    live(&other, "live");
    let mut device = stored(&other).await;
    let next = device.message("t/1/x q2 live").await;
    assert_eq!(next, former, "this is about packet ids that are used again");
    device.disconnect(0).await;
    assert!(device.rest().await.is_empty());
    assert_eq!(stored(&one).await.message("t/1/x q2 dup live").await, next);
}

/// The right is asked for what it was sent with: it may be kept with more than its client may have.
#[tokio::test]
async fn what_is_open_comes_by_the_right_to_what_it_was_sent_with() {
    let [one, _] = instances().await;
    let rules = format!("{RULES}\nauthorization: [{{allow: [subscribe], topics: [\"t/#\"], qos: 1}}]");
    let stage = instance_by(&one.fake, &rules).await;
    retain(&stage, "t/1/x", "kept", 1);
    let mut device = stored(&stage).await;
    device.subscribed("t/#", 1).await;
    let id = device.message("t/1/x q1 retain kept").await;
    device.unsubscribe("t/#").await;
    drop(device);
    assert_eq!(stored(&stage).await.message("t/1/x q1 dup retain kept").await, id);
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
    // What the second SUBSCRIBE had not given yet, then the log.
    takes(&mut device, 1, "t/1/x q1 retain kept").await;
    takes(&mut device, 1, "t/1/x q1 live").await;
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

/// More than the client takes at a time: what is left comes after its return, and nothing of it twice. What was retained meanwhile comes in its order.
#[tokio::test]
async fn a_walk_goes_on_where_it_was_at_any_instance() {
    // At QoS 2 also if its instance dies.
    for (qos, instance_dies) in [(2, true), (1, false)] {
        let [one, other] = instances().await;
        for n in 0..12 {
            retain(&one, &format!("t/{n:02}/x"), "kept", 1);
        }
        let mut device = stored_taking(&one, 1).await;
        device.subscribed("t/#", qos).await;
        for n in 0..6 {
            takes(&mut device, qos, &format!("t/{n:02}/x q{qos} retain kept")).await;
        }
        let open = device.message(&format!("t/06/x q{qos} retain kept")).await;
        match instance_dies {
            true => dies(&one, device).await,
            false => drop(device),
        }
        publish(&other, "t/03/x", "news");
        publish(&other, "t/10/x", "news");
        let mut device = stored_taking(&other, 1).await;
        let again = device.message(&format!("t/06/x q{qos} dup retain kept")).await;
        assert_eq!(again, open);
        match qos {
            2 => completes(&mut device, open).await,
            _ => device.puback(open).await,
        }
        for n in [7, 8, 9, 11] {
            takes(&mut device, qos, &format!("t/{n:02}/x q{qos} retain kept")).await;
        }
        for n in [3, 10] {
            takes(&mut device, qos, &format!("t/{n:02}/x q{qos} news")).await;
        }
        assert!(device.fence().await.is_empty());
        device.disconnect(0).await;
        assert!(stored(&one).await.fence().await.is_empty(), "it is over");
    }
}

/// What came as ordinary messages before is given again to who asks again, and all of it.
#[tokio::test]
async fn a_walk_of_a_subscription_that_stood_before_goes_on_too() {
    let [one, other] = instances().await;
    let mut device = stored_taking(&one, 1).await;
    device.subscribed("t/#", 1).await;
    for n in 0..6 {
        publish(&one, &format!("t/{n}/x"), "news");
        takes(&mut device, 1, &format!("t/{n}/x q1 news")).await;
    }
    device.subscribed("t/#", 1).await;
    for n in 0..2 {
        takes(&mut device, 1, &format!("t/{n}/x q1 retain news")).await;
    }
    device.message("t/2/x q1 retain news").await;
    drop(device);
    publish(&other, "t/9/x", "later");
    let mut device = stored_taking(&other, 1).await;
    takes(&mut device, 1, "t/2/x q1 dup retain news").await;
    for n in 3..6 {
        takes(&mut device, 1, &format!("t/{n}/x q1 retain news")).await;
    }
    takes(&mut device, 1, "t/9/x q1 later").await;
    assert!(device.fence().await.is_empty());
}

/// That it is over is written no later than what comes after it at QoS 2, or that would be found again by it.
#[tokio::test]
async fn a_walk_that_is_over_gives_nothing_again_at_qos_2() {
    let [one, other] = instances().await;
    retain(&one, "t/1/x", "kept", 1);
    let mut device = stored(&one).await;
    device.subscribed("t/#", 2).await;
    takes(&mut device, 2, "t/1/x q2 retain kept").await;
    // Asked for again, so that positions count.
    device.subscribed("t/#", 2).await;
    takes(&mut device, 2, "t/1/x q2 retain kept").await;
    publish(&one, "t/2/x", "news");
    takes(&mut device, 2, "t/2/x q2 news").await;
    dies(&one, device).await;
    let lines = stored(&other).await.fence().await;
    assert!(lines.iter().all(|line| line.starts_with("pubrel ")), "{lines:?}");
}
