//! A PUBLISH that is asked about.

use crate::mqtt::properties::UserProperties;
use crate::mqtt::topic::validate_name;
use crate::mqtt::{PayloadFormat, PublishProperties, QoS};

/// What a PUBLISH says beside topic and payload; by default it is of QoS 1, and says no more.
#[derive(Clone, Copy, Debug)]
pub struct SamplePacket<'a> {
    /// Its QoS, 0 to 2.
    pub qos: u8,
    /// Its retain flag.
    pub retain: bool,
    /// The message expiry interval in seconds.
    pub expiry: Option<u32>,
    /// The payload format indicator: whether the payload is text in UTF-8.
    pub is_utf8: Option<bool>,
    /// The content type.
    pub content_type: Option<&'a str>,
    /// The response topic.
    pub response_topic: Option<&'a str>,
    /// The correlation data.
    pub correlation_data: Option<&'a [u8]>,
}

impl Default for SamplePacket<'_> {
    fn default() -> Self {
        SamplePacket {
            qos: 1,
            retain: false,
            expiry: None,
            is_utf8: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
        }
    }
}

impl<'a> SamplePacket<'a> {
    pub(super) fn qos(&self) -> QoS {
        match self.qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    /// As properties, with these of the user.
    ///
    /// # Errors
    /// No PUBLISH can say it, in words.
    pub(super) fn properties(&self, user: UserProperties<'a>) -> Result<PublishProperties<'a>, String> {
        let fits = |length: usize| length <= usize::from(u16::MAX);
        if self.content_type.is_some_and(|text| !fits(text.len()) || text.contains('\0')) {
            return Err("the content type holds more than 65,535 bytes, or U+0000".to_owned());
        }
        if let Some(topic) = self.response_topic {
            validate_name(topic).map_err(|e| format!("the response topic: {}", e.as_str()))?;
        }
        if self.correlation_data.is_some_and(|data| !fits(data.len())) {
            return Err("the correlation data holds more than 65,535 bytes".to_owned());
        }
        Ok(PublishProperties {
            payload_format: self.is_utf8.map(|is| if is { PayloadFormat::Utf8 } else { PayloadFormat::Bytes }),
            message_expiry_interval: self.expiry,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user,
            ..PublishProperties::default()
        })
    }
}

/// A PUBLISH to be explained.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// The client id.
    pub client: &'a str,
    /// Who its client was recognised as.
    pub identity: Option<&'a str>,
    /// When it is received, milliseconds since the epoch.
    pub now_ms: i64,
    /// Its payload.
    pub payload: &'a [u8],
    /// User properties, in order.
    pub user: &'a [(String, String)],
    /// What else it says.
    pub packet: SamplePacket<'a>,
    /// How many partitions each Kafka topic has, if that is known (> 0).
    pub partitions: Option<u32>,
    /// Kafka topics of the proxy's own state, to which no rule writes.
    pub state_topics: &'a [&'a str],
}
