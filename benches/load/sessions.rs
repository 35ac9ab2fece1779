//! The session scenario: how long a takeover and a return take from CONNECT to CONNACK, how long a fleet needs to come back to a fresh
//! instance, and what a million stored sessions cost an instance that starts.

use crate::load::client::Client;
use crate::load::publish::epoch;
use crate::measure::{Outcome, memory};
use crate::stage::{Kafka, Proxy};
use hdrhistogram::Histogram;
use mqtt_kafka_proxy::kafka::{Compression, RecordFields};
use mqtt_kafka_proxy::mapping::partition_for_key;
use mqtt_kafka_proxy::ownership::{Body, Claim, NewRecord, State};
use mqtt_kafka_proxy::upstream::{AppendError, Appender, Cluster, ProducerSettings, Receipts, Settings, Topic, TopicState, WriteOptions};
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Takeovers and returns that are timed.
const TIMES: u64 = 1000;
/// A fleet that comes back at once.
const FLEET: usize = 10_000;
/// Of the fleet so many connect at a time.
const AT_A_TIME: usize = 500;
/// Sessions of the topic that an instance starts with.
const STORED: u64 = 1_000_000;
/// How long they stay, seconds.
const EXPIRY: u32 = 3600;
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of a batch of stored sessions, before compression, which instances do not use: a few records, as those of clients that come and go
/// at different times.
const BATCH: usize = 1024;
/// Of the stored sessions every so many-th comes back.
const EVERY: u64 = 100;

/// Runs it, prints the figures, and tells which goals were missed.
pub fn run(runtime: &Runtime, kafka: &Kafka) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut shapes = Vec::new();
    kafka.topic("vehicle-commands", 6);
    let (a, b) = (instance(kafka, "bench-sessions"), instance(kafka, "bench-sessions"));
    for (what, leave) in [("takeover", false), ("return", true)] {
        let times = runtime.block_on(hops([a.mqtt, b.mqtt], what, leave))?;
        told(&format!("{what} to another instance"), &times);
        outcome.goal(what, "p50, ms", times.value_at_quantile(0.5) as f64 / 1e3, 10.0);
        outcome.goal(what, "p99, ms", times.value_at_quantile(0.99) as f64 / 1e3, 50.0);
        shapes.push(shape(what, &times, ""));
    }
    runtime.block_on(fleet(a.mqtt, false))?;
    drop((a, b));
    let fresh = instance(kafka, "bench-sessions");
    let since = Instant::now();
    let storm = runtime.block_on(fleet(fresh.mqtt, true))?;
    let seconds = since.elapsed().as_secs_f64();
    told(
        &format!("{FLEET} return to a fresh instance, {AT_A_TIME} at a time, in {seconds:.1} s"),
        &storm,
    );
    outcome.goal("claim storm", "s", seconds, 10.0);
    shapes.push(shape("claim storm", &storm, &format!(", \"seconds\": {seconds:.2}")));
    drop(fresh);
    shapes.push(million(runtime, kafka, &mut outcome)?);
    outcome.json = format!("[\n{}\n]", shapes.join(",\n"));
    Ok(outcome)
}

impl Outcome {
    fn goal(&mut self, what: &str, unit: &str, is: f64, most: f64) {
        if is > most {
            self.missed.push(format!("{what}: {is:.2} {unit}, the goal is {most}"));
        }
    }
}

fn instance(kafka: &Kafka, topic: &str) -> Proxy {
    let rule = "  - {name: commands, direction: subscribe, mqtt: \"vehicles/{key}/commands\", kafka: {topic: vehicle-commands}, qos: 1}";
    Proxy::start(
        &kafka.bootstrap,
        &format!("{rule}\nsessions: {{expiry: {{max: 1h}}}}\nlimits: {{connect_rate: 100000/s}}"),
        &format!(", topics: {{sessions: {topic}, retained: {topic}-retained, partitions: 16, replication: 1}}"),
    )
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("the bounds of the histogram are legal")
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_micros() as u64);
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Prints it, with a bar for each doubling.
fn told(what: &str, histogram: &Histogram<u64>) {
    println!(
        "{what}: {} times, CONNECT to CONNACK p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        histogram.len(),
        millis(histogram.value_at_quantile(0.5)),
        millis(histogram.value_at_quantile(0.99)),
        millis(histogram.max())
    );
    for (upto, count) in doublings(histogram) {
        let bar = "#".repeat((60 * count).div_ceil(histogram.len().max(1)) as usize);
        println!("  up to {:>8.2} ms {count:>7} {bar}", millis(upto));
    }
}

