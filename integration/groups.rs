//! The Kafka client as a member of consumer groups, straight from the library, against real coordinators.

use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, comes_to_hold, eventually, free_base, output};
use bytes::Bytes;
use mqtt_kafka_proxy::upstream::{
    Assigned, Cluster, Commit, CommitError, Committer, Group, GroupEvent, GroupSettings, Settings, Tenure, TopicPartition, TopicState,
};
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

fn cluster(kafka: &Kafka) -> Cluster {
    Cluster::start(Settings {
        bootstrap_servers: kafka.bootstrap.split(',').map(str::to_owned).collect(),
        ..Settings::default()
    })
}

fn settings(group: &str, topic: &str, name: &str) -> GroupSettings {
    GroupSettings {
        group: group.to_owned(),
        topics: vec![topic.to_owned()],
        user_data: Bytes::from(name.to_owned()),
        // What a machine under load may hold a process up for is no death.
        session_timeout: Duration::from_secs(4),
        rebalance_timeout: Duration::from_secs(10),
        heartbeat_interval: Duration::from_millis(300),
        ..GroupSettings::default()
    }
}

async fn next(group: &mut Group) -> GroupEvent {
    timeout(DEADLINE, group.next()).await.expect("an event in time").expect("not over")
}

/// The next assignment, and the last generation before it with its members.
async fn assigned(group: &mut Group) -> (Vec<Assigned>, i32, BTreeSet<String>) {
    let mut last = (-1, BTreeSet::new());
    loop {
        match next(group).await {
            GroupEvent::Assigned(assigned) => return (assigned, last.0, last.1),
            GroupEvent::Generation { number, members, .. } => last = (number, names(&members)),
            other => panic!("{other:?}"),
        }
    }
}

fn names(members: &[Bytes]) -> BTreeSet<String> {
    members.iter().map(|m| String::from_utf8(m.to_vec()).unwrap()).collect()
}

fn commit(tenure: &Tenure, offset: i64, metadata: &str) -> Commit {
    Commit {
        tenure: tenure.clone(),
        offset,
        metadata: metadata.to_owned(),
    }
}

/// Who has what, and what Kafka has acknowledged, over all members of a test: the truth that they are held against.
#[derive(Default)]
struct Ledger {
    owners: BTreeMap<TopicPartition, String>,
    acknowledged: BTreeMap<TopicPartition, i64>,
    /// The last generation that each has heard of.
    generations: BTreeMap<String, (i32, BTreeSet<String>)>,
    lost: usize,
}

type Shared = Arc<Mutex<Ledger>>;

/// A member whose user commits all the time, one step each, with its name as metadata.
struct Worker {
    name: String,
    task: tokio::task::JoinHandle<Group>,
    stop: tokio::sync::watch::Sender<bool>,
    ledger: Shared,
}

impl Worker {
    fn start(cluster: &Cluster, settings: GroupSettings, ledger: &Shared) -> Self {
        let name = String::from_utf8(settings.user_data.to_vec()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let group = cluster.join(settings);
        let task = tokio::spawn(work(group, name.clone(), Arc::clone(ledger), stopped));
        let ledger = Arc::clone(ledger);
        Self { name, task, stop, ledger }
    }

    /// Ends the user's work; the membership goes on.
    async fn stop(self) -> (Group, String, Shared) {
        self.stop.send_replace(true);
        (self.task.await.unwrap(), self.name, self.ledger)
    }

    async fn leave(self) {
        let (group, name, ledger) = self.stop().await;
        ledger.lock().unwrap().owners.retain(|_, owner| *owner != name);
        group.leave().await;
    }

    /// As if the process had died.
    async fn die(self) {
        let (group, name, ledger) = self.stop().await;
        ledger.lock().unwrap().owners.retain(|_, owner| *owner != name);
        drop(group);
    }
}

async fn work(mut group: Group, name: String, ledger: Shared, mut stopped: tokio::sync::watch::Receiver<bool>) -> Group {
    let committer = group.committer();
    let mut held: BTreeMap<TopicPartition, (Tenure, i64)> = BTreeMap::new();
    let mut pulse = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => return group,
            event = group.next() => take(event.expect("not over"), &name, &ledger, &mut held, &committer).await,
            _ = pulse.tick() => step(&committer, &name, &ledger, &mut held).await,
        }
    }
}

