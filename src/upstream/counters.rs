//! What the Kafka client counts. Plain fields; whoever exposes them registers them once.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::accumulator::Tally;

/// One label: its name is fixed, its values come from closed sets (APIs, error names), so the number of series is bounded.
pub type Label = [(&'static str, &'static str); 1];

/// Counters of one [`Cluster`](super::Cluster). All of them only grow, but for the gauges.
#[derive(Debug)]
pub struct Counters {
    /// Connections to brokers that were opened.
    pub connects: Counter,
    /// Attempts to connect that failed, and connections that broke or were given up.
    pub disconnects: Counter,
    /// Times that a live connection proved anew who we are (KIP-368).
    pub reauthentications: Counter,
    /// Requests sent, by `api`.
    pub requests: Family<Label, Counter>,
    /// Error codes received from brokers, by `error`.
    pub errors: Family<Label, Counter>,
    /// Batches that Kafka acknowledged.
    pub batches: Counter,
    /// Records in them.
    pub records: Counter,
    /// Bytes in them, as sent.
    pub bytes: Counter,
    /// The same before compression: [`bytes`](Self::bytes) ÷ this is the ratio of compression.
    pub plain_bytes: Counter,
    /// Batches sent again.
    pub retries: Counter,
    /// Batches given up after the delivery timeout.
    pub expired: Counter,
    /// Batches refused by Kafka for good.
    pub refused: Counter,
    /// Batches that had to take a new epoch or producer id.
    pub restamped: Counter,
    /// Batches that were split because Kafka found them too large.
    pub split: Counter,
    /// Connections with `acks` 0 that ended soon after something was sent: it may be lost.
    pub unanswered_ends: Counter,
    /// Appends refused because the memory budget was used up.
    pub memory_full: Counter,
    /// Bytes of the memory budget in use.
    pub memory_used: Gauge,
    /// Produce request to its answer, in seconds.
    pub produce_latency: Histogram,
    /// Fetch request to its answer, in seconds (an empty long poll takes `max_wait`).
    pub fetch_latency: Histogram,
    /// Bytes of record sets fetched and handed on.
    pub fetched_bytes: Counter,
    /// Of these, bytes that came from a replica that does not lead (KIP-392).
    pub followed_bytes: Counter,
    /// Readers whose offset was gone and that were set to another.
    pub offset_resets: Counter,
    /// Times a reader found that the log it had read was cut off (an unclean leader election).
    pub truncations: Counter,
    /// Fetched record sets that do not begin with a record batch.
    pub unreadable_sets: Counter,
    /// Seconds of throttling that brokers asked for and got, of all connections.
    pub throttled: Counter<f64, AtomicU64>,
}

impl Default for Counters {
    fn default() -> Self {
        let latency = || Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        Self {
            connects: Counter::default(),
            disconnects: Counter::default(),
            reauthentications: Counter::default(),
            requests: Family::default(),
            errors: Family::default(),
            batches: Counter::default(),
            records: Counter::default(),
            bytes: Counter::default(),
            plain_bytes: Counter::default(),
            retries: Counter::default(),
            expired: Counter::default(),
            refused: Counter::default(),
            restamped: Counter::default(),
            split: Counter::default(),
            unanswered_ends: Counter::default(),
            memory_full: Counter::default(),
            memory_used: Gauge::default(),
            produce_latency: latency(),
            fetch_latency: latency(),
            fetched_bytes: Counter::default(),
            followed_bytes: Counter::default(),
            offset_resets: Counter::default(),
            truncations: Counter::default(),
            unreadable_sets: Counter::default(),
            throttled: Counter::default(),
        }
    }
}

impl Counters {
    /// Registers all of them; the names get the registry's prefix.
    pub fn register(&self, to: &mut Registry) {
        self.register_connections(to);
        self.register_producing(to);
        self.register_reading(to);
    }

