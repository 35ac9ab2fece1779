//! Moments between two steps of others, in which a topic is larger than a seat knows it.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

use super::*;
use crate::{
    kafka::{
        Compression, RecordFields,
        batch::{BatchBuilder, Producer},
    },
    mapping::{KafkaSpec, RuleSpec, Unmapped},
    relay::settings::SweepSettings,
    upstream::{Chunk, Settings},
};

/// One that reaches no Kafka.
fn hub() -> Arc<Hub> {
    hub_by(rule())
}

fn rule() -> RuleSpec {
    RuleSpec {
        name: "all".into(),
        mqtt: "t/{key}".into(),
        kafka: KafkaSpec {
            topic: "t".into(),
            key: Some("{key}".into()),
            ..KafkaSpec::default()
        },
        ..RuleSpec::default()
    }
}

fn hub_by(rule: RuleSpec) -> Arc<Hub> {
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec!["127.0.0.1:1".to_owned()],
        ..Default::default()
    });
    let metrics = Arc::new(Metrics::new());
    let counters = metrics.rules(["all"]).into();
    Arc::new(Hub::new(
        cluster,
        (Arc::new(RuleSet::compile(vec![rule], Unmapped::Reject).unwrap()), counters),
        metrics,
        Arc::default(),
        SweepCache::new(SweepSettings::default(), 1024, Duration::from_secs(30), Gauge::default()),
        Budget::new(1 << 20, Gauge::default()),
        Default::default(),
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

/// A fetch of so many records in batches of ten or less, from this offset on.
fn fetched(first: i64, count: i64) -> Chunk {
    let mut bytes = Vec::new();
    let end = first + count;
    for base in (first..end).step_by(10) {
        let mut batch = BatchBuilder::new();
        for _ in base..end.min(base + 10) {
            let fields = RecordFields {
                timestamp: 0,
                key: Some(b"a"),
                value: Some(b"1"),
                headers: std::iter::empty(),
            };
            batch.append(&fields).unwrap();
        }
        let sealed = batch.seal(&Producer::NONE, Compression::None);
        // The base offset, which no checksum covers.
        bytes.extend_from_slice(&base.to_be_bytes());
        bytes.extend_from_slice(&sealed.bytes[8..]);
    }
    Chunk {
        topic: "t".into(),
        partition: 0,
        bytes: bytes.into(),
        offset: first,
        next_offset: end,
        high_watermark: end,
        last_stable_offset: end,
        aborted: Vec::new(),
        reset: false,
    }
}

fn comes_back(hub: &Arc<Hub>, topic: &Arc<Topic>, position: i64) -> (Arc<Mailbox>, Vec<Seat>) {
    let mailbox = Arc::new(Mailbox::new(Arc::new(Notify::new()), hub.budget.clone()));
    let subscriber = Subscriber::new(mailbox.clone(), SubscriptionKey(0), QoS::AtLeastOnce);
    let seats = hub.sit_again(topic, &[(0, position)], vec![("#".into(), subscriber)]);
    (mailbox, seats)
}

/// One more feed of the partition that a seat reads, taken by hand.
fn feed_of(hub: &Arc<Hub>, seat: &Seat, topic: &Arc<Topic>, first: i64) -> Feed {
    let reading = seat.hub.lock();
    let wanted = &reading.partitions[&0];
    let places = (wanted.arrivals.clone(), wanted.frontier.clone());
    Feed::new(hub, seat.hub.clone(), topic, 0, (wanted.source, first), places)
}

/// Twenty-one of these records are more than programs may take of one turn.
#[tokio::test]
async fn a_fetch_whose_programs_take_long_is_handed_out_in_several_turns_in_order() {
    let hub = hub_by(RuleSpec {
        transform_back: Some("(\"x\" * 500000 | empty), .".into()),
        ..rule()
    });
    let topic = topic(1, false);
    let seat = sit(&hub, &topic);
    hub.feed(&seat, 0, 0);
    let mut feed = feed_of(&hub, &seat, &topic, 0);
    let (mut got, mut turns) = (Vec::new(), Vec::new());
    loop {
        let is_over = feed.hand_out(fetched(0, 60), true).is_none();
        let before = got.len();
        while let Some(parcel) = seat.subscriber.mailbox.take() {
            got.extend(parcel.chunk.messages.iter().map(|message| message.offset));
        }
        turns.push(got.len() - before);
        if is_over {
            break;
        }
    }
    assert_eq!(got, (0..60).collect::<Vec<i64>>(), "each once");
    assert!(turns.len() > 2 && turns.iter().all(|count| *count <= 25), "{turns:?}");
}

/// The feed of those who were here before may still have a fetch in its hands when somebody comes back to an earlier place.
#[tokio::test]
async fn a_feed_that_is_over_gives_nothing_to_who_comes_after() {
    for last_leaves in [false, true] {
        let (hub, topic) = (hub(), topic(1, false));
        let first = sit(&hub, &topic);
        hub.feed(&first, 0, 7);
        let mut feed = feed_of(&hub, &first, &topic, 7);
        let stays = if last_leaves {
            drop(first);
            None
        } else {
            Some(first)
        };
        let (behind, _seats) = comes_back(&hub, &topic, 3);
        feed.hand_out(fetched(7, 1), true);
        assert!(behind.take().is_none(), "it has to have what lies between first");
        if let Some(first) = stays {
            assert_eq!(
                first.subscriber.mailbox.take().map(|parcel| parcel.chunk.messages[0].offset),
                Some(7)
            );
        }
    }
}

/// Nobody reads the partition for it any more, so it waits for nothing there: its connection, which may live on, does not count as behind for ever.
#[tokio::test]
async fn who_comes_back_and_leaves_before_the_feed_has_seen_it_is_behind_no_more() {
    let (hub, topic) = (hub(), topic(1, false));
    let (mailbox, seats) = comes_back(&hub, &topic, 3);
    assert!(!mailbox.is_clear());
    drop(seats);
    assert!(mailbox.is_clear());
    assert!(mailbox.rest());
}
