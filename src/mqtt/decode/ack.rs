//! PUBACK, PUBREC, PUBREL, PUBCOMP (§3.4 to §3.7), DISCONNECT (§3.14) and AUTH (§3.15).

use super::bag::{Bag, Legal};
use crate::mqtt::{
    codec::{DecodeError, Role},
    packet::{Ack, Auth, Disconnect, Version},
    reason::ReasonCode::{self, *},
};
use crate::wire::read::Reader;

/// What a family of acknowledgements may say.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    reasons: &'static [ReasonCode],
    rule: &'static str,
}

/// PUBACK and PUBREC.
pub(crate) const PUBLISHED: Family = Family {
    reasons: &[
        Success,
        NoMatchingSubscribers,
        UnspecifiedError,
        ImplementationSpecificError,
        NotAuthorized,
        TopicNameInvalid,
        PacketIdentifierInUse,
        QuotaExceeded,
        PayloadFormatInvalid,
    ],
    rule: "MQTT-3.4.2-1",
};

/// PUBREL and PUBCOMP.
pub(crate) const RELEASED: Family = Family {
    reasons: &[Success, PacketIdentifierNotFound],
    rule: "MQTT-3.6.2-1",
};

/// What a client may put into DISCONNECT (table 3-10).
const CLIENT_DISCONNECTED: &[ReasonCode] = &[
    Success,
    DisconnectWithWillMessage,
    UnspecifiedError,
    MalformedPacket,
    ProtocolError,
    ImplementationSpecificError,
    TopicNameInvalid,
    ReceiveMaximumExceeded,
    TopicAliasInvalid,
    PacketTooLarge,
    MessageRateTooHigh,
    QuotaExceeded,
    AdministrativeAction,
    PayloadFormatInvalid,
];

/// What a server may.
const SERVER_DISCONNECTED: &[ReasonCode] = &[
    Success,
    UnspecifiedError,
    MalformedPacket,
    ProtocolError,
    ImplementationSpecificError,
    NotAuthorized,
    ServerBusy,
    ServerShuttingDown,
    KeepAliveTimeout,
    SessionTakenOver,
    TopicFilterInvalid,
    TopicNameInvalid,
    ReceiveMaximumExceeded,
    TopicAliasInvalid,
    PacketTooLarge,
    MessageRateTooHigh,
    QuotaExceeded,
    AdministrativeAction,
    PayloadFormatInvalid,
    RetainNotSupported,
    QoSNotSupported,
    UseAnotherServer,
    ServerMoved,
    SharedSubscriptionsNotSupported,
    ConnectionRateExceeded,
    MaximumConnectTime,
    SubscriptionIdentifiersNotSupported,
    WildcardSubscriptionsNotSupported,
];

pub(crate) fn ack<'a>(reader: &mut Reader<'a>, version: Version, family: Family) -> Result<Ack<'a>, DecodeError> {
    let mut ack = Ack {
        packet_id: super::packet_id(reader)?,
        reason: Success,
        reason_string: None,
        user: Default::default(),
    };
    if version == Version::V5 && !reader.is_empty() {
        ack.reason = super::reason(reader.u8()?, family.reasons, family.rule)?;
        if !reader.is_empty() {
            let bag = Bag::read(reader, Legal::ACK)?;
            (ack.reason_string, ack.user) = (bag.reason_string, bag.user);
        }
    }
    Ok(ack)
}

pub(crate) fn disconnect<'a>(reader: &mut Reader<'a>, version: Version, role: Role) -> Result<Disconnect<'a>, DecodeError> {
    let mut disconnect = Disconnect {
        reason: Success,
        session_expiry_interval: None,
        reason_string: None,
        server_reference: None,
        user: Default::default(),
    };
    if version != Version::V5 {
        // 3.x servers never send one.
        return if role == Role::Server {
            Ok(disconnect)
        } else {
            Err(DecodeError::protocol("", "DISCONNECT from a server of 3.x"))
        };
    }
    if reader.is_empty() {
        return Ok(disconnect);
    }
    let legal = match role {
        Role::Server => CLIENT_DISCONNECTED,
        Role::Client => SERVER_DISCONNECTED,
    };
    disconnect.reason = super::reason(reader.u8()?, legal, "MQTT-3.14.2-1")?;
    if reader.is_empty() {
        return Ok(disconnect);
    }
    let bag = Bag::read(reader, Legal::DISCONNECT)?;
    if role == Role::Client && bag.session_expiry_interval.is_some() {
        return Err(DecodeError::protocol("MQTT-3.14.2-2", "a session expiry interval from a server"));
    }
    disconnect.session_expiry_interval = bag.session_expiry_interval;
    disconnect.reason_string = bag.reason_string;
    disconnect.server_reference = bag.server_reference;
    disconnect.user = bag.user;
    Ok(disconnect)
}

pub(crate) fn auth<'a>(reader: &mut Reader<'a>, role: Role) -> Result<Auth<'a>, DecodeError> {
    // Table 3-11: only a server says that it is done, only a client begins anew.
    let legal: &[ReasonCode] = match role {
        Role::Server => &[ContinueAuthentication, ReAuthenticate],
        Role::Client => &[Success, ContinueAuthentication],
    };
    let mut auth = Auth {
        reason: Success,
        method: None,
        data: None,
        reason_string: None,
        user: Default::default(),
    };
    if reader.is_empty() {
        auth.reason = super::reason(Success.as_u8(), legal, "MQTT-3.15.2-1")?;
        return Ok(auth);
    }
    auth.reason = super::reason(reader.u8()?, legal, "MQTT-3.15.2-1")?;
    let bag = Bag::read(reader, Legal::AUTH)?;
    bag.check_authentication()?;
    if bag.authentication_method.is_none() {
        return Err(DecodeError::protocol("", "AUTH without an authentication method"));
    }
    auth.method = bag.authentication_method;
    auth.data = bag.authentication_data;
    auth.reason_string = bag.reason_string;
    auth.user = bag.user;
    Ok(auth)
}
