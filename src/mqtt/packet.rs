//! The packets of MQTT 3.1, 3.1.1 and 5 as one enum. What a version does not have is empty or absent.
//!
//! Every packet borrows from the buffer it was decoded from, so decoding allocates nothing
//! but the list of a SUBSCRIBE and the box of a CONNECT.

use std::fmt;
use std::num::NonZeroU16;

use super::properties::{ConnAckProperties, ConnectProperties, PublishProperties, UserProperties};
use super::reason::ReasonCode;

/// The protocol level of a connection, as CONNECT names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 3.1 (`MQIsdp`, level 3).
    V31 = 3,
    /// 3.1.1 (`MQTT`, level 4).
    V311 = 4,
    /// 5.0 (`MQTT`, level 5).
    V5 = 5,
}

/// Quality of service (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum QoS {
    /// 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// 1: at least once.
    AtLeastOnce = 1,
    /// 2: exactly once.
    ExactlyOnce = 2,
}

/// A packet identifier; never zero [MQTT-2.2.1-2].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

/// Any MQTT control packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    /// Client requests a connection (§3.1).
    Connect(Box<Connect<'a>>),
    /// Connect acknowledgement (§3.2).
    ConnAck(ConnAck<'a>),
    /// A message (§3.3).
    Publish(Publish<'a>),
    /// Answer to a QoS 1 PUBLISH (§3.4).
    PubAck(Ack<'a>),
    /// First answer to a QoS 2 PUBLISH (§3.5).
    PubRec(Ack<'a>),
    /// Second step of QoS 2 (§3.6).
    PubRel(Ack<'a>),
    /// Third step of QoS 2 (§3.7).
    PubComp(Ack<'a>),
    /// Subscribe request (§3.8).
    Subscribe(Subscribe<'a>),
    /// Its answer (§3.9).
    SubAck(SubAck<'a>),
    /// Unsubscribe request (§3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// Its answer (§3.11).
    UnsubAck(UnsubAck<'a>),
    /// Keep alive (§3.12).
    PingReq,
    /// Its answer (§3.13).
    PingResp,
    /// Disconnect notification (§3.14).
    Disconnect(Disconnect<'a>),
    /// Authentication exchange, version 5 only (§3.15).
    Auth(Auth<'a>),
}

/// CONNECT.
#[derive(Clone, PartialEq)]
pub struct Connect<'a> {
    /// Protocol name and level.
    pub version: Version,
    /// Clean session (3.x) or clean start (5).
    pub clean_start: bool,
    /// Seconds; 0 turns keep alive off.
    pub keep_alive: u16,
    /// May be empty where the version allows it.
    pub client_id: &'a str,
    /// The will, if one is set.
    pub will: Option<Will<'a>>,
    /// User name, if sent.
    pub username: Option<&'a str>,
    /// Password, if sent; binary.
    pub password: Option<&'a [u8]>,
    /// Version 5 properties; defaults for 3.x.
    pub properties: ConnectProperties<'a>,
}

impl fmt::Debug for Connect<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .field("properties", &self.properties)
            .finish()
    }
}

/// The will message of a CONNECT (§3.1.2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Will<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds to wait after the end of the connection (§3.1.3.2.2).
    pub delay_interval: u32,
    /// Properties that travel with the message (no alias, no subscription ids).
    pub properties: PublishProperties<'a>,
}

/// CONNACK.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnAck<'a> {
    /// A stored session goes on.
    pub session_present: bool,
    /// Version 5 code; the encoder maps it to the 3.1.1 return code.
    pub reason: ReasonCode,
    /// Version 5 properties.
    pub properties: ConnAckProperties<'a>,
}

/// PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Publish<'a> {
    /// Possibly sent before.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// Retain flag.
    pub retain: bool,
    /// Topic name; empty only with a topic alias in version 5.
    pub topic: &'a str,
    /// Present exactly if QoS > 0.
    pub packet_id: Option<PacketId>,
    /// Version 5 properties.
    pub properties: PublishProperties<'a>,
    /// Application message.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP share one shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack<'a> {
    /// The packet it belongs to.
    pub packet_id: PacketId,
    /// `Success` in 3.x.
    pub reason: ReasonCode,
    /// Version 5 reason string.
    pub reason_string: Option<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'a> {
    /// The packet's identifier.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<SubscribeFilter<'a>>,
    /// Subscription identifier, 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// One filter of a SUBSCRIBE with its options (§3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubscribeFilter<'a> {
    /// Topic filter, `$share/…` included, valid by §4.7 and §4.8.
    pub filter: &'a str,
    /// Highest QoS wanted.
    pub qos: QoS,
    /// Do not send back what this client id published.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// Retain handling option (§3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RetainHandling {
    /// Send retained messages at each subscribe.
    #[default]
    Always = 0,
    /// Only if the subscription is new.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// SUBACK.
#[derive(Clone, Debug, PartialEq)]
pub struct SubAck<'a> {
    /// Of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Version 5 reason string.
    pub reason_string: Option<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    /// The packet's identifier.
    pub packet_id: PacketId,
    /// At least one.
    pub filters: Vec<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// UNSUBACK; 3.x has no reason codes.
#[derive(Clone, Debug, PartialEq)]
pub struct UnsubAck<'a> {
    /// Of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// One for each filter, in order.
    pub reasons: Vec<ReasonCode>,
    /// Version 5 reason string.
    pub reason_string: Option<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disconnect<'a> {
    /// `NormalDisconnection` in 3.x.
    pub reason: ReasonCode,
    /// Seconds; changes what CONNECT asked for.
    pub session_expiry_interval: Option<u32>,
    /// Version 5 reason string.
    pub reason_string: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

/// AUTH, version 5 only.
#[derive(Clone, Copy, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method.
    pub method: Option<&'a str>,
    /// Authentication data.
    pub data: Option<&'a [u8]>,
    /// Version 5 reason string.
    pub reason_string: Option<&'a str>,
    /// Version 5 user properties.
    pub user: UserProperties<'a>,
}

impl fmt::Debug for Auth<'_> {
    /// Without the data: by what SCRAM says passwords can be guessed elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("reason", &self.reason)
            .field("method", &self.method)
            .field("data", &self.data.map(|_| "…"))
            .field("reason_string", &self.reason_string)
            .field("user", &self.user)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_a_password_is_not_shown() {
        let data = Some(&b"secret"[..]);
        let auth = Auth {
            reason: ReasonCode::ContinueAuthentication,
            method: Some("SCRAM-SHA-256"),
            data,
            reason_string: None,
            user: Default::default(),
        };
        let connect = ConnectProperties {
            authentication_data: data,
            ..Default::default()
        };
        let connack = ConnAckProperties {
            authentication_data: data,
            ..Default::default()
        };
        let bytes = format!("{:?}", b"secret");
        for shown in [format!("{auth:?}"), format!("{connect:?}"), format!("{connack:?}")] {
            assert!(shown.contains("data: Some(\"…\")"), "{shown}");
            assert!(!shown.contains(&bytes), "{shown}");
        }
    }
}