    fn register_connections(&self, to: &mut Registry) {
        to.register("kafka_connects", "Connections opened to brokers", self.connects.clone());
        to.register(
            "kafka_disconnects",
            "Connections to brokers that failed or broke",
            self.disconnects.clone(),
        );
        let renewed = self.reauthentications.clone();
        to.register("kafka_reauthentications", "Sessions renewed on live connections", renewed);
        to.register("kafka_requests", "Requests sent to brokers", self.requests.clone());
        to.register("kafka_errors", "Error codes received from brokers", self.errors.clone());
        to.register_with_unit("kafka_throttled", "Throttling obeyed", Unit::Seconds, self.throttled.clone());
    }

    fn register_producing(&self, to: &mut Registry) {
        to.register("kafka_produced_batches", "Batches acknowledged by Kafka", self.batches.clone());
        to.register("kafka_produced_records", "Records acknowledged by Kafka", self.records.clone());
        to.register_with_unit("kafka_produced", "Bytes of acknowledged batches", Unit::Bytes, self.bytes.clone());
        to.register_with_unit(
            "kafka_produced_uncompressed",
            "Bytes of acknowledged batches before compression",
            Unit::Bytes,
            self.plain_bytes.clone(),
        );
        to.register("kafka_produce_retries", "Batches sent again", self.retries.clone());
        to.register(
            "kafka_produce_expired",
            "Batches given up after the delivery timeout",
            self.expired.clone(),
        );
        to.register("kafka_produce_refused", "Batches refused by Kafka for good", self.refused.clone());
        to.register(
            "kafka_produce_restamped",
            "Batches given a new epoch or producer id",
            self.restamped.clone(),
        );
        to.register(
            "kafka_produce_split",
            "Batches split because Kafka found them too large",
            self.split.clone(),
        );
        to.register(
            "kafka_unacknowledged_connections_closed",
            "Connections of rules with acks: none that ended soon after something was sent; it may be lost",
            self.unanswered_ends.clone(),
        );
        to.register(
            "kafka_memory_full",
            "Records held back by the producer's memory budget",
            self.memory_full.clone(),
        );
        to.register_with_unit("kafka_memory_used", "Producer memory in use", Unit::Bytes, self.memory_used.clone());
        to.register_with_unit(
            "kafka_produce_latency",
            "Produce request to answer",
            Unit::Seconds,
            self.produce_latency.clone(),
        );
    }

    fn register_reading(&self, to: &mut Registry) {
        to.register_with_unit(
            "kafka_fetch_latency",
            "Fetch request to answer",
            Unit::Seconds,
            self.fetch_latency.clone(),
        );
        to.register_with_unit(
            "kafka_fetched",
            "Bytes of record sets fetched",
            Unit::Bytes,
            self.fetched_bytes.clone(),
        );
        to.register_with_unit(
            "kafka_fetched_from_followers",
            "Bytes of record sets fetched from replicas that do not lead",
            Unit::Bytes,
            self.followed_bytes.clone(),
        );
        to.register("kafka_offset_resets", "Readers whose offset was gone", self.offset_resets.clone());
        to.register(
            "kafka_log_truncations",
            "Logs found cut off behind what was read",
            self.truncations.clone(),
        );
        to.register(
            "kafka_unreadable_record_sets",
            "Fetched record sets that do not begin with a record batch; asked for again",
            self.unreadable_sets.clone(),
        );
    }

    /// Counts what happened to the batches of a partition.
    pub(crate) fn tally(&self, tally: Tally) {
        self.restamped.inc_by(tally.restamped);
        self.split.inc_by(tally.split);
    }

    /// Counts one error code by its name.
    pub(crate) fn error(&self, name: &'static str) {
        self.errors.get_or_create(&[("error", name)]).inc();
    }

    /// Counts one request by its API's name.
    pub(crate) fn request(&self, api: &'static str) {
        self.requests.get_or_create(&[("api", api)]).inc();
    }
}
