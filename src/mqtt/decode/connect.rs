//! CONNECT and CONNACK (§3.1, §3.2).

use super::bag::{Bag, Legal};
use crate::mqtt::{
    codec::DecodeError,
    packet::{ConnAck, Connect, QoS, Version, Will},
    properties::{ConnAckProperties, ConnectProperties, PublishProperties},
    reason::ReasonCode::{self, *},
};
use crate::wire::read::Reader;

const CONNECTED: &[ReasonCode] = &[
    Success,
    UnspecifiedError,
    MalformedPacket,
    ProtocolError,
    ImplementationSpecificError,
    UnsupportedProtocolVersion,
    ClientIdentifierNotValid,
    BadUserNameOrPassword,
    NotAuthorized,
    ServerUnavailable,
    ServerBusy,
    Banned,
    BadAuthenticationMethod,
    TopicNameInvalid,
    PacketTooLarge,
    QuotaExceeded,
    PayloadFormatInvalid,
    RetainNotSupported,
    QoSNotSupported,
    UseAnotherServer,
    ServerMoved,
    ConnectionRateExceeded,
];

/// The connect flags (§3.1.2.3).
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn will(self) -> Result<Option<(QoS, bool)>, DecodeError> {
        let (qos, retain) = (self.0 >> 3 & 3, self.has(0x20));
        if !self.has(0x04) {
            return match (qos, retain) {
                (0, false) => Ok(None),
                (0, true) => Err(DecodeError::malformed("MQTT-3.1.2-13", "will retain without a will")),
                _ => Err(DecodeError::malformed("MQTT-3.1.2-11", "a will QoS without a will")),
            };
        }
        match qos {
            0 => Ok(Some((QoS::AtMostOnce, retain))),
            1 => Ok(Some((QoS::AtLeastOnce, retain))),
            2 => Ok(Some((QoS::ExactlyOnce, retain))),
            _ => Err(DecodeError::malformed("MQTT-3.1.2-12", "a will QoS of 3")),
        }
    }
}

fn version(reader: &mut Reader<'_>) -> Result<Version, DecodeError> {
    let unsupported = |rule, detail| DecodeError {
        reason: UnsupportedProtocolVersion,
        rule,
        detail,
    };
    let name = reader.binary()?;
    match (name, reader.u8()?) {
        (b"MQTT", 5) => Ok(Version::V5),
        (b"MQTT", 4) => Ok(Version::V311),
        (b"MQIsdp", 3) => Ok(Version::V31),
        (b"MQTT" | b"MQIsdp", _) => Err(unsupported("MQTT-3.1.2-2", "a protocol version that does not exist")),
        _ => Err(unsupported("MQTT-3.1.2-1", "a protocol name that is not MQTT")),
    }
}

pub(crate) fn connect<'a>(reader: &mut Reader<'a>) -> Result<Connect<'a>, DecodeError> {
    let version = version(reader)?;
    let flags = Flags(reader.u8()?);
    if flags.has(0x01) {
        return Err(DecodeError::malformed("MQTT-3.1.2-3", "the reserved connect flag"));
    }
    let will = flags.will()?;
    if version != Version::V5 && flags.has(0x40) && !flags.has(0x80) {
        return Err(DecodeError::malformed("MQTT-3.1.2-22", "a password without a user name"));
    }
    let keep_alive = reader.u16()?;
    let properties = if version == Version::V5 {
        properties(reader)?
    } else {
        ConnectProperties::default()
    };
    let client_id = reader.text()?;
    let will = will.map(|(qos, retain)| will_of(reader, version, qos, retain)).transpose()?;
    // 3.1 (CONNECT, "Username and password"): the packet's length has the last word, a flag may promise what does not come.
    let comes = |flag, reader: &Reader<'_>| flags.has(flag) && !(version == Version::V31 && reader.is_empty());
    let username = comes(0x80, reader).then(|| reader.text()).transpose()?;
    let password = comes(0x40, reader).then(|| reader.binary()).transpose()?;
    Ok(Connect {
        version,
        clean_start: flags.has(0x02),
        keep_alive,
        client_id,
        will,
        username,
        password,
        properties,
    })
}

