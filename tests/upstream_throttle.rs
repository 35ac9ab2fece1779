//! Throttle times are obeyed (KIP-219): on a connection whose answer asked for quiet nothing is sent until it is over, in every lane.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::time::{Duration, Instant};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, assert_stored_once, ready, settings, started, started_as, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{Cluster, Start};
use tokio::time::timeout;

const QUIET: Duration = Duration::from_millis(400);

fn throttle(fake: &Fake, api: ApiKey) {
    fake.world().throttles.insert(api as i16, QUIET.as_millis() as i32);
}

/// What must hold after a throttled exchange and the one behind it.
fn assert_obeyed(fake: &Fake, cluster: &Cluster, since: Instant, connects: u64, api: ApiKey) {
    assert!(fake.world().throttles.is_empty(), "{api:?}: the throttle time was never told");
    assert!(fake.world().too_early.is_empty(), "{api:?}");
    assert!(since.elapsed() >= QUIET, "{api:?}: the second came after {:?}", since.elapsed());
    assert_eq!(cluster.counters().throttled.get(), QUIET.as_secs_f64(), "{api:?}");
    assert_eq!(cluster.counters().connects.get(), connects, "{api:?}: evaded on another connection");
}

#[tokio::test]
async fn producing_waits_and_loses_nothing() {
    let (fake, cluster, topic) = started(1, 2).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 3).await;
    let connects = cluster.counters().connects.get();
    throttle(&fake, ApiKey::Produce);
    receipts.extend(producer.produce(&topic, 0, 1).await);
    let since = Instant::now();
    // Those that come meanwhile gather; they leave together.
    let before = fake.seen(ApiKey::Produce);
    for _ in 0..50 {
        producer.append(&topic, 0, 1).unwrap();
        tokio::task::yield_now().await;
    }
    receipts.extend(producer.receipts(50).await);
    assert_obeyed(&fake, &cluster, since, connects, ApiKey::Produce);
    assert_stored_once(&fake, "t", 0, &receipts);
    assert_eq!(fake.seen(ApiKey::Produce), before + 1);
}

#[tokio::test]
async fn a_throttle_longer_than_the_request_timeout_breaks_no_connection() {
    let (fake, cluster, topic) = started_as(1, 1, |settings| settings.request_timeout = QUIET / 4).await;
    let mut receipts = Producer::new(&cluster).produce(&topic, 0, 1).await;
    let connects = cluster.counters().connects.get();
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    reader.next().await.unwrap();
    throttle(&fake, ApiKey::Fetch);
    let mut producer = Producer::new(&cluster);
    receipts.extend(producer.produce(&topic, 0, 1).await);
    reader.next().await.unwrap();
    let since = Instant::now();
    receipts.extend(producer.produce(&topic, 0, 1).await);
    reader.next().await.unwrap();
    assert!(fake.world().too_early.is_empty());
    assert!(since.elapsed() < PATIENCE);
    assert_eq!(cluster.counters().disconnects.get(), 0);
    // One lane for fetching beside those that were there; two if a poll came between.
    assert!(cluster.counters().connects.get() <= connects + 3);
}

#[tokio::test]
async fn end_offsets_wait() {
    let (fake, cluster, topic) = started(1, 1).await;
    let of = [(topic, 0)];
    assert_eq!(cluster.end_offsets(&of).await, [Ok(0)]);
    let connects = cluster.counters().connects.get();
    throttle(&fake, ApiKey::ListOffsets);
    assert_eq!(cluster.end_offsets(&of).await, [Ok(0)]);
    let since = Instant::now();
    assert_eq!(cluster.end_offsets(&of).await, [Ok(0)]);
    assert_obeyed(&fake, &cluster, since, connects, ApiKey::ListOffsets);
}

#[tokio::test]
async fn metadata_waits() {
    let fake = Fake::start(1).await;
    fake.topic("first", 1);
    fake.topic("second", 1);
    fake.topic("third", 1);
    let cluster = Cluster::start(settings(&fake));
    ready(&cluster, "first").await;
    let connects = cluster.counters().connects.get();
    throttle(&fake, ApiKey::Metadata);
    ready(&cluster, "second").await;
    let since = Instant::now();
    ready(&cluster, "third").await;
    assert_obeyed(&fake, &cluster, since, connects, ApiKey::Metadata);
}

#[tokio::test]
async fn the_question_for_a_producer_id_waits_before_it_is_asked_again() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    throttle(&fake, ApiKey::InitProducerId);
    // COORDINATOR_LOAD_IN_PROGRESS: to be asked again.
    fake.world().identity_faults.push_back(Fault::Code(14));
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let since = Instant::now();
    let receipts = Producer::new(&cluster).produce(&topic, 0, 3).await;
    assert_stored_once(&fake, "t", 0, &receipts);
    // Of metadata, of the question, of the sender.
    assert_obeyed(&fake, &cluster, since, 3, ApiKey::InitProducerId);
}

/// What was under way when the broker asked for quiet is answered after that: no sign that another leads.
#[tokio::test]
async fn the_quiet_that_a_broker_asked_for_is_no_reason_to_doubt_it() {
    const LONG: Duration = Duration::from_millis(2_500);
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 1).await;
    fake.world().mutes = true;
    fake.world().throttles.insert(ApiKey::Produce as i16, LONG.as_millis() as i32);
    fake.hold_produce(&[1]);
    let sent = || cluster.counters().requests.get_or_create(&[("api", "produce")]).get();
    let before = sent();
    for more in 1..=2 {
        producer.append(&topic, 0, 1).unwrap();
        until("it has left", || sent() == before + more).await;
    }
    fake.hold_produce(&[]);
    receipts.extend(producer.receipts(1).await);
    let (since, asked) = (Instant::now(), fake.seen(ApiKey::Metadata));
    receipts.extend(producer.receipts(1).await);
    assert!(since.elapsed() > LONG / 2, "it was not quiet: {:?}", since.elapsed());
    assert_eq!(fake.seen(ApiKey::Metadata), asked);
    assert_stored_once(&fake, "t", 0, &receipts);
}

/// Broken brokers must not hold us for days.
#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_throttle_of_days() {
    let (fake, cluster, topic) = started(1, 1).await;
    fake.world().throttles.insert(ApiKey::Produce as i16, i32::MAX);
    Producer::new(&cluster).produce(&topic, 0, 1).await;
    assert_eq!(cluster.counters().throttled.get(), 60.0, "a minute is the most that is granted");
    timeout(Duration::from_secs(5), cluster.shutdown()).await.unwrap();
}
