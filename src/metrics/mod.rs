//! Counters and gauges of the process as plain fields, and the text that Prometheus reads.
//!
//! This room knows none of its users: they hold a clone of a field (an atomic behind an `Arc`) and add to it. What is
//! looked up by label is looked up once: [`Metrics::listener`] and [`Metrics::rule`] give handles whose fields are
//! plain counters. Whoever counts on a hot path keeps a local sum and adds it once per batch (`inc_by`).
//!
//! Labels are bounded: listeners and rules come from the configuration, every reason is a `&'static str` of the code.
//! Nothing that a device can choose is ever a label. Names carry the prefix `mqtt_kafka_proxy_`; those of the process
//! itself have the names that every dashboard knows (`process_*`) and no prefix.

mod outside;
mod packets;
mod process;
mod series;
mod shared;
mod tables;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use outside::OutsideCounters;
pub use packets::{PacketCounters, PacketTally};
pub use series::{ConnectionRefusal, ListenerCounters, RuleCounters};
pub use shared::SharedCounters;
pub use tables::TableCounters;

use series::{ConnectionFamilies, Reason, RuleFamilies};
use tables::TableFamilies;

/// The content type of [`Metrics::encode`]: OpenMetrics 1.0 text, which Prometheus has read since 2.5.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything the process counts. Made once, shared behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: ConnectionFamilies,
    rules: RuleFamilies,
    tables: TableFamilies,
    /// 1 while the instance is ready, else 0.
    pub ready: Gauge,
    /// Packets read from and written to devices, by type.
    pub packets: PacketCounters,
    /// Accept calls that failed, for example for want of file descriptors.
    pub accept_errors: Counter,
    /// Record batches of Kafka that cannot be read: damaged, or of a format that is not supported.
    pub unreadable_batches: Counter,
    /// Fetches thrown away and asked for again, since a batch in them could not be read.
    pub batches_read_again: Counter,
    /// Subscribers that did not take what came from a partition and are served from its log, by partition.
    pub subscribers_behind: Gauge,
    /// Of shared subscriptions.
    pub shared: SharedCounters,
    /// Of the servers that say who clients are.
    pub outside: OutsideCounters,
    /// Memory of messages that connections have not taken yet.
    pub waiting_bytes: Gauge,
    /// Bytes that permits are out for of those who hold what was read of the log.
    pub reads_waiting_bytes: Gauge,
    /// Retained messages.
    pub retained: Retained,
    /// Stored sessions.
    pub stored: Stored,
    /// Tasks of the runtime; whoever answers a scrape says how many there are.
    pub tasks: Gauge,
    /// Tasks of connections that ended by a panic: each is a defect to report.
    pub connection_panics: Counter,
    refusals: Family<Reason, Counter>,
    closed: Family<Reason, Counter>,
    malformed: Family<Reason, Counter>,
}

