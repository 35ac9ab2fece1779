//! What subscribers get of a record, told for people. The answer is that of `locate` itself; what each rule has to do with it is found
//! by the same steps.

use std::fmt;

use serde::de::IgnoredAny;

use super::deliver::Stored;
use super::draft::Inbound;
use super::inverse::Recover;
use super::locate::LocateScratch;
use super::own_headers::Place;
use super::record_template::Part;
use super::restore::Restored;
use super::route::{Refusal, RefusalReason};
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::said::Said;
use super::skip::{Skip, SkipReason};
use super::template::{Captured, Piece, Template};
use crate::mqtt::properties::UserProperties;
use crate::mqtt::publish::SharedProperties;

/// A record of Kafka as it is explained.
#[derive(Clone, Copy, Debug)]
pub struct SampleRecord<'a> {
    /// Of which topic.
    pub kafka_topic: &'a str,
    /// Of which partition.
    pub partition: i32,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in order.
    pub headers: &'a [(String, Vec<u8>)],
    /// When it is delivered, milliseconds since the epoch.
    pub now_ms: i64,
}

/// A message that a record becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedMessage {
    /// By which rule.
    pub rule: RuleId,
    /// Its MQTT topic.
    pub topic: String,
    /// Its QoS, 0 to 2.
    pub qos: u8,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its user properties.
    pub user: Vec<(String, String)>,
}

/// What a rule that reads a Kafka topic has to do with a record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Its header `mqtt.topic` names this topic, which the rule writes to where the record lies.
    Wrote(String),
    /// It is the first that can make a topic of it, this one.
    Makes(String),
    /// It could make this one, but comes after the rule that does.
    Later(String, RuleId),
    /// It can make none.
    Cannot(SkipReason),
    /// It is not asked: this rule has written it.
    WrittenBy(RuleId),
    /// It is not asked: a copy is delivered by no rule.
    Copy,
}

/// What becomes of a record.
#[derive(Clone, Debug)]
pub struct ExplainedDelivery {
    /// Of each rule that reads its Kafka topic, in order.
    pub readings: Vec<(RuleId, Reading)>,
    /// What `mqtt.topic` names, if no rule writes that topic to where the record lies: it tells nothing then.
    pub idle_header: Option<String>,
    /// The message, or why there is none.
    pub outcome: Result<ExplainedMessage, Skip>,
    /// What a program said that failed.
    pub trouble: Option<String>,
    /// What of the record a rule could not use, where its reason alone does not name it.
    pub details: Vec<(RuleId, String)>,
}

impl RuleSet {
    /// What becomes of a value. One without a schema at hand, which people write as the JSON that it becomes, stays what it is.
    fn explained_payload(&self, id: RuleId, value: Option<&[u8]>) -> Result<Vec<u8>, Skip> {
        let (mut memory, value) = (Vec::new(), value.unwrap_or(b""));
        match self.payload(id, Some(value), &mut memory) {
            Ok(payload) => Ok(payload.to_vec()),
            Err(SkipReason::NotFramed) if !value.is_empty() && serde_json::from_slice::<IgnoredAny>(value).is_err() => {
                let (rule, reason) = (Some(id), SkipReason::Refused(RefusalReason::NotJson));
                Err(Skip { rule, reason })
            }
            Err(SkipReason::NotFramed) => Ok(value.to_vec()),
            Err(reason) => Err(Skip { rule: Some(id), reason }),
        }
    }

