//! Whole tables of the specification: which flags a first byte may have, and which property which packet may carry.

use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::{ReasonCode, Version};

use crate::{bytes, roles};

fn accepts(version: Version, role: Role, packet: &[u8]) -> Result<bool, ReasonCode> {
    let connect = packet[0] >> 4 == 1 && role == Role::Server;
    let decoder = Decoder {
        version: (!connect).then_some(version),
        role,
        max_packet_size: u32::MAX,
    };
    decoder.decode(packet).map(|read| read.is_some()).map_err(|error| error.reason)
}

/// Table 2-2: the first byte of each packet a side may receive, for the body that belongs to it.
#[test]
fn first_bytes() {
    let bodies: [(u8, &str, &str, &str); 15] = [
        (1, "s", "t:MQTT 05 02 00 3C ( ) t:id", "t:MQTT 04 02 00 3C t:id"),
        (2, "c", "00 00 ( )", "00 00"),
        (3, "sc", "t:a ( )", "t:a"),
        (4, "sc", "00 01", "00 01"),
        (5, "sc", "00 01", "00 01"),
        (6, "sc", "00 01", "00 01"),
        (7, "sc", "00 01", "00 01"),
        (8, "s", "00 01 ( ) t:a 00", "00 01 t:a 00"),
        (9, "c", "00 01 ( ) 00", "00 01 00"),
        (10, "s", "00 01 ( ) t:a", "00 01 t:a"),
        (11, "c", "00 01 ( ) 00", "00 01"),
        (12, "s", "", ""),
        (13, "c", "", ""),
        (14, "s", "", ""),
        (15, "s", "18 ( 15 t:m )", ""),
    ];
    for (kind, readers, v5, v311) in bodies {
        for flags in 0..16_u8 {
            for role in [Role::Server, Role::Client] {
                for (version, body) in [(Version::V5, v5), (Version::V311, v311)] {
                    let mut legal = match kind {
                        // QoS 1 and 2 take an identifier, which the version 5 body above has no room for: told apart below.
                        3 => flags & 0x0E == 0,
                        6 | 8 | 10 => flags == 2,
                        _ => flags == 0,
                    };
                    if kind == 3 && flags & 0x0E != 0 && flags & 6 != 0 && flags & 6 != 6 {
                        continue;
                    }
                    let both = version == Version::V5 && kind >= 14;
                    legal &= both || roles(readers).contains(&role);
                    legal &= kind != 15 || version == Version::V5;
                    let packet = bytes(&format!("{:02X} * {body}", kind << 4 | flags));
                    let accepted = accepts(version, role, &packet);
                    assert_eq!(accepted.is_ok(), legal, "{version:?} {role:?} {packet:02X?}: {accepted:?}");
                }
            }
        }
    }
}

/// A publish of QoS 1 or 2 may have any DUP and RETAIN.
#[test]
fn first_bytes_of_a_publish_with_an_identifier() {
    for flags in 0..16_u8 {
        for (version, body) in [(Version::V5, "t:a 00 01 ( )"), (Version::V311, "t:a 00 01")] {
            let packet = bytes(&format!("{:02X} * {body}", 0x30 | flags));
            let qos = flags >> 1 & 3;
            if qos > 0 {
                assert_eq!(
                    accepts(version, Role::Server, &packet).is_ok(),
                    qos < 3,
                    "{version:?} {packet:02X?}"
                );
            }
        }
    }
}

/// A value for each property that a packet can carry (table 2-4).
const VALUES: [(u8, &str); 27] = [
    (0x01, "01"),
    (0x02, "00 00 00 01"),
    (0x03, "t:x"),
    (0x08, "t:x"),
    (0x09, "t:x"),
    (0x0B, "01"),
    (0x11, "00 00 00 01"),
    (0x12, "t:x"),
    (0x13, "00 01"),
    (0x15, "t:x"),
    (0x16, "t:x"),
    (0x17, "01"),
    (0x18, "00 00 00 01"),
    (0x19, "01"),
    (0x1A, "t:x"),
    (0x1C, "t:x"),
    (0x1F, "t:x"),
    (0x21, "00 01"),
    (0x22, "00 01"),
    (0x23, "00 01"),
    (0x24, "01"),
    (0x25, "01"),
    (0x26, "t:x t:y"),
    (0x27, "00 00 00 01"),
    (0x28, "01"),
    (0x29, "01"),
    (0x2A, "01"),
];

/// A packet with room for properties (`$`), who reads it, which it may carry, which of them more than once.
const PLACES: &[(&str, &str, &[u8], &[u8])] = &[
    (
        "10 * t:MQTT 05 02 00 3C ( $ ) t:id",
        "s",
        &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
        &[0x26],
    ),
    (
        "10 * t:MQTT 05 06 00 3C ( ) t:id ( $ ) t:w t:bye",
        "s",
        &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
        &[0x26],
    ),
    (
        "20 * 00 00 ( $ )",
        "c",
        &[
            0x11, 0x12, 0x13, 0x15, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A,
        ],
        &[0x26],
    ),
    ("30 * t:a ( $ )", "s", &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26], &[0x26]),
    (
        "30 * t:a ( $ )",
        "c",
        &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26],
        &[0x0B, 0x26],
    ),
    ("40 * 00 01 00 ( $ )", "sc", &[0x1F, 0x26], &[0x26]),
    ("50 * 00 01 00 ( $ )", "sc", &[0x1F, 0x26], &[0x26]),
    ("62 * 00 01 00 ( $ )", "sc", &[0x1F, 0x26], &[0x26]),
    ("70 * 00 01 00 ( $ )", "sc", &[0x1F, 0x26], &[0x26]),
    ("82 * 00 01 ( $ ) t:a 00", "s", &[0x0B, 0x26], &[0x26]),
    ("90 * 00 01 ( $ ) 00", "c", &[0x1F, 0x26], &[0x26]),
    ("A2 * 00 01 ( $ ) t:a", "s", &[0x26], &[0x26]),
    ("B0 * 00 01 ( $ ) 00", "c", &[0x1F, 0x26], &[0x26]),
    ("E0 * 00 ( $ )", "s", &[0x11, 0x1C, 0x1F, 0x26], &[0x26]),
    ("E0 * 00 ( $ )", "c", &[0x1C, 0x1F, 0x26], &[0x26]),
    ("F0 * 18 ( 15 t:m $ )", "sc", &[0x16, 0x1F, 0x26], &[0x26]),
];

/// Every identifier in every packet, once and twice. Authentication data comes with its method, so it is tried behind one only.
#[test]
fn properties() {
    for (line, readers, legal, repeatable) in PLACES {
        for role in roles(readers) {
            for id in 0..=0x7F_u8 {
                let value = VALUES.iter().find(|(known, _)| *known == id).map_or("01", |(_, value)| value);
                let once = format!("{id:02X} {value}");
                let read = |properties: &str| accepts(Version::V5, role, &bytes(&line.replace('$', properties)));
                assert_eq!(read(&once).is_ok(), legal.contains(&id), "{role:?} {line} with {once}");
                if legal.contains(&id) {
                    let twice = read(&format!("{once} {once}"));
                    let expected = if repeatable.contains(&id) {
                        Ok(true)
                    } else {
                        Err(ReasonCode::ProtocolError)
                    };
                    assert_eq!(twice, expected, "{role:?} {line} with {once} twice");
                }
            }
        }
    }
}
