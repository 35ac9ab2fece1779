//! The way back: a Kafka record, of whichever producer, becomes a message for subscribers, or is passed over with a reason.

use super::block::{put_binary, put_format, put_user};
use super::filter::{Filter, is_topic_name};
use super::rules::{From, Part, Rule, RuleId, RuleSet, Shape};
use super::skip::{Skip, SkipReason};
use super::spec::Tombstones;
use super::template::{Captured, Template};
use crate::mqtt::QoS;

/// A record as it was read. `headers` is walked a few times, so it must be cheap to clone.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a, H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone> {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: H,
}

/// A Kafka topic with the rules that read it; made once for a topic.
#[derive(Clone, Debug)]
pub struct Reader {
    topic: String,
    rules: Vec<u32>,
}

impl Reader {
    /// Whether no rule reads this topic.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Memory in which messages are made; used again.
#[derive(Debug, Default)]
pub struct DeliverScratch {
    topic: String,
    text: String,
    properties: Vec<u8>,
}

/// A message for subscribers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivered<'a> {
    /// Of which rule.
    pub rule: RuleId,
    /// A legal topic name.
    pub topic: &'a str,
    /// Its QoS, at most the rule's.
    pub qos: QoS,
    /// It was published with the retain flag.
    pub retain: bool,
    /// Seconds from `timestamp` on, as stored.
    pub message_expiry_interval: Option<u32>,
    /// Encoded version 5 properties without their length.
    pub shared_properties: &'a [u8],
    /// Who published it, if known.
    pub client: Option<&'a str>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The record's value; empty for a tombstone.
    pub payload: &'a [u8],
    /// Headers that no user property can be made of: to be counted.
    pub left_out: u32,
}

/// The proxy's own headers of a record; the first of each name counts.
#[derive(Default)]
struct Own<'a> {
    topic: Option<&'a str>,
    client: Option<&'a str>,
    qos: Option<&'a [u8]>,
    retain: bool,
    expiry: Option<u32>,
    format: Option<bool>,
    content_type: Option<&'a str>,
    response_topic: Option<&'a str>,
    correlation: Option<&'a [u8]>,
    copy: bool,
}

fn own<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Own<'a> {
    let mut own = Own::default();
    for (name, value) in headers {
        let Some(name) = name.strip_prefix(b"mqtt.") else { continue };
        let value = value.unwrap_or(b"");
        let text = || std::str::from_utf8(value).ok();
        match name {
            b"topic" => own.topic = own.topic.or_else(text),
            b"client" => own.client = own.client.or_else(text),
            b"qos" => own.qos = own.qos.or(Some(value)),
            b"retain" => own.retain |= value == b"1",
            b"expiry" => own.expiry = own.expiry.or_else(|| text()?.parse().ok()),
            b"payload-format" => own.format = own.format.or(Some(value == b"1")),
            b"content-type" => own.content_type = own.content_type.or_else(|| text().filter(|text| !text.contains('\0'))),
            b"response-topic" => own.response_topic = own.response_topic.or_else(|| text().filter(|text| is_topic_name(text))),
            b"correlation-data" => own.correlation = own.correlation.or(Some(value)),
            b"copy" => own.copy = true,
            _ => {}
        }
    }
    own
}

impl RuleSet {
    /// Which rules read a Kafka topic. Ask once for a topic, not for a record.
    pub fn reader(&self, kafka_topic: &str) -> Reader {
        Reader {
            topic: kafka_topic.to_owned(),
            rules: self.readers_of(kafka_topic),
        }
    }

