//! Shared subscriptions (§4.8.2): each message goes to one of those who share, and what one of them did not acknowledge to another.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake,
    client::{Log, until},
    coordinator::{Group, State},
    records::{Batch, Codec, record},
};
use relay_stage::{
    Stage,
    device::{Device, level, subscribe, taking},
};

const RULES: &str = r#"rules:
  - {name: jobs, mqtt: "jobs/{key}", kafka: {topic: jobs, key: "{key}"}, qos: 2}
  - {name: lost, direction: subscribe, mqtt: "lost/{key}", kafka: {topic: nowhere}}"#;

async fn stage(partitions: usize) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("jobs", partitions);
    Stage::start(fake, RULES).await
}

/// Writes the jobs with these numbers, by turns under the keys `a` and `b`.
fn write(stage: &Stage, partition: usize, numbers: std::ops::Range<usize>) {
    let records: Vec<_> = numbers.map(|n| record(["a", "b"][n % 2], &n.to_string())).collect();
    stage.fake.write("jobs", partition, &Batch::of(&records).bytes());
}

async fn worker(stage: &Stage, client: &str, receive_maximum: u16) -> Device {
    Device::connected_as(stage.address, 5, &taking(client, receive_maximum)).await
}

/// The next message: its packet id and its number.
async fn job(device: &mut Device) -> (u16, usize) {
    let line = device.line().await;
    let parts: Vec<&str> = line.split(' ').collect();
    assert_eq!(parts[0], "publish", "{line}");
    (parts[1].parse().unwrap(), parts[4].parse().unwrap())
}

async fn jobs(device: &mut Device, count: usize) -> Vec<(u16, usize)> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(job(device).await);
    }
    all
}

fn numbers(jobs: &[(u16, usize)]) -> Vec<usize> {
    jobs.iter().map(|(_, number)| *number).collect()
}

/// Takes and acknowledges these jobs, in this order.
async fn does(device: &mut Device, expected: impl IntoIterator<Item = usize>) {
    for number in expected {
        let (id, came) = job(device).await;
        assert_eq!(came, number);
        device.puback(id).await;
    }
}

/// What the group has committed, of all partitions together; the one group there is.
fn committed(stage: &Stage) -> Vec<(i64, String)> {
    let world = stage.fake.world();
    let groups: Vec<_> = world.groups.groups.iter().collect();
    assert!(groups.len() <= 1, "{:?}", groups.iter().map(|(name, _)| name).collect::<Vec<_>>());
    groups.iter().flat_map(|(_, group)| group.offsets.values().cloned()).collect()
}

fn committed_up_to(stage: &Stage) -> i64 {
    committed(stage).iter().map(|(offset, _)| offset).sum()
}

#[tokio::test]
async fn each_message_goes_to_one_of_them_and_what_is_acknowledged_is_committed() {
    let stage = stage(2).await;
    write(&stage, 0, 0..10);
    let mut first = stage.v5("first").await;
    first.subscribed("$share/workers/jobs/#", 1).await;
    let mut second = stage.v4("second").await;
    second.subscribed("$share/workers/jobs/#", 1).await;
    let mut plain = stage.v5("plain").await;
    plain.subscribed("jobs/#", 0).await;
    assert_eq!(stage.metric("shared_memberships"), 1);
    write(&stage, 0, 100..150);
    write(&stage, 1, 150..200);
    let mut all = BTreeSet::new();
    let (mut of_first, mut of_second) = (0, 0);
    for line in jobs_of_both(&mut first, &mut second, 100, &mut of_first, &mut of_second).await {
        assert!(all.insert(line), "{line} came twice");
    }
    assert_eq!(all, (100..200).collect(), "nothing from before the SUBSCRIBE, everything after it");
    assert!(of_first > 20 && of_second > 20, "{of_first} and {of_second}");
    jobs(&mut plain, 100).await;
    until("all of it is committed", || committed_up_to(&stage) == 10 + 50 + 50).await;
    assert!(committed(&stage).iter().all(|(_, metadata)| metadata.starts_with("1 ")));
    let world = stage.fake.world();
    assert!(world.groups.groups.keys().all(|name| name.starts_with("mqtt-workers-")));
}

