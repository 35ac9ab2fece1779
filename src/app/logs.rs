//! Log lines: to stderr, as text or as JSON, what `RUST_LOG` asks for, else from `info` up.
//!
//! A thread of their own writes them, so a stderr that takes nothing for a while (a log driver that is stopped) holds up nobody; lines beyond those that
//! may wait are left out. One that takes nothing any more (a full disk, a reader that is gone) is no reason to end anything.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that may wait to be written; each has some KiB at most.
const LINES: usize = 4096;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs from here on. To be called once. What waits is written, a second long at most, when the guard is dropped.
pub(super) fn start(format: LogFormat) -> WorkerGuard {
    // A directive that is not understood is told on stderr and left out.
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(wanted) if !wanted.is_empty() => filter.parse_lossy(wanted),
        // It warns of each device that names the proxy by its IP address.
        _ => filter.parse_lossy("info,rustls=error"),
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // Of a line that cannot be written the library would tell on stderr, and panic if that cannot be written either.
    let lines = lines.log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    guard
}
