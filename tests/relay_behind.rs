//! Subscribers that cannot keep up: they fall behind to an offset, get everything from the log in its order, and come back to the tail.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::time::Duration;

use fake_broker::{
    Fake, Fault,
    client::{Log, until},
    records::{Batch, Codec, record},
};
use mqtt_kafka_proxy::upstream::TopicState;
use relay_stage::{
    Stage,
    device::{Device, taking},
};

const RULES: &str = r#"rules:
  - {name: flood, direction: subscribe, mqtt: "flood/{key}", kafka: {topic: flood}, qos: 1}
  - {name: other, direction: subscribe, mqtt: "other/{key}", kafka: {topic: other}, qos: 1}"#;

async fn stage() -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    fake.topic("other", 1);
    Stage::start(fake, RULES).await
}

/// Writes the records with these numbers, a hundred in a batch, each of 1,000 bytes, under one key or by turns under two.
fn write(stage: &Stage, topic: &str, numbers: std::ops::Range<usize>, keys: &[&str]) {
    let all: Vec<usize> = numbers.collect();
    for some in all.chunks(100) {
        let records: Vec<_> = some.iter().map(|n| record(keys[n % keys.len()], &format!("{n:<1000}"))).collect();
        stage.fake.write(topic, 0, &Batch::of(&records).bytes());
    }
}

/// A device that takes so many messages without an answer.
async fn device(stage: &Stage, client: &str, receive_maximum: u16) -> Device {
    Device::connected_as(stage.address, 5, &taking(client, receive_maximum)).await
}

fn behind(stage: &Stage) -> u64 {
    stage.metric("subscribers_behind")
}

/// Takes the messages with these numbers, acknowledging each.
async fn takes(device: &mut Device, topic: &str, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let id = device.message(&format!("{topic} q1 {number}")).await;
        device.puback(id).await;
    }
}

#[tokio::test]
async fn who_does_not_acknowledge_falls_behind_and_then_gets_everything_in_order() {
    let stage = stage().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    let mut quick = stage.v5("quick").await;
    quick.subscribed("flood/#", 0).await;
    for round in 0..10 {
        write(&stage, "flood", round * 300..(round + 1) * 300, &["a"]);
        for number in round * 300..(round + 1) * 300 {
            assert_eq!(
                quick.line().await,
                format!("publish 0 flood/a q0 {number}"),
                "the others are unharmed"
            );
        }
    }
    until("it is behind", || behind(&stage) == 1).await;
    takes(&mut slow, "flood/a", 0..3_000).await;
    until("it is at the tail", || behind(&stage) == 0).await;
    write(&stage, "flood", 3_000..3_001, &["a"]);
    takes(&mut slow, "flood/a", 3_000..3_001).await;
    assert!(slow.fence().await.is_empty(), "nothing came twice");
}

#[tokio::test]
async fn what_is_written_while_it_catches_up_comes_after_what_was_there() {
    let stage = stage().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..1_500, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    for round in 0..15 {
        takes(&mut slow, "flood/a", round * 100..(round + 1) * 100).await;
        write(&stage, "flood", 1_500 + round * 100..1_500 + (round + 1) * 100, &["a"]);
    }
    takes(&mut slow, "flood/a", 1_500..3_000).await;
    until("it is at the tail", || behind(&stage) == 0).await;
    assert!(slow.fence().await.is_empty());
}