/// Reads from both until `count` have come, acknowledging each; their numbers.
async fn jobs_of_both(first: &mut Device, second: &mut Device, count: usize, of_first: &mut usize, of_second: &mut usize) -> Vec<usize> {
    let mut all = Vec::new();
    while all.len() < count {
        let (line, device) = tokio::select! {
            line = first.line() => {
                *of_first += 1;
                (line, &mut *first)
            }
            line = second.line() => {
                *of_second += 1;
                (line, &mut *second)
            }
        };
        let parts: Vec<&str> = line.split(' ').collect();
        let id: u16 = parts[1].parse().unwrap();
        device.puback(id).await;
        all.push(parts[4].parse().unwrap());
    }
    all
}

#[tokio::test]
async fn the_identifier_of_a_shared_subscription_is_on_its_messages() {
    let stage = stage(1).await;
    let mut device = stage.v5("one").await;
    let mut asked = subscribe("$share/g/jobs/#", 1);
    asked.properties = Some(mqttbytes::v5::SubscribeProperties {
        id: Some(300),
        user_properties: Vec::new(),
    });
    device.send_subscribe(&asked).await;
    assert_eq!(device.line().await, "suback 1 1");
    write(&stage, 0, 0..1);
    device.message("jobs/a q1 0 sub300").await;
}

#[tokio::test]
async fn what_one_that_is_gone_did_not_acknowledge_goes_to_another_at_once_and_in_order() {
    let stage = stage(1).await;
    let mut gone = worker(&stage, "gone", 10).await;
    gone.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..30);
    let had = jobs(&mut gone, 10).await;
    assert_eq!(numbers(&had), (0..10).collect::<Vec<_>>());
    gone.puback(had[3].0).await;
    gone.puback(had[4].0).await;
    assert_eq!(numbers(&jobs(&mut gone, 2).await), [10, 11]);
    until("it is committed", || {
        committed(&stage)
            .iter()
            .any(|(offset, metadata)| *offset == 0 && metadata.ends_with(" 3+2"))
    })
    .await;
    let mut other = worker(&stage, "other", 1_000).await;
    other.subscribed("$share/g/jobs/#", 1).await;
    does(&mut other, 12..30).await;
    drop(gone);
    does(&mut other, (0..3).chain(5..12)).await;
    assert!(other.fence().await.is_empty());
    stage.counted("shared_redelivered_total", 10).await;
    until("all of it is committed", || committed_up_to(&stage) == 30).await;
}

/// [MQTT-4.8.2-5]: also if its exchange was not finished. What was not sent is nobody's yet.
#[tokio::test]
async fn a_message_of_qos_2_on_its_way_goes_to_nobody_else() {
    let stage = stage(1).await;
    let mut gone = worker(&stage, "gone", 3).await;
    gone.subscribed("$share/g/jobs/#", 2).await;
    let mut publisher = stage.v5("publisher").await;
    for number in 0..6 {
        publisher.publish("jobs/a", 2, 1, number.to_string()).await;
        assert_eq!(publisher.line().await, "pubrec 1");
        publisher.pubrel(1).await;
        assert_eq!(publisher.line().await, "pubcomp 1");
    }
    for number in 0..3 {
        assert!(gone.line().await.ends_with(&format!("q2 {number}")));
    }
    let mut other = stage.v5("other").await;
    other.subscribed("$share/g/jobs/#", 1).await;
    does(&mut other, 3..6).await;
    drop(gone);
    until("all of it is committed", || committed_up_to(&stage) == 6).await;
    assert!(other.fence().await.is_empty());
}

#[tokio::test]
async fn who_unsubscribes_gets_nothing_more_and_others_get_what_was_not_sent() {
    let stage = stage(1).await;
    let mut leaves = worker(&stage, "leaves", 4).await;
    leaves.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..10);
    let had = jobs(&mut leaves, 4).await;
    let mut stays = stage.v5("stays").await;
    stays.subscribed("$share/g/jobs/#", 1).await;
    does(&mut stays, 4..10).await;
    leaves.unsubscribe("$share/g/jobs/#").await;
    // What was sent to it is its own.
    for (id, _) in had {
        leaves.puback(id).await;
    }
    until("all of it is committed", || committed_up_to(&stage) == 10).await;
    write(&stage, 0, 10..20);
    does(&mut stays, 10..20).await;
    assert!(leaves.fence().await.is_empty() && stays.fence().await.is_empty());
}

