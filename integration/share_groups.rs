//! Shared subscriptions over share groups (KIP-932). That members come and go is in `shared`.

use crate::chaos::{PATIENT, Siege, busiest};
use crate::crew::Crew;
use crate::load::client::{Client, Event, Version};
use crate::publish::rule;
use crate::sessions::{
    publish,
    sharing::{completes_at_any_instance, is_released_at_any_instance},
};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Kafka, LOCK, Proxy, eventually, free_base};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Behind the rules of a configuration.
pub const SHARE_GROUP: &str = "sessions: {shared: share-group}";

fn proxy(bootstrap: &str, topic: &str) -> Proxy {
    Proxy::start(bootstrap, &format!("{}\n{SHARE_GROUP}", rule(topic)), "")
}

async fn member(proxy: &Proxy, id: &str, filter: &str, qos: u8) -> Client {
    let mut client = Client::connect_taking(proxy.mqtt, Version::V5, id, Some(4)).await.unwrap();
    assert_eq!(client.subscribe(filter, qos).await.unwrap(), qos);
    client
}

/// The next message: its packet id and its text.
async fn next(client: &mut Client, within: Duration) -> Option<(Event, String)> {
    let event = client.next_within(within).await.ok()?;
    match &event {
        Event::Publish { payload, .. } => {
            let text = String::from_utf8(payload.to_vec()).unwrap();
            Some((event, text))
        }
        other => panic!("{other:?}"),
    }
}

async fn answer(client: &mut Client, event: &Event) {
    client.answer(event).unwrap();
    client.flush().await.unwrap();
}

#[test]
fn whatever_is_stored_from_suback_on_is_delivered_also_of_a_group_that_is_new() {
    let kafka = shared_kafka();
    kafka.topic("fresh", 3);
    let proxy = proxy(&kafka.bootstrap, "fresh");
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
        for round in 0..10 {
            let topic = format!("fresh/{round}/telemetry/rpm");
            publish(&mut publisher, &topic, "before").await;
            let mut one = member(&proxy, &format!("one-{round}"), &format!("$share/g{round}/fresh/#"), 1).await;
            publish(&mut publisher, &topic, "after").await;
            let (event, text) = next(&mut one, DEADLINE).await.expect("it is delivered");
            assert_eq!(text, "after", "and nothing from before the SUBSCRIBE");
            answer(&mut one, &event).await;
        }
    });
}

#[test]
fn what_one_that_is_gone_had_goes_to_one_of_another_instance_at_once_and_what_a_slow_one_has_stays_its_own() {
    let kafka = shared_kafka();
    kafka.topic("locks", 1);
    let (first, second) = (proxy(&kafka.bootstrap, "locks"), proxy(&kafka.bootstrap, "locks"));
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let filter = "$share/g/locks/#";
        let topic = "locks/1/telemetry/rpm";
        let mut gone = member(&first, "gone", filter, 1).await;
        let mut publisher = Client::connect(first.mqtt, Version::V5, "publisher").await.unwrap();
        publish(&mut publisher, topic, "one").await;
        let (_, text) = next(&mut gone, DEADLINE).await.unwrap();
        assert_eq!(text, "one");
        let mut other = member(&second, "other", filter, 1).await;
        // Its lock is renewed for as long as its subscriber has it.
        assert!(next(&mut other, 3 * LOCK).await.is_none(), "the slow one keeps it");
        let since = Instant::now();
        drop(gone);
        let (event, text) = next(&mut other, DEADLINE).await.expect("it is released");
        assert_eq!(text, "one");
        assert!(since.elapsed() < LOCK, "before its lock has run out: {:?}", since.elapsed());
        assert_eq!(first.metric(&["shared_redelivered"]), 1.0);
        answer(&mut other, &event).await;
        // It is settled: what a third one gets is the next.
        eventually("it is nobody's any more", || {
            (second.metric(&["shared_memberships"]) == 1.0).then_some(())
        });
        other.goodbye().await.unwrap();
        let mut third = member(&first, "third", filter, 2).await;
        publish(&mut publisher, topic, "two").await;
        let (event, text) = next(&mut third, DEADLINE).await.unwrap();
        assert_eq!(text, "two");
        // Of QoS 2: when its exchange has begun it is nobody else's [MQTT-4.8.2-5].
        answer(&mut third, &event).await;
        drop(third);
        let mut fourth = member(&second, "fourth", filter, 1).await;
        publish(&mut publisher, topic, "three").await;
        let (event, text) = next(&mut fourth, DEADLINE).await.unwrap();
        assert_eq!(text, "three");
        answer(&mut fourth, &event).await;
        assert_eq!(
            second.metric(&["shared_commit_failures"]) + first.metric(&["shared_commit_failures"]),
            0.0
        );
    });
}

