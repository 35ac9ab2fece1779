//! The Kafka client as a member of groups, on sockets: coordinators that move, fence, cut and say nothing.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, ready, settings, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{
    Assigned, Cluster, Commit, CommitError, Group, GroupEvent, GroupSettings, Revocation, Tenure, TopicPartition,
};
use tokio::time::timeout;

fn member(of: &str) -> GroupSettings {
    GroupSettings {
        group: of.to_owned(),
        topics: vec!["t".to_owned()],
        user_data: Bytes::from_static(b"me"),
        session_timeout: Duration::from_secs(5),
        rebalance_timeout: Duration::from_secs(5),
        heartbeat_interval: Duration::from_millis(50),
        ..GroupSettings::default()
    }
}

async fn next(group: &mut Group) -> GroupEvent {
    timeout(PATIENCE, group.next()).await.expect("an event in time").expect("not over")
}

/// The next assignment; generations before it are passed over.
async fn assigned(group: &mut Group) -> Vec<Assigned> {
    loop {
        match next(group).await {
            GroupEvent::Assigned(assigned) => return assigned,
            GroupEvent::Generation { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn revoked(group: &mut Group) -> Revocation {
    loop {
        match next(group).await {
            GroupEvent::Revoked(revocation) => return revocation,
            GroupEvent::Generation { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn indexes<'a>(of: impl IntoIterator<Item = &'a TopicPartition>) -> BTreeSet<i32> {
    of.into_iter().map(|one| one.partition).collect()
}

fn commit(tenure: &Tenure, offset: i64, metadata: &str) -> Commit {
    Commit {
        tenure: tenure.clone(),
        offset,
        metadata: metadata.to_owned(),
    }
}

async fn commits(group: &Group, what: Vec<Commit>) -> Vec<Result<(), CommitError>> {
    timeout(PATIENCE, group.committer().commit(what)).await.expect("an outcome in time")
}

async fn alone(fake: &Fake) -> (Cluster, Group, Vec<Assigned>) {
    fake.topic("t", 2);
    let cluster = Cluster::start(settings(fake));
    let mut group = cluster.join(member("g"));
    let assigned = assigned(&mut group).await;
    assert_eq!(assigned.len(), 2);
    (cluster, group, assigned)
}

#[tokio::test]
async fn members_share_partitions_and_each_learns_of_all_with_old_and_new_layouts() {
    for old in [false, true] {
        let fake = Fake::start(1).await;
        fake.world().old = old;
        let (cluster, mut first, all) = alone(&fake).await;
        let done = commits(&first, vec![commit(&all[0].tenure, 7, "seven"), commit(&all[1].tenure, 8, "")]).await;
        assert_eq!(done, [Ok(()), Ok(())]);

        let mut settings = member("g");
        settings.user_data = Bytes::from_static(b"you");
        let mut second = cluster.join(settings);
        let revocation = revoked(&mut first).await;
        let moved = indexes(revocation.partitions());
        assert_eq!(moved.len(), 1, "only what moves is revoked");
        let tenure = &all.iter().find(|a| moved.contains(&a.tenure.of.partition)).unwrap().tenure;
        // There is time for a last word.
        assert_eq!(commits(&first, vec![commit(tenure, 20, "last")]).await, [Ok(())]);
        revocation.release();
        let theirs = assigned(&mut second).await;
        assert_eq!(indexes(theirs.iter().map(|a| &a.tenure.of)), moved);
        let committed = theirs[0].committed.as_ref().unwrap();
        assert_eq!((committed.offset, &*committed.metadata), (20, "last"), "old: {old}");
        assert_eq!(commits(&first, vec![commit(tenure, 21, "")]).await, [Err(CommitError::NotOwned)]);
        let members = loop {
            if let GroupEvent::Generation { members, size: 2, .. } = next(&mut first).await {
                break members;
            }
        };
        assert_eq!(
            members.into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from([Bytes::from_static(b"me"), Bytes::from_static(b"you")])
        );

        timeout(PATIENCE, second.leave()).await.unwrap();
        assert_eq!(indexes(assigned(&mut first).await.iter().map(|a| &a.tenure.of)), moved);
    }
}

#[tokio::test]
async fn the_coordinator_moves_and_commits_go_on() {
    let fake = Fake::start(2).await;
    let (_cluster, mut group, all) = alone(&fake).await;
    fake.world().groups.move_to(2);
    assert_eq!(commits(&group, vec![commit(&all[0].tenure, 5, "")]).await, [Ok(())]);
    let beats = fake.seen(ApiKey::Heartbeat);
    until("heartbeats go on", || fake.seen(ApiKey::Heartbeat) > beats + 3).await;
    assert_eq!(fake.world().groups.groups["g"].offsets[&("t".to_owned(), 0)].0, 5);
    let more = timeout(Duration::from_millis(200), group.next()).await;
    assert!(more.is_err(), "nothing is lost: {more:?}");
}

#[tokio::test]
async fn each_request_that_fails_once_is_made_again() {
    let apis = [
        ApiKey::FindCoordinator,
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::OffsetFetch,
        ApiKey::Heartbeat,
        ApiKey::OffsetCommit,
    ];
    let faults = [
        Fault::Code(14),
        Fault::Code(15),
        Fault::Code(16),
        Fault::CloseBefore,
        Fault::CloseAfter,
        Fault::HalfFrame,
        Fault::WrongCorrelation,
    ];
    let mut all = tokio::task::JoinSet::new();
    for api in apis {
        let faults = faults.clone();
        all.spawn(async move {
            let fake = Fake::start(1).await;
            fake.world().groups.fail(api, faults);
            let (_cluster, group, all) = alone(&fake).await;
            assert_eq!(commits(&group, vec![commit(&all[0].tenure, 5, "")]).await, [Ok(())], "{api:?}");
            let left = || fake.world().groups.faults[&(api as i16)].len();
            until("all faults are met", || left() == 0).await;
            let beats = fake.seen(ApiKey::Heartbeat);
            until("it is still a member", || fake.seen(ApiKey::Heartbeat) > beats + 2).await;
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_silent_coordinator_is_given_up_and_what_it_gave_is_lost_in_time() {
    let fake = Fake::start(1).await;
    let (_cluster, mut group, all) = alone(&fake).await;
    fake.paused.send_replace(true);
    let committing = tokio::spawn({
        let (committer, commit) = (group.committer(), commit(&all[0].tenure, 5, ""));
        async move { committer.commit(vec![commit]).await }
    });
    let GroupEvent::Lost { partitions, .. } = next(&mut group).await else {
        panic!("something else")
    };
    assert_eq!(indexes(&partitions), BTreeSet::from([0, 1]));
    let outcome = timeout(Duration::from_secs(1), committing)
        .await
        .expect("no commit outlives the loss")
        .unwrap();
    assert_eq!(outcome, [Err(CommitError::NotOwned)]);
    let generations = fake.world().groups.commits.len();
    fake.paused.send_replace(false);
    let again = assigned(&mut group).await;
    assert_eq!(again.len(), 2);
    let sent = fake.world().groups.commits.len();
    // At most the one that lay in the socket; Kafka knows its generation.
    assert!(sent <= generations + 1, "{sent}");
    assert_eq!(
        commits(&group, vec![commit(&all[0].tenure, 6, "")]).await,
        [Err(CommitError::NotOwned)]
    );
    assert_eq!(commits(&group, vec![commit(&again[0].tenure, 6, "")]).await, [Ok(())]);
}

/// Two brokers, of which the first is the group's coordinator and all else is at the second.
async fn two() -> (Fake, Cluster) {
    let fake = Fake::start(2).await;
    fake.topic("t", 2);
    fake.lead("t", 0, 2);
    let mut settings = settings(&fake);
    settings.bootstrap_servers = vec![fake.addresses[1].to_string()];
    settings.request_timeout = Duration::from_secs(10);
    fake.world().groups.move_to(1);
    let cluster = Cluster::start(settings);
    ready(&cluster, "t").await;
    (fake, cluster)
}

/// It is paused after it was asked to join; its heir is known to the others long before the rebalance timeout.
#[tokio::test]
async fn who_waits_for_a_first_generation_notices_that_another_is_the_coordinator() {
    let mut settings = member("g");
    settings.rebalance_timeout = Duration::from_secs(30);
    let (fake, cluster) = two().await;
    fake.world().groups.fail(ApiKey::JoinGroup, [Fault::Silence]);
    let mut group = cluster.join(settings);
    until("it has asked to join", || {
        fake.world().groups.faults[&(ApiKey::JoinGroup as i16)].is_empty()
    })
    .await;
    fake.stop(&[1]);
    fake.world().groups.move_to(2);
    let since = std::time::Instant::now();
    assert_eq!(assigned(&mut group).await.len(), 2);
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

/// The session timeout is shorter than that of requests, as with `sessions.instance_timeout`.
#[tokio::test]
async fn a_member_whose_coordinator_is_paused_finds_the_next_before_its_session_is_over() {
    let (fake, cluster) = two().await;
    let mut group = cluster.join(GroupSettings {
        session_timeout: Duration::from_secs(8),
        ..member("g")
    });
    let all = assigned(&mut group).await;
    fake.stop(&[1]);
    fake.world().groups.move_to(2);
    let beats = || fake.world().asked_in.contains_key(&(2, ApiKey::Heartbeat as i16));
    until("the heir hears of it", beats).await;
    // What it has is its own as before.
    assert_eq!(commits(&group, vec![commit(&all[0].tenure, 5, "")]).await, [Ok(())]);
}

#[tokio::test]
async fn a_static_member_that_comes_back_disturbs_nobody_and_two_of_one_name_fence_each_other() {
    let fake = Fake::start(1).await;
    fake.topic("t", 2);
    let cluster = Cluster::start(settings(&fake));
    let named = |name: &str| GroupSettings {
        instance: Some(name.to_owned()),
        ..member("g")
    };
    let mut first = cluster.join(named("one"));
    assigned(&mut first).await;
    let mut second = cluster.join(named("two"));
    revoked(&mut first).await.release();
    let theirs = assigned(&mut second).await;
    until("both are settled", || {
        fake.world().groups.groups["g"].state == fake_broker::coordinator::State::Stable
    })
    .await;
    let generation = fake.world().groups.groups["g"].generation;

    drop(second);
    let mut second = cluster.join(named("two"));
    assert_eq!(assigned(&mut second).await[0].tenure.of, theirs[0].tenure.of);
    assert_eq!(fake.world().groups.groups["g"].generation, generation, "the others noticed nothing");

    // The one that leads, too (KIP-814).
    drop(first);
    let mut first = cluster.join(named("one"));
    assert_eq!(assigned(&mut first).await.len(), 1);
    assert_eq!(fake.world().groups.groups["g"].generation, generation);

    let mut rival = cluster.join(named("two"));
    assigned(&mut rival).await;
    let mut events = Vec::new();
    while let Some(event) = timeout(PATIENCE, second.next()).await.unwrap() {
        events.push(event);
    }
    assert!(
        matches!(&events[events.len() - 2..], [GroupEvent::Lost { .. }, GroupEvent::Fenced]),
        "{events:?}"
    );
    assert_eq!(
        commits(&second, vec![commit(&theirs[0].tenure, 1, "")]).await,
        [Err(CommitError::Closed)]
    );
}

#[tokio::test]
async fn a_member_that_dies_is_missed_after_its_session_timeout() {
    let fake = Fake::start(1).await;
    let (cluster, mut first, _) = alone(&fake).await;
    let brief = GroupSettings {
        session_timeout: Duration::from_millis(300),
        ..member("g")
    };
    let mut second = cluster.join(brief);
    revoked(&mut first).await.release();
    assigned(&mut second).await;
    drop(second);
    assert_eq!(assigned(&mut first).await.len(), 1);
}

#[tokio::test]
async fn what_an_operator_must_cure_is_told_with_its_cure() {
    for (code, word) in [
        (26, "group.min.session.timeout.ms"),
        (30, "READ"),
        (81, "group.max.size"),
        (23, "another build's protocol"),
    ] {
        let fake = Fake::start(1).await;
        fake.topic("t", 1);
        fake.world().groups.fail(ApiKey::JoinGroup, [Fault::Code(code)]);
        let cluster = Cluster::start(settings(&fake));
        let mut group = cluster.join(member("g"));
        let GroupEvent::Refused { error, why } = next(&mut group).await else {
            panic!("something else")
        };
        assert_eq!(error.code(), code);
        assert!(why.contains(word) && why.contains("group g"), "{why}");
    }
}

#[tokio::test]
async fn partitions_of_topics_that_come_and_grow_are_shared_out() {
    let fake = Fake::start(1).await;
    let cluster = Cluster::start(settings(&fake));
    let mut group = cluster.join(member("g"));
    until("a generation without partitions", || fake.seen(ApiKey::SyncGroup) > 0).await;
    fake.topic("t", 1);
    assert_eq!(assigned(&mut group).await.len(), 1);
    fake.grow("t");
    // A broker that does not lead the partition says so, and the metadata are asked for again.
    let topic = ready(&cluster, "t").await;
    fake.world().produce_faults.push_back(Fault::Code(6));
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 1).await;
    let more = assigned(&mut group).await;
    assert_eq!(indexes(more.iter().map(|a| &a.tenure.of)), BTreeSet::from([1]));
}

#[tokio::test]
async fn a_shutdown_ends_memberships() {
    let fake = Fake::start(1).await;
    let (cluster, mut group, all) = alone(&fake).await;
    cluster.shutdown().await;
    while timeout(PATIENCE, group.next()).await.unwrap().is_some() {}
    assert_eq!(
        commits(&group, vec![commit(&all[0].tenure, 1, "")]).await,
        [Err(CommitError::Closed)]
    );
}
