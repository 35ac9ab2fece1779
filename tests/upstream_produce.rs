//! The Kafka client produces: against a fake cluster that moves leaders, cuts connections and lies.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::time::{Duration, Instant};

use fake_broker::{
    Fake, Fault,
    client::{PATIENCE, Producer, assert_stored_once, ready, settings, started, started_as, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::{
    kafka::{RecordFields, error::ErrorCode},
    upstream::{AppendError, Cluster, Outcome, Receipt, Settings, State, TopicState, WriteOptions},
};
use tokio::time::timeout;

#[tokio::test]
async fn any_bootstrap_server_is_enough() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let mut settings = settings(&fake);
    // Bound and dropped: nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    settings.bootstrap_servers.insert(0, dead.to_string());
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    assert_eq!(*cluster.state().borrow(), State::Ready);
    let receipts = Producer::new(&cluster).produce(&topic, 0, 20).await;
    assert_stored_once(&fake, "t", 0, &receipts);
}

#[tokio::test]
async fn while_no_broker_answers_the_state_says_why_and_then_it_recovers() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let mut settings = settings(&fake);
    settings.bootstrap_servers = vec![address.to_string()];
    let cluster = Cluster::start(settings);
    let mut state = cluster.state();
    state
        .wait_for(|s| matches!(s, State::Connecting { why } if why.contains(&address.to_string())))
        .await
        .unwrap();
    // A forwarder appears at the address.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let to = fake.addresses[0];
    let forward = tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            all.spawn(async move {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    timeout(Duration::from_secs(10), state.wait_for(|s| *s == State::Ready))
        .await
        .unwrap()
        .unwrap();
    ready(&cluster, "t").await;
    forward.abort();
}

#[tokio::test]
async fn a_connection_that_ends_before_the_versions_are_told_counts_once() {
    let fake = Fake::start(1).await;
    let mut settings = settings(&fake);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.bootstrap_servers = vec![listener.local_addr().unwrap().to_string()];
    let cluster = Cluster::start(settings);
    drop(listener.accept().await.unwrap());
    // The second attempt comes when the first is over.
    let second = listener.accept().await.unwrap();
    assert_eq!(cluster.counters().disconnects.get(), 1);
    drop(second);
}

#[tokio::test]
async fn records_of_several_partitions_share_requests_and_keep_their_order() {
    let (fake, cluster, topic) = started(2, 4).await;
    let mut producers: Vec<_> = (0..4).map(|_| Producer::new(&cluster)).collect();
    for _ in 0..50 {
        for (partition, producer) in producers.iter_mut().enumerate() {
            producer.append(&topic, partition, 4).unwrap();
        }
    }
    for (partition, producer) in producers.iter().enumerate() {
        let receipts = producer.receipts(200).await;
        assert!(receipts.is_sorted_by_key(|r| r.ticket), "receipts of one partition come in order");
        assert_stored_once(&fake, "t", partition, &receipts);
    }
    assert!(
        fake.world().produces.contains(&2),
        "each broker leads two, and no request carried both"
    );
}

#[tokio::test]
async fn an_old_broker_without_topic_ids_is_understood() {
    let fake = Fake::start(1).await;
    fake.world().old = true;
    fake.topic("t", 1);
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let receipts = Producer::new(&cluster).produce(&topic, 0, 20).await;
    assert_stored_once(&fake, "t", 0, &receipts);
}

#[tokio::test]
async fn each_fault_of_a_request_costs_a_retry_and_no_record() {
    // Refused before anything is stored: damaged, no leader here, short of replicas, disk lost, epochs that are over, busy.
    let refused = [-1, 2, 3, 5, 6, 7, 8, 9, 13, 19, 56, 72, 74, 75, 78, 89, 100, 103];
    // Stored, and the broker does not know it or does not say so.
    let stored = [-1, 7, 13, 20, 46, 56];
    for fault in refused
        .map(Fault::Code)
        .into_iter()
        .chain(stored.map(Fault::StoredBut))
        .chain(Fault::ENDS)
        .chain([Fault::Silence])
    {
        let (fake, cluster, topic) = started_as(1, 1, |settings| settings.request_timeout = Duration::from_millis(300)).await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 10).await;
        fake.world().produce_faults.push_back(fault.clone());
        // Several requests on the way when it happens.
        for _ in 0..10 {
            producer.append(&topic, 0, 3).unwrap();
            tokio::task::yield_now().await;
        }
        receipts.extend(producer.receipts(30).await);
        receipts.extend(producer.produce(&topic, 0, 10).await);
        println!("after {fault:?}");
        assert_stored_once(&fake, "t", 0, &receipts);
        assert!(fake.world().produce_faults.is_empty());
    }
}

/// Four requests end with one connection: the pause before the next attempt is that of one failure (50 ms), not of four (400 ms).
#[tokio::test]
async fn a_connection_that_breaks_counts_once_for_the_back_off() {
    let (fake, cluster, topic) = started(1, 5).await;
    let mut producer = Producer::new(&cluster);
    for partition in 0..5 {
        producer.produce(&topic, partition, 1).await;
    }
    let requests = || cluster.counters().requests.get_or_create(&[("api", "produce")]).get();
    // A machine under load may be late once or twice; the wrong pause would be there each time.
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        fake.hold_produce(&[1]);
        let before = requests();
        for partition in 0..5 {
            producer.append(&topic, partition, 1).unwrap();
            until("it is on its way", || requests() == before + partition as u64 + 1).await;
        }
        let broken = Instant::now();
        fake.world().produce_faults.push_back(Fault::CloseBefore);
        fake.hold_produce(&[]);
        let receipts = producer.receipts(5).await;
        assert!(receipts.iter().all(|r| matches!(r.outcome, Outcome::Stored { .. })), "{receipts:?}");
        shortest = shortest.min(broken.elapsed());
    }
    assert!(shortest < Duration::from_millis(300), "{shortest:?}");
    (0..5).for_each(|partition| assert_eq!(fake.values("t", partition).len(), 6));
}

