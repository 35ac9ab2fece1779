//! The second half of the way back: a record that somebody wants becomes a message for subscribers.
//!
//! Only now are its headers read for what they say, and its properties encoded: once, for all who want it.

use super::locate::Located;
use super::own_headers::{Own, Raw};
use super::rules::{Rule, RuleId, RuleSet};
use crate::kafka::fetched::{Headers, RecordView};
use crate::mqtt::QoS;
use crate::mqtt::publish::SharedProperties;

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

impl<'a> From<&RecordView<'a>> for Stored<'a, Headers<'a>> {
    fn from(record: &RecordView<'a>) -> Self {
        Self {
            timestamp: record.timestamp,
            key: record.key,
            value: record.value,
            headers: record.headers(),
        }
    }
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
    /// Headers that no property can be made of: to be counted.
    pub left_out: u32,
}

impl RuleSet {
    /// Makes the message of a record that `locate` found a place for. `properties` is memory that is used again.
    pub fn message<'s, 'r: 's, H>(
        &self,
        located: &Located<'s>,
        record: &Stored<'r, H>,
        properties: &'s mut SharedProperties,
    ) -> Delivered<'s>
    where
        H: Iterator<Item = (&'r [u8], Option<&'r [u8]>)> + Clone,
    {
        let rule = self.rule(located.rule);
        let own = Own::read(record.headers.clone());
        let left_out = put_properties(rule, &own, record.headers.clone(), properties);
        Delivered {
            rule: located.rule,
            topic: located.topic,
            qos: match own.qos {
                Some(b"0") => QoS::AtMostOnce,
                Some(b"1") if rule.qos != QoS::AtMostOnce => QoS::AtLeastOnce,
                _ => rule.qos,
            },
            retain: own.retain,
            message_expiry_interval: own.expiry,
            shared_properties: properties.as_bytes(),
            client: own.client,
            timestamp: record.timestamp,
            payload: record.value.unwrap_or(b""),
            left_out,
        }
    }
}

/// Encodes the properties that all subscribers share; gives how many headers could not be one.
fn put_properties<'a>(rule: &Rule, own: &Own<'a>, headers: impl Iterator<Item = Raw<'a>>, out: &mut SharedProperties) -> u32 {
    out.clear();
    own.format.into_iter().for_each(|format| out.payload_format(format));
    let mut left_out = u32::from(own.response_topic.is_some_and(|topic| !out.response_topic(topic)));
    left_out += u32::from(own.correlation.is_some_and(|data| !out.correlation_data(data)));
    left_out += u32::from(own.content_type.is_some_and(|text| !out.content_type(text)));
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
            (Ok(name), Ok(value)) => out.user(name, value),
            _ => false,
        };
        left_out += u32::from(!put);
    }
    left_out
}
