//! What is counted by listener and by rule, and the handles with the labels already resolved.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfListener {
    listener: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedBy {
    listener: Arc<str>,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleDirection {
    rule: Arc<str>,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleReason {
    rule: Arc<str>,
    reason: &'static str,
}

/// Why a connection ended before its first packet was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// As many connections as `limits.connections` allows were open.
    Limit,
    /// More came than `limits.connect_rate` allows.
    Rate,
    /// As many as the listener's `limits.connections` allows were open there.
    ListenerLimit,
    /// More came to the listener than its `limits.connect_rate` allows.
    ListenerRate,
    /// As many as `limits.connections_per_address` allows were open from the same address.
    AddressLimit,
    /// It must begin with a PROXY header, and came from elsewhere than `proxy_from` says, or had none.
    ProxyHeader,
    /// The TLS handshake failed: no or a wrong certificate, no common version, not TLS at all. Or that of WebSocket did.
    Handshake,
    /// The handshake was not done within `limits.connect_timeout`.
    Deadline,
}

impl ConnectionRefusal {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Limit,
        Self::Rate,
        Self::ListenerLimit,
        Self::ListenerRate,
        Self::AddressLimit,
        Self::ProxyHeader,
        Self::Handshake,
        Self::Deadline,
    ];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "connection_limit",
            Self::Rate => "connect_rate",
            Self::ListenerLimit => "listener_limit",
            Self::ListenerRate => "listener_rate",
            Self::AddressLimit => "address_limit",
            Self::ProxyHeader => "proxy_header",
            Self::Handshake => "handshake",
            Self::Deadline => "deadline",
        }
    }
}

#[derive(Debug)]
pub(super) struct ConnectionFamilies {
    current: Family<OfListener, Gauge>,
    opened: Family<OfListener, Counter>,
    refused: Family<RefusedBy, Counter>,
}

impl ConnectionFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            current: Family::default(),
            opened: Family::default(),
            refused: Family::default(),
        };
        registry.register("connections", "Connections open now, handshakes included", new.current.clone());
        registry.register("connections_opened", "Connections accepted", new.opened.clone());
        registry.register(
            "connections_refused",
            "Connections refused before the first packet",
            new.refused.clone(),
        );
        new
    }

    pub(super) fn listener(&self, name: &str, panics: &Counter) -> ListenerCounters {
        let listener: Arc<str> = name.into();
        let by = |reason: ConnectionRefusal| RefusedBy {
            listener: listener.clone(),
            reason: reason.as_str(),
        };
        ListenerCounters {
            current: self.current.get_or_create_owned(&OfListener {
                listener: listener.clone(),
            }),
            opened: self.opened.get_or_create_owned(&OfListener {
                listener: listener.clone(),
            }),
            panics: panics.clone(),
            refused: ConnectionRefusal::ALL.map(|reason| self.refused.get_or_create_owned(&by(reason))),
        }
    }
}

/// The counters of one listener.
#[derive(Clone, Debug)]
pub struct ListenerCounters {
    /// Connections open now; those still in their handshake count.
    pub current: Gauge,
    /// Connections taken in since the start.
    pub opened: Counter,
    /// Tasks of connections that ended by a panic, of all listeners.
    pub panics: Counter,
    refused: [Counter; 8],
}

impl ListenerCounters {
    /// Counts a connection that ended before its first packet.
    pub fn refused(&self, reason: ConnectionRefusal) {
        self.refused[reason as usize].inc();
    }
}

#[derive(Debug)]
pub(super) struct RuleFamilies {
    messages: Family<RuleDirection, Counter>,
    bytes: Family<RuleDirection, Counter>,
    skipped: Family<RuleReason, Counter>,
    dropped: Family<RuleReason, Counter>,
    dead_letters: Family<RuleReason, Counter>,
    transform_failures: Family<RuleReason, Counter>,
    transform_steps: Family<OfRule, Counter>,
    headers_left_out: Family<OfRule, Counter>,
    offset_resets: Family<OfRule, Counter>,
}

