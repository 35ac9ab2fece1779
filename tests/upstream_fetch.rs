//! How the Kafka client fetches: sessions that name only what changes, logs that were cut off, replicas nearby, starts by time.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake, Fault, client,
    client::{Producer, cluster, next, read, ready, settings, started_as, until},
    records::{Batch, record},
    values_in,
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{Cluster, Reader, Start, Topic};

/// Longer than any test may take: whoever waits for such a poll is seen.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Of 1,000 partitions one gets records now and then: the polls that follow name that one, and the idle ones none at all.
async fn idle_partitions_are_not_named_again(old: bool) {
    let fake = Fake::start(1).await;
    fake.world().old = old;
    let (cluster, topic) = cluster(&fake, "t", 1_000, Duration::from_millis(20)).await;
    let mut readers: Vec<_> = (0..1_000).map(|p| cluster.read(&topic, p, Start::Offset(0))).collect();
    let carries_all = |fake: &Fake| fake.world().polls.iter().filter(|p| p.len() == 1_000).count();
    until("polls carry all", || carries_all(&fake) >= 3).await;
    let mark = |fake: &Fake| {
        let world = fake.world();
        (world.fetch_named.len(), world.received[&(ApiKey::Fetch as i16)])
    };
    let (polls, bytes) = mark(&fake);
    until("twenty polls", || fake.world().fetch_named.len() >= polls + 20).await;
    let (now, received) = mark(&fake);
    assert_eq!(fake.world().fetch_named[polls..now].iter().sum::<usize>(), 0, "nothing has changed");
    let each = (received - bytes) / (now - polls);
    assert!(each < 200, "{each} bytes for each poll of 1,000 partitions at rest");
    let mut producer = Producer::new(&cluster);
    for round in 0..10 {
        producer.produce(&topic, 7, 1).await;
        assert_eq!(read(&mut readers[7], 1).await, [round]);
    }
    let named: usize = fake.world().fetch_named[now..].iter().sum();
    assert!(named <= 20, "{named} partitions were named for ten records of one");
    // One leaves and another comes: the rest stays as it is.
    let before = fake.world().fetch_named.len();
    drop(readers.pop());
    until("one is forgotten", || fake.world().polls.last().is_some_and(|p| p.len() == 999)).await;
    let mut again = cluster.read(&topic, 999, Start::Offset(0));
    until("it is polled for again", || {
        carries_all(&fake) > 0 && fake.world().polls.last().is_some_and(|p| p.len() == 1_000)
    })
    .await;
    producer.produce(&topic, 999, 1).await;
    assert_eq!(read(&mut again, 1).await, [10]);
    // A lane that was never used before names all of them once.
    let named: usize = fake.world().fetch_named[before..].iter().sum();
    assert!(named < 3_000, "{named}");
}

#[tokio::test]
async fn a_poll_names_only_what_has_changed() {
    idle_partitions_are_not_named_again(false).await;
}

#[tokio::test]
async fn a_poll_names_only_what_has_changed_also_without_topic_ids() {
    idle_partitions_are_not_named_again(true).await;
}

#[tokio::test]
async fn a_session_that_the_broker_does_not_know_as_we_do_is_begun_anew() {
    for code in [70, 71, 106] {
        let fake = Fake::start(1).await;
        let (cluster, topic) = cluster(&fake, "t", 2, FOR_EVER).await;
        let mut producer = Producer::new(&cluster);
        let mut readers = [0, 1].map(|p| cluster.read(&topic, p, Start::Offset(0)));
        producer.produce(&topic, 0, 3).await;
        assert_eq!(read(&mut readers[0], 3).await, [0, 1, 2]);
        match code {
            70 => fake.world().sessions.clear(),
            71 => fake.world().sessions.values_mut().for_each(|s| s.epoch += 5),
            _ => fake.world().fetch_faults.push_back(Fault::Whole(106)),
        }
        producer.produce(&topic, 0, 3).await;
        producer.produce(&topic, 1, 3).await;
        assert_eq!(read(&mut readers[0], 3).await, [3, 4, 5], "after {code}");
        assert_eq!(read(&mut readers[1], 3).await, [6, 7, 8], "after {code}");
    }
}

