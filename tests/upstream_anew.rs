//! A topic is deleted and made anew under its name while somebody publishes: nothing is acknowledged that the new one lacks, and nobody waits.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::sync::Arc;

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, ready, settings, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::{
    kafka::Acks,
    upstream::{Cluster, Outcome, Topic, TopicState, WriteOptions},
};

/// A topic `t` and a client that knows it. No time-out helps.
async fn patient(fake: &Fake) -> (Cluster, Arc<Topic>) {
    fake.topic("t", 1);
    let mut settings = settings(fake);
    settings.request_timeout = 100 * PATIENCE;
    settings.producer.delivery_timeout = 200 * PATIENCE;
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    (cluster, topic)
}

/// The topic that has the name by now, as soon as the client knows of it.
async fn anew(cluster: &Cluster, old: &Topic) -> Arc<Topic> {
    let is_new = || matches!(cluster.topic("t"), TopicState::Ready(now) if now.id != old.id);
    until("it is another", is_new).await;
    ready(cluster, "t").await
}

/// The same, where nothing that is produced makes the client look.
async fn look(fake: &Fake, cluster: &Cluster, old: &Arc<Topic>) -> Arc<Topic> {
    // NOT_LEADER_OR_FOLLOWER.
    fake.world().offset_faults.push_back(Fault::Code(6));
    let (asking, of) = (cluster.clone(), [(Arc::clone(old), 0)]);
    let question = tokio::spawn(async move { asking.end_offsets(&of).await });
    let new = anew(cluster, old).await;
    question.abort();
    new
}

/// Such a broker takes records by the topic's name, and so knows the producer in the new topic before the client knows of that.
#[tokio::test]
async fn brokers_that_take_names_store_each_record_that_they_acknowledge() {
    let fake = Fake::start(1).await;
    fake.world().versions.insert((1, ApiKey::Produce as i16), Some((3, 12)));
    let (cluster, mut topic) = patient(&fake).await;
    let mut producer = Producer::new(&cluster);
    for _ in 0..3 {
        fake.topic("t", 1);
        let before = producer.produce(&topic, 0, 1).await;
        topic = look(&fake, &cluster, &topic).await;
        let after = producer.produce(&topic, 0, 1).await;
        assert_eq!(fake.values("t", 0).len(), 2, "{before:?} {after:?}");
        assert!(matches!(after[0].outcome, Outcome::Stored { offset: 1, .. }), "{after:?}");
    }
    assert_eq!(cluster.counters().retries.get(), 0, "it is another epoch from the start");
}

#[tokio::test]
async fn who_publishes_to_the_old_topic_is_told_at_once_and_the_memory_comes_back() {
    for acks in [Acks::All, Acks::Leader] {
        let fake = Fake::start(1).await;
        let (cluster, old) = patient(&fake).await;
        let mut producer = Producer::new(&cluster);
        producer.options = WriteOptions {
            acks,
            ..WriteOptions::default()
        };
        producer.produce(&old, 0, 1).await;
        fake.topic("t", 1);
        // Refused, since the topic's id is not known any more: the same is said of what was appended before.
        producer.append(&old, 0, 3).unwrap();
        let new = anew(&cluster, &old).await;
        // From one who has not heard of it.
        producer.append(&old, 0, 2).unwrap();
        let receipts = producer.receipts(5).await;
        let outcomes: Vec<_> = receipts.iter().map(|r| r.outcome).collect();
        let (unknown, unsent) = ([Outcome::Unknown; 3], [Outcome::Expired { sent: false }; 2]);
        assert_eq!(outcomes, [&unknown[..], &unsent[..]].concat(), "{acks:?}");
        assert_eq!(cluster.counters().memory_used.get(), 0);
        let receipts = producer.produce(&new, 0, 3).await;
        assert_eq!(fake.values("t", 0).len(), receipts.len());
    }
}

#[tokio::test]
async fn what_is_in_flight_to_the_old_topic_is_unknown_at_once_and_the_new_one_takes_records() {
    let fake = Fake::start(1).await;
    let (cluster, old) = patient(&fake).await;
    let mut producer = Producer::new(&cluster);
    fake.hold_produce(&[1]);
    producer.append(&old, 0, 1).unwrap();
    until("it is on its way", || fake.seen(ApiKey::Produce) == 1).await;
    producer.append(&old, 0, 1).unwrap();
    fake.topic("t", 1);
    let new = look(&fake, &cluster, &old).await;
    let receipts = producer.receipts(2).await;
    let outcomes: Vec<_> = receipts.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Expired { sent: false }]);
    // The answer that was owed comes late, to nobody.
    fake.hold_produce(&[]);
    producer.produce(&new, 0, 3).await;
    assert_eq!(fake.values("t", 0), ["2", "3", "4"]);
}