impl RuleFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            messages: Family::default(),
            bytes: Family::default(),
            skipped: Family::default(),
            dropped: Family::default(),
            dead_letters: Family::default(),
            transform_failures: Family::default(),
            transform_steps: Family::default(),
            headers_left_out: Family::default(),
            offset_resets: Family::default(),
        };
        registry.register("messages", "Messages handed on, by rule and direction", new.messages.clone());
        registry.register("message_bytes", "Payload bytes handed on, by rule and direction", new.bytes.clone());
        registry.register(
            "records_skipped",
            "Kafka records not delivered, by rule and reason",
            new.skipped.clone(),
        );
        registry.register("messages_dropped", "Messages given up, by rule and reason", new.dropped.clone());
        let help = "Messages stored in the dead letter topic of their rule, by rule and reason";
        registry.register("dead_letters", help, new.dead_letters.clone());
        let help = "Messages or records whose transform failed, by rule and reason";
        registry.register("transform_failures", help, new.transform_failures.clone());
        let help = "Steps that transforms took, some 50 ns each, by rule";
        registry.register("transform_steps", help, new.transform_steps.clone());
        registry.register(
            "headers_left_out",
            "Kafka headers that no MQTT property can hold, by rule",
            new.headers_left_out.clone(),
        );
        registry.register(
            "offset_resets",
            "Times that records were deleted before they were read, by rule",
            new.offset_resets.clone(),
        );
        new
    }

    pub(super) fn rule(&self, name: &str) -> RuleCounters {
        let rule: Arc<str> = name.into();
        let labels = |direction| RuleDirection {
            rule: rule.clone(),
            direction,
        };
        let (to_kafka, to_device) = (labels("to_kafka"), labels("to_device"));
        RuleCounters {
            messages_in: self.messages.get_or_create_owned(&to_kafka),
            bytes_in: self.bytes.get_or_create_owned(&to_kafka),
            messages_out: self.messages.get_or_create_owned(&to_device),
            bytes_out: self.bytes.get_or_create_owned(&to_device),
            skipped: self.skipped.clone(),
            dropped: self.dropped.clone(),
            dead_letters: self.dead_letters.clone(),
            transform_failures: self.transform_failures.clone(),
            transform_steps: self.transform_steps.get_or_create_owned(&OfRule { rule: rule.clone() }),
            headers_left_out: self.headers_left_out.get_or_create_owned(&OfRule { rule: rule.clone() }),
            offset_resets: self.offset_resets.get_or_create_owned(&OfRule { rule: rule.clone() }),
            rule,
        }
    }
}

/// The counters of one rule: plain adds for what happens per message, one look-up for what is rare.
#[derive(Clone, Debug)]
pub struct RuleCounters {
    rule: Arc<str>,
    /// Messages of devices put into a batch for Kafka; what Kafka then refuses is counted by `refusals`, and where no device is told by `messages_dropped`.
    pub messages_in: Counter,
    /// Their payload bytes.
    pub bytes_in: Counter,
    /// Messages given to devices.
    pub messages_out: Counter,
    /// Their payload bytes.
    pub bytes_out: Counter,
    /// Headers of delivered records that no property can hold (not UTF-8, too long).
    pub headers_left_out: Counter,
    /// Times that records which the rule might have delivered were deleted before they were read.
    pub offset_resets: Counter,
    skipped: Family<RuleReason, Counter>,
    dropped: Family<RuleReason, Counter>,
    dead_letters: Family<RuleReason, Counter>,
    transform_failures: Family<RuleReason, Counter>,
    /// Steps that the rule's transforms took.
    pub transform_steps: Counter,
}

impl RuleCounters {
    /// The rule's.
    pub fn name(&self) -> &str {
        &self.rule
    }

    /// Counts a Kafka record that could not be made into a message.
    pub fn skipped(&self, reason: &'static str) {
        self.skipped.get_or_create(&self.because(reason)).inc();
    }

    /// Counts a message that was given up: no room, no time, nobody to take it.
    pub fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&self.because(reason)).inc();
    }

    /// Counts several messages that were given up.
    pub fn lost(&self, reason: &'static str, messages: u32) {
        self.dropped.get_or_create(&self.because(reason)).inc_by(messages.into());
    }

    /// Counts a message that went to the dead letter topic.
    pub fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.get_or_create(&self.because(reason)).inc();
    }

    /// Counts a message or record whose transform failed.
    pub fn transform_failed(&self, reason: &'static str) {
        self.transform_failures.get_or_create(&self.because(reason)).inc();
    }

    fn because(&self, reason: &'static str) -> RuleReason {
        RuleReason {
            rule: self.rule.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_counts_under_its_own_reason() {
        let mut registry = Registry::default();
        let counters = ConnectionFamilies::register(&mut registry).listener("tcp", &Counter::default());
        for (times, reason) in ConnectionRefusal::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                counters.refused(reason);
            }
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let reasons = [
            "connection_limit",
            "connect_rate",
            "listener_limit",
            "listener_rate",
            "address_limit",
            "proxy_header",
            "handshake",
            "deadline",
        ];
        for (reason, count) in reasons.into_iter().zip(1..) {
            let line = format!("connections_refused_total{{listener=\"tcp\",reason=\"{reason}\"}} {count}");
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
    }
}