#[tokio::test]
async fn records_follow_the_leader() {
    let (fake, cluster, topic) = started(3, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = Vec::new();
    for leader in [2, 3, 1, 2] {
        producer.append(&topic, 0, 20).unwrap();
        fake.lead("t", 0, leader);
        producer.append(&topic, 0, 20).unwrap();
        receipts.extend(producer.receipts(40).await);
    }
    assert_stored_once(&fake, "t", 0, &receipts);
    assert_eq!(
        topic.partitions[0].leader(),
        Some(2),
        "the topic handed out at the start knows the new leader"
    );
}

/// No timeout helps in these tests.
fn patient(fake: &Fake) -> Settings {
    let mut settings = settings(fake);
    settings.request_timeout = 100 * PATIENCE;
    settings.producer.delivery_timeout = 200 * PATIENCE;
    settings
}

/// A broker that is paused owes its answers for as long as it is: the new leader is asked what became of them, long before the timeout.
#[tokio::test]
async fn records_in_flight_to_a_broker_that_says_nothing_follow_the_leader_too() {
    let fake = Fake::start(2).await;
    fake.topic("t", 1);
    fake.lead("t", 0, 1);
    let mut settings = patient(&fake);
    settings.bootstrap_servers = vec![fake.addresses[1].to_string()];
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 10).await;
    for (heir, metadata) in [(2, None), (1, None), (2, Some(Fault::Silence))] {
        fake.world().produce_faults.push_back(Fault::Silence);
        // It may also be the one that was asked for metadata so far.
        fake.world().metadata_faults.extend(metadata);
        producer.append(&topic, 0, 3).unwrap();
        until("the request was taken", || fake.world().produce_faults.is_empty()).await;
        fake.lead("t", 0, heir);
        receipts.extend(producer.receipts(3).await);
        receipts.extend(producer.produce(&topic, 0, 3).await);
    }
    assert_stored_once(&fake, "t", 0, &receipts);
}

