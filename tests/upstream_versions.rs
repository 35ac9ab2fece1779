//! Versions of requests: the newest that both sides know, by each broker's own word, and brokers that lack what is needed.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod program;

use std::time::Duration;

use fake_broker::{
    Fake,
    client::{Log, PATIENCE, Producer, assert_stored_once, ready, settings, until},
};
use kafka_protocol::{
    messages::{
        ApiKey, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, SyncGroupRequest,
    },
    protocol::Message,
};
use mqtt_kafka_proxy::upstream::{Cluster, Commit, GroupEvent, GroupSettings, Outcome, Start, State};
use program::{Program, address, get};
use tokio::time::timeout;

/// What we cannot do without, and the least version of it.
const NEEDED: [(ApiKey, i16); 5] = [
    (ApiKey::Produce, 3),
    (ApiKey::Fetch, 4),
    (ApiKey::ListOffsets, 2),
    (ApiKey::Metadata, 4),
    (ApiKey::InitProducerId, 0),
];

fn offer(fake: &Fake, broker: i32, api: ApiKey, versions: Option<(i16, i16)>) {
    fake.world().versions.insert((broker, api as i16), versions);
}

#[tokio::test]
async fn a_broker_that_lacks_something_essential_is_told_by_what_is_missing_before_it_is_used() {
    for (api, least) in NEEDED {
        for offered in [None, (least > 0).then(|| (0, least - 1))] {
            let fake = Fake::start(1).await;
            offer(&fake, 1, api, offered);
            let cluster = Cluster::start(settings(&fake));
            let mut state = cluster.state();
            let told = timeout(PATIENCE, state.wait_for(|s| *s != State::not_yet()))
                .await
                .unwrap()
                .unwrap()
                .clone();
            let State::Connecting { why } = told else {
                panic!("{api:?}: {told:?}")
            };
            let address = fake.addresses[0].to_string();
            for words in [
                &*address,
                "too old",
                &format!("{api:?} {least} is needed"),
                "Apache Kafka 0.11 or newer",
            ] {
                assert!(why.contains(words), "{api:?}: {words} in {why}");
            }
            let has = offered.map_or("it has none".to_owned(), |(_, newest)| format!("it has up to {newest}"));
            assert!(why.contains(&has), "{has} in {why}");
            // Nothing but ApiVersions was asked, and asking again says nothing new.
            state.mark_unchanged();
            until("it is asked again", || fake.seen(ApiKey::ApiVersions) >= 3).await;
            assert!(!state.has_changed().unwrap(), "{:?}", state.borrow());
            let seen: Vec<i16> = fake.world().seen.keys().copied().collect();
            assert_eq!(seen, [ApiKey::ApiVersions as i16]);
        }
    }
}

#[tokio::test]
async fn a_broker_that_forgot_our_versions_is_told_as_too_new() {
    let fake = Fake::start(1).await;
    offer(&fake, 1, ApiKey::Produce, Some((14, 20)));
    let cluster = Cluster::start(settings(&fake));
    let mut state = cluster.state();
    let new = |s: &State| matches!(s, State::Connecting { why } if why.contains("too new") && why.contains("Produce 13 is the newest"));
    timeout(PATIENCE, state.wait_for(new)).await.unwrap().unwrap();
}

/// A broker that is newer than all that is known here.
#[tokio::test]
async fn each_request_is_made_in_the_newest_version_that_is_known() {
    // What kafka-protocol can write.
    let all = [
        (ApiKey::Produce, ProduceRequest::VERSIONS.max),
        (ApiKey::Fetch, FetchRequest::VERSIONS.max),
        (ApiKey::ListOffsets, ListOffsetsRequest::VERSIONS.max),
        (ApiKey::Metadata, MetadataRequest::VERSIONS.max),
        (ApiKey::InitProducerId, InitProducerIdRequest::VERSIONS.max),
        (ApiKey::FindCoordinator, FindCoordinatorRequest::VERSIONS.max),
        (ApiKey::JoinGroup, JoinGroupRequest::VERSIONS.max),
        (ApiKey::SyncGroup, SyncGroupRequest::VERSIONS.max),
        (ApiKey::Heartbeat, HeartbeatRequest::VERSIONS.max),
        (ApiKey::OffsetFetch, OffsetFetchRequest::VERSIONS.max),
        (ApiKey::OffsetCommit, OffsetCommitRequest::VERSIONS.max),
        (ApiKey::LeaveGroup, LeaveGroupRequest::VERSIONS.max),
    ];
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    for (api, _) in all {
        offer(&fake, 1, api, Some((0, 99)));
    }
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    Producer::new(&cluster).produce(&topic, 0, 1).await;
    cluster.end_offsets(&[(topic.clone(), 0)]).await;
    let mut reader = cluster.read(&topic, 0, Start::Offset(0));
    timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
    let mut group = cluster.join(GroupSettings {
        group: "g".to_owned(),
        topics: vec!["t".to_owned()],
        heartbeat_interval: Duration::from_millis(50),
        ..GroupSettings::default()
    });
    let assigned = loop {
        match timeout(PATIENCE, group.next()).await.unwrap().unwrap() {
            GroupEvent::Assigned(assigned) => break assigned,
            other => assert!(matches!(other, GroupEvent::Generation { .. }), "{other:?}"),
        }
    };
    let commit = Commit {
        tenure: assigned[0].tenure.clone(),
        offset: 1,
        metadata: String::new(),
    };
    assert_eq!(group.committer().commit(vec![commit]).await, [Ok(())]);
    until("a heartbeat", || fake.seen(ApiKey::Heartbeat) > 0).await;
    group.leave().await;
    let world = fake.world();
    for (api, newest) in all {
        assert_eq!(world.asked_in[&(1, api as i16)], newest, "{api:?}");
    }
}

