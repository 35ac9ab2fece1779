//! The Kafka client reads: many readers, one poll per broker, nobody waits for another.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake, Fault,
    client::{self, Log, PATIENCE, Producer, cluster, next, read, ready, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::kafka::{Acks, error::ErrorCode};
use mqtt_kafka_proxy::upstream::{Chunk, Cluster, Start, Topic, TopicState};
use tokio::time::timeout;

/// Longer than any test may take: whoever waits for such a poll is seen.
const FOR_EVER: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_reader_at_the_tail_gets_what_is_written_after_it_came() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 10).await;
    let mut reader = cluster.read(&topic, 0, Start::Tail);
    until("the poll is out", || !fake.world().polls.is_empty()).await;
    producer.produce(&topic, 0, 20).await;
    assert_eq!(read(&mut reader, 20).await, (10..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_joins_during_a_long_poll_does_not_wait_for_it() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 8, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    for partition in 1..8 {
        producer.produce(&topic, partition, 1).await;
    }
    let mut quiet = vec![cluster.read(&topic, 0, Start::Tail)];
    until("the long poll is out", || !fake.world().polls.is_empty()).await;
    // More of them than there are lanes, one after the other.
    for partition in 1..8 {
        let mut reader = cluster.read(&topic, partition, Start::Offset(0));
        assert_eq!(read(&mut reader, 1).await, [partition as u64 - 1]);
        quiet.push(reader);
    }
    // The first is still served, too.
    producer.produce(&topic, 0, 3).await;
    assert_eq!(read(&mut quiet[0], 3).await, [7, 8, 9]);
}

/// The broker serves the requests of a connection one after the other: on that of the poll an acknowledgement would come after the poll's minute.
#[tokio::test]
async fn no_acknowledgement_waits_for_a_long_poll_at_the_same_broker() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 2, FOR_EVER).await;
    let mut reader = cluster.read(&topic, 0, Start::Tail);
    until("the long poll is out", || !fake.world().polls.is_empty()).await;
    let mut producer = Producer::new(&cluster);
    for acks in [Acks::All, Acks::Leader, Acks::None] {
        producer.options.acks = acks;
        for round in 0..5 {
            let began = Instant::now();
            producer.produce(&topic, 1, 1).await;
            assert!(began.elapsed() < Duration::from_secs(1), "{acks:?} {round}: {:?}", began.elapsed());
        }
    }
    let began = Instant::now();
    assert!(cluster.end_offsets(&[(topic.clone(), 1)]).await[0].is_ok());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(fake.world().polls.len(), 1, "the poll was out all the time");
    // And what ends the poll is acknowledged as soon.
    producer.options.acks = Acks::All;
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut reader, 1).await, [15]);
}

/// Bytes of memory that are kept as long as a chunk is; `None`: others keep them, too.
fn keeps(chunk: Chunk) -> Option<usize> {
    chunk.bytes.try_into_mut().ok().map(|bytes| bytes.capacity())
}

#[tokio::test]
async fn who_reads_copies_keeps_no_answer() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    Producer::new(&cluster).produce(&topic, 0, 10).await;
    let of_answer = cluster.read(&topic, 0, Start::Offset(0)).next().await.unwrap();
    let copy = cluster.read_copies(&topic, 0, Start::Offset(0)).next().await.unwrap();
    let length = copy.bytes.len();
    assert_eq!(copy.bytes, of_answer.bytes);
    assert_eq!(keeps(copy), Some(length));
    assert_ne!(keeps(of_answer), Some(length), "a piece of an answer keeps the whole of it");
}

#[tokio::test]
async fn readers_of_one_broker_share_one_poll() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 10, Duration::from_millis(200)).await;
    let mut readers: Vec<_> = (0..10).map(|p| cluster.read(&topic, p, Start::Tail)).collect();
    until("one poll carries all", || fake.world().polls.iter().any(|p| p.len() == 10)).await;
    let mut producer = Producer::new(&cluster);
    for partition in 0..10 {
        producer.produce(&topic, partition, 1).await;
    }
    for (partition, reader) in readers.iter_mut().enumerate() {
        assert_eq!(read(reader, 1).await, [partition as u64]);
    }
}