    /// Makes the message of a record: by `mqtt.topic` if a rule could have written it, else by the first rule that
    /// can make a topic of it.
    pub fn deliver<'s, 'r: 's, H>(
        &self,
        reader: &Reader,
        partition: i32,
        record: &Stored<'r, H>,
        scratch: &'s mut DeliverScratch,
    ) -> Result<Delivered<'s>, Skip>
    where
        H: Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + Clone,
    {
        let own = own(record.headers.clone());
        if own.copy {
            return Err(Skip {
                rule: None,
                reason: SkipReason::Copy,
            });
        }
        let id = self.find(reader, partition, record, &own, scratch)?;
        let rule = &self.rules[id as usize];
        let skip = |reason| {
            Err(Skip {
                rule: Some(RuleId(id)),
                reason,
            })
        };
        if record.value.is_none() && rule.tombstones == Tombstones::Skip {
            return skip(SkipReason::Tombstone);
        }
        let left_out = put_properties(rule, &own, record.headers.clone(), &mut scratch.properties);
        let qos = match own.qos {
            Some(b"0") => QoS::AtMostOnce,
            Some(b"1") if rule.qos != QoS::AtMostOnce => QoS::AtLeastOnce,
            _ => rule.qos,
        };
        let scratch = &*scratch;
        Ok(Delivered {
            rule: RuleId(id),
            topic: &scratch.topic,
            qos,
            retain: own.retain,
            message_expiry_interval: own.expiry,
            shared_properties: &scratch.properties,
            client: own.client,
            timestamp: record.timestamp,
            payload: record.value.unwrap_or(b""),
            left_out,
        })
    }

    /// The rule that takes the record; its topic is then in the scratch.
    fn find<'a, H>(
        &self,
        reader: &Reader,
        partition: i32,
        record: &Stored<'a, H>,
        own: &Own<'a>,
        scratch: &mut DeliverScratch,
    ) -> Result<u32, Skip>
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    {
        if let Some(topic) = own.topic {
            let wrote = reader
                .rules
                .iter()
                .find(|&&id| could_have_made(&self.rules[id as usize], topic, &reader.topic, record.key, own, &mut scratch.text));
            if let Some(&id) = wrote {
                scratch.topic.clear();
                scratch.topic.push_str(topic);
                return Ok(id);
            }
        }
        let mut first = Skip {
            rule: None,
            reason: SkipReason::NoRule,
        };
        for &id in &reader.rules {
            let rule = &self.rules[id as usize];
            scratch.topic.clear();
            let made = match &rule.shape {
                Shape::Filter(filter, froms) => by_inverse(rule, filter, froms, &reader.topic, record, &mut scratch.topic),
                Shape::Record(levels) => by_template(levels, &reader.topic, partition, record, &mut scratch.topic),
            };
            match made {
                Ok(()) if is_topic_name(&scratch.topic) => return Ok(id),
                Ok(()) if first.rule.is_none() => {
                    first = Skip {
                        rule: Some(RuleId(id)),
                        reason: SkipReason::IllegalTopic,
                    }
                }
                Err(reason) if first.rule.is_none() => {
                    first = Skip {
                        rule: Some(RuleId(id)),
                        reason,
                    }
                }
                _ => {}
            }
        }
        Err(first)
    }
}

/// Whether this rule maps `topic` to exactly this Kafka topic and key.
fn could_have_made(rule: &Rule, topic: &str, kafka_topic: &str, key: Option<&[u8]>, own: &Own<'_>, text: &mut String) -> bool {
    let Some(filter) = rule.filter() else { return false };
    if !is_topic_name(topic) {
        return false;
    }
    let Some(mut captured) = filter.captures(topic) else { return false };
    captured[..filter.captures.len()]
        .iter_mut()
        .for_each(|held| *held = held.or(Some("")));
    let mut gives = |template: &Template, wanted: &[u8]| {
        text.clear();
        template.render(&captured, own.client, text) && text.as_bytes() == wanted
    };
    (rule.slot.is_some() || gives(&rule.topic, kafka_topic.as_bytes()))
        && match &rule.key {
            None => key == Some(topic.as_bytes()),
            // A key with the client id cannot be checked where the rule leaves that out of the headers.
            Some(template) => key.is_some_and(|key| {
                (own.client.is_none() && template.pieces.contains(&super::template::Piece::Client)) || gives(template, key)
            }),
        }
}

