//! Shared subscriptions of stored sessions.

use std::time::Duration;

use super::{Greeting, connect, runtime};
use crate::load::client::{Client, Event, Version};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy};

/// Publishes at QoS 2.
async fn publish(client: &mut Client, topic: &str, payload: &str) {
    client.publish(topic, 2, 1, payload.as_bytes()).unwrap();
    client.flush().await.unwrap();
    let received = client.next_within(DEADLINE).await.unwrap();
    assert_eq!(received, Event::PubRec(1, 0));
    client.answer(&received).unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubComp(1));
}

/// The next message: its QoS and payload. It is not answered yet.
async fn message(client: &mut Client) -> (Event, u8, String) {
    let event = client.next_within(DEADLINE).await.unwrap();
    let Event::Publish { qos, payload, .. } = &event else {
        panic!("{event:?}")
    };
    let (qos, payload) = (*qos, String::from_utf8(payload.to_vec()).unwrap());
    (event, qos, payload)
}

/// Completes a QoS 2 message that has come.
async fn complete(client: &mut Client, event: &Event) {
    client.answer(event).unwrap();
    client.flush().await.unwrap();
    let released = client.next_within(DEADLINE).await.unwrap();
    assert!(matches!(released, Event::PubRel(_)), "{released:?}");
    client.answer(&released).unwrap();
    client.flush().await.unwrap();
}

#[test]
fn a_stored_session_completes_what_it_has_of_a_shared_subscription_at_any_instance() {
    completes_at_any_instance("sharing", "", Duration::from_millis(300));
}

/// What its client had not completed is its own at any instance [MQTT-4.8.2-4], whoever else takes part meanwhile, and for how long. The topic
/// and the clients are named by `name`; `more` is said of sessions.
pub fn completes_at_any_instance(name: &str, more: &str, meanwhile: Duration) {
    let kafka = shared_kafka();
    kafka.topic(name, 2);
    let instance = || {
        let rule = format!("  - {{name: {name}, mqtt: \"{name}/{{device}}\", qos: 2, kafka: {{topic: {name}, key: \"{{device}}\"}}}}");
        let topics = format!(", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 4, replication: 1}}");
        let sessions = format!("sessions: {{expiry: {{}}, instance_timeout: 2s{more}}}");
        Proxy::start(&kafka.bootstrap, &format!("{rule}\n{sessions}"), &topics)
    };
    let (a, b) = (instance(), instance());
    let (filter, topic) = (format!("$share/crew/{name}/+"), format!("{name}/1"));
    let stored = Greeting::staying("stored");
    let passing = Greeting {
        client: "passing",
        clean: true,
        ..Greeting::default()
    };
    runtime().block_on(async {
        let mut publisher = Client::connect(b.mqtt, Version::V5, &format!("{name}-publisher")).await.unwrap();
        let (mut worker, _) = connect(a.mqtt, stored).await;
        assert_eq!(worker.subscribe(&filter, 2).await.unwrap(), 2);
        publish(&mut publisher, &topic, "first").await;
        let (first, qos, payload) = message(&mut worker).await;
        assert_eq!((qos, &*payload), (2, "first"));
        // It is gone without a word, and another member takes what comes.
        drop(worker);
        let (mut guest, _) = connect(a.mqtt, passing).await;
        assert_eq!(guest.subscribe(&filter, 2).await.unwrap(), 2);
        publish(&mut publisher, &topic, "second").await;
        let (second, _, payload) = message(&mut guest).await;
        assert_eq!(payload, "second");
        complete(&mut guest, &second).await;
        let other = guest.next_within(meanwhile).await;
        assert!(other.is_err(), "what the stored session has is nobody else's: {other:?}");
        guest.unsubscribe(&filter).await.unwrap();
        let (mut worker, present) = connect(b.mqtt, stored).await;
        assert!(present);
        let (again, qos, payload) = message(&mut worker).await;
        assert_eq!((qos, &*payload), (2, "first"));
        let packet_id = |event: &Event| match event {
            Event::Publish { id, dup, .. } => (*id, *dup),
            _ => panic!("{event:?}"),
        };
        assert_eq!(packet_id(&again), (packet_id(&first).0, true));
        complete(&mut worker, &again).await;
        publish(&mut publisher, &topic, "third").await;
        let (third, _, payload) = message(&mut worker).await;
        assert_eq!(payload, "third");
        complete(&mut worker, &third).await;
        let more = worker.next_within(meanwhile).await;
        assert!(more.is_err(), "nothing comes again: {more:?}");
    });
}
