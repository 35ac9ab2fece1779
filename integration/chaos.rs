//! Three brokers of which one after the other is killed, paused and restarted, whose controller and coordinators move, and that have too few
//! replicas for a while, as devices publish and subscribe: nothing that was acknowledged is lost, nothing comes twice, and each client's
//! messages keep their order, in Kafka and at the subscribers.
//!
//! The short form runs with the other tests; `make chaos` sets CHAOS and runs the long one.

use crate::crew::{Crew, coordinator};
use crate::load::client::{Client, Event, Version};
use crate::load::ledger;
use crate::load::publish::{Load, Progress, Report, run};
use crate::load::subscribe::{Audience, Received, seat};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually, free_base, output};
use std::collections::BTreeMap;
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

/// Devices at a fixed rate and a few subscribers to all of it, until the test has had enough.
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
    pub async fn begin(proxy: &Proxy, topic: &str, clients: u32, rate: f64) -> Self {
        let load = Load {
            rate: Some(rate),
            patience: 2 * DEADLINE,
            ..crowd(proxy.mqtt, topic, clients, u64::MAX)
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
pub fn in_sync(kafka: &Kafka, topic: &str) {
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
pub fn flows_again(siege: &Siege, what: &str) {
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

/// How many partitions of a topic each node leads; those that lead none are missing.
fn leaders(kafka: &Kafka, topic: &str) -> BTreeMap<String, usize> {
    let text = output("kcat", &["-L", "-b", &kafka.bootstrap, "-t", topic]);
    let mut leaders = BTreeMap::new();
    for led in text.split("leader ").skip(1).filter_map(|rest| rest.split(',').next()) {
        *leaders.entry(led.to_owned()).or_default() += 1;
    }
    leaders
}

/// The node that leads most of a topic, but for some.
pub fn busiest(kafka: &Kafka, topic: &str, not: &[String]) -> String {
    let mut leaders = leaders(kafka, topic);
    leaders.retain(|node, _| !not.contains(node));
    let most = leaders.into_iter().max_by_key(|(_, led)| *led);
    most.expect("another leads something").0
}

/// The cluster, the load on it, and who shares a subscription to that.
struct Battle {
    kafka: Kafka,
    siege: Siege,
    crew: Crew,
}

impl Battle {
    /// Every partition has all its replicas again: the next broker may go.
    fn in_sync(&self) {
        in_sync(&self.kafka, "siege");
        in_sync(&self.kafka, "whole");
    }

    /// Kills a node that leads partitions, and starts it again after `meanwhile`.
    fn kill(&self, node: &str, meanwhile: impl FnOnce()) {
        let led = leaders(&self.kafka, "siege")[node];
        self.kafka.command(&["kill", node]);
        let heirs = heirs_of(&self.kafka, node, "siege");
        flows_again(&self.siege, "messages flow while a broker is dead");
        meanwhile();
        self.kafka.command(&["start"]);
        self.in_sync();
        tell_stall(&self.siege, &format!("broker {node} killed, which led {led}"), heirs);
    }

    /// Stops a node for a while that leads partitions, so that those move, and all else that it is; it wakes up with old ideas. Tells
    /// whether the group of the shared subscription lost its coordinator by that.
    fn pause(&self, node: &str, what: &str, seconds: u64) -> bool {
        let coordinated = coordinator(&self.kafka.bootstrap, self.crew.name()).expect("the group has one") == node;
        let led = leaders(&self.kafka, "siege").get(node).copied().unwrap_or(0);
        self.kafka.command(&["pause", node]);
        let heirs = heirs_of(&self.kafka, node, "siege");
        // The pause is the weather: longer than `broker.session.timeout.ms`, so that what it leads moves.
        std::thread::sleep(Duration::from_secs(seconds));
        flows_again(&self.siege, "messages flow while a broker is paused");
        self.crew.goes_on();
        self.kafka.command(&["resume", node]);
        flows_again(&self.siege, "messages flow after a pause");
        self.in_sync();
        let too = if coordinated { " and coordinated the group" } else { "" };
        tell_stall(
            &self.siege,
            &format!("{what} {node} paused for {seconds} s, which led {led}{too}"),
            heirs,
        );
        coordinated
    }

    /// The controller is paused, who coordinates the group, and one that leads partitions and is not the controller.
    fn pauses(&self, seconds: u64) {
        let controller = active_controller(&self.kafka);
        let mut coordinated = self.pause(&controller, "controller", seconds);
        assert_ne!(active_controller(&self.kafka), controller, "the controller moved");
        let mut was_leader = false;
        if !coordinated {
            let node = coordinator(&self.kafka.bootstrap, self.crew.name()).expect("the group has one");
            was_leader = node != active_controller(&self.kafka) && leaders(&self.kafka, "siege").contains_key(&node);
            coordinated = self.pause(&node, "coordinator", seconds);
        }
        assert!(coordinated, "a coordinator was paused");
        if !was_leader {
            let node = busiest(&self.kafka, "siege", &[active_controller(&self.kafka)]);
            self.pause(&node, "leader", seconds);
        }
    }
}

#[test]
fn brokers_that_are_killed_paused_and_restarted_cost_no_message_and_double_none() {
    let kafka = Kafka::start_on(free_base(3), 3);
    kafka.command(&["topic", "siege", "6", "3", "min.insync.replicas=2"]);
    for topic in ["whole", "brief"] {
        kafka.command(&["topic", topic, "1", "3", "min.insync.replicas=3"]);
    }
    let proxy = Proxy::start(&kafka.bootstrap, &rule("siege"), PATIENT);
    // Far less than a debug build carries beside other tests: what waited for new leaders is worked off beside what goes on coming, and a queue
    // that shrinks slowly would be taken for the outage's.
    let (rounds, pause, rate) = if is_long() { (3, 20, 1_500.0) } else { (1, 6, 200.0) };
    let runtime = Runtime::new().unwrap();
    let crew = runtime.block_on(Crew::begin(&proxy, "crew", "siege/+/telemetry/#"));
    let siege = runtime.block_on(Siege::begin(&proxy, "siege", 100, rate));
    let battle = Battle { kafka, siege, crew };
    flows_again(&battle.siege, "messages flow");
    for round in 0..rounds {
        let mut killed = Vec::new();
        while killed.len() < 3 {
            let node = busiest(&battle.kafka, "siege", &killed);
            match (round, killed.len()) {
                (0, 0) => below_min_isr(&battle, &node),
                _ => battle.kill(&node, || ()),
            }
            killed.push(node);
        }
        battle.pauses(pause);
        let rolling = if is_long() { &["1", "2", "3"][..] } else { &["2"][..] };
        for node in rolling {
            battle.kafka.command(&["restart", node]);
            battle.in_sync();
            println!("broker {node} restarted: slowest PUBACK {:.1?}", battle.siege.slowest());
        }
    }
    let Battle { kafka, siege, crew } = battle;
    let report = runtime.block_on(siege.account(&kafka, "siege", "killed, paused, restarted"));
    runtime.block_on(crew.account(report.acknowledged));
}

/// One of three replicas is dead of topics that want all three: their messages wait as long as they may, and then are told so; what waited is
/// written once the replica is back. By instances of their own: while Kafka waits for a replica it answers nothing else on the same connection.
fn below_min_isr(battle: &Battle, node: &str) {
    let bootstrap = &battle.kafka.bootstrap;
    let patient = Proxy::start(bootstrap, &rule("whole"), PATIENT);
    let brief = Proxy::start(bootstrap, &rule("brief"), ", producer: {delivery_timeout: 2s}");
    let runtime = Runtime::new().unwrap();
    let mut device = runtime.block_on(Client::connect(brief.mqtt, Version::V5, "brief")).unwrap();
    let mut told = |id, payload: &[u8]| {
        device.publish("brief/42/telemetry/rpm", 1, id, payload).unwrap();
        runtime.block_on(device.flush()).unwrap();
        runtime.block_on(device.next_within(DEADLINE)).unwrap()
    };
    assert_eq!(told(1, b"before"), Event::PubAck(1, 0));
    let whole = runtime.block_on(Siege::begin(&patient, "whole", 5, 50.0));
    eventually("messages flow", || (whole.done() > 50).then_some(()));
    battle.kill(node, || {
        eventually("Kafka says that there are too few replicas", || {
            let (_, metrics) = patient.get("/metrics").ok()?;
            metrics.contains("NOT_ENOUGH_REPLICAS").then_some(())
        });
        let stuck = whole.done();
        assert_eq!(told(2, b"too few"), Event::PubAck(2, 0x83));
        assert_eq!(whole.done(), stuck, "a PUBACK left while a replica was missing");
    });
    let back = whole.done();
    eventually("what waited is acknowledged", || (whole.done() > back).then_some(()));
    assert_eq!(told(3, b"after"), Event::PubAck(3, 0));
    runtime.block_on(whole.account(&battle.kafka, "whole", "below min ISR"));
    // What was given up had been refused, or had been written before it was: once at the most.
    let written = battle.kafka.consume("brief", "%s");
    assert!(
        written == ["before", "after"] || written == ["before", "too few", "after"],
        "{written:?}"
    );
}