#[tokio::test]
async fn a_broker_that_gives_no_session_is_read_all_the_same() {
    let fake = Fake::start(1).await;
    fake.world().no_sessions = true;
    let (cluster, topic) = cluster(&fake, "t", 3, Duration::from_millis(20)).await;
    let mut producer = Producer::new(&cluster);
    let mut readers: Vec<_> = (0..3).map(|p| cluster.read(&topic, p, Start::Offset(0))).collect();
    for round in 0..5 {
        for (partition, reader) in readers.iter_mut().enumerate() {
            producer.produce(&topic, partition, 1).await;
            assert_eq!(read(reader, 1).await, [round * 3 + partition as u64]);
        }
    }
}

/// The reader hears that its position was lost and where it goes on, whether there is something to read or not.
async fn goes_on_at(reader: &mut Reader, offset: i64) {
    let chunk = next(reader).await;
    assert_eq!(
        (chunk.reset, chunk.offset, chunk.next_offset, chunk.bytes.len()),
        (true, offset, offset, 0)
    );
}

/// A replica that lacks some records becomes the leader. Nothing that it has or gets is left out, and nothing that it shares with what
/// was read comes again.
#[tokio::test]
async fn a_log_that_was_cut_off_is_noticed_and_read_from_there() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    for _ in 0..4 {
        producer.produce(&topic, 0, 5).await;
    }
    // Under another leader.
    fake.lead("t", 0, 2);
    for _ in 0..4 {
        producer.produce(&topic, 0, 5).await;
    }
    assert_eq!(read(&mut reader, 40).await, (0..40).collect::<Vec<_>>());
    fake.cut_off("t", 0, 1, 15);
    // More than there was: by its offset alone nobody could tell.
    for number in 0..50 {
        fake.record("t", 0, "k", &(100 + number).to_string());
    }
    goes_on_at(&mut reader, 15).await;
    let chunk = next(&mut reader).await;
    assert_eq!((chunk.offset, values_in(&chunk.bytes)[0].as_str()), (15, "100"));
    let rest = 50 - usize::try_from(chunk.next_offset - chunk.offset).unwrap();
    assert_eq!(read(&mut reader, rest).await, (150 - rest as u64..150).collect::<Vec<_>>());
    assert_eq!(cluster.counters().truncations.get(), 1);
    assert_eq!(cluster.counters().offset_resets.get(), 0);
}

#[tokio::test]
async fn who_is_at_the_end_of_a_log_that_is_cut_off_reads_on_where_it_ends_now() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 14).await;
    assert_eq!(read(&mut reader, 14).await, (0..14).collect::<Vec<_>>());
    fake.cut_off("t", 0, 2, 7);
    // Nothing is written, and it is told all the same.
    goes_on_at(&mut reader, 7).await;
    assert_eq!(cluster.counters().truncations.get(), 1);
    fake.record("t", 0, "k", "100");
    let chunk = next(&mut reader).await;
    assert_eq!(
        (chunk.reset, chunk.offset, values_in(&chunk.bytes)),
        (false, 7, vec!["100".to_owned()])
    );
}

/// It began at the end of the log and nothing came since. The log is cut off, and grows beyond where it ended before the reader looks.
#[tokio::test]
async fn who_has_read_nothing_yet_notices_a_log_that_was_cut_off() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    for number in 0..10 {
        fake.record("t", 0, "k", &number.to_string());
    }
    let end = cluster.end_offsets(&[(Arc::clone(&topic), 0)]).await;
    assert_eq!(end, [Ok(10)]);
    fake.cut_off("t", 0, 2, 6);
    for number in 100..110 {
        fake.record("t", 0, "k", &number.to_string());
    }
    let mut reader = cluster.read(&topic, 0, Start::Offset(10));
    goes_on_at(&mut reader, 6).await;
    let chunk = next(&mut reader).await;
    assert_eq!((chunk.reset, chunk.offset, values_in(&chunk.bytes)[0].as_str()), (false, 6, "100"));
    assert_eq!(cluster.counters().truncations.get(), 1);
}