/// Devices wait until the new leader is known: the cluster is asked several times a second, whether the old one is paused or dead.
#[tokio::test]
async fn while_a_leader_says_nothing_or_is_gone_it_is_asked_often_who_leads() {
    const QUESTIONS: usize = 12;
    for gone in [false, true] {
        let fake = Fake::start(2).await;
        fake.topic("t", 1);
        fake.lead("t", 0, 2);
        let settings = patient(&fake);
        let cluster = Cluster::start(settings);
        let topic = ready(&cluster, "t").await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 3).await;
        if gone {
            let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            fake.world().brokers[1].1 = refusing;
            fake.world().produce_always = Some(Fault::CloseBefore);
        } else {
            fake.hold_produce(&[2]);
        }
        producer.append(&topic, 0, 3).unwrap();
        let (asked, since) = (fake.seen(ApiKey::Metadata), Instant::now());
        until("it was asked", || fake.seen(ApiKey::Metadata) >= asked + QUESTIONS).await;
        assert!(since.elapsed() < Duration::from_secs(6), "gone: {gone}, {:?}", since.elapsed());
        assert!(since.elapsed() > Duration::from_secs(1), "gone: {gone}, {:?}", since.elapsed());
        fake.world().produce_always = None;
        fake.lead("t", 0, 1);
        receipts.extend(producer.receipts(3).await);
        assert_stored_once(&fake, "t", 0, &receipts);
    }
}

#[tokio::test]
async fn a_refused_batch_is_refused_alone() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 5).await;
    // POLICY_VIOLATION
    fake.world().produce_faults.push_back(Fault::Code(44));
    producer.append(&topic, 0, 3).unwrap();
    for refused in producer.receipts(3).await {
        assert_eq!(refused.outcome, Outcome::Refused(ErrorCode::from(44)));
    }
    receipts.extend(producer.produce(&topic, 0, 20).await);
    assert_stored_once(&fake, "t", 0, &receipts);
}

/// INVALID_TIMESTAMP and INVALID_RECORD are said of a batch for one of its records: it is parted until that one is alone.
#[tokio::test]
async fn of_a_batch_with_a_record_that_is_refused_the_others_are_stored() {
    for code in [32, 87] {
        let (fake, cluster, topic) = started(1, 1).await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 5).await;
        // Of the batch, and of the first of its halves, which is one record.
        fake.world().produce_faults.extend([Fault::Code(code), Fault::Code(code)]);
        producer.append(&topic, 0, 2).unwrap();
        let both = producer.receipts(2).await;
        let refused = |receipt: &&Receipt| receipt.outcome == Outcome::Refused(ErrorCode::from(code));
        assert_eq!(both.iter().filter(refused).count(), 1, "{both:?}");
        receipts.extend(both.into_iter().filter(|receipt| !refused(&receipt)));
        receipts.extend(producer.produce(&topic, 0, 20).await);
        assert_stored_once(&fake, "t", 0, &receipts);
    }
}

#[tokio::test]
async fn a_producer_id_that_is_refused_is_replaced() {
    for code in [47, 59, 90] {
        let (fake, cluster, topic) = started(1, 1).await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 5).await;
        fake.world().produce_faults.push_back(Fault::Code(code));
        receipts.extend(producer.produce(&topic, 0, 20).await);
        assert_stored_once(&fake, "t", 0, &receipts);
        assert_eq!(fake.world().next_producer_id, 2);
    }
}

#[tokio::test]
async fn after_the_delivery_timeout_the_outcome_is_unknown_and_later_records_are_stored() {
    let (fake, cluster, topic) = started_as(1, 1, |settings| {
        settings.producer.delivery_timeout = Duration::from_millis(400);
        settings.request_timeout = Duration::from_millis(150);
    })
    .await;
    let mut producer = Producer::new(&cluster);
    let first = producer.produce(&topic, 0, 5).await;
    fake.paused.send_replace(true);
    producer.append(&topic, 0, 3).unwrap();
    let started = Instant::now();
    for receipt in producer.receipts(3).await {
        assert_eq!(receipt.outcome, Outcome::Expired { sent: true });
    }
    assert!(started.elapsed() >= Duration::from_millis(400));
    // The requests of the old connections are served now, late.
    fake.paused.send_replace(false);
    let last = producer.produce(&topic, 0, 10).await;
    assert!(
        last.iter().chain(&first).all(|r| matches!(r.outcome, Outcome::Stored { .. })),
        "{last:?}"
    );
    let numbers: Vec<u64> = fake.values("t", 0).iter().map(|v| v.parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "doubled or out of order: {numbers:?}");
    assert!(numbers.len() == 15 || numbers.len() == 18, "{numbers:?}");
}

