//! The limits every session of a listener keeps.

use std::time::Duration;

use crate::mqtt::topic;

/// How long sessions outlive their connections, in seconds; `u32::MAX` is for ever (§3.1.2.11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Of 3.x clients without clean session, which cannot say it.
    pub default: u32,
    /// At most; version 5 clients that ask for more are told (§3.2.2.3.2).
    pub max: u32,
}

/// Shared by all sessions of a listener, behind one `Arc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// QoS 1 and 2 PUBLISHes a client may have open towards us, 1 to 65,535; told to version 5 clients (§3.2.2.3.3).
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages open towards a client at most, 1 to 65,535; a client may ask for fewer (§3.1.2.11.3).
    pub send_maximum: u16,
    /// Bytes of the largest packet taken from a client, told to version 5 clients (§3.2.2.3.6). The decoder enforces it.
    pub maximum_packet_size: u32,
    /// Of those, what CONNECT may have: nobody knows yet who sends it.
    pub connect_packet_size: u32,
    /// Bytes of the longest topic name or filter.
    pub topic_length: usize,
    /// Levels of a topic name or filter.
    pub topic_levels: usize,
    /// Topic aliases of one client, in each direction; 0 turns them off. Their names may have 256 bytes for each together, or 65,535 if that is more.
    pub topic_alias_maximum: u16,
    /// Subscriptions of one client, and filters of one packet.
    pub subscriptions_maximum: usize,
    /// Longest keep alive; version 5 clients that ask for more, or for none, are told this one (§3.2.2.3.14).
    pub keep_alive_max: Option<Duration>,
    /// From the socket's accept to the answer of CONNECT.
    pub connect_timeout: Duration,
    /// A packet that has come in part must be whole, or a KiB further, within it.
    pub packet_timeout: Duration,
    /// Who has something to take must take some of it within it.
    pub send_timeout: Duration,
    /// Bytes in the outbox beyond which no further message is taken.
    pub outbound_queue: usize,
    /// Whether PUBLISHes and wills may have the retain flag (§3.2.2.3.5).
    pub retain_available: bool,
    /// `None`: sessions end with their connections.
    pub expiry: Option<Expiry>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_maximum: 64,
            send_maximum: 1024,
            maximum_packet_size: 1 << 20,
            connect_packet_size: 64 << 10,
            topic_length: usize::from(u16::MAX),
            topic_levels: 128,
            topic_alias_maximum: 16,
            subscriptions_maximum: 1000,
            keep_alive_max: None,
            connect_timeout: Duration::from_secs(10),
            packet_timeout: Duration::from_secs(120),
            send_timeout: Duration::from_secs(120),
            outbound_queue: 256 << 10,
            retain_available: false,
            expiry: None,
        }
    }
}

impl Settings {
    /// Bytes of the largest CONNECT that is taken.
    pub fn connect_size(&self) -> u32 {
        self.connect_packet_size.min(self.maximum_packet_size)
    }

    /// Whether a topic name or filter is within the bounds.
    pub(super) fn topic_fits(&self, topic: &str) -> bool {
        topic.len() <= self.topic_length && (topic.len() < self.topic_levels || topic::levels(topic).nth(self.topic_levels).is_none())
    }
}
