//! Packets by hand: each numbered statement of MQTT 5 and 3.1.1 that a decoder can see, broken and refused with its reason code,
//! and the edge of what is legal, accepted.

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

#[allow(dead_code)] // The fuzz target begins at another function.
#[path = "../fuzz/bodies/mqtt_decode.rs"]
mod body;
#[path = "mqtt_vectors/bytes.rs"]
mod bytes;
#[path = "mqtt_vectors/exhaustive.rs"]
mod exhaustive;
#[path = "mqtt_vectors/legal.rs"]
mod legal;
#[path = "mqtt_vectors/malformed_v311.rs"]
mod malformed_v311;
#[path = "mqtt_vectors/malformed_v5.rs"]
mod malformed_v5;
#[path = "mqtt_vectors/statements.rs"]
mod statements;

use std::collections::BTreeSet;

use bytes::bytes;
use mqtt_kafka_proxy::mqtt::codec::{DecodeError, Decoder, Role};
use mqtt_kafka_proxy::mqtt::{Packet, Version};
use statements::*;

/// Statements, readers, bytes, reason code, a word of the detail.
type Row = (&'static str, &'static str, &'static str, u8, &'static str);

/// Text that is not UTF-8: overlong, a surrogate, cut off, beyond U+10FFFF, a continuation alone.
const ILL_FORMED: [&[u8]; 6] = [b"\xC0\x80", b"\xED\xA0\x80", b"a\xE2\x82", b"\xF4\x90\x80\x80", b"a\x80b", b"\xFF"];

fn roles(readers: &str) -> Vec<Role> {
    let role = |reader| if reader == 's' { Role::Server } else { Role::Client };
    readers.chars().map(role).collect()
}

/// A CONNECT, and what wrongly stands in its place, is read before the version is known.
fn decoder(version: Version, role: Role, statements: &str, bytes: &[u8]) -> Decoder {
    let first = bytes[0] >> 4 == 1 || statements.contains("3.1.0-1");
    Decoder {
        version: (!first || role == Role::Client).then_some(version),
        role,
        max_packet_size: u32::MAX,
    }
}

/// Faults of a table, all at once.
fn refused(version: Version, table: &[Row]) -> Vec<String> {
    let mut faults = vec![];
    for (statements, readers, line, reason, said) in table {
        let packet = bytes(line);
        for role in roles(readers) {
            match decoder(version, role, statements, &packet).decode(&packet) {
                Err(error) if error.reason.as_u8() == *reason && error.detail.contains(said) => {}
                other => faults.push(format!("[{statements}] {role:?} {line}: {other:?}")),
            }
        }
    }
    faults
}

