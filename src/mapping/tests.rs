//! The mapping as its users see it: rules in, messages through, both ways.

mod backwards;
mod dead_letters;
mod expressions;
mod faults;
mod foreign;
mod forwards;
mod said;
mod shadow;
mod sources;
mod tables;
mod transforms;
mod unmapped;
mod warnings;

use super::*;
use crate::kafka::TopicPattern;
use crate::mqtt::publish::SharedProperties;
use crate::mqtt::{Publish, PublishProperties, QoS};

fn spec(name: &str, mqtt: &str, topic: &str, key: Option<&str>) -> RuleSpec {
    let kafka = KafkaSpec {
        topic: topic.into(),
        key: key.map(Into::into),
        ..KafkaSpec::default()
    };
    RuleSpec {
        name: name.into(),
        mqtt: mqtt.into(),
        kafka,
        ..RuleSpec::default()
    }
}

fn with_headers(mut spec: RuleSpec, headers: &[(&str, &str)]) -> RuleSpec {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    spec.kafka.headers = headers.iter().map(owned).collect();
    spec
}

fn subscribe(name: &str, mqtt: &str, topic: &str) -> RuleSpec {
    RuleSpec {
        direction: Direction::Subscribe,
        ..spec(name, mqtt, topic, None)
    }
}

fn also(spec: RuleSpec) -> RuleSpec {
    RuleSpec { also: true, ..spec }
}

fn compile(specs: Vec<RuleSpec>) -> RuleSet {
    RuleSet::compile(specs, Unmapped::Reject).unwrap()
}

fn source(rule: u32, kafka_topic: &str, key: Option<&str>) -> Source {
    Source {
        rule: RuleId(rule),
        kafka_topics: match kafka_topic.contains('*') {
            true => KafkaTopics::Like(TopicPattern::new(kafka_topic)),
            false => KafkaTopics::One(kafka_topic.into()),
        },
        key: key.map(|key| key.as_bytes().to_vec()),
    }
}

fn publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    }
}

/// A record as Kafka has it.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    rule: u32,
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Record {
    /// One of another program.
    fn foreign(topic: &str, key: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Record {
        let owned = |(name, value): &(&str, &[u8])| (name.as_bytes().to_vec(), Some(value.to_vec()));
        Record {
            rule: 0,
            topic: topic.into(),
            key: key.map(Into::into),
            value: Some(b"payload".to_vec()),
            headers: headers.iter().map(owned).collect(),
        }
    }

    fn key(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().unwrap()).unwrap()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(own, _)| own == name.as_bytes())?.1.as_deref()
    }

    fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| std::str::from_utf8(name).unwrap()).collect()
    }
}

/// A message as it came, of somebody without an identity.
fn inbound<'a>(packet: &'a Publish<'a>) -> Inbound<'a> {
    Inbound {
        publish: packet,
        topic: packet.topic,
        client: "c1",
        identity: None,
        now_ms: 7,
    }
}

/// The records that a message makes.
fn write(set: &RuleSet, packet: &Publish<'_>) -> Result<Vec<Record>, NoRoute> {
    let inbound = Inbound {
        identity: Some("who"),
        ..inbound(packet)
    };
    let mut draft = Draft::new();
    set.route(&inbound, &mut draft)?;
    let record = |i| {
        let fields = draft.fields(i, set, &inbound);
        assert_eq!(fields.timestamp, 7);
        let owned = |(name, value): (&str, Option<&[u8]>)| (name.as_bytes().to_vec(), value.map(Into::into));
        Record {
            rule: draft.rule(i).0,
            topic: draft.kafka_topic(i, set).to_owned(),
            key: fields.key.map(Into::into),
            value: fields.value.map(Into::into),
            headers: fields.headers.map(owned).collect(),
        }
    };
    Ok((0..draft.len()).map(record).collect())
}

/// The ordinary record of a message without properties.
fn first(set: &RuleSet, topic: &str) -> Record {
    write(set, &publish(topic, b"payload")).unwrap().remove(0)
}

/// A message as subscribers get it.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    rule: u32,
    topic: String,
    qos: QoS,
    retain: bool,
    expiry: Option<u32>,
    properties: Vec<u8>,
    client: Option<String>,
    payload: Vec<u8>,
    left_out: u32,
}

/// The message that a record makes.
fn read(set: &RuleSet, record: &Record) -> Result<Message, Skip> {
    let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
    let stored = Stored {
        timestamp: 7,
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    };
    let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::new());
    let reader = set.reader(&record.topic);
    let located = set.locate(&reader, 3, &stored, &mut scratch)?;
    let message = set.message(&located, &stored, &mut properties);
    assert_eq!((message.timestamp, message.topic, message.rule), (7, located.topic, located.rule));
    Ok(Message {
        rule: message.rule.0,
        topic: message.topic.to_owned(),
        qos: message.qos,
        retain: message.retain,
        expiry: message.message_expiry_interval,
        properties: message.shared_properties.to_vec(),
        client: message.client.map(str::to_owned),
        payload: message.payload.to_vec(),
        left_out: message.left_out,
    })
}

/// The topic of a foreign record.
fn back(set: &RuleSet, topic: &str, key: Option<&[u8]>, headers: &[(&str, &[u8])]) -> Result<String, SkipReason> {
    match read(set, &Record::foreign(topic, key, headers)) {
        Ok(message) => Ok(message.topic),
        Err(skip) => Err(skip.reason),
    }
}

/// User properties, encoded.
fn user(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut block = SharedProperties::new();
    for (name, value) in pairs {
        assert!(block.user(name, value));
    }
    block.as_bytes().to_vec()
}
