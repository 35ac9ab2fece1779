//! Shared subscriptions of stored sessions.

use std::time::Duration;

use super::{Greeting, connect, once::no_more, runtime};
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

/// One whose session ends with its connection.
const PASSING: Greeting<'_> = Greeting {
    client: "passing",
    clean: true,
    expiry: 0,
    will: None,
    retain: false,
    window: None,
};

/// And whether it comes again.
fn packet_id(event: &Event) -> (u16, bool) {
    match event {
        Event::Publish { id, dup, .. } => (*id, *dup),
        _ => panic!("{event:?}"),
    }
}

/// Two of them over a topic, and sessions, of this name; `more` is said of sessions.
fn instances(name: &str, more: &str) -> [Proxy; 2] {
    let kafka = shared_kafka();
    kafka.topic(name, 2);
    let rule = format!("  - {{name: {name}, mqtt: \"{name}/{{device}}\", qos: 2, kafka: {{topic: {name}, key: \"{{device}}\"}}}}");
    let topics = format!(", topics: {{sessions: {name}-sessions, retained: {name}-retained, partitions: 4, replication: 1}}");
    let sessions = format!("sessions: {{expiry: {{}}, instance_timeout: 2s{more}}}");
    [(), ()].map(|()| Proxy::start(&kafka.bootstrap, &format!("{rule}\n{sessions}"), &topics))
}

#[test]
fn a_stored_session_completes_what_it_has_of_a_shared_subscription_at_any_instance() {
    completes_at_any_instance("sharing", "", Duration::from_millis(300));
}

/// What its client had not completed is its own at any instance [MQTT-4.8.2-4], whoever else takes part meanwhile, and for how long. The topic
/// and the clients are named by `name`; `more` is said of sessions.
pub fn completes_at_any_instance(name: &str, more: &str, meanwhile: Duration) {
    let [a, b] = instances(name, more);
    let (filter, topic) = (format!("$share/crew/{name}/+"), format!("{name}/1"));
    let stored = Greeting::staying("stored");
    runtime().block_on(async {
        let mut publisher = Client::connect(b.mqtt, Version::V5, &format!("{name}-publisher")).await.unwrap();
        let (mut worker, _) = connect(a.mqtt, stored).await;
        assert_eq!(worker.subscribe(&filter, 2).await.unwrap(), 2);
        publish(&mut publisher, &topic, "first").await;
        let (first, qos, payload) = message(&mut worker).await;
        assert_eq!((qos, &*payload), (2, "first"));
        // It is gone without a word, and another member takes what comes.
        drop(worker);
        let (mut guest, _) = connect(a.mqtt, PASSING).await;
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

#[test]
fn what_a_stored_session_has_answered_pubrec_is_released_at_any_instance_and_nobody_elses() {
    is_released_at_any_instance("released", "", Duration::from_millis(300));
}

/// The connection ends behind the client's PUBREC: before PUBREL has come, and after it. The exchange is completed on the next one, at the same
/// instance and at another, and the message comes to nobody a second time, for so long at least.
pub fn is_released_at_any_instance(name: &str, more: &str, meanwhile: Duration) {
    let instances = instances(name, more);
    let (filter, topic) = (format!("$share/crew/{name}/+"), format!("{name}/1"));
    let stored = Greeting::staying("stored");
    runtime().block_on(async {
        let mut publisher = Client::connect(instances[1].mqtt, Version::V5, &format!("{name}-publisher"))
            .await
            .unwrap();
        let mut at = 0;
        let (mut worker, _) = connect(instances[at].mqtt, stored).await;
        assert_eq!(worker.subscribe(&filter, 2).await.unwrap(), 2);
        for (hops, hears) in [(0, false), (0, true), (1, false), (1, true)] {
            let round = format!("{hops} hops, PUBREL heard: {hears}");
            publish(&mut publisher, &topic, &round).await;
            let (first, qos, payload) = message(&mut worker).await;
            assert_eq!((qos, payload), (2, round.clone()));
            let id = packet_id(&first).0;
            worker.answer(&first).unwrap();
            worker.flush().await.unwrap();
            if hears {
                assert_eq!(worker.next_within(DEADLINE).await.unwrap(), Event::PubRel(id));
            }
            drop(worker);
            // Another member gets what comes behind it, and not the message.
            let (mut guest, _) = connect(instances[at].mqtt, PASSING).await;
            assert_eq!(guest.subscribe(&filter, 2).await.unwrap(), 2);
            publish(&mut publisher, &topic, "meanwhile").await;
            let (other, _, payload) = message(&mut guest).await;
            assert_eq!(payload, "meanwhile", "{round}");
            complete(&mut guest, &other).await;
            if (hops, hears) == (1, true) {
                let other = guest.next_within(meanwhile).await;
                assert!(other.is_err(), "what the stored session has is nobody else's: {other:?}");
            }
            at = (at + hops) % 2;
            let present;
            (worker, present) = connect(instances[at].mqtt, stored).await;
            assert!(present);
            released(&mut worker, &first, hears).await;
            // Whoever gets the next one: nobody has got anything between.
            publish(&mut publisher, &topic, "behind").await;
            let (taker, event) = tokio::select! {
                event = worker.next_within(DEADLINE) => (&mut worker, event.unwrap()),
                event = guest.next_within(DEADLINE) => (&mut guest, event.unwrap()),
            };
            assert!(
                matches!(&event, Event::Publish { payload, .. } if payload == "behind"),
                "{round}: {event:?}"
            );
            complete(taker, &event).await;
            guest.unsubscribe(&filter).await.unwrap();
        }
        drop(worker);
        let (mut worker, present) = connect(instances[at].mqtt, stored).await;
        assert!(present);
        no_more(&mut worker).await;
    });
    let doubled = |proxy: &Proxy| proxy.metric(&["shared_doubled"]) + proxy.metric(&["shared_redelivered"]);
    assert_eq!(instances.each_ref().map(doubled), [0.0, 0.0]);
}

/// The exchange of a message that the client has goes on with PUBREL. Unless it has heard that, its PUBREC may be lost: then the same PUBLISH
/// comes again.
async fn released(client: &mut Client, first: &Event, hears: bool) {
    let id = packet_id(first).0;
    let mut event = client.next_within(DEADLINE).await.unwrap();
    if !hears && matches!(event, Event::Publish { .. }) {
        assert_eq!(packet_id(&event), (id, true));
        client.answer(&event).unwrap();
        client.flush().await.unwrap();
        event = client.next_within(DEADLINE).await.unwrap();
    }
    assert_eq!(event, Event::PubRel(id));
    client.answer(&event).unwrap();
    client.flush().await.unwrap();
}
