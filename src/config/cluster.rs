//! `kafka`: where the cluster is, and how it is written to and read from.

use std::time::Duration;

use crate::relay::{StateTopics, SweepSettings};
use crate::upstream::{ConsumerSettings, Isolation, ProducerSettings, SecuritySettings, Settings};

use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk};

const KAFKA: Keys = Keys {
    known: &["bootstrap_servers", "security", "producer", "consumer", "topics"],
    later: &[],
};
const PRODUCER: Keys = Keys {
    known: &[
        "linger",
        "batch_size",
        "compression",
        "memory",
        "delivery_timeout",
        "qos2_connections",
    ],
    later: &[],
};
const CONSUMER: Keys = Keys {
    known: &["max_wait", "fetch_size", "isolation", "rack", "sweeps", "cache"],
    later: &[],
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

impl Walk<'_> {
    /// `kafka`; no rule of the file may name its state topics. `None`: there are no servers to ask, which is noted.
    pub(super) fn kafka(&mut self, node: &Node, top: &Section<'_>) -> Option<(Settings, SweepSettings, StateTopics)> {
        let section = self.section(node, "kafka", &KAFKA)?;
        let servers = self
            .required(&section, "bootstrap_servers", "[\"localhost:9092\"]")
            .map(|n| self.bootstrap_servers(n));
        let security = match self.optional(&section, "security") {
            Some(node) => self.security(node),
            None => Some(SecuritySettings::default()),
        };
        let producer = self.optional(&section, "producer").map(|n| self.producer(n)).unwrap_or_default();
        let (consumer, sweeps) = self.optional(&section, "consumer").map(|n| self.consumer(n)).unwrap_or_default();
        let topics = self.optional(&section, "topics").map(|n| self.state_topics(n)).unwrap_or_default();
        self.keep_apart(top, &topics);
        let settings = Settings {
            bootstrap_servers: servers?,
            security: security?,
            producer,
            consumer,
            ..Settings::default()
        };
        Some((settings, sweeps, topics))
    }

    /// A list; an entry may hold several, with commas between, since a variable of the environment often does.
    fn bootstrap_servers(&mut self, node: &Node) -> Vec<String> {
        let name = "kafka.bootstrap_servers";
        let entries = match &node.kind {
            Kind::Scalar { .. } => std::slice::from_ref(node),
            _ => self.list(node, name),
        };
        let mut servers = vec![];
        for entry in entries {
            servers.extend(
                self.parsed(entry, name, |text| text.split(',').map(server).collect::<Result<Vec<_>, _>>())
                    .into_iter()
                    .flatten(),
            );
        }
        servers
    }

    fn producer(&mut self, node: &Node) -> ProducerSettings {
        let mut settings = ProducerSettings::default();
        let Some(section) = self.section(node, "kafka.producer", &PRODUCER) else {
            return settings;
        };
        let range = Duration::ZERO..=Duration::from_secs(1);
        if let Some(d) = self
            .optional(&section, "linger")
            .and_then(|n| self.duration(n, "kafka.producer.linger", range))
        {
            settings.linger = d;
        }
        if let Some(n) = self
            .optional(&section, "batch_size")
            .and_then(|n| self.size(n, "kafka.producer.batch_size", KIB..=16 * MIB))
        {
            settings.batch_size = in_memory(n);
        }
        if let Some(n) = self.optional(&section, "compression") {
            settings.compression = self.compression(n, "kafka.producer.compression").unwrap_or(settings.compression);
        }
        if let Some(n) = self
            .optional(&section, "memory")
            .and_then(|n| self.size(n, "kafka.producer.memory", MIB..=64 << 30))
        {
            settings.memory = in_memory(n);
        }
        let range = Duration::from_secs(1)..=Duration::from_secs(3600);
        if let Some(d) = self
            .optional(&section, "delivery_timeout")
            .and_then(|n| self.duration(n, "kafka.producer.delivery_timeout", range))
        {
            settings.delivery_timeout = d;
        }
        if let Some(n) = self
            .optional(&section, "qos2_connections")
            .and_then(|n| self.number(n, "kafka.producer.qos2_connections", 1..=64))
        {
            settings.qos2_connections = in_memory(n);
        }
        if settings.memory < settings.batch_size {
            let place = section
                .get("memory")
                .or(section.get("batch_size"))
                .map_or(section.place, |n| n.place);
            self.fault(
                place,
                "`kafka.producer.memory` is smaller than `batch_size`",
                "give memory for many batches, for example 128MiB",
            );
        }
        settings
    }

    fn consumer(&mut self, node: &Node) -> (ConsumerSettings, SweepSettings) {
        let mut settings = ConsumerSettings::default();
        let Some(section) = self.section(node, "kafka.consumer", &CONSUMER) else {
            return Default::default();
        };
        // Well below the time after which a broker that owes an answer is given up.
        let range = Duration::from_millis(1)..=Duration::from_secs(5);
        if let Some(d) = self
            .optional(&section, "max_wait")
            .and_then(|n| self.duration(n, "kafka.consumer.max_wait", range))
        {
            settings.max_wait = d;
        }
        if let Some(n) = self
            .optional(&section, "fetch_size")
            .and_then(|n| self.size(n, "kafka.consumer.fetch_size", KIB..=64 * MIB))
        {
            settings.fetch_size = in_memory(n);
        }
        let words = [
            ("read_committed", Isolation::ReadCommitted),
            ("read_uncommitted", Isolation::ReadUncommitted),
        ];
        if let Some(isolation) = self
            .optional(&section, "isolation")
            .and_then(|n| self.choice(n, "kafka.consumer.isolation", &words, &[]))
        {
            settings.isolation = isolation;
        }
        settings.rack = self
            .optional(&section, "rack")
            .and_then(|n| self.parsed(n, "kafka.consumer.rack", rack));
        let sweeps = self.sweeps(&section, settings.fetch_size);
        (settings, sweeps)
    }

    fn sweeps(&mut self, section: &Section<'_>, fetch_size: usize) -> SweepSettings {
        let mut sweeps = SweepSettings::default();
        if let Some(n) = self
            .optional(section, "sweeps")
            .and_then(|n| self.number(n, "kafka.consumer.sweeps", 1..=64))
        {
            sweeps.per_partition = in_memory(n);
        }
        if let Some(n) = self
            .optional(section, "cache")
            .and_then(|n| self.size(n, "kafka.consumer.cache", KIB..=64 << 30))
        {
            sweeps.memory = in_memory(n);
        }
        // A quarter of it is for one sweep at least: the fetch it is in, two that come, and a batch that was decompressed.
        if sweeps.for_sweeps() < fetch_size.saturating_mul(4) {
            let place = section
                .get("cache")
                .or(section.get("fetch_size"))
                .map_or(section.place, |n| n.place);
            self.fault(
                place,
                "`kafka.consumer.cache` is smaller than sixteen times `fetch_size`",
                "give memory for many fetches, for example 64MiB",
            );
        }
        sweeps
    }
}

/// The name of a rack; the protocol takes 32 KiB of any text, an operator means a short word.
fn rack(text: &str) -> Result<String, (String, String)> {
    if !text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err((
        "is no name of a rack".to_owned(),
        "write what the brokers near the proxy have as broker.rack, or leave it out".to_owned(),
    ))
}

/// `host:port`, an IPv6 address in brackets.
fn server(text: &str) -> Result<String, (String, String)> {
    let text = text.trim();
    let wrong = |what: &str| {
        (
            what.to_owned(),
            "write host:port, for example \"kafka-1:9092\" or \"[::1]:9092\"".to_owned(),
        )
    };
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong("has no port"));
    };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) {
        return Err(wrong("has no port from 1 to 65535"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let bracketed = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .map(str::parse::<std::net::Ipv6Addr>);
    match bracketed {
        Some(Ok(_)) => Ok(text.to_owned()),
        None if !host.is_empty() && host.len() <= 253 && host.chars().all(legal) => Ok(text.to_owned()),
        _ => Err(wrong("has no legal host name")),
    }
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