fn utf8_key(key: Option<&[u8]>) -> Result<&str, SkipReason> {
    std::str::from_utf8(key.ok_or(SkipReason::NoKey)?).map_err(|_| SkipReason::KeyNotUtf8)
}

fn header<'a>(headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>, name: &str) -> Result<&'a str, SkipReason> {
    let mut headers = headers;
    let value = headers.find(|(own, _)| *own == name.as_bytes()).and_then(|(_, value)| value);
    std::str::from_utf8(value.ok_or(SkipReason::NoHeader)?).map_err(|_| SkipReason::NoHeader)
}

fn by_inverse<'a, H>(
    rule: &Rule,
    filter: &Filter,
    froms: &[From],
    kafka_topic: &str,
    record: &Stored<'a, H>,
    out: &mut String,
) -> Result<(), SkipReason>
where
    H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
{
    let mut captured = Captured::default();
    for from in froms {
        let read = match from {
            From::WholeKey => {
                let topic = utf8_key(record.key)?;
                out.push_str(topic);
                return filter.captures(topic).map(drop).ok_or(SkipReason::OtherForm);
            }
            From::Topic => rule.topic.read_back(kafka_topic, &mut captured),
            From::Key => {
                let key = rule.key.as_ref().expect("planned from the key");
                key.read_back(utf8_key(record.key)?, &mut captured)
            }
            From::Header(i) => {
                let (name, value) = &rule.headers[*i];
                value.read_back(header(record.headers.clone(), name)?, &mut captured)
            }
        };
        if !read {
            return Err(SkipReason::OtherForm);
        }
    }
    if filter.render(&captured, out) {
        Ok(())
    } else {
        Err(SkipReason::OtherForm)
    }
}

fn by_template<'a, H>(
    levels: &[Vec<Part>],
    kafka_topic: &str,
    partition: i32,
    record: &Stored<'a, H>,
    out: &mut String,
) -> Result<(), SkipReason>
where
    H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
{
    use std::fmt::Write;
    for (place, level) in levels.iter().enumerate() {
        if place > 0 {
            out.push('/');
        }
        for part in level {
            let (text, rest) = match part {
                Part::Text(text) => (text.as_str(), true),
                Part::Topic => (kafka_topic, false),
                Part::Key { rest } => (utf8_key(record.key)?, *rest),
                Part::Header { name, rest } => (header(record.headers.clone(), name)?, *rest),
                Part::Partition => {
                    write!(out, "{partition}").expect("a String takes all");
                    continue;
                }
            };
            if !rest && text.contains('/') {
                return Err(SkipReason::OtherForm);
            }
            out.push_str(text);
        }
    }
    Ok(())
}

/// Encodes the properties that all subscribers share; gives how many headers could not be one.
fn put_properties<'a>(rule: &Rule, own: &Own<'a>, headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>, out: &mut Vec<u8>) -> u32 {
    out.clear();
    let mut left_out = 0;
    if let Some(utf8) = own.format {
        put_format(out, utf8);
    }
    let texts = [
        (0x08, own.response_topic.map(str::as_bytes)),
        (0x09, own.correlation),
        (0x03, own.content_type.map(str::as_bytes)),
    ];
    for (id, value) in texts {
        left_out += u32::from(value.is_some_and(|value| !put_binary(out, id, value)));
    }
    for (name, value) in headers {
        let name = match name.strip_prefix(b"mqtt.") {
            Some(own) => match own.strip_prefix(b"user.") {
                Some(name) => name,
                None => continue,
            },
            None if rule.headers.iter().any(|(own, _)| own.as_bytes() == name) => continue,
            None => name,
        };
        let put = match (std::str::from_utf8(name), std::str::from_utf8(value.unwrap_or(b""))) {
            (Ok(name), Ok(value)) => put_user(out, name, value),
            _ => false,
        };
        left_out += u32::from(!put);
    }
    left_out
}