#[test]
fn malformed_packets_of_version_5_are_refused() {
    let faults = refused(Version::V5, malformed_v5::MALFORMED);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn malformed_packets_of_3_1_1_are_refused() {
    let faults = refused(Version::V311, malformed_v311::MALFORMED);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn malformed_packets_of_3_1_are_refused() {
    let faults = refused(Version::V31, malformed_v311::MALFORMED_V31);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The bytes of a template with `text` in its place.
fn filled(line: &str, text: &[u8]) -> Vec<u8> {
    let hex: Vec<String> = text.iter().map(|byte| format!("{byte:02X}")).collect();
    let field = format!("{:02X} {:02X} {}", text.len() / 256, text.len() % 256, hex.join(" "));
    bytes(&line.replace('$', &field))
}

#[test]
fn every_text_field_is_utf_8_without_null() {
    for (version, table) in [(Version::V5, malformed_v5::TEXTS), (Version::V311, malformed_v311::TEXTS)] {
        for (statements, readers, line) in table {
            for role in roles(readers) {
                let read = |text: &[u8]| {
                    let packet = filled(line, text);
                    let decoded = decoder(version, role, statements, &packet).decode(&packet);
                    decoded
                        .map(|read| read.unwrap().1)
                        .map_err(|e: DecodeError| (e.reason.as_u8(), e.rule))
                };
                for good in ["fine", "é", "\u{FEFF}", "😀", "\u{1}", "\u{FFFF}"] {
                    assert!(read(good.as_bytes()).is_ok(), "{role:?} {line} with {good:?}");
                }
                for bad in ILL_FORMED {
                    assert_eq!(read(bad), Err((0x81, "MQTT-1.5.4-1")), "{role:?} {line} with {bad:?}");
                }
                for bad in ["\0", "a\0b"] {
                    assert_eq!(read(bad.as_bytes()), Err((0x81, "MQTT-1.5.4-2")), "{role:?} {line} with {bad:?}");
                }
            }
        }
    }
}

#[test]
fn the_edge_of_what_is_legal_is_accepted() {
    for (version, table) in [
        (Version::V5, legal::LEGAL_V5),
        (Version::V311, legal::LEGAL_V311),
        (Version::V31, legal::LEGAL_V31),
    ] {
        for (statements, readers, line) in table {
            let packet = bytes(line);
            for role in roles(readers) {
                let decoder = decoder(version, role, statements, &packet);
                let read = decoder.decode(&packet);
                assert!(
                    matches!(read, Ok(Some((_, used))) if used == packet.len()),
                    "{role:?} {line}: {read:?}"
                );
                assert!(body::check_as(decoder.version, role, &packet), "{line}");
            }
        }
    }
}

/// [MQTT-1.5.4-3] and [MQTT-3.3.2-18]: nothing is stripped, sorted or merged.
#[test]
fn text_and_user_properties_are_kept_as_they_are() {
    let packet = bytes("30 * 00 04 EF BB BF 61 ( 26 t:b t:1 01 01 26 t:a t:2 26 t:b t:1 26 00 03 EF BB BF t: ) r:payload");
    let decoder = decoder(Version::V5, Role::Server, "", &packet);
    let Ok(Some((Packet::Publish(publish), _))) = decoder.decode(&packet) else {
        panic!("a PUBLISH")
    };
    assert_eq!(publish.topic, "\u{FEFF}a");
    let user: Vec<_> = publish.properties.user.iter().collect();
    assert_eq!(user, [("b", "1"), ("a", "2"), ("b", "1"), ("\u{FEFF}", "")]);
    assert_eq!(publish.payload, b"payload");
}

/// [MQTT-2.2.1-2], [MQTT-2.3.1-5]: what follows the topic of a QoS 0 PUBLISH is no packet identifier.
#[test]
fn qos_0_has_no_packet_identifier() {
    for (version, line) in [(Version::V5, "30 * t:a ( ) 00 01"), (Version::V311, "30 * t:a 00 01")] {
        let packet = bytes(line);
        let Ok(Some((Packet::Publish(publish), _))) = decoder(version, Role::Server, "", &packet).decode(&packet) else {
            panic!("{line}")
        };
        assert_eq!((publish.packet_id, publish.payload), (None, &[0, 1][..]));
    }
}

/// [MQTT-3.1.3-1]: each field of a CONNECT that has all of them is where it belongs.
#[test]
fn the_fields_of_a_connect_in_their_order() {
    let v5 = "10 * t:MQTT 05 EE 01 02 ( 11 00 00 00 07 21 00 08 27 00 00 00 09 22 00 0A 19 01 17 00 15 t:m 16 t:d ) t:id \
              ( 18 00 00 00 0B 03 t:c ) t:w t:bye t:user t:pass";
    let v311 = "10 * t:MQTT 04 EE 01 02 t:id t:w t:bye t:user t:pass";
    for line in [v5, v311] {
        let packet = bytes(line);
        let Ok(Some((Packet::Connect(connect), _))) = decoder(Version::V5, Role::Server, "", &packet).decode(&packet) else {
            panic!("{line}")
        };
        let will = connect.will.unwrap();
        assert_eq!((connect.client_id, will.topic, will.payload), ("id", "w", &b"bye"[..]));
        assert_eq!((connect.username, connect.password), (Some("user"), Some(&b"pass"[..])));
        assert_eq!(
            (connect.clean_start, connect.keep_alive, will.qos as u8, will.retain),
            (true, 0x0102, 1, true)
        );
        if connect.version == Version::V5 {
            let properties = connect.properties;
            let numbers = (
                properties.session_expiry_interval,
                properties.receive_maximum,
                properties.maximum_packet_size,
            );
            assert_eq!(numbers, (Some(7), Some(8), Some(9)));
            assert_eq!(properties.topic_alias_maximum, Some(10));
            let wants = (properties.request_response_information, properties.request_problem_information);
            assert_eq!(wants, (Some(true), Some(false)));
            let authentication = (properties.authentication_method, properties.authentication_data);
            assert_eq!(authentication, (Some("m"), Some(&b"d"[..])));
            assert_eq!((will.delay_interval, will.properties.content_type), (11, Some("c")));
        }
    }
}

/// [MQTT-3.1.2-24], [MQTT-3.2.2-15]: a packet over the maximum packet size is refused by its fixed header alone.
#[test]
fn too_large_is_told_before_the_body_is_there() {
    for role in [Role::Server, Role::Client] {
        let limited = Decoder {
            version: Some(Version::V5),
            role,
            max_packet_size: 10,
        };
        let error = limited.decode(&[0x30, 9]).unwrap_err();
        assert_eq!((error.reason.as_u8(), error.rule), (0x95, "MQTT-3.1.2-24"));
        assert_eq!(limited.decode(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).unwrap_err().reason.as_u8(), 0x95);
        assert_eq!(limited.decode(&[0x30, 8]), Ok(None));
        assert!(limited.decode(&bytes("30 08 t:a ( ) r:1234")).is_ok());
        let all = Decoder {
            max_packet_size: u32::MAX,
            ..limited
        };
        assert_eq!(
            all.decode(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]),
            Ok(None),
            "268,435,455 bytes are waited for"
        );
    }
}

/// The lengths at which the remaining length grows by a byte, and the longest topic [MQTT-4.7.3-3].
#[test]
fn lengths_at_their_boundaries() {
    for remaining in [4, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        let mut packet = vec![0x30];
        packet.extend(bytes::varint(remaining));
        packet.extend([0, 1, b'a', 0]);
        packet.resize(packet.len() + remaining - 4, 7);
        let decoder = decoder(Version::V5, Role::Server, "", &packet);
        let Ok(Some((Packet::Publish(publish), used))) = decoder.decode(&packet) else {
            panic!("{remaining}")
        };
        assert_eq!((used, publish.payload.len()), (packet.len(), remaining - 4));
        assert_eq!(decoder.decode(&packet[..packet.len() - 1]), Ok(None));
        let mut again = vec![];
        mqtt_kafka_proxy::mqtt::encode::encode(&Packet::Publish(publish), Version::V5, &mut again).unwrap();
        assert_eq!(again, packet);
    }
    let longest = "t".repeat(65_535);
    for line in ["30 * $ ( )", "82 * 00 01 ( ) $ 00", "A2 * 00 01 ( ) $"] {
        let packet = filled(line, longest.as_bytes());
        let decoder = decoder(Version::V5, Role::Server, "", &packet);
        assert!(matches!(decoder.decode(&packet), Ok(Some(_))), "{line}");
    }
}

/// Statements that a table names, beside those that whole tests are about.
fn named<'t>(rows: impl Iterator<Item = &'t str>, tests: &[&'t str]) -> BTreeSet<String> {
    let all = rows.flat_map(str::split_whitespace).chain(tests.iter().copied());
    all.filter(|id| id.contains('-')).map(str::to_owned).collect()
}

fn check_lists(seen: &[&str], unseen: &[(&str, &[&str])], count: usize, named: &BTreeSet<String>) {
    let seen = expand(seen);
    let unseen: Vec<String> = unseen.iter().flat_map(|(_, lists)| expand(lists)).collect();
    let all: BTreeSet<&String> = seen.iter().chain(&unseen).collect();
    assert_eq!(all.len(), seen.len() + unseen.len(), "a statement stands in one list, once");
    assert_eq!(all.len(), count, "every statement stands in a list");
    let seen: BTreeSet<String> = seen.into_iter().collect();
    let without: Vec<_> = seen.difference(named).collect();
    assert!(without.is_empty(), "statements without a vector: {without:?}");
    let unknown: Vec<_> = named.difference(&seen).collect();
    assert!(unknown.is_empty(), "vectors for statements that are not in the list: {unknown:?}");
}

#[test]
fn every_statement_of_version_5_has_its_vector() {
    let rows = malformed_v5::MALFORMED.iter().map(|row| row.0);
    let rows = rows
        .chain(malformed_v5::TEXTS.iter().map(|row| row.0))
        .chain(legal::LEGAL_V5.iter().map(|row| row.0));
    let tests = ["1.5.4-1", "1.5.4-2", "3.1.2-24", "3.2.2-15", "4.7.3-2", "4.7.3-3"];
    check_lists(SEEN_V5, UNSEEN_V5, COUNT_V5, &named(rows, &tests));
}

#[test]
fn every_statement_of_3_1_1_has_its_vector() {
    let rows = malformed_v311::MALFORMED.iter().map(|row| row.0);
    let rows = rows
        .chain(malformed_v311::TEXTS.iter().map(|row| row.0))
        .chain(legal::LEGAL_V311.iter().map(|row| row.0));
    let tests = ["1.5.3-1", "1.5.3-2", "4.7.3-2", "4.7.3-3"];
    check_lists(SEEN_V311, UNSEEN_V311, COUNT_V311, &named(rows, &tests));
}

/// What an error names is a statement of version 5 that a decoder can see.
#[test]
fn errors_name_statements_that_exist() {
    let seen = expand(SEEN_V5);
    // Of 3.1.1 alone.
    let older = ["MQTT-3.1.2-22"];
    for (version, table) in [(Version::V5, malformed_v5::MALFORMED), (Version::V311, malformed_v311::MALFORMED)] {
        for (statements, readers, line, ..) in table {
            let packet = bytes(line);
            let error = decoder(version, roles(readers)[0], statements, &packet)
                .decode(&packet)
                .unwrap_err();
            let known = seen.iter().any(|id| error.rule == format!("MQTT-{id}"));
            assert!(
                error.rule.is_empty() || known || older.contains(&error.rule),
                "{line}: {}",
                error.rule
            );
        }
    }
}
