//! Three brokers of which one after the other is killed, paused and restarted, and whose controller moves, while devices publish and
//! subscribe: nothing that was acknowledged is lost, nothing comes twice, and each client's messages keep their order, in Kafka and
//! at the subscribers.
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

/// The most that an answer may come later than the new leaders, on a machine that is busy with their elections.
const HEIR_BOUND: Duration = Duration::from_secs(5);

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
            receive_maximum: None,
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

    /// The slowest answer since this was last asked.
    fn slowest(&self) -> Duration {
        Duration::from_micros(self.progress.slowest.swap(0, Relaxed))
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

fn active_controller(kafka: &Kafka) -> String {
    kafka.command(&["controller"]).trim().to_owned()
}

/// Waits until messages were answered since `before`.
fn flows_again(siege: &Siege, what: &str) {
    let before = siege.done();
    eventually(what, || (siege.done() > before + 500).then_some(()));
}

/// Watches for the moment when all that `node` led has other leaders; gives how long that took. It asks the other brokers.
fn heirs_of(kafka: &Kafka, node: &str, topic: &'static str) -> std::thread::JoinHandle<Duration> {
    let index = node.parse::<usize>().unwrap() - 1;
    let others = kafka.bootstrap.split(',').enumerate().filter(|(at, _)| *at != index);
    let others = others.map(|(_, address)| address).collect::<Vec<_>>().join(",");
    let (led_by_it, led_by_none) = (format!("leader {node},"), "leader -1,");
    let since = Instant::now();
    std::thread::spawn(move || {
        eventually("all partitions have other leaders", || {
            let text = output("kcat", &["-L", "-b", &others, "-t", topic]);
            let waits = text.contains(&led_by_it) || text.contains(led_by_none);
            (!waits && text.contains("leader ")).then(|| since.elapsed())
        })
    })
}

/// Prints how long it took until the cluster had new leaders, and the slowest answer to a device: what is longer is the proxy's doing.
fn tell_stall(siege: &Siege, what: &str, heirs: std::thread::JoinHandle<Duration>) {
    let (heirs, slowest) = (heirs.join().unwrap(), siege.slowest());
    println!("{what}: all had new leaders after {heirs:.1?}, slowest PUBACK {slowest:.1?}");
    assert!(slowest < heirs + HEIR_BOUND, "{what}: {slowest:?}, new leaders after {heirs:?}");
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
            let heirs = heirs_of(&kafka, node, "siege");
            flows_again(&siege, "messages flow while a broker is dead");
            kafka.command(&["start"]);
            in_sync(&kafka, "siege");
            tell_stall(&siege, &format!("broker {node} killed"), heirs);
        }
        // It leads partitions, too: leaders move by a new controller, and the former one wakes up with old ideas.
        let controller = active_controller(&kafka);
        kafka.command(&["pause", &controller]);
        let heirs = heirs_of(&kafka, &controller, "siege");
        // The pause is the weather: longer than `broker.session.timeout.ms`, so that what it leads moves.
        std::thread::sleep(Duration::from_secs(pause));
        flows_again(&siege, "messages flow while the controller is paused");
        assert_ne!(active_controller(&kafka), controller, "the controller moved");
        kafka.command(&["resume", &controller]);
        flows_again(&siege, "messages flow after a pause");
        in_sync(&kafka, "siege");
        tell_stall(&siege, &format!("controller {controller} paused for {pause} s"), heirs);
        let rolling = if is_long() { &["1", "2", "3"][..] } else { &["2"][..] };
        for node in rolling {
            kafka.command(&["restart", node]);
            in_sync(&kafka, "siege");
            println!("broker {node} restarted: slowest PUBACK {:.1?}", siege.slowest());
        }
    }
    runtime.block_on(siege.account(&kafka, "siege", "killed, paused, restarted"));
}

/// Kilobytes of memory that a process holds.
pub fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time that a process has used, in ticks of 10 ms.
pub fn ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Kafka is stopped under full load for longer than requests wait for their answers. The windows of all devices together are larger
/// than the producer's memory, so sockets must be held back.
#[test]
fn with_kafka_away_memory_is_bounded_and_all_goes_on_within_two_seconds_of_its_return() {
    const BUDGET: f64 = 4.0 * 1024.0 * 1024.0;
    let kafka = Kafka::start();
    kafka.topic("away", 6);
    let proxy = Proxy::start(
        &kafka.bootstrap,
        &rule("away"),
        ", producer: {delivery_timeout: 5m, memory: 4MiB, batch_size: 64KiB}",
    );
    let load = Load {
        payload: 8_000,
        patience: 2 * DEADLINE,
        ..crowd(proxy.mqtt, "away", 100, if is_long() { 6_000 } else { 1_000 })
    };
    let (runtime, progress) = (Runtime::new().unwrap(), Arc::new(Progress::default()));
    let publishers = runtime.spawn({
        let (load, progress) = (load.clone(), Arc::clone(&progress));
        async move { run(&load, &progress).await }
    });
    let done = || progress.done.load(Relaxed);
    eventually("messages flow", || (done() > 5_000).then_some(()));
    kafka.command(&["pause", "1"]);
    let (before, ticks_before) = (resident(proxy.id()), ticks(proxy.id()));
    let away = Instant::now();
    let (mut most_used, mut most_resident) = (0.0_f64, before);
    while away.elapsed() < Duration::from_secs(if is_long() { 60 } else { 15 }) {
        most_used = most_used.max(proxy.metric(&["kafka_memory_used_bytes"]));
        most_resident = most_resident.max(resident(proxy.id()));
        // Between two looks. Kafka is away for all of this loop, and what it may not cost must hold at each.
        std::thread::sleep(Duration::from_millis(100));
    }
    let busy = Duration::from_millis(10 * (ticks(proxy.id()) - ticks_before));
    assert!(
        busy < away.elapsed() / 5,
        "{busy:?} of processor time while there was nothing to do"
    );
    let stuck = done();
    kafka.command(&["resume", "1"]);
    let back = Instant::now();
    eventually("an answer after Kafka's return", || (done() > stuck).then_some(()));
    let recovery = back.elapsed();
    println!(
        "Kafka away: {:.1} of {:.1} MiB of the budget used, {} KiB more resident, first PUBACK {recovery:.0?} after its return",
        most_used / 1_048_576.0,
        BUDGET / 1_048_576.0,
        most_resident - before
    );
    assert!(most_used > BUDGET / 2.0 && most_used <= BUDGET, "{most_used}");
    assert!(
        most_resident - before < 32 * 1024,
        "{before} KiB before, {most_resident} KiB while Kafka was away"
    );
    assert!(recovery < Duration::from_secs(2), "{recovery:?}");
    let report = runtime.block_on(publishers).unwrap().unwrap();
    assert_eq!((report.acknowledged, report.refused), (u64::from(load.clients) * load.messages, 0));
    ledger::read_topic(&kafka.bootstrap, "away")
        .unwrap()
        .exact(load.clients, load.messages)
        .unwrap();
}