/// What was sent to the last of an instance is its own, too, though nobody is left there.
#[tokio::test]
async fn who_unsubscribes_as_the_last_may_still_acknowledge() {
    let stage = stage(1).await;
    let mut last = worker(&stage, "last", 4).await;
    last.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..10);
    let had = jobs(&mut last, 4).await;
    last.unsubscribe("$share/g/jobs/#").await;
    assert!(last.fence().await.is_empty());
    for (id, _) in had {
        last.puback(id).await;
    }
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    assert_eq!(committed_up_to(&stage), 4);
    let mut next = stage.v5("next").await;
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, 4..10).await;
    assert!(next.fence().await.is_empty() && last.fence().await.is_empty());
}

/// Who comes while the last may still acknowledge goes on with the same membership; who never acknowledges does not keep it.
#[tokio::test]
async fn what_the_last_does_not_acknowledge_after_its_unsubscribe_comes_again() {
    let stage = stage(1).await;
    let mut last = worker(&stage, "last", 4).await;
    last.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..6);
    let had = jobs(&mut last, 4).await;
    last.unsubscribe("$share/g/jobs/#").await;
    let mut next = stage.v5("next").await;
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, 4..6).await;
    last.puback(had[1].0).await;
    assert!(next.fence().await.is_empty() && last.fence().await.is_empty());
    next.unsubscribe("$share/g/jobs/#").await;
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    assert_eq!(committed_up_to(&stage), 0);
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, [0, 2, 3]).await;
    assert!(next.fence().await.is_empty());
}

/// The group has what it has acknowledged, whoever comes next.
#[tokio::test]
async fn who_comes_after_all_have_left_goes_on_where_they_stopped() {
    let mut stage = stage(2).await;
    let mut first = worker(&stage, "first", 10).await;
    first.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..6);
    let had = jobs(&mut first, 6).await;
    for at in [0, 1, 2, 4] {
        first.puback(had[at].0).await;
    }
    assert!(first.fence().await.is_empty());
    first.disconnect(0).await;
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    write(&stage, 0, 6..8);
    let mut next = stage.v5("next").await;
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, [3, 5, 6, 7]).await;
    assert!(next.fence().await.is_empty());
    stage.begin_drain();
    stage.ended().await;
    assert_eq!(committed_up_to(&stage), 8);
}

#[tokio::test]
async fn other_names_and_other_filters_are_other_groups() {
    let stage = stage(1).await;
    let mut devices = Vec::new();
    for (client, filter) in [("one", "$share/g/jobs/#"), ("two", "$share/h/jobs/#"), ("three", "$share/g/jobs/a")] {
        let mut device = stage.v5(client).await;
        device.subscribed(filter, 1).await;
        devices.push(device);
    }
    assert_eq!(stage.metric("shared_memberships"), 3);
    write(&stage, 0, 0..10);
    does(&mut devices[0], 0..10).await;
    does(&mut devices[1], 0..10).await;
    does(&mut devices[2], (0..10).step_by(2)).await;
    assert_eq!(stage.fake.world().groups.groups.len(), 3);
}

/// Each costs connections to Kafka, and there are so many for all devices.
#[tokio::test]
async fn one_device_takes_no_more_shared_subscriptions_than_its_part() {
    let stage = stage(1).await;
    let mut greedy = stage.v5("greedy").await;
    for n in 0..16 {
        greedy.subscribed(&format!("$share/g{n}/jobs/#"), 1).await;
    }
    greedy.send_subscribe(&subscribe("$share/more/jobs/#", 1)).await;
    assert_eq!(greedy.line().await, "suback 1 0x97");
    // What it has may be asked for again, and others are served.
    greedy.subscribed("$share/g0/jobs/#", 0).await;
    let mut other = stage.v5("other").await;
    other.subscribed("$share/more/jobs/#", 1).await;
    greedy.unsubscribe("$share/g0/jobs/#").await;
    greedy.subscribed("$share/more/jobs/#", 1).await;
}

