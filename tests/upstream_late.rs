//! Brokers that say what was: one that is cut off from the controllers goes on answering, and must not keep the client from those who know.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, assert_stored_once, read, ready, settings, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{Cluster, Outcome, Start, Topic, TopicState};
use tokio::time::timeout;
use uuid::Uuid;

/// Three brokers, a topic `t` of one partition that broker 2 leads, and a client that has its metadata from broker 2.
async fn beside_two() -> (Fake, Cluster, Arc<Topic>) {
    let fake = Fake::start(3).await;
    fake.topic("t", 1);
    fake.lead("t", 0, 2);
    let mut settings = settings(&fake);
    settings.bootstrap_servers = vec![fake.addresses[1].to_string()];
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    (fake, cluster, topic)
}

/// From here on broker 2 leads nothing, and its metadata do not say so.
fn cut_off_two(fake: &Fake, leader: i32) {
    let mut world = fake.world();
    world.late = Some(2);
    let partition = &mut world.topics.get_mut("t").unwrap().partitions[0];
    partition.told = Some((2, partition.epoch));
    drop(world);
    fake.lead("t", 0, leader);
}

/// It keeps its answers, or refuses what it does not lead (NOT_LEADER_OR_FOLLOWER).
#[tokio::test]
async fn records_find_the_leader_that_the_broker_of_the_metadata_does_not_know() {
    for held in [&[2][..], &[]] {
        let (fake, cluster, topic) = beside_two().await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 3).await;
        cut_off_two(&fake, 1);
        fake.hold_produce(held);
        let since = Instant::now();
        receipts.extend(producer.produce(&topic, 0, 3).await);
        assert!(since.elapsed() < PATIENCE / 2, "{:?}", since.elapsed());
        assert_stored_once(&fake, "t", 0, &receipts);
    }
}

/// Nobody reads or produces there: the question itself has to have the metadata asked for.
#[tokio::test]
async fn a_leader_that_says_nothing_is_doubted_by_those_who_ask_for_offsets() {
    let (fake, cluster, topic) = beside_two().await;
    Producer::new(&cluster).produce(&topic, 0, 3).await;
    fake.world().offset_faults.push_back(Fault::Silence);
    let asked = [(Arc::clone(&topic), 0)];
    let asking = tokio::spawn(async move { cluster.end_offsets(&asked).await });
    until("broker 2 is asked", || fake.seen(ApiKey::ListOffsets) == 1).await;
    fake.lead("t", 0, 3);
    let ends = timeout(PATIENCE, asking).await.unwrap().unwrap();
    assert_eq!(ends, [Ok(3)]);
}

/// KIP-951: who does not lead any more says who does, also to those who produce.
#[tokio::test]
async fn a_refusal_of_records_that_names_the_leader_needs_no_metadata() {
    let (fake, cluster, topic) = beside_two().await;
    fake.world().tells_leader = true;
    // Of the metadata nobody says anything better.
    cut_off_two(&fake, 1);
    fake.world().late = None;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 1).await;
    fake.lead("t", 0, 3);
    let since = Instant::now();
    receipts.extend(producer.produce(&topic, 0, 1).await);
    assert_stored_once(&fake, "t", 0, &receipts);
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

/// Broker 2 tells of the topic that had the name before; the client may never have heard of that one.
#[tokio::test]
async fn a_topic_that_is_over_does_not_come_back_by_the_word_of_one_broker() {
    for known in [true, false] {
        let (fake, cluster, mut topic) = beside_two().await;
        let mut producer = Producer::new(&cluster);
        let mut former = Uuid::from_u128(u128::MAX);
        if known {
            former = Uuid::from_bytes(*topic.id.as_bytes());
            fake.topic("t", 1);
            // Refused: its topic is over.
            producer.append(&topic, 0, 1).unwrap();
            until(
                "it is another",
                || matches!(cluster.topic("t"), TopicState::Ready(now) if now.id != topic.id),
            )
            .await;
            producer.receipts(1).await;
            topic = ready(&cluster, "t").await;
        }
        {
            let mut world = fake.world();
            world.late = Some(2);
            world.former.insert("t".to_owned(), former);
            // What is produced is refused until broker 2 was asked for metadata, and others after it.
            world.produce_always = Some(Fault::Code(6));
        }
        let mut reader = cluster.read(&topic, 0, Start::Offset(0));
        producer.append(&topic, 0, 1).unwrap();
        for brokers in [&[2][..], &[1, 3]] {
            fake.world().asked_in.clear();
            until("it is asked", || {
                assert!(
                    matches!(cluster.topic("t"), TopicState::Ready(now) if now.id == topic.id),
                    "{known}"
                );
                let asked = &fake.world().asked_in;
                brokers.iter().any(|broker| asked.contains_key(&(*broker, ApiKey::Metadata as i16)))
            })
            .await;
        }
        fake.world().produce_always = None;
        let receipts = producer.receipts(1).await;
        assert!(matches!(receipts[0].outcome, Outcome::Stored { offset: 0, .. }), "{receipts:?}");
        assert_eq!(read(&mut reader, 1).await, [receipts[0].ticket]);
    }
}
