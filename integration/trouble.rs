//! What must hold when something is wrong: Kafka paused or away, a client that talks nonsense, the end of the process.

use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Progress, run};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base, root};
use crate::{alone_with_kafka, shared_kafka};
use std::process::Command;
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
    let (status, why) = eventually("an answer of /readyz", || proxy.get("/readyz").ok());
    assert_eq!(status, 503);
    assert!(why.contains(&format!("127.0.0.1:{base}")), "the reason names the server: {why}");
    assert_eq!(proxy.get("/healthz").unwrap().0, 200);

    let kafka = Kafka::start_on(base, 1);
    kafka.topic("late", 1);
    eventually("ready after Kafka came", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
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

#[test]
fn a_port_that_is_taken_is_told_in_one_line_with_an_exit_code() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let text = format!(
        "listeners: [{{name: tcp, address: \"{address}\", protocol: mqtt}}]\n\
         kafka: {{bootstrap_servers: [\"127.0.0.1:1\"]}}\nrules:\n{}\n",
        rule("any")
    );
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("proxy.yaml");
    std::fs::write(&settings, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"))
        .args(["run", "-c"])
        .arg(&settings)
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        matches!(output.status.code(), Some(code) if code != 0 && code != 101),
        "{}\n{errors}",
        output.status
    );
    assert_eq!(errors.lines().filter(|line| line.contains(&address)).count(), 1, "{errors}");
}
