//! Reading from three brokers: replicas nearby, and logs that were cut off.

use crate::load::publish::{Progress, run};
use crate::load::subscribe::{Audience, Received, seat};
use crate::load::{client::Version, ledger::Ledger};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base, output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// What kcat tells of partition 0: its leader, its replicas, those in sync.
fn partition(kafka: &Kafka, topic: &str) -> Option<(u32, Vec<u32>, Vec<u32>)> {
    let text = output("kcat", &["-L", "-b", &kafka.bootstrap, "-t", topic]);
    let line = text.lines().find(|line| line.contains("partition 0, leader"))?;
    let numbers = |after: &str| -> Vec<u32> {
        let list = line.split(after).nth(1).unwrap_or_default();
        let list = list.trim_start().split([' ']).next().unwrap_or_default();
        list.split(',').filter_map(|n| n.trim().parse().ok()).collect()
    };
    Some((*numbers("leader").first()?, numbers("replicas:"), numbers("isrs:")))
}

fn audience(proxy: &Proxy, topic: &str) -> Audience {
    Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients: 1,
        filter: format!("{topic}/+/telemetry/#"),
        qos: 1,
        receive_maximum: None,
        name: format!("{topic}-seat-"),
        patience: DEADLINE,
    }
}

type Run = JoinHandle<std::io::Result<Vec<Received>>>;

/// Publishes `each` of 10 clients, and waits until all is acknowledged.
fn publish(runtime: &Runtime, proxy: &Proxy, topic: &str, each: u64) {
    let report = runtime.block_on(run(&crowd(proxy.mqtt, topic, 10, each), &Arc::new(Progress::default())));
    assert_eq!(report.unwrap().acknowledged, 10 * each);
}

#[test]
fn a_proxy_reads_from_the_replica_in_its_rack_and_from_the_leader_when_that_is_dead() {
    let selector = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let kafka = Kafka::start_with(free_base(3), 3, &["broker.rack=rack-{node}", selector]);
    kafka.command(&["topic", "near", "1", "3", "min.insync.replicas=2"]);
    let (leader, _, _) = eventually("a leader", || partition(&kafka, "near").filter(|(_, _, isrs)| isrs.len() == 3));
    let near = if leader == 1 { 2 } else { 1 };
    let proxy = Proxy::start(&kafka.bootstrap, &rule("near"), &format!(", consumer: {{rack: rack-{near}}}"));
    let runtime = Runtime::new().unwrap();
    let seated = runtime.block_on(seat(&audience(&proxy, "near"))).unwrap();
    let received: Run = runtime.spawn(seated.receive(20_000));
    publish(&runtime, &proxy, "near", 1_000);
    eventually("all of it is read", || {
        (proxy.metric(&["messages_total", "to_device"]) >= 10_000.0).then_some(())
    });
    let bytes = || {
        (
            proxy.metric(&["kafka_fetched_bytes"]),
            proxy.metric(&["kafka_fetched_from_followers_bytes"]),
        )
    };
    let (all, followed) = bytes();
    println!("rack: {followed} of {all} bytes came from the replica nearby");
    assert!(followed > 0.0 && followed == all, "{followed} of {all}");
    kafka.command(&["kill", &near.to_string()]);
    publish(&runtime, &proxy, "near", 1_000);
    // The second thousand of each client bears the same numbers as the first: all came, in order, when there are twice as many.
    let received = runtime.block_on(received).unwrap().unwrap();
    assert_eq!(received[0].ledger.received, 20_000);
    let (all, followed) = bytes();
    println!("rack: {followed} of {all} bytes after its end");
    assert!(followed < all);
    assert_eq!(proxy.metric(&["kafka_offset_resets"]), 0.0);
}

/// The leader has records that its only follower lacks, and dies; the follower leads all the same, since the topic allows that. What was
/// read is gone from the log, and what is written instead has offsets that were read before.
#[test]
fn a_log_that_an_unclean_election_cut_off_is_noticed_and_read_from_there() {
    let kafka = Kafka::start_on(free_base(3), 3);
    kafka.command(&[
        "topic",
        "cut",
        "1",
        "2",
        "min.insync.replicas=1",
        "unclean.leader.election.enable=true",
    ]);
    let in_sync = |count: usize| {
        eventually("as many replicas", || {
            partition(&kafka, "cut").filter(|(_, _, isrs)| isrs.len() == count)
        })
    };
    let (leader, replicas, _) = in_sync(2);
    let follower = *replicas.iter().find(|id| **id != leader).unwrap();
    let proxy = Proxy::start(&kafka.bootstrap, &rule("cut"), ", producer: {delivery_timeout: 5m}");
    let runtime = Runtime::new().unwrap();
    let wanted = Arc::new(AtomicU64::new(u64::MAX));
    let seated = runtime.block_on(seat(&audience(&proxy, "cut"))).unwrap();
    let received: Run = runtime.spawn(seated.receive_up_to(Arc::clone(&wanted)));
    let out = |count: f64, what: &str| eventually(what, || (proxy.metric(&["messages_total", "to_device"]) >= count).then_some(()));
    publish(&runtime, &proxy, "cut", 100);
    out(1_000.0, "what both have");
    kafka.command(&["kill", &follower.to_string()]);
    in_sync(1);
    publish(&runtime, &proxy, "cut", 100);
    out(2_000.0, "what only the leader has");
    kafka.command(&["kill", &leader.to_string()]);
    kafka.command(&["launch", &follower.to_string()]);
    eventually("the other leads", || partition(&kafka, "cut").filter(|(id, _, _)| *id == follower));
    // Beyond the offset that was read up to.
    publish(&runtime, &proxy, "cut", 300);
    out(5_000.0, "all that was written instead");
    wanted.store(5_000, Relaxed);
    let received = runtime.block_on(received).unwrap().unwrap();
    let ledger: &Ledger = &received[0].ledger;
    println!("cut off: {ledger}; {} times noticed", proxy.metric(&["kafka_log_truncations"]));
    assert_eq!(ledger.received, 5_000);
    assert_eq!(proxy.metric(&["kafka_log_truncations"]), 1.0);
    assert!(proxy.log().contains("unclean leader election"), "an operator is told");
}
