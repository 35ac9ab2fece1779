//! The bodies of the packets, a file for each family. Driven by `codec`, which has checked the fixed header.

pub(super) mod ack;
pub(super) mod bag;
pub(super) mod connect;
pub(super) mod publish;
pub(super) mod subscribe;

use super::{
    codec::DecodeError,
    packet::{PacketId, Version},
    reason::ReasonCode,
    topic::{TopicError, validate_filter, validate_name, validate_plain_filter},
};
use crate::wire::read::Reader;

/// A packet identifier; never zero [MQTT-2.2.1-3].
fn packet_id(reader: &mut Reader<'_>) -> Result<PacketId, DecodeError> {
    let id = std::num::NonZeroU16::new(reader.u16()?);
    id.map(PacketId)
        .ok_or(DecodeError::malformed("MQTT-2.2.1-3", "a packet identifier of zero"))
}

/// A reason code out of those a packet may carry.
fn reason(code: u8, legal: &[ReasonCode], rule: &'static str) -> Result<ReasonCode, DecodeError> {
    let reason = ReasonCode::from_u8(code).filter(|reason| legal.contains(reason));
    reason.ok_or(DecodeError::malformed(rule, "a reason code that this packet cannot have"))
}

/// A topic name; `wildcard_rule` is the statement that forbids wildcards in this one.
fn topic_name(name: &str, wildcard_rule: &'static str) -> Result<(), DecodeError> {
    validate_name(name).map_err(|e| DecodeError {
        reason: ReasonCode::TopicNameInvalid,
        rule: if e == TopicError::Wildcard { wildcard_rule } else { e.rule() },
        detail: e.as_str(),
    })
}

/// A topic filter; shared subscriptions have rules of their own in version 5.
fn topic_filter<'a>(reader: &mut Reader<'a>, version: Version) -> Result<&'a str, DecodeError> {
    let filter = reader.text()?;
    let valid = match version {
        Version::V5 => validate_filter(filter),
        Version::V31 | Version::V311 => validate_plain_filter(filter),
    };
    valid.map_err(|e| DecodeError {
        reason: ReasonCode::TopicFilterInvalid,
        rule: e.rule(),
        detail: e.as_str(),
    })?;
    Ok(filter)
}
