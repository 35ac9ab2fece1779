//! A compacted topic as a table: everything in order, the moment at which all has been read, and no more in memory than a few chunks.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fake_broker::{
    Fake,
    client::{PATIENCE, ready, settings, started_as, until},
    values_in,
};
use mqtt_kafka_proxy::upstream::{Cluster, Table, TableEvent, Topic};
use tokio::time::timeout;

async fn open(cluster: &Cluster, topic: &Arc<Topic>) -> Table {
    timeout(PATIENCE, cluster.table(topic)).await.expect("in time").unwrap()
}

async fn next(table: &mut Table) -> TableEvent {
    timeout(PATIENCE, table.next()).await.expect("an event in time").expect("not over")
}

/// What a user has heard.
#[derive(Default)]
struct Heard {
    values: BTreeMap<i32, Vec<String>>,
    caught_up: Vec<i32>,
    complete: bool,
}

impl Heard {
    async fn event(&mut self, table: &mut Table) {
        match next(table).await {
            TableEvent::Records(chunk) => {
                let values = values_in(&chunk.bytes);
                let wanted = usize::try_from(chunk.next_offset - chunk.offset).unwrap();
                let fresh = values[values.len().saturating_sub(wanted)..].iter().cloned();
                self.values.entry(chunk.partition).or_default().extend(fresh);
                assert_eq!(table.position(chunk.partition), Some(chunk.next_offset));
            }
            TableEvent::CaughtUp { partition } => self.caught_up.push(partition),
            TableEvent::Complete => {
                assert!(!self.complete, "told twice");
                self.complete = true;
            }
        }
    }

    async fn all(table: &mut Table) -> Self {
        let mut heard = Self::default();
        while !heard.complete {
            heard.event(table).await;
        }
        heard
    }
}

fn fill(fake: &Fake, topic: &str, partition: usize, count: usize) -> Vec<String> {
    let values: Vec<String> = (0..count).map(|n| format!("{partition}/{n}")).collect();
    for value in &values {
        fake.record(topic, partition, "k", value);
    }
    values
}

#[tokio::test]
async fn everything_comes_in_order_the_barrier_is_told_once_and_the_tail_goes_on() {
    let fake = Fake::start(2).await;
    fake.topic("t", 7);
    // Some are empty.
    let written: BTreeMap<i32, Vec<String>> = (0..7)
        .filter(|p| p % 3 != 2)
        .map(|p| (p, fill(&fake, "t", p as usize, 20 + p as usize)))
        .collect();
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut table = open(&cluster, &topic).await;
    assert!(!table.is_complete());
    let mut heard = Heard::all(&mut table).await;
    assert!(table.is_complete());
    assert_eq!(heard.values, written);
    heard.caught_up.sort_unstable();
    assert_eq!(heard.caught_up, (0..7).collect::<Vec<_>>());
    for partition in [2, 0, 6] {
        fake.record("t", partition, "k", "later");
        heard.event(&mut table).await;
        assert_eq!(heard.values[&(partition as i32)].last().unwrap(), "later");
    }
}

#[tokio::test]
async fn a_partition_is_caught_up_only_when_its_last_record_was_told() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let first = fill(&fake, "t", 0, 5);
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut table = open(&cluster, &topic).await;
    let mut heard = Heard::default();
    while heard.caught_up.is_empty() {
        heard.event(&mut table).await;
    }
    assert_eq!(heard.values[&0], first);
    assert_eq!(table.position(0), Some(5));
    assert_eq!(table.position(1), None);
}

