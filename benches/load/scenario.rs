//! The publish scenario: 100 connections with 16 and with 1 message in flight into the proxy, beside the socket floor that
//! answers after the proxy's own Kafka delay, and beside librdkafka that produces the same records from memory.
//!
//! The three take turns, so whatever else the machine does hits all of them; medians and ratios are the result. Counted is the
//! CPU time (user and system) of each system's process; neither Kafka's nor the generator's own. Judged are ratios, which a busy machine
//! moves little: with 16 in flight the proxy against librdkafka, with one against the floor.

use crate::load::client::Version;
use crate::load::publish::{self, Load, Progress};
use crate::measure::{Outcome, Run, compile, cpu, median, ratio, run_client, runs_json};
use crate::stage::{Kafka, Proxy};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The most CPU time of the proxy for each of librdkafka's, with 16 messages in flight.
const OF_LIBRDKAFKA: f64 = 1.0;
/// The same for each of the floor's, with one.
const OF_FLOOR: f64 = 1.3;
const CLIENTS: u32 = 100;
const PAYLOAD: usize = 100;
const TOPIC: &str = "vehicle-telemetry";
const PARTITIONS: u32 = 6;
const RULES: &str = "  - {name: telemetry, mqtt: \"vehicles/{vin}/telemetry/{sensor}\", \
                     kafka: {topic: vehicle-telemetry, key: \"{vin}\", headers: {sensor: \"{sensor}\"}}}";

/// The three systems with the same number of messages in flight.
struct Shape {
    window: u16,
    proxy: Vec<Run>,
    floor: Vec<Run>,
    rdkafka: Vec<Run>,
    /// What the floor waited before it answered, in microseconds.
    delays: Vec<u64>,
}

/// Runs all rounds, prints the table, and tells which goals were missed.
pub fn run(runtime: &Runtime, kafka: &Kafka, rounds: usize, seconds: f64) -> io::Result<Outcome> {
    let producer = compile("producer")?;
    kafka.topic(TOPIC, PARTITIONS);
    let proxy = Proxy::start(&kafka.bootstrap, RULES, ", producer: {compression: none, linger: 5ms}");
    let mut shapes = Vec::new();
    for window in [16, 1] {
        // The first run warms up and tells how many messages fill the time.
        let warm = load(proxy.mqtt, window, 500);
        let report = runtime.block_on(publish::run(&warm, &Arc::new(Progress::default())))?;
        let messages = (report.sent as f64 / report.elapsed.as_secs_f64() * seconds / f64::from(CLIENTS)).ceil() as u64;
        let mut shape = Shape {
            window,
            proxy: Vec::new(),
            floor: Vec::new(),
            rdkafka: Vec::new(),
            delays: Vec::new(),
        };
        for round in 1..=rounds {
            eprintln!(
                "{window} in flight, round {round} of {rounds}, {} messages",
                messages * u64::from(CLIENTS)
            );
            shape.round(runtime, kafka, &proxy, &producer, messages)?;
        }
        shapes.push(shape);
    }
    let stored = crate::load::ledger::read_topic(&kafka.bootstrap, TOPIC)?;
    println!(
        "\n{CLIENTS} connections, QoS 1, {PAYLOAD} bytes, key, 2 headers, {rounds} rounds, medians; records in Kafka: {}",
        stored.received
    );
    print!("{}", table(&shapes));
    Ok(Outcome {
        json: json(&shapes),
        missed: shapes.iter().filter_map(Shape::missed).collect(),
    })
}

impl Shape {
    fn missed(&self) -> Option<String> {
        let (beside, other, goal) = match self.window {
            1 => ("the socket floor", &self.floor, OF_FLOOR),
            _ => ("librdkafka", &self.rdkafka, OF_LIBRDKAFKA),
        };
        let (middle, ..) = ratio(&self.proxy, other);
        // What is no number has not been reached.
        (middle.is_nan() || middle > goal)
            .then(|| format!("publish, {} in flight: {middle:.2} × {beside}, the goal is {goal}", self.window))
    }