/// They fall behind and are served at different places, each gets its own messages, and one pass serves many.
#[tokio::test]
async fn many_at_different_places_get_what_each_wants() {
    let stage = stage().await;
    let mut first = device(&stage, "first", 10).await;
    first.subscribed("flood/a", 1).await;
    write(&stage, "flood", 0..1_000, &["a", "b"]);
    until("the first is behind", || behind(&stage) == 1).await;
    let mut second = device(&stage, "second", 5).await;
    second.subscribed("flood/b", 1).await;
    let mut third = device(&stage, "third", 20).await;
    third.subscribed("flood/+", 1).await;
    write(&stage, "flood", 1_000..3_000, &["a", "b"]);
    until("all are behind", || behind(&stage) == 3).await;
    let (one, two, three) = tokio::join!(
        async {
            takes(&mut first, "flood/a", (0..3_000).step_by(2)).await;
            first.fence().await
        },
        async {
            takes(&mut second, "flood/b", (1_001..3_000).step_by(2)).await;
            second.fence().await
        },
        async {
            for number in 1_000..3_000 {
                let topic = ["flood/a", "flood/b"][number % 2];
                takes(&mut third, topic, number..number + 1).await;
            }
            third.fence().await
        },
    );
    assert!(one.is_empty() && two.is_empty() && three.is_empty(), "nothing came twice");
    until("all are at the tail", || behind(&stage) == 0).await;
}

#[tokio::test]
async fn one_that_is_stuck_holds_up_nobody_else_that_is_behind() {
    let stage = stage().await;
    let mut stuck = device(&stage, "stuck", 1).await;
    stuck.subscribed("flood/#", 1).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..2_000, &["a"]);
    until("both are behind", || behind(&stage) == 2).await;
    takes(&mut slow, "flood/a", 0..2_000).await;
    until("the other is at the tail", || behind(&stage) == 1).await;
    takes(&mut stuck, "flood/a", 0..2_000).await;
    until("both are at the tail", || behind(&stage) == 0).await;
}

#[tokio::test]
async fn one_that_leaves_or_unsubscribes_is_not_behind_any_more() {
    let stage = stage().await;
    let mut leaves = device(&stage, "leaves", 1).await;
    leaves.subscribed("flood/#", 1).await;
    let mut ends = device(&stage, "ends", 1).await;
    ends.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..1_500, &["a"]);
    until("both are behind", || behind(&stage) == 2).await;
    drop(leaves);
    until("who left is forgotten", || behind(&stage) == 1).await;
    // Its window takes one, and that is not acknowledged.
    ends.message("flood/a q1 0").await;
    ends.unsubscribe("flood/#").await;
    until("nobody reads any more", || behind(&stage) == 0).await;
    // A later subscription begins at its own start.
    let mut again = device(&stage, "again", 10).await;
    again.subscribed("flood/#", 1).await;
    write(&stage, "flood", 1_500..1_600, &["a"]);
    takes(&mut again, "flood/a", 1_500..1_600).await;
}

#[tokio::test]
async fn behind_in_one_partition_is_not_behind_in_another() {
    let stage = stage().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    let mut both = device(&stage, "both", 10).await;
    both.subscribed("flood/#", 1).await;
    both.subscribed("other/#", 1).await;
    write(&stage, "flood", 0..1_500, &["a"]);
    until("both are behind", || behind(&stage) == 2).await;
    takes(&mut both, "flood/a", 0..1_500).await;
    write(&stage, "other", 0..100, &["x"]);
    takes(&mut both, "other/x", 0..100).await;
    takes(&mut slow, "flood/a", 0..1_500).await;
    until("all are at the tail", || behind(&stage) == 0).await;
}

/// What retention has deleted meanwhile is gone, and that is told; the rest comes.
#[tokio::test]
async fn records_that_are_deleted_meanwhile_are_left_out_and_the_rest_comes() {
    let stage = stage().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..3_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    stage.fake.world().topics.get_mut("flood").unwrap().partitions[0].start = 2_900;
    let mut number = 0;
    let mut jumps = Vec::new();
    while number < 2_999 {
        let line = device_line(&mut slow).await;
        if line != number {
            jumps.push((number, line));
        }
        number = line + 1;
    }
    assert!(jumps.len() == 1 && jumps[0].1 == 2_900, "{jumps:?}");
    until("it is at the tail", || behind(&stage) == 0).await;
}