impl Metrics {
    /// Registers everything; the start time of the process is taken here.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process::started_now()));
        let own = registry.sub_registry_with_prefix("mqtt_kafka_proxy");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        own.register("build", "Version of this binary", Info::new(version));
        let ready = gauge(own, "ready", "1 while the instance is ready for clients");
        let tasks = gauge(own, "tasks", "Tasks that have not ended; each connection has at least one");
        let connections = ConnectionFamilies::register(own);
        let packets = PacketCounters::register(own);
        let rules = RuleFamilies::register(own);
        let tables = TableFamilies::register(own);
        let accept_errors = counter(own, "accept_errors", "Accept calls that failed");
        let connection_panics = counter(own, "connection_panics", "Connection tasks that ended by a panic");
        let unreadable_batches = counter(own, "unreadable_batches", "Record batches of Kafka that cannot be read");
        let help = "Record batches that could not be read, and were asked for again";
        let batches_read_again = counter(own, "batches_read_again", help);
        let help = "Subscribers that cannot keep up and are served from the log, for each partition";
        let subscribers_behind = gauge(own, "subscribers_behind", help);
        let shared = SharedCounters::register(own);
        let outside = OutsideCounters::register(own);
        let waiting_bytes = Gauge::default();
        own.register_with_unit(
            "messages_waiting",
            "Memory of messages that connections have not taken yet",
            Unit::Bytes,
            waiting_bytes.clone(),
        );
        let reads_waiting_bytes = Gauge::default();
        own.register_with_unit(
            "reads_waiting",
            "Memory for what was read of the log and waits for subscribers that take their time",
            Unit::Bytes,
            reads_waiting_bytes.clone(),
        );
        let retained = Retained::register(own);
        let stored = Stored::register(own);
        let (refusals, closed, malformed) = (Family::default(), Family::default(), Family::default());
        own.register(
            "connections_closed",
            "Connections that the proxy ended, by reason",
            Family::clone(&closed),
        );
        own.register("refusals", "Requests of devices refused, by reason", Family::clone(&refusals));
        own.register("malformed_packets", "Malformed packets, by reason", Family::clone(&malformed));
        Self {
            registry,
            connections,
            rules,
            tables,
            ready,
            packets,
            accept_errors,
            unreadable_batches,
            batches_read_again,
            subscribers_behind,
            shared,
            outside,
            waiting_bytes,
            reads_waiting_bytes,
            retained,
            stored,
            tasks,
            connection_panics,
            refusals,
            closed,
            malformed,
        }
    }

    /// For a room that keeps counters of its own: it registers them here before the `Metrics` is shared. Names get the
    /// prefix.
    pub fn registry(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix("mqtt_kafka_proxy")
    }

    /// The counters of one listener. The same name gives the same counters.
    pub fn listener(&self, name: &str) -> ListenerCounters {
        self.connections.listener(name, &self.connection_panics)
    }

    /// The counters of one rule. The same name gives the same counters, so a reload goes on counting.
    pub fn rule(&self, name: &str) -> RuleCounters {
        self.rules.rule(name)
    }

    /// The counters of all rules, in the order of the names: index them with the rule's id.
    pub fn rules<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<RuleCounters> {
        names.into_iter().map(|name| self.rule(name)).collect()
    }

    /// The counters of the lookup table of a Kafka topic.
    pub fn table(&self, topic: &str) -> TableCounters {
        self.tables.table(topic)
    }

    /// Counts a request (CONNECT, PUBLISH, SUBSCRIBE, …) that was answered with a refusal.
    pub fn refused(&self, reason: &'static str) {
        self.refused_times(reason, 1);
    }

    /// The same of so many parts of a request that are refused for one reason.
    pub fn refused_times(&self, reason: &'static str, times: usize) {
        self.refusals.get_or_create(&Reason { reason }).inc_by(times as u64);
    }

    /// Counts a connection that we ended, whatever for.
    pub fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a packet that broke the protocol.
    pub fn malformed(&self, reason: &'static str) {
        self.malformed.get_or_create(&Reason { reason }).inc();
    }

    /// The text of one scrape, of content type [`CONTENT_TYPE`]. Reads `/proc`, so call it where blocking is allowed.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry).expect("writing to a String cannot fail");
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(own: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    own.register(name, help, counter.clone());
    counter
}

/// What an instance knows of the stored sessions, all of them, whoever serves them.
#[derive(Debug, Default)]
pub struct Stored {
    /// Those that go on, and ends that are not cleaned up yet.
    pub sessions: Gauge,
    /// Memory of the index.
    pub index_bytes: Gauge,
    /// Seconds that the brokers' clock is ahead of this host's.
    pub clock_difference: Gauge,
    /// Times that this process did not run.
    pub pauses: Counter,
}

impl Stored {
    fn register(own: &mut Registry) -> Self {
        let stored = Self::default();
        let help = "Stored sessions of all instances, and ends that are not cleaned up yet";
        own.register("stored_sessions", help, stored.sessions.clone());
        let help = "Memory of the index of stored sessions";
        own.register_with_unit("stored_sessions_index", help, Unit::Bytes, stored.index_bytes.clone());
        let help = "How far the brokers' clock is ahead of this host's, as far as that is certain; negative: behind";
        own.register_with_unit("broker_clock_difference", help, Unit::Seconds, stored.clock_difference.clone());
        let help = "Times that this process did not run for more than half a second: it was stopped, or its host gave it no time";
        own.register("pauses", help, stored.pauses.clone());
        stored
    }
}

