//! The will, owned by the session until it is sent or forgotten (§3.1.2.5).

use bytes::Bytes;

use super::Session;
use crate::mqtt::{PayloadFormat, Publish, PublishProperties, QoS, UserProperties, Will};

/// A will message that has outlived its CONNECT packet.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedWill {
    /// Topic name.
    pub topic: Box<str>,
    /// Payload.
    pub payload: Bytes,
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Seconds. The session ends with its connection, so the will is due at once whatever this says (§3.1.3.2.2).
    pub delay_interval: u32,
    payload_format: Option<PayloadFormat>,
    message_expiry_interval: Option<u32>,
    content_type: Option<Box<str>>,
    response_topic: Option<Box<str>>,
    correlation_data: Option<Box<[u8]>>,
    user: Box<[u8]>,
}

impl OwnedWill {
    /// Copies the will out of a CONNECT.
    pub(super) fn copy(will: &Will<'_>) -> Self {
        let properties = &will.properties;
        Self {
            topic: will.topic.into(),
            payload: Bytes::copy_from_slice(will.payload),
            qos: will.qos,
            retain: will.retain,
            delay_interval: will.delay_interval,
            payload_format: properties.payload_format,
            message_expiry_interval: properties.message_expiry_interval,
            content_type: properties.content_type.map(Into::into),
            response_topic: properties.response_topic.map(Into::into),
            correlation_data: properties.correlation_data.map(Into::into),
            user: properties.user.block.into(),
        }
    }

    /// The will as the PUBLISH it stands for, without a packet id: it goes the way of every other message.
    pub fn publish(&self) -> Publish<'_> {
        Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: None,
            properties: PublishProperties {
                payload_format: self.payload_format,
                message_expiry_interval: self.message_expiry_interval,
                topic_alias: None,
                response_topic: self.response_topic.as_deref(),
                correlation_data: self.correlation_data.as_deref(),
                subscription_ids: Default::default(),
                content_type: self.content_type.as_deref(),
                user: UserProperties { block: &self.user },
            },
            payload: &self.payload,
        }
    }
}

impl Session {
    /// The will of the CONNECT, for authorisation and mapping before [`Session::accept`].
    pub fn will(&self) -> Option<&OwnedWill> {
        self.will.as_deref()
    }

    /// Hands the will over after [`super::Output::PublishWill`]; `None` the second time.
    pub fn take_will(&mut self) -> Option<OwnedWill> {
        self.will.take().map(|will| *will)
    }
}