/// A leader under which nothing was written is nothing to tell of.
#[tokio::test]
async fn a_leader_that_wrote_nothing_is_no_sign_of_a_log_that_was_cut_off() {
    let fake = Fake::start(2).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(50)).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 5).await;
    fake.lead("t", 0, 2);
    assert_eq!(cluster.end_offsets(&[(Arc::clone(&topic), 0)]).await, [Ok(5)]);
    let mut reader = cluster.read(&topic, 0, Start::Offset(5));
    until("it is polled for", || !fake.world().polls.is_empty()).await;
    fake.lead("t", 0, 1);
    producer.produce(&topic, 0, 3).await;
    let chunk = next(&mut reader).await;
    assert_eq!((chunk.reset, chunk.offset), (false, 5));
    assert_eq!(cluster.counters().truncations.get(), 0);
}

/// So many brokers in racks of their own, and a client in one of these.
async fn near(brokers: i32, rack: &str) -> (Fake, Cluster, Arc<Topic>) {
    let fake = Fake::start(brokers).await;
    fake.topic("t", 1);
    fake.world().racks = (1..).zip(["a", "b", "c"]).take(brokers as usize).collect();
    let mut settings = settings(&fake);
    settings.consumer.max_wait = Duration::from_millis(100);
    settings.consumer.rack = Some(rack.to_owned());
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    (fake, cluster, topic)
}

fn reads(fake: &Fake, broker: i32) -> usize {
    fake.world().reads.get(&broker).copied().unwrap_or(0)
}

#[tokio::test]
async fn a_partition_is_read_from_the_replica_in_the_own_rack() {
    let (fake, cluster, topic) = near(3, "c").await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    for round in 0..5 {
        producer.produce(&topic, 0, 1).await;
        assert_eq!(read(&mut reader, 1).await, [round]);
    }
    assert_eq!((reads(&fake, 1), reads(&fake, 2)), (0, 0), "the leader and the third give nothing");
    assert_eq!(reads(&fake, 3), 5);
    // A new leader is asked anew, and names the same.
    fake.lead("t", 0, 2);
    producer.produce(&topic, 0, 3).await;
    assert_eq!(read(&mut reader, 3).await, [5, 6, 7]);
    assert_eq!((reads(&fake, 1), reads(&fake, 2)), (0, 0));
}

/// It rings at the fetcher that has it, which is not the leader's.
#[tokio::test]
async fn a_slow_reader_of_a_replica_goes_on_as_soon_as_it_has_room() {
    let (fake, cluster, topic) = near(2, "b").await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    // As many fetches as wait for a reader at most.
    for fetches in 1..=2 {
        producer.produce(&topic, 0, 1).await;
        until("it is fetched", || reads(&fake, 2) == fetches).await;
    }
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut reader, 3).await, [0, 1, 2]);
    assert_eq!(reads(&fake, 1), 0);
}

#[tokio::test]
async fn a_replica_that_is_behind_or_broken_is_left_for_the_leader() {
    let (fake, cluster, topic) = near(2, "b").await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    assert_eq!((reads(&fake, 1), reads(&fake, 2) > 0), (0, true));
    // The replica has lost its tail, and what the reader wants is out of its range.
    fake.world().topics.get_mut("t").unwrap().partitions[0].followed = Some(3);
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [5, 6, 7, 8, 9]);
    assert!(reads(&fake, 1) > 0, "the leader serves");
    assert_eq!(cluster.counters().offset_resets.get(), 0, "no position is given up for it");
    // It has caught up; the leader names it again when it is asked.
    fake.world().topics.get_mut("t").unwrap().partitions[0].followed = None;
    let before = reads(&fake, 2);
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [10, 11, 12, 13, 14]);
    until("it reads from the replica", || reads(&fake, 2) > before).await;
    for fault in [Fault::Code(78), Fault::Code(9), Fault::CloseAfter, Fault::HalfFrame] {
        fake.world().fetch_faults.push_back(fault.clone());
        let got = producer.produce(&topic, 0, 5).await;
        let tickets: Vec<_> = got.iter().map(|r| r.ticket).collect();
        assert_eq!(read(&mut reader, 5).await, tickets, "after {fault:?}");
    }
}