/// Those that have some: the largest value of each, and how many are in it.
fn doublings(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let steps = histogram.iter_log(250, 2.0);
    steps
        .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn shape(what: &str, histogram: &Histogram<u64>, more: &str) -> String {
    let mut buckets = String::new();
    for (upto, count) in doublings(histogram) {
        let _ = write!(buckets, "{}[{upto}, {count}]", if buckets.is_empty() { "" } else { ", " });
    }
    format!(
        "  {{\"what\": \"{what}\", \"count\": {}, \"p50_us\": {}, \"p99_us\": {}, \"max_us\": {}, \"buckets_us\": [{buckets}]{more}}}",
        histogram.len(),
        histogram.value_at_quantile(0.5),
        histogram.value_at_quantile(0.99),
        histogram.max()
    )
}

/// One client after the other comes to the other instance, with a subscription: it leaves before, or is there and is taken over.
async fn hops(at: [SocketAddr; 2], name: &str, leave: bool) -> io::Result<Histogram<u64>> {
    let mut times = histogram();
    let mut there = Vec::new();
    for client in 0..TIMES / 10 {
        let (mut connection, ..) = Client::resume(at[0], &format!("{name}-{client}"), EXPIRY).await?;
        connection.subscribe(&format!("vehicles/{name}-{client}/commands"), 1).await?;
        there.push(Some(connection));
    }
    for round in 1..=10 {
        for (client, former) in there.iter_mut().enumerate() {
            if leave && let Some(connection) = former.take() {
                connection.goodbye().await?;
            }
            let (connection, present, took) = Client::resume(at[round % 2], &format!("{name}-{client}"), EXPIRY).await?;
            if !present {
                return Err(io::Error::other(format!("a session was lost in a {name}")));
            }
            record(&mut times, took);
            *former = Some(connection);
        }
    }
    Ok(times)
}

/// The whole fleet connects; with one subscription each, which those have that come back.
async fn fleet(at: SocketAddr, back: bool) -> io::Result<Histogram<u64>> {
    let mut workers = JoinSet::new();
    for first in 0..AT_A_TIME {
        workers.spawn(async move {
            let mut times = histogram();
            for client in (first..FLEET).step_by(AT_A_TIME) {
                let took = timeout(PATIENCE, member(at, client, back)).await??;
                record(&mut times, took);
            }
            Ok::<_, io::Error>(times)
        });
    }
    let mut times = histogram();
    while let Some(worker) = workers.join_next().await {
        times.add(worker??).expect("both histograms have the same bounds");
    }
    Ok(times)
}

async fn member(at: SocketAddr, client: usize, back: bool) -> io::Result<Duration> {
    let (mut connection, present, took) = Client::resume(at, &format!("fleet-{client}"), EXPIRY).await?;
    if present != back {
        return Err(io::Error::other(format!("a session was present: {present}")));
    }
    if !back {
        connection.subscribe(&format!("vehicles/{client}/commands"), 1).await?;
    }
    connection.goodbye().await?;
    Ok(took)
}

/// An instance starts where a million sessions are stored.
fn million(runtime: &Runtime, kafka: &Kafka, outcome: &mut Outcome) -> io::Result<String> {
    let mut empty = instance(kafka, "bench-million");
    let before = memory(empty.id())?;
    // It leaves the group of instances: one that is killed is waited for until `instance_timeout` by who joins then.
    empty.terminate();
    runtime.block_on(fill(&kafka.bootstrap, "bench-million"))?;
    let since = Instant::now();
    let proxy = instance(kafka, "bench-million");
    let last = format!("stored-{}", STORED - 1);
    let (client, present, _) = runtime.block_on(until_served(proxy.mqtt, &last))?;
    let seconds = since.elapsed().as_secs_f64();
    if !present {
        return Err(io::Error::other("a stored session was not found"));
    }
    drop(client);
    let index = index_bytes(&proxy)?;
    let grown = memory(proxy.id())?.saturating_sub(before);
    println!(
        "{STORED} stored sessions: {seconds:.1} s from start to the first CONNACK with one of them; index {:.1} MB; the process {:.1} MB larger",
        index / 1e6,
        grown as f64 / 1e6
    );
    // Most lie where only Kafka has them.
    let times = runtime.block_on(scattered(proxy.mqtt))?;
    told("of them return, each hundredth", &times);
    outcome.goal("a million stored: start", "s", seconds, 10.0);
    outcome.goal("a million stored: index", "MB", index / 1e6, 96.0);
    let more = format!(", \"stored\": {STORED}, \"start_seconds\": {seconds:.2}, \"index_bytes\": {index}, \"stored_bytes\": {grown}");
    Ok(shape("return of one that was stored long ago", &times, &more))
}

async fn scattered(at: SocketAddr) -> io::Result<Histogram<u64>> {
    let mut times = histogram();
    for number in (0..STORED).step_by(EVERY as usize) {
        let (connection, present, took) = Client::resume(at, &format!("stored-{number}"), EXPIRY).await?;
        if !present {
            return Err(io::Error::other("a stored session was not found"));
        }
        record(&mut times, took);
        connection.goodbye().await?;
    }
    Ok(times)
}

/// What the index takes, once the metrics have heard of all sessions.
fn index_bytes(proxy: &Proxy) -> io::Result<f64> {
    let since = Instant::now();
    while proxy.metric(&["proxy_stored_sessions "]) < STORED as f64 {
        if since.elapsed() > PATIENCE {
            return Err(io::Error::other("the metrics do not know of all sessions"));
        }
        // The interval of this bounded poll.
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(proxy.metric(&["stored_sessions_index_bytes"]))
}

/// Until the instance has read the topic it refuses stored sessions.
async fn until_served(at: SocketAddr, client: &str) -> io::Result<(Client, bool, Duration)> {
    let since = Instant::now();
    loop {
        match Client::resume(at, client, EXPIRY).await {
            // The interval of this bounded poll.
            Err(_) if since.elapsed() < PATIENCE => tokio::time::sleep(Duration::from_millis(20)).await,
            told => return told,
        }
    }
}

/// Writes sessions as instances write them whose clients have left.
async fn fill(bootstrap: &str, name: &str) -> io::Result<()> {
    let cluster = Cluster::start(Settings {
        bootstrap_servers: vec![bootstrap.to_owned()],
        producer: ProducerSettings {
            batch_size: BATCH,
            ..ProducerSettings::default()
        },
        ..Settings::default()
    });
    let TopicState::Ready(topic) = cluster.topic_known(name).await else {
        return Err(io::Error::other(format!("no topic {name}")));
    };
    let mut appender = cluster.appender();
    let notify = Arc::new(Notify::new());
    let receipts = Receipts::new(Arc::clone(&notify));
    let now = epoch().as_millis() as u64;
    let mut next_offset = vec![0; topic.partitions.len()];
    let mut body = Body::fresh(now);
    body.expiry = EXPIRY;
    let state = State::Goes(Box::new(body));
    for number in 0..STORED {
        let client = format!("stored-{number}");
        let partition = partition_for_key(client.as_bytes(), topic.partitions.len() as u32) as usize;
        let claim = next_offset[partition];
        next_offset[partition] += 2;
        let fault = |fault| io::Error::other(format!("{fault:?}"));
        let claimed = Claim::new("bench", number, now).record(&client).map_err(fault)?;
        let stored = state.record(&client, claim, 1, "bench").map_err(fault)?;
        for record in [claimed, stored] {
            append(&mut appender, &topic, partition, &record, &receipts).await?;
        }
    }
    appender.kick();
    cluster.shutdown().await;
    Ok(())
}

async fn append(appender: &mut Appender, topic: &Topic, partition: usize, record: &NewRecord, receipts: &Arc<Receipts>) -> io::Result<()> {
    let fields = RecordFields {
        timestamp: epoch().as_millis() as i64,
        key: Some(record.key.as_bytes()),
        value: record.value.as_deref(),
        headers: record.headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))),
    };
    loop {
        let options = WriteOptions {
            compression: Some(Compression::None),
            ..WriteOptions::default()
        };
        match appender.append(topic, partition, &fields, options, Some((receipts, 0))) {
            Ok(()) => return Ok(()),
            Err(AppendError::MemoryFull) => appender.memory_available().await,
            Err(error) => return Err(io::Error::other(format!("{error:?}"))),
        }
    }
}
