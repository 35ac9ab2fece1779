//! Version 5 properties (§2.2.2): one struct for each packet that carries more than a handful.
//!
//! User properties and subscription identifiers may repeat, so they stay as the encoded block they came in
//! and are read by iteration; nothing is allocated for them.

use std::fmt;

use crate::wire::read::Reader;

/// Payload format indicator (§3.3.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadFormat {
    /// 0: unspecified bytes.
    Bytes = 0,
    /// 1: UTF-8 text.
    Utf8 = 1,
}

/// User properties in their order, repeats kept: a view over an encoded, already validated property block.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserProperties<'a> {
    /// A whole property block; properties other than 0x26 in it are passed over.
    pub(crate) block: &'a [u8],
}

/// Subscription identifiers (0x0B) in their order: a view over an encoded, already validated property block.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubscriptionIds<'a> {
    /// A whole property block; properties other than 0x0B in it are passed over.
    pub(crate) block: &'a [u8],
}

/// CONNECT properties (§3.1.2.11) but the will's.
#[derive(Clone, PartialEq, Default)]
pub struct ConnectProperties<'a> {
    /// Seconds; absent means 0.
    pub session_expiry_interval: Option<u32>,
    /// Absent means 65,535.
    pub receive_maximum: Option<u16>,
    /// Bytes; absent means no limit.
    pub maximum_packet_size: Option<u32>,
    /// Highest alias the client takes; absent means 0.
    pub topic_alias_maximum: Option<u16>,
    /// The client wants response information.
    pub request_response_information: Option<bool>,
    /// The client takes reason strings and user properties on any packet; absent means true.
    pub request_problem_information: Option<bool>,
    /// Enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Enhanced authentication.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user: UserProperties<'a>,
}

impl fmt::Debug for ConnectProperties<'_> {
    /// Without the data of enhanced authentication.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectProperties")
            .field("session_expiry_interval", &self.session_expiry_interval)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("request_response_information", &self.request_response_information)
            .field("request_problem_information", &self.request_problem_information)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &self.authentication_data.map(|_| "…"))
            .field("user", &self.user)
            .finish()
    }
}

/// CONNACK properties (§3.2.2.3).
#[derive(Clone, PartialEq, Default)]
pub struct ConnAckProperties<'a> {
    /// Seconds, if other than asked for.
    pub session_expiry_interval: Option<u32>,
    /// In-flight limit for the client.
    pub receive_maximum: Option<u16>,
    /// Absent means 2.
    pub maximum_qos: Option<super::QoS>,
    /// Absent means yes.
    pub retain_available: Option<bool>,
    /// Bytes.
    pub maximum_packet_size: Option<u32>,
    /// The client id the server chose.
    pub assigned_client_identifier: Option<&'a str>,
    /// Highest alias the server takes.
    pub topic_alias_maximum: Option<u16>,
    /// Text for people.
    pub reason_string: Option<&'a str>,
    /// Absent means yes.
    pub wildcard_subscription_available: Option<bool>,
    /// Absent means yes.
    pub subscription_identifiers_available: Option<bool>,
    /// Absent means yes.
    pub shared_subscription_available: Option<bool>,
    /// Seconds the client must use.
    pub server_keep_alive: Option<u16>,
    /// Base for response topics.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// Enhanced authentication.
    pub authentication_method: Option<&'a str>,
    /// Enhanced authentication.
    pub authentication_data: Option<&'a [u8]>,
    /// User properties.
    pub user: UserProperties<'a>,
}

impl fmt::Debug for ConnAckProperties<'_> {
    /// Without the data of enhanced authentication.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnAckProperties")
            .field("session_expiry_interval", &self.session_expiry_interval)
            .field("receive_maximum", &self.receive_maximum)
            .field("maximum_qos", &self.maximum_qos)
            .field("retain_available", &self.retain_available)
            .field("maximum_packet_size", &self.maximum_packet_size)
            .field("assigned_client_identifier", &self.assigned_client_identifier)
            .field("topic_alias_maximum", &self.topic_alias_maximum)
            .field("reason_string", &self.reason_string)
            .field("wildcard_subscription_available", &self.wildcard_subscription_available)
            .field("subscription_identifiers_available", &self.subscription_identifiers_available)
            .field("shared_subscription_available", &self.shared_subscription_available)
            .field("server_keep_alive", &self.server_keep_alive)
            .field("response_information", &self.response_information)
            .field("server_reference", &self.server_reference)
            .field("authentication_method", &self.authentication_method)
            .field("authentication_data", &self.authentication_data.map(|_| "…"))
            .field("user", &self.user)
            .finish()
    }
}

/// PUBLISH properties (§3.3.2.3), also of a will.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct PublishProperties<'a> {
    /// Whether the payload is text.
    pub payload_format: Option<PayloadFormat>,
    /// Seconds the message may still wait.
    pub message_expiry_interval: Option<u32>,
    /// Stands for a topic name.
    pub topic_alias: Option<u16>,
    /// Where an answer should go; a topic name without wildcards.
    pub response_topic: Option<&'a str>,
    /// Ties an answer to its request.
    pub correlation_data: Option<&'a [u8]>,
    /// Which subscriptions matched; only from server to client.
    pub subscription_ids: SubscriptionIds<'a>,
    /// Content type, free text.
    pub content_type: Option<&'a str>,
    /// User properties.
    pub user: UserProperties<'a>,
}

impl PublishProperties<'_> {
    /// Whether there is no property at all.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let numbers = self.payload_format.is_none() & self.message_expiry_interval.is_none() & self.topic_alias.is_none();
        let fields = self.response_topic.is_none() & self.correlation_data.is_none() & self.content_type.is_none();
        numbers & fields & self.user.block.is_empty() & self.subscription_ids.block.is_empty()
    }
}

/// Walks a validated property block. What is not valid ends the walk: a view made of unchecked bytes is just empty from there.
#[derive(Clone, Debug)]
struct Block<'a>(Reader<'a>);

/// A property that a view cares about.
enum Found<'a> {
    User(&'a str, &'a str),
    SubscriptionId(u32),
    Other,
}

impl<'a> Block<'a> {
    fn next(&mut self) -> Option<Found<'a>> {
        let r = &mut self.0;
        let found = match r.u8().ok()? {
            0x26 => Found::User(r.text().ok()?, r.text().ok()?),
            0x0B => Found::SubscriptionId(r.varint().ok()?),
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => skip(r.take(1).ok()?),
            0x13 | 0x21 | 0x22 | 0x23 => skip(r.take(2).ok()?),
            0x02 | 0x11 | 0x18 | 0x27 => skip(r.take(4).ok()?),
            0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => skip(r.binary().ok()?),
            _ => return None,
        };
        Some(found)
    }
}

fn skip<'a>(_bytes: &[u8]) -> Found<'a> {
    Found::Other
}

impl<'a> UserProperties<'a> {
    /// A view over an encoded property block (without its length).
    pub fn from_block(block: &'a [u8]) -> Self {
        Self { block }
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        let mut block = Block(Reader::new(self.block));
        std::iter::from_fn(move || {
            loop {
                if let Found::User(name, value) = block.next()? {
                    return Some((name, value));
                }
            }
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl<'a> SubscriptionIds<'a> {
    /// A view over an encoded property block (without its length).
    pub fn from_block(block: &'a [u8]) -> Self {
        Self { block }
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        let mut block = Block(Reader::new(self.block));
        std::iter::from_fn(move || {
            loop {
                if let Found::SubscriptionId(id) = block.next()? {
                    return Some(id);
                }
            }
        })
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl PartialEq for SubscriptionIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