/// The leader says that the log ends in its epoch, in which nothing was written. The replica knows only epochs of batches that it has.
#[tokio::test]
async fn a_replica_that_does_not_know_the_epoch_of_the_end_is_read_all_the_same() {
    let (fake, cluster, topic) = near(2, "b").await;
    Producer::new(&cluster).produce(&topic, 0, 5).await;
    // The same leader, elected anew.
    fake.lead("t", 0, 1);
    assert_eq!(cluster.end_offsets(&[(Arc::clone(&topic), 0)]).await, [Ok(5)]);
    let mut reader = cluster.read(&topic, 0, Start::Offset(5));
    let polls = polls_in_a_second(&fake).await;
    // One in 100 ms, and a few until it is settled who is to be read from.
    assert!(polls < 20, "{polls} polls in a second");
    fake.record("t", 0, "k", "100");
    assert_eq!(read(&mut reader, 1).await, [100]);
    assert_eq!((reads(&fake, 1), reads(&fake, 2)), (0, 1), "the replica gives it");
}

/// A replica that is stopped owes the answer to its poll for as long as it is, and the leader, which hears of that last, goes on naming it.
#[tokio::test]
async fn a_replica_that_says_nothing_is_left_for_the_leader_within_two_seconds_and_named_in_vain_for_a_while() {
    let (fake, cluster, topic) = near(2, "b").await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut reader, 1).await, [0]);
    assert_eq!((reads(&fake, 1), reads(&fake, 2)), (0, 1), "it is read from the replica");
    fake.stop(&[2]);
    producer.produce(&topic, 0, 1).await;
    let since = Instant::now();
    assert_eq!(read(&mut reader, 1).await, [1]);
    // The longest poll (100 ms), a second of doubt, and a moment.
    assert!(since.elapsed() < Duration::from_millis(2500), "{:?}", since.elapsed());
    let before = reads(&fake, 2);
    for round in 2..12 {
        producer.produce(&topic, 0, 1).await;
        let since = Instant::now();
        assert_eq!(read(&mut reader, 1).await, [round]);
        assert!(since.elapsed() < Duration::from_millis(500), "{round}: {:?}", since.elapsed());
    }
    assert_eq!(reads(&fake, 2), before, "it is not asked meanwhile");
    fake.stop(&[]);
    // It is well again, and the leader names it when it is asked for one.
    for round in 12.. {
        producer.produce(&topic, 0, 1).await;
        assert_eq!(read(&mut reader, 1).await, [round]);
        if reads(&fake, 2) > before {
            break;
        }
        assert!(since.elapsed() < client::PATIENCE, "it is not read from any more");
        // The interval of this bounded poll.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All that is read from one replica goes to the leader, also what joins while nothing there moves.
#[tokio::test]
async fn who_joins_at_a_replica_that_says_nothing_is_read_from_the_leader_too() {
    let (fake, cluster, topic) = near(2, "b").await;
    let mut producer = Producer::new(&cluster);
    let receipts = producer.produce(&topic, 0, 5).await;
    let all: Vec<u64> = receipts.iter().map(|r| r.ticket).collect();
    fake.stop(&[2]);
    let since = Instant::now();
    // More than there are lanes.
    let mut readers: Vec<Reader> = (0..6).map(|_| cluster.read(&topic, 0, Start::Offset(0))).collect();
    for reader in &mut readers {
        assert_eq!(read(reader, 5).await, all);
    }
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

/// A broker that wants to be left alone for a while says nothing meanwhile, and is none that is stopped.
#[tokio::test]
async fn a_replica_that_throttles_is_not_left() {
    let (fake, cluster, topic) = near(2, "b").await;
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut reader, 1).await, [0]);
    fake.world().throttles.insert(ApiKey::Fetch as i16, 2500);
    until("it is throttled", || cluster.counters().throttled.get() > 2.0).await;
    let since = Instant::now();
    producer.produce(&topic, 0, 1).await;
    assert_eq!(read(&mut reader, 1).await, [1]);
    assert!(since.elapsed() > Duration::from_secs(2), "it was not throttled");
    assert_eq!(reads(&fake, 1), 0, "the leader gives nothing");
}

