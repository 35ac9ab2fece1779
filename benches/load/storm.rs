//! The connect storm: what a plain CONNECT, a whole TLS handshake and a resumed one cost the proxy, each with CONNECT, CONNACK and the end
//! of the connection.
//!
//! Devices come one after the other, some at a time. The kinds take turns in each round, so that whatever else the machine does hits all of
//! them. Counted is the CPU time (user and system) of the proxy's process.

use crate::devices::{Device, Shake, TLS12, TLS13};
use crate::measure::{Outcome, Run, cpu, median, ratio, runs_json};
use crate::stage::{Kafka, Proxy, eventually};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Devices that come at the same time.
const AT_A_TIME: usize = 64;
const RULES: &str = "  - {name: telemetry, mqtt: \"vehicles/+/telemetry/#\", kafka: {topic: vehicle-telemetry}}\n\
                     limits: {connect_rate: 1000000/s}";

/// One way to come.
struct Kind {
    what: &'static str,
    /// So many for each second of the proxy's CPU.
    goal: f64,
    at: SocketAddr,
    devices: Vec<Device>,
    runs: Vec<Run>,
}

/// Runs all rounds, prints the table, and tells which goals were missed.
pub fn run(runtime: &Runtime, kafka: &Kafka, rounds: usize, seconds: f64) -> io::Result<Outcome> {
    let proxy = Proxy::start(&kafka.bootstrap, RULES, "");
    let mut kinds = [
        Kind::new("plain", 10_000.0, proxy.mqtt, Shake::Plain)?,
        Kind::new("TLS 1.2", 1_500.0, proxy.tls, Shake::Full(TLS12))?,
        Kind::new("TLS 1.2 resumed", 4_000.0, proxy.tls, Shake::Resumed(TLS12))?,
        Kind::new("TLS 1.3", 1_500.0, proxy.tls, Shake::Full(TLS13))?,
        Kind::new("TLS 1.3 resumed", 4_000.0, proxy.tls, Shake::Resumed(TLS13))?,
    ];
    for kind in &mut kinds {
        // Warms up, and brings the first tickets.
        runtime.block_on(kind.storm(1))?;
    }
    for round in 1..=rounds {
        for kind in &mut kinds {
            // As many as fill the time of one core if they cost what they may.
            let each = (kind.goal * seconds / AT_A_TIME as f64).ceil() as usize;
            eprintln!("{}, round {round} of {rounds}, {} connections", kind.what, each * AT_A_TIME);
            kind.round(runtime, &proxy, each)?;
        }
    }
    println!("\nCONNECT to the end, {AT_A_TIME} at a time, {rounds} rounds, medians; CPU of the proxy");
    print!("{}", table(&kinds));
    Ok(Outcome {
        json: json(&kinds),
        missed: kinds.iter().filter_map(Kind::missed).collect(),
    })
}

impl Kind {
    fn new(what: &'static str, goal: f64, at: SocketAddr, shake: Shake) -> io::Result<Self> {
        let devices = (0..AT_A_TIME).map(|number| Device::new(number, shake)).collect::<io::Result<_>>()?;
        let runs = Vec::new();
        Ok(Self {
            what,
            goal,
            at,
            devices,
            runs,
        })
    }

    fn round(&mut self, runtime: &Runtime, proxy: &Proxy, each: usize) -> io::Result<()> {
        let process = proxy.id().to_string();
        let (before, since) = (cpu(&process)?, Instant::now());
        runtime.block_on(self.storm(each))?;
        let elapsed = since.elapsed();
        eventually("all have left", || (proxy.metric(&["proxy_connections{"]) == 0.0).then_some(()));
        let spent = cpu(&process)?.saturating_sub(before);
        let count = (each * AT_A_TIME) as f64;
        self.runs.push(Run {
            cpu: spent.as_secs_f64() * 1e6 / count,
            rate: count / elapsed.as_secs_f64(),
            ..Run::default()
        });
        Ok(())
    }

    async fn storm(&mut self, each: usize) -> io::Result<()> {
        let mut visits = JoinSet::new();
        for mut device in self.devices.drain(..) {
            let at = self.at;
            visits.spawn(async move {
                for _ in 0..each {
                    device.visit(at).await?;
                }
                Ok::<_, io::Error>(device)
            });
        }
        self.devices = visits.join_all().await.into_iter().collect::<io::Result<_>>()?;
        Ok(())
    }

    /// Connections for each second of CPU.
    fn per_second(&self) -> f64 {
        1e6 / median(&self.runs, |run| run.cpu)
    }

    fn missed(&self) -> Option<String> {
        let reached = self.per_second();
        // What is no number has not been reached.
        (reached.is_nan() || reached < self.goal).then(|| format!("{}: {reached:.0}/s, the goal is {:.0}", self.what, self.goal))
    }
}

fn table(kinds: &[Kind]) -> String {
    let mut text = format!(
        "{:<16} {:>12} {:>17} {:>8} {:>16} {:>8} {:>7}\n",
        "", "CPU µs each", "per second of CPU", "÷ plain", "(least, most)", "each/s", "goal"
    );
    for kind in kinds {
        let (middle, least, most) = ratio(&kind.runs, &kinds[0].runs);
        let _ = writeln!(
            text,
            "{:<16} {:>12.1} {:>17.0} {middle:>8.2} {:>16} {:>8.0} {:>7.0} {}",
            kind.what,
            median(&kind.runs, |run| run.cpu),
            kind.per_second(),
            format!("({least:.2}, {most:.2})"),
            median(&kind.runs, |run| run.rate),
            kind.goal,
            kind.missed().map_or("met", |_| "missed"),
        );
    }
    text
}

fn json(kinds: &[Kind]) -> String {
    let one = |kind: &Kind| {
        format!(
            "  {{\"what\": \"{}\", \"goal_per_cpu_second\": {}, \"per_cpu_second\": {:.0}, \"runs\": {}}}",
            kind.what,
            kind.goal,
            kind.per_second(),
            runs_json(&kind.runs)
        )
    };
    format!("[\n{}\n]", kinds.iter().map(one).collect::<Vec<_>>().join(",\n"))
}
