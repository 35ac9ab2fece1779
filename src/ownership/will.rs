//! The will as it is stored (§3.1.2.5 of MQTT 5): with the session until it is cancelled, then with its pairs until Kafka has it.

use serde::{Deserialize, Serialize};

use super::Fault;
use super::text::{Pair, decode_bytes, encode_bytes};
use crate::mqtt::{PayloadFormat, Publish, QoS};

/// A will message that outlives its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWill {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds between the end of the connection and the will (§3.1.3.2.2).
    pub delay: u32,
    /// The payload is text.
    pub payload_format: Option<PayloadFormat>,
    /// Message expiry interval, seconds.
    pub expiry: Option<u32>,
    /// Content type.
    pub content_type: Option<String>,
    /// Response topic.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Vec<u8>>,
    /// User properties in their order.
    pub user: Vec<(String, String)>,
    /// Who its client was recognised as, if the rules asked when it came.
    pub identity: Option<String>,
}

/// A will on its way into Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendingWill {
    /// The message.
    pub will: StoredWill,
    /// One for each record it makes; empty until the rules were asked.
    pub pairs: Vec<Pair>,
}

impl StoredWill {
    /// From the PUBLISH a will stands for.
    pub fn copy(publish: &Publish<'_>, delay: u32, identity: Option<&str>) -> Self {
        let properties = &publish.properties;
        Self {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            delay,
            payload_format: properties.payload_format,
            expiry: properties.message_expiry_interval,
            content_type: properties.content_type.map(str::to_owned),
            response_topic: properties.response_topic.map(str::to_owned),
            correlation_data: properties.correlation_data.map(<[u8]>::to_vec),
            user: properties
                .user
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            identity: identity.map(str::to_owned),
        }
    }
}

/// The JSON of a will.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WillText {
    topic: String,
    /// Base64.
    payload: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retain: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    delay: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    utf8: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiry: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    /// Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    user: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

/// The JSON of a will that is being sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SendingText {
    will: WillText,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pairs: Vec<String>,
}

fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

/// A QoS by its number.
pub(super) fn qos(number: u8) -> Result<QoS, Fault> {
    match number {
        0 => Ok(QoS::AtMostOnce),
        1 => Ok(QoS::AtLeastOnce),
        2 => Ok(QoS::ExactlyOnce),
        _ => Err(Fault::Damaged("a QoS")),
    }
}

impl From<&StoredWill> for WillText {
    fn from(will: &StoredWill) -> Self {
        Self {
            topic: will.topic.clone(),
            payload: encode_bytes(&will.payload),
            qos: will.qos as u8,
            retain: will.retain,
            delay: will.delay,
            utf8: will.payload_format.map(|format| format == PayloadFormat::Utf8),
            expiry: will.expiry,
            content_type: will.content_type.clone(),
            response_topic: will.response_topic.clone(),
            correlation_data: will.correlation_data.as_deref().map(encode_bytes),
            user: will.user.clone(),
            identity: will.identity.clone(),
        }
    }
}

impl TryFrom<WillText> for StoredWill {
    type Error = Fault;

    fn try_from(text: WillText) -> Result<Self, Fault> {
        let format = |utf8| if utf8 { PayloadFormat::Utf8 } else { PayloadFormat::Bytes };
        Ok(Self {
            topic: text.topic,
            payload: decode_bytes(&text.payload)?,
            qos: qos(text.qos)?,
            retain: text.retain,
            delay: text.delay,
            payload_format: text.utf8.map(format),
            expiry: text.expiry,
            content_type: text.content_type,
            response_topic: text.response_topic,
            correlation_data: text.correlation_data.as_deref().map(decode_bytes).transpose()?,
            user: text.user,
            identity: text.identity,
        })
    }
}

impl From<&SendingWill> for SendingText {
    fn from(sending: &SendingWill) -> Self {
        Self {
            will: (&sending.will).into(),
            pairs: sending.pairs.iter().map(Pair::to_string).collect(),
        }
    }
}

impl TryFrom<SendingText> for SendingWill {
    type Error = Fault;

    fn try_from(text: SendingText) -> Result<Self, Fault> {
        let pair = |line: &String| match line.split_once(' ') {
            Some((source, numbers)) => Pair::parse(source, numbers),
            None => Err(Fault::Damaged("a pair")),
        };
        Ok(Self {
            will: text.will.try_into()?,
            pairs: text.pairs.iter().map(pair).collect::<Result<_, _>>()?,
        })
    }
}
