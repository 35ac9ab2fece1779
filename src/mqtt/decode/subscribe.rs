//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (§3.8 to §3.11).

use super::bag::{Bag, Legal};
use crate::mqtt::{
    codec::DecodeError,
    packet::{QoS, RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe, Version},
    reason::ReasonCode::{self, *},
};
use crate::wire::read::Reader;

const SUBSCRIBED: &[ReasonCode] = &[
    Success,
    GrantedQoS1,
    GrantedQoS2,
    UnspecifiedError,
    ImplementationSpecificError,
    NotAuthorized,
    TopicFilterInvalid,
    PacketIdentifierInUse,
    QuotaExceeded,
    SharedSubscriptionsNotSupported,
    SubscriptionIdentifiersNotSupported,
    WildcardSubscriptionsNotSupported,
];

const UNSUBSCRIBED: &[ReasonCode] = &[
    Success,
    NoSubscriptionExisted,
    UnspecifiedError,
    ImplementationSpecificError,
    NotAuthorized,
    TopicFilterInvalid,
    PacketIdentifierInUse,
];

fn bag<'a>(reader: &mut Reader<'a>, version: Version, legal: Legal) -> Result<Bag<'a>, DecodeError> {
    if version == Version::V5 {
        Bag::read(reader, legal)
    } else {
        Ok(Bag::default())
    }
}

/// How many filters there are, each with `more` bytes behind it, if all are as long as the first. A vector that grows to ten thousand step by step
/// costs more than all else here.
fn expected(filters: &[u8], more: usize) -> usize {
    let first = filters.first_chunk().map_or(0, |length| usize::from(u16::from_be_bytes(*length)));
    filters.len().div_ceil(2 + first.max(1) + more)
}

pub(crate) fn subscribe<'a>(reader: &mut Reader<'a>, version: Version) -> Result<Subscribe<'a>, DecodeError> {
    let packet_id = super::packet_id(reader)?;
    let bag = bag(reader, version, Legal::SUBSCRIBE)?;
    let mut filters = Vec::with_capacity(expected(reader.rest(), 1));
    while !reader.is_empty() {
        let filter = super::topic_filter(reader, version)?;
        filters.push(options(filter, reader.u8()?, version)?);
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("MQTT-3.8.3-2", "SUBSCRIBE without a topic filter"));
    }
    Ok(Subscribe {
        packet_id,
        filters,
        subscription_id: bag.subscription_id,
        user: bag.user,
    })
}

fn options(filter: &str, options: u8, version: Version) -> Result<SubscribeFilter<'_>, DecodeError> {
    let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
    if options & reserved != 0 {
        return Err(DecodeError::malformed("MQTT-3.8.3-5", "reserved bits of the subscription options"));
    }
    let qos = match options & 3 {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        _ => return Err(DecodeError::protocol("", "a requested QoS of 3")),
    };
    let retain_handling = match options >> 4 & 3 {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(DecodeError::protocol("", "a retain handling of 3")),
    };
    let no_local = options & 4 != 0;
    if no_local && filter.starts_with("$share/") {
        return Err(DecodeError::protocol("MQTT-3.8.3-4", "no local on a shared subscription"));
    }
    Ok(SubscribeFilter {
        filter,
        qos,
        no_local,
        retain_as_published: options & 8 != 0,
        retain_handling,
    })
}

pub(crate) fn unsubscribe<'a>(reader: &mut Reader<'a>, version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
    let packet_id = super::packet_id(reader)?;
    let bag = bag(reader, version, Legal::UNSUBSCRIBE)?;
    let mut filters = Vec::with_capacity(expected(reader.rest(), 0));
    while !reader.is_empty() {
        filters.push(super::topic_filter(reader, version)?);
    }
    if filters.is_empty() {
        return Err(DecodeError::protocol("MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter"));
    }
    Ok(Unsubscribe {
        packet_id,
        filters,
        user: bag.user,
    })
}

pub(crate) fn suback<'a>(reader: &mut Reader<'a>, version: Version) -> Result<SubAck<'a>, DecodeError> {
    let packet_id = super::packet_id(reader)?;
    let bag = bag(reader, version, Legal::ACK)?;
    let legal = if version == Version::V5 {
        SUBSCRIBED
    } else {
        &[Success, GrantedQoS1, GrantedQoS2, UnspecifiedError]
    };
    let reasons = reasons(reader, legal, "MQTT-3.9.3-2")?;
    Ok(SubAck {
        packet_id,
        reasons,
        reason_string: bag.reason_string,
        user: bag.user,
    })
}

pub(crate) fn unsuback<'a>(reader: &mut Reader<'a>, version: Version) -> Result<UnsubAck<'a>, DecodeError> {
    let packet_id = super::packet_id(reader)?;
    let bag = bag(reader, version, Legal::ACK)?;
    let reasons = if version == Version::V5 {
        reasons(reader, UNSUBSCRIBED, "MQTT-3.11.3-2")?
    } else {
        Vec::new()
    };
    Ok(UnsubAck {
        packet_id,
        reasons,
        reason_string: bag.reason_string,
        user: bag.user,
    })
}

fn reasons(reader: &mut Reader<'_>, legal: &[ReasonCode], rule: &'static str) -> Result<Vec<ReasonCode>, DecodeError> {
    let mut reasons = Vec::new();
    while !reader.is_empty() {
        reasons.push(super::reason(reader.u8()?, legal, rule)?);
    }
    if reasons.is_empty() {
        Err(DecodeError::malformed(rule, "no reason code"))
    } else {
        Ok(reasons)
    }
}