#[tokio::test]
async fn what_is_no_shared_subscription_is_refused() {
    let stage = stage(1).await;
    let mut device = stage.v5("wrong").await;
    let long = format!("$share/{}/jobs/#", "x".repeat(201));
    for (filter, line) in [
        ("$share/g/lost/a", "suback 1 0x83"),
        ("$share/g/unmapped", "suback 1 0x8f"),
        (&*long, "suback 1 0x8f"),
    ] {
        device.send_subscribe(&subscribe(filter, 1)).await;
        assert_eq!(device.line().await, line, "{filter}");
    }
    let mut old = stage.v4("old").await;
    old.send_subscribe(&subscribe("$share/g", 1)).await;
    assert_eq!(old.line().await, "suback 1 0x80");
    // [MQTT-3.8.3-4]
    let mut local = subscribe("$share/g/jobs/#", 1);
    local.filters[0].nolocal = true;
    device.send_subscribe(&local).await;
    assert_eq!(device.rest().await, ["disconnect 0x82"]);
    until("nothing is left of them", || stage.metric("shared_memberships") == 0).await;
}

/// The brokers' `group.max.size`, of the one group there is.
fn members_allowed(fake: &Fake, most: usize) {
    let mut world = fake.world();
    world.groups.groups.iter_mut().for_each(|(name, group)| {
        if name.starts_with("mqtt-g-") {
            group.most = Some(most);
        }
    });
}

/// GROUP_MAX_SIZE_REACHED: an instance for which there is no room is told what to do, and so are those who subscribe there.
#[tokio::test]
async fn a_group_that_is_full_refuses_who_comes_next_until_there_is_room() {
    let (log, _listens) = Log::listen();
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    let here = Stage::start(fake.clone(), RULES).await;
    let elsewhere = Stage::start(fake.clone(), RULES).await;
    let mut first = worker(&here, "first", 10).await;
    first.subscribed("$share/g/jobs/#", 1).await;
    members_allowed(&fake, 1);
    let mut second = worker(&elsewhere, "second", 10).await;
    let mut old = elsewhere.v4("old").await;
    for (device, line) in [(&mut second, "suback 1 0x83"), (&mut old, "suback 1 0x80")] {
        device.send_subscribe(&subscribe("$share/g/jobs/#", 1)).await;
        assert_eq!(device.line().await, line);
        device.subscribed("jobs/none", 1).await;
    }
    assert_eq!(elsewhere.metric("refusals_total{reason=\"group_refused\"}"), 2);
    let told = log.lines(&["WARN", "GROUP_MAX_SIZE_REACHED", "group.max.size", "mqtt-g-"]);
    assert!(!told.is_empty(), "an operator knows what to do");
    until("it does not go on asking", || elsewhere.metric("shared_memberships") == 0).await;
    write(&here, 0, 0..1);
    does(&mut first, [0]).await;
    members_allowed(&fake, 2);
    second.subscribed("$share/g/jobs/#", 1).await;
    first.unsubscribe("$share/g/jobs/#").await;
    write(&here, 0, 1..2);
    does(&mut second, [1]).await;
}

/// Nobody answers it a SUBSCRIBE, so it would not know that it has to ask again.
#[tokio::test]
async fn a_stored_session_that_returns_while_its_group_is_full_gets_its_part_when_there_is_room() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = format!("{RULES}\nsessions: {{expiry: {{}}}}");
    let here = Stage::start(fake.clone(), &rules).await;
    let elsewhere = Stage::start(fake.clone(), &rules).await;
    let mut connect = taking("stored", 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    let mut stored = Device::connected_as(elsewhere.address, 5, &connect).await;
    stored.subscribed("$share/g/jobs/#", 1).await;
    stored.disconnect(0).await;
    until("the group is left", || elsewhere.metric("shared_memberships") == 0).await;
    let mut other = worker(&here, "other", 10).await;
    other.subscribed("$share/g/jobs/#", 1).await;
    members_allowed(&fake, 1);
    let mut stored = Device::connected_as(elsewhere.address, 5, &connect).await;
    assert!(stored.fence().await.is_empty());
    other.unsubscribe("$share/g/jobs/#").await;
    write(&here, 0, 0..1);
    does(&mut stored, [0]).await;
}

