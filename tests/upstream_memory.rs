//! What the producer holds while brokers take no bytes: its memory, and nothing beside it.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake,
    client::{PATIENCE, Producer, ready, settings, until},
};
use mqtt_kafka_proxy::{
    kafka::{Acks, RecordFields, batch},
    upstream::{AppendError, Cluster, Outcome, Topic, WriteOptions},
};

/// Far more than the sockets of some connections take.
const MEMORY: usize = 64 << 20;
const PARTITIONS: usize = 32;
/// Of each record.
const VALUE: usize = 100_000;
/// Tasks, answers, compressors, tables.
const BESIDE: usize = 1 << 20;
/// Empty buffers that are kept for the next batches.
const KEPT: usize = MEMORY / 4;

/// A client whose connections are open and used, and brokers that read nothing any more.
async fn stuck(delivery_timeout: Duration, request_timeout: Duration) -> (Fake, Cluster, Arc<Topic>) {
    let fake = Fake::narrow(2).await;
    fake.topic("t", PARTITIONS);
    let mut settings = settings(&fake);
    settings.producer.memory = MEMORY;
    settings.producer.delivery_timeout = delivery_timeout;
    settings.request_timeout = request_timeout;
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    for acks in [Acks::All, Acks::Leader] {
        let mut producer = Producer::new(&cluster);
        producer.options.acks = acks;
        for partition in 0..PARTITIONS {
            producer.produce(&topic, partition, 1).await;
        }
    }
    fake.stop(&[1, 2]);
    (fake, cluster, topic)
}

/// Appends until there is no memory, and a little again whenever a sender has run meanwhile. The records that were taken.
async fn fill(cluster: &Cluster, topic: &Topic) -> usize {
    let (value, mut taken) = (vec![7; VALUE], 0);
    for round in 0..10 {
        let mut appender = cluster.appender();
        for at in 0.. {
            let acks = if (at / PARTITIONS).is_multiple_of(2) {
                Acks::All
            } else {
                Acks::Leader
            };
            let options = WriteOptions {
                acks,
                ..WriteOptions::default()
            };
            let fields = RecordFields {
                timestamp: 1,
                key: None,
                value: Some(&value),
                headers: std::iter::empty(),
            };
            match appender.append(topic, at % PARTITIONS, &fields, options, None) {
                Ok(()) => taken += 1,
                Err(AppendError::MemoryFull) => break,
                Err(other) => panic!("{other:?} in round {round}"),
            }
            if at % PARTITIONS == 0 {
                appender.kick();
                tokio::task::yield_now().await;
            }
        }
        drop(appender);
        // Senders run, and write what sockets take.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    taken
}

/// Everything runs on this thread, so all that is allocated is seen.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn requests_that_a_broker_does_not_read_are_no_second_copy_of_what_they_carry() {
    let runtime = runtime();
    let (_fake, cluster, topic) = runtime.block_on(stuck(100 * PATIENCE, 100 * PATIENCE));
    let mut taken = 0;
    let held = allocation_counter::measure(|| taken = runtime.block_on(fill(&cluster, &topic)));
    assert!(taken * VALUE > MEMORY / 2, "{taken} records");
    assert!(held.bytes_max as usize <= MEMORY, "{taken} records take {held:?}");
}

/// All that was taken is given up, and requests hold it.
async fn give_up(cluster: &Cluster, topic: &Topic) {
    fill(cluster, topic).await;
    let mut last = Producer::new(cluster);
    until("there is memory for a last one", || last.append(topic, 0, 1).is_ok()).await;
    // When its time is over, that of all is.
    let receipts = last.receipts(1).await;
    assert!(matches!(receipts[0].outcome, Outcome::Expired { .. }), "{receipts:?}");
}

#[test]
fn what_is_given_up_is_in_memory_for_as_long_as_a_request_holds_it() {
    let runtime = runtime();
    let (fake, cluster, topic) = runtime.block_on(stuck(Duration::from_secs(1), 100 * PATIENCE));
    let held = allocation_counter::measure(|| runtime.block_on(give_up(&cluster, &topic)));
    let used = cluster.counters().memory_used.get();
    assert!(used > 0, "the brokers have taken everything");
    assert!(held.bytes_current <= used + (KEPT + BESIDE) as i64, "{used} counted of {held:?}");
    // It comes back when the brokers read again.
    fake.stop(&[]);
    runtime.block_on(until("nothing is held", || cluster.counters().memory_used.get() == 0));
}

/// The records are settled; the sockets are nobody's concern any more.
#[test]
fn a_shutdown_does_not_wait_for_requests_whose_records_are_given_up() {
    let runtime = runtime();
    let (_fake, cluster, topic) = runtime.block_on(stuck(Duration::from_secs(1), 100 * PATIENCE));
    runtime.block_on(give_up(&cluster, &topic));
    assert!(cluster.counters().memory_used.get() > 0, "the brokers have taken everything");
    let began = Instant::now();
    runtime.block_on(cluster.shutdown());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_record_by_itself_is_stamped_where_it_lies() {
    let runtime = runtime();
    let (_fake, cluster, topic) = runtime.block_on(stuck(100 * PATIENCE, 100 * PATIENCE));
    let value = vec![7; 8 << 20];
    let fields = RecordFields {
        timestamp: 1,
        key: None,
        value: Some(&value),
        headers: std::iter::empty(),
    };
    let single = cluster.appender().single(&fields, WriteOptions::default()).unwrap();
    let stamp = batch::Producer {
        producer_id: 5,
        producer_epoch: 0,
        base_sequence: 0,
    };
    let held = allocation_counter::measure(|| {
        runtime.block_on(async {
            let produced = cluster.produce_single(&single, &topic.partitions[0], &stamp, false);
            // Nobody answers; it is on its way for all of this time.
            assert!(tokio::time::timeout(Duration::from_millis(500), produced).await.is_err());
        });
    });
    assert!(held.bytes_max < 1 << 20, "{held:?}");
}
