//! Three brokers of which one after the other is killed, paused and restarted while devices publish and subscribe: nothing that
//! was acknowledged is lost, nothing comes twice, and each client's messages keep their order, in Kafka and at the subscribers.
//!
//! The short form runs with the other tests; `make chaos` sets CHAOS and runs the long one.

use crate::load::publish::{Load, Progress, Report, run};
use crate::load::subscribe::{Audience, Received, seat};
use crate::load::{client::Version, ledger};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base, output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// No outcome is given up while a test lasts, and none is waited for longer than a broker may be away.
pub const PATIENT: &str = ", producer: {delivery_timeout: 5m}";

/// Whether the long form was asked for.
pub fn is_long() -> bool {
    std::env::var_os("CHAOS").is_some()
}

/// A hundred devices at a fixed rate and a few subscribers to all of it, until the test has had enough.
pub struct Siege {
    load: Load,
    progress: Arc<Progress>,
    since: Instant,
    publishers: JoinHandle<std::io::Result<Report>>,
    wanted: Arc<AtomicU64>,
    subscribers: JoinHandle<std::io::Result<Vec<Received>>>,
}

impl Siege {
    /// Subscribes, then begins to publish.
    pub async fn begin(proxy: &Proxy, topic: &str, rate: f64) -> Self {
        let load = Load {
            rate: Some(rate),
            patience: 2 * DEADLINE,
            ..crowd(proxy.mqtt, topic, 100, u64::MAX)
        };
        let audience = Audience {
            address: proxy.mqtt,
            version: Version::V5,
            clients: 5,
            filter: format!("{topic}/+/telemetry/#"),
            qos: 1,
            name: format!("{topic}-seat-"),
            patience: 2 * DEADLINE,
        };
        let wanted = Arc::new(AtomicU64::new(u64::MAX));
        let seated = seat(&audience).await.unwrap();
        let subscribers = tokio::spawn(seated.receive_up_to(Arc::clone(&wanted)));
        let progress = Arc::new(Progress::default());
        let publishers = tokio::spawn({
            let (load, progress) = (load.clone(), Arc::clone(&progress));
            async move { run(&load, &progress).await }
        });
        Self {
            load,
            progress,
            since: Instant::now(),
            publishers,
            wanted,
            subscribers,
        }
    }

    /// Messages answered so far.
    pub fn done(&self) -> u64 {
        self.progress.done.load(Relaxed)
    }

    /// Lets all end, and holds the ledgers against what was sent. Prints the counts and the stalls.
    pub async fn account(self, kafka: &Kafka, topic: &str, what: &str) -> Report {
        let clients = self.load.clients;
        let each = self.progress.end_soon(&self.load, self.since);
        self.wanted.store(u64::from(clients) * each, Relaxed);
        let report = self.publishers.await.unwrap().unwrap();
        assert_eq!(
            (report.acknowledged, report.refused, report.answers_out_of_order),
            (u64::from(clients) * each, 0, 0)
        );
        let stored = ledger::read_topic(&kafka.bootstrap, topic).unwrap();
        let millis = |micros: u64| micros as f64 / 1000.0;
        println!(
            "{what}: {} acknowledged; in Kafka {stored}, {} missing; PUBACK p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            report.acknowledged,
            stored.missing(clients, each),
            millis(report.latency.value_at_quantile(0.5)),
            millis(report.latency.value_at_quantile(0.99)),
            millis(report.latency.max()),
        );
        stored.exact(clients, each).unwrap();
        for one in self.subscribers.await.unwrap().unwrap() {
            println!(
                "{what}: a subscriber: {}, {} missing",
                one.ledger,
                one.ledger.missing(clients, each)
            );
            one.ledger.exact(clients, each).unwrap();
        }
        report
    }
}

/// Every partition has all its replicas again: the next broker may go.
fn in_sync(kafka: &Kafka, topic: &str) {
    eventually("all replicas are in sync", || {
        let text = output("kcat", &["-L", "-b", &kafka.bootstrap, "-t", topic]);
        let mut partitions = text.lines().filter(|line| line.contains("isrs:")).peekable();
        partitions.peek()?;
        let whole = |line: &str| line.split("isrs:").nth(1).is_some_and(|isrs| isrs.split(',').count() == 3);
        partitions.all(whole).then_some(())
    });
}

/// Waits until messages were answered since `before`.
fn flows_again(siege: &Siege, what: &str) {
    let before = siege.done();
    eventually(what, || (siege.done() > before + 500).then_some(()));
}

#[test]
fn brokers_that_are_killed_paused_and_restarted_cost_no_message_and_double_none() {
    let kafka = Kafka::start_on(free_base(3), 3);
    kafka.command(&["topic", "siege", "6", "3", "min.insync.replicas=2"]);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("siege"), PATIENT);
    let (rounds, pause) = if is_long() { (3, 20) } else { (1, 6) };
    let runtime = Runtime::new().unwrap();
    let siege = runtime.block_on(Siege::begin(&proxy, "siege", 1_500.0));
    flows_again(&siege, "messages flow");
    for _ in 0..rounds {
        for node in ["1", "2", "3"] {
            kafka.command(&["kill", node]);
            flows_again(&siege, "messages flow while a broker is dead");
            kafka.command(&["start"]);
            in_sync(&kafka, "siege");
        }
        kafka.command(&["pause", "1"]);
        std::thread::sleep(Duration::from_secs(pause));
        kafka.command(&["resume", "1"]);
        flows_again(&siege, "messages flow after a pause");
        in_sync(&kafka, "siege");
        let rolling = if is_long() { &["1", "2", "3"][..] } else { &["2"][..] };
        for node in rolling {
            kafka.command(&["restart", node]);
            in_sync(&kafka, "siege");
        }
    }
    runtime.block_on(siege.account(&kafka, "siege", "killed, paused, restarted"));
}
