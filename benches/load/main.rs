//! The load generator's command, and the scenarios of `make bench`.
//!
//! `cargo bench --bench load` runs the scenarios; `cargo bench --bench load -- publish --help` and the other commands
//! load any server. `floor` is the bare server that the proxy's cost is measured against.

#![allow(clippy::unwrap_used)] // a benchmark that cannot go on ends, loudly

mod clients;
mod devices;
mod idle;
#[path = "mod.rs"]
mod load;
#[path = "../../integration/machine.rs"]
#[allow(dead_code)] // Nothing runs beside a benchmark.
mod machine;
mod measure;
mod own;
mod scenario;
mod sessions;
#[path = "../../integration/stage.rs"]
mod stage;
mod storm;

use clap::{Args, Parser, Subcommand};
use load::client::Version;
use load::publish::{Load, Progress, Report};
use load::subscribe::{Audience, seat};
use load::{floor, ledger, publish};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(about = "Load generator of mqtt-kafka-proxy")]
struct Arguments {
    /// Given by cargo; means nothing here.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Many connections publish to a server.
    Publish(PublishArguments),
    /// Many connections subscribe and count.
    Subscribe(SubscribeArguments),
    /// Reads a Kafka topic and tells what was lost, doubled or reordered.
    Verify {
        #[arg(long, default_value = "localhost:9092")]
        kafka: String,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        clients: u32,
        #[arg(long)]
        messages: u64,
    },
    /// A bare server that acknowledges from memory.
    Floor {
        #[arg(long, default_value = "127.0.0.1:0")]
        address: SocketAddr,
        /// Microseconds until each read is acknowledged, taken in turn.
        #[arg(long, value_delimiter = ',')]
        delays: Vec<u64>,
    },
    /// All scenarios (the default), or one: `publish` is the proxy beside the socket floor and librdkafka, `clients` its Kafka client
    /// alone beside librdkafka, `sessions` takeovers, returns and what stored sessions cost, `storm` CONNECTs and TLS handshakes, `idle` the
    /// memory of connections.
    Scenario {
        #[arg(long)]
        only: Option<String>,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Seconds that each of the runs lasts, about.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// The proxy's Kafka client produces as `benches/clients/producer.c` does.
    #[command(hide = true)]
    Produce(own::Produce),
    /// It reads as `benches/clients/consumer.c` does.
    #[command(hide = true)]
    Consume(own::Consume),
}

#[derive(Args)]
struct Target {
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    #[arg(long, default_value_t = 100)]
    clients: u32,
    /// Messages of each connection.
    #[arg(long, default_value_t = 1000)]
    messages: u64,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// MQTT 5 instead of 3.1.1.
    #[arg(long)]
    v5: bool,
}

impl Target {
    fn version(&self) -> Version {
        if self.v5 { Version::V5 } else { Version::V4 }
    }
}

#[derive(Args)]
struct PublishArguments {
    #[command(flatten)]
    target: Target,
    /// Messages in flight on each connection.
    #[arg(long, default_value_t = 16)]
    window: u16,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// `{}` stands for the number of the connection.
    #[arg(long, default_value = "vehicles/v{}/telemetry/rpm")]
    topic: String,
    /// Messages per second of all together (open loop); without it as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Args)]
struct SubscribeArguments {
    #[command(flatten)]
    target: Target,
    /// `{}` stands for the number of the connection.
    #[arg(long)]
    filter: String,
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match Arguments::parse().command {
        Some(Command::Publish(arguments)) => print(&runtime.block_on(publish::run(&arguments.load(), &Arc::new(Progress::default())))?),
        Some(Command::Subscribe(arguments)) => runtime.block_on(subscribe(&arguments))?,
        Some(Command::Verify {
            kafka,
            topic,
            clients,
            messages,
        }) => {
            let ledger = ledger::read_topic(&kafka, &topic)?;
            println!("{ledger}, {} missing", ledger.missing(clients, messages));
            ledger.exact(clients, messages).map_err(io::Error::other)?;
        }
        Some(Command::Floor { address, delays }) => runtime.block_on(async {
            let listener = TcpListener::bind(address).await?;
            println!("{}", listener.local_addr()?);
            floor::serve(listener, delays.into_iter().map(Duration::from_micros).collect()).await
        })?,
        Some(Command::Produce(what)) => runtime.block_on(async move { tokio::spawn(async move { own::produce(&what).await }).await })??,
        Some(Command::Consume(what)) => runtime.block_on(own::consume(&what))?,
        Some(Command::Scenario { only, rounds, seconds }) => scenarios(&runtime, only.as_deref(), rounds, seconds)?,
        None => scenarios(&runtime, None, 5, 3.0)?,
    }
    Ok(())
}

/// Runs what is asked for, and writes the figures to `bench/results/`. A goal that is missed is an error once all of it has run.
fn scenarios(runtime: &tokio::runtime::Runtime, only: Option<&str>, rounds: usize, seconds: f64) -> io::Result<()> {
    let kafka = stage::Kafka::start();
    let mut missed = Vec::new();
    let mut judge = |name, outcome: measure::Outcome| {
        missed.extend(outcome.missed);
        measure::write(name, &outcome.json)
    };
    if only.is_none_or(|name| name == "publish") {
        judge("publish", scenario::run(runtime, &kafka, rounds, seconds)?)?;
    }
    if only.is_none_or(|name| name == "sessions") {
        judge("sessions", sessions::run(runtime, &kafka)?)?;
    }
    if only.is_none_or(|name| name == "storm") {
        judge("storm", storm::run(runtime, &kafka, rounds, seconds)?)?;
    }
    if only.is_none_or(|name| name == "idle") {
        judge("idle", idle::run(runtime, &kafka)?)?;
    }
    if only.is_none_or(|name| name == "clients") {
        judge("clients", clients::run(&kafka, rounds, seconds)?)?;
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("missed: {}", missed.join("; "))))
}

impl PublishArguments {
    fn load(&self) -> Load {
        Load {
            address: self.target.address,
            version: self.target.version(),
            clients: self.target.clients,
            messages: self.target.messages,
            qos: self.target.qos,
            window: self.window,
            payload: self.payload,
            topic: self.topic.clone(),
            name: "load-".to_owned(),
            rate: self.rate,
            patience: Duration::from_secs(60),
        }
    }
}

fn print(report: &Report) {
    let quantile = |q| report.latency.value_at_quantile(q);
    println!(
        "{} sent, {} acknowledged, {} refused, {} answers out of order, {:.2} s, {:.0} messages/s, µs p50 {} p99 {} p99.9 {} max {}",
        report.sent,
        report.acknowledged,
        report.refused,
        report.answers_out_of_order,
        report.elapsed.as_secs_f64(),
        report.sent as f64 / report.elapsed.as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        report.latency.max()
    );
}

async fn subscribe(arguments: &SubscribeArguments) -> io::Result<()> {
    let target = &arguments.target;
    let audience = Audience {
        address: target.address,
        version: target.version(),
        clients: target.clients,
        filter: arguments.filter.clone(),
        qos: target.qos,
        receive_maximum: None,
        name: "audience-".to_owned(),
        patience: Duration::from_secs(60),
    };
    let seated = seat(&audience).await?;
    eprintln!("{} subscribed", target.clients);
    for received in seated.receive(target.messages).await? {
        println!(
            "{}, µs p50 {} p99 {}",
            received.ledger,
            received.latency.value_at_quantile(0.5),
            received.latency.value_at_quantile(0.99)
        );
    }
    Ok(())
}
