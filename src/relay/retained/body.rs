//! What a subscriber gets of a retained message, ready to be encoded.

use std::{ops::Range, time::Instant};

use bytes::Bytes;

use crate::{mapping::Delivered, mqtt::QoS};

/// A retained message without its topic, which is the key that it is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Highest QoS.
    pub qos: QoS,
    /// When its expiry interval ends.
    pub expires: Option<Instant>,
    bytes: Bytes,
    client: Option<Range<usize>>,
    properties: Range<usize>,
    payload: Range<usize>,
}

impl Body {
    /// Copies what mapping has made of a record.
    pub fn copy(message: &Delivered<'_>, expires: Option<Instant>) -> Self {
        let client = message.client.unwrap_or("");
        let mut bytes = Vec::with_capacity(client.len() + message.shared_properties.len() + message.payload.len());
        let mut put = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        let (client, properties, payload) = (put(client.as_bytes()), put(message.shared_properties), put(message.payload));
        Self {
            qos: message.qos,
            expires,
            client: message.client.map(|_| client),
            properties,
            payload,
            bytes: bytes.into(),
        }
    }

    /// Client id of the publisher, if the record names it.
    pub fn client(&self) -> Option<&str> {
        let range = self.client.clone()?;
        Some(std::str::from_utf8(&self.bytes[range]).expect("copied from a str"))
    }

    /// Encoded version 5 properties that all receivers share.
    pub fn properties(&self) -> &[u8] {
        &self.bytes[self.properties.clone()]
    }

    /// The payload, shared.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.payload.clone())
    }

    /// Bytes of memory that it takes, roughly.
    pub fn weight(&self) -> usize {
        self.bytes.len() + size_of::<Self>() + 32
    }
}