#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_misses_nothing() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 2, FOR_EVER).await;
    let mut slow = cluster.read(&topic, 0, Start::Offset(0));
    let mut fast = cluster.read(&topic, 1, Start::Offset(0));
    let mut producer = Producer::new(&cluster);
    for round in 0..20u64 {
        producer.produce(&topic, 0, 1).await;
        producer.produce(&topic, 1, 1).await;
        assert_eq!(read(&mut fast, 1).await, [round * 2 + 1]);
    }
    assert_eq!(read(&mut slow, 20).await, (0..20).map(|n| n * 2).collect::<Vec<_>>());
}

#[tokio::test]
async fn readers_of_one_partition_each_get_everything() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 10).await;
    let mut readers: Vec<_> = [0, 3, 9].map(|from| cluster.read(&topic, 0, Start::Offset(from))).into();
    producer.produce(&topic, 0, 10).await;
    for (reader, from) in readers.iter_mut().zip([0, 3, 9]) {
        assert_eq!(read(reader, 20 - from).await, (from as u64..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn readers_follow_the_leader() {
    let fake = Fake::start(3).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    for (round, leader) in [2, 3, 1].into_iter().enumerate() {
        producer.produce(&topic, 0, 10).await;
        fake.lead("t", 0, leader);
        producer.produce(&topic, 0, 10).await;
        let from = round as u64 * 20;
        assert_eq!(read(&mut reader, 20).await, (from..from + 20).collect::<Vec<_>>());
    }
}

/// A broker that is paused owes the answer to its poll for as long as it is; nobody else tells this client that the leader has moved.
#[tokio::test]
async fn readers_follow_the_leader_also_from_a_broker_that_says_nothing() {
    let fake = Fake::start(2).await;
    let mut settings = client::settings(&fake);
    settings.bootstrap_servers = vec![fake.addresses[1].to_string()];
    settings.request_timeout = 100 * PATIENCE;
    let cluster = Cluster::start(settings);
    fake.topic("t", 1);
    fake.lead("t", 0, 1);
    let topic = ready(&cluster, "t").await;
    fake.world().fetch_faults.push_back(Fault::Silence);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    until("the poll was taken", || fake.world().fetch_faults.is_empty()).await;
    fake.lead("t", 0, 2);
    let mut others = client::settings(&fake);
    others.bootstrap_servers = vec![fake.addresses[1].to_string()];
    let other = Cluster::start(others);
    let same = ready(&other, "t").await;
    Producer::new(&other).produce(&same, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
}

/// The same broker leads again, but in another epoch: it refuses the one that the client knows until that has asked anew.
#[tokio::test]
async fn an_epoch_that_is_over_is_asked_for_anew() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    fake.lead("t", 0, 1);
    producer.produce(&topic, 0, 5).await;
    assert_eq!(cluster.end_offsets(&[(Arc::clone(&topic), 0)]).await, [Ok(10)]);
    assert_eq!(read(&mut reader, 5).await, [5, 6, 7, 8, 9]);
    until("it was told so", || {
        let told = cluster.counters().errors.get_or_create(&[("error", "FENCED_LEADER_EPOCH")]).get();
        told > 0
    })
    .await;
}

/// UNKNOWN_LEADER_EPOCH: metadata of another broker tell of an epoch that the leader has not heard of yet. It is asked again, not
/// without a pause, until it has; nothing is read under another epoch meanwhile.
#[tokio::test]
async fn a_leader_that_does_not_know_its_epoch_yet_is_asked_until_it_does() {
    const LATE: Duration = Duration::from_millis(600);
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(50)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    let epoch = {
        let mut world = fake.world();
        let partition = &mut world.topics.get_mut("t").unwrap().partitions[0];
        partition.told = Some((1, partition.epoch + 1));
        partition.epoch
    };
    // An error makes the client ask.
    fake.world().produce_faults.push_back(Fault::Code(6));
    producer.produce(&topic, 0, 5).await;
    let refused = || cluster.counters().errors.get_or_create(&[("error", "UNKNOWN_LEADER_EPOCH")]).get();
    until("it is told so", || refused() > 0).await;
    // These may have come under the old epoch still.
    assert_eq!(read(&mut reader, 5).await, [5, 6, 7, 8, 9]);
    producer.produce(&topic, 0, 5).await;
    let (asked, since) = (fake.seen(ApiKey::Fetch), Instant::now());
    let unread = timeout(LATE, reader.next()).await;
    assert!(unread.is_err(), "{unread:?}");
    let (asked, late) = (fake.seen(ApiKey::Fetch) - asked, since.elapsed());
    assert!(
        asked >= 1 && asked as u128 <= late.as_millis() / 10,
        "{asked} questions in {late:?}"
    );
    fake.lead("t", 0, 1);
    assert_eq!(fake.world().topics["t"].partitions[0].epoch, epoch + 1);
    assert_eq!(read(&mut reader, 5).await, [10, 11, 12, 13, 14]);
}

#[tokio::test]
async fn a_broker_that_is_late_with_its_metadata_leads_nobody_astray() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    fake.lead("t", 0, 2);
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    // From here on metadata tell of the leader before; an error makes the client ask.
    fake.world().topics.get_mut("t").unwrap().partitions[0].told = Some((1, 0));
    let asked = fake.seen(ApiKey::Metadata);
    fake.world().produce_faults.push_back(Fault::Code(6));
    producer.produce(&topic, 0, 5).await;
    until("it has asked", || fake.seen(ApiKey::Metadata) > asked).await;
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 10).await, (5..15).collect::<Vec<_>>());
}

