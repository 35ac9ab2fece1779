//! The wanted records of one fetch, as messages that any number of connections share.
//!
//! Topic, properties and payload of all messages of a chunk lie in one buffer; a message is three ranges of it.
//! A connection that holds a chunk pins that buffer, so chunks are small (`SIZE`) and a mailbox holds few of them.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use super::budget::{Budget, Charge};
use crate::{mqtt::QoS, ownership::Source};

/// Bytes after which a chunk is handed out and a new one begun; the less memory is left, the earlier.
const SIZE: std::ops::RangeInclusive<usize> = 8 * 1024..=64 * 1024;

/// A partition that is read, as a small number: stable as long as it is read and its topic is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

impl SourceId {
    /// One that was not given before.
    pub fn fresh() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// One message of a chunk.
#[derive(Debug)]
pub struct Message {
    /// Offset in its partition.
    pub offset: i64,
    /// What the record and its rule allow; a subscription may lower it.
    pub qos: QoS,
    /// As it was published.
    pub retain: bool,
    /// When its expiry interval ends (§3.3.2.3.3).
    pub expires: Option<Instant>,
    /// The rule that made it, for the counters.
    pub rule: usize,
    topic: Range<usize>,
    client: Option<Range<usize>>,
    properties: Range<usize>,
    payload: Range<usize>,
}

/// Messages of one partition in the order of their offsets.
#[derive(Debug)]
pub struct Chunk {
    /// Where they come from.
    pub source: SourceId,
    /// The same, as it is stored.
    pub from: Source,
    /// In the order of the log.
    pub messages: Vec<Message>,
    bytes: Bytes,
    _charge: Charge,
}

impl Chunk {
    /// MQTT topic name.
    pub fn topic(&self, message: &Message) -> &str {
        std::str::from_utf8(&self.bytes[message.topic.clone()]).expect("pushed as a str")
    }

    /// Client id of the publisher, if the record names it.
    pub fn client(&self, message: &Message) -> Option<&str> {
        message
            .client
            .clone()
            .map(|range| std::str::from_utf8(&self.bytes[range]).expect("pushed as a str"))
    }

    /// Encoded version 5 properties that all receivers share.
    pub fn properties(&self, message: &Message) -> &[u8] {
        &self.bytes[message.properties.clone()]
    }

    /// Bytes of memory that whoever holds the chunk keeps from being freed, roughly.
    pub fn pins(&self) -> usize {
        self.bytes.len() + self.messages.len() * size_of::<Message>() + 256
    }

    /// The payload, shared.
    pub fn payload(&self, message: &Message) -> Bytes {
        self.bytes.slice(message.payload.clone())
    }
}

impl Message {
    /// Bytes of the payload.
    pub fn payload_len(&self) -> usize {
        self.payload.len()
    }

    /// What the message weighs in a mailbox.
    pub fn weight(&self) -> usize {
        (self.payload.end - self.topic.start) + 64
    }
}

/// A chunk being filled.
#[derive(Debug)]
pub struct ChunkBuilder {
    source: SourceId,
    from: Source,
    budget: Arc<Budget>,
    messages: Vec<Message>,
    bytes: Vec<u8>,
}

/// What makes a message; borrowed from the record.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Highest QoS.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// End of the expiry interval.
    pub expires: Option<Instant>,
    /// Index of the rule.
    pub rule: usize,
    /// MQTT topic name.
    pub topic: &'a str,
    /// Publisher.
    pub client: Option<&'a str>,
    /// Encoded version 5 properties.
    pub properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

impl ChunkBuilder {
    /// An empty chunk of a source.
    pub fn new(source: SourceId, from: Source, budget: Arc<Budget>) -> Self {
        Self {
            source,
            from,
            budget,
            messages: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Copies a message in; the result is its index.
    pub fn push(&mut self, parts: &Parts<'_>) -> usize {
        let topic = self.copy(parts.topic.as_bytes());
        let client = parts.client.map(|c| self.copy(c.as_bytes()));
        let properties = self.copy(parts.properties);
        let payload = self.copy(parts.payload);
        let Parts {
            offset,
            qos,
            retain,
            expires,
            rule,
            ..
        } = *parts;
        self.messages.push(Message {
            offset,
            qos,
            retain,
            expires,
            rule,
            topic,
            client,
            properties,
            payload,
        });
        self.messages.len() - 1
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// Whether the chunk should be handed out.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= self.budget.share(*SIZE.start(), *SIZE.end())
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Hands the chunk out and begins a new one.
    pub fn finish(&mut self) -> Chunk {
        let (messages, bytes) = (std::mem::take(&mut self.messages), std::mem::take(&mut self.bytes));
        let held = bytes.capacity() + messages.capacity() * size_of::<Message>() + size_of::<Chunk>();
        Chunk {
            source: self.source,
            from: self.from,
            messages,
            bytes: Bytes::from(bytes),
            _charge: self.budget.charge(held),
        }
    }
}