/// That of the one shared subscription.
fn with_group<T>(fake: &Fake, act: impl FnOnce(&mut Group, Instant) -> T) -> T {
    let mut world = fake.world();
    let mut groups = world.groups.groups.iter_mut();
    let (_, group) = groups.find(|(name, _)| name.starts_with("mqtt-g-")).unwrap();
    act(group, Instant::now())
}

/// A member was killed: whoever joins then waits for its session to end, or for its lent messages, longer than CONNECT may take.
#[tokio::test]
async fn a_stored_session_that_returns_while_its_group_waits_for_a_dead_member_is_let_in_and_gets_its_part_later() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    fake.topic("mqtt-sessions", 1);
    let rules = format!("{RULES}\nsessions: {{expiry: {{}}}}\nlimits: {{connect_timeout: 2s}}");
    let stage = Stage::start(fake.clone(), &rules).await;
    let mut connect = taking("stored", 10);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    let mut stored = Device::connected_as(stage.address, 5, &connect).await;
    stored.subscribed("$share/g/jobs/#", 1).await;
    stored.subscribed("jobs/b", 1).await;
    stored.disconnect(0).await;
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let dead = with_group(&fake, Group::join_and_die);
    let mut stored = Device::connected_as(stage.address, 5, &connect).await;
    // Under the keys `a` and `b`; its other subscription does not wait.
    write(&stage, 0, 0..2);
    does(&mut stored, [1]).await;
    assert!(stored.fence().await.is_empty());
    assert_eq!(with_group(&fake, |group, now| group.leave(&dead, now)), 0);
    does(&mut stored, [0, 1]).await;
}

/// A leader that was killed between JoinGroup and SyncGroup: until its session is over, the coordinator takes no commit of anybody.
fn join_and_die_as_the_leader(group: &mut Group, now: Instant) -> String {
    let dead = group.join_and_die(now);
    group.leader = Some(dead.clone());
    dead
}

/// What one who has gone since has acknowledged there, while no commit is taken: the membership that stays behind, and who died.
async fn acknowledged_while_no_commit_is_taken(fake: &Fake, stage: &Stage) -> String {
    let mut device = worker(stage, "device", 10).await;
    device.subscribed("$share/g/jobs/#", 1).await;
    write(stage, 0, 0..5);
    let all = jobs(&mut device, 5).await;
    let dead = with_group(fake, join_and_die_as_the_leader);
    until("the leader is waited for", || {
        with_group(fake, |group, _| group.state == State::Completing)
    })
    .await;
    for (id, _) in all {
        device.puback(id).await;
    }
    assert!(device.fence().await.is_empty());
    device.disconnect(0).await;
    dead
}

/// It came again before, when the session of the dead one was over.
#[tokio::test]
async fn what_is_acknowledged_while_the_group_waits_for_a_dead_leader_is_committed_also_when_nobody_is_left_here() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    let stage = Stage::start(fake.clone(), RULES).await;
    let dead = acknowledged_while_no_commit_is_taken(&fake, &stage).await;
    let beats = || with_group(&fake, |group, _| group.beats);
    let before = beats();
    until("it stays for five heartbeats, one a second", || beats() >= before + 5).await;
    assert_eq!(with_group(&fake, |group, now| group.leave(&dead, now)), 0);
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    assert_eq!(committed_up_to(&stage), 5);
    assert_eq!(with_group(&fake, |group, _| group.members.len()), 0);
}

/// But a proxy that is to end does not wait as long as that.
#[tokio::test]
async fn a_proxy_that_ends_while_the_group_waits_for_a_dead_leader_ends_in_time() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    let mut stage = Stage::start(fake.clone(), RULES).await;
    let (log, _listens) = Log::listen();
    let dead = acknowledged_while_no_commit_is_taken(&fake, &stage).await;
    let start = Instant::now();
    stage.begin_drain();
    stage.ended().await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let told = log.lines(&["WARN", "the last commit of a shared subscription was not taken", "comes again"]);
    assert_eq!(told.len(), 1);
    let members = with_group(&fake, |group, _| group.members.keys().cloned().collect::<Vec<_>>());
    assert_eq!(members, [dead], "it has said goodbye");
}

