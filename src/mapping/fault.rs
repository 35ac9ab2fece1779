//! What is wrong with a rule as written, for people: where, what, and what would be right.

/// The string of a rule that a fault lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `name`
    Name,
    /// `mqtt`
    Mqtt,
    /// `mqtt_regex`
    MqttRegex,
    /// `also`
    Also,
    /// `qos`
    Qos,
    /// `retain`
    Retain,
    /// `acknowledge`
    Acknowledge,
    /// `overflow`
    Overflow,
    /// `unmapped`
    Unmapped,
    /// `on_error`
    OnError,
    /// `on_error.dead_letter`
    DeadLetter,
    /// `transform`
    Transform,
    /// `transform_back`
    TransformBack,
    /// `lookup`
    Lookup,
    /// `value`
    Value,
    /// `kafka.topics`, this place
    KafkaTopics(usize),
    /// `kafka.topic`
    KafkaTopic,
    /// `kafka.key`
    KafkaKey,
    /// `kafka.partition`
    KafkaPartition,
    /// `kafka.tombstones`
    KafkaTombstones,
    /// `kafka.timestamp`
    KafkaTimestamp,
    /// `kafka.client_header`
    KafkaClientHeader,
    /// `kafka.acks`
    KafkaAcks,
    /// `kafka.compression`
    KafkaCompression,
    /// `kafka.offline_retention`
    KafkaOfflineRetention,
    /// Name of the header at this place of `kafka.headers`.
    HeaderName(usize),
    /// Template of the header at this place of `kafka.headers`.
    HeaderValue(usize),
}

/// One fault of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Place of the rule in the file, from 0.
    pub rule: usize,
    /// Which of its strings.
    pub field: Field,
    /// Byte in that string, where one can be named.
    pub at: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

/// A fault of one string, before it is known which rule and field it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) at: usize,
    pub(super) message: String,
    pub(super) remedy: &'static str,
}

impl Wrong {
    pub(super) fn new(at: usize, message: impl Into<String>, remedy: &'static str) -> Self {
        Wrong {
            at,
            message: message.into(),
            remedy,
        }
    }
}

/// Faults of one rule while it is compiled.
pub(super) struct Faults {
    pub(super) rule: usize,
    pub(super) list: Vec<Fault>,
}

impl Faults {
    pub(super) fn add(&mut self, field: Field, at: Option<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        self.list.push(Fault {
            rule: self.rule,
            field,
            at,
            message: message.into(),
            remedy: remedy.into(),
        });
    }

    pub(super) fn wrong(&mut self, field: Field, wrong: Wrong) {
        self.add(field, Some(wrong.at), wrong.message, wrong.remedy);
    }
}
