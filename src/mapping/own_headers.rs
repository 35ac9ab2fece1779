//! The headers `mqtt.*` of a record, read back: the few that say where it belongs, and those that say what it is.

use crate::mqtt::PayloadFormat;

/// A header as Kafka has it: neither name nor value need be text.
pub(super) type Raw<'a> = (&'a [u8], Option<&'a [u8]>);

/// What the proxy's own headers say of a record's place; the first of each name counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) topic: Option<&'a [u8]>,
    pub(super) client: Option<&'a [u8]>,
    pub(super) copy: bool,
}

impl<'a> Place<'a> {
    #[inline]
    pub(super) fn read(headers: impl Iterator<Item = Raw<'a>>) -> Self {
        let mut place = Place::default();
        for (name, value) in headers {
            match name {
                b"mqtt.topic" => place.topic = place.topic.or(value),
                b"mqtt.client" => place.client = place.client.or(value),
                b"mqtt.copy" => place.copy = true,
                _ => {}
            }
        }
        place
    }
}

/// What the proxy's own headers say of a message; the first of each name counts.
#[derive(Clone, Copy, Default)]
pub(super) struct Own<'a> {
    pub(super) client: Option<&'a str>,
    pub(super) qos: Option<&'a [u8]>,
    pub(super) retain: bool,
    pub(super) expiry: Option<u32>,
    pub(super) format: Option<PayloadFormat>,
    pub(super) content_type: Option<&'a str>,
    pub(super) response_topic: Option<&'a str>,
    pub(super) correlation: Option<&'a [u8]>,
}

impl<'a> Own<'a> {
    pub(super) fn read(headers: impl Iterator<Item = Raw<'a>>) -> Self {
        let mut own = Own::default();
        for (name, value) in headers {
            let Some(name) = name.strip_prefix(b"mqtt.") else { continue };
            let value = value.unwrap_or(b"");
            let text = || std::str::from_utf8(value).ok();
            match name {
                b"client" => own.client = own.client.or_else(text),
                b"qos" => own.qos = own.qos.or(Some(value)),
                b"retain" => own.retain |= value == b"1",
                b"expiry" => own.expiry = own.expiry.or_else(|| text()?.parse().ok()),
                b"payload-format" => own.format = own.format.or_else(|| format(value)),
                b"content-type" => own.content_type = own.content_type.or_else(text),
                b"response-topic" => own.response_topic = own.response_topic.or_else(text),
                b"correlation-data" => own.correlation = own.correlation.or(Some(value)),
                _ => {}
            }
        }
        own
    }
}

fn format(value: &[u8]) -> Option<PayloadFormat> {
    match value {
        b"0" => Some(PayloadFormat::Bytes),
        b"1" => Some(PayloadFormat::Utf8),
        _ => None,
    }
}
