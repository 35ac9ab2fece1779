//! Moments between two steps of others, in which a topic is larger than a seat knows it.

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::*;
use crate::{mapping::Unmapped, relay::settings::SweepSettings, upstream::Settings};

/// One that reaches no Kafka.
fn hub() -> Arc<Hub> {
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        ..Default::default()
    });
    Arc::new(Hub::new(
        cluster,
        Arc::new(RuleSet::compile(Vec::new(), Unmapped::Reject).unwrap()),
        Arc::new(Metrics::new()),
        Arc::new([]),
        Arc::default(),
        SweepCache::new(SweepSettings::default(), 1024, Duration::from_secs(30), Gauge::default()),
        Budget::new(1 << 20, Gauge::default()),
    ))
}

fn topic(partitions: i32, appeared: bool) -> Arc<Topic> {
    Arc::new(Topic {
        appeared,
        ..Topic::of("t", partitions)
    })
}

fn sit(hub: &Arc<Hub>, topic: &Arc<Topic>) -> Seat {
    let mailbox = Arc::new(Mailbox::new(Arc::new(Notify::new()), hub.budget.clone()));
    let partitions = (0..topic.partitions.len() as i32).collect();
    let subscriber = Subscriber::new(mailbox, SubscriptionKey(0), QoS::AtLeastOnce);
    hub.sit(topic.clone(), partitions, "#", subscriber)
}

/// From where on a partition is read.
fn first_offset(hub: &Hub, partition: i32) -> Option<i64> {
    let reading = hub.known().topic("t");
    let reading = reading.lock();
    let feed = reading.partitions.get(&partition)?.feed.as_ref()?;
    Some(feed.first_offset)
}

/// Whoever sat there before has to have all of a partition that has come since, also if somebody new begins to read it.
#[tokio::test]
async fn a_partition_that_is_younger_than_a_seat_is_read_from_its_beginning() {
    let hub = hub();
    let older = sit(&hub, &topic(1, false));
    let newer = sit(&hub, &topic(2, false));
    for partition in 0..2 {
        assert_eq!(hub.feed(&newer, partition, 7).1, 7, "it subscribed when there were seven records");
    }
    assert_eq!((first_offset(&hub, 0), first_offset(&hub, 1)), (Some(7), Some(0)));
    drop((older, newer));
    let alone = sit(&hub, &topic(2, false));
    hub.feed(&alone, 1, 7);
    assert_eq!(first_offset(&hub, 1), Some(7));
}

/// The same of a topic that was not there; but one that could not be seen may be older than the seats.
#[tokio::test]
async fn a_topic_that_has_come_is_read_from_its_beginning_for_those_who_wait_if_it_is_new() {
    for appeared in [true, false] {
        let hub = hub();
        let _waits = sit(&hub, &topic(0, false));
        let comes = sit(&hub, &topic(1, appeared));
        hub.feed(&comes, 0, 7);
        assert_eq!(first_offset(&hub, 0), Some(if appeared { 0 } else { 7 }));
    }
}