#[tokio::test]
async fn faults_of_a_fetch_lose_and_repeat_nothing() {
    let codes = [-1, 2, 3, 5, 6, 9, 56, 74, 75, 78, 100, 103].map(Fault::Code);
    for fault in codes.into_iter().chain(Fault::ENDS) {
        let fake = Fake::start(1).await;
        let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
        let mut producer = Producer::new(&cluster);
        let mut reader = cluster.read(&topic, 0, Start::Offset(0));
        producer.produce(&topic, 0, 5).await;
        assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
        fake.world().fetch_faults.push_back(fault.clone());
        producer.produce(&topic, 0, 5).await;
        assert_eq!(read(&mut reader, 5).await, [5, 6, 7, 8, 9], "after {fault:?}");
    }
}

/// TOPIC_AUTHORIZATION_FAILED: only an operator can help, who is told once for each time that it happens; then reading goes on.
#[tokio::test]
async fn a_partition_that_may_not_be_read_is_told_once_and_read_when_the_right_comes() {
    let (log, _guard) = Log::listen();
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(50)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    for round in 1..=2 {
        fake.world().fetch_faults.extend([29, 29, 29].map(Fault::Code));
        until("it is refused", || fake.world().fetch_faults.is_empty()).await;
        producer.produce(&topic, 0, 1).await;
        assert_eq!(read(&mut reader, 1).await, [round - 1]);
        let told = log.lines(&["WARN", "TOPIC_AUTHORIZATION_FAILED"]);
        assert_eq!(told.len() as u64, round, "{told:?}");
    }
}

/// Ten records are written, and those below offset 4 are gone.
async fn cut_off_below_4(fake: &Fake, cluster: &Cluster, topic: &Topic) -> Producer {
    let mut producer = Producer::new(cluster);
    for _ in 0..10 {
        producer.produce(topic, 0, 1).await;
    }
    let mut world = fake.world();
    let partition = &mut world.topics.get_mut("t").unwrap().partitions[0];
    partition.start = 4;
    partition.log.drain(..4);
    drop(world);
    producer
}