/// All that somebody who is behind has not had is deleted, and nothing is written any more.
#[tokio::test]
async fn who_is_behind_in_a_log_that_was_emptied_is_at_the_tail_again() {
    let (log, _listens) = Log::listen();
    let stage = patient_stage(Duration::from_secs(60)).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..3_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    until("the feed has read all", || stage.metric("kafka_fetched_bytes_total") > 3_000_000).await;
    stage.fake.empty("flood", 0);
    at_the_tail(&stage, &mut slow).await;
    write(&stage, "flood", 3_000..3_001, &["a"]);
    while device_line(&mut slow).await != 3_000 {}
    assert!(slow.fence().await.is_empty());
    // What is lost is told by rule.
    assert_eq!(stage.metric("offset_resets_total{rule=\"flood\"}"), 1);
    assert_eq!(stage.metric("offset_resets_total{rule=\"other\"}"), 0);
    let told = log.lines(&["were deleted before they were read", "to=3000", r#"rules=["flood"]"#]);
    assert_eq!(told.len(), 1, "{told:?}");
}

/// Compaction takes all up to the end of the log, which begins where it began. No error tells of that, and there is nothing to fetch.
#[tokio::test]
async fn who_is_behind_where_compaction_took_all_up_to_the_end_is_at_the_tail_again() {
    let stage = patient_stage(Duration::from_secs(60)).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..3_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    until("the feed has read all", || stage.metric("kafka_fetched_bytes_total") > 3_000_000).await;
    stage.fake.world().topics.get_mut("flood").unwrap().partitions[0]
        .log
        .retain(|(base, _)| *base < 100);
    at_the_tail(&stage, &mut slow).await;
    assert_eq!(stage.metric("kafka_offset_resets_total"), 0, "the offset is there");
    write(&stage, "flood", 3_000..3_001, &["a"]);
    while device_line(&mut slow).await != 3_000 {}
    assert!(slow.fence().await.is_empty());
}

/// As a log that was emptied, in more partitions than sweeps have room for. Each is looked at once, and holds up nobody who has something to read.
#[tokio::test]
async fn many_logs_that_were_emptied_hold_up_nobody_and_are_looked_at_once() {
    many_emptied(|fake, partition| fake.empty("flood", partition), EMPTIED as u64).await;
}

/// There is nothing at an offset that is there: the same.
#[tokio::test]
async fn many_logs_of_which_compaction_left_nothing_hold_up_nobody() {
    let compact = |fake: &Fake, partition: usize| fake.world().topics.get_mut("flood").unwrap().partitions[partition].log.clear();
    many_emptied(compact, 0).await;
}

const EMPTIED: usize = 12;

async fn many_emptied(empty: impl Fn(&Fake, usize), resets: u64) {
    let fake = Fake::start(1).await;
    fake.topic("flood", EMPTIED + 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.kafka.consumer.max_wait = Duration::from_secs(60);
        // For two sweeps.
        config.sweeps.memory = 16 * 64 * 1024;
    })
    .await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    let write_to = |partition: usize, first: usize| {
        for start in (first..first + 1_500).step_by(100) {
            let records: Vec<_> = (start..start + 100).map(|n| record("a", &format!("{n:<1000}"))).collect();
            stage.fake.write("flood", partition, &Batch::of(&records).bytes());
        }
    };
    // The last keeps its records.
    write_to(EMPTIED, 0);
    until("it is behind", || behind(&stage) == 1).await;
    (0..EMPTIED).for_each(|partition| write_to(partition, 10_000));
    until("it is behind in all", || behind(&stage) == EMPTIED as u64 + 1).await;
    until("the feeds have read all", || {
        stage.metric("kafka_fetched_bytes_total") > (EMPTIED as u64 + 1) * 1_500_000
    })
    .await;
    (0..EMPTIED).for_each(|partition| empty(&stage.fake, partition));
    let asked = || stage.fake.seen(kafka_protocol::messages::ApiKey::ListOffsets);
    let before = asked();
    for number in 0..1_500 {
        // A few of the others were handed out before.
        while device_line(&mut slow).await != number {}
    }
    until("it is at all tails", || behind(&stage) == 0).await;
    assert_eq!(stage.metric("kafka_offset_resets_total"), resets);
    assert!(asked() - before <= 2 * EMPTIED, "{} questions for {EMPTIED} logs", asked() - before);
    assert!(slow.fence().await.is_empty());
}

/// The log is cut off while somebody is behind beyond what is left, and nothing is written any more.
#[tokio::test]
async fn who_is_behind_in_a_log_that_was_cut_off_is_at_the_tail_again() {
    let stage = stage().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..3_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    stage.fake.cut_off("flood", 0, 1, 100);
    at_the_tail(&stage, &mut slow).await;
    write(&stage, "flood", 5_000..5_100, &["a"]);
    while device_line(&mut slow).await != 5_000 {}
    takes(&mut slow, "flood/a", 5_001..5_100).await;
    assert!(slow.fence().await.is_empty());
}

/// Takes what comes until nobody is behind.
async fn at_the_tail(stage: &Stage, device: &mut Device) {
    tokio::select! {
        () = async { loop { device_line(device).await; } } => {}
        () = until("it is at the tail", || behind(stage) == 0) => {}
    }
}

/// Four crowds at places far from each other, each at the speed of its own acknowledgements: the log is not read again and again
/// because they take turns.
#[tokio::test]
async fn those_at_different_places_do_not_make_each_other_read_anew() {
    const EACH: usize = 2_000;
    let stage = stage().await;
    let mut devices = Vec::new();
    for place in 0..4 {
        let mut device = device(&stage, &format!("d{place}"), 10).await;
        device.subscribed("flood/#", 1).await;
        devices.push(device);
        write(&stage, "flood", place * EACH..(place + 1) * EACH, &["a"]);
        until("it is behind", || behind(&stage) == place as u64 + 1).await;
    }
    let before = stage.metric("kafka_fetched_bytes_total");
    let mut tasks = tokio::task::JoinSet::new();
    for (place, mut device) in devices.into_iter().enumerate() {
        tasks.spawn(async move { takes(&mut device, "flood/a", place * EACH..4 * EACH).await });
    }
    tasks.join_all().await;
    let read = stage.metric("kafka_fetched_bytes_total") - before;
    // Each alone would read its part once, and a fetch more at its end.
    let needed: usize = (0..4).map(|place| (4 - place) * EACH * 1_000).sum();
    let ratio = read as f64 / needed as f64;
    println!("four places: {read} bytes read for {needed} delivered, {ratio:.2} times");
    assert!(ratio < 1.5, "{ratio}");
}

/// Of what all sweeps together may hold there is enough for one: partitions, and places in them, take turns, and who is stuck gives
/// its turn away.
#[tokio::test]
async fn with_memory_for_one_sweep_everybody_has_a_turn() {
    everybody_has_a_turn(|stage, topic, numbers| write(stage, topic, numbers, &["a"])).await;
}

/// The same with batches of which each becomes larger than all that memory, for as long as somebody takes of it.
#[tokio::test]
async fn with_batches_that_become_larger_than_the_memory_everybody_has_a_turn() {
    everybody_has_a_turn(|stage, topic, numbers| {
        let records: Vec<_> = numbers.map(|n| record("a", &format!("{n:<1000}"))).collect();
        stage.fake.write(topic, 0, &Batch::of(&records).codec(Codec::Zstd).bytes());
    })
    .await;
}

async fn stage_for_one_sweep() -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    fake.topic("other", 1);
    Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.sweeps.memory = 16 * 64 * 1024;
    })
    .await
}

