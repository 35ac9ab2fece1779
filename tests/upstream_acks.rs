//! Records whose rule wants less than all replicas, or a compression of its own, against the fake cluster.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::time::{Duration, Instant};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, assert_stored_once, ready, settings, started, started_as, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::{
    kafka::{Acks, Compression},
    upstream::{Cluster, Outcome, WriteOptions},
};

fn with(acks: Acks) -> WriteOptions {
    WriteOptions { acks, compression: None }
}

/// Producer id and compression of each batch of a partition.
fn batches(fake: &Fake, partition: usize) -> Vec<(i64, u8)> {
    let world = fake.world();
    let log = &world.topics["t"].partitions[partition].log;
    let told = log
        .iter()
        .map(|(_, batch)| (i64::from_be_bytes(batch[43..51].try_into().unwrap()), batch[22] & 7));
    told.collect()
}

#[tokio::test]
async fn the_leader_alone_is_asked_without_a_producer_id() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    producer.options = with(Acks::Leader);
    let receipts = producer.produce(&topic, 0, 100).await;
    assert_stored_once(&fake, "t", 0, &receipts);
    assert!(fake.world().acks.iter().all(|acks| *acks == 1), "{:?}", fake.world().acks);
    assert!(batches(&fake, 0).iter().all(|(id, _)| *id == -1));
    assert_eq!(fake.world().next_producer_id, 0, "nobody needed an id");
}

#[tokio::test]
async fn with_nobody_asked_the_socket_is_all_that_is_waited_for() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    // An answer would not come, and is not waited for.
    fake.hold_produce(&[1]);
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    producer.options = with(Acks::None);
    let receipts = producer.produce(&topic, 0, 100).await;
    let unknown = Outcome::Stored { partition: 0, offset: -1 };
    assert!(receipts.iter().all(|r| r.outcome == unknown), "{receipts:?}");
    let wanted: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    until("all are in the log", || fake.values("t", 0).len() == 100).await;
    assert_eq!(fake.values("t", 0), wanted);
    assert!(fake.world().acks.iter().all(|acks| *acks == 0));
}

/// Kafka closes the connection for want of an answer. What the others have on their way is not in doubt for that.
#[tokio::test]
async fn a_broker_that_cannot_store_what_nobody_is_asked_for_disturbs_no_other() {
    let (fake, cluster, topic) = started(1, 1).await;
    let counters = cluster.counters();
    fake.hold_produce(&[1]);
    let (mut all, mut none) = (Producer::new(&cluster), Producer::new(&cluster));
    none.options = with(Acks::None);
    all.append(&topic, 0, 1).unwrap();
    until("it is on its way", || fake.seen(ApiKey::Produce) == 1).await;
    fake.world().produce_faults.push_back(Fault::Code(10));
    none.append(&topic, 0, 1).unwrap();
    none.receipts(1).await;
    until("the end is counted", || counters.unanswered_ends.get() == 1).await;
    fake.hold_produce(&[]);
    all.receipts(1).await;
    assert_eq!(counters.retries.get(), 0);
    // The next is stored over a connection that is opened anew.
    none.append(&topic, 0, 1).unwrap();
    none.receipts(1).await;
    until("it is stored", || fake.values("t", 0).len() == 2).await;
}

#[tokio::test]
async fn requests_are_not_shared_between_different_acks() {
    let (fake, cluster, topic) = started(1, 2).await;
    let all = [Acks::All, Acks::Leader, Acks::None];
    let mut producers = all.map(|acks| {
        let mut producer = Producer::new(&cluster);
        producer.options = with(acks);
        producer
    });
    for _ in 0..20 {
        for producer in &mut producers {
            producer.append(&topic, 0, 3).unwrap();
            producer.append(&topic, 1, 3).unwrap();
        }
    }
    for producer in &producers {
        let receipts = producer.receipts(120).await;
        assert!(receipts.iter().all(|r| matches!(r.outcome, Outcome::Stored { .. })), "{receipts:?}");
    }
    until("all are in the log", || fake.all_values("t").len() == 360).await;
    let kinds: std::collections::BTreeSet<i16> = fake.world().acks.iter().copied().collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [-1, 0, 1]);
    let ids = batches(&fake, 0);
    assert!(ids.iter().any(|(id, _)| *id == -1) && ids.iter().any(|(id, _)| *id > 0), "{ids:?}");
}

