//! Kafka is away under full load: memory stays within the budget, sockets are held back, nothing is lost, and all goes on soon after its return.

use crate::chaos::is_long;
use crate::load::ledger;
use crate::load::publish::{Load, Progress, run};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Kafka, Proxy, eventually};
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