async fn take(event: GroupEvent, name: &str, ledger: &Shared, held: &mut BTreeMap<TopicPartition, (Tenure, i64)>, committer: &Committer) {
    match event {
        GroupEvent::Generation { number, members, .. } => {
            let mut ledger = ledger.lock().unwrap();
            ledger.generations.insert(name.to_owned(), (number, names(&members)));
        }
        GroupEvent::Assigned(assigned) => {
            let mut ledger = ledger.lock().unwrap();
            for Assigned { tenure, committed } in assigned {
                let offset = committed.map_or(0, |c| c.offset);
                let acknowledged = ledger.acknowledged.get(&tenure.of).copied().unwrap_or(0);
                assert!(
                    offset >= acknowledged,
                    "{:?}: {offset} after {acknowledged} was acknowledged",
                    tenure.of
                );
                let other = ledger.owners.insert(tenure.of.clone(), name.to_owned());
                assert_eq!(other, None, "{:?} has two owners", tenure.of);
                held.insert(tenure.of.clone(), (tenure, offset));
            }
        }
        GroupEvent::Revoked(revocation) => {
            step(committer, name, ledger, held).await;
            let mut ledger = ledger.lock().unwrap();
            for one in revocation.partitions() {
                assert!(held.remove(one).is_some());
                assert_eq!(ledger.owners.remove(one).as_deref(), Some(name));
            }
        }
        GroupEvent::Lost { partitions, .. } => {
            let mut ledger = ledger.lock().unwrap();
            ledger.lost += 1;
            for one in partitions {
                held.remove(&one);
                ledger.owners.remove(&one);
            }
        }
        other => panic!("{other:?}"),
    }
}