async fn everybody_has_a_turn(write: impl Fn(&Stage, &str, std::ops::Range<usize>)) {
    let stage = stage_for_one_sweep().await;
    let mut devices = Vec::new();
    for number in 0..12 {
        let topic = ["flood", "other"][number % 2];
        let mut device = device(&stage, &format!("d{number}"), 10).await;
        device.subscribed(&format!("{topic}/#"), 1).await;
        let start = number / 2 * 500;
        write(&stage, topic, start..start + 500);
        devices.push((device, topic, start));
    }
    let mut stuck = device(&stage, "stuck", 1).await;
    stuck.subscribed("flood/#", 1).await;
    for topic in ["flood", "other"] {
        write(&stage, topic, 3_000..4_000);
    }
    until("all are behind", || behind(&stage) == 13).await;
    let mut tasks = tokio::task::JoinSet::new();
    for (mut device, topic, start) in devices {
        tasks.spawn(async move {
            takes(&mut device, &format!("{topic}/a"), start..4_000).await;
            assert!(device.fence().await.is_empty(), "nothing came twice");
        });
    }
    tasks.join_all().await;
    until("only the stuck one is behind", || behind(&stage) == 1).await;
    takes(&mut stuck, "flood/a", 3_000..4_000).await;
    until("all are at the tail", || behind(&stage) == 0).await;
}