/// Nor does a SUBSCRIBE fail whole.
#[tokio::test]
async fn of_a_subscribe_a_group_that_does_not_answer_in_time_costs_its_own_filter_alone() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    let in_time = Duration::from_secs(2);
    let stage = Stage::with(fake.clone(), RULES, |config| config.kafka.producer.delivery_timeout = in_time).await;
    let mut first = worker(&stage, "first", 10).await;
    first.subscribed("$share/g/jobs/#", 1).await;
    first.disconnect(0).await;
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let _dead = with_group(&fake, Group::join_and_die);
    let mut device = worker(&stage, "device", 10).await;
    let mut both = subscribe("$share/g/jobs/#", 1);
    both.add("jobs/#".to_owned(), level(1));
    device.send_subscribe(&both).await;
    assert_eq!(device.line().await, "suback 1 0x83,1");
    write(&stage, 0, 0..1);
    does(&mut device, [0]).await;
}

/// Brokers before Apache Kafka 4.2, for an instance that is to use share groups.
#[tokio::test]
async fn where_the_brokers_have_no_share_groups_a_shared_subscription_is_refused_and_nothing_else() {
    let (log, _listens) = Log::listen();
    let fake = Fake::start(1).await;
    fake.topic("jobs", 1);
    let stage = Stage::start(fake, &format!("{RULES}\nsessions: {{shared: share-group}}")).await;
    // 0x9E: Shared Subscriptions not supported; 3.1.1 has one word for all that fails.
    let devices = [(stage.v5("new").await, "suback 1 0x9e"), (stage.v4("old").await, "suback 1 0x80")];
    for (mut device, line) in devices {
        device.send_subscribe(&subscribe("$share/g/jobs/#", 1)).await;
        assert_eq!(device.line().await, line);
        device.subscribed("jobs/#", 1).await;
        write(&stage, 0, 0..1);
        does(&mut device, [0]).await;
    }
    assert_eq!(stage.metric("refusals_total{reason=\"share_groups_not_supported\"}"), 2);
    assert_eq!(stage.metric("shared_memberships"), 0);
    let told = log.lines(&["ERROR", "the brokers have no share groups", "ShareGroupHeartbeat 1", "share=\"g\""]);
    assert_eq!(told.len(), 2, "{told:?}");
}

/// An unclean leader election: what is committed goes back with the log, and who comes next begins there.
#[tokio::test]
async fn what_is_acknowledged_after_the_log_was_cut_off_is_committed() {
    let stage = stage(1).await;
    let mut first = worker(&stage, "first", 10).await;
    first.subscribed("$share/g/jobs/#", 1).await;
    for number in 0..10 {
        stage.fake.record("jobs", 0, "a", &number.to_string());
    }
    does(&mut first, 0..10).await;
    until("all of it is committed", || committed_up_to(&stage) == 10).await;
    stage.fake.cut_off("jobs", 0, 1, 4);
    stage.counted("kafka_log_truncations_total", 1).await;
    for number in 100..103 {
        stage.fake.record("jobs", 0, "a", &number.to_string());
    }
    does(&mut first, [100]).await;
    assert_eq!(numbers(&jobs(&mut first, 2).await), [101, 102]);
    until("what it acknowledged is committed", || committed_up_to(&stage) == 5).await;
    assert_eq!(stage.metric("shared_commit_failures_total"), 0);
    drop(first);
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let mut next = stage.v5("next").await;
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, [101, 102]).await;
    assert!(next.fence().await.is_empty());
}

