//! The bodies of the packets, a file for each family. Driven by `codec`, which has checked the fixed header.

pub(super) mod ack;
pub(super) mod bag;
pub(super) mod connect;
pub(super) mod publish;
pub(super) mod subscribe;

use super::{codec::DecodeError, packet::PacketId, reason::ReasonCode};
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

fn topic_name(name: &str, rule: &'static str) -> Result<(), DecodeError> {
    crate::mqtt::topic::validate_name(name).map_err(|e| DecodeError {
        reason: ReasonCode::TopicNameInvalid,
        rule,
        detail: e.as_str(),
    })
}

fn topic_filter(filter: &str, rule: &'static str) -> Result<(), DecodeError> {
    crate::mqtt::topic::validate_filter(filter).map_err(|e| DecodeError {
        reason: ReasonCode::TopicFilterInvalid,
        rule,
        detail: e.as_str(),
    })
}
