//! Rules as they are written: typed choices, and the templates still as text. `RuleSet::compile` makes rules of them.

use std::sync::Arc;
use std::time::Duration;

use super::format::Format;
use super::schema::SchemaSpec;
use super::tables::Table;
use crate::kafka::{Acks, Compression};
use crate::mqtt::QoS;

/// Which way a rule maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// MQTT to Kafka only.
    Publish,
    /// Kafka to MQTT only; `mqtt` is then a template over the record.
    Subscribe,
    /// Both ways; the way back is the inverse of the way in.
    #[default]
    Both,
}

/// Whether retained messages are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Retain {
    /// They are.
    #[default]
    Allow,
    /// They are refused.
    Deny,
}

/// When a PUBLISH is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acknowledge {
    /// After Kafka's acknowledgement.
    #[default]
    AfterKafka,
    /// As soon as it was read.
    OnReceipt,
}

/// What becomes of QoS 0 when the producer's memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The socket is not read.
    #[default]
    Wait,
    /// The message is dropped and counted.
    Drop,
}

/// What becomes of a message that cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The device is told.
    #[default]
    Reject,
    /// Acknowledged and counted.
    Skip,
    /// Stored with its reason in the rule's dead letter topic, and then acknowledged; told if it cannot be stored there.
    DeadLetter,
}

/// Whether null values and empty payloads are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Tombstones {
    /// Null values are passed over.
    #[default]
    Skip,
    /// Null values are delivered as empty payloads.
    Deliver,
    /// And empty payloads are stored as null values.
    Both,
}

/// When a record says it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Timestamp {
    /// When the PUBLISH was received.
    #[default]
    Receipt,
    /// The time that this template makes: milliseconds since the epoch, or RFC 3339 in UTC.
    Template(String),
}

/// How the partition is found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum PartitionSpec {
    /// murmur2 of the key, as the Java client.
    #[default]
    Hash,
    /// One after the other.
    RoundRobin,
    /// One until its batch is full.
    Sticky,
    /// Always this one.
    Number(u32),
    /// The one whose number this template makes.
    Template(String),
}

impl std::fmt::Display for PartitionSpec {
    /// As it is written in the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PartitionSpec::Hash => f.write_str("hash"),
            PartitionSpec::RoundRobin => f.write_str("round-robin"),
            PartitionSpec::Sticky => f.write_str("sticky"),
            PartitionSpec::Number(number) => write!(f, "{number}"),
            PartitionSpec::Template(written) => f.write_str(written),
        }
    }
}

/// What becomes of a topic or filter that no rule maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Unmapped {
    /// Refused with a reason code.
    #[default]
    Reject,
    /// Acknowledged or granted, and counted.
    Drop,
}

/// A rule as written. `None` is "not written".
#[derive(Clone, Debug, Default)]
pub struct RuleSpec {
    /// Unique; a metrics label.
    pub name: String,
    /// Which way it maps.
    pub direction: Direction,
    /// Filter with captures, or the template of a subscribe rule.
    pub mqtt: String,
    /// A regular expression with named groups in the place of `mqtt`, which is not looked at then.
    pub mqtt_regex: Option<String>,
    /// A copy beside the first ordinary rule that matches.
    pub also: bool,
    /// Highest QoS for subscribers; 2 if not written.
    pub qos: Option<QoS>,
    /// Retained messages; allowed if not written, unless subscribers should get them and nobody learns where they are stored (`acks: none`).
    pub retain: Option<Retain>,
    /// When a PUBLISH is acknowledged.
    pub acknowledge: Option<Acknowledge>,
    /// QoS 0 and full memory.
    pub overflow: Option<Overflow>,
    /// What becomes of a refused message.
    pub on_error: Option<OnError>,
    /// The topic of `OnError::DeadLetter`, which cannot be without it.
    pub dead_letter: Option<String>,
    /// What becomes of its topics the other way round, if no rule maps them; what the file says for all if not written.
    pub unmapped: Option<Unmapped>,
    /// The jq program that makes values for Kafka of payloads; none if not written.
    pub transform: Option<String>,
    /// The jq program that makes payloads for devices of values; none if not written.
    pub transform_back: Option<String>,
    /// Tables that the programs know, by their names.
    pub lookup: Vec<(String, Arc<Table>)>,
    /// Formats; payloads are not looked into if neither this nor a program is written.
    pub value: Option<ValueSpec>,
    /// The schemas of its values; `None`: payloads and values are the same bytes.
    pub schema: Option<SchemaSpec>,
    /// The Kafka side.
    pub kafka: KafkaSpec,
}

/// Formats of a rule as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ValueSpec {
    /// What lies in Kafka.
    pub format: Format,
    /// What devices send and get; JSON if not written.
    pub payload: Option<Format>,
}

impl RuleSpec {
    /// Whether its retained messages would be kept, if nobody had to learn where they are stored.
    pub(super) fn loses_offsets(&self) -> bool {
        self.kafka.acks == Some(Acks::None) && self.direction == Direction::Both
    }
}

/// The Kafka side of a rule as written.
#[derive(Clone, Debug, Default)]
pub struct KafkaSpec {
    /// Template of the topic.
    pub topic: String,
    /// Topics that `transform` may choose beside it.
    pub topics: Vec<String>,
    /// Template of the key; the MQTT topic if not written.
    pub key: Option<String>,
    /// Hash if not written.
    pub partition: Option<PartitionSpec>,
    /// Names and templates, in order.
    pub headers: Vec<(String, String)>,
    /// Null values; passed over on the way to subscribers if not written.
    pub tombstones: Option<Tombstones>,
    /// The time of receipt if not written.
    pub timestamp: Option<Timestamp>,
    /// `mqtt.client` is written; true if not written.
    pub client_header: Option<bool>,
    /// All in-sync replicas if not written.
    pub acks: Option<Acks>,
    /// The producer's if not written.
    pub compression: Option<Compression>,
    /// How far back a session that returns may start; as far as the topic reaches if not written.
    pub offline_retention: Option<Duration>,
}