#[tokio::test]
async fn an_offset_that_is_gone_becomes_the_earliest_and_is_counted() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    let mut producer = cut_off_below_4(&fake, &cluster, &topic).await;
    let mut reader = cluster.read(&topic, 0, Start::Offset(1));
    let chunk = next(&mut reader).await;
    assert!(chunk.reset);
    assert_eq!((chunk.offset, chunk.next_offset), (4, 4));
    let chunk = next(&mut reader).await;
    assert_eq!((chunk.reset, chunk.offset, chunk.next_offset), (false, 4, 10));
    assert_eq!(cluster.counters().offset_resets.get(), 1);
    producer.produce(&topic, 0, 1).await;
    assert!(!next(&mut reader).await.reset);
}

#[tokio::test]
async fn an_offset_that_is_gone_becomes_the_earliest_also_if_the_leader_moves_meanwhile() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    let mut producer = cut_off_below_4(&fake, &cluster, &topic).await;
    fake.offsets_held.send_replace(true);
    let mut reader = cluster.read(&topic, 0, Start::Offset(1));
    until("the beginning is asked for", || fake.seen(ApiKey::ListOffsets) == 1).await;
    fake.lead("t", 0, 2);
    producer.produce(&topic, 0, 1).await;
    fake.offsets_held.send_replace(false);
    let chunk = next(&mut reader).await;
    assert!(chunk.reset);
    assert_eq!(chunk.offset, 4, "records that were there are left out");
}

#[tokio::test]
async fn a_broker_that_says_nothing_delays_no_end_offset_once_others_lead() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 4, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 2, 3).await;
    fake.world().offset_faults.push_back(Fault::Silence);
    let asked = [(Arc::clone(&topic), 0), (Arc::clone(&topic), 2)];
    let asking = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.end_offsets(&asked).await }
    });
    until("broker 1 is asked", || fake.seen(ApiKey::ListOffsets) == 1).await;
    fake.lead("t", 0, 2);
    fake.lead("t", 2, 2);
    // Its answer makes the client look.
    producer.produce(&topic, 0, 1).await;
    let ends = asking.await.unwrap();
    assert!(ends[0].is_ok());
    assert_eq!(ends[1], Ok(3));
}

#[tokio::test]
async fn faults_of_a_question_for_offsets_cost_a_retry() {
    let codes = [-1, 3, 5, 6, 7, 9, 56, 74, 75, 78, 100].map(Fault::Code);
    let ends = [
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::HalfFrame,
        Fault::Garbage,
        Fault::WrongCorrelation,
    ];
    for fault in codes.into_iter().chain(ends) {
        let fake = Fake::start(1).await;
        let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
        Producer::new(&cluster).produce(&topic, 0, 5).await;
        fake.world().offset_faults.push_back(fault.clone());
        assert_eq!(cluster.end_offsets(&[(topic, 0)]).await, [Ok(5)], "after {fault:?}");
        assert!(fake.world().offset_faults.is_empty());
    }
    // What will not pass is told at once: TOPIC_AUTHORIZATION_FAILED.
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    fake.world().offset_faults.push_back(Fault::Code(29));
    assert_eq!(
        cluster.end_offsets(&[(topic, 0)]).await,
        [Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)]
    );
}

#[tokio::test]
async fn end_offsets_of_many_callers_share_requests() {
    const LIST_OFFSETS: i16 = 2;
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 2, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 1, 3).await;
    let ends = cluster
        .end_offsets(&[(Arc::clone(&topic), 0), (Arc::clone(&topic), 1), (Arc::clone(&topic), 7)])
        .await;
    assert_eq!(ends[..2], [Ok(0), Ok(3)]);
    assert!(ends[2].is_err());
    let before = fake.world().seen[&LIST_OFFSETS];
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (cluster, topic) = (cluster.clone(), Arc::clone(&topic));
        callers.spawn(async move { cluster.end_offsets(&[(topic, 1)]).await });
    }
    while let Some(ends) = callers.join_next().await {
        assert_eq!(ends.unwrap(), [Ok(3)]);
    }
    let requests = fake.world().seen[&LIST_OFFSETS] - before;
    assert!(requests < 20, "{requests} requests for 100 calls of one moment");
}

