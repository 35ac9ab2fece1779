//! Any legal packet of any version, as a strategy of owned parts that packets borrow from.
//!
//! What a packet may carry is written down here once more, from the specifications' tables and not from the codec.

#![allow(dead_code)] // Each test binary uses its part.

mod build;

use std::num::NonZeroU16;

use mqtt_kafka_proxy::mqtt::codec::Role;
use mqtt_kafka_proxy::mqtt::*;
use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;

pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// The reason codes that a version 5 packet may carry (tables 3-1 to 3-11), by packet type.
pub fn legal_reasons(kind: u8) -> &'static [u8] {
    match kind {
        2 => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D,
            0x9F,
        ],
        4 | 5 => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        6 | 7 => &[0x00, 0x92],
        9 => &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2],
        11 => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91],
        14 => &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
            0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ],
        15 => &[0x00, 0x18, 0x19],
        _ => &[],
    }
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub struct Filter {
    pub text: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: u8,
}

/// What all packets are made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Packet type, 1 to 15.
    pub kind: u8,
    pub version: Version,
    pub topic: String,
    pub will_topic: String,
    pub filters: Vec<Filter>,
    pub client_id: String,
    pub texts: [Option<String>; 4],
    pub binaries: [Option<Vec<u8>>; 3],
    pub payload: Vec<u8>,
    pub u32s: [Option<u32>; 3],
    pub u16s: [Option<NonZeroU16>; 3],
    pub flags: [Option<bool>; 5],
    pub bits: [bool; 6],
    pub qos: u8,
    pub id: NonZeroU16,
    pub reasons: Vec<usize>,
    pub subscription_id: Option<u32>,
    /// User properties and subscription identifiers, encoded, in any order.
    pub block: Vec<u8>,
}

fn text() -> impl Strategy<Value = String> {
    let any_text = |size| vec(any::<char>().prop_filter("U+0000", |c| *c != '\0'), size).prop_map(String::from_iter);
    prop_oneof![
        40 => any_text(0..12),
        4 => Just("\u{FEFF}marked".to_owned()),
        6 => Just(String::new()),
        1 => any_text(100..200),
        1 => Just("x".repeat(65_535)),
    ]
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![40 => vec(any::<u8>(), 0..20), 1 => Just(vec![0xC3; 65_535])]
}

fn topic() -> impl Strategy<Value = String> {
    let level = vec(any::<char>().prop_filter("not in a name", |c| !"\0+#".contains(*c)), 0..6).prop_map(String::from_iter);
    let levels = vec(level, 1..5).prop_map(|levels| levels.join("/"));
    let not_empty = levels.prop_map(|name| if name.is_empty() { "/".to_owned() } else { name });
    prop_oneof![40 => not_empty, 3 => Just("$SYS/a".to_owned()), 1 => Just("t".repeat(65_535))]
}

fn filter() -> impl Strategy<Value = Filter> {
    let level = prop_oneof![3 => "[a-z0-9 é$]{0,4}", 1 => Just("+".to_owned())];
    let text = (vec(level, 1..5), any::<bool>(), 0..8_u8).prop_map(|(mut levels, deep, share)| {
        if deep {
            levels.push("#".to_owned());
        }
        let filter = levels.join("/");
        match (filter.is_empty(), share) {
            (true, _) => "/".to_owned(),
            (_, 0) => format!("$share/group/{filter}"),
            // A first level of its own that happens to read so would be a shared subscription without a filter.
            _ => filter.replacen("$share", "$shared", 1),
        }
    });
    (text, 0..3_u8, any::<bool>(), any::<bool>(), 0..3_u8).prop_map(|(text, qos, local, retain_as_published, retain_handling)| Filter {
        no_local: local && !text.starts_with("$share/"),
        text,
        qos,
        retain_as_published,
        retain_handling,
    })
}

