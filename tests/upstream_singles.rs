//! Records that are produced by themselves, under a stamp: against a fake cluster that moves leaders, cuts connections and lies.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{collections::HashSet, sync::Arc, time::Duration};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, ready, settings, until},
};
use mqtt_kafka_proxy::{
    kafka::{RecordFields, batch::Producer, error::ErrorCode},
    upstream::{AppendError, Cluster, Fate, Located, Settings, Single, State, Topic, WriteOptions},
};
use tokio::{task::JoinSet, time::timeout};

struct Stage {
    fake: Fake,
    cluster: Cluster,
    topic: Arc<Topic>,
}

impl Stage {
    async fn new(brokers: i32, change: impl FnOnce(&mut Settings)) -> Self {
        let fake = Fake::start(brokers).await;
        fake.topic("t", 2);
        let mut settings = settings(&fake);
        change(&mut settings);
        let cluster = Cluster::start(settings);
        let topic = ready(&cluster, "t").await;
        Self { fake, cluster, topic }
    }

    async fn produce(&self, single: &Single, stamp: Producer) -> Fate {
        let produced = self.cluster.produce_single(single, &self.topic.partitions[0], &stamp, false);
        timeout(PATIENCE, produced).await.unwrap()
    }

    fn values(&self) -> Vec<String> {
        self.fake.values("t", 0)
    }
}

fn single(cluster: &Cluster, value: &str) -> Result<Single, AppendError> {
    let fields = RecordFields {
        timestamp: 1,
        key: None,
        value: Some(value.as_bytes()),
        headers: std::iter::empty(),
    };
    cluster.appender().single(&fields, WriteOptions::default())
}

