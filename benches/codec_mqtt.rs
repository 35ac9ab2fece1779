//! Nanoseconds to decode and encode a QoS 1 PUBLISH of version 5 with 100 bytes of payload, with `mqttbytes` beside it. Best of several
//! loops, each over a buffer full of packets as a socket would have given it. A goal that is missed is an error once all has been measured.

use std::hint::black_box;
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::encode::encode;
use mqtt_kafka_proxy::mqtt::publish::{PublishHead, SharedProperties, encode_head};
use mqtt_kafka_proxy::mqtt::{Packet, PacketId, Publish, PublishProperties, QoS, Version};

const LOOPS: usize = 100_000;
/// About what one read or write of a socket carries; more would measure the cache.
const PACKETS: usize = 100;
const TOPIC: &str = "fleet/WVW12345678901234/telemetry/rpm";
const PAYLOAD: [u8; 100] = [b'7'; 100];

/// The best loop, by packet. `prepare` is not timed.
fn best<T>(mut prepare: impl FnMut() -> T, mut work: impl FnMut(&mut T)) -> f64 {
    let mut once = || {
        let mut input = prepare();
        let start = Instant::now();
        work(&mut input);
        start.elapsed().as_secs_f64() * 1e9 / PACKETS as f64
    };
    (0..LOOPS).map(|_| once()).fold(f64::INFINITY, f64::min)
}

fn publish(properties: PublishProperties<'_>) -> Publish<'_> {
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: NonZeroU16::new(7).map(PacketId),
        properties,
        payload: &PAYLOAD,
    }
}

/// Decode and encode of ours.
fn ours(publish: Publish<'_>) -> (f64, f64, Vec<u8>) {
    let packet = Packet::Publish(publish);
    let mut bytes = Vec::new();
    (0..PACKETS).for_each(|_| encode(&packet, Version::V5, &mut bytes).expect("it is short enough"));
    let decoder = Decoder {
        version: Some(Version::V5),
        role: Role::Server,
        max_packet_size: 1 << 20,
    };
    let decode = best(
        || (),
        |()| {
            let mut rest = &bytes[..];
            while let Ok(Some((packet, used))) = decoder.decode(rest) {
                black_box(&packet);
                rest = &rest[used..];
            }
            assert!(rest.is_empty(), "all of them are read");
        },
    );
    let mut out = Vec::with_capacity(bytes.len());
    let encode = best(
        || (),
        |()| {
            out.clear();
            for _ in 0..PACKETS {
                encode(black_box(&packet), Version::V5, &mut out).expect("it is short enough");
            }
            black_box(&out);
        },
    );
    (decode, encode, bytes)
}

/// The way of a message from Kafka: head, shared properties, and the payload behind them.
fn in_two_parts(properties: &PublishProperties<'_>) -> f64 {
    let mut shared = SharedProperties::new();
    assert!(shared.extend(properties), "all of it can be encoded");
    let head = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: TOPIC,
        packet_id: NonZeroU16::new(7).map(PacketId),
        topic_alias: None,
        message_expiry_interval: None,
        subscription_ids: &[],
    };
    let mut out = Vec::with_capacity(PACKETS * 400);
    best(
        || (),
        |()| {
            out.clear();
            for _ in 0..PACKETS {
                encode_head(black_box(&head), Version::V5, shared.as_bytes(), PAYLOAD.len(), &mut out).expect("it is short enough");
                out.extend_from_slice(black_box(&PAYLOAD));
            }
            black_box(&out);
        },
    )
}

/// Decode and encode of `mqttbytes`, of the same bytes.
fn theirs(bytes: &[u8]) -> (f64, f64) {
    let decode = best(
        || BytesMut::from(bytes),
        |stream| {
            for _ in 0..PACKETS {
                black_box(mqttbytes::v5::read(stream, 1 << 20).expect("it is a packet"));
            }
        },
    );
    let Ok(mqttbytes::v5::Packet::Publish(mut packet)) = mqttbytes::v5::read(&mut BytesMut::from(bytes), 1 << 20) else {
        panic!("it is a PUBLISH")
    };
    packet.payload = Bytes::from_static(&PAYLOAD);
    let mut out = BytesMut::with_capacity(bytes.len());
    let encode = best(
        || (),
        |()| {
            out.clear();
            for _ in 0..PACKETS {
                black_box(&packet).write(&mut out).expect("it is short enough");
            }
            black_box(&out);
        },
    );
    (decode, encode)
}

fn main() -> ExitCode {
    let mut missed = 0;
    println!(
        "QoS 1 PUBLISH of version 5, {} bytes of topic, {} of payload; ns, best of {LOOPS}",
        TOPIC.len(),
        PAYLOAD.len()
    );
    println!("{:<24}{:>10}{:>10}{:>8}{:>12}", "", "ours", "mqttbytes", "goal", "");
    let mut row = |what: &str, ours: f64, theirs: Option<f64>, goal: Option<f64>| {
        let theirs = theirs.map_or(String::new(), |ns| format!("{ns:.1}"));
        let wanted = goal.map_or(String::new(), |ns| format!("{ns:.0}"));
        // What is no number has not been reached.
        let verdict = goal.map_or("", |goal| if ours <= goal { "reached" } else { "missed" });
        missed += u32::from(verdict == "missed");
        println!("{what:<24}{ours:>10.1}{theirs:>10}{wanted:>8}{verdict:>12}");
    };
    let bare = PublishProperties::default();
    let (decode, encode, bytes) = ours(publish(bare));
    let (their_decode, their_encode) = theirs(&bytes);
    row("decode", decode, Some(their_decode), Some(50.0));
    row("encode", encode, Some(their_encode), Some(15.0));
    row("encode in two parts", in_two_parts(&bare), None, None);
    let rich = PublishProperties {
        message_expiry_interval: Some(60),
        content_type: Some("application/json"),
        correlation_data: Some(b"12345678"),
        ..bare
    };
    let (decode, encode, bytes) = ours(publish(rich));
    let (their_decode, their_encode) = theirs(&bytes);
    row("decode, 3 properties", decode, Some(their_decode), None);
    row("encode, 3 properties", encode, Some(their_encode), None);
    row("… in two parts", in_two_parts(&rich), None, None);
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