#[tokio::test]
async fn a_partition_that_does_not_exist_ends_its_reader() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    assert!(cluster.read(&topic, 5, Start::Tail).next().await.is_none());
    let mut reader = cluster.read(&topic, 0, Start::Tail);
    cluster.shutdown().await;
    assert!(timeout(PATIENCE, reader.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_topic_that_is_made_anew_ends_the_readers_of_the_old_one() {
    let fake = Fake::start(1).await;
    let (cluster, old) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&old, 0, 5).await;
    let mut reader = cluster.read(&old, 0, Start::Tail);
    until("the poll is out", || !fake.world().polls.is_empty()).await;
    fake.topic("t", 2);
    assert!(timeout(PATIENCE, reader.next()).await.unwrap().is_none());
    let new = ready(&cluster, "t").await;
    assert_ne!(new.id, old.id);
    let receipts = producer.produce(&new, 0, 5).await;
    let mut reader = cluster.read(&new, 0, Start::Offset(0));
    assert_eq!(read(&mut reader, 5).await, receipts.iter().map(|r| r.ticket).collect::<Vec<_>>());
}

/// The broker says nothing to a fetch and leaves the connection open.
#[tokio::test]
async fn a_lane_that_hangs_holds_up_nobody_who_joins() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 4, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    for partition in 0..4 {
        producer.produce(&topic, partition, 1).await;
    }
    fake.world().fetch_faults.push_back(Fault::Silence);
    let mut first = cluster.read(&topic, 0, Start::Offset(0));
    until("it hangs", || fake.world().fetch_faults.is_empty()).await;
    let begin = Instant::now();
    for partition in 1..4 {
        let mut reader = cluster.read(&topic, partition, Start::Offset(0));
        assert_eq!(read(&mut reader, 1).await, [partition as u64]);
    }
    // Whoever joins brings the others along on its lane.
    assert_eq!(read(&mut first, 1).await, [0]);
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut first, 1).await, [4]);
    assert!(begin.elapsed() < Duration::from_secs(5), "it waited for the request timeout");
}

#[tokio::test]
async fn new_partitions_of_a_topic_are_seen() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    fake.world().topics.get_mut("t").unwrap().partitions.push(fake_broker::Partition {
        leader: 1,
        ..Default::default()
    });
    // An error makes the client look.
    fake.world().produce_faults.push_back(Fault::Code(6));
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 1).await;
    until(
        "it has grown",
        || matches!(cluster.topic("t"), TopicState::Ready(t) if t.partitions.len() == 2),
    )
    .await;
    let grown = ready(&cluster, "t").await;
    assert!(
        Arc::ptr_eq(&grown.partitions[0], &topic.partitions[0]),
        "a partition's sequences must not start anew"
    );
    producer.produce(&topic, 0, 3).await;
    producer.produce(&grown, 1, 3).await;
    assert_eq!(fake.values("t", 1), ["4", "5", "6"]);
}

/// Something that is no record batch lies in the log: it is asked for again, and that is told once and counted; what lies before it is read.
#[tokio::test]
async fn what_is_no_record_batch_is_told_once_and_counted() {
    let (log, _listening) = Log::listen();
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(20)).await;
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    fake.record("t", 0, "k", "7");
    {
        let mut world = fake.world();
        let partition = &mut world.topics.get_mut("t").unwrap().partitions[0];
        partition.log.push((1, vec![255; 100]));
        partition.end = 2;
    }
    assert_eq!(read(&mut reader, 1).await, [7]);
    until("it is asked for again", || cluster.counters().unreadable_sets.get() >= 3).await;
    let told = log.lines(&["ERROR", "no record batch", "offset=1"]);
    assert_eq!(told.len(), 1, "{told:?}");
    fake.world().topics.get_mut("t").unwrap().partitions[0].log.pop();
    fake.world().topics.get_mut("t").unwrap().partitions[0].end = 1;
    fake.record("t", 0, "k", "8");
    assert_eq!(read(&mut reader, 1).await, [8]);
}