/// Offsets that were settled are of other records now; what lies below is what it was.
#[tokio::test]
async fn what_was_not_acknowledged_on_either_side_of_where_the_log_was_cut_off_comes_again() {
    let stage = stage(1).await;
    let mut first = worker(&stage, "first", 10).await;
    first.subscribed("$share/g/jobs/#", 1).await;
    for number in 0..10 {
        stage.fake.record("jobs", 0, "a", &number.to_string());
    }
    does(&mut first, 0..3).await;
    let open = job(&mut first).await;
    does(&mut first, 4..10).await;
    let is_committed = |offset, settled| move |(at, metadata): &(i64, String)| *at == offset && metadata.ends_with(settled);
    until("all but one is settled", || committed(&stage).iter().any(is_committed(3, " 1+6"))).await;
    stage.fake.cut_off("jobs", 0, 1, 5);
    stage.counted("kafka_log_truncations_total", 1).await;
    for number in 100..103 {
        stage.fake.record("jobs", 0, "a", &number.to_string());
    }
    does(&mut first, [100]).await;
    assert_eq!(numbers(&jobs(&mut first, 2).await), [101, 102]);
    until("what it acknowledged is settled", || {
        committed(&stage).iter().any(is_committed(3, " 1+2"))
    })
    .await;
    drop(first);
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let mut next = stage.v5("next").await;
    next.subscribed("$share/g/jobs/#", 1).await;
    does(&mut next, [open.1, 101, 102]).await;
    assert!(next.fence().await.is_empty());
}

/// A client whose packets may not be so large: for it the message is left out, and not tried again for ever.
#[tokio::test]
async fn a_device_that_answers_with_an_error_has_settled_the_message() {
    let stage = stage(1).await;
    let mut device = worker(&stage, "picky", 1).await;
    device.subscribed("$share/g/jobs/#", 1).await;
    write(&stage, 0, 0..2);
    let (id, number) = job(&mut device).await;
    assert_eq!(number, 0);
    // PUBACK with 0x97 (Quota exceeded): [MQTT-4.8.2-6].
    device.bytes(&[0x40, 3, (id >> 8) as u8, id as u8, 0x97]).await;
    does(&mut device, [1]).await;
    until("both are settled", || committed_up_to(&stage) == 2).await;
}

/// An instance whose metadata are older than those of the instance that shares the partitions out.
#[tokio::test]
async fn a_partition_of_a_topic_that_is_not_known_yet_is_read_when_it_is() {
    const RULES: &str = r#"rules:
  - {name: late, mqtt: "jobs/late/{key}", kafka: {topic: late, key: "{key}"}}
  - {name: jobs, mqtt: "jobs/{key}", kafka: {topic: jobs, key: "{key}"}}"#;
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 2);
    fake.world().hidden.insert("slow".to_owned(), "late".to_owned());
    let quick = Stage::start(fake.clone(), RULES).await;
    let slow = Stage::with(fake.clone(), RULES, |config| config.kafka.client_id = "slow".to_owned()).await;
    let (mut first, mut second) = (quick.v5("first").await, slow.v5("second").await);
    first.subscribed("$share/g/jobs/#", 1).await;
    second.subscribed("$share/g/jobs/#", 1).await;
    fake.topic("late", 2);
    let of_late = |assignment: &[u8]| assignment.windows(4).any(|name| name == b"late");
    until("both have a partition of it", || {
        let world = fake.world();
        let mut members = world.groups.groups.values().flat_map(|group| group.members.values());
        members.all(|member| of_late(&member.assignment))
    })
    .await;
    fake.record("late", 0, "a", "1");
    fake.record("late", 1, "b", "2");
    // The first has its own by then, and the second has heard of its own.
    let of_first = job(&mut first).await;
    first.puback(of_first.0).await;
    assert!(second.fence().await.is_empty());
    fake.world().hidden.clear();
    let of_second = job(&mut second).await;
    second.puback(of_second.0).await;
    assert_eq!(BTreeSet::from([of_first.1, of_second.1]), [1, 2].into());
    until("all of it is committed", || committed_up_to(&quick) == 2).await;
}

/// Writes one batch of jobs with these numbers, of 1,000 bytes each, that is much smaller compressed; its size.
fn write_large(stage: &Stage, numbers: std::ops::Range<usize>) -> usize {
    write_wide(stage, numbers, 1_000)
}

fn write_wide(stage: &Stage, numbers: std::ops::Range<usize>, width: usize) -> usize {
    let records: Vec<_> = numbers.map(|n| record("a", &format!("{n:<width$}"))).collect();
    let batch = Batch::of(&records).codec(Codec::Zstd).bytes();
    stage.fake.write("jobs", 0, &batch);
    batch.len()
}

