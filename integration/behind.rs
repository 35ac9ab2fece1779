//! Subscribers that cannot keep up, among many that can: the others see nothing of it, those behind get everything in order, and the
//! proxy's memory stays small.

use crate::chaos::{is_long, resident};
use crate::load::publish::{Load, Progress, run};
use crate::load::subscribe::{Audience, Received, seat};
use crate::load::{client::Version, ledger};
use crate::publish::{crowd, rule};
use crate::shared_kafka;
use crate::stage::{DEADLINE, Proxy, eventually};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

fn audience(proxy: &Proxy, topic: &str, clients: u32, name: &str, receive_maximum: Option<u16>) -> Audience {
    Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients,
        filter: format!("{topic}/+/telemetry/#"),
        qos: 1,
        receive_maximum,
        name: format!("{topic}-{name}-"),
        patience: DEADLINE,
    }
}

/// Each got each message once and in order.
fn assert_exact(received: &[Received], clients: u32, messages: u64) {
    for one in received {
        one.ledger.exact(clients, messages).unwrap();
    }
}

fn p99_ms(received: &[Received]) -> f64 {
    let mut all = received[0].latency.clone();
    received[1..].iter().for_each(|one| all.add(&one.latency).unwrap());
    all.value_at_quantile(0.99) as f64 / 1000.0
}

type Run = JoinHandle<std::io::Result<Vec<Received>>>;

#[test]
fn a_tenth_of_the_subscribers_is_stuck_and_the_others_do_not_notice() {
    let kafka = shared_kafka();
    kafka.topic("seats", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("seats"), "");
    let (all, seconds) = if is_long() { (1_000, 60) } else { (300, 10) };
    let (stuck, rate) = (all / 10, 25_u32);
    let runtime = Runtime::new().unwrap();
    let load = Load {
        payload: 4_000,
        rate: Some(f64::from(rate)),
        ..crowd(proxy.mqtt, "seats", 5, u64::from(rate) * seconds / 5)
    };
    let total = u64::from(load.clients) * load.messages;
    let (moving, waiting) = runtime.block_on(async {
        let moving = seat(&audience(&proxy, "seats", all - stuck, "moving", None)).await.unwrap();
        // They take ten messages and do not acknowledge them, until all has been sent.
        let waiting = seat(&audience(&proxy, "seats", stuck, "stuck", Some(10))).await.unwrap();
        let moving: Run = tokio::spawn(moving.receive(total));
        (moving, waiting)
    });
    let before = resident(proxy.id());
    let publishers = runtime.spawn(async move { run(&load, &Arc::new(Progress::default())).await });
    let mut most = before;
    while !publishers.is_finished() {
        most = most.max(resident(proxy.id()));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(runtime.block_on(publishers).unwrap().unwrap().acknowledged, total);
    let moved = runtime.block_on(moving).unwrap().unwrap();
    assert_exact(&moved, 5, total / 5);
    let behind = proxy.metric(&["subscribers_behind"]);
    let start = Instant::now();
    let released = runtime.block_on(waiting.receive(total)).unwrap();
    assert_exact(&released, 5, total / 5);
    println!(
        "stuck: {} subscribers got {total} messages each, p99 {:.1} ms; {behind} were behind and got the same in {:.1?}; {} KiB more resident",
        moved.len(),
        p99_ms(&moved),
        start.elapsed(),
        most - before,
    );
    assert!(behind >= f64::from(stuck), "{behind} of {stuck} are behind");
    assert!(most - before < 64 * 1024, "{before} KiB before, {most} KiB with {stuck} stuck");
    eventually("all are at the tail", || {
        (proxy.metric(&["subscribers_behind"]) == 0.0).then_some(())
    });
}

#[test]
fn one_far_behind_moves_at_the_speed_of_its_own_acknowledgements() {
    let kafka = shared_kafka();
    kafka.topic("alone", 1);
    let proxy = Proxy::start(&kafka.bootstrap, &rule("alone"), "");
    let each: u64 = if is_long() { 20_000 } else { 1_000 };
    let runtime = Runtime::new().unwrap();
    let load = crowd(proxy.mqtt, "alone", 50, each);
    let total = u64::from(load.clients) * each;
    let slow = runtime.block_on(seat(&audience(&proxy, "alone", 1, "slow", Some(10)))).unwrap();
    let progress = Arc::new(Progress::default());
    let report = runtime.block_on(run(&load, &progress)).unwrap();
    assert_eq!((report.acknowledged, progress.done.load(Relaxed)), (total, total));
    eventually("it is behind", || (proxy.metric(&["subscribers_behind"]) == 1.0).then_some(()));
    let (fetched, start) = (proxy.metric(&["kafka_fetched_bytes"]), Instant::now());
    let received = runtime.block_on(slow.receive(total)).unwrap();
    let (time, read) = (start.elapsed(), proxy.metric(&["kafka_fetched_bytes"]) - fetched);
    assert_exact(&received, 50, each);
    let written = proxy.metric(&["kafka_produced_bytes"]);
    println!(
        "far behind: {total} messages with a receive maximum of 10 in {time:.1?}, {:.0} a second; {:.1} times their bytes were read",
        total as f64 / time.as_secs_f64(),
        read / written,
    );
    assert!(read < 3.0 * written, "{written} bytes written, {read} read");
    ledger::read_topic(&kafka.bootstrap, "alone").unwrap().exact(50, each).unwrap();
}
