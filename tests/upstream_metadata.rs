//! What the client knows of the cluster: topics that come and go, brokers that move, connections that end while nobody uses them.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fake_broker::{
    Fake, Fault,
    client::{Log, PATIENCE, Producer, assert_stored_once, ready, settings, started, started_as, until},
};
use kafka_protocol::messages::ApiKey;
use mqtt_kafka_proxy::upstream::{Cluster, Outcome, Settings, Start, State, TopicState};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

/// Another address of a broker, as long as it lives.
struct Forwarder {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Forwarder {
    async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut all = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                all.spawn(async move {
                    let mut to = TcpStream::connect(broker).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self {
            address,
            connections,
            _tasks: tasks,
        }
    }
}

/// An address that takes connections and says nothing.
fn hanging() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn no_number_of_missing_names_shuts_out_a_topic_that_is_there() {
    const MISSING: usize = 12_000;
    let fake = Fake::start(1).await;
    fake.topic("early", 1);
    fake.topic("late", 1);
    let cluster = Cluster::start(settings(&fake));
    let early = ready(&cluster, "early").await;
    for n in 0..MISSING {
        assert!(matches!(cluster.topic(&format!("missing-{n}")), TopicState::Unknown), "{n}");
    }
    let newest = format!("missing-{}", MISSING - 1);
    assert!(matches!(
        timeout(PATIENCE, cluster.topic_known(&newest)).await.unwrap(),
        TopicState::Missing
    ));
    let late = ready(&cluster, "late").await;
    let receipts = Producer::new(&cluster).produce(&late, 0, 3).await;
    assert_stored_once(&fake, "late", 0, &receipts);
    assert!(
        Arc::ptr_eq(&early, &ready(&cluster, "early").await),
        "what was there stays the same"
    );
    // What is remembered has a bound, and so has each request.
    fake.world().named.clear();
    cluster.topic("one more");
    until("a round is over", || fake.world().named.iter().sum::<usize>() > 5_000).await;
    assert!(fake.world().named.iter().all(|names| *names <= 1_000), "{:?}", fake.world().named);
    assert!(
        matches!(cluster.topic("missing-0"), TopicState::Unknown),
        "the oldest was forgotten"
    );
}

#[tokio::test]
async fn faults_of_metadata_cost_a_retry_and_harm_no_other_connection() {
    let others = [Fault::Code(5), Fault::Code(-1), Fault::Silence];
    for fault in Fault::ENDS.into_iter().chain(others) {
        let fake = Fake::start(1).await;
        fake.topic("t", 1);
        fake.topic("later", 1);
        let mut settings = settings(&fake);
        settings.request_timeout = Duration::from_millis(300);
        let cluster = Cluster::start(settings);
        let topic = ready(&cluster, "t").await;
        let mut producer = Producer::new(&cluster);
        let mut receipts = producer.produce(&topic, 0, 5).await;
        let (broken, connects) = (cluster.counters().disconnects.get(), cluster.counters().connects.get());
        let ends = u64::from(!matches!(fault, Fault::Code(_)));
        fake.world().metadata_faults.push_back(fault.clone());
        ready(&cluster, "later").await;
        receipts.extend(producer.produce(&topic, 0, 5).await);
        assert_stored_once(&fake, "t", 0, &receipts);
        assert!(fake.world().metadata_faults.is_empty());
        assert_eq!(cluster.counters().disconnects.get(), broken + ends, "{fault:?}: others were harmed");
        assert_eq!(cluster.counters().connects.get(), connects + ends, "{fault:?}");
        assert_eq!(*cluster.state().borrow(), State::Ready, "{fault:?}");
    }
}

#[tokio::test]
async fn a_topic_that_may_not_be_used_any_more_is_missing_and_goes_on_where_it_was_when_the_right_comes_back() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 5).await;
    // TOPIC_AUTHORIZATION_FAILED
    fake.world().metadata_faults.extend([const { Fault::Code(29) }; 5]);
    fake.world().produce_faults.push_back(Fault::Code(6));
    producer.append(&topic, 0, 1).unwrap();
    until("it is missing", || matches!(cluster.topic("t"), TopicState::Missing)).await;
    receipts.extend(producer.receipts(1).await);
    let again = ready_again(&cluster, "t").await;
    assert!(Arc::ptr_eq(&topic.partitions[0], &again.partitions[0]), "its sequences go on");
    receipts.extend(producer.produce(&again, 0, 5).await);
    assert_stored_once(&fake, "t", 0, &receipts);
}

