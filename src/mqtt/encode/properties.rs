//! Property blocks, written property by property and then put behind their length.

use super::{EncodeError, Written};
use crate::mqtt::{Auth, ConnAckProperties, ConnectProperties, Disconnect, PublishProperties, QoS, UserProperties, Will};
use crate::wire::write;

/// A block being written.
#[derive(Default)]
pub(super) struct Block(Vec<u8>);

type Built = Result<Block, EncodeError>;

impl Block {
    /// Appends the block behind its length.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Written {
        if self.0.len() > write::VARINT_MAX {
            return Err(EncodeError::TooLong);
        }
        write::varint(self.0.len(), out);
        out.extend_from_slice(&self.0);
        Ok(())
    }

    fn byte(&mut self, id: u8, value: Option<u8>) -> &mut Self {
        value.into_iter().for_each(|v| self.0.extend_from_slice(&[id, v]));
        self
    }

    fn flag(&mut self, id: u8, value: Option<bool>) -> &mut Self {
        self.byte(id, value.map(u8::from))
    }

    fn u16(&mut self, id: u8, value: Option<u16>) -> &mut Self {
        if let Some(value) = value {
            self.0.push(id);
            self.0.extend_from_slice(&value.to_be_bytes());
        }
        self
    }

    fn u32(&mut self, id: u8, value: Option<u32>) -> &mut Self {
        if let Some(value) = value {
            self.0.push(id);
            self.0.extend_from_slice(&value.to_be_bytes());
        }
        self
    }

    fn binary(&mut self, id: u8, value: Option<&[u8]>) -> Result<&mut Self, EncodeError> {
        if let Some(value) = value {
            if value.len() > usize::from(u16::MAX) {
                return Err(EncodeError::TooLong);
            }
            self.0.push(id);
            write::binary(value, &mut self.0);
        }
        Ok(self)
    }

    fn text(&mut self, id: u8, value: Option<&str>) -> Result<&mut Self, EncodeError> {
        self.binary(id, value.map(str::as_bytes))
    }

    fn user(&mut self, user: &UserProperties<'_>) -> Written {
        for (name, value) in user.iter() {
            self.text(0x26, Some(name))?;
            write::binary(value.as_bytes(), &mut self.0);
        }
        Ok(())
    }

    pub(super) fn reason(reason_string: Option<&str>, user: &UserProperties<'_>) -> Built {
        let mut block = Self::default();
        block.text(0x1F, reason_string)?.user(user)?;
        Ok(block)
    }

    pub(super) fn subscribe(subscription_id: Option<u32>, user: &UserProperties<'_>) -> Built {
        let mut block = Self::default();
        if let Some(id) = subscription_id {
            block.0.push(0x0B);
            write::varint(id as usize, &mut block.0);
        }
        block.user(user)?;
        Ok(block)
    }

    pub(super) fn connect(p: &ConnectProperties<'_>) -> Built {
        let mut block = Self::default();
        block
            .u32(0x11, p.session_expiry_interval)
            .u16(0x21, p.receive_maximum)
            .u32(0x27, p.maximum_packet_size);
        block.u16(0x22, p.topic_alias_maximum).flag(0x19, p.request_response_information);
        block.flag(0x17, p.request_problem_information);
        block
            .text(0x15, p.authentication_method)?
            .binary(0x16, p.authentication_data)?
            .user(&p.user)?;
        Ok(block)
    }

    pub(super) fn will(will: &Will<'_>) -> Built {
        let mut block = Self::default();
        block.u32(0x18, (will.delay_interval != 0).then_some(will.delay_interval));
        publish_len(&will.properties)?;
        publish(&will.properties, &mut block.0);
        Ok(block)
    }

    pub(super) fn connack(p: &ConnAckProperties<'_>) -> Built {
        let mut block = Self::default();
        block.u32(0x11, p.session_expiry_interval).u16(0x21, p.receive_maximum);
        block.byte(0x24, p.maximum_qos.filter(|q| *q != QoS::ExactlyOnce).map(|q| q as u8));
        block.flag(0x25, p.retain_available).u32(0x27, p.maximum_packet_size);
        block.text(0x12, p.assigned_client_identifier)?.u16(0x22, p.topic_alias_maximum);
        block.text(0x1F, p.reason_string)?.flag(0x28, p.wildcard_subscription_available);
        block
            .flag(0x29, p.subscription_identifiers_available)
            .flag(0x2A, p.shared_subscription_available);
        block
            .u16(0x13, p.server_keep_alive)
            .text(0x1A, p.response_information)?
            .text(0x1C, p.server_reference)?;
        block
            .text(0x15, p.authentication_method)?
            .binary(0x16, p.authentication_data)?
            .user(&p.user)?;
        Ok(block)
    }

    pub(super) fn disconnect(d: &Disconnect<'_>) -> Built {
        let mut block = Self::default();
        block
            .u32(0x11, d.session_expiry_interval)
            .text(0x1F, d.reason_string)?
            .text(0x1C, d.server_reference)?
            .user(&d.user)?;
        Ok(block)
    }

    pub(super) fn auth(a: &Auth<'_>) -> Built {
        let mut block = Self::default();
        block
            .text(0x15, a.method)?
            .binary(0x16, a.data)?
            .text(0x1F, a.reason_string)?
            .user(&a.user)?;
        Ok(block)
    }
}