/// Repeatable properties in any order.
fn block() -> impl Strategy<Value = Vec<u8>> {
    let put = |out: &mut Vec<u8>, text: &str| {
        out.extend((text.len() as u16).to_be_bytes());
        out.extend(text.as_bytes());
    };
    let user = (text(), text()).prop_map(move |(name, value)| {
        let mut out = vec![0x26];
        put(&mut out, &name);
        put(&mut out, &value);
        out
    });
    let ids = prop_oneof![1 => 1..300_u32, 1 => 2_097_000..2_097_300_u32, 1 => Just(268_435_455_u32)];
    let id = ids.prop_map(|id| {
        let groups = [id, id >> 7, id >> 14, id >> 21];
        let last = groups.iter().rposition(|group| *group > 0).unwrap_or(0);
        let byte = |(at, group): (usize, &u32)| (group & 0x7F) as u8 | if at < last { 0x80 } else { 0 };
        [0x0B].into_iter().chain(groups[..=last].iter().enumerate().map(byte)).collect()
    });
    let repeated = prop_oneof![2 => user, 1 => id];
    prop_oneof![1 => Just(vec![]), 1 => vec(repeated, 1..4).prop_map(|properties| properties.concat())]
}

/// Any legal packet, as its parts.
pub fn parts() -> impl Strategy<Value = Parts> {
    let texts = [(); 4].map(|()| weighted(0.5, text()));
    let binaries = [(); 3].map(|()| weighted(0.5, binary()));
    let u32s = any::<[Option<u32>; 3]>().prop_map(|all| [all[0], all[1], all[2].filter(|size| *size != 0)]);
    let u16s = any::<[Option<NonZeroU16>; 3]>();
    let names = (topic(), topic(), vec(filter(), 1..4), text());
    let payload = prop_oneof![8 => vec(any::<u8>(), 0..200), 1 => Just(vec![7; 16_384]), 1 => Just(vec![])];
    let small = (
        0..3_u8,
        any::<NonZeroU16>(),
        vec(0..64_usize, 1..5),
        weighted(0.5, 1..268_435_456_u32),
    );
    let flags = any::<([Option<bool>; 5], [bool; 6])>();
    let versions = prop_oneof![1 => Just(Version::V31), 1 => Just(Version::V311), 2 => Just(Version::V5)];
    let numbers = (u32s, u16s, flags);
    (1..=15_u8, versions, names, texts, binaries, payload, numbers, small, block()).prop_map(
        |(kind, version, (topic, will_topic, filters, client_id), texts, binaries, payload, (u32s, u16s, (flags, bits)), small, block)| {
            let (qos, id, reasons, subscription_id) = small;
            // AUTH exists in version 5 only.
            let version = if kind == 15 { Version::V5 } else { version };
            Parts {
                kind,
                version,
                topic,
                will_topic,
                filters,
                client_id,
                texts,
                binaries,
                payload,
                u32s,
                u16s,
                flags,
                bits,
                qos,
                id,
                reasons,
                subscription_id,
                block,
            }
        },
    )
}

/// Who may receive a packet.
pub fn receivers(packet: &Packet<'_>, version: Version) -> Vec<Role> {
    match packet {
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => vec![Role::Server],
        Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => vec![Role::Client],
        // [MQTT-3.3.4-6]
        Packet::Publish(publish) if publish.properties.subscription_ids.iter().next().is_some() => vec![Role::Client],
        // Servers of 3.x send none.
        Packet::Disconnect(_) if version != Version::V5 => vec![Role::Server],
        Packet::Disconnect(disconnect) => {
            let mut receivers = receivers_of(14, disconnect.reason.as_u8());
            // [MQTT-3.14.2-2]
            receivers.retain(|role| *role == Role::Server || disconnect.session_expiry_interval.is_none());
            receivers
        }
        Packet::Auth(auth) => receivers_of(15, auth.reason.as_u8()),
        _ => vec![Role::Server, Role::Client],
    }
}

/// Who may receive a reason code that DISCONNECT (14) or AUTH (15) may carry (tables 3-10 and 3-11); both in all other packets.
pub fn receivers_of(kind: u8, code: u8) -> Vec<Role> {
    match (kind, code) {
        (14, 0x04) | (15, 0x19) => vec![Role::Server],
        (14, 0x87 | 0x89 | 0x8B | 0x8D | 0x8E | 0x8F | 0x9A..) | (15, 0x00) => vec![Role::Client],
        _ => vec![Role::Server, Role::Client],
    }
}