/// TOPIC_AUTHORIZATION_FAILED of a broker that has not read its rights yet.
#[tokio::test]
async fn one_refusal_takes_no_topic_away_that_was_there() {
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 5).await;
    let asked = fake.seen(ApiKey::Metadata);
    fake.world().metadata_faults.extend([Fault::Code(29), Fault::Code(29)]);
    fake.world().produce_faults.push_back(Fault::Code(6));
    receipts.extend(producer.produce(&topic, 0, 1).await);
    until("it was asked again", || {
        assert!(matches!(cluster.topic("t"), TopicState::Ready(_)), "it stays");
        fake.seen(ApiKey::Metadata) >= asked + 3
    })
    .await;
    assert!(fake.world().metadata_faults.is_empty());
    assert_stored_once(&fake, "t", 0, &receipts);
}

#[tokio::test]
async fn a_new_name_that_may_not_be_used_is_missing_at_once() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let cluster = Cluster::start(settings(&fake));
    fake.world().metadata_faults.push_back(Fault::Code(29));
    assert!(matches!(
        timeout(PATIENCE, cluster.topic_known("t")).await.unwrap(),
        TopicState::Missing
    ));
}

async fn ready_again(cluster: &Cluster, name: &str) -> Arc<mqtt_kafka_proxy::upstream::Topic> {
    timeout(PATIENCE, cluster.topic_appears(name))
        .await
        .unwrap()
        .expect("not shut down")
}

#[tokio::test]
async fn a_topic_that_vanishes_is_missing_after_several_answers_and_may_come_back_anew() {
    let (fake, cluster, old) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    producer.produce(&old, 0, 5).await;
    let gone = fake.world().topics.remove("t").unwrap();
    let before = fake.seen(ApiKey::Metadata);
    producer.append(&old, 0, 1).unwrap();
    until("it is missing", || matches!(cluster.topic("t"), TopicState::Missing)).await;
    // A broker that has just started says the same of every topic: one answer is not enough.
    assert!(fake.seen(ApiKey::Metadata) >= before + 5);
    // The very same topic comes back: what waits goes on under its sequence.
    fake.world().topics.insert("t".to_owned(), gone);
    producer.receipts(1).await;
    assert_eq!(fake.values("t", 0).len(), 6);
    // It is made anew: another topic.
    fake.topic("t", 1);
    producer.append(&old, 0, 1).unwrap();
    until(
        "it is another",
        || matches!(cluster.topic("t"), TopicState::Ready(t) if t.id != old.id),
    )
    .await;
    let new = ready_again(&cluster, "t").await;
    // Whether it had left before the client knew.
    let outcome = producer.receipts(1).await[0].outcome;
    assert!(
        matches!(outcome, Outcome::Unknown | Outcome::Expired { sent: false }),
        "{outcome:?}"
    );
    producer.produce(&new, 0, 2).await;
    assert_eq!(fake.values("t", 0).len(), 2);
}

#[tokio::test]
async fn a_broker_whose_address_changed_is_found_again() {
    let fake = Fake::start(2).await;
    fake.topic("t", 2);
    let behind = fake.addresses[1];
    let first = Forwarder::to(behind).await;
    fake.world().brokers[1].1 = first.address;
    let cluster = Cluster::start(settings(&fake));
    let topic = ready(&cluster, "t").await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 1, 5).await;
    let mut reader = cluster.read(&topic, 1, Start::Offset(5));
    assert!(first.connections.load(SeqCst) > 0);
    let second = Forwarder::to(behind).await;
    fake.world().brokers[1].1 = second.address;
    drop(first);
    receipts.extend(producer.produce(&topic, 1, 5).await);
    assert_stored_once(&fake, "t", 1, &receipts);
    timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
    assert!(second.connections.load(SeqCst) >= 2, "one for producing, one for reading");
}

/// A new name is found in time, although the questions about it end so. Gives the client, and what it has said of Kafka meanwhile.
async fn found_in_spite_of(faults: impl IntoIterator<Item = Fault>) -> (Cluster, watch::Receiver<State>) {
    let fake = Fake::start(2).await;
    fake.topic("t", 1);
    fake.topic("later", 1);
    let mut settings = settings(&fake);
    settings.request_timeout = Duration::from_secs(10);
    let cluster = Cluster::start(settings.clone());
    ready(&cluster, "t").await;
    let mut state = cluster.state();
    state.mark_unchanged();
    fake.world().metadata_faults.extend(faults);
    let started = Instant::now();
    ready(&cluster, "later").await;
    assert!(started.elapsed() < settings.request_timeout / 2, "{:?}", started.elapsed());
    (cluster, state)
}