#[tokio::test]
async fn what_has_nothing_to_be_read_is_complete_at_once() {
    let fake = Fake::start(1).await;
    fake.topic("empty", 3);
    fake.topic("gone", 1);
    fill(&fake, "gone", 0, 4);
    {
        // Everything was deleted: it begins where it ends.
        let mut world = fake.world();
        let partition = &mut world.topics.get_mut("gone").unwrap().partitions[0];
        partition.log.clear();
        partition.start = 4;
    }
    let cluster = Cluster::start(settings(&fake));
    for name in ["empty", "gone"] {
        let topic = ready(&cluster, name).await;
        let mut table = open(&cluster, &topic).await;
        let mut heard = Heard::all(&mut table).await;
        assert!(heard.values.is_empty(), "{name}");
        fake.record(name, 0, "k", "first");
        heard.event(&mut table).await;
        assert_eq!(heard.values[&0], ["first"], "{name}");
    }
}

/// The ends are known, and nothing of it was fetched yet: then nothing will be, and all the same everything has been told.
#[tokio::test]
async fn a_log_that_is_emptied_before_it_is_read_is_caught_up() {
    let fake = Fake::start(1).await;
    for name in ["retention", "cut off"] {
        fake.topic(name, 2);
        fill(&fake, name, 0, 4);
        fill(&fake, name, 1, 2);
    }
    let cluster = Cluster::start(settings(&fake));
    for name in ["retention", "cut off"] {
        let topic = ready(&cluster, name).await;
        let mut table = open(&cluster, &topic).await;
        // No other task has run since the answer.
        if name == "retention" {
            let mut world = fake.world();
            let partition = &mut world.topics.get_mut(name).unwrap().partitions[0];
            partition.log.clear();
            partition.start = 4;
        } else {
            fake.cut_off(name, 0, 1, 0);
        }
        let heard = Heard::all(&mut table).await;
        assert_eq!(heard.caught_up.len(), 2, "{name}");
        assert!(heard.values.get(&0).is_none_or(Vec::is_empty), "{name}: no record is there");
        fake.record(name, 0, "k", "first");
        let mut heard = Heard::default();
        heard.event(&mut table).await;
        assert_eq!(heard.values[&0], ["first"], "{name}");
    }
}

#[tokio::test]
async fn a_user_that_takes_nothing_is_sent_a_few_partitions_only() {
    let fake = Fake::start(1).await;
    fake.topic("t", 12);
    (0..12).for_each(|p| drop(fill(&fake, "t", p, 10)));
    let mut settings = settings(&fake);
    settings.consumer.max_wait = Duration::from_millis(20);
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    let mut table = open(&cluster, &topic).await;
    let polled = || -> BTreeSet<i32> { fake.world().polls.iter().flatten().map(|(_, partition)| *partition).collect() };
    until("it reads", || polled().len() >= 4).await;
    // Nothing else is asked for, however often.
    until("it goes on", || fake.world().polls.len() > 20).await;
    assert_eq!(polled(), (0..4).collect());
    let heard = Heard::all(&mut table).await;
    assert_eq!(heard.values.len(), 12);
    assert_eq!(polled().len(), 12);
}

#[tokio::test]
async fn it_ends_when_its_topic_is_made_anew_or_the_client_is_shut_down() {
    let fake = Fake::start(1).await;
    fake.topic("t", 2);
    fill(&fake, "t", 1, 3);
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut table = open(&cluster, &topic).await;
    Heard::all(&mut table).await;
    fake.topic("t", 2);
    while timeout(PATIENCE, table.next()).await.expect("it ends").is_some() {}

    let fresh = ready(&cluster, "t").await;
    assert_ne!(fresh.id, topic.id);
    let mut table = open(&cluster, &fresh).await;
    assert!(Heard::all(&mut table).await.values.is_empty());
    cluster.shutdown().await;
    assert!(timeout(PATIENCE, table.next()).await.expect("it ends").is_none());
}

#[tokio::test]
async fn a_topic_whose_ends_are_not_known_is_not_opened() {
    let (fake, cluster, topic) = started_as(1, 1, |settings| settings.request_timeout = Duration::from_millis(300)).await;
    fake.offsets_held.send_replace(true);
    let refused = timeout(PATIENCE, cluster.table(&topic)).await.expect("an answer in time");
    assert_eq!(refused.err().map(|error| error.name()), Some("REQUEST_TIMED_OUT"));
}
