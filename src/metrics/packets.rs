//! Packets by type and direction: arrays indexed by the type number of the fixed header, so counting hashes nothing.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The names by type number, MQTT 5 §2.1.2; 0 is reserved, so it stands for what is no packet.
const TYPES: [&str; 16] = [
    "invalid",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PacketLabels {
    r#type: &'static str,
    direction: &'static str,
}

/// One counter for each packet type and direction.
#[derive(Clone, Debug)]
pub struct PacketCounters {
    received: [Counter; 16],
    sent: [Counter; 16],
}

impl PacketCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let family: Family<PacketLabels, Counter> = Family::default();
        registry.register("packets", "MQTT packets, by type and direction", family.clone());
        let all = |direction| TYPES.map(|r#type| family.get_or_create_owned(&PacketLabels { r#type, direction }));
        Self {
            received: all("received"),
            sent: all("sent"),
        }
    }

    /// Adds what a task has tallied since the last call, and empties the tally. Touches only counters that moved.
    pub fn add(&self, tally: &mut PacketTally) {
        for (counters, counts) in [(&self.received, &mut tally.received), (&self.sent, &mut tally.sent)] {
            for (counter, count) in counters.iter().zip(counts) {
                if *count > 0 {
                    counter.inc_by(u64::from(std::mem::take(count)));
                }
            }
        }
    }
}

/// Packets counted without an atomic: kept on the stack for one read's worth of packets, then added at once.
#[derive(Clone, Debug, Default)]
pub struct PacketTally {
    received: [u32; 16],
    sent: [u32; 16],
}

impl PacketTally {
    /// A packet that a device sent, by the first byte of its fixed header.
    pub fn received(&mut self, first_byte: u8) {
        self.received[usize::from(first_byte >> 4)] += 1;
    }

    /// Packets for a device, by type number.
    pub fn sent(&mut self, by_type: &[u32; 16]) {
        for (sum, count) in self.sent.iter_mut().zip(by_type) {
            *sum += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_is_added_once_and_then_empty() {
        let mut registry = Registry::default();
        let counters = PacketCounters::register(&mut registry);
        let mut tally = PacketTally::default();
        tally.received(0x32);
        tally.received(0x30);
        let mut sent = [0; 16];
        sent[4] = 1;
        tally.sent(&sent);
        counters.add(&mut tally);
        counters.add(&mut tally);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("packets_total{type=\"publish\",direction=\"received\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("packets_total{type=\"puback\",direction=\"sent\"} 1\n"), "{text}");
    }
}