/// The broker that is asked is paused: others know who leads, and are asked before the request timeout is over.
#[tokio::test]
async fn a_broker_that_says_nothing_holds_up_no_news_of_the_cluster() {
    let (_cluster, state) = found_in_spite_of([Fault::Silence]).await;
    assert!(!state.has_changed().unwrap(), "{:?}", state.borrow());
}

/// The connection is gone, and the broker that is asked instead is paused behind its first answer.
#[tokio::test]
async fn a_broker_that_tells_no_more_than_its_versions_holds_up_no_news_of_the_cluster() {
    found_in_spite_of([Fault::CloseBefore, Fault::Silence]).await;
}

#[tokio::test]
async fn what_is_known_is_asked_for_again_at_its_age_without_any_error() {
    let (fake, cluster, topic) = started_as(1, 1, |settings| settings.metadata_max_age = Duration::from_millis(300)).await;
    fake.grow("t");
    let grown = timeout(PATIENCE, cluster.topic_grows(&topic))
        .await
        .unwrap()
        .expect("not shut down");
    assert_eq!(grown.partitions.len(), 2);
    // Not more often than its age says.
    let (started, before) = (Instant::now(), fake.seen(ApiKey::Metadata));
    until("five rounds", || fake.seen(ApiKey::Metadata) >= before + 5).await;
    assert!(started.elapsed() >= Duration::from_millis(4 * 300), "{:?}", started.elapsed());
}

/// A topic that is forgotten and known again must not begin with sequences that its broker knows; one that is deleted is forgotten, too.
#[tokio::test]
async fn only_topics_in_use_are_asked_for() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("kept", 1);
    let mut settings = settings(&fake);
    settings.metadata_max_age = Duration::from_millis(100);
    let cluster = Cluster::start(settings);
    let kept = ready(&cluster, "kept").await;
    let mut producer = Producer::new(&cluster);
    let (mut receipts, mut waiting) = (Vec::new(), Producer::new(&cluster));
    let only_one = || {
        fake.world().named.clear();
        until("only one is asked for", || fake.world().named.ends_with(&[1, 1, 1]))
    };
    for _ in 0..2 {
        receipts.extend(producer.produce(&*ready(&cluster, "t").await, 0, 1).await);
        only_one().await;
    }
    assert_stored_once(&fake, "t", 0, &receipts);
    // What waits in it, or is under way, keeps it.
    fake.hold_produce(&[1]);
    waiting.append(&*ready(&cluster, "t").await, 0, 1).unwrap();
    fake.world().named.clear();
    until("many rounds", || fake.world().named.len() >= 20).await;
    assert!(fake.world().named.iter().all(|names| *names == 2), "{:?}", fake.world().named);
    fake.hold_produce(&[]);
    waiting.receipts(1).await;
    fake.world().topics.remove("t");
    only_one().await;
    assert!(Arc::ptr_eq(&kept, &ready(&cluster, "kept").await), "who holds it wants it");
}

/// All that is known of the cluster leads nowhere, and does not even refuse: the bootstrap list helps before one connect timeout is over.
#[tokio::test]
async fn brokers_that_all_hang_are_left_behind_for_the_bootstrap_list_within_seconds() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("later", 1);
    let settings = settings(&fake);
    let cluster = Cluster::start(settings.clone());
    let dead: Vec<_> = (0..6).map(|_| hanging()).collect();
    fake.world().brokers = dead.iter().enumerate().map(|(n, (_, at))| (100 + n as i32, *at)).collect();
    ready(&cluster, "t").await;
    let started = Instant::now();
    fake.world().metadata_faults.push_back(Fault::CloseBefore);
    fake.world().brokers = vec![(1, fake.addresses[0])];
    ready(&cluster, "later").await;
    assert!(started.elapsed() < settings.connect_timeout / 2, "{:?}", started.elapsed());
}

/// KIP-1102.
#[tokio::test]
async fn a_cluster_that_wants_it_is_looked_for_anew_by_the_bootstrap_list() {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.topic("later", 1);
    let bootstrap = Forwarder::to(fake.addresses[0]).await;
    let mut settings = settings(&fake);
    settings.bootstrap_servers = vec![bootstrap.address.to_string()];
    let cluster = Cluster::start(settings);
    ready(&cluster, "t").await;
    assert_eq!(bootstrap.connections.load(SeqCst), 1);
    let mut state = cluster.state();
    state.mark_unchanged();
    fake.world().metadata_error = 129;
    ready(&cluster, "later").await;
    assert_eq!(bootstrap.connections.load(SeqCst), 2);
    assert!(!state.has_changed().unwrap(), "Kafka was there all the time");
}

