//! State topics: made once, with the settings that the protocols over them rest on; nothing is ready before they are right.
#![allow(clippy::unwrap_used)] // Test code, though not always in a test function.

mod fake_broker;

use std::{collections::HashSet, time::Duration};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, settings},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{Cluster, State, StateTopic, Verdict};
use tokio::time::timeout;

fn topic(create: bool) -> StateTopic {
    StateTopic {
        name: "state".to_owned(),
        partitions: 4,
        replication: 3,
        create,
    }
}

fn start(fake: &Fake, create: bool) -> Cluster {
    let mut settings = settings(fake);
    settings.state_topics = vec![topic(create)];
    settings.metadata_max_age = Duration::from_millis(200);
    Cluster::start(settings)
}

async fn ready(cluster: &Cluster) {
    let mut state = cluster.state();
    let seen = timeout(PATIENCE, state.wait_for(|s| *s == State::Ready)).await.is_ok();
    assert!(seen, "{:?}", cluster.state().borrow());
}

/// The reason, once it holds `words`.
async fn unfit(cluster: &Cluster, words: &str) -> String {
    let mut state = cluster.state();
    let holds = |s: &State| matches!(s, State::Unfit { why } if why.contains(words));
    let seen = timeout(PATIENCE, state.wait_for(holds)).await.is_ok();
    match &*cluster.state().borrow() {
        State::Unfit { why } if seen => why.clone(),
        other => panic!("{words}: {other:?}"),
    }
}

fn faults_of(fake: &Fake, api: ApiKey, faults: impl IntoIterator<Item = Fault>) {
    fake.world().groups.faults.entry(api as i16).or_default().extend(faults);
}

#[tokio::test]
async fn a_missing_topic_is_made_with_the_settings_that_matter() {
    let fake = Fake::start(3).await;
    let cluster = start(&fake, true);
    ready(&cluster).await;
    let world = fake.world();
    assert_eq!(
        (world.admin.made.as_slice(), world.topics["state"].partitions.len()),
        (&["state".to_owned()][..], 4)
    );
    let settings = &world.admin.settings["state"];
    for (key, value) in [
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.insync.replicas", "2"),
        ("max.message.bytes", "1048588"),
        ("min.compaction.lag.ms", "600000"),
        ("delete.retention.ms", "600000"),
        ("segment.bytes", "67108864"),
        ("segment.ms", "600000"),
        ("min.cleanable.dirty.ratio", "0.2"),
    ] {
        assert_eq!(settings.get(key).map(String::as_str), Some(value), "{key}");
    }
}

/// Both see that it is missing, both ask for it, and one is told that it exists already.
#[tokio::test]
async fn two_instances_that_make_it_at_once_are_both_content() {
    let fake = Fake::start(3).await;
    fake.paused.send_replace(true);
    let clusters: Vec<_> = (0..4).map(|_| start(&fake, true)).collect();
    // One of them is told so in any case.
    faults_of(&fake, ApiKey::CreateTopics, [Fault::Code(36)]);
    fake.paused.send_replace(false);
    for cluster in &clusters {
        ready(cluster).await;
    }
    assert_eq!(fake.world().admin.made.len(), 1);
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let fake = Fake::start(3).await;
    // Not the controller, controller busy, a connection that ends before and after it was made.
    let faults = [Fault::Code(41), Fault::Code(7), Fault::CloseBefore, Fault::CloseAfter];
    faults_of(&fake, ApiKey::CreateTopics, faults);
    faults_of(&fake, ApiKey::DescribeConfigs, [Fault::Code(3), Fault::HalfFrame, Fault::Garbage]);
    let cluster = start(&fake, true);
    ready(&cluster).await;
    assert_eq!(fake.world().admin.made.len(), 1);
}

