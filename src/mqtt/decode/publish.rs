//! PUBLISH (§3.3): the hot path. One walk, no allocation.

use super::bag;
use crate::mqtt::{
    codec::{DecodeError, Role},
    packet::{Publish, QoS, Version},
    properties::{PublishProperties, SubscriptionIds, UserProperties},
    reason::ReasonCode,
    topic::TopicError,
};
use crate::wire::read::{ReadError, Reader, holds_null_or_wildcard};

/// The body of a PUBLISH; `first` holds its flags.
#[inline(always)] // A packet is large: handed on through three results it would be copied three times.
pub(crate) fn publish(first: u8, body: &[u8], version: Version, role: Role) -> Result<Publish<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let qos = match first & 0x06 {
        0 => QoS::AtMostOnce,
        2 => QoS::AtLeastOnce,
        4 => QoS::ExactlyOnce,
        _ => return Err(DecodeError::malformed("MQTT-3.3.1-4", "a QoS of 3")),
    };
    let dup = first & 0x08 != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(DecodeError::malformed("MQTT-3.3.1-2", "DUP with QoS 0"));
    }
    let topic = name(&mut reader)?;
    let packet_id = if qos == QoS::AtMostOnce {
        None
    } else {
        Some(super::packet_id(&mut reader)?)
    };
    let properties = if version == Version::V5 {
        properties(&mut reader, role)?
    } else {
        PublishProperties::default()
    };
    if topic.is_empty() && properties.topic_alias.is_none() {
        return Err(if version == Version::V5 {
            DecodeError::protocol("MQTT-4.7.3-1", "no topic name and no alias")
        } else {
            DecodeError::malformed("MQTT-4.7.3-1", "an empty topic name")
        });
    }
    Ok(Publish {
        dup,
        qos,
        retain: first & 1 != 0,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

/// The topic name, which may be empty here. All that it may not hold is looked for in one walk.
#[inline]
fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let name = reader.utf8()?;
    if holds_null_or_wildcard(name.as_bytes()) {
        return Err(no_name(name));
    }
    Ok(name)
}

#[cold]
fn no_name(name: &str) -> DecodeError {
    if name.contains('\0') {
        return ReadError::Null.into();
    }
    DecodeError {
        reason: ReasonCode::TopicNameInvalid,
        rule: "MQTT-3.3.2-2",
        detail: TopicError::Wildcard.as_str(),
    }
}

const TWICE: DecodeError = DecodeError::protocol("", "a property that comes twice");

#[inline]
fn properties<'a>(reader: &mut Reader<'a>, role: Role) -> Result<PublishProperties<'a>, DecodeError> {
    let block = bag::block(reader)?;
    let mut found = PublishProperties::default();
    let mut inner = Reader::new(block);
    while !inner.is_empty() {
        let twice = match inner.u8()? {
            0x26 => {
                inner.text()?;
                inner.text()?;
                found.user = UserProperties { block };
                false
            }
            0x01 => found.payload_format.replace(bag::payload_format(&mut inner)?).is_some(),
            0x02 => found.message_expiry_interval.replace(inner.u32()?).is_some(),
            0x03 => found.content_type.replace(inner.text()?).is_some(),
            0x08 => found.response_topic.replace(bag::response_topic(&mut inner)?).is_some(),
            0x09 => found.correlation_data.replace(inner.binary()?).is_some(),
            0x0B => {
                subscription_id(&mut inner, role)?;
                found.subscription_ids = SubscriptionIds { block };
                false
            }
            0x23 => found.topic_alias.replace(alias(&mut inner)?).is_some(),
            _ => return Err(DecodeError::malformed("", "a property that PUBLISH cannot have")),
        };
        if twice {
            return Err(TWICE);
        }
    }
    Ok(found)
}

fn alias(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
    let detail = "a topic alias of zero";
    match reader.u16()? {
        0 => Err(DecodeError {
            reason: ReasonCode::TopicAliasInvalid,
            rule: "MQTT-3.3.2-8",
            detail,
        }),
        alias => Ok(alias),
    }
}

fn subscription_id(reader: &mut Reader<'_>, role: Role) -> Result<(), DecodeError> {
    if role == Role::Server {
        return Err(DecodeError::protocol("MQTT-3.3.4-6", "a subscription identifier from a client"));
    }
    match reader.varint()? {
        0 => Err(DecodeError::protocol("", "a subscription identifier of zero")),
        _ => Ok(()),
    }
}
