//! What the kernel knows of this process, read from `/proc` at each scrape and at no other time.
//!
//! A file that cannot be read (no `/proc`, another system) leaves its series out; a scrape never fails for it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

#[derive(Debug)]
pub(super) struct Process {
    start: f64,
}

impl Process {
    pub(super) fn started_now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            start: since_epoch.as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let start = ConstGauge::new(self.start);
        let described = encoder.encode_descriptor("process_start_time_seconds", "Start, seconds since 1970", None, start.metric_type())?;
        start.encode(described)?;
        if let Some(seconds) = cpu_seconds() {
            let used = ConstCounter::new(seconds);
            let described =
                encoder.encode_descriptor("process_cpu_seconds", "Processor time, user and system", None, used.metric_type())?;
            used.encode(described)?;
        }
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Resident memory", resident_bytes()),
            ("process_open_fds", "Open file descriptors", open_fds()),
            ("process_max_fds", "Limit of open file descriptors", max_fds()),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// The kernel tells it in hundredths of a second, on every architecture that Linux has here (USER_HZ).
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the program's name, which may hold anything: fields 3 and up, of which 14 and 15 are wanted (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? as f64 / 100.0)
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kib.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// Since Linux 6.2 the folder's size is their number. To list it takes milliseconds of a processor for ten thousand connections.
fn open_fds() -> Option<i64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => listed_fds(),
        count => i64::try_from(count).ok(),
    }
}

fn listed_fds() -> Option<i64> {
    // The descriptor that lists the folder is in the list.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok().map(|n| n - 1)
}

fn max_fds() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_something_believable() {
        let resident = resident_bytes().unwrap();
        assert!((256 * 1024..64 << 30).contains(&resident), "{resident}");
        assert!(open_fds().unwrap() >= 3);
        // Other tests open and close some meanwhile.
        let agree = || (open_fds().unwrap() - listed_fds().unwrap()).abs() <= 1;
        assert!((0..1_000).any(|_| agree()), "{:?}, {:?}", open_fds(), listed_fds());
        let (before, start) = (cpu_seconds().unwrap(), std::time::Instant::now());
        while cpu_seconds().unwrap() <= before {
            assert!(start.elapsed().as_secs() < 30, "time that is used is not counted");
        }
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Process::started_now()));
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
        assert!(max_fds().unwrap() >= open_fds().unwrap());
    }
}
