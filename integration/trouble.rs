//! What must hold when something is wrong: Kafka paused or away, a client that talks nonsense, the end of the process.

use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Load, Progress, run};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base};
use crate::{alone_with_kafka, shared_kafka};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Resumes Kafka also when the test fails, for the sake of the others.
struct Paused<'a>(&'a Kafka);

impl<'a> Paused<'a> {
    fn new(kafka: &'a Kafka) -> Self {
        kafka.command(&["pause", "1"]);
        Self(kafka)
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.0.command(&["resume", "1"]);
    }
}

#[test]
fn while_kafka_is_paused_nothing_is_acknowledged_and_afterwards_everything() {
    let kafka = alone_with_kafka();
    kafka.topic("paused", 3);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("paused"), "");
    let runtime = Runtime::new().unwrap();
    // The topic is known and its connections stand.
    let warm = crowd(proxy.mqtt, "paused", 1, 1);
    runtime.block_on(run(&warm, &Arc::new(Progress::default()))).unwrap();

    let pause = Paused::new(&kafka);
    let (clients, messages) = (50, 40);
    let load = crowd(proxy.mqtt, "paused", clients, messages);
    let progress = Arc::new(Progress::default());
    let all = runtime.spawn({
        let (load, progress) = (load.clone(), Arc::clone(&progress));
        async move { run(&load, &progress).await }
    });
    let windows = u64::from(clients) * u64::from(load.window);
    eventually("every window is full", || (progress.sent.load(Relaxed) == windows).then_some(()));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(progress.done.load(Relaxed), 0, "a PUBACK left while Kafka could not answer");
        // Between two looks in the span in which nothing may be acknowledged.
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(pause);
    let report = runtime.block_on(all).unwrap().unwrap();
    assert_eq!((report.acknowledged, report.refused), (u64::from(clients) * messages, 0));
    // Client 0 has one record more: the warm-up's first, which bears the same stamp as its own first.
    let ledger = ledger::read_topic(&kafka.bootstrap, "paused").unwrap();
    assert_eq!(
        (ledger.missing(clients, messages), ledger.doubled, ledger.reordered),
        (0, 1, 0),
        "{ledger}"
    );
}

#[test]
fn with_kafka_away_it_listens_says_so_and_becomes_ready() {
    let base = free_base(1);
    let proxy = Proxy::launch(&format!("127.0.0.1:{base}"), &rule("late"), "");
    eventually("the reason names the server", || {
        let (status, why) = proxy.get("/readyz").ok()?;
        assert_eq!(status, 503, "{why}");
        why.contains(&format!("127.0.0.1:{base}")).then_some(())
    });
    assert_eq!(proxy.get("/healthz").unwrap().0, 200);

    let kafka = Kafka::start_on(base, 1);
    kafka.topic("late", 1);
    eventually("ready after Kafka came", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
    // Kafka was there a moment before its topic: a proxy that has looked in between looks again soon.
    eventually("its topic is known", || {
        let log = proxy.log();
        (!log.contains("the topic cannot be used") || log.contains("the topic can be used")).then_some(())
    });
    let report = Runtime::new()
        .unwrap()
        .block_on(run(&crowd(proxy.mqtt, "late", 2, 10), &Arc::new(Progress::default())))
        .unwrap();
    assert_eq!(report.acknowledged, 20);
    ledger::read_topic(&kafka.bootstrap, "late").unwrap().exact(2, 10).unwrap();
}

#[tokio::test]
async fn a_malformed_packet_ends_its_own_connection_with_the_reason() {
    let kafka = shared_kafka();
    kafka.topic("malformed", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("malformed"), "");
    let mut other = Client::connect(proxy.mqtt, Version::V5, "other").await.unwrap();
    let mut broken = Client::connect(proxy.mqtt, Version::V5, "broken").await.unwrap();
    // QoS 3 does not exist [MQTT-3.3.1-4].
    broken.output.extend_from_slice(&[0x36, 6, 0, 1, b'a', 0, 1, 0]);
    broken.flush().await.unwrap();
    assert_eq!(broken.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x81));
    // In version 3.1.1 there is nothing to say: the connection ends.
    let mut broken = Client::connect(proxy.mqtt, Version::V4, "broken").await.unwrap();
    broken.output.extend_from_slice(&[0x36, 5, 0, 1, b'a', 0, 1]);
    broken.flush().await.unwrap();
    let end = broken.next_within(DEADLINE).await.unwrap_err().kind();
    assert!(
        matches!(end, std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
        "{end}"
    );

    other.publish("malformed/42/telemetry/rpm", 1, 3, b"1850").unwrap();
    other.flush().await.unwrap();
    assert_eq!(
        other.next_within(DEADLINE).await.unwrap(),
        Event::PubAck(3, 0),
        "the others are unharmed"
    );
    assert_eq!(proxy.metric(&["malformed_packets_total", "malformed_packet"]), 2.0);
}

#[tokio::test]
async fn a_second_connection_of_a_client_id_takes_the_first_over() {
    let kafka = shared_kafka();
    kafka.topic("takeover", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("takeover"), "");
    let mut first = Client::connect(proxy.mqtt, Version::V5, "same").await.unwrap();
    let _second = Client::connect(proxy.mqtt, Version::V5, "same").await.unwrap();
    assert_eq!(first.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8e));
}