#[tokio::test]
async fn what_the_leader_did_not_take_is_sent_again_in_order() {
    let (fake, cluster, topic) = started(2, 1).await;
    let mut producer = Producer::new(&cluster);
    producer.options = with(Acks::Leader);
    producer.produce(&topic, 0, 10).await;
    fake.lead("t", 0, 2);
    let mut receipts = producer.produce(&topic, 0, 10).await;
    fake.world().produce_faults.extend([Fault::Code(7), Fault::CloseBefore]);
    receipts.extend(producer.produce(&topic, 0, 10).await);
    assert!(receipts.iter().all(|r| matches!(r.outcome, Outcome::Stored { .. })), "{receipts:?}");
    let wanted: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    assert_eq!(fake.values("t", 0), wanted);
}

#[tokio::test]
async fn each_record_is_compressed_as_its_rule_says() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let codecs = [
        Compression::None,
        Compression::Gzip { level: 9 },
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd { level: 19 },
    ];
    for codec in codecs {
        producer.options.compression = Some(codec);
        producer.append(&topic, 0, 200).unwrap();
        producer.receipts(200).await;
    }
    let used: Vec<u8> = batches(&fake, 0).iter().map(|(_, codec)| *codec).collect();
    assert_eq!(used, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn what_is_in_flight_is_answered_while_a_producer_id_is_asked_for() {
    let (fake, cluster, topic) = started(1, 2).await;
    fake.identities_held.send_replace(true);
    fake.hold_produce(&[1]);
    let (mut leader, mut all) = (Producer::new(&cluster), Producer::new(&cluster));
    leader.options = with(Acks::Leader);
    leader.append(&topic, 0, 1).unwrap();
    until("it is on its way", || fake.seen(ApiKey::Produce) == 1).await;
    all.append(&topic, 1, 1).unwrap();
    until("an id is asked for", || fake.seen(ApiKey::InitProducerId) == 1).await;
    fake.hold_produce(&[]);
    leader.receipts(1).await;
    fake.identities_held.send_replace(false);
    all.receipts(1).await;
}

#[tokio::test]
async fn further_records_do_not_begin_the_question_for_a_producer_id_anew() {
    let (fake, cluster, topic) = started(1, 2).await;
    fake.identities_held.send_replace(true);
    let mut producer = Producer::new(&cluster);
    producer.append(&topic, 0, 1).unwrap();
    until("an id is asked for", || fake.seen(ApiKey::InitProducerId) == 1).await;
    producer.append(&topic, 1, 1).unwrap();
    fake.identities_held.send_replace(false);
    producer.receipts(2).await;
    assert_eq!(fake.seen(ApiKey::InitProducerId), 1);
}

fn requests(cluster: &Cluster) -> u64 {
    cluster.counters().requests.get_or_create(&[("api", "produce")]).get()
}

/// While an answer is awaited records gather: until it comes, but for `linger` at most. With nothing in flight they wait for nobody.
#[tokio::test]
async fn linger_is_the_longest_that_records_wait_for_company() {
    let linger = Duration::from_millis(600);
    let (fake, cluster, topic) = started_as(1, 3, |settings| settings.producer.linger = linger).await;
    let mut producer = Producer::new(&cluster);
    for partition in 0..3 {
        producer.produce(&topic, partition, 1).await;
    }
    let before = requests(&cluster);
    fake.hold_produce(&[1]);
    let began = Instant::now();
    producer.append(&topic, 0, 1).unwrap();
    until("the first has left", || requests(&cluster) == before + 1).await;
    assert!(
        began.elapsed() < linger / 2,
        "it waited with nothing in flight: {:?}",
        began.elapsed()
    );
    let began = Instant::now();
    producer.append(&topic, 1, 1).unwrap();
    producer.append(&topic, 2, 1).unwrap();
    until("both have left", || requests(&cluster) > before + 1).await;
    assert!(began.elapsed() > linger / 2, "they did not wait for company: {:?}", began.elapsed());
    assert!(began.elapsed() < linger + linger / 2, "it is an upper bound: {:?}", began.elapsed());
    assert_eq!(requests(&cluster), before + 2, "they share a request");
    fake.hold_produce(&[]);
    producer.receipts(3).await;
}

#[tokio::test]
async fn records_that_linger_leave_with_the_next_answer() {
    let (fake, cluster, topic) = started_as(1, 2, |settings| settings.producer.linger = 100 * PATIENCE).await;
    let mut producer = Producer::new(&cluster);
    for partition in 0..2 {
        producer.produce(&topic, partition, 1).await;
    }
    let before = requests(&cluster);
    fake.hold_produce(&[1]);
    producer.append(&topic, 0, 1).unwrap();
    until("the first has left", || requests(&cluster) == before + 1).await;
    producer.append(&topic, 1, 1).unwrap();
    fake.hold_produce(&[]);
    // Long before their linger is over.
    producer.receipts(2).await;
}