#[tokio::test]
async fn what_could_never_be_sent_is_told_apart() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.lead("t", 0, -1);
    let mut settings = settings(&fake);
    settings.producer.delivery_timeout = Duration::from_millis(100);
    let cluster = Cluster::start(settings);
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    producer.append(&topic, 0, 2).unwrap();
    for receipt in producer.receipts(2).await {
        assert_eq!(receipt.outcome, Outcome::Expired { sent: false });
    }
    // A leader appears: what is appended from here on is stored.
    fake.lead("t", 0, 1);
    until("a leader is known", || topic.partitions[0].leader() == Some(1)).await;
    let receipts = producer.produce(&topic, 0, 5).await;
    assert_stored_once(&fake, "t", 0, &receipts);
}

#[tokio::test]
async fn memory_is_bounded_and_comes_back() {
    const MEMORY: usize = 64 * 1024;
    let (fake, cluster, topic) = started_as(1, 2, |settings| settings.producer.memory = MEMORY).await;
    fake.paused.send_replace(true);
    let mut producer = Producer::new(&cluster);
    let mut appended = 0;
    let value = [b'7'; 1000];
    let mut appender = cluster.appender();
    let refused = loop {
        let fields = RecordFields {
            timestamp: 1,
            key: Some(&value[..]),
            value: Some(b"1"),
            headers: std::iter::empty(),
        };
        match appender.append(&topic, appended % 2, &fields, WriteOptions::default(), None) {
            Ok(()) => appended += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(refused, AppendError::MemoryFull);
    assert!(
        appended * 1000 <= MEMORY && appended * 1000 > MEMORY / 4,
        "{appended} records of 1,000 bytes in {MEMORY}"
    );
    let waiting = tokio::spawn(async move { appender.memory_available().await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    fake.paused.send_replace(false);
    timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    producer.produce(&topic, 0, 5).await;
    until("everything is given back", || cluster.counters().memory_used.get() == 0).await;
}

#[tokio::test]
async fn a_missing_topic_may_appear() {
    let fake = Fake::start(1).await;
    let cluster = Cluster::start(settings(&fake));
    assert!(matches!(
        timeout(Duration::from_secs(5), cluster.topic_known("late")).await.unwrap(),
        TopicState::Missing
    ));
    let appears = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.topic_appears("late").await }
    });
    fake.topic("late", 1);
    let topic = timeout(Duration::from_secs(10), appears)
        .await
        .unwrap()
        .unwrap()
        .expect("not shut down");
    let receipts = Producer::new(&cluster).produce(&topic, 0, 5).await;
    assert_stored_once(&fake, "late", 0, &receipts);
}

#[tokio::test]
async fn shutdown_waits_for_what_is_in_flight() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    producer.append(&topic, 0, 10).unwrap();
    timeout(Duration::from_secs(5), cluster.shutdown()).await.unwrap();
    assert_stored_once(&fake, "t", 0, &producer.receipts(10).await);
    assert_eq!(producer.append(&topic, 0, 1), Err(AppendError::Closed));
}

/// Three brokers that were never reached: one refuses, one takes connections and is silent, one takes requests and is silent.
#[tokio::test]
async fn shutdown_does_not_wait_for_a_kafka_that_was_never_there() {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let fake = Fake::start(1).await;
    fake.paused.send_replace(true);
    for server in [refusing, silent.local_addr().unwrap(), fake.addresses[0]] {
        let mut settings = settings(&fake);
        settings.bootstrap_servers = vec![server.to_string()];
        let cluster = Cluster::start(settings);
        assert!(matches!(cluster.topic("t"), TopicState::Unknown));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let started = Instant::now();
        cluster.shutdown().await;
        assert!(
            started.elapsed() < Duration::from_millis(800),
            "{server} cost {:?}",
            started.elapsed()
        );
    }
}

#[tokio::test]
async fn when_the_last_handle_goes_no_task_stays() {
    let fake = Fake::start(2).await;
    fake.topic("t", 4);
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&topic, 0, 5).await;
    let reader = cluster.read(&topic, 1, mqtt_kafka_proxy::upstream::Start::Tail);
    until("the reader's poll is out", || !fake.world().polls.is_empty()).await;
    assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() > before);
    drop((cluster, producer, reader, topic));
    until("all tasks ended", || {
        tokio::runtime::Handle::current().metrics().num_alive_tasks() == before
    })
    .await;
}
