//! Our codec beside three others that share no line with it: what we write they read, what they write we read, and it is the same
//! packet. Where one of them is wrong it stands in a list, with the reason and a packet that shows it.

#![allow(clippy::unwrap_used)] // Test code, though not in a test function.

#[path = "mqtt_differential/as_symqtt.rs"]
mod as_symqtt;
mod mqtt_packets;
#[path = "mqtt_differential/oracles.rs"]
mod oracles;

use bytes::BytesMut;
use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::encode::encode;
use mqtt_kafka_proxy::mqtt::{Packet, SubscriptionIds, Version};
use mqtt_packets::{Parts, parts, receivers};
use oracles::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn written(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = vec![];
    encode(packet, version, &mut out).unwrap();
    out
}

fn any_packet(version: Version) -> impl Strategy<Value = Parts> {
    parts().prop_map(move |parts| Parts {
        version,
        kind: if version == Version::V5 { parts.kind } else { 1 + parts.kind % 14 },
        ..parts
    })
}

/// Ours, through another codec and back.
fn comes_back(parts: &Parts, echo: Codec) -> Result<(), TestCaseError> {
    let packet = parts.packet();
    let bytes = written(&packet, parts.version);
    let echoed = echo(&bytes).map_err(|error| TestCaseError::fail(format!("{packet:?}: {error}")))?;
    let decoder = Decoder {
        version: Some(parts.version),
        role: receivers(&packet, parts.version)[0],
        max_packet_size: u32::MAX,
    };
    prop_assert_eq!(decoder.decode(&echoed), Ok(Some((packet, echoed.len()))));
    Ok(())
}

