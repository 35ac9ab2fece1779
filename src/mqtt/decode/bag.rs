//! The property block of every packet but PUBLISH, read into one bag (§2.2.2).
//!
//! A packet names the properties it may carry; any other is malformed, and one that comes twice is a protocol error.

use crate::mqtt::{
    codec::DecodeError,
    properties::{PayloadFormat, UserProperties},
};
use crate::wire::read::Reader;

/// All properties that come at most once, and the block that the user properties lie in.
#[derive(Default)]
pub(crate) struct Bag<'a> {
    pub payload_format: Option<PayloadFormat>,
    pub message_expiry_interval: Option<u32>,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
    pub subscription_id: Option<u32>,
    pub session_expiry_interval: Option<u32>,
    pub assigned_client_identifier: Option<&'a str>,
    pub server_keep_alive: Option<u16>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
    pub request_problem_information: Option<bool>,
    pub will_delay_interval: Option<u32>,
    pub request_response_information: Option<bool>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub reason_string: Option<&'a str>,
    pub receive_maximum: Option<u16>,
    pub topic_alias_maximum: Option<u16>,
    pub maximum_qos: Option<bool>,
    pub retain_available: Option<bool>,
    pub maximum_packet_size: Option<u32>,
    pub wildcard_subscription_available: Option<bool>,
    pub subscription_identifiers_available: Option<bool>,
    pub shared_subscription_available: Option<bool>,
    pub user: UserProperties<'a>,
}

/// Which properties a packet may carry, as bits by identifier.
#[derive(Clone, Copy)]
pub(crate) struct Legal(u64);

impl Legal {
    pub(crate) const CONNECT: Self = Self::of(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]);
    pub(crate) const WILL: Self = Self::of(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
    pub(crate) const CONNACK: Self = Self::of(&[
        0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
    ]);
    pub(crate) const ACK: Self = Self::of(&[0x1F, 0x26]);
    pub(crate) const SUBSCRIBE: Self = Self::of(&[0x0B, 0x26]);
    pub(crate) const UNSUBSCRIBE: Self = Self::of(&[0x26]);
    pub(crate) const DISCONNECT: Self = Self::of(&[0x11, 0x1C, 0x1F, 0x26]);
    pub(crate) const AUTH: Self = Self::of(&[0x15, 0x16, 0x1F, 0x26]);

    const fn of(ids: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < ids.len() {
            bits |= 1 << ids[at];
            at += 1;
        }
        Self(bits)
    }

    fn has(self, id: u32) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }
}

const TWICE: DecodeError = DecodeError::protocol("", "a property that comes twice");

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

/// A byte that is 0 or 1.
fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::protocol("", "a flag property that is neither 0 nor 1")),
    }
}

/// A number that may not be zero.
fn not_zero<T: Default + PartialEq>(value: T) -> Result<T, DecodeError> {
    if value == T::default() {
        Err(DecodeError::protocol("", "a property that may not be zero"))
    } else {
        Ok(value)
    }
}

pub(crate) fn payload_format(reader: &mut Reader<'_>) -> Result<PayloadFormat, DecodeError> {
    Ok(if flag(reader)? { PayloadFormat::Utf8 } else { PayloadFormat::Bytes })
}

pub(crate) fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let topic = reader.text()?;
    super::topic_name(topic, "MQTT-3.3.2-14")?;
    Ok(topic)
}

/// The block at the front of the reader: its length and its bytes.
pub(crate) fn block<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = reader.varint()?;
    Ok(reader.take(length as usize)?)
}

impl<'a> Bag<'a> {
    /// Reads the property block at the front of `reader`.
    pub(crate) fn read(reader: &mut Reader<'a>, legal: Legal) -> Result<Self, DecodeError> {
        let block = block(reader)?;
        let (mut bag, mut inner) = (Self::default(), Reader::new(block));
        while !inner.is_empty() {
            let id = inner.varint()?;
            if !legal.has(id) {
                return Err(DecodeError::malformed("", "a property that this packet cannot have"));
            }
            if id == 0x26 {
                inner.text()?;
                inner.text()?;
                bag.user = UserProperties { block };
            } else {
                bag.property(id, &mut inner)?;
            }
        }
        Ok(bag)
    }

    fn property(&mut self, id: u32, r: &mut Reader<'a>) -> Result<(), DecodeError> {
        match id {
            0x01 => once(&mut self.payload_format, payload_format(r)?),
            0x02 => once(&mut self.message_expiry_interval, r.u32()?),
            0x03 => once(&mut self.content_type, r.text()?),
            0x08 => once(&mut self.response_topic, response_topic(r)?),
            0x09 => once(&mut self.correlation_data, r.binary()?),
            0x0B => once(&mut self.subscription_id, not_zero(r.varint()?)?),
            0x11 => once(&mut self.session_expiry_interval, r.u32()?),
            0x12 => once(&mut self.assigned_client_identifier, r.text()?),
            0x13 => once(&mut self.server_keep_alive, r.u16()?),
            0x15 => once(&mut self.authentication_method, r.text()?),
            0x16 => once(&mut self.authentication_data, r.binary()?),
            0x17 => once(&mut self.request_problem_information, flag(r)?),
            0x18 => once(&mut self.will_delay_interval, r.u32()?),
            0x19 => once(&mut self.request_response_information, flag(r)?),
            0x1A => once(&mut self.response_information, r.text()?),
            0x1C => once(&mut self.server_reference, r.text()?),
            0x1F => once(&mut self.reason_string, r.text()?),
            0x21 => once(&mut self.receive_maximum, not_zero(r.u16()?)?),
            0x22 => once(&mut self.topic_alias_maximum, r.u16()?),
            0x24 => once(&mut self.maximum_qos, flag(r)?),
            0x25 => once(&mut self.retain_available, flag(r)?),
            0x27 => once(&mut self.maximum_packet_size, not_zero(r.u32()?)?),
            0x28 => once(&mut self.wildcard_subscription_available, flag(r)?),
            0x29 => once(&mut self.subscription_identifiers_available, flag(r)?),
            0x2A => once(&mut self.shared_subscription_available, flag(r)?),
            _ => Err(DecodeError::malformed("", "a property that does not exist")),
        }
    }

    /// Authentication data without a method is a protocol error (§3.1.2.11.10).
    pub(crate) fn check_authentication(&self) -> Result<(), DecodeError> {
        match (self.authentication_method, self.authentication_data) {
            (None, Some(_)) => Err(DecodeError::protocol("", "authentication data without a method")),
            _ => Ok(()),
        }
    }
}