/// What nobody takes yet stays as it was fetched, and its memory counts: a batch is not made into messages as a whole.
#[tokio::test]
async fn who_takes_little_has_little_made_of_a_large_batch() {
    const JOBS: usize = 3_000;
    let stage = stage(1).await;
    let mut slow = worker(&stage, "slow", 1).await;
    slow.subscribed("$share/pool/jobs/#", 1).await;
    write_large(&stage, 0..JOBS);
    let (first, _) = job(&mut slow).await;
    until("the rest is kept", || stage.metric("reads_waiting_bytes") >= 1_000 * JOBS as u64).await;
    let made = stage.metric("messages_waiting_bytes");
    assert!(made < 256 * 1024, "{made} bytes of messages");
    slow.puback(first).await;
    let mut fast = worker(&stage, "fast", 200).await;
    fast.subscribed("$share/pool/jobs/#", 1).await;
    let mut came = BTreeSet::from([0]);
    while came.len() < JOBS {
        let (device, (id, number)) = tokio::select! {
            job = job(&mut slow) => (&mut slow, job),
            job = job(&mut fast) => (&mut fast, job),
        };
        assert!(came.insert(number), "{number} came twice");
        device.puback(id).await;
    }
    until("all memory is given back", || {
        stage.metric("reads_waiting_bytes") + stage.metric("messages_waiting_bytes") == 0
    })
    .await;
}

/// There is memory for what one of them has fetched: they take turns, and those who are stuck give theirs away.
#[tokio::test]
async fn shared_subscriptions_take_turns_for_memory() {
    const JOBS: usize = 600;
    let fake = Fake::start(1).await;
    fake.topic("jobs", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.sweeps.memory = 16 * 64 * 1024;
    })
    .await;
    let mut workers = Vec::new();
    for number in 0..6 {
        let mut worker = worker(&stage, &format!("w{number}"), 10).await;
        worker.subscribed(&format!("$share/pool{number}/jobs/#"), 1).await;
        workers.push(worker);
    }
    for part in 0..3 {
        write_large(&stage, part * JOBS / 3..(part + 1) * JOBS / 3);
    }
    let mut stuck = workers.split_off(4);
    let mut tasks = tokio::task::JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move { does(&mut worker, 0..JOBS).await });
    }
    tasks.join_all().await;
    let waiting = stage.metric("reads_waiting_bytes");
    assert!(waiting <= 4 * 64 * 1024, "{waiting} bytes wait");
    for worker in &mut stuck {
        does(worker, 0..JOBS).await;
    }
    until("all memory is given back", || {
        stage.metric("reads_waiting_bytes") + stage.metric("messages_waiting_bytes") == 0
    })
    .await;
}

/// Storage from which a fetch takes longer than a turn may last at first: what comes then is not thrown away for want of memory each time.
#[tokio::test]
async fn with_slow_storage_shared_subscriptions_take_turns_for_memory() {
    // As few as fill the memory with what is at the machine's pace the work of a moment: a turn ends by the clock.
    const JOBS: usize = 100;
    let fake = Fake::start(1).await;
    fake.topic("jobs", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.kafka.consumer.fetch_size = 64 * 1024;
        config.sweeps.memory = 16 * 64 * 1024;
    })
    .await;
    let mut workers = Vec::new();
    for number in 0..4 {
        let mut worker = worker(&stage, &format!("w{number}"), 100).await;
        worker.subscribed(&format!("$share/pool{number}/jobs/#"), 1).await;
        workers.push(worker);
    }
    stage
        .fake
        .world()
        .fetch_takes
        .insert("jobs".to_owned(), Duration::from_millis(1_200));
    let size = write_wide(&stage, 0..JOBS, 10_000);
    let mut tasks = tokio::task::JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move { does(&mut worker, 0..JOBS).await });
    }
    tasks.join_all().await;
    let fetches = stage.metric("kafka_fetched_bytes_total") as usize / size;
    assert!(fetches <= 10, "{fetches} fetches for four, with a piece of each");
}
