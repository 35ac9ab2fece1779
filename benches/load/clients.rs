//! The clients scenario: the proxy's own Kafka client without MQTT beside librdkafka. Both produce the same records (100 bytes, key,
//! two headers, idempotent, linger 5 ms), and both read the same topic and walk all fields of each record.
//!
//! The two take turns; each run is a process of its own whose CPU time is counted.

use crate::measure::{Outcome, Run, compile, median, ratio, run_client, runs_json};
use crate::stage::{Kafka, output};
use std::fmt::Write as _;
use std::io;

const SIZE: &str = "100";
const KEYS: &str = "100";
const PARTITIONS: u32 = 6;
const PRODUCED: &str = "bench-produced";
const READ: &str = "bench-read";
/// As many records as the publish scenario has in flight, and as many as the clients like.
const WINDOWS: [&str; 2] = ["1600", "100000"];

/// One kind of work, done by both.
struct Work {
    what: String,
    /// Ours ÷ theirs, to reach.
    goal: f64,
    ours: Vec<Run>,
    theirs: Vec<Run>,
}

/// The programs that do it.
struct Programs {
    own: String,
    producer: String,
    consumer: String,
}

/// Runs all rounds and prints the table.
pub fn run(kafka: &Kafka, rounds: usize, seconds: f64) -> io::Result<Outcome> {
    let own = std::env::current_exe()?;
    let programs = Programs {
        own: own.to_str().ok_or(io::ErrorKind::InvalidData)?.to_owned(),
        producer: compile("producer")?,
        consumer: compile("consumer")?,
    };
    kafka.topic(PRODUCED, PARTITIONS);
    kafka.topic(READ, PARTITIONS);
    let mut works = Vec::new();
    for (codec, goal) in [("none", 0.5), ("lz4", 1.0)] {
        for window in WINDOWS {
            works.push(produce(kafka, &programs, codec, goal, window, rounds, seconds)?);
        }
    }
    works.push(read(kafka, &programs, rounds, seconds)?);
    println!("\nthe proxy's Kafka client without MQTT, {SIZE} bytes, key, 2 headers, {rounds} rounds, medians");
    print!("{}", table(&works));
    Ok(Outcome {
        json: json(&works),
        missed: works.iter().filter_map(Work::missed).collect(),
    })
}

fn produce(kafka: &Kafka, programs: &Programs, codec: &str, goal: f64, window: &str, rounds: usize, seconds: f64) -> io::Result<Work> {
    let arguments = |messages| [kafka.bootstrap.as_str(), PRODUCED, messages, KEYS, window, SIZE, codec];
    // The first run warms up and tells how many messages fill the time.
    let warm = run_client(&programs.producer, &arguments("200000"))?;
    let messages = ((warm.rate * seconds) as u64).to_string();
    let mut work = Work::new(format!("produce, {codec}, {window} in flight"), goal);
    for round in 1..=rounds {
        eprintln!("{}, round {round} of {rounds}, {messages} records", work.what);
        let own = [&["produce"], &arguments(&messages)[..]].concat();
        work.ours.push(run_client(&programs.own, &own)?);
        work.theirs.push(run_client(&programs.producer, &arguments(&messages))?);
    }
    Ok(work)
}

fn read(kafka: &Kafka, programs: &Programs, rounds: usize, seconds: f64) -> io::Result<Work> {
    // Enough that the clock of the CPU, which ticks in hundredths of a second, can measure the faster one.
    let messages = ((2e6 * seconds) as u64).to_string();
    let fill = ["produce", &kafka.bootstrap, READ, &messages, KEYS, "100000", SIZE, "none"];
    run_client(&programs.own, &fill)?;
    let arguments = [kafka.bootstrap.as_str(), READ, &messages];
    let own = [&["consume"], &arguments[..]].concat();
    let bytes = |line: String| line.split_whitespace().nth(2).map(str::to_owned);
    assert_eq!(
        bytes(output(&programs.own, &own)),
        bytes(output(&programs.consumer, &arguments)),
        "both see the same bytes"
    );
    let mut work = Work::new("fetch and hand out".to_owned(), 1.0);
    for round in 1..=rounds {
        eprintln!("{}, round {round} of {rounds}, {messages} records", work.what);
        work.ours.push(run_client(&programs.own, &own)?);
        work.theirs.push(run_client(&programs.consumer, &arguments)?);
    }
    Ok(work)
}

impl Work {
    fn new(what: String, goal: f64) -> Self {
        let (ours, theirs) = (Vec::new(), Vec::new());
        Self { what, goal, ours, theirs }
    }

    fn missed(&self) -> Option<String> {
        let (middle, ..) = ratio(&self.ours, &self.theirs);
        // What is no number has not been reached.
        (middle.is_nan() || middle > self.goal).then(|| format!("{}: {middle:.2}, the goal is {}", self.what, self.goal))
    }
}

fn table(works: &[Work]) -> String {
    let mut text = format!(
        "{:<32} {:>10} {:>10} {:>12} {:>12} {:>14} {:>16} {:>5}\n",
        "", "CPU µs/msg", "librdkafka", "messages/s", "librdkafka", "ours ÷ theirs", "(least, most)", "goal"
    );
    for work in works {
        let (middle, least, most) = ratio(&work.ours, &work.theirs);
        let _ = writeln!(
            text,
            "{:<32} {:>10.3} {:>10.3} {:>12.0} {:>12.0} {middle:>14.2} {:>16} {:>5} {}",
            work.what,
            median(&work.ours, |run| run.cpu),
            median(&work.theirs, |run| run.cpu),
            median(&work.ours, |run| run.rate),
            median(&work.theirs, |run| run.rate),
            format!("({least:.2}, {most:.2})"),
            work.goal,
            work.missed().map_or("met", |_| "missed"),
        );
    }
    text
}

fn json(works: &[Work]) -> String {
    let one = |work: &Work| {
        let (middle, least, most) = ratio(&work.ours, &work.theirs);
        format!(
            "  {{\"what\": \"{}\", \"goal\": {}, \"ratio\": {middle:.3}, \"least\": {least:.3}, \"most\": {most:.3},\n   \"proxy\": {},\n   \"librdkafka\": {}}}",
            work.what,
            work.goal,
            runs_json(&work.ours),
            runs_json(&work.theirs)
        )
    };
    format!("[\n{}\n]", works.iter().map(one).collect::<Vec<_>>().join(",\n"))
}