/// Storage from which a first fetch takes longer than a turn may last at first, in more partitions than there is memory for; another's is quick.
#[tokio::test]
async fn with_slow_storage_and_memory_for_one_sweep_everybody_gets_on() {
    const TOPICS: [&str; 3] = ["slow", "slower", "quick"];
    const RULES: &str = r#"rules:
  - {name: slow, direction: subscribe, mqtt: "slow/{key}", kafka: {topic: slow}, qos: 1}
  - {name: slower, direction: subscribe, mqtt: "slower/{key}", kafka: {topic: slower}, qos: 1}
  - {name: quick, direction: subscribe, mqtt: "quick/{key}", kafka: {topic: quick}, qos: 1}"#;
    let fake = Fake::start(1).await;
    TOPICS.iter().for_each(|topic| fake.topic(topic, 1));
    let stage = Stage::with(fake, RULES, |config| config.sweeps.memory = 16 * config.kafka.consumer.fetch_size).await;
    let mut devices = Vec::new();
    for topic in TOPICS {
        let mut device = device(&stage, topic, 10).await;
        device.subscribed(&format!("{topic}/#"), 1).await;
        write(&stage, topic, 0..1_200, &["a"]);
        devices.push((device, topic));
    }
    until("all are behind", || behind(&stage) == 3).await;
    for (topic, takes) in [("slow", 1_200), ("slower", 1_500)] {
        let takes = Duration::from_millis(takes);
        stage.fake.world().fetch_takes.insert(topic.to_owned(), takes);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (mut device, topic) in devices {
        tasks.spawn(async move {
            takes(&mut device, &format!("{topic}/a"), 0..1_200).await;
            assert!(device.fence().await.is_empty(), "nothing came twice");
        });
    }
    tasks.join_all().await;
    until("all are at the tail", || behind(&stage) == 0).await;
}

/// Somebody is behind in a topic that nobody knows for a while, with the memory of the only sweep there is room for. Others get it meanwhile.
#[tokio::test]
async fn who_is_behind_in_a_topic_that_is_missing_for_a_while_keeps_no_memory_from_others_and_goes_on() {
    let stage = stage_for_one_sweep().await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..2_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    takes(&mut slow, "flood/a", 0..600).await;
    until("a sweep rests", || stage.metric("reads_waiting_bytes") > 0).await;
    let gone = stage.fake.world().topics.remove("flood").unwrap();
    until("the topic is missing", || {
        matches!(stage.cluster.topic("flood"), TopicState::Missing)
    })
    .await;
    let mut other = device(&stage, "other", 10).await;
    other.subscribed("other/#", 1).await;
    write(&stage, "other", 0..1_500, &["a"]);
    until("both are behind", || behind(&stage) == 2).await;
    takes(&mut other, "other/a", 0..1_500).await;
    until("one is at the tail", || behind(&stage) == 1).await;
    // It was only hidden.
    stage.fake.world().topics.insert("flood".to_owned(), gone);
    takes(&mut slow, "flood/a", 600..2_000).await;
    until("both are at the tail", || behind(&stage) == 0).await;
    assert!(slow.fence().await.is_empty() && other.fence().await.is_empty());
}

/// A fleet comes back: all from one place, each at a speed of its own.
#[tokio::test]
async fn a_fleet_that_fell_behind_together_costs_about_one_pass_over_the_log() {
    const MESSAGES: usize = 2_000;
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 128 * 1024;
        config.sweeps.memory = 8 * 1024 * 1024;
    })
    .await;
    let mut fleet = Vec::new();
    for number in 0..30 {
        let mut device = device(&stage, &format!("d{number}"), 1 + number % 20).await;
        device.subscribed("flood/#", 1).await;
        fleet.push(device);
    }
    write(&stage, "flood", 0..MESSAGES, &["a"]);
    until("all are behind", || behind(&stage) == 30).await;
    let before = stage.metric("kafka_fetched_bytes_total");
    let mut tasks = tokio::task::JoinSet::new();
    for mut device in fleet {
        tasks.spawn(async move { takes(&mut device, "flood/a", 0..MESSAGES).await });
    }
    tasks.join_all().await;
    let read = stage.metric("kafka_fetched_bytes_total") - before;
    let passes = read as f64 / (MESSAGES * 1_000) as f64;
    println!("a fleet of 30: {passes:.2} passes over the log");
    assert!(passes < 2.0, "{passes}");
    until("all are at the tail", || behind(&stage) == 0).await;
}