fn properties<'a>(reader: &mut Reader<'a>) -> Result<ConnectProperties<'a>, DecodeError> {
    let bag = Bag::read(reader, Legal::CONNECT)?;
    bag.check_authentication()?;
    Ok(ConnectProperties {
        session_expiry_interval: bag.session_expiry_interval,
        receive_maximum: bag.receive_maximum,
        maximum_packet_size: bag.maximum_packet_size,
        topic_alias_maximum: bag.topic_alias_maximum,
        request_response_information: bag.request_response_information,
        request_problem_information: bag.request_problem_information,
        authentication_method: bag.authentication_method,
        authentication_data: bag.authentication_data,
        user: bag.user,
    })
}

fn will_of<'a>(reader: &mut Reader<'a>, version: Version, qos: QoS, retain: bool) -> Result<Will<'a>, DecodeError> {
    let bag = if version == Version::V5 {
        Bag::read(reader, Legal::WILL)?
    } else {
        Bag::default()
    };
    let topic = reader.text()?;
    super::topic_name(topic, "MQTT-4.7.0-1")?;
    let properties = PublishProperties {
        payload_format: bag.payload_format,
        message_expiry_interval: bag.message_expiry_interval,
        topic_alias: None,
        response_topic: bag.response_topic,
        correlation_data: bag.correlation_data,
        subscription_ids: Default::default(),
        content_type: bag.content_type,
        user: bag.user,
    };
    let delay_interval = bag.will_delay_interval.unwrap_or(0);
    Ok(Will {
        topic,
        payload: reader.binary()?,
        qos,
        retain,
        delay_interval,
        properties,
    })
}

/// The version of a CONNACK is the one of our CONNECT; without it the shape is version 5's.
pub(crate) fn connack<'a>(reader: &mut Reader<'a>, version: Option<Version>) -> Result<ConnAck<'a>, DecodeError> {
    let flags = reader.u8()?;
    // 3.1 has no session present flag either.
    let reserved = if version == Some(Version::V31) { 0xFF } else { 0xFE };
    if flags & reserved != 0 {
        return Err(DecodeError::malformed("MQTT-3.2.2-1", "reserved bits of the CONNACK flags"));
    }
    let (session_present, code) = (flags == 1, reader.u8()?);
    let old = version.is_some_and(|v| v != Version::V5);
    let reason = match old {
        true => ReasonCode::from_connack_return_code(code).ok_or(DecodeError::malformed("", "a return code above 5"))?,
        false => super::reason(code, CONNECTED, "MQTT-3.2.2-8")?,
    };
    if session_present && reason != Success {
        return Err(DecodeError::protocol("MQTT-3.2.2-6", "session present with a refusal"));
    }
    let properties = if old {
        ConnAckProperties::default()
    } else {
        connack_properties(reader)?
    };
    Ok(ConnAck {
        session_present,
        reason,
        properties,
    })
}

fn connack_properties<'a>(reader: &mut Reader<'a>) -> Result<ConnAckProperties<'a>, DecodeError> {
    let bag = Bag::read(reader, Legal::CONNACK)?;
    bag.check_authentication()?;
    Ok(ConnAckProperties {
        session_expiry_interval: bag.session_expiry_interval,
        receive_maximum: bag.receive_maximum,
        maximum_qos: bag.maximum_qos.map(|one| if one { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
        retain_available: bag.retain_available,
        maximum_packet_size: bag.maximum_packet_size,
        assigned_client_identifier: bag.assigned_client_identifier,
        topic_alias_maximum: bag.topic_alias_maximum,
        reason_string: bag.reason_string,
        wildcard_subscription_available: bag.wildcard_subscription_available,
        subscription_identifiers_available: bag.subscription_identifiers_available,
        shared_subscription_available: bag.shared_subscription_available,
        server_keep_alive: bag.server_keep_alive,
        response_information: bag.response_information,
        server_reference: bag.server_reference,
        authentication_method: bag.authentication_method,
        authentication_data: bag.authentication_data,
        user: bag.user,
    })
}
