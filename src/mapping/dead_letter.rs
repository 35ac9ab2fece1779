//! A message that cannot be stored, as a record for the dead letter topic of its rule. What it says of the failure stands in headers that
//! are named as Kafka Connect's (KIP-298), so that tools for those topics read it; the others are the proxy's own, as on any record.

use super::draft::Inbound;
use super::headers::push_decimal;
use super::route::Refusal;
use super::rules::{RuleId, RuleSet};
use crate::kafka::{Header, RecordFields};
use crate::mqtt::PayloadFormat;

/// What failed, in the words of Connect's stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The rule can make no record of it.
    Mapping,
    /// The record cannot go to where the rule sends it, or Kafka refuses it for good.
    Produce,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Mapping => "TRANSFORMATION",
            Stage::Produce => "KAFKA_PRODUCE",
        }
    }
}

/// Why a message became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub stage: Stage,
    /// The reason, as metrics name it.
    pub why: &'static str,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure {
            stage: Stage::Mapping,
            why: refusal.reason.as_str(),
        }
    }
}

/// A copy of a message with all that its dead letter says but why it is one.
#[derive(Debug)]
pub struct DeadLetter {
    rule: RuleId,
    timestamp: i64,
    /// MQTT topic, payload, then names and values of headers.
    bytes: Box<[u8]>,
    topic: usize,
    payload: usize,
    /// Where each name and its value end.
    headers: Box<[(usize, usize)]>,
}

/// Names that a user property may not have in a dead letter: it would pass for what the proxy says.
const OWN: [&str; 2] = ["mqtt.", "__connect."];

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    headers: Vec<(usize, usize)>,
}

impl Writer {
    fn put(&mut self, name: [&str; 2], value: &[u8]) {
        name.into_iter().for_each(|part| self.bytes.extend_from_slice(part.as_bytes()));
        let end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.headers.push((end, self.bytes.len()));
    }

    /// The proxy's own.
    fn own(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(["mqtt.", name], value);
        }
    }
}

impl DeadLetter {
    /// Copies a message for the dead letter topic of a rule. `kafka_topic`: where its record should have gone, if that can be said.
    pub fn copy(set: &RuleSet, id: RuleId, inbound: &Inbound<'_>, kafka_topic: Option<&str>) -> Self {
        let (rule, publish) = (set.rule(id), inbound.publish);
        let properties = &publish.properties;
        let mut writer = Writer::default();
        writer.bytes.extend_from_slice(inbound.topic.as_bytes());
        writer.bytes.extend_from_slice(publish.payload);
        let payload = writer.bytes.len();
        if let Some(topic) = kafka_topic {
            writer.put(["__connect.errors.", "topic"], topic.as_bytes());
        }
        writer.put(["__connect.errors.", "connector.name"], rule.name.as_bytes());
        writer.own("topic", Some(inbound.topic.as_bytes()));
        writer.own("client", Some(inbound.client.as_bytes()).filter(|_| rule.client_header));
        writer.own("qos", Some([b"0", b"1", b"2"][publish.qos as usize]));
        writer.own("retain", publish.retain.then_some(b"1"));
        let mut expiry = String::new();
        properties
            .message_expiry_interval
            .into_iter()
            .for_each(|seconds| push_decimal(&mut expiry, seconds));
        writer.own("expiry", Some(expiry.as_bytes()).filter(|expiry| !expiry.is_empty()));
        writer.own("content-type", properties.content_type.map(str::as_bytes));
        let format = |format| if format == PayloadFormat::Utf8 { &b"1"[..] } else { b"0" };
        writer.own("payload-format", properties.payload_format.map(format));
        writer.own("response-topic", properties.response_topic.map(str::as_bytes));
        writer.own("correlation-data", properties.correlation_data);
        for (name, value) in properties.user.iter() {
            let is_taken = OWN.iter().any(|own| name.starts_with(own));
            writer.put([if is_taken { "mqtt.user." } else { "" }, name], value.as_bytes());
        }
        DeadLetter {
            rule: id,
            timestamp: inbound.now_ms,
            bytes: writer.bytes.into(),
            topic: inbound.topic.len(),
            payload,
            headers: writer.headers.into(),
        }
    }

    /// The rule that could not have it stored.
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// Bytes that it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + size_of_val(&*self.headers)
    }

    /// The record; its key is the MQTT topic.
    pub fn fields(&self, failure: Failure) -> RecordFields<'_, impl Iterator<Item = Header<'_>> + Clone> {
        let failed = [
            ("__connect.errors.stage", failure.stage.as_str()),
            ("__connect.errors.exception.message", failure.why),
        ];
        let failed = failed.into_iter().map(|(name, value)| (name, Some(value.as_bytes())));
        let own = self.headers.iter().scan(self.payload, |start, &(name, end)| {
            let (from, text) = (std::mem::replace(start, end), &self.bytes);
            let name_text = std::str::from_utf8(&text[from..name]).expect("names are made of text");
            Some((name_text, Some(&text[name..end])))
        });
        RecordFields {
            timestamp: self.timestamp,
            key: Some(&self.bytes[..self.topic]),
            value: Some(&self.bytes[self.topic..self.payload]),
            headers: own.chain(failed),
        }
    }
}