#[tokio::test]
async fn in_a_mixed_cluster_each_broker_is_asked_in_its_own_versions() {
    let fake = Fake::start(3).await;
    fake.topic("t", 3);
    // As Kafka 2.0, as one that is newer than we are, and as the fake is.
    for (api, newest) in [
        (ApiKey::Produce, 6),
        (ApiKey::Fetch, 8),
        (ApiKey::ListOffsets, 3),
        (ApiKey::Metadata, 6),
        (ApiKey::InitProducerId, 1),
    ] {
        offer(&fake, 1, api, Some((0, newest)));
        offer(&fake, 2, api, Some((0, 99)));
    }
    let cluster = Cluster::start(settings(&fake));
    // The first broker that is asked knows no topic ids, so names are used everywhere.
    let topic = ready(&cluster, "t").await;
    for partition in 0..3 {
        let receipts = Producer::new(&cluster).produce(&topic, partition, 10).await;
        assert_stored_once(&fake, "t", partition, &receipts);
        let mut reader = cluster.read(&topic, partition as i32, Start::Offset(0));
        timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
    }
    let ends = cluster.end_offsets(&[0, 1, 2].map(|at| (topic.clone(), at))).await;
    assert_eq!(ends, [Ok(10), Ok(10), Ok(10)]);
    let world = fake.world();
    let asked = |broker, api: ApiKey| world.asked_in[&(broker, api as i16)];
    assert_eq!(asked(1, ApiKey::Produce), 6);
    assert!(asked(2, ApiKey::Produce) > 6 && asked(3, ApiKey::Produce) > 6);
    assert_eq!(asked(1, ApiKey::Fetch), 8);
    assert!(asked(2, ApiKey::Fetch) > 8 && asked(3, ApiKey::Fetch) > 8);
    assert_eq!((asked(1, ApiKey::ListOffsets), asked(3, ApiKey::ListOffsets)), (3, 7));
    assert_eq!(asked(2, ApiKey::ListOffsets), 10);
}

#[tokio::test]
async fn one_broker_that_is_too_old_is_told_once_and_the_others_are_used() {
    let since = std::time::Instant::now();
    let (log, _guard) = Log::listen();
    let fake = Fake::start(2).await;
    fake.topic("t", 2);
    offer(&fake, 2, ApiKey::Produce, Some((0, 2)));
    let mut settings = settings(&fake);
    settings.producer.delivery_timeout = Duration::from_millis(800);
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    producer.append(&topic, 1, 1).unwrap();
    assert_eq!(producer.receipts(1).await[0].outcome, Outcome::Expired { sent: false });
    assert!(matches!(producer.produce(&topic, 0, 1).await[0].outcome, Outcome::Stored { .. }));
    let told = log.lines(&["WARN", "too old", &fake.addresses[1].to_string()]);
    assert_eq!(told.len(), 1, "{told:?}");
    // It is replaced by a newer one. It was refused, so it is left alone for longer than a record of this test is kept.
    fake.world().versions.clear();
    while !matches!(producer.produce(&topic, 1, 1).await[0].outcome, Outcome::Stored { .. }) {
        assert!(since.elapsed() < PATIENCE, "it is not reached again");
    }
    assert_eq!(log.lines(&["INFO", "reached again"]).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_in_one_line_and_at_readyz_what_is_missing() {
    let fake = Fake::start(1).await;
    offer(&fake, 1, ApiKey::Produce, Some((0, 2)));
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path(), "", "protocol: mqtt", &fake.addresses[0].to_string());
    let mut lines: Vec<String> = Vec::new();
    let mut asked_again = || {
        lines.extend(program.log.try_iter());
        fake.seen(ApiKey::ApiVersions) >= 5
    };
    until("it has asked five times", &mut asked_again).await;
    let told: Vec<_> = lines.iter().filter(|line| line.contains("too old")).collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    assert!(told[0].contains("Produce 3 is needed, it has up to 2"), "{told:?}");
    let admin = lines.iter().rev().find_map(|line| address(line)).unwrap();
    let ready = tokio::task::spawn_blocking(move || get(admin, "/readyz", PATIENCE)).await.unwrap();
    assert!(
        ready.contains(" 503 ") && ready.contains("Produce 3 is needed, it has up to 2"),
        "{ready}"
    );
}