/// A sweep that is put within a fetch leaves out what lies before its place, but not what became of transactions there.
#[tokio::test]
async fn who_is_behind_gets_nothing_of_aborted_transactions_and_all_of_the_others() {
    let stage = stage().await;
    let mut devices = Vec::new();
    for number in 0..5 {
        let mut device = device(&stage, &format!("d{number}"), 1 + 4 * number).await;
        device.subscribed("flood/#", 1).await;
        devices.push(device);
    }
    {
        let mut world = stage.fake.world();
        let partition = &mut world.topics.get_mut("flood").unwrap().partitions[0];
        let mut sequence = 0;
        let mut batch = |numbers: std::ops::Range<usize>| {
            let records: Vec<_> = numbers.map(|n| record("a", &format!("{n:<1000}"))).collect();
            sequence += records.len() as i32;
            Batch::of(&records).transaction(70, sequence).bytes()
        };
        for round in 0..30 {
            partition.aborted.push((70, partition.end));
            partition.push(&batch(10_000..10_030));
            partition.push(&Batch::marker(70, false).bytes());
            partition.push(&batch(round * 50..(round + 1) * 50));
            partition.push(&Batch::marker(70, true).bytes());
        }
    }
    stage.fake.appended.notify_waiters();
    until("all are behind", || behind(&stage) == 5).await;
    let mut tasks = tokio::task::JoinSet::new();
    for mut device in devices {
        tasks.spawn(async move {
            takes(&mut device, "flood/a", 0..1_500).await;
            assert!(device.fence().await.is_empty(), "nothing came twice");
        });
    }
    tasks.join_all().await;
    until("all are at the tail", || behind(&stage) == 0).await;
}

/// With one sweep for a partition: it was put to one who takes a little and then nothing more. Whoever has room elsewhere gets it, also
/// if nothing else happens.
#[tokio::test]
async fn a_sweep_that_rests_is_given_to_who_waits_for_it() {
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    let stage = Stage::with(fake, RULES, |config| config.sweeps.per_partition = 1).await;
    let mut devices = Vec::new();
    for number in 0..6 {
        let mut device = device(&stage, &format!("d{number}"), 10).await;
        device.subscribed("flood/#", 1).await;
        devices.push(device);
        write(&stage, "flood", number * 1_500..(number + 1) * 1_500, &["a"]);
    }
    until("all are behind", || behind(&stage) == 6).await;
    let mut tasks = tokio::task::JoinSet::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        let end = if number == 3 { 9_000 } else { number * 1_500 + 200 };
        tasks.spawn(async move {
            takes(&mut device, "flood/a", number * 1_500..end).await;
            device
        });
    }
    tasks.join_all().await;
    until("one is at the tail", || behind(&stage) == 5).await;
}

