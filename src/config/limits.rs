//! `limits`: what one device, and all of them together, may take.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::{downstream, relay, session};

use super::tree::Node;
use super::walk::{Keys, Section, Walk};

const LIMITS: Keys = Keys {
    known: &[
        "connections",
        "connect_rate",
        "connections_per_address",
        "connections_per_identity",
        "packet_size",
        "connect_timeout",
        "packet_timeout",
        "send_timeout",
        "receive_maximum",
        "keep_alive",
        "connect_packet_size",
        "topic_length",
        "topic_levels",
        "subscriptions",
        "message_rate",
        "byte_rate",
    ],
    later: &[],
};
const KEEP_ALIVE: Keys = Keys {
    known: &["max"],
    later: &[],
};

/// The largest packet that MQTT can write is a few bytes larger (§2.1.4).
const LARGEST_PACKET: u64 = 256 << 20;

/// `limits`, by who keeps them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) downstream: downstream::Limits,
    pub(super) session: session::Settings,
    pub(super) rate: relay::ClientRate,
    pub(super) connections_per_identity: Option<NonZeroU32>,
}

impl Walk<'_> {
    /// `limits`.
    pub(super) fn limits(&mut self, node: &Node) -> Limits {
        let mut limits = Limits::default();
        let Some(section) = self.section(node, "limits", &LIMITS) else {
            return limits;
        };
        if let Some(n) = self
            .optional(&section, "connections")
            .and_then(|n| self.number(n, "limits.connections", 1..=10_000_000))
        {
            limits.downstream.connections = narrow(n);
        }
        if let Some(n) = self
            .optional(&section, "connect_rate")
            .and_then(|n| self.rate(n, "limits.connect_rate", 1..=1_000_000))
        {
            limits.downstream.connect_rate = NonZeroU32::new(narrow(n));
        }
        if let Some(n) = self
            .optional(&section, "connections_per_address")
            .and_then(|n| self.number(n, "limits.connections_per_address", 1..=10_000_000))
        {
            limits.downstream.connections_per_address = Some(narrow(n));
        }
        if let Some(n) = self
            .optional(&section, "connections_per_identity")
            .and_then(|n| self.number(n, "limits.connections_per_identity", 1..=10_000_000))
        {
            limits.connections_per_identity = NonZeroU32::new(narrow(n));
        }
        if let Some(n) = self
            .optional(&section, "packet_size")
            .and_then(|n| self.size(n, "limits.packet_size", 128..=LARGEST_PACKET))
        {
            limits.session.maximum_packet_size = narrow(n);
        }
        let range = Duration::from_millis(100)..=Duration::from_secs(600);
        if let Some(d) = self
            .optional(&section, "connect_timeout")
            .and_then(|n| self.duration(n, "limits.connect_timeout", range))
        {
            limits.downstream.connect_timeout = d;
            limits.session.connect_timeout = d;
        }
        if let Some(n) = self
            .optional(&section, "receive_maximum")
            .and_then(|n| self.number(n, "limits.receive_maximum", 1..=65_535))
        {
            limits.session.receive_maximum = u16::try_from(n).expect("the range is that of the field");
        }
        if let Some(node) = self.optional(&section, "keep_alive") {
            limits.session.keep_alive_max = self.keep_alive(node);
        }
        self.client_limits(&section, &mut limits);
        limits
    }

    /// Of `limits`, those of one client's packets.
    fn client_limits(&mut self, section: &Section<'_>, limits: &mut Limits) {
        let range = Duration::from_secs(1)..=Duration::from_secs(3600);
        if let Some(d) = self
            .optional(section, "packet_timeout")
            .and_then(|n| self.duration(n, "limits.packet_timeout", range.clone()))
        {
            limits.session.packet_timeout = d;
        }
        if let Some(d) = self
            .optional(section, "send_timeout")
            .and_then(|n| self.duration(n, "limits.send_timeout", range))
        {
            limits.session.send_timeout = d;
        }
        if let Some(n) = self
            .optional(section, "connect_packet_size")
            .and_then(|n| self.size(n, "limits.connect_packet_size", 128..=LARGEST_PACKET))
        {
            limits.session.connect_packet_size = narrow(n);
        }
        if let Some(n) = self
            .optional(section, "topic_length")
            .and_then(|n| self.size(n, "limits.topic_length", 1..=65_535))
        {
            limits.session.topic_length = narrow(n) as usize;
        }
        if let Some(n) = self
            .optional(section, "topic_levels")
            .and_then(|n| self.number(n, "limits.topic_levels", 1..=128))
        {
            limits.session.topic_levels = narrow(n) as usize;
        }
        if let Some(n) = self
            .optional(section, "subscriptions")
            .and_then(|n| self.number(n, "limits.subscriptions", 1..=100_000))
        {
            limits.session.subscriptions_maximum = narrow(n) as usize;
        }
        if let Some(n) = self
            .optional(section, "message_rate")
            .and_then(|n| self.rate(n, "limits.message_rate", 1..=1_000_000))
        {
            limits.rate.messages = NonZeroU32::new(narrow(n));
        }
        if let Some(n) = self
            .optional(section, "byte_rate")
            .and_then(|n| self.size(n, "limits.byte_rate", 1024..=1 << 30))
        {
            limits.rate.bytes = NonZeroU32::new(narrow(n));
        }
    }

    /// `limits.keep_alive`: whole seconds in the protocol, sixteen bits of them (§3.1.2.10).
    fn keep_alive(&mut self, node: &Node) -> Option<Duration> {
        let section = self.section(node, "limits.keep_alive", &KEEP_ALIVE)?;
        let max = self.required(&section, "max", "1h")?;
        let longest = self.duration(max, "limits.keep_alive.max", Duration::from_secs(1)..=Duration::from_secs(65_535))?;
        if longest.subsec_millis() != 0 {
            self.fault(
                max.place,
                "`limits.keep_alive.max` is not in whole seconds",
                "MQTT counts keep alive in seconds",
            );
        }
        Some(longest)
    }
}

fn narrow(n: u64) -> u32 {
    u32::try_from(n).expect("the ranges here are below 2^32")
}
