//! Every packet of every version: written and read it is the same; a part of it asks for more; what follows it is left alone.

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

mod mqtt_packets;

use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::encode::{EncodeError, encode};
use mqtt_kafka_proxy::mqtt::publish::{PublishHead, SharedProperties, encode_head, head_len};
use mqtt_kafka_proxy::mqtt::*;
use mqtt_packets::*;
use proptest::prelude::*;

fn decoder(version: Version, role: Role) -> Decoder {
    Decoder {
        version: Some(version),
        role,
        max_packet_size: u32::MAX,
    }
}

fn written(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = b"before".to_vec();
    encode(packet, version, &mut out).unwrap();
    assert!(out.starts_with(b"before"), "what was in the buffer stays");
    out.split_off(6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_written_is_read(parts in parts()) {
        let packet = parts.packet();
        let bytes = written(&packet, parts.version);
        for role in receivers(&packet, parts.version) {
            let read = decoder(parts.version, role).decode(&bytes);
            prop_assert_eq!(read, Ok(Some((packet.clone(), bytes.len()))));
        }
    }

    /// Nobody knows the version before the CONNECT.
    #[test]
    fn a_connect_is_read_without_a_version(mut parts in parts()) {
        parts.kind = 1;
        let packet = parts.packet();
        let bytes = written(&packet, parts.version);
        let first = Decoder { version: None, role: Role::Server, max_packet_size: u32::MAX };
        prop_assert_eq!(first.decode(&bytes), Ok(Some((packet.clone(), bytes.len()))));
    }

    #[test]
    fn a_part_asks_for_more(parts in parts()) {
        let packet = parts.packet();
        let bytes = written(&packet, parts.version);
        for role in receivers(&packet, parts.version) {
            let decoder = decoder(parts.version, role);
            for end in 0..bytes.len() {
                prop_assert_eq!(decoder.decode(&bytes[..end]), Ok(None), "{} of {} bytes", end, bytes.len());
            }
        }
    }

    #[test]
    fn what_follows_is_left_alone(parts in parts(), after in proptest::collection::vec(any::<u8>(), 0..50)) {
        let packet = parts.packet();
        let mut bytes = written(&packet, parts.version);
        let whole = bytes.len();
        bytes.extend(&after);
        for role in receivers(&packet, parts.version) {
            prop_assert_eq!(decoder(parts.version, role).decode(&bytes), Ok(Some((packet.clone(), whole))));
        }
    }

    /// Exactly the maximum packet size is taken; one byte less and the fixed header is enough to refuse.
    #[test]
    fn the_maximum_packet_size_counts_the_whole_packet(parts in parts()) {
        let packet = parts.packet();
        let bytes = written(&packet, parts.version);
        let role = receivers(&packet, parts.version)[0];
        let exact = Decoder { max_packet_size: bytes.len() as u32, ..decoder(parts.version, role) };
        prop_assert!(exact.decode(&bytes).is_ok());
        let less = Decoder { max_packet_size: bytes.len() as u32 - 1, ..exact };
        let header = &bytes[..bytes[1..].iter().position(|b| *b < 0x80).unwrap() + 2];
        prop_assert_eq!(less.decode(header).unwrap_err().reason, ReasonCode::PacketTooLarge);
    }

    /// The way of messages from Kafka: a head of the receiver's own, and a part that all receivers share.
    #[test]
    fn a_publish_in_two_parts_is_the_same_publish(mut parts in parts()) {
        parts.kind = 3;
        let Packet::Publish(publish) = parts.packet() else { unreachable!("packet type 3") };
        let mut shared = SharedProperties::new();
        shared.user("left over", "from the message before");
        shared.clear();
        prop_assert!(shared.extend(&publish.properties), "all of it can be encoded");
        let ids: Vec<u32> = publish.properties.subscription_ids.iter().collect();
        let head = PublishHead {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic: publish.topic,
            packet_id: publish.packet_id,
            topic_alias: publish.properties.topic_alias,
            message_expiry_interval: publish.properties.message_expiry_interval,
            subscription_ids: &ids,
        };
        let mut bytes = vec![];
        let payload = publish.payload;
        let head_bytes = encode_head(&head, parts.version, shared.as_bytes(), payload.len(), &mut bytes).unwrap();
        prop_assert_eq!(head_bytes, bytes.len());
        bytes.extend(payload);
        prop_assert_eq!(head_len(&head, parts.version, shared.as_bytes(), payload.len()), bytes.len());
        let read = decoder(parts.version, Role::Client).decode(&bytes);
        prop_assert_eq!(read, Ok(Some((Packet::Publish(publish), bytes.len()))));
    }
}

/// Each reason code in each packet: legal ones come back, all others are refused.
#[test]
fn every_reason_code_of_every_packet() {
    for code in 0..=u8::MAX {
        for kind in [2, 4, 5, 6, 7, 9, 11, 14, 15] {
            let flags = if kind == 6 { 2 } else { 0 };
            let body: &[u8] = match kind {
                2 => &[0, code, 0],
                4..=7 => &[0, 1, code, 0],
                9 | 11 => &[0, 1, 0, code],
                14 => &[code, 0],
                _ => &[code, 4, 0x15, 0, 1, b'm'],
            };
            let bytes = [&[kind << 4 | flags, body.len() as u8], body].concat();
            // The others are sent by servers only.
            let both_send = matches!(kind, 4..=7 | 14 | 15);
            for role in [Role::Client, Role::Server]
                .into_iter()
                .filter(|role| *role == Role::Client || both_send)
            {
                let read = decoder(Version::V5, role).decode(&bytes);
                let legal = legal_reasons(kind).contains(&code) && receivers_of(kind, code).contains(&role);
                assert_eq!(read.is_ok(), legal, "packet type {kind}, code {code:#04x}, {role:?}: {read:?}");
                let Ok(read) = read else { continue };
                let (packet, _) = read.unwrap();
                let again = written(&packet, Version::V5);
                assert_eq!(decoder(Version::V5, role).decode(&again), Ok(Some((packet, again.len()))));
                assert!(again.contains(&code), "packet type {kind}, code {code:#04x} is written as itself");
            }
        }
    }
}

#[test]
fn return_codes_of_3_x() {
    for version in [Version::V31, Version::V311] {
        for code in 0..=u8::MAX {
            let bytes = [0x20, 2, 0, code];
            match decoder(version, Role::Client).decode(&bytes) {
                Ok(read) => {
                    assert!(code <= 5, "{code}");
                    assert_eq!(written(&read.unwrap().0, version), bytes);
                }
                Err(error) => assert!(code > 5, "{code}: {error:?}"),
            }
        }
    }
}

/// The refusals of version 5 that 3.x cannot name become the ones it has.
#[test]
fn what_3_x_cannot_say_is_said_as_it_can() {
    let suback = Packet::SubAck(SubAck {
        packet_id: PacketId(7.try_into().unwrap()),
        reasons: vec![ReasonCode::GrantedQoS2, ReasonCode::QuotaExceeded, ReasonCode::Success],
        reason_string: Some("never sent"),
        user: UserProperties::default(),
    });
    assert_eq!(written(&suback, Version::V311), [0x90, 5, 0, 7, 2, 0x80, 0]);
    for (reason, code) in [
        (ReasonCode::Banned, 5),
        (ReasonCode::BadAuthenticationMethod, 4),
        (ReasonCode::ServerBusy, 3),
        (ReasonCode::QuotaExceeded, 3),
        (ReasonCode::UnsupportedProtocolVersion, 1),
    ] {
        let connack = Packet::ConnAck(ConnAck {
            session_present: false,
            reason,
            properties: ConnAckProperties::default(),
        });
        assert_eq!(written(&connack, Version::V311), [0x20, 2, 0, code], "{reason:?}");
    }
}

/// What MQTT cannot express is refused, and nothing of it stays in the buffer.
#[test]
fn too_long_is_refused_and_leaves_nothing_behind() {
    let long = "x".repeat(65_536);
    let huge = vec![0; 268_435_456];
    let publish = |topic, payload| Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: PublishProperties::default(),
        payload,
    };
    let with_content_type = Publish {
        properties: PublishProperties {
            content_type: Some(&long),
            ..PublishProperties::default()
        },
        ..publish("t", b"")
    };
    let disconnect = Disconnect {
        reason: ReasonCode::ServerBusy,
        session_expiry_interval: None,
        reason_string: Some(&long),
        server_reference: None,
        user: UserProperties::default(),
    };
    for packet in [
        Packet::Publish(publish(&long, b"")),
        Packet::Publish(publish("t", &huge)),
        Packet::Publish(with_content_type),
        Packet::Disconnect(disconnect),
    ] {
        let mut out = b"before".to_vec();
        assert_eq!(encode(&packet, Version::V5, &mut out), Err(EncodeError::TooLong));
        assert_eq!(out, b"before");
    }
}
