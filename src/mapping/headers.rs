//! The headers of a drafted record: the proxy's own, the rule's, then the user properties.

use std::ops::Range;

use super::draft::{Draft, Inbound, Text};
use super::rules::Rule;
use crate::mqtt::PayloadFormat;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Fixed(&'static str),
    Rule(usize),
    /// In the draft's own text, from and to.
    Own(usize, usize),
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Text),
    Client,
    RuleName,
    Fixed(&'static str),
    ContentType,
    ResponseTopic,
    Correlation,
}

impl Draft {
    pub(super) fn own_headers(&mut self, rule: &Rule, inbound: &Inbound<'_>, rest_missing: bool) {
        let publish = inbound.publish;
        let properties = &publish.properties;
        if rule.topic_header || rest_missing {
            self.headers
                .push((Name::Fixed("mqtt.topic"), Value::Text(Text::Topic(0..inbound.topic.len()))));
        }
        if rule.client_header {
            self.headers.push((Name::Fixed("mqtt.client"), Value::Client));
        }
        // Without the header a record is read with the rule's QoS.
        if publish.qos != rule.qos {
            self.headers
                .push((Name::Fixed("mqtt.qos"), Value::Fixed(["0", "1", "2"][publish.qos as usize])));
        }
        if publish.retain {
            self.headers.push((Name::Fixed("mqtt.retain"), Value::Fixed("1")));
        }
        if let Some(seconds) = properties.message_expiry_interval {
            let start = self.text.len();
            push_decimal(&mut self.text, seconds);
            self.headers
                .push((Name::Fixed("mqtt.expiry"), Value::Text(Text::Own(start..self.text.len()))));
        }
        if properties.content_type.is_some() {
            self.headers.push((Name::Fixed("mqtt.content-type"), Value::ContentType));
        }
        if let Some(format) = properties.payload_format {
            let value = if format == PayloadFormat::Utf8 { "1" } else { "0" };
            self.headers.push((Name::Fixed("mqtt.payload-format"), Value::Fixed(value)));
        }
        if properties.response_topic.is_some() {
            self.headers.push((Name::Fixed("mqtt.response-topic"), Value::ResponseTopic));
        }
        if properties.correlation_data.is_some() {
            self.headers.push((Name::Fixed("mqtt.correlation-data"), Value::Correlation));
        }
        if rule.also {
            self.headers.push((Name::Fixed("mqtt.copy"), Value::RuleName));
        }
    }
}

/// A user property that would pass for a header of the proxy or of the rule.
pub(super) fn must_escape(name: &str, rule: &Rule) -> bool {
    name.starts_with("mqtt.") || rule.headers.iter().any(|(own, _)| own == name)
}

pub(super) fn push_decimal(out: &mut String, number: u32) {
    use std::fmt::Write;
    write!(out, "{number}").expect("a String takes all");
}

/// Headers of one record: the proxy's own, the rule's, then the user properties.
#[derive(Clone, Debug)]
pub(super) struct Headers<'a, U> {
    pub(super) draft: &'a Draft,
    pub(super) inbound: Inbound<'a>,
    pub(super) rule: &'a Rule,
    pub(super) own: std::slice::Iter<'a, (Name, Value)>,
    pub(super) user: U,
    pub(super) escaped: std::slice::Iter<'a, Range<usize>>,
}

impl<'a, U: Iterator<Item = (&'a str, &'a str)>> Iterator for Headers<'a, U> {
    type Item = crate::kafka::Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some((name, value)) = self.own.next() else {
            let (name, value) = self.user.next()?;
            let escaped = must_escape(name, self.rule).then(|| self.escaped.next()).flatten();
            let name = escaped.map_or(name, |range| &self.draft.text[range.clone()]);
            return Some((name, Some(value.as_bytes())));
        };
        let name = match name {
            Name::Fixed(name) => name,
            Name::Rule(i) => self.rule.headers[*i].0.as_str(),
            Name::Own(from, to) => &self.draft.text[*from..*to],
        };
        let properties = &self.inbound.publish.properties;
        let value = match value {
            Value::Text(text) => self.draft.read(text, &self.inbound).as_bytes(),
            Value::Client => self.inbound.client.as_bytes(),
            Value::RuleName => self.rule.name.as_bytes(),
            Value::Fixed(text) => text.as_bytes(),
            Value::ContentType => properties.content_type.unwrap_or("").as_bytes(),
            Value::ResponseTopic => properties.response_topic.unwrap_or("").as_bytes(),
            Value::Correlation => properties.correlation_data.unwrap_or(&[]),
        };
        Some((name, Some(value)))
    }
}
