//! What is open towards a client when it leaves a subscription.

use super::{Greeting, connect, instance, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy};

/// UNSUBSCRIBE of one filter with packet id 7.
fn unsubscribe(filter: &str) -> Vec<u8> {
    let head = [0xa2, filter.len() as u8 + 5, 0, 7, 0, 0, filter.len() as u8];
    [&head[..], filter.as_bytes()].concat()
}

/// The client has a QoS 2 message, its PUBREC was lost. It comes back and unsubscribes at once: whether the message was sent again before
/// that or not, PUBREL comes, or the client would take the next message of that packet id for this one.
#[test]
fn an_open_message_of_a_subscription_that_ends_is_released() {
    let kafka = shared_kafka();
    kafka.topic("leaving", 1);
    let proxy: Proxy = instance(&kafka, "leaving", "");
    let greeting = Greeting::staying("phone");
    runtime().block_on(async {
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "car").await.unwrap();
        for round in 0..5 {
            let (mut phone, _) = connect(proxy.mqtt, greeting).await;
            assert_eq!(phone.subscribe("leaving/+", 2).await.unwrap(), 2);
            publisher.publish("leaving/1", 2, 1, b"x").unwrap();
            publisher.flush().await.unwrap();
            assert_eq!(publisher.next_within(DEADLINE).await.unwrap(), Event::PubRec(1, 0));
            publisher.answer(&Event::PubRec(1, 0)).unwrap();
            publisher.flush().await.unwrap();
            assert_eq!(publisher.next_within(DEADLINE).await.unwrap(), Event::PubComp(1));
            let Event::Publish { id, qos: 2, .. } = phone.next_within(DEADLINE).await.unwrap() else {
                panic!("no message in round {round}")
            };
            drop(phone);
            let mut phone = Client::open(proxy.mqtt, Version::V5).await.unwrap();
            phone.output.extend_from_slice(&greeting.encode());
            phone.output.extend_from_slice(&unsubscribe("leaving/+"));
            phone.flush().await.unwrap();
            loop {
                let event = phone.next_within(DEADLINE).await.unwrap();
                phone.answer(&event).unwrap();
                phone.flush().await.unwrap();
                if event == Event::PubRel(id) {
                    break;
                }
            }
            phone.goodbye().await.unwrap();
        }
    });
}