/// The leader names it again and again, and it refuses each time.
#[tokio::test]
async fn a_replica_that_always_refuses_is_asked_more_and_more_rarely() {
    let (fake, cluster, topic) = near(2, "b").await;
    Producer::new(&cluster).produce(&topic, 0, 5).await;
    fake.world().refuses = Some(2);
    let mut reader = cluster.read(&topic, 0, Start::Offset(5));
    let polls = polls_in_a_second(&fake).await;
    assert!((4..30).contains(&polls), "{polls} polls in a second");
    fake.world().refuses = None;
    fake.record("t", 0, "k", "100");
    assert_eq!(read(&mut reader, 1).await, [100]);
}

async fn polls_in_a_second(fake: &Fake) -> usize {
    fake.world().polls.clear();
    // What is counted is how many there are in this time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    fake.world().polls.len()
}

/// Metadata go on telling of the former leader for a while; the former leader itself knows better.
#[tokio::test]
async fn a_broker_that_does_not_lead_any_more_says_who_does() {
    let fake = Fake::start(2).await;
    fake.world().tells_leader = true;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    // The other broker's tasks are there.
    let mut producer = Producer::new(&cluster);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    producer.produce(&topic, 0, 5).await;
    assert_eq!(read(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    fake.world().topics.get_mut("t").unwrap().partitions[0].told = Some((1, 0));
    fake.lead("t", 0, 2);
    fake.record("t", 0, "k", "100");
    assert_eq!(read(&mut reader, 1).await, [100]);
}

/// All that there was has been deleted, and nothing is written.
#[tokio::test]
async fn who_is_below_an_emptied_log_hears_at_once_where_it_goes_on() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    for number in 0..10 {
        fake.record("t", 0, "k", &number.to_string());
    }
    fake.empty("t", 0);
    for start in [Start::Offset(4), Start::Offset(0)] {
        goes_on_at(&mut cluster.read(&topic, 0, start), 10).await;
        goes_on_at(&mut cluster.read_one_by_one(&topic, 0, start), 10).await;
    }
    assert_eq!(cluster.counters().offset_resets.get(), 4);
}

/// Only what is surely not there is a gap: not what is late, held back or elsewhere.
#[tokio::test]
async fn where_compaction_left_nothing_up_to_the_end_there_is_a_gap() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, FOR_EVER).await;
    for number in 0..10 {
        fake.record("t", 0, "k", &number.to_string());
    }
    for at in 5..10 {
        fake.compact("t", 0, at);
    }
    let gap = |offset| cluster.gap(&topic, 0, offset);
    let with = |change: fn(&mut fake_broker::Partition)| change(&mut fake.world().topics.get_mut("t").unwrap().partitions[0]);
    assert_eq!(
        (gap(4).await, gap(5).await, gap(9).await, gap(10).await),
        (None, Some(10), Some(10), None)
    );
    with(|partition| partition.local = Some(6));
    assert_eq!((gap(5).await, gap(6).await), (None, Some(10)), "the rest may be in remote storage");
    with(|partition| (partition.local, partition.start) = (None, 8));
    assert_eq!((gap(7).await, gap(8).await), (None, Some(10)), "an offset that is gone");
    fake.world().throttles.insert(ApiKey::Fetch as i16, 10);
    assert_eq!(gap(8).await, None, "the quota is used up");
    fake.world()
        .fetch_faults
        .extend([Fault::Whole(70), Fault::Code(6), Fault::CloseAfter]);
    assert_eq!((gap(8).await, gap(8).await, gap(8).await), (None, None, None));
    assert_eq!(gap(8).await, Some(10));
    assert_eq!(cluster.gap(&topic, 7, 0).await, None);
}

