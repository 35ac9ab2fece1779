//! What an idle connection costs: the resident memory of the proxy with more and more devices that have said CONNECT, and nothing since.

use crate::devices::{Device, Shake, TLS12, TLS13, Wire};
use crate::measure::{Outcome, memory};
use crate::stage::{Kafka, Proxy, eventually};
use std::io;
use std::net::SocketAddr;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Devices whose memory is looked at; a process has 20,000 descriptors on most machines.
const STEPS: [usize; 3] = [2_000, 10_000, 18_000];
const AT_A_TIME: usize = 64;
const RULES: &str = "  - {name: telemetry, mqtt: \"vehicles/+/telemetry/#\", kafka: {topic: vehicle-telemetry}}\n\
                     limits: {connect_rate: 1000000/s}";

/// Prints the slope for each kind of connection, and tells which are too steep.
pub fn run(runtime: &Runtime, kafka: &Kafka) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut figures = Vec::new();
    println!("\nidle connections: resident memory of the proxy");
    for (what, shake, goal) in [
        ("plain", Shake::Plain, 3.0),
        ("TLS 1.2", Shake::Full(TLS12), 16.0),
        ("TLS 1.3", Shake::Full(TLS13), 16.0),
    ] {
        let proxy = Proxy::start(&kafka.bootstrap, RULES, "");
        let resident = fill(runtime, &proxy, shake)?;
        let grown = resident[2].saturating_sub(resident[0]) as f64;
        let each = grown / 1024.0 / (STEPS[2] - STEPS[0]) as f64;
        let kib = resident.map(|bytes| bytes / 1024);
        println!("{what:<8} {each:>6.2} KiB each (goal {goal}); KiB with {STEPS:?}: {kib:?}");
        figures.push(format!(
            "  {{\"what\": \"{what}\", \"goal_kib\": {goal}, \"kib\": {each:.3}, \"resident_kib\": {kib:?}}}"
        ));
        if each > goal {
            outcome.missed.push(format!("idle, {what}: {each:.2} KiB, the goal is {goal}"));
        }
    }
    outcome.json = format!("[\n{}\n]", figures.join(",\n"));
    Ok(outcome)
}

/// The resident memory at each step.
fn fill(runtime: &Runtime, proxy: &Proxy, shake: Shake) -> io::Result<[u64; STEPS.len()]> {
    let at = if matches!(shake, Shake::Plain) { proxy.mqtt } else { proxy.tls };
    let (mut seated, mut resident) = (Vec::new(), [0; STEPS.len()]);
    for (step, resident) in STEPS.into_iter().zip(&mut resident) {
        let new = runtime.block_on(come(at, shake, seated.len()..step))?;
        seated.extend(new);
        eventually("all are counted", || {
            (proxy.metric(&["proxy_connections{"]) == step as f64).then_some(())
        });
        *resident = memory(proxy.id())?;
    }
    Ok(resident)
}

async fn come(at: SocketAddr, shake: Shake, numbers: std::ops::Range<usize>) -> io::Result<Vec<Wire>> {
    let mut workers = JoinSet::new();
    for worker in 0..AT_A_TIME {
        let numbers = numbers.clone().skip(worker).step_by(AT_A_TIME);
        workers.spawn(async move {
            let mut wires = Vec::new();
            for number in numbers {
                wires.push(Device::new(number, shake)?.come(at).await?);
            }
            Ok::<_, io::Error>(wires)
        });
    }
    let wires = workers.join_all().await.into_iter().collect::<io::Result<Vec<_>>>()?;
    Ok(wires.into_iter().flatten().collect())
}