/// Encoded length of the properties of a PUBLISH.
#[inline]
pub(super) fn publish_len(p: &PublishProperties<'_>) -> Result<usize, EncodeError> {
    let numbers = p.payload_format.map_or(0, |_| 2) + p.message_expiry_interval.map_or(0, |_| 5) + p.topic_alias.map_or(0, |_| 3);
    let fields =
        field_len(p.response_topic.map(str::as_bytes))? + field_len(p.correlation_data)? + field_len(p.content_type.map(str::as_bytes))?;
    Ok(numbers + fields + repeated_len(p))
}

#[inline]
fn field_len(bytes: Option<&[u8]>) -> Result<usize, EncodeError> {
    match bytes {
        None => Ok(0),
        Some(bytes) if bytes.len() > usize::from(u16::MAX) => Err(EncodeError::TooLong),
        Some(bytes) => Ok(3 + bytes.len()),
    }
}

/// Views hold what was decoded or built before, so each text fits its length.
#[inline]
fn repeated_len(p: &PublishProperties<'_>) -> usize {
    if p.user.block.is_empty() && p.subscription_ids.block.is_empty() {
        return 0;
    }
    let user: usize = p.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
    let ids: usize = p.subscription_ids.iter().map(|id| 1 + write::varint_len(id as usize)).sum();
    user + ids
}

/// Appends the properties of a PUBLISH; [`publish_len`] has found them short enough.
pub(super) fn publish(p: &PublishProperties<'_>, out: &mut Vec<u8>) {
    let mut numbers = write::Short::default();
    if let Some(format) = p.payload_format {
        numbers.u8(0x01);
        numbers.u8(format as u8);
    }
    if let Some(alias) = p.topic_alias {
        numbers.u8(0x23);
        numbers.u16(alias);
    }
    numbers.append_to(out);
    if let Some(seconds) = p.message_expiry_interval {
        let [a, b, c, d] = seconds.to_be_bytes();
        out.extend_from_slice(&[0x02, a, b, c, d]);
    }
    field(0x08, p.response_topic.map(str::as_bytes), out);
    field(0x09, p.correlation_data, out);
    field(0x03, p.content_type.map(str::as_bytes), out);
    for (name, value) in p.user.iter() {
        out.push(0x26);
        write::binary(name.as_bytes(), out);
        write::binary(value.as_bytes(), out);
    }
    for id in p.subscription_ids.iter() {
        out.push(0x0B);
        write::varint(id as usize, out);
    }
}

#[inline]
fn field(id: u8, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(bytes) = bytes {
        let mut head = write::Short::default();
        head.u8(id);
        head.u16(bytes.len() as u16);
        head.append_to(out);
        out.extend_from_slice(bytes);
    }
}
