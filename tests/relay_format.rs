//! The payload format indicator (§3.3.2.3.2), taken at its word or not.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use bytes::Bytes;
use fake_broker::Fake;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, connect, level, will},
};

const RULES: &str = r#"rules:
  - {name: all, mqtt: "t/+", kafka: {topic: t, partition: 0}}"#;

const TEXT: &[u8] = "19 °C".as_bytes();
const BYTES: &[u8] = b"19 \xb0C";

async fn stage(check: bool) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let rules = format!("{RULES}\npayload_format_check: {check}");
    Stage::start(fake, &rules).await
}

fn publish(qos: u8, id: u16, payload: &'static [u8], indicator: Option<u8>) -> v5::Publish {
    let mut publish = v5::Publish::new("t/a", level(qos), payload);
    publish.pkid = id;
    publish.properties = indicator.map(|indicator| v5::PublishProperties {
        payload_format_indicator: Some(indicator),
        message_expiry_interval: None,
        topic_alias: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        subscription_identifiers: Vec::new(),
        content_type: None,
    });
    publish
}

fn dying(payload: &'static [u8]) -> v5::Connect {
    let mut greeting = connect("mortal");
    greeting.last_will = will("t/will");
    let will = greeting.last_will.as_mut().unwrap();
    will.message = Bytes::from_static(payload);
    will.properties = Some(v5::WillProperties {
        delay_interval: None,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    });
    greeting
}

#[tokio::test]
async fn who_promises_text_and_sends_none_is_refused_in_the_order_of_its_messages() {
    let stage = stage(true).await;
    let mut five = stage.v5("five").await;
    five.send_publish(&publish(1, 1, TEXT, Some(1))).await;
    five.send_publish(&publish(1, 2, BYTES, Some(1))).await;
    five.send_publish(&publish(2, 3, BYTES, Some(1))).await;
    five.send_publish(&publish(0, 0, BYTES, Some(1))).await;
    five.send_publish(&publish(1, 4, BYTES, Some(0))).await;
    five.send_publish(&publish(1, 5, BYTES, None)).await;
    for line in [
        "puback 1",
        "puback 2 0x99 not_utf8",
        "pubrec 3 0x99 not_utf8",
        "puback 4",
        "puback 5",
    ] {
        assert_eq!(five.line().await, line);
    }
    // Its packet id is free.
    five.send_publish(&publish(2, 3, TEXT, Some(1))).await;
    assert_eq!(five.line().await, "pubrec 3");
    assert_eq!(stage.stored("t", 4).await, ["19 °C", "19 \u{fffd}C", "19 \u{fffd}C", "19 °C"]);
    assert_eq!((stage.metric("refusals_total{reason=\"not_utf8\"}"), stage.refusals()), (3, 3));
    // 3.1.1 promises nothing.
    let mut four = stage.v4("four").await;
    four.publish("t/a", 1, 1, BYTES).await;
    assert_eq!(four.line().await, "puback 1");
}

#[tokio::test]
async fn a_will_that_promises_text_and_is_none_is_refused_with_its_connect() {
    let stage = stage(true).await;
    let mut mortal = Device::open(stage.address, 5).await;
    mortal.connect(&dying(BYTES)).await;
    assert_eq!(mortal.rest().await, ["connack 0x99"]);
    assert_eq!(stage.refusals(), 1);
    drop(Device::connected_as(stage.address, 5, &dying(TEXT)).await);
    assert_eq!(stage.stored("t", 1).await, ["19 °C"]);
}

#[tokio::test]
async fn it_goes_along_unchecked_where_nobody_asks_for_that() {
    let stage = stage(false).await;
    let mut five = stage.v5("five").await;
    five.send_publish(&publish(1, 1, BYTES, Some(1))).await;
    assert_eq!(five.line().await, "puback 1");
    drop(Device::connected_as(stage.address, 5, &dying(BYTES)).await);
    assert_eq!(stage.stored("t", 2).await, ["19 \u{fffd}C", "19 \u{fffd}C"]);
}