#[tokio::test]
async fn connections_that_the_broker_closes_for_idleness_cost_nothing() {
    let (log, _guard) = Log::listen();
    let (fake, cluster, topic) = started(1, 1).await;
    let mut producer = Producer::new(&cluster);
    let mut receipts = producer.produce(&topic, 0, 1).await;
    let mut state = cluster.state();
    state.mark_unchanged();
    let (mut ends, mut shortest) = (0, Duration::MAX);
    for round in 0..10 {
        assert_eq!(cluster.end_offsets(&[(topic.clone(), 0)]).await, [Ok(1 + round)]);
        let before = cluster.counters().disconnects.get();
        fake.hang_up();
        until("both lanes have seen it", || cluster.counters().disconnects.get() >= before + 2).await;
        let since = Instant::now();
        receipts.extend(producer.produce(&topic, 0, 1).await);
        shortest = shortest.min(since.elapsed());
        fake.topic(&format!("new-{round}"), 1);
        ready(&cluster, &format!("new-{round}")).await;
        ends += 1;
    }
    assert_stored_once(&fake, "t", 0, &receipts);
    // A pause after a failure is 40 ms at least.
    assert!(shortest < Duration::from_millis(40), "{shortest:?} in {ends} rounds");
    assert_eq!(log.lines(&["WARN"]), [""; 0]);
    assert!(!state.has_changed().unwrap(), "{:?}", state.borrow());
    assert_eq!(cluster.counters().retries.get(), 0);
}

/// Nothing is published or read, so only the connection that metadata came on can tell.
#[tokio::test]
async fn a_kafka_that_goes_away_is_noticed_also_while_nothing_is_asked_of_it() {
    let fake = Fake::start(1).await;
    let mut settings = settings(&fake);
    settings.metadata_max_age = 100 * PATIENCE;
    let cluster = Cluster::start(settings);
    let mut state = cluster.state();
    timeout(PATIENCE, state.wait_for(|s| *s == State::Ready)).await.unwrap().unwrap();
    drop(fake);
    timeout(PATIENCE, state.wait_for(|s| matches!(s, State::Connecting { .. })))
        .await
        .unwrap()
        .unwrap();
}

/// Whoever waits for Kafka's return waits for the next attempt: however long it was away, that is not far.
#[tokio::test]
async fn a_kafka_that_is_away_is_looked_for_each_second() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = Settings {
        bootstrap_servers: vec![listener.local_addr().unwrap().to_string()],
        ..Settings::default()
    };
    let _cluster = Cluster::start(settings);
    let mut last: Option<Instant> = None;
    for attempt in 0..8 {
        let (closed, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        drop(closed);
        let pause = last.replace(Instant::now()).map(|last| last.elapsed());
        assert!(
            pause.is_none_or(|pause| pause < Duration::from_millis(1_200)),
            "{attempt}: {pause:?}"
        );
    }
}

/// Metadata that do not change make 40 partitions fail again and again: the cluster is asked ever more seldom. One whose leader moves
/// does not wait for that.
#[tokio::test]
async fn those_who_fail_for_long_ask_less_and_less_and_hold_up_nobody_whose_leader_moves() {
    const FAILING: usize = 40;
    let fake = Fake::start(2).await;
    fake.topic("bad", FAILING);
    fake.topic("good", 1);
    for partition in &mut fake.world().topics.get_mut("bad").unwrap().partitions {
        (partition.leader, partition.told) = (2, Some((1, 0)));
    }
    let cluster = Cluster::start(settings(&fake));
    let (bad, good) = (ready(&cluster, "bad").await, ready(&cluster, "good").await);
    let mut unlucky = Producer::new(&cluster);
    let asked = fake.seen(ApiKey::Metadata);
    (0..FAILING).for_each(|partition| unlucky.append(&bad, partition, 1).unwrap());
    // Each waits twice as long as before: 1.3 s in all.
    until("each has failed seven times", || {
        fake.world().produces.iter().sum::<usize>() >= 7 * FAILING
    })
    .await;
    let questions = fake.seen(ApiKey::Metadata) - asked;
    assert!((2..=7).contains(&questions), "{questions} questions");
    let mut producer = Producer::new(&cluster);
    // A machine under load may be late once or twice.
    let mut shortest = Duration::MAX;
    for leader in [2, 1, 2, 1, 2] {
        fake.lead("good", 0, leader);
        let since = Instant::now();
        producer.produce(&good, 0, 1).await;
        shortest = shortest.min(since.elapsed());
    }
    assert!(shortest < Duration::from_millis(200), "{shortest:?}");
}
