//! QoS 2 messages of shared subscriptions that stored sessions take: whose each is, whatever ends in between (§4.8.2, §4.3.3).
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{
    iter::repeat_n,
    sync::Arc,
    time::{Duration, Instant},
};

use fake_broker::{
    Fake, Fault, World,
    client::until,
    coordinator::Group,
    records::{Batch, record},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::TopicState;
use mqttbytes::v5;
use relay_stage::{
    Stage,
    device::{Device, taking},
};
use tokio::time::timeout;

const RULES: &str = r#"rules:
  - {name: jobs, mqtt: "jobs/{key}", kafka: {topic: jobs, key: "{key}"}, qos: 2}
sessions: {expiry: {}}"#;
const SHARE: &str = "$share/g/jobs/#";

async fn stage() -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("jobs", 1);
    fake.topic("mqtt-sessions", 1);
    Stage::start(fake, RULES).await
}

/// CONNECT of a client whose session outlives its connections by ten minutes.
fn staying(receive_maximum: u16) -> v5::Connect {
    let mut connect = taking("stored", receive_maximum);
    connect.clean_session = false;
    connect.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    connect
}

async fn stored(stage: &Stage) -> Device {
    Device::connected_as(stage.address, 5, &staying(10)).await
}

/// A member whose session ends with its connection, and that has the least room.
async fn other(stage: &Stage) -> Device {
    let mut other = Device::connected_as(stage.address, 5, &taking("other", 1)).await;
    other.subscribed(SHARE, 2).await;
    other
}

async fn pubrec(device: &mut Device, id: u16) {
    device.bytes(&[0x50, 2, (id >> 8) as u8, id as u8]).await;
}

async fn pubcomp(device: &mut Device, id: u16) {
    device.bytes(&[0x70, 2, (id >> 8) as u8, id as u8]).await;
}

fn write(stage: &Stage, numbers: std::ops::Range<usize>) {
    for number in numbers {
        stage.fake.record("jobs", 0, "a", &number.to_string());
    }
}

/// What is to be written is tried again and again.
fn nothing_is_written(stage: &Stage) {
    stage.fake.world().produce_always = Some(Fault::Code(19));
}

/// Takes the next message whole.
async fn takes(device: &mut Device, content: &str) {
    let id = device.message(content).await;
    completes(device, id).await;
}

async fn completes(device: &mut Device, id: u16) {
    pubrec(device, id).await;
    assert_eq!(device.line().await, format!("pubrel {id}"));
    pubcomp(device, id).await;
}

async fn all_is_committed(stage: &Stage, records: i64) {
    let committed = || -> i64 {
        let world = stage.fake.world();
        let groups = world.groups.groups.values();
        groups.flat_map(|group| group.offsets.values()).map(|(offset, _)| offset).sum()
    };
    until("all of it is committed", || committed() == records).await;
}

/// Its packet ids, across connections, whatever other members do.
#[tokio::test]
async fn what_a_stored_session_has_not_completed_waits_for_it_alone() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    write(&stage, 0..3);
    let first = device.message("jobs/a q2 0").await;
    let second = device.message("jobs/a q2 1").await;
    let third = device.message("jobs/a q2 2").await;
    pubrec(&mut device, second).await;
    assert_eq!(device.line().await, format!("pubrel {second}"));
    completes(&mut device, third).await;
    drop(device);
    // What the session has is done with for the group.
    let mut other = other(&stage).await;
    stage.fake.record("jobs", 0, "a", "3");
    takes(&mut other, "jobs/a q2 3").await;
    all_is_committed(&stage, 4).await;
    let mut device = stored(&stage).await;
    let again = [device.line().await, device.line().await];
    let expected = [format!("pubrel {second}"), format!("publish {first} jobs/a q2 dup 0")];
    assert_eq!(again, expected);
    pubcomp(&mut device, second).await;
    completes(&mut device, first).await;
    assert!(device.fence().await.is_empty() && other.fence().await.is_empty());
    device.disconnect(0).await;
    assert!(stored(&stage).await.fence().await.is_empty(), "all are completed");
}