    /// What subscribers get of a record.
    pub fn explain_record(&self, sample: &SampleRecord<'_>) -> ExplainedDelivery {
        let headers = sample.headers.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_slice())));
        let stored = Stored {
            timestamp: 0,
            key: sample.key,
            value: sample.value,
            headers,
        };
        let reader = self.reader(sample.kafka_topic);
        let place = Place::read(stored.headers.clone());
        let named = place.topic.and_then(|topic| std::str::from_utf8(topic).ok());
        let writer = named.and_then(|topic| self.writer(&reader, topic, sample.key, &place, &mut Vec::new()));
        let (mut topic, mut first) = (String::new(), None);
        let mut reading = |id: u32| match (place.copy, writer, named) {
            (true, ..) => Reading::Copy,
            (_, Some(writer), Some(named)) if writer == id => Reading::Wrote(named.to_owned()),
            (_, Some(writer), _) => Reading::WrittenBy(RuleId(writer)),
            _ => match (self.make(id, &reader, sample.partition, &stored, &mut topic), first) {
                (Err(reason), _) => Reading::Cannot(reason),
                (Ok(()), Some(first)) => Reading::Later(topic.clone(), first),
                (Ok(()), None) => {
                    first = Some(RuleId(id));
                    Reading::Makes(topic.clone())
                }
            },
        };
        let readings: Vec<_> = reader.rules.iter().map(|&id| (RuleId(id), reading(id))).collect();
        let lacking = readings
            .iter()
            .filter(|(_, reading)| *reading == Reading::Cannot(SkipReason::NoHeader));
        let named_of = |(id, _): &(RuleId, Reading)| Some((*id, format!("`{}`", self.rule(*id).missing_header(sample)?)));
        let details = lacking.filter_map(named_of).collect();
        let (mut scratch, mut properties) = (LocateScratch::default(), SharedProperties::new());
        let located = self.locate(&reader, sample.partition, &stored, &mut scratch);
        let (mut restored, mut trouble) = (Restored::default(), None);
        let outcome = located.and_then(|located| {
            let payload = self.explained_payload(located.rule, sample.value)?;
            if let Err(skip) = self.restore(&located, &stored, Some(&payload), sample.key, sample.now_ms, &mut restored) {
                trouble = restored.trouble.take();
                return Err(skip);
            }
            let message = self.message(&located, &stored, &mut properties);
            let user = UserProperties::from_block(message.shared_properties).iter();
            Ok(ExplainedMessage {
                rule: message.rule,
                topic: message.topic.to_owned(),
                qos: message.qos as u8,
                payload: restored.payload().map_or(payload, <[u8]>::to_vec),
                user: user.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            })
        });
        let idle = named.filter(|_| writer.is_none() && !place.copy && !reader.is_empty());
        ExplainedDelivery {
            readings,
            idle_header: idle.map(str::to_owned),
            outcome,
            trouble,
            details,
        }
    }

    /// What of a message its rule could not use, in words; `None`: the reason says all.
    pub(super) fn refusal_detail(&self, refusal: Refusal, inbound: &Inbound<'_>) -> Option<(RuleId, String)> {
        let rule = self.rule(refusal.rule);
        let words = match refusal.reason {
            RefusalReason::NoPayloadField => {
                let unsaid = |piece: &&Piece| matches!(piece, Piece::Said(said) if said.append(inbound, &mut String::new()) == Err(RefusalReason::NoPayloadField));
                match rule.templates().flat_map(|template| &template.pieces).find(unsaid)? {
                    Piece::Said(Said::Payload(path)) => format!("`{{payload.{}}}`", path.join(".")),
                    _ => return None,
                }
            }
            RefusalReason::NotAPartition => {
                let captured = rule.filter()?.captures(inbound.topic)?;
                format!("`{}`", rendered(rule.partition_template.as_ref()?, &captured, inbound)?)
            }
            _ => return None,
        };
        Some((refusal.rule, words))
    }
}

impl Rule {
    /// Of those that it fills from a message.
    fn templates(&self) -> impl Iterator<Item = &Template> {
        let headers = self.headers.iter().map(|(_, template)| template);
        let others = [&self.key, &self.partition_template, &self.timestamp];
        std::iter::once(&self.topic).chain(others.into_iter().flatten()).chain(headers)
    }

    /// The first header that the MQTT topic is made of and that the record has not, or not as text.
    fn missing_header(&self, sample: &SampleRecord<'_>) -> Option<&str> {
        let is_missing = |name: &&str| {
            let value = sample.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value);
            value.is_none_or(|value| std::str::from_utf8(value).is_err())
        };
        match &self.shape {
            Shape::Filter(_, recovers) => {
                let mut headers = recovers.iter().filter_map(|recover| match recover {
                    Recover::Header(i) => Some(self.headers.get(*i)?.0.as_str()),
                    _ => None,
                });
                headers.find(is_missing)
            }
            Shape::Record(levels, _) => {
                let mut headers = levels.iter().flatten().filter_map(|part| match part {
                    Part::Header { name, .. } => Some(name.as_str()),
                    _ => None,
                });
                headers.find(is_missing)
            }
        }
    }
}

/// What a template makes of a message; `None`: it cannot be filled.
fn rendered(template: &Template, captured: &Captured<'_>, inbound: &Inbound<'_>) -> Option<String> {
    let mut out = String::new();
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Capture(i) => out.push_str(captured[usize::from(*i)].unwrap_or("")),
            Piece::Client => out.push_str(inbound.client),
            Piece::Said(said) => said.append(inbound, &mut out).ok()?,
        }
    }
    Some(out)
}

impl fmt::Display for Reading {
    /// Without the name of another rule, which only the rule set knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reading::Wrote(topic) => write!(f, "takes it as {topic}, by the header mqtt.topic"),
            Reading::Makes(topic) => write!(f, "takes it as {topic}"),
            Reading::Later(topic, _) => write!(f, "could take it as {topic}, but comes after the rule that does"),
            Reading::Cannot(reason) => write!(f, "no: {}", reason.as_str()),
            Reading::WrittenBy(_) => f.write_str("is not asked: by the header mqtt.topic another rule has written it"),
            Reading::Copy => f.write_str("is not asked: copies are not delivered"),
        }
    }
}
