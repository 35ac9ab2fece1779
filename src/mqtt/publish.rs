//! PUBLISH towards many: the part that all receivers share is encoded once, each adds only a head of its own.
//!
//! In front of the shared properties stand the receiver's own: alias, remaining expiry, subscription identifiers.

use super::{
    encode::{EncodeError, begin_publish, publish_remaining},
    packet::{PacketId, QoS, Version},
    properties::{PayloadFormat, PublishProperties},
};
use crate::wire::write;

/// What is a receiver's own in a PUBLISH.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// Sent before.
    pub dup: bool,
    /// Effective QoS.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Topic name; empty if the alias says it all (version 5).
    pub topic: &'a str,
    /// Present exactly if QoS > 0.
    pub packet_id: Option<PacketId>,
    /// Version 5.
    pub topic_alias: Option<u16>,
    /// Seconds that remain; version 5.
    pub message_expiry_interval: Option<u32>,
    /// Version 5.
    pub subscription_ids: &'a [u32],
}

impl PublishHead<'_> {
    /// Where the four bytes of the message expiry interval stand in the `length` bytes that [`encode_head`] has written.
    pub fn expiry_at(&self, version: Version, length: usize, shared_properties: &[u8]) -> Option<usize> {
        let behind = self.ids_len() + shared_properties.len();
        self.message_expiry_interval
            .filter(|_| version == Version::V5)
            .and_then(|_| length.checked_sub(4 + behind))
    }

    fn ids_len(&self) -> usize {
        self.subscription_ids.iter().map(|id| 1 + write::varint_len(*id as usize)).sum()
    }

    /// Encoded length of the receiver's own properties.
    fn own_len(&self) -> usize {
        self.ids_len() + self.topic_alias.map_or(0, |_| 3) + self.message_expiry_interval.map_or(0, |_| 5)
    }

    /// Encoded length of all properties; `None` where the version has none.
    fn properties_len(&self, version: Version, shared: &[u8]) -> Option<usize> {
        (version == Version::V5).then(|| self.own_len() + shared.len())
    }
}

/// Bytes of the whole packet: head, shared properties and payload.
pub fn head_len(head: &PublishHead<'_>, version: Version, shared_properties: &[u8], payload_len: usize) -> usize {
    let properties = head.properties_len(version, shared_properties);
    let remaining = publish_remaining(head.topic, head.packet_id, properties, payload_len);
    1 + write::varint_len(remaining) + remaining
}

/// Appends everything of a PUBLISH but its payload, which the caller sends behind it. The result is the number of bytes appended.
///
/// # Errors
/// [`EncodeError::TooLong`] if the topic or the packet is longer than MQTT can say; nothing is appended.
#[inline]
pub fn encode_head(
    head: &PublishHead<'_>,
    version: Version,
    shared_properties: &[u8],
    payload_len: usize,
    out: &mut Vec<u8>,
) -> Result<usize, EncodeError> {
    let properties = head.properties_len(version, shared_properties);
    let start = out.len();
    let first = 0x30 | u8::from(head.dup) << 3 | (head.qos as u8) << 1 | u8::from(head.retain);
    begin_publish(first, head.topic, head.packet_id, properties, payload_len, 0, out)?;
    if properties.is_some() {
        put_own(head, out);
        out.extend_from_slice(shared_properties);
    }
    Ok(out.len() - start)
}

fn put_own(head: &PublishHead<'_>, out: &mut Vec<u8>) {
    if let Some(alias) = head.topic_alias {
        out.push(0x23);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    if let Some(seconds) = head.message_expiry_interval {
        out.push(0x02);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for id in head.subscription_ids {
        out.push(0x0B);
        write::varint(*id as usize, out);
    }
}

/// Builds the property block that all receivers of a message share, into a buffer that is used again and again.
#[derive(Debug, Default)]
pub struct SharedProperties {
    block: Vec<u8>,
}

impl SharedProperties {
    /// An empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.block.clear();
    }

    /// The block so far, without its length.
    pub fn as_bytes(&self) -> &[u8] {
        &self.block
    }

    /// Payload format indicator (§3.3.2.3.2).
    pub fn payload_format(&mut self, format: PayloadFormat) {
        self.block.extend_from_slice(&[0x01, format as u8]);
    }

    /// Response topic (§3.3.2.3.5). False, and nothing added, if it is no topic name.
    pub fn response_topic(&mut self, topic: &str) -> bool {
        super::topic::validate_name(topic).is_ok() && self.text(0x08, topic)
    }

    /// Correlation data (§3.3.2.3.6). False, and nothing added, above 65,535 bytes.
    pub fn correlation_data(&mut self, data: &[u8]) -> bool {
        self.binary(0x09, data)
    }

    /// Content type (§3.3.2.3.9). False, and nothing added, if it cannot be encoded.
    pub fn content_type(&mut self, text: &str) -> bool {
        self.text(0x03, text)
    }

    /// A user property (§3.3.2.3.7). False, and nothing added, if it cannot be encoded.
    pub fn user(&mut self, name: &str, value: &str) -> bool {
        let fits = encodable(name) && encodable(value);
        if fits {
            self.block.push(0x26);
            write::binary(name.as_bytes(), &mut self.block);
            write::binary(value.as_bytes(), &mut self.block);
        }
        fits
    }

    fn text(&mut self, id: u8, text: &str) -> bool {
        encodable(text) && self.binary(id, text.as_bytes())
    }

    fn binary(&mut self, id: u8, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= usize::from(u16::MAX);
        if fits {
            self.block.push(id);
            write::binary(bytes, &mut self.block);
        }
        fits
    }

    /// All properties of a PUBLISH that are not a receiver's own. False if one of them was left out.
    pub fn extend(&mut self, properties: &PublishProperties<'_>) -> bool {
        properties.payload_format.into_iter().for_each(|format| self.payload_format(format));
        let mut whole = properties.response_topic.is_none_or(|topic| self.response_topic(topic));
        whole &= properties.correlation_data.is_none_or(|data| self.correlation_data(data));
        whole &= properties.content_type.is_none_or(|text| self.content_type(text));
        properties
            .user
            .iter()
            .fold(whole, |whole, (name, value)| self.user(name, value) && whole)
    }
}

/// MQTT text: at most 65,535 bytes, without U+0000 [MQTT-1.5.4-2].
fn encodable(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX) && !text.as_bytes().contains(&0)
}