/// What there is of retained messages.
#[derive(Debug, Default)]
pub struct Retained {
    /// Topics with one, or whose message was cleared.
    pub messages: Gauge,
    /// Memory of those.
    pub bytes: Gauge,
    /// Records of the retained topic that are none of the proxy's.
    pub foreign: Counter,
    /// Tombstones of what had expired or was cleared.
    pub tombstones: Counter,
    /// Written once more, since an older message's record or a tombstone came later.
    pub repeated: Counter,
}

impl Retained {
    fn register(own: &mut Registry) -> Self {
        let retained = Self::default();
        let help = "Topics with a retained message";
        own.register("retained_messages", help, retained.messages.clone());
        let help = "Memory of retained messages";
        own.register_with_unit("retained", help, Unit::Bytes, retained.bytes.clone());
        let help = "Records of the retained topic that the proxy has not written";
        own.register("retained_foreign_records", help, retained.foreign.clone());
        let help = "Tombstones of retained messages that had expired or were cleared";
        own.register("retained_tombstones", help, retained.tombstones.clone());
        let help = "Retained messages that were written once more, since an older one or a tombstone came after them";
        own.register("retained_repeated", help, retained.repeated.clone());
        retained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_names_everything_with_its_prefix_and_value() {
        let metrics = Metrics::new();
        let listener = metrics.listener("tls");
        listener.opened.inc();
        listener.current.inc();
        listener.refused(ConnectionRefusal::Rate);
        let rules = metrics.rules(["telemetry", "commands"]);
        rules[0].messages_in.inc_by(3);
        rules[0].bytes_in.inc_by(300);
        rules[1].messages_out.inc();
        rules[1].skipped("no_key");
        rules[1].dropped("slow_reader");
        metrics.refused("not_authorized");
        metrics.closed("session_taken_over");
        metrics.malformed("protocol_error");
        let text = metrics.encode();
        for line in [
            r#"mqtt_kafka_proxy_connections{listener="tls"} 1"#,
            r#"mqtt_kafka_proxy_connections_opened_total{listener="tls"} 1"#,
            r#"mqtt_kafka_proxy_connections_refused_total{listener="tls",reason="connect_rate"} 1"#,
            r#"mqtt_kafka_proxy_messages_total{rule="telemetry",direction="to_kafka"} 3"#,
            r#"mqtt_kafka_proxy_message_bytes_total{rule="telemetry",direction="to_kafka"} 300"#,
            r#"mqtt_kafka_proxy_messages_total{rule="commands",direction="to_device"} 1"#,
            r#"mqtt_kafka_proxy_records_skipped_total{rule="commands",reason="no_key"} 1"#,
            r#"mqtt_kafka_proxy_messages_dropped_total{rule="commands",reason="slow_reader"} 1"#,
            r#"mqtt_kafka_proxy_refusals_total{reason="not_authorized"} 1"#,
            r#"mqtt_kafka_proxy_connections_closed_total{reason="session_taken_over"} 1"#,
            r#"mqtt_kafka_proxy_malformed_packets_total{reason="protocol_error"} 1"#,
            "mqtt_kafka_proxy_connection_panics_total 0",
            concat!("mqtt_kafka_proxy_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "no line {line:?} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_same_rule_name_goes_on_counting_after_a_reload() {
        let metrics = Metrics::new();
        metrics.rule("telemetry").messages_in.inc_by(2);
        let after = metrics.rule("telemetry");
        assert_eq!(after.messages_in.inc(), 2, "inc() gives the value before");
    }

    #[test]
    fn a_room_may_register_counters_of_its_own() {
        let mut metrics = Metrics::new();
        let own: Counter = Counter::default();
        metrics
            .registry()
            .register("brokers_lost", "Connections to brokers lost", own.clone());
        own.inc_by(7);
        assert!(metrics.encode().contains("mqtt_kafka_proxy_brokers_lost_total 7\n"));
    }
}