/// Each of many has messages of its own and takes none of them. Together they hold little more than the budget, and lose nothing by it.
#[tokio::test]
async fn many_that_are_stuck_hold_no_more_memory_than_all_may_together() {
    const DEVICES: usize = 60;
    const EACH: usize = 200;
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.sweeps.memory = 4 * 1024 * 1024;
    })
    .await;
    let keys: Vec<String> = (0..DEVICES).map(|number| format!("k{number}")).collect();
    let mut devices = Vec::new();
    for key in &keys {
        let mut device = device(&stage, key, 1).await;
        device.subscribed(&format!("flood/{key}"), 1).await;
        devices.push(device);
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    write(&stage, "flood", 0..DEVICES * EACH, &keys);
    until("all are behind", || behind(&stage) == DEVICES as u64).await;
    let held = stage.metric("messages_waiting_bytes");
    println!("{DEVICES} stuck with {EACH} KB each: {held} bytes in memory");
    // Half of the budget, and a few messages of each beyond it; without a budget it would be all twelve megabytes.
    assert!(held < 2 * 1024 * 1024 + DEVICES as u64 * 24 * 1024, "{held} bytes");
    let mut tasks = tokio::task::JoinSet::new();
    for (number, mut device) in devices.into_iter().enumerate() {
        tasks.spawn(async move {
            let mine = (0..EACH).map(|round| round * DEVICES + number);
            takes(&mut device, &format!("flood/k{number}"), mine).await;
        });
    }
    tasks.join_all().await;
    until("all are at the tail", || behind(&stage) == 0).await;
    until("their memory is given back", || stage.metric("messages_waiting_bytes") == 0).await;
}

/// An unclean election: another replica leads, whose log is shorter. Whoever is at the tail and whoever is behind gets all that it has from
/// there on; only what both shared does not come again.
#[tokio::test]
async fn a_log_that_is_cut_off_goes_on_for_everybody_where_it_was_cut() {
    let stage = stage().await;
    let mut quick = device(&stage, "quick", 100).await;
    quick.subscribed("flood/#", 1).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..2_000, &["a"]);
    takes(&mut quick, "flood/a", 0..2_000).await;
    // It subscribes at an offset that will be gone.
    let mut late = device(&stage, "late", 100).await;
    late.subscribed("flood/#", 1).await;
    until("it is behind", || behind(&stage) == 1).await;
    stage.fake.cut_off("flood", 0, 1, 1_900);
    until("it is noticed", || stage.metric("kafka_log_truncations_total") > 0).await;
    write(&stage, "flood", 5_000..5_300, &["a"]);
    takes(&mut quick, "flood/a", 5_000..5_300).await;
    takes(&mut late, "flood/a", 5_000..5_300).await;
    takes(&mut slow, "flood/a", (0..1_900).chain(5_000..5_300)).await;
    until("all are at the tail", || behind(&stage) == 0).await;
    assert!(slow.fence().await.is_empty() && quick.fence().await.is_empty() && late.fence().await.is_empty());
}