#[tokio::test]
async fn an_offset_beyond_the_end_becomes_the_end_and_is_counted() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(100)).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 10).await;
    let mut beyond = cluster.read(&topic, 0, Start::Offset(50));
    until("it is out of range", || cluster.counters().offset_resets.get() == 1).await;
    until("the beginning and the end are asked for", || fake.seen(ApiKey::ListOffsets) >= 2).await;
    goes_on_at(&mut beyond, 10).await;
    producer.produce(&topic, 0, 3).await;
    let chunk = next(&mut beyond).await;
    assert_eq!((chunk.reset, chunk.offset, chunk.next_offset), (false, 10, 13));
}

/// A start by time whose position is lost later goes on like one by offset, not at that time again.
#[tokio::test]
async fn a_start_by_time_that_retention_overtakes_goes_on_at_the_earliest() {
    let (fake, cluster, topic) = started_as(1, 1, |settings| settings.consumer.fetch_size = 1).await;
    for number in 0..10 {
        aged(&fake, &number.to_string(), 50_000 - number * 1_000);
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let mut reader = cluster.read(&topic, 0, Start::Timestamp(now - 48_500));
    // Two fetches wait for the reader, and the next is not asked for.
    until("the reader has two", || reads(&fake, 1) == 2).await;
    {
        let mut world = fake.world();
        let partition = &mut world.topics.get_mut("t").unwrap().partitions[0];
        partition.start = 6;
        partition.log.retain(|(base, _)| *base >= 6);
    }
    for (reset, offset) in [(false, 2), (false, 3), (true, 6), (false, 6), (false, 7)] {
        let chunk = next(&mut reader).await;
        assert_eq!((chunk.reset, chunk.offset), (reset, offset));
    }
    assert_eq!(cluster.counters().offset_resets.get(), 1);
}

/// As a batch of one record whose timestamp lies so many milliseconds back.
fn aged(fake: &Fake, value: &str, age_ms: i64) {
    let mut record = record("k", value);
    record.age_ms = age_ms;
    fake.write("t", 0, &Batch::of(&[record]).bytes());
}

#[tokio::test]
async fn a_start_by_time_is_the_first_record_that_young_or_the_end() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 2, Duration::from_millis(100)).await;
    for (number, age) in [50_000, 40_000, 30_000, 20_000].into_iter().enumerate() {
        aged(&fake, &number.to_string(), age);
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let of = [(Arc::clone(&topic), 0), (Arc::clone(&topic), 1), (Arc::clone(&topic), 2)];
    for (age, offset) in [(60_000, 0), (45_000, 1), (35_000, 2), (10_000, 4), (-10_000, 4)] {
        let found = cluster.offsets_since(&of, now - age).await;
        assert_eq!(found[..2], [Ok(offset), Ok(0)], "{age}");
        assert!(found[2].is_err());
    }
    let mut half = cluster.read(&topic, 0, Start::Timestamp(now - 35_000));
    assert_eq!(read(&mut half, 2).await, [2, 3]);
    drop(half);
    let polls = fake.world().polls.len();
    let mut end = cluster.read(&topic, 0, Start::Timestamp(now - 10_000));
    until("it is polled for", || fake.world().polls.len() > polls).await;
    aged(&fake, "4", 0);
    assert_eq!(read(&mut end, 1).await, [4]);
}

/// TOPIC_AUTHORIZATION_FAILED, INVALID_TOPIC_EXCEPTION: no other broker will say anything else.
#[tokio::test]
async fn a_read_that_is_refused_for_good_has_no_metadata_asked_for() {
    let fake = Fake::start(1).await;
    let (cluster, topic) = cluster(&fake, "t", 1, Duration::from_millis(20)).await;
    fake.world().fetch_faults.extend([29, 17, 29, 17, 29].map(Fault::Code));
    let asked = fake.seen(ApiKey::Metadata);
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    until("it was refused", || fake.world().fetch_faults.is_empty()).await;
    fake.record("t", 0, "k", "7");
    assert_eq!(read(&mut reader, 1).await, [7], "it is asked again all the same");
    assert_eq!(fake.seen(ApiKey::Metadata), asked);
}