    fn round(&mut self, runtime: &Runtime, kafka: &Kafka, proxy: &Proxy, producer: &str, messages: u64) -> io::Result<()> {
        let before = produce_time(proxy);
        self.proxy
            .push(measure(runtime, proxy.id(), &load(proxy.mqtt, self.window, messages))?);
        let after = produce_time(proxy);
        let delay = ((after.0 - before.0) / (after.1 - before.1).max(1.0) * 1e6) as u64;
        self.delays.push(delay);

        let floor = Floor::start(delay)?;
        self.floor
            .push(measure(runtime, floor.process.id(), &load(floor.address, self.window, messages))?);
        drop(floor);

        let total = (messages * u64::from(CLIENTS)).to_string();
        let (clients, window, size) = (
            CLIENTS.to_string(),
            (CLIENTS * u32::from(self.window)).to_string(),
            PAYLOAD.to_string(),
        );
        self.rdkafka.push(run_client(
            producer,
            &[&kafka.bootstrap, TOPIC, &total, &clients, &window, &size, "none"],
        )?);
        Ok(())
    }
}

fn load(address: SocketAddr, window: u16, messages: u64) -> Load {
    Load {
        address,
        version: Version::V4,
        clients: CLIENTS,
        messages,
        qos: 1,
        window,
        payload: PAYLOAD,
        topic: "vehicles/v{}/telemetry/rpm".to_owned(),
        name: "bench-".to_owned(),
        rate: None,
        patience: Duration::from_secs(60),
    }
}

fn measure(runtime: &Runtime, process: u32, load: &Load) -> io::Result<Run> {
    let before = cpu(&process.to_string())?;
    let report = runtime.block_on(publish::run(load, &Arc::new(Progress::default())))?;
    if report.acknowledged != u64::from(load.clients) * load.messages {
        return Err(io::Error::other(format!("{report:?}")));
    }
    Ok(Run {
        cpu: (cpu(&process.to_string())? - before).as_secs_f64() * 1e6 / report.sent as f64,
        rate: report.sent as f64 / report.elapsed.as_secs_f64(),
        p50: report.latency.value_at_quantile(0.5),
        p99: report.latency.value_at_quantile(0.99),
    })
}

/// Seconds that Kafka's answers to Produce requests took so far, and their number.
fn produce_time(proxy: &Proxy) -> (f64, f64) {
    (
        proxy.metric(&["kafka_produce_latency", "_sum"]),
        proxy.metric(&["kafka_produce_latency", "_count"]),
    )
}

/// The bare server in a process of its own.
struct Floor {
    process: Child,
    address: SocketAddr,
}

impl Floor {
    fn start(delay: u64) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["floor", "--delays", &delay.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output is a pipe")).read_line(&mut line)?;
        let address = line.trim().parse().map_err(io::Error::other)?;
        Ok(Self { process, address })
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn table(shapes: &[Shape]) -> String {
    let mut text = format!(
        "{:>9} {:<22} {:>12} {:>12} {:>9} {:>9} {:>12}\n",
        "in flight", "system", "CPU µs/msg", "messages/s", "p50 µs", "p99 µs", "proxy ÷ it"
    );
    for shape in shapes {
        let delay = shape.delays[shape.delays.len() / 2];
        let floor = format!("socket floor (+{delay} µs)");
        for (name, runs) in [
            ("mqtt-kafka-proxy", &shape.proxy),
            (floor.as_str(), &shape.floor),
            ("librdkafka", &shape.rdkafka),
        ] {
            let (cpu, rate) = (median(runs, |run| run.cpu), median(runs, |run| run.rate));
            let (p50, p99) = (median(runs, |run| run.p50 as f64), median(runs, |run| run.p99 as f64));
            let (ratio, ..) = ratio(&shape.proxy, runs);
            let _ = writeln!(
                text,
                "{:>9} {name:<22} {cpu:>12.2} {rate:>12.0} {p50:>9.0} {p99:>9.0} {ratio:>12.2}",
                shape.window
            );
        }
    }
    text
}

fn json(shapes: &[Shape]) -> String {
    let each: Vec<String> = shapes
        .iter()
        .map(|shape| {
            format!(
                "  {{\"in_flight\": {}, \"connections\": {CLIENTS}, \"payload\": {PAYLOAD},\n   \"proxy\": {},\n   \"floor\": {},\n   \"floor_delays_us\": {:?},\n   \"librdkafka\": {},\n   \
                 \"proxy_to_floor\": {:.3}, \"proxy_to_librdkafka\": {:.3}}}",
                shape.window,
                runs_json(&shape.proxy),
                runs_json(&shape.floor),
                shape.delays,
                runs_json(&shape.rdkafka),
                ratio(&shape.proxy, &shape.floor).0,
                ratio(&shape.proxy, &shape.rdkafka).0
            )
        })
        .collect();
    format!("[\n{}\n]", each.join(",\n"))
}