#[tokio::test]
async fn without_leave_to_make_it_an_operator_is_told_what_to_type() {
    let fake = Fake::start(3).await;
    let cluster = start(&fake, false);
    let why = unfit(&cluster, "does not exist").await;
    for words in [
        "kafka-topics --create --topic state --partitions 4 --replication-factor 3",
        "--config min.compaction.lag.ms=600000",
    ] {
        assert!(why.contains(words), "{why}");
    }
    assert_eq!(fake.seen(ApiKey::CreateTopics), 0);
}

#[tokio::test]
async fn what_kafka_refuses_is_told_with_its_remedy_and_asked_again() {
    let fake = Fake::start(2).await;
    let cluster = start(&fake, true);
    let why = unfit(&cluster, "INVALID_REPLICATION_FACTOR").await;
    assert!(why.contains("kafka.topics.replication"), "{why}");
    drop(cluster);
    let fake = Fake::start(3).await;
    faults_of(&fake, ApiKey::CreateTopics, [Fault::Code(29)]);
    faults_of(&fake, ApiKey::DescribeConfigs, [Fault::Code(29)]);
    let cluster = start(&fake, true);
    let why = unfit(&cluster, "TOPIC_AUTHORIZATION_FAILED").await;
    assert!(why.contains("CREATE on it"), "{why}");
    let why = unfit(&cluster, "DESCRIBE_CONFIGS").await;
    assert!(why.contains("state"), "{why}");
    ready(&cluster).await;
}

#[tokio::test]
async fn a_topic_that_is_set_otherwise_is_not_used_until_it_is_mended() {
    let fake = Fake::start(3).await;
    let cluster = start(&fake, true);
    ready(&cluster).await;
    fake.world().admin.set("state", "cleanup.policy", "delete");
    let why = unfit(&cluster, "cleanup.policy").await;
    assert!(!why.contains("min.insync"), "{why}");
    fake.world().admin.set("state", "cleanup.policy", "compact");
    ready(&cluster).await;
    fake.world().admin.replicated.insert("state".to_owned(), 1);
    unfit(&cluster, "has 1 replicas").await;
    fake.world().admin.replicated.insert("state".to_owned(), 3);
    ready(&cluster).await;
    // It gains a partition while it is in use.
    fake.grow("state");
    unfit(&cluster, "has 5 partitions").await;
}

/// A broker that is away, or tells nothing, is another matter: what was right stays so.
#[tokio::test]
async fn no_answer_is_no_fault_of_the_topic() {
    let fake = Fake::start(3).await;
    let cluster = start(&fake, true);
    ready(&cluster).await;
    faults_of(&fake, ApiKey::DescribeConfigs, std::iter::repeat_n(Fault::CloseBefore, 5));
    let before = fake.seen(ApiKey::DescribeConfigs);
    let mut seen = HashSet::new();
    let mut state = cluster.state();
    while fake.seen(ApiKey::DescribeConfigs) < before + 6 {
        seen.insert(format!("{:?}", *state.borrow_and_update()));
        let _changed = timeout(Duration::from_millis(20), state.changed()).await;
    }
    assert_eq!(seen, HashSet::from(["Ready".to_owned()]));
}

#[tokio::test]
async fn examining_makes_nothing() {
    let fake = Fake::start(3).await;
    let cluster = Cluster::start(settings(&fake));
    let examine = || async { timeout(PATIENCE, cluster.examine(&[topic(true)])).await.unwrap().unwrap() };
    assert_eq!(examine().await, [Verdict::Creatable]);
    assert!(fake.world().admin.made.is_empty());
    let made = start(&fake, true);
    ready(&made).await;
    let right = Verdict::Right {
        partitions: 4,
        replicas: 3,
    };
    assert_eq!(examine().await, [right]);
    fake.world().admin.set("state", "message.timestamp.type", "CreateTime");
    let [Verdict::Wrong(faults)] = &examine().await[..] else {
        panic!("it is wrong")
    };
    assert!(faults.len() == 1 && faults[0].contains("LogAppendTime"), "{faults:?}");
}