fn agree(version: Version, cases: u32, echo: Codec, sidestep: fn(&mut Parts)) {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let result = runner.run(&any_packet(version), |mut parts| {
        sidestep(&mut parts);
        comes_back(&parts, echo)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn symqtt_codec_reads_each_field_as_it_was_meant() {
    let mut runner = TestRunner::new(ProptestConfig::with_cases(500));
    let result = runner.run(&any_packet(Version::V5), |parts| {
        let ours = parts.packet();
        let theirs = as_symqtt::packet(&ours);
        let bytes = written(&ours, Version::V5);
        prop_assert_eq!(
            symqtt_codec::v5::Packet::decode(&mut BytesMut::from(&bytes[..])),
            Ok(Some(theirs.clone()))
        );
        let mut out = BytesMut::new();
        theirs.encode(&mut out).unwrap();
        let decoder = Decoder {
            version: Some(Version::V5),
            role: receivers(&ours, Version::V5)[0],
            max_packet_size: u32::MAX,
        };
        prop_assert_eq!(decoder.decode(&out), Ok(Some((ours, out.len()))));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn symqtt_codec_agrees_on_version_5() {
    agree(Version::V5, 300, symqtt_v5, |_| {});
}

#[test]
fn symqtt_codec_agrees_on_3_1_1() {
    agree(Version::V311, 300, symqtt_v311, |_| {});
}

#[test]
fn rmqtt_codec_agrees_on_version_5() {
    agree(Version::V5, 300, rmqtt_v5, |parts| {
        named_if_stored(parts);
        without_defaults(parts);
    });
}

#[test]
fn rmqtt_codec_agrees_on_3_1_1() {
    agree(Version::V311, 300, rmqtt_v311, named_if_stored);
}

#[test]
fn mqttbytes_agrees_on_version_5() {
    agree(Version::V5, 300, mqttbytes_v5, |parts| {
        text_login(parts);
        at_most_two_ids(parts);
        // No AUTH.
        parts.kind = parts.kind.min(14);
    });
}

#[test]
fn mqttbytes_agrees_on_3_1_1() {
    agree(Version::V311, 300, mqttbytes_v311, text_login);
}

/// mqttbytes counts the tag of a subscription identifier twice, and so ends a list of properties too early behind two of them.
fn at_most_two_ids(parts: &mut Parts) {
    if SubscriptionIds::from_block(&parts.block).iter().count() > 2 {
        parts.block.clear();
    }
}

/// rmqtt-codec refuses an empty client identifier without clean start, which is the session's to answer.
fn named_if_stored(parts: &mut Parts) {
    parts.bits[0] |= parts.kind == 1 && parts.client_id.is_empty();
}

/// rmqtt-codec leaves out properties that say what is so without them.
fn without_defaults(parts: &mut Parts) {
    let absent: [Option<bool>; 4] = match parts.kind {
        1 => [Some(false), Some(true), Some(false), None],
        2 => [Some(true); 4],
        _ => [None, None, Some(false), None],
    };
    for (flag, default) in parts.flags.iter_mut().zip(absent) {
        *flag = flag.filter(|flag| Some(*flag) != default);
    }
    parts.u32s[0] = parts.u32s[0].filter(|seconds| *seconds != 0);
}

/// mqttbytes takes the password for text, and leaves out a user name or password that is empty.
fn text_login(parts: &mut Parts) {
    parts.texts[1] = parts.texts[1].take().filter(|name| parts.kind != 1 || !name.is_empty());
    parts.binaries[1] = parts.binaries[1].as_ref().map(|_| b"secret".to_vec());
}

/// One that is wrong: its name, how it is asked, a legal packet, and what it does with it.
type Wrong = (&'static str, Codec, &'static [u8], &'static str);

const WRONG: &[Wrong] = &[
    (
        "mqttbytes 5",
        mqttbytes_v5,
        b"\xE0\x00",
        "a DISCONNECT of length 0, what most clients send, is an error",
    ),
    ("mqttbytes 5", mqttbytes_v5, b"\xF0\x05\x18\x03\x15\x00\x00", "there is no AUTH"),
    (
        "mqttbytes 5",
        mqttbytes_v5,
        b"\x20\x03\x00\x00\x00",
        "CONNACK without properties is written malformed",
    ),
    (
        "mqttbytes 5",
        mqttbytes_v5,
        b"\x10\x11\x00\x04MQTT\x05\xC2\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        "empty user names and passwords vanish",
    ),
    (
        "mqttbytes 5",
        mqttbytes_v5,
        b"\x10\x13\x00\x04MQTT\x05\xC2\x00\x00\x00\x00\x00\x00\x01u\x00\x01\xFF",
        "a binary password is refused",
    ),
    (
        "mqttbytes 5",
        mqttbytes_v5,
        b"\x30\x0A\x00\x01a\x06\x0B\x01\x0B\x01\x0B\x01",
        "the third subscription identifier becomes a payload",
    ),
    (
        "mqttbytes 3.1.1",
        mqttbytes_v311,
        b"\x10\x12\x00\x04MQTT\x04\xC2\x00\x00\x00\x00\x00\x01u\x00\x01\xFF",
        "a binary password is refused",
    ),
    (
        "rmqtt 5",
        rmqtt_v5,
        b"\x10\x0D\x00\x04MQTT\x05\x00\x00\x00\x00\x00\x00",
        "a stored session without a name is refused",
    ),
    (
        "rmqtt 5",
        rmqtt_v5,
        b"\x30\x06\x00\x01a\x02\x01\x00",
        "a payload format of 0 is left out",
    ),
    (
        "rmqtt 3.1.1",
        rmqtt_v311,
        b"\x10\x0C\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
        "a stored session without a name is refused",
    ),
];

/// Each exception is one still: the packet is legal, and what comes back of it is not the same.
#[test]
fn what_is_sidestepped_is_wrong() {
    for (name, echo, bytes, what) in WRONG {
        let version = if name.ends_with('5') { Version::V5 } else { Version::V311 };
        let role = if matches!(bytes[0], 0x20 | 0x30) {
            Role::Client
        } else {
            Role::Server
        };
        let decoder = Decoder {
            version: Some(version),
            role,
            max_packet_size: u32::MAX,
        };
        let Ok(Some((packet, _))) = decoder.decode(bytes) else {
            panic!("{name}: {bytes:02X?} is legal")
        };
        let back = echo(bytes).ok();
        let same = back
            .as_ref()
            .is_some_and(|back| matches!(decoder.decode(back), Ok(Some((read, _))) if read == packet));
        assert!(!same, "{name} does this right by now: {what}");
    }
}

/// What all three let through and we refuse, by what we say of it.
const OURS_ALONE: [&str; 16] = [
    "# must be the whole last level",
    "$share needs a name of at least one character",
    "$share needs a name without wildcards and a filter",
    "+ must be a whole level",
    "DISCONNECT from a server of 3.x",
    "DUP with QoS 0",
    "a flag property that is neither 0 nor 1",
    "a packet that this side never sends",
    "a reason code that this packet cannot have",
    "a variable byte integer that is too long",
    "a wildcard in a topic name",
    "an empty topic name",
    "authentication data without a method",
    "no local on a shared subscription",
    "no topic name and no alias",
    "session present with a refusal",
];

/// Damaged packets: what the strictest of the three refuses we refuse, and what we alone refuse has a rule of its own.
#[test]
fn damaged_packets_are_judged_no_milder_than_by_symqtt_codec() {
    let all: [(Version, [Codec; 3]); 2] = [
        (Version::V5, [symqtt_v5, rmqtt_v5, mqttbytes_v5]),
        (Version::V311, [symqtt_v311, rmqtt_v311, mqttbytes_v311]),
    ];
    let mut dice = 0x2545_F491_4F6C_DD1D_u64;
    let mut throw = |sides: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 11) as usize % sides
    };
    for (version, oracles) in all {
        let (mut runner, strategy) = (TestRunner::deterministic(), any_packet(version));
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..1_000 {
            let parts = strategy.new_tree(&mut runner).unwrap().current();
            let packet = parts.packet();
            let whole = written(&packet, version);
            if whole.len() > 150 {
                continue;
            }
            let decoder = Decoder {
                version: Some(version),
                role: receivers(&packet, version)[0],
                max_packet_size: u32::MAX,
            };
            for _ in 0..12 {
                let mut bytes = whole.clone();
                for _ in 0..=throw(2) {
                    let at = throw(bytes.len());
                    bytes[at] = [bytes[at] ^ (1 << throw(8)), 0, bytes[at].wrapping_add(1), throw(256) as u8][throw(4)];
                }
                match decoder.decode(&bytes) {
                    Ok(Some(ours)) => {
                        accepted += 1;
                        let theirs = oracles[0](&bytes);
                        assert!(theirs.is_ok(), "{theirs:?}, but we: {ours:?} of {bytes:02X?}");
                    }
                    Ok(None) => {}
                    Err(error) => {
                        refused += 1;
                        let alone = oracles.iter().all(|echo| echo(&bytes).is_ok());
                        assert!(!alone || OURS_ALONE.contains(&error.detail), "{error:?} of {bytes:02X?}");
                    }
                }
            }
        }
        assert!(
            accepted > 500 && refused > 1_000,
            "{version:?}: {accepted} accepted, {refused} refused"
        );
    }
}
