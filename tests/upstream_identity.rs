//! Producer ids: asked for, refused, forgotten by the brokers.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::time::{Duration, Instant};

use fake_broker::{
    Fake, Fault,
    client::{Log, Producer, assert_stored_once, ready, settings, started, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::{
    kafka::Acks,
    upstream::{Cluster, Outcome},
};

const DELIVERY: Duration = Duration::from_millis(1_500);

/// CLUSTER_AUTHORIZATION_FAILED: an operator must act, and records must not wait for that.
#[tokio::test]
async fn a_producer_id_that_is_refused_for_good_is_told_once_with_the_remedy_and_records_get_their_outcome() {
    let (log, _guard) = Log::listen();
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.world().identity_always = Some(Fault::Code(31));
    let mut settings = settings(&fake);
    settings.producer.delivery_timeout = DELIVERY;
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    let started = Instant::now();
    producer.append(&topic, 0, 3).unwrap();
    for receipt in producer.receipts(3).await {
        assert_eq!(receipt.outcome, Outcome::Expired { sent: false }, "surely not stored");
    }
    assert!(started.elapsed() < 2 * DELIVERY, "{:?}", started.elapsed());
    let asked = fake.seen(ApiKey::InitProducerId);
    assert!(asked > 1, "it was asked for again");
    let told = log.lines(&["WARN", "CLUSTER_AUTHORIZATION_FAILED"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("IDEMPOTENT_WRITE"), "{told:?}");
    assert_eq!(cluster.counters().connects.get(), 2, "one connection for all the questions");
    // The right is granted: what comes from here on is stored, without a restart.
    fake.world().identity_always = None;
    producer.append(&topic, 0, 1).unwrap();
    until("it is asked again", || fake.seen(ApiKey::InitProducerId) > asked).await;
    let receipts: Vec<_> = producer.receipts(1).await;
    // It may have expired during the pause; then the next is stored.
    let receipts = match receipts[0].outcome {
        Outcome::Stored { .. } => receipts,
        _ => producer.produce(&topic, 0, 1).await,
    };
    assert!(matches!(receipts[0].outcome, Outcome::Stored { .. }), "{receipts:?}");
}

#[tokio::test]
async fn a_producer_id_that_passes_by_is_not_told() {
    let (log, _guard) = Log::listen();
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    // Loading, not available, a server error, and a connection that ends: all pass.
    fake.world()
        .identity_faults
        .extend([Fault::Code(14), Fault::Code(15), Fault::Code(-1), Fault::CloseAfter, Fault::Garbage]);
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let receipts = Producer::new(&cluster).produce(&topic, 0, 5).await;
    assert_stored_once(&fake, "t", 0, &receipts);
    assert_eq!(log.lines(&["WARN"]), [""; 0]);
}

/// An operator has not granted the right yet: what needs no id must not wait for that.
/// One that is cut off from the controllers says "later" for ever, or is paused; others have ids.
#[tokio::test]
async fn a_broker_that_gives_no_producer_id_is_left_for_the_next() {
    for paused in [false, true] {
        let fake = Fake::start(2).await;
        fake.topic("t", 1);
        fake.lead("t", 0, 2);
        let mut settings = settings(&fake);
        settings.request_timeout = Duration::from_secs(10);
        let cluster = Cluster::start(settings.clone());
        let topic = ready(&cluster, "t").await;
        let mut addresses = fake.addresses.clone();
        // The order in which they are asked.
        addresses.sort_by_key(ToString::to_string);
        let first = fake.addresses.iter().position(|address| *address == addresses[0]).unwrap() as i32 + 1;
        if paused {
            fake.world().identity_faults.push_back(Fault::Silence);
        } else {
            fake.world().without_identities = Some(first);
        }
        let since = Instant::now();
        let receipts = Producer::new(&cluster).produce(&topic, 0, 3).await;
        assert!(since.elapsed() < settings.request_timeout / 2, "{paused}: {:?}", since.elapsed());
        assert_stored_once(&fake, "t", 0, &receipts);
    }
}

#[tokio::test]
async fn a_refused_producer_id_holds_up_only_those_that_need_one() {
    let fake = Fake::start(1).await;
    fake.topic("t", 2);
    fake.world().identity_always = Some(Fault::Code(31));
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let (mut with_id, mut without) = (Producer::new(&cluster), Producer::new(&cluster));
    without.options.acks = Acks::Leader;
    with_id.append(&topic, 0, 3).unwrap();
    until("an id was asked for", || fake.seen(ApiKey::InitProducerId) > 0).await;
    let receipts = without.produce(&topic, 1, 3).await;
    assert_stored_once(&fake, "t", 1, &receipts);
    assert_eq!(fake.values("t", 0), [""; 0]);
    fake.world().identity_always = None;
    let receipts = with_id.receipts(3).await;
    assert_stored_once(&fake, "t", 0, &receipts);
}

/// UNKNOWN_PRODUCER_ID in one partition, while there is no other id to be had.
#[tokio::test]
async fn partitions_whose_id_is_good_go_on_while_another_waits_for_a_new_one() {
    let (fake, cluster, topic) = started(1, 2).await;
    let (mut first, mut second) = (Producer::new(&cluster), Producer::new(&cluster));
    let mut receipts = [first.produce(&topic, 0, 1).await, second.produce(&topic, 1, 1).await];
    let asked = fake.seen(ApiKey::InitProducerId);
    fake.world().identity_always = Some(Fault::Code(31));
    fake.world().produce_faults.push_back(Fault::Code(59));
    first.append(&topic, 0, 1).unwrap();
    until("another id was asked for", || fake.seen(ApiKey::InitProducerId) > asked).await;
    for _ in 0..3 {
        receipts[1].extend(second.produce(&topic, 1, 1).await);
    }
    assert_eq!(fake.values("t", 0).len(), 1);
    fake.world().identity_always = None;
    receipts[0].extend(first.receipts(1).await);
    assert_stored_once(&fake, "t", 0, &receipts[0]);
    assert_stored_once(&fake, "t", 1, &receipts[1]);
}