/// Also if the subscription is over, and the connection takes no more than one at a time.
#[tokio::test]
async fn what_is_open_is_completed_without_its_subscription_and_as_the_window_allows() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    write(&stage, 0..3);
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(device.message(&format!("jobs/a q2 {number}")).await);
    }
    device.unsubscribe(SHARE).await;
    drop(device);
    let mut device = Device::connected_as(stage.address, 5, &staying(1)).await;
    for (number, id) in ids.into_iter().enumerate() {
        assert_eq!(device.message(&format!("jobs/a q2 dup {number}")).await, id);
        assert!(device.fence().await.is_empty(), "it takes one at a time");
        completes(&mut device, id).await;
    }
}

/// A message that retention has removed is nobody's any more: its packet id is released.
#[tokio::test]
async fn what_is_gone_from_the_log_is_released() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    write(&stage, 0..1);
    let id = device.message("jobs/a q2 0").await;
    drop(device);
    stage.fake.cut_off("jobs", 0, 1, 0);
    let mut device = stored(&stage).await;
    assert_eq!(device.line().await, format!("pubrel {id}"));
}

/// Nor is it gone for an instance that has not heard of its partition yet: it asks at once, and if Kafka does not tell, the message waits for
/// the next connection.
#[tokio::test]
async fn what_is_open_of_a_new_partition_is_sent_again_by_an_instance_that_did_not_know_it() {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 1);
    fake.topic("mqtt-sessions", 1);
    // It asks anew after a minute.
    let slow = Stage::with(fake.clone(), &format!("{RULES}\nlimits: {{connect_timeout: 2s}}"), |_| ()).await;
    assert!(matches!(slow.cluster.topic_known("jobs").await, TopicState::Ready(_)));
    fake.grow("jobs");
    let quick = Stage::start(fake.clone(), RULES).await;
    let mut device = stored(&quick).await;
    device.subscribed(SHARE, 2).await;
    fake.record("jobs", 1, "a", "0");
    takes(&mut device, "jobs/a q2 0").await;
    fake.record("jobs", 1, "a", "1");
    let open = device.message("jobs/a q2 1").await;
    drop(device);
    fake.world().fewer.insert("jobs".to_owned(), 1);
    let mut device = stored(&slow).await;
    assert!(device.fence().await.is_empty(), "it was not given up");
    drop(device);
    fake.world().fewer.clear();
    let mut device = stored(&slow).await;
    assert_eq!(device.message("jobs/a q2 dup 1").await, open);
    completes(&mut device, open).await;
}

/// Until its pair is read back, it is neither the session's nor the others'. Here the pair comes.
#[tokio::test]
async fn a_connection_that_ends_before_the_pair_is_read_back_leaves_the_message_to_its_session() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    let mut other = other(&stage).await;
    nothing_is_written(&stage);
    write(&stage, 0..1);
    until("the pair is on its way", || stage.metric("kafka_produce_retries_total") > 0).await;
    assert!(device.fence().await.is_empty());
    device.disconnect(0).await;
    assert!(device.rest().await.is_empty());
    assert!(other.fence().await.is_empty(), "the message is nobody's yet");
    stage.fake.world().produce_always = None;
    all_is_committed(&stage, 1).await;
    assert!(other.fence().await.is_empty(), "it is the session's");
    takes(&mut stored(&stage).await, "jobs/a q2 dup 0").await;
}

/// Somebody claims the session before its pair is there: it does not have the message, so another member gets it.
#[tokio::test]
async fn a_session_that_is_claimed_before_the_pair_is_there_has_not_got_the_message() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    nothing_is_written(&stage);
    write(&stage, 0..1);
    until("the pair is on its way", || stage.metric("kafka_produce_retries_total") > 0).await;
    let mut other = other(&stage).await;
    assert!(other.fence().await.is_empty());
    let claim = record("claim:stored", r#"{"v":1,"owner":"elsewhere","n":1,"since":1764102345678}"#);
    let claim = claim.header("v", "1").header("owner", "elsewhere").header("n", "1");
    stage.fake.write("mqtt-sessions", 0, &Batch::of(&[claim]).bytes());
    assert_eq!(device.rest().await, ["disconnect 0x8e"]);
    takes(&mut other, "jobs/a q2 0").await;
    stage.fake.world().produce_always = None;
    all_is_committed(&stage, 1).await;
}

