//! Kafka is away under full load: memory stays within the budget, sockets are held back, nothing is lost, and all goes on soon after its return.

use crate::chaos::is_long;
use crate::load::ledger;
use crate::load::publish::{Load, Progress, run};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};
use crate::wire::is_led;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

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

/// Connections of a process to a port, that are established.
pub fn connections(process: u32, port: u16) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let held: HashSet<String> = descriptors
        .filter_map(|one| Some(std::fs::read_link(one.ok()?.path()).ok()?.to_str()?.to_owned()))
        .collect();
    let remote = format!(":{port:04X}");
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // The remote address, the state (01 is established) and the inode.
    let theirs = sockets.filter(|of| of[2].ends_with(&remote) && of[3] == "01");
    // A table that changes while it is read may have a line twice.
    let inodes: HashSet<&str> = theirs.map(|of| of[9]).collect();
    inodes
        .into_iter()
        .filter(|inode| held.contains(&format!("socket:[{inode}]")))
        .count()
}

const BUDGET: f64 = 4.0 * 1024.0 * 1024.0;

/// A hundred devices that send as fast as they are answered, and Kafka that goes.
struct Flood {
    kafka: Kafka,
    proxy: Proxy,
    progress: Arc<Progress>,
}

impl Flood {
    fn done(&self) -> u64 {
        self.progress.done.load(Relaxed)
    }

    /// Kafka is away for so long, which costs neither processor time nor more memory than the budget.
    fn suffers(&self, what: &str, length: Duration) {
        let (before, ticks_before) = (resident(self.proxy.id()), ticks(self.proxy.id()));
        let away = Instant::now();
        let (mut most_used, mut most_resident) = (0.0_f64, before);
        while away.elapsed() < length {
            most_used = most_used.max(self.proxy.metric(&["kafka_memory_used_bytes"]));
            most_resident = most_resident.max(resident(self.proxy.id()));
            // Between two looks. Kafka is away for all of this loop, and what it may not cost must hold at each.
            std::thread::sleep(Duration::from_millis(100));
        }
        let busy = Duration::from_millis(10 * (ticks(self.proxy.id()) - ticks_before));
        println!(
            "Kafka {what}: {:.1} of {:.1} MiB of the budget used, {} KiB more resident, {busy:?} of processor time",
            most_used / 1_048_576.0,
            BUDGET / 1_048_576.0,
            most_resident - before
        );
        assert!(
            busy < away.elapsed() / 5,
            "{busy:?} of processor time while there was nothing to do"
        );
        assert!(most_used > BUDGET / 2.0 && most_used <= BUDGET, "{most_used}");
        assert!(
            most_resident - before < 32 * 1024,
            "{before} KiB before, {most_resident} KiB while Kafka was away"
        );
    }

    /// The first answer since `stuck` were done comes within two seconds of Kafka's return.
    fn recovers(&self, what: &str, stuck: u64, returned: impl FnOnce() -> Instant) {
        let back = std::thread::scope(|scope| {
            let first = scope.spawn(|| eventually("an answer after Kafka's return", || (self.done() > stuck).then(Instant::now)));
            let back = returned();
            first.join().unwrap().saturating_duration_since(back)
        });
        println!("Kafka {what}: first PUBACK {back:.0?} after its return");
        assert!(back < Duration::from_secs(2), "{what}: {back:?}");
    }
}

/// Kafka is stopped under full load for longer than requests wait for their answers, and then killed and started anew. The windows of all
/// devices together are larger than the producer's memory, so sockets must be held back.
#[test]
fn with_kafka_away_memory_is_bounded_and_all_goes_on_within_two_seconds_of_its_return() {
    let kafka = Kafka::start();
    kafka.topic("away", 6);
    let settings = ", producer: {delivery_timeout: 5m, memory: 4MiB, batch_size: 64KiB}";
    let proxy = Proxy::start(&kafka.bootstrap, &rule("away"), settings);
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
    let flood = Flood { kafka, proxy, progress };
    eventually("messages flow", || (flood.done() > 5_000).then_some(()));
    flood.kafka.command(&["pause", "1"]);
    flood.suffers("stopped", Duration::from_secs(if is_long() { 60 } else { 15 }));
    let stuck = flood.done();
    flood.recovers("stopped", stuck, || {
        flood.kafka.command(&["resume", "1"]);
        Instant::now()
    });
    eventually("messages flow again", || (flood.done() > stuck + 5_000).then_some(()));

    flood.kafka.command(&["kill", "1"]);
    flood.suffers("killed", Duration::from_secs(if is_long() { 60 } else { 10 }));
    let stuck = flood.done();
    flood.recovers("killed", stuck, || {
        std::thread::scope(|scope| {
            scope.spawn(|| flood.kafka.command(&["start"]));
            let led = || is_led(&flood.kafka.bootstrap, "away").then(Instant::now);
            eventually("its port answers, and it leads all partitions", led)
        })
    });
    let report = runtime.block_on(publishers).unwrap().unwrap();
    assert_eq!((report.acknowledged, report.refused), (u64::from(load.clients) * load.messages, 0));
    ledger::read_topic(&flood.kafka.bootstrap, "away")
        .unwrap()
        .exact(load.clients, load.messages)
        .unwrap();
}
