//! What the scenarios share: CPU time of processes, the programs on librdkafka, medians and ratios, and where the figures go.

use crate::load::publish::epoch;
use crate::stage::{output, root};
use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

/// One measured run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// CPU, user and system, per message, in microseconds.
    pub cpu: f64,
    /// Messages per second.
    pub rate: f64,
    /// Latency of the acknowledgement in microseconds; 0 where there is none.
    pub p50: u64,
    /// The same, of the slowest hundredth.
    pub p99: u64,
}

/// What came of a scenario that has goals.
#[derive(Default)]
pub struct Outcome {
    /// The figures.
    pub json: String,
    /// Goals that were missed, in words.
    pub missed: Vec<String>,
}

/// User and system time of a process and all its threads; `self` is this one.
pub fn cpu(process: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything, so fields count from behind it: utime and stime are the 14th and 15th of all.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|place| fields.get(*place)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every Linux architecture that Rust runs on.
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory of a process, bytes.
pub fn memory(process: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Compiles `benches/clients/<name>.c` and gives its path.
pub fn compile(name: &str) -> io::Result<String> {
    let out = format!("{}/rdkafka-{name}", env!("CARGO_TARGET_TMPDIR"));
    let source = root().join(format!("benches/clients/{name}.c"));
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-o", &out])
        .arg(&source)
        .arg("-lrdkafka")
        .status()?;
    if !status.success() {
        let why = format!("{} does not build (needs librdkafka-dev; make bench installs it)", source.display());
        return Err(io::Error::other(why));
    }
    Ok(out)
}

/// Runs a client program, which prints CPU per message, messages per second, and perhaps more.
pub fn run_client(program: &str, arguments: &[&str]) -> io::Result<Run> {
    let line = output(program, arguments);
    let figures: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [cpu, rate, ..] = figures[..] else {
        return Err(io::Error::other(format!("{program} said {line}")));
    };
    Ok(Run {
        cpu,
        rate,
        ..Run::default()
    })
}

/// The median of one figure.
pub fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    spread(runs.iter().map(of).collect()).0
}

/// Median, least and largest over the rounds of one system's CPU ÷ the other's in the same round.
pub fn ratio(these: &[Run], those: &[Run]) -> (f64, f64, f64) {
    spread(these.iter().zip(those).map(|(this, that)| this.cpu / that.cpu).collect())
}

fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |place: usize| values.get(place).copied().unwrap_or_default();
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

/// Runs as a JSON array.
pub fn runs_json(runs: &[Run]) -> String {
    let one = |run: &Run| {
        format!(
            "{{\"cpu_us\": {:.3}, \"messages_per_s\": {:.0}, \"p50_us\": {}, \"p99_us\": {}}}",
            run.cpu, run.rate, run.p50, run.p99
        )
    };
    format!("[{}]", runs.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Writes the figures of a scenario with machine, version and date to `bench/results/<name>.json`.
pub fn write(name: &str, shapes: &str) -> io::Result<()> {
    let results = root().join("bench/results");
    fs::create_dir_all(&results)?;
    let path = results.join(format!("{name}.json"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let text = format!(
        "{{\"unix_time\": {}, \"cores\": {}, \"cpu\": {:?}, \"kernel\": {:?}, \"version\": \"{}\", \"shapes\": {shapes}}}\n",
        epoch().as_secs(),
        std::thread::available_parallelism().map_or(0, usize::from),
        model.map_or("", |(_, name)| name.trim()),
        kernel.trim(),
        env!("CARGO_PKG_VERSION"),
    );
    fs::write(&path, text)?;
    println!("figures: {}", path.display());
    Ok(())
}