/// The instance reads everything anew while the pair is on its way: it still comes, so the message is the session's.
#[tokio::test]
async fn a_message_is_lent_as_long_as_its_pair_may_come_also_if_the_log_is_read_anew() {
    let fake = Fake::start(1).await;
    fake.topic("jobs", 1);
    fake.topic("mqtt-sessions", 1);
    let stage = Stage::with(fake, RULES, |config| {
        config.store.as_mut().unwrap().instance_timeout = Duration::from_millis(500);
    })
    .await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    let mut other = other(&stage).await;
    nothing_is_written(&stage);
    write(&stage, 0..1);
    until("the pair is on its way", || stage.metric("kafka_produce_retries_total") > 0).await;
    let coordinator = [ApiKey::FindCoordinator, ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup];
    for api in coordinator {
        stage.fake.world().groups.fail(api, repeat_n(Fault::Code(15), 100_000));
    }
    assert_eq!(device.rest().await, ["disconnect 0x89"], "its session is given up");
    assert!(other.fence().await.is_empty(), "the message is nobody's yet");
    stage.fake.world().groups.faults.clear();
    stage.fake.world().produce_always = None;
    takes(&mut stored(&stage).await, "jobs/a q2 dup 0").await;
    assert!(other.fence().await.is_empty(), "it is the session's");
    all_is_committed(&stage, 1).await;
}

/// Longer than acknowledgements are waited for when a partition goes elsewhere.
const LONG: Duration = Duration::from_secs(3);

/// Nothing of a shared subscription comes for a while.
async fn gets_nothing(device: &mut Device, during: Duration) {
    let since = Instant::now();
    while since.elapsed() < during {
        assert_eq!(device.fence().await, Vec::<String>::new());
    }
}

/// Two partitions, each with a message whose pair is on its way, of a client that takes part alone.
async fn two_are_lent() -> (Arc<Fake>, Stage, Device) {
    let fake = Arc::new(Fake::start(1).await);
    fake.topic("jobs", 2);
    fake.topic("mqtt-sessions", 1);
    let stage = Stage::start(fake.clone(), RULES).await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    nothing_is_written(&stage);
    for partition in 0..2 {
        fake.record("jobs", partition, "a", &partition.to_string());
    }
    until("the pairs are on their way", || stage.metric("kafka_produce_retries_total") > 0).await;
    assert!(device.fence().await.is_empty());
    (fake, stage, device)
}

async fn takes_both(device: &mut Device) {
    for line in [device.line().await, device.line().await] {
        let parts: Vec<&str> = line.split(' ').collect();
        assert_eq!((parts[0], parts[2]), ("publish", "jobs/a"), "{line}");
        completes(device, parts[1].parse().unwrap()).await;
    }
    assert!(device.fence().await.is_empty(), "each comes once");
}

/// Another instance is to have a partition while `mqtt-sessions` is slow: it gets it when the session has what it is lent.
#[tokio::test]
async fn a_partition_stays_until_what_is_lent_of_it_is_written() {
    let (fake, stage, mut device) = two_are_lent().await;
    let elsewhere = Stage::start(fake.clone(), RULES).await;
    let mut other = other(&elsewhere).await;
    gets_nothing(&mut other, LONG).await;
    fake.world().produce_always = None;
    takes_both(&mut device).await;
    all_is_committed(&stage, 2).await;
    let next = [fake.record("jobs", 0, "b", "2"), fake.record("jobs", 1, "b", "3")];
    assert_eq!(next, [1, 1]);
    let (one, two) = tokio::join!(device.line(), other.line());
    let mut both = [one, two].map(|line| line.rsplit(' ').next().unwrap().to_owned());
    both.sort();
    assert_eq!(both, ["2", "3"], "each has a partition by now");
    assert_eq!(stage.metric("shared_doubled_total") + elsewhere.metric("shared_doubled_total"), 0);
}