/// A sweep hears of it first: the feed's poll is out for a while. Nobody gets anything of the new log twice.
#[tokio::test]
async fn a_sweep_that_hears_first_that_the_log_was_cut_off_waits_for_the_feed() {
    let stage = patient_stage(Duration::from_secs(2)).await;
    let mut quick = device(&stage, "quick", 100).await;
    quick.subscribed("flood/#", 1).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..3_000, &["a"]);
    takes(&mut quick, "flood/a", 0..3_000).await;
    takes(&mut slow, "flood/a", 0..1_200).await;
    assert_eq!(behind(&stage), 1);
    {
        // Polls that are out are not told.
        let mut world = stage.fake.world();
        let partition = &mut world.topics.get_mut("flood").unwrap().partitions[0];
        partition.log.retain(|(base, _)| *base < 1_000);
        (partition.end, partition.epoch) = (1_000, partition.epoch + 1);
        for n in 5_000..5_300 {
            partition.push(&Batch::of(&[record("a", &format!("{n:<1000}"))]).bytes());
        }
    }
    let mut number = 1_200;
    loop {
        let next = device_line(&mut slow).await;
        if next == 5_000 {
            break;
        }
        assert_eq!(next, number);
        number += 1;
    }
    takes(&mut slow, "flood/a", 5_001..5_300).await;
    takes(&mut quick, "flood/a", 5_000..5_300).await;
    until("all are at the tail", || behind(&stage) == 0).await;
    write(&stage, "flood", 6_000..6_001, &["a"]);
    takes(&mut slow, "flood/a", 6_000..6_001).await;
    takes(&mut quick, "flood/a", 6_000..6_001).await;
    assert!(slow.fence().await.is_empty() && quick.fence().await.is_empty());
}

/// One whose polls wait for so long when there is nothing, and whose fetches are small.
async fn patient_stage(max_wait: Duration) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("flood", 1);
    fake.topic("other", 1);
    Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.kafka.consumer.max_wait = max_wait;
    })
    .await
}

#[tokio::test]
async fn a_batch_that_a_sweep_cannot_read_is_read_again_and_only_that_is_left_out() {
    let stage = patient_stage(Duration::from_secs(60)).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    write(&stage, "flood", 0..700, &["a"]);
    let mut damaged = Batch::of(&[record("a", "damaged")]).bytes();
    *damaged.last_mut().unwrap() ^= 1;
    // The feed leaves out both, the sweep as well.
    stage.fake.write("flood", 0, &damaged);
    stage.fake.write("flood", 0, &damaged);
    write(&stage, "flood", 700..2_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    until("the feed is at the end", || stage.metric("unreadable_batches_total") == 2).await;
    assert_eq!(stage.metric("batches_read_again_total"), 2);
    // What comes damaged, but is not so in the log, is not left out.
    stage.fake.world().fetch_faults.push_back(Fault::Damaged);
    takes(&mut slow, "flood/a", 0..2_000).await;
    until("it is at the tail", || behind(&stage) == 0).await;
    assert!(slow.fence().await.is_empty());
    assert!(stage.fake.world().fetch_faults.is_empty());
    assert_eq!(stage.metric("unreadable_batches_total"), 4);
    assert_eq!(stage.metric("batches_read_again_total"), 5);
}

/// Messages from before Kafka 0.11 are what they are: neither the feed nor a sweep asks for each of them again.
#[tokio::test]
async fn messages_of_an_old_format_are_left_out_and_not_read_again() {
    let stage = patient_stage(Duration::from_secs(60)).await;
    let mut slow = device(&stage, "slow", 10).await;
    slow.subscribed("flood/#", 1).await;
    let mut old = Batch::of(&[record("a", "old")]).bytes();
    old[16] = 1;
    write(&stage, "flood", 0..1_400, &["a"]);
    for _ in 0..50 {
        stage.fake.write("flood", 0, &old);
    }
    write(&stage, "flood", 1_400..2_000, &["a"]);
    until("it is behind", || behind(&stage) == 1).await;
    until("the feed has left them out", || stage.metric("unreadable_batches_total") == 50).await;
    takes(&mut slow, "flood/a", 0..2_000).await;
    until("it is at the tail", || behind(&stage) == 0).await;
    assert_eq!(stage.metric("unreadable_batches_total"), 100, "by the feed and the sweep");
    assert_eq!(stage.metric("batches_read_again_total"), 0);
}

/// The number of the next message, which is acknowledged.
async fn device_line(device: &mut Device) -> usize {
    let line = device.line().await;
    let parts: Vec<&str> = line.split(' ').collect();
    device.puback(parts[1].parse().unwrap()).await;
    parts[4].parse().unwrap()
}
