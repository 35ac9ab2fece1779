//! What a stored session finds when it comes back: its shared subscriptions, its places in logs that changed meanwhile, its options.
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
        .map(|number| v5::SubscribeFilter::new(format!("$share/h{number}/c/#"), relay_stage::device::level(1)))
        .collect();
    device.send_subscribe(&others).await;
    assert_eq!(device.line().await, "suback 1 1,1,1,1,1");
}