/// Commits one step further for all.
async fn step(committer: &Committer, name: &str, ledger: &Shared, held: &mut BTreeMap<TopicPartition, (Tenure, i64)>) {
    let commits: Vec<_> = held
        .values_mut()
        .map(|(tenure, offset)| {
            *offset += 1;
            commit(tenure, *offset, name)
        })
        .collect();
    let outcomes = timeout(DEADLINE, committer.commit(commits.clone()))
        .await
        .expect("outcomes in time");
    let mut ledger = ledger.lock().unwrap();
    for (commit, outcome) in commits.into_iter().zip(outcomes) {
        match outcome {
            Ok(()) => drop(ledger.acknowledged.insert(commit.tenure.of, commit.offset)),
            Err(CommitError::NotOwned) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Waits until all partitions are shared out evenly among these, and each has heard of the others.
async fn shared_out(ledger: &Shared, partitions: usize, among: &[&str]) {
    let everybody: BTreeSet<String> = among.iter().map(|name| (*name).to_owned()).collect();
    let whole = || {
        let ledger = ledger.lock().unwrap();
        let share = |name: &&str| ledger.owners.values().filter(|owner| owner == name).count();
        let shares: Vec<usize> = among.iter().map(share).collect();
        let even = shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1;
        let heard = among
            .iter()
            .all(|name| ledger.generations.get(*name).is_some_and(|(_, members)| *members == everybody));
        even && heard && shares.iter().sum::<usize>() == partitions && ledger.owners.len() == partitions
    };
    assert!(
        comes_to_hold(whole).await,
        "not shared out among {among:?}: {:?}",
        ledger.lock().unwrap().owners
    );
}

/// Waits until commits were acknowledged for all partitions since now.
async fn commits_flow(ledger: &Shared, partitions: usize) {
    let before = ledger.lock().unwrap().acknowledged.clone();
    let flown = || {
        let ledger = ledger.lock().unwrap();
        let further = |(one, offset): (&TopicPartition, &i64)| before.get(one).is_none_or(|before| offset > before);
        ledger.acknowledged.iter().filter(|one| further(*one)).count() == partitions
    };
    assert!(comes_to_hold(flown).await, "no commits: {before:?}");
}

/// Two members share a topic of four partitions, one of them leaves, the other dies, a third goes on where they ended.
pub async fn hand_over(kafka: &Kafka, topic: &str) {
    let (cluster, ledger) = (cluster(kafka), Shared::default());
    let join = |name: &str| Worker::start(&cluster, settings(topic, topic, name), &ledger);
    let (a, b) = (join("a"), join("b"));
    shared_out(&ledger, 4, &["a", "b"]).await;
    commits_flow(&ledger, 4).await;
    b.leave().await;
    shared_out(&ledger, 4, &["a"]).await;
    a.die().await;
    let c = join("c");
    shared_out(&ledger, 4, &["c"]).await;
    c.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_go_and_die_and_each_partition_has_one_owner_that_begins_where_the_last_ended() {
    let kafka = shared_kafka();
    kafka.topic("grouped", 6);
    let (cluster, ledger) = (cluster(&kafka), Shared::default());
    let join = |name: &str| Worker::start(&cluster, settings("come-and-go", "grouped", name), &ledger);
    let a = join("a");
    shared_out(&ledger, 6, &["a"]).await;
    let b = join("b");
    shared_out(&ledger, 6, &["a", "b"]).await;
    let c = join("c");
    shared_out(&ledger, 6, &["a", "b", "c"]).await;
    commits_flow(&ledger, 6).await;
    b.leave().await;
    shared_out(&ledger, 6, &["a", "c"]).await;
    a.die().await;
    // One comes while the other is dead and not missed yet.
    let d = join("d");
    shared_out(&ledger, 6, &["c", "d"]).await;
    commits_flow(&ledger, 6).await;
    assert_eq!(ledger.lock().unwrap().lost, 0, "nothing was lost by who lives");
    c.leave().await;
    d.leave().await;

    // What was committed is Kafka's, with its metadata.
    let acknowledged = ledger.lock().unwrap().acknowledged.clone();
    let mut last = cluster.join(settings("come-and-go", "grouped", "last"));
    let (assigned, ..) = assigned(&mut last).await;
    for Assigned { tenure, committed } in assigned {
        let committed = committed.expect("committed before");
        assert!(committed.offset >= acknowledged[&tenure.of]);
        assert!(["c", "d"].contains(&&*committed.metadata), "{committed:?}");
    }
    last.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_of_any_length_come_back_and_what_is_too_long_is_refused_alone() {
    let kafka = shared_kafka();
    kafka.topic("annotated", 2);
    let cluster = cluster(&kafka);
    let mut group = cluster.join(settings("annotated", "annotated", "one"));
    let (held, ..) = assigned(&mut group).await;
    assert!(held.iter().all(|a| a.committed.is_none()), "{held:?}");
    let longest = "ä".repeat(2048);
    let too_long = "x".repeat(4097);
    let commits = vec![
        commit(&held[0].tenure, 3, &longest),
        commit(&held[1].tenure, 3, &too_long),
        commit(&held[1].tenure, 4, ""),
    ];
    let outcomes = timeout(DEADLINE, group.committer().commit(commits)).await.unwrap();
    assert_eq!(outcomes, [Ok(()), Err(CommitError::MetadataTooLong), Ok(())]);
    group.leave().await;
    let mut group = cluster.join(settings("annotated", "annotated", "two"));
    let (again, ..) = assigned(&mut group).await;
    let told = |at: usize| {
        again
            .iter()
            .find(|a| a.tenure.of == held[at].tenure.of)
            .unwrap()
            .committed
            .clone()
            .unwrap()
    };
    assert_eq!((told(0).offset, told(0).metadata), (3, longest));
    assert_eq!((told(1).offset, told(1).metadata), (4, String::new()));
    group.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_restarts_and_the_others_notice_nothing() {
    let kafka = shared_kafka();
    kafka.topic("static", 4);
    let cluster = cluster(&kafka);
    let named = |name: &str| GroupSettings {
        instance: Some(name.to_owned()),
        session_timeout: Duration::from_secs(10),
        ..settings("static", "static", name)
    };
    let mut one = cluster.join(named("one"));
    assigned(&mut one).await;
    let mut two = cluster.join(named("two"));
    let held = {
        // Kept over the events of the other: it remembers the generation that it has heard of.
        let mut joined = std::pin::pin!(assigned(&mut two));
        loop {
            tokio::select! {
                event = next(&mut one) => match event {
                    GroupEvent::Revoked(revocation) => revocation.release(),
                    GroupEvent::Generation { .. } => {}
                    other => panic!("{other:?}"),
                },
                (assigned, generation, _) = &mut joined => break (assigned, generation),
            }
        }
    };
    while let Ok(Some(event)) = timeout(Duration::from_millis(500), one.next()).await {
        assert!(matches!(event, GroupEvent::Generation { .. }), "{event:?}");
    }
    drop(two);
    let mut two = cluster.join(named("two"));
    let (again, generation, members) = assigned(&mut two).await;
    let of = |all: &[Assigned]| all.iter().map(|a| a.tenure.of.clone()).collect::<BTreeSet<_>>();
    assert_eq!((of(&again), generation), (of(&held.0), held.1));
    assert_eq!(members, BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    // It is a member in full: it commits.
    let done = timeout(DEADLINE, two.committer().commit(vec![commit(&again[0].tenure, 1, "")]))
        .await
        .unwrap();
    assert_eq!(done, [Ok(())]);
    let silent = timeout(Duration::from_millis(1_000), one.next()).await;
    assert!(silent.is_err(), "{silent:?}");

    // A second process under that name throws the first out.
    let mut rival = cluster.join(named("two"));
    assigned(&mut rival).await;
    assert!(matches!(next(&mut two).await, GroupEvent::Lost { .. }));
    assert!(matches!(next(&mut two).await, GroupEvent::Fenced));
    assert!(timeout(DEADLINE, two.next()).await.unwrap().is_none());
    one.leave().await;
    rival.leave().await;
}

/// Other clients cannot be members of the proxy's groups; its commits are theirs to read, and theirs its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_client_is_refused_as_a_member_and_goes_on_from_our_commits() {
    let kafka = shared_kafka();
    kafka.topic("stranger", 1);
    for value in ["zero", "one", "two", "three"] {
        kafka.produce("stranger", "k", &[], value);
    }
    let cluster = cluster(&kafka);
    let mut group = cluster.join(settings("stranger", "stranger", "ours"));
    let (held, ..) = assigned(&mut group).await;
    let done = timeout(DEADLINE, group.committer().commit(vec![commit(&held[0].tenure, 2, "two are done")]))
        .await
        .unwrap();
    assert_eq!(done, [Ok(())]);

    let mut stranger = Command::new("kcat")
        .args(["-b", &kafka.bootstrap, "-G", "stranger", "stranger", "-X", "debug=cgrp"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = stranger.stderr.take().unwrap();
    let refused = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead, BufReader};
        let mut lines = BufReader::new(errors).lines().map_while(Result::ok);
        lines.any(|line| line.to_lowercase().contains("inconsistent group protocol"))
    });
    let refused = timeout(DEADLINE, refused).await;
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(refused.expect("an answer in time").unwrap());
    let silent = timeout(Duration::from_millis(300), group.next()).await;
    assert!(silent.is_err(), "our member is unharmed: {silent:?}");
    group.leave().await;

    let read = tokio::task::spawn_blocking({
        let bootstrap = kafka.bootstrap.clone();
        move || {
            // It would wait for ever for what does not come.
            let kcat = [
                "50", "kcat", "-b", &bootstrap, "-G", "stranger", "-q", "-c", "2", "-f", "%o %s\n", "stranger",
            ];
            output("timeout", &kcat)
        }
    });
    let read = timeout(DEADLINE, read).await.expect("it reads").unwrap();
    assert_eq!(read, "2 two\n3 three\n");

    // And the other way round: its commits are where we begin.
    let mut group = cluster.join(settings("stranger", "stranger", "ours"));
    let (held, ..) = assigned(&mut group).await;
    assert_eq!(held[0].committed.as_ref().unwrap().offset, 4);
    group.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_timeout_that_the_brokers_do_not_allow_is_told_with_their_limits() {
    let kafka = shared_kafka();
    kafka.topic("impatient", 1);
    let cluster = cluster(&kafka);
    let mut group = cluster.join(GroupSettings {
        session_timeout: Duration::from_millis(100),
        ..settings("impatient", "impatient", "one")
    });
    let GroupEvent::Refused { error, why } = next(&mut group).await else {
        panic!("something else")
    };
    assert_eq!(error.name(), "INVALID_SESSION_TIMEOUT");
    let limits = ["100 ms", "group.min.session.timeout.ms=500", "group.max.session.timeout.ms=1800000"];
    assert!(limits.iter().all(|limit| why.contains(limit)), "{why}");
}

/// The broker that leads the part of `__consumer_offsets` that a group's commits go to.
fn coordinator(kafka: &Kafka, group: &str) -> u32 {
    // Java's String.hashCode over the four partitions of the tests' Kafka.
    let hash = group
        .bytes()
        .fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    let partition = (hash & i32::MAX) % 4;
    let named = format!("partition {partition}, leader ");
    eventually("the group's coordinator", || {
        let text = output("kcat", &["-L", "-b", &kafka.bootstrap, "-t", "__consumer_offsets"]);
        let leader = text.split(&named).nth(1)?.split(',').next()?.parse().ok()?;
        Some(leader)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinators_broker_is_killed_and_commits_go_on_with_the_same_owners() {
    let kafka = tokio::task::spawn_blocking(|| Kafka::start_on(free_base(3), 3)).await.unwrap();
    kafka.topic("moved", 6);
    let cluster = cluster(&kafka);
    let ledger = Shared::default();
    // The brokers of the test take three seconds to find out that one is gone.
    let patient = |name: &str| GroupSettings {
        session_timeout: Duration::from_secs(30),
        ..settings("moved", "moved", name)
    };
    let (a, b) = (
        Worker::start(&cluster, patient("a"), &ledger),
        Worker::start(&cluster, patient("b"), &ledger),
    );
    shared_out(&ledger, 6, &["a", "b"]).await;
    commits_flow(&ledger, 6).await;
    let owners = ledger.lock().unwrap().owners.clone();
    let first = coordinator(&kafka, "moved");
    tokio::task::block_in_place(|| kafka.command(&["kill", &first.to_string()]));
    commits_flow(&ledger, 6).await;
    let second = tokio::task::block_in_place(|| coordinator(&kafka, "moved"));
    assert_ne!(first, second);
    let now = {
        let ledger = ledger.lock().unwrap();
        (ledger.owners.clone(), ledger.lost)
    };
    assert_eq!(now, (owners, 0), "nobody lost anything");
    a.leave().await;
    b.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_after_its_group_is_shared_out_when_it_appears() {
    let kafka = shared_kafka();
    let cluster = cluster(&kafka);
    let mut group = cluster.join(settings("early", "late-topic", "one"));
    let GroupEvent::Generation { .. } = next(&mut group).await else {
        panic!("something else")
    };
    assert!(matches!(cluster.topic("late-topic"), TopicState::Missing | TopicState::Unknown));
    kafka.topic("late-topic", 3);
    let (held, ..) = assigned(&mut group).await;
    assert_eq!(held.len(), 3);
    group.leave().await;
}

/// Kafka keeps a group in one message. Here it is what its member subscribes to that makes it too large; with many members it would be
/// what they say of themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_larger_than_a_message_of_kafka_may_be_is_told_with_what_cures_it() {
    let kafka = shared_kafka();
    let cluster = cluster(&kafka);
    // None of them is there.
    let topics = (0..4_500).map(|at| format!("{at:0>240}")).collect();
    let mut group = cluster.join(GroupSettings {
        topics,
        ..settings("too-large", "none", "one")
    });
    let GroupEvent::Refused { error, why } = next(&mut group).await else {
        panic!("something else")
    };
    assert_eq!(error.name(), "MESSAGE_TOO_LARGE", "{why}");
    assert!(
        why.contains("of its 1 members") && why.contains("at most 1048588 (max.message.bytes)"),
        "{why}"
    );
}