fn stamp(producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Producer {
    Producer {
        producer_id,
        producer_epoch,
        base_sequence,
    }
}

fn appended(offset: i64) -> Fate {
    Fate::Appended { offset, timestamp: None }
}

#[tokio::test]
async fn a_record_is_there_once_whatever_happens_to_its_requests() {
    let stage = Stage::new(1, |settings| settings.request_timeout = Duration::from_secs(1)).await;
    let refused = [-1, 2, 3, 5, 6, 7, 19, 56, 74, 75, 89, 100];
    let stored = [-1, 7, 13, 20, 46, 56];
    let faults = refused
        .map(Fault::Code)
        .into_iter()
        .chain(stored.map(Fault::StoredBut))
        .chain(Fault::ENDS)
        .chain([Fault::Silence]);
    for (sequence, fault) in (0..).zip(faults) {
        stage.fake.world().produce_faults.push_back(fault.clone());
        let record = single(&stage.cluster, &sequence.to_string()).unwrap();
        assert_eq!(
            stage.produce(&record, stamp(7, 0, sequence)).await,
            appended(sequence.into()),
            "{fault:?}"
        );
        let expected: Vec<String> = (0..=sequence).map(|n| n.to_string()).collect();
        assert_eq!(stage.values(), expected, "{fault:?}");
    }
}

#[tokio::test]
async fn another_process_says_it_again_and_it_is_there_once() {
    let stage = Stage::new(1, |_| {}).await;
    let record = single(&stage.cluster, "it").unwrap();
    assert_eq!(stage.produce(&record, stamp(7, 3, 0)).await, appended(0));
    let other = Cluster::start(settings(&stage.fake));
    let topic = ready(&other, "t").await;
    let again = single(&other, "it again").unwrap();
    let partition = topic.partitions[0].clone();
    let fate = timeout(PATIENCE, other.produce_single(&again, &partition, &stamp(7, 3, 0), true))
        .await
        .unwrap();
    assert_eq!(fate, appended(0));
    assert_eq!(stage.values(), ["it"]);
}

/// What is known of a partition by its topic's id and its number.
async fn located(cluster: &Cluster, id: &[u8; 16], partition: u32) -> String {
    let found = timeout(PATIENCE, cluster.partition_by_id(id, partition)).await.unwrap();
    match found {
        Located::Here(topic, partition) => format!("{} {}", topic.name, partition.index()),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[tokio::test]
async fn a_partition_is_found_by_its_topics_id_whatever_is_in_use_here() {
    let stage = Stage::new(2, |_| {}).await;
    let id = *stage.topic.id.as_bytes();
    let mut settings = settings(&stage.fake);
    settings.producer.delivery_timeout = Duration::from_secs(3);
    let other = Cluster::start(settings);
    assert_eq!(located(&other, &id, 1).await, "t 1", "nobody has named it here");
    let asked = stage.fake.world().named.len();
    assert_eq!(located(&other, &id, 0).await, "t 0");
    assert_eq!(stage.fake.world().named.len(), asked, "what is known is not asked for");
    // Another has heard that it has gained one.
    stage.fake.grow("t");
    assert_eq!(located(&other, &id, 2).await, "t 2");
    assert_eq!(located(&other, &id, 3).await, "unknown", "topics lose no partitions");
}

/// A broker that is late does not know of a topic yet; the next one does.
#[tokio::test]
async fn that_a_topic_is_gone_is_not_one_brokers_to_say() {
    let stage = Stage::new(2, |_| {}).await;
    let id = *stage.topic.id.as_bytes();
    let mut settings = settings(&stage.fake);
    settings.producer.delivery_timeout = Duration::from_secs(3);
    let other = Cluster::start(settings);
    let mut state = other.state();
    timeout(PATIENCE, state.wait_for(|state| *state == State::Ready))
        .await
        .unwrap()
        .unwrap();
    let says_no = [100; 4].map(Fault::Code);
    stage.fake.world().metadata_faults.extend(says_no);
    assert_eq!(located(&other, &id, 0).await, "t 0");
    stage.fake.topic("v", 1);
    let id = *stage.fake.world().topics["v"].id.as_bytes();
    stage.fake.paused.send_replace(true);
    assert_eq!(located(&other, &id, 0).await, "unknown", "nobody answers");
    stage.fake.paused.send_replace(false);
    stage.fake.world().topics.remove("v");
    assert_eq!(located(&other, &id, 0).await, "gone");
    let asked = stage.fake.world().named.len();
    assert_eq!(located(&other, &id, 0).await, "gone");
    assert_eq!(stage.fake.world().named.len(), asked, "an id is never given again");
    stage.fake.world().forbidden = Some("u".to_owned());
    stage.fake.topic("u", 1);
    let hidden = *stage.fake.world().topics["u"].id.as_bytes();
    assert_eq!(located(&other, &hidden, 0).await, "unknown", "it may not be seen");
}

#[tokio::test]
async fn a_gap_is_told_and_the_next_epoch_goes_on() {
    let stage = Stage::new(1, |_| {}).await;
    let record = single(&stage.cluster, "a").unwrap();
    assert_eq!(stage.produce(&record, stamp(7, 0, 0)).await, appended(0));
    let late = single(&stage.cluster, "c").unwrap();
    assert_eq!(stage.produce(&late, stamp(7, 0, 2)).await, Fate::Gap);
    assert_eq!(stage.produce(&late, stamp(7, 1, 0)).await, appended(1));
    let old = single(&stage.cluster, "b").unwrap();
    assert_eq!(stage.produce(&old, stamp(7, 0, 1)).await, Fate::Fenced, "an epoch that is over");
    assert_eq!(stage.values(), ["a", "c"]);
    stage.fake.world().produce_faults.push_back(Fault::Code(59));
    assert_eq!(
        stage.produce(&old, stamp(8, 0, 1)).await,
        Fate::Gap,
        "an old broker has forgotten it"
    );
}

#[tokio::test]
async fn what_kafka_refuses_for_good_is_told_with_its_reason() {
    let stage = Stage::new(1, |_| {}).await;
    for code in [10, 29, 87] {
        stage.fake.world().produce_faults.push_back(Fault::Code(code));
        let record = single(&stage.cluster, "a").unwrap();
        assert_eq!(stage.produce(&record, stamp(7, 0, 0)).await, Fate::Refused(ErrorCode::from(code)));
    }
    assert_eq!(stage.values(), [""; 0]);
}

#[tokio::test]
async fn a_refusal_after_an_attempt_that_may_be_stored_leaves_it_unknown() {
    let stage = Stage::new(1, |_| {}).await;
    let record = single(&stage.cluster, "a").unwrap();
    let faults = |stage: &Stage, faults: &[Fault]| stage.fake.world().produce_faults.extend(faults.iter().cloned());
    for first in [Fault::StoredBut(6), Fault::StoredBut(7), Fault::CloseAfter] {
        faults(&stage, &[first, Fault::Code(29)]);
        assert_eq!(stage.produce(&record, stamp(7, 0, 0)).await, Fate::Unknown);
    }
    assert_eq!(stage.values(), ["a"]);
    faults(&stage, &[Fault::Code(19), Fault::Code(29)]);
    assert_eq!(
        stage.produce(&record, stamp(8, 0, 0)).await,
        Fate::Refused(ErrorCode::from(29)),
        "19 comes before the append"
    );
    let partition = &stage.topic.partitions[0];
    for (code, fate) in [(29, Fate::Unknown), (10, Fate::Refused(ErrorCode::from(10)))] {
        faults(&stage, &[Fault::Code(code)]);
        let stamp = stamp(9, 0, 0);
        let inherited = stage.cluster.produce_single(&record, partition, &stamp, true);
        assert_eq!(timeout(PATIENCE, inherited).await.unwrap(), fate, "said by an owner before: {code}");
    }
}

#[tokio::test]
async fn without_an_answer_in_time_it_is_unknown_and_can_be_said_again() {
    let stage = Stage::new(1, |settings| settings.producer.delivery_timeout = Duration::from_millis(300)).await;
    stage.fake.hold_produce(&[1]);
    let record = single(&stage.cluster, "a").unwrap();
    assert_eq!(stage.produce(&record, stamp(7, 0, 0)).await, Fate::Unknown);
    stage.fake.hold_produce(&[]);
    assert_eq!(stage.produce(&record, stamp(7, 0, 0)).await, appended(0));
    assert_eq!(stage.values(), ["a"]);
}

#[tokio::test]
async fn an_heir_is_asked_while_the_former_leader_is_paused() {
    let stage = Stage::new(2, |_| {}).await;
    let leader = stage.topic.partitions[0].leader().unwrap();
    stage.fake.hold_produce(&[leader]);
    let record = single(&stage.cluster, "a").unwrap();
    let moved = async {
        until("the paused leader has the request", || !stage.values().is_empty()).await;
        stage.fake.lead("t", 0, 3 - leader);
    };
    let (fate, ()) = tokio::join!(stage.produce(&record, stamp(7, 0, 0)), moved);
    assert_eq!(fate, appended(0));
    assert_eq!(stage.values(), ["a"]);
}

#[tokio::test]
async fn many_for_one_partition_go_by_many_requests() {
    let stage = Stage::new(1, |_| {}).await;
    let mut all = JoinSet::new();
    for id in 0..50 {
        let (cluster, partition) = (stage.cluster.clone(), stage.topic.partitions[0].clone());
        all.spawn(async move {
            let record = single(&cluster, &format!("{id:02}")).unwrap();
            cluster.produce_single(&record, &partition, &stamp(id, 0, 0), false).await
        });
    }
    let fates: HashSet<Fate> = timeout(PATIENCE, all.join_all()).await.unwrap().into_iter().collect();
    assert_eq!(fates, (0..50).map(appended).collect(), "each at a place of its own");
    let mut values = stage.values();
    values.sort();
    assert_eq!(values, (0..50).map(|id| format!("{id:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn no_producer_id_comes_twice() {
    let stage = Stage::new(1, |_| {}).await;
    stage.fake.world().identity_faults.push_back(Fault::Code(14));
    let mut ids = HashSet::new();
    for _ in 0..200 {
        let (id, epoch) = timeout(PATIENCE, stage.cluster.fresh_producer_id()).await.unwrap();
        assert_eq!(epoch, 0);
        assert!(ids.insert(id));
    }
}

#[tokio::test]
async fn a_record_counts_to_the_producers_memory_as_long_as_it_is_held() {
    let stage = Stage::new(1, |settings| settings.producer.memory = 100_000).await;
    let used = || stage.cluster.counters().memory_used.get();
    let before = used();
    let text = "x".repeat(60_000);
    let record = single(&stage.cluster, &text).unwrap();
    assert!(used() >= before + 60_000);
    assert_eq!(single(&stage.cluster, &text).unwrap_err(), AppendError::MemoryFull);
    assert_eq!(single(&stage.cluster, &"x".repeat(200_000)).unwrap_err(), AppendError::TooLarge);
    drop(record);
    assert_eq!(used(), before);
    drop(single(&stage.cluster, &text).unwrap());
}