/// The last of an instance is gone while `mqtt-sessions` is slow: whoever comes next gets nothing of what its session will have.
#[tokio::test]
async fn a_membership_stays_until_what_is_lent_is_written() {
    let (fake, stage, device) = two_are_lent().await;
    drop(device);
    let elsewhere = Stage::start(fake.clone(), RULES).await;
    until("it has time to leave", {
        let since = Instant::now();
        move || since.elapsed() > LONG
    })
    .await;
    assert_eq!(stage.metric("shared_memberships"), 1);
    fake.world().produce_always = None;
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let mut other = other(&elsewhere).await;
    fake.record("jobs", 0, "a", "2");
    takes(&mut other, "jobs/a q2 2").await;
    assert!(other.fence().await.is_empty());
    let mut device = stored(&elsewhere).await;
    let again = [device.line().await, device.line().await];
    assert!(again.iter().all(|line| line.contains("jobs/a q2 dup ")), "{again:?}");
}

/// One that is to end does not wait so long: its pairs had their time before.
#[tokio::test]
async fn an_instance_that_ends_leaves_its_groups_though_something_is_lent() {
    let (fake, stage, device) = two_are_lent().await;
    drop(device);
    timeout(Duration::from_secs(8), stage.relay.groups_left()).await.unwrap();
    let mut world = fake.world();
    assert!(group(&mut world).members.is_empty());
}

/// That of the shared subscription.
fn group(world: &mut World) -> &mut Group {
    let mut groups = world.groups.groups.iter_mut();
    groups.find(|(name, _)| name.starts_with("mqtt-g-")).unwrap().1
}

/// What it has open is in the log: no place in the group is needed for that.
#[tokio::test]
async fn what_is_open_is_completed_while_the_group_waits_for_a_dead_member() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    write(&stage, 0..2);
    let first = device.message("jobs/a q2 0").await;
    let second = device.message("jobs/a q2 1").await;
    pubrec(&mut device, second).await;
    assert_eq!(device.line().await, format!("pubrel {second}"));
    drop(device);
    until("the group is left", || stage.metric("shared_memberships") == 0).await;
    let dead = group(&mut stage.fake.world()).join_and_die(Instant::now());
    let mut device = stored(&stage).await;
    let again = [device.line().await, device.line().await];
    assert!(again.contains(&format!("pubrel {second}")), "{again:?}");
    assert!(again.contains(&format!("publish {first} jobs/a q2 dup 0")), "{again:?}");
    pubcomp(&mut device, second).await;
    completes(&mut device, first).await;
    write(&stage, 2..3);
    assert!(device.fence().await.is_empty(), "the partition is the dead one's");
    assert_eq!(group(&mut stage.fake.world()).leave(&dead, Instant::now()), 0);
    takes(&mut device, "jobs/a q2 2").await;
    all_is_committed(&stage, 3).await;
}

/// The coordinator takes the members of the group for dead.
fn throw_out_all(stage: &Stage) {
    let mut world = stage.fake.world();
    let group = group(&mut world);
    let members: Vec<String> = group.members.keys().cloned().collect();
    assert_eq!(members.len(), 1);
    assert_eq!(group.leave(&members[0], Instant::now()), 0);
}

/// The group has taken the partition away, and nobody was asked: the message is another's, and the session's as soon as its pair is read.
#[tokio::test]
async fn a_message_that_is_lost_while_it_is_lent_may_come_twice_and_is_counted() {
    let stage = stage().await;
    let mut device = stored(&stage).await;
    device.subscribed(SHARE, 2).await;
    let mut other = other(&stage).await;
    nothing_is_written(&stage);
    write(&stage, 0..1);
    until("the pair is on its way", || stage.metric("kafka_produce_retries_total") > 0).await;
    assert!(device.fence().await.is_empty());
    drop(device);
    assert!(other.fence().await.is_empty(), "the message is nobody's yet");
    throw_out_all(&stage);
    takes(&mut other, "jobs/a q2 0").await;
    assert_eq!(stage.metric("shared_doubled_total"), 0, "the session does not have it");
    stage.fake.world().produce_always = None;
    stage.counted("shared_doubled_total", 1).await;
    takes(&mut stored(&stage).await, "jobs/a q2 dup 0").await;
}