#[tokio::test]
async fn sigterm_tells_version_5_clients_and_ends_with_0() {
    let kafka = shared_kafka();
    kafka.topic("goodbye", 1);
    let mut proxy = Proxy::start(&kafka.bootstrap, &rule("goodbye"), "");
    let mut client = Client::connect(proxy.mqtt, Version::V5, "last").await.unwrap();
    client.publish("goodbye/42/telemetry/rpm", 1, 9, b"1850").unwrap();
    client.flush().await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::PubAck(9, 0));
    let status = tokio::task::spawn_blocking(move || proxy.terminate()).await.unwrap();
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8b));
    assert_eq!(status.code(), Some(0));
}

/// Whether this device has been closed without a word, as one of version 3.1.1 is.
async fn is_closed(client: &mut Client) -> bool {
    let end = client.next_within(DEADLINE).await.map_err(|error| error.kind());
    matches!(
        end,
        Err(std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe)
    )
}

/// One message to `topic`; what the device is told.
async fn told(client: &mut Client, topic: &str, qos: u8, id: u16) -> Event {
    client.publish(&format!("{topic}/42/telemetry/rpm"), qos, id, b"1850").unwrap();
    client.flush().await.unwrap();
    client.next_within(DEADLINE).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_goes_away_later_costs_no_acknowledgement_and_no_memory_and_its_return_is_noticed() {
    const MEMORY: f64 = 1024.0 * 1024.0;
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    kafka.topic("gone", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("gone"), ", producer: {delivery_timeout: 3s, memory: 1MiB}");
    let mut five = Client::connect(proxy.mqtt, Version::V5, "five").await.unwrap();
    assert_eq!(told(&mut five, "gone", 1, 1).await, Event::PubAck(1, 0));
    kafka.command(&["kill", "1"]);
    let sent = Instant::now();
    assert_eq!(told(&mut five, "gone", 1, 2).await, Event::PubAck(2, 0x83));
    assert!(
        sent.elapsed() > Duration::from_millis(2900),
        "given up before the delivery timeout: {:?}",
        sent.elapsed()
    );
    let why = eventually("not ready", || proxy.get("/readyz").ok().filter(|(status, _)| *status == 503));
    assert!(why.1.contains(&kafka.bootstrap), "the reason names the server: {}", why.1);
    assert_eq!(told(&mut five, "gone", 2, 3).await, Event::Disconnect(0x83));
    let mut four = Client::connect(proxy.mqtt, Version::V4, "four").await.unwrap();
    four.publish("gone/42/telemetry/rpm", 1, 1, b"1850").unwrap();
    four.flush().await.unwrap();
    assert!(is_closed(&mut four).await);
    assert_eq!(proxy.metric(&["refusals_total", "kafka_unavailable"]), 3.0);

    // Several times as much as the memory holds: what does not fit waits in the sockets.
    let flood = Load {
        version: Version::V5,
        payload: 20_000,
        ..crowd(proxy.mqtt, "gone", 12, 5)
    };
    let flooding = tokio::spawn(async move { run(&flood, &Arc::new(Progress::default())).await });
    eventually("the memory is in use", || {
        (proxy.metric(&["kafka_memory_used_bytes"]) > MEMORY / 2.0).then_some(())
    });
    while !flooding.is_finished() {
        let used = proxy.metric(&["kafka_memory_used_bytes"]);
        assert!(used <= MEMORY, "{used} bytes are more than `producer.memory`");
        // Between two looks: the bound must hold at each until the flood has ended.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = flooding.await.unwrap().unwrap();
    assert_eq!((report.acknowledged, report.refused), (0, 60));

    kafka.command(&["start"]);
    eventually("ready again", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
    let mut five = Client::connect(proxy.mqtt, Version::V5, "five").await.unwrap();
    assert_eq!(told(&mut five, "gone", 1, 4).await, Event::PubAck(4, 0));
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_refused_or_skipped_counted_and_named_once() {
    let kafka = shared_kafka();
    let skipped = rule("nowhere-else").replace(", kafka:", ", on_error: skip, kafka:");
    let proxy = Proxy::start(&kafka.bootstrap, &format!("{}\n{skipped}", rule("nowhere")), "");
    let lines = |words: &str, name: &str| {
        let (log, topic) = (proxy.log(), format!("topic=\"{name}\""));
        log.lines().filter(|line| line.contains(words) && line.contains(&topic)).count()
    };
    for name in ["nowhere", "nowhere-else"] {
        eventually("it is named before a device asks for it", || {
            (lines("the topic cannot be used", name) == 1).then_some(())
        });
    }
    let mut five = Client::connect(proxy.mqtt, Version::V5, "five").await.unwrap();
    for id in 1..=3 {
        assert_eq!(told(&mut five, "nowhere", 1, id).await, Event::PubAck(id, 0x83));
        assert_eq!(told(&mut five, "nowhere-else", 1, id).await, Event::PubAck(id, 0));
    }
    assert_eq!(told(&mut five, "nowhere", 2, 9).await, Event::PubRec(9, 0x83));
    let mut four = Client::connect(proxy.mqtt, Version::V4, "four").await.unwrap();
    four.publish("nowhere/42/telemetry/rpm", 1, 1, b"1850").unwrap();
    four.flush().await.unwrap();
    assert!(is_closed(&mut four).await);
    assert_eq!(proxy.metric(&["refusals_total", "no_such_topic"]), 8.0);
    for name in ["nowhere", "nowhere-else"] {
        assert_eq!(lines("does not exist", name), 1, "{}", proxy.log());
    }
    // It is created: nobody has to restart anything.
    kafka.topic("nowhere", 1);
    let start = Instant::now();
    while told(&mut five, "nowhere", 1, 5).await != Event::PubAck(5, 0) {
        assert!(start.elapsed() < DEADLINE, "the new topic is not found");
    }
}

/// What cannot be finished does not hold the process up: it leaves within its bound, and acknowledges nothing that Kafka did not.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_kafka_is_paused_is_bounded() {
    let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap();
    kafka.topic("stuck", 1);
    let mut proxy = Proxy::start(&kafka.bootstrap, &rule("stuck"), "");
    let mut client = Client::connect(proxy.mqtt, Version::V5, "stuck").await.unwrap();
    assert_eq!(told(&mut client, "stuck", 1, 1).await, Event::PubAck(1, 0));
    let _pause = Paused::new(&kafka);
    client.publish("stuck/42/telemetry/rpm", 1, 2, b"1850").unwrap();
    client.flush().await.unwrap();
    eventually("it is in flight", || {
        (proxy.metric(&["messages_total", "to_kafka"]) > 1.0).then_some(())
    });
    let start = Instant::now();
    let ended = tokio::task::spawn_blocking(move || proxy.terminate());
    assert_eq!(client.next_within(DEADLINE).await.unwrap(), Event::Disconnect(0x8b));
    assert_eq!(ended.await.unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}