/// The broker gives a record out five times: who has it the fifth time is the last of its instance and leaves, and the next comes at once.
#[test]
fn what_is_given_out_for_the_last_time_waits_for_who_comes_next() {
    let kafka = shared_kafka();
    kafka.topic("fifth", 1);
    let proxy = proxy(&kafka.bootstrap, "fifth");
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let filter = "$share/g/fifth/#";
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
        let mut one = member(&proxy, "member-1", filter, 1).await;
        publish(&mut publisher, "fifth/1/telemetry/rpm", "once").await;
        for time in 1..=5 {
            let (_, text) = next(&mut one, DEADLINE).await.expect("it is delivered");
            assert_eq!(text, "once", "time {time}");
            drop(one);
            if time < 5 {
                eventually("the instance has given it up", || {
                    (proxy.metric(&["shared_memberships"]) == 0.0).then_some(())
                });
            }
            one = member(&proxy, &format!("member-{}", time + 1), filter, 1).await;
        }
        let (event, text) = next(&mut one, DEADLINE).await.expect("it is nobody else's");
        assert_eq!(text, "once");
        answer(&mut one, &event).await;
        publish(&mut publisher, "fifth/1/telemetry/rpm", "next").await;
        let (event, text) = next(&mut one, DEADLINE).await.unwrap();
        assert_eq!(text, "next");
        answer(&mut one, &event).await;
    });
}

/// Topics that are found by the form of their names: one that is there, one that comes later, and both for a group that had none to begin with.
#[test]
fn topics_that_are_found_later_are_read_whole() {
    let kafka = shared_kafka();
    let rules = ["depot", "yard"].map(|kind| {
        let topic = format!("topic: \"{kind}-{{site}}\", key: \"{{key}}\"");
        format!("  - {{name: {kind}s, mqtt: \"{kind}s/{{site}}/{{key}}\", qos: 1, kafka: {{{topic}}}}}\n")
    });
    kafka.topic("depot-a", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &format!("{}{SHARE_GROUP}", rules.concat()), "");
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let mut publisher = Client::connect(proxy.mqtt, Version::V5, "publisher").await.unwrap();
        let mut depots = member(&proxy, "depots", "$share/g/depots/+/+", 1).await;
        let mut yards = member(&proxy, "yards", "$share/g/yards/+/+", 1).await;
        publish(&mut publisher, "depots/a/1", "there").await;
        let (event, text) = next(&mut depots, DEADLINE).await.unwrap();
        assert_eq!(text, "there");
        answer(&mut depots, &event).await;
        for (kind, taker) in [("depot", &mut depots), ("yard", &mut yards)] {
            kafka.topic(&format!("{kind}-b"), 2);
            kafka.produce(&format!("{kind}-b"), "1", &[], "later");
            let (event, text) = found(&mut publisher, taker, kind).await;
            assert_eq!(text, "later", "also what was stored before it was found");
            answer(taker, &event).await;
            publish(&mut publisher, &format!("{kind}s/b/1"), "more").await;
            let (event, text) = next(taker, DEADLINE).await.unwrap();
            assert_eq!(text, "more");
            answer(taker, &event).await;
        }
        publish(&mut publisher, "depots/a/1", "still").await;
        assert_eq!(next(&mut depots, DEADLINE).await.unwrap().1, "still");
    });
}

/// The next message. Topics are listed once a minute, and whenever somebody subscribes to such.
async fn found(asker: &mut Client, taker: &mut Client, kind: &str) -> (Event, String) {
    for attempt in 0..30 {
        asker.subscribe(&format!("{kind}s/+/none-{attempt}"), 0).await.unwrap();
        if let Some(found) = next(taker, Duration::from_secs(1)).await {
            return found;
        }
    }
    panic!("{kind}-b is not found");
}

/// For longer than its lock lasts: it is settled for the group when the session has it.
#[test]
fn a_stored_session_completes_what_it_has_of_a_share_group_at_any_instance() {
    completes_at_any_instance("leases", ", shared: share-group", LOCK + LOCK / 2);
}

/// For longer than its lock lasts, too.
#[test]
fn what_a_stored_session_has_answered_pubrec_of_a_share_group_is_released_at_any_instance_and_nobody_elses() {
    is_released_at_any_instance("releases", ", shared: share-group", LOCK + LOCK / 2);
}

/// With it go the leaders of partitions, what they gave out, and maybe who coordinates the group.
#[test]
fn a_broker_that_is_killed_costs_a_share_group_no_message() {
    let kafka = Kafka::start_on(free_base(3), 3);
    kafka.command(&["topic", "guild", "3", "3", "min.insync.replicas=2"]);
    let proxy = Proxy::start(&kafka.bootstrap, &format!("{}\n{SHARE_GROUP}", rule("guild")), PATIENT);
    let runtime = Runtime::new().unwrap();
    let crew = runtime.block_on(Crew::begin(&proxy, "union", "guild/+/telemetry/#"));
    let siege = runtime.block_on(Siege::begin(&proxy, "guild", 20, 400.0));
    crew.goes_on();
    let node = busiest(&kafka, "guild", &[]);
    kafka.command(&["kill", &node]);
    crew.goes_on();
    kafka.command(&["start"]);
    crew.goes_on();
    let report = runtime.block_on(siege.account(&kafka, "guild", "a broker of a share group killed"));
    runtime.block_on(crew.account(report.acknowledged));
}
