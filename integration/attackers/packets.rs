//! What hostile clients send behind all handshakes, as bytes: each says what it hurts, and what holds it.

use super::{connect, greeting, halves, packet};

/// The topic of a message of theirs that a rule takes.
fn own(number: usize, sensor: &str) -> Vec<u8> {
    text(&format!("hostile-own/{number}/telemetry/{sensor}"))
}

/// As MQTT writes one (§1.5.4).
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// Bytes with their length before them, as that of properties.
fn counted(bytes: &[u8]) -> Vec<u8> {
    packet(0, bytes).split_off(1)
}

/// CONNECT of version 5 with these properties.
fn connect_5(number: usize, properties: &[u8]) -> Vec<u8> {
    let id = text(&format!("hostile-{number}"));
    packet(0x10, &[&b"\0\x04MQTT\x05\x02\0\x3c"[..], &counted(properties), &id].concat())
}

/// The same, and a PUBLISH of QoS 0 for an alias.
fn aliased(number: usize, topics: &[&str], alias: u16) -> Vec<u8> {
    let [high, low] = alias.to_be_bytes();
    let publish = |topic: &&str| packet(0x30, &[text(topic), counted(&[0x23, high, low])].concat());
    [connect_5(number, &[])]
        .into_iter()
        .chain(topics.iter().map(publish))
        .flatten()
        .collect()
}

/// Hurts whoever looks an alias up that stands for nothing, each time anew. The first is a protocol error, which ends the connection.
pub fn unknown_alias(number: usize) -> Vec<u8> {
    aliased(number, &[""; 1_000], 7)
}

/// Hurts whoever makes room for each number that comes. CONNACK says how many there may be; the first beyond ends the connection.
pub fn alias_beyond(number: usize) -> Vec<u8> {
    aliased(number, &["a"; 1_000], u16::MAX)
}

/// Hurts the memory, by the longest names for as many aliases as there may be: a MiB for as long as the client likes. Their names have
/// 65,535 bytes together, so the second ends the connection.
pub fn longest_aliases(number: usize) -> Vec<u8> {
    let longest = "a".repeat(u16::MAX.into());
    let publish = |alias: u8| packet(0x30, &[text(&longest), vec![3, 0x23, 0, alias]].concat());
    [connect_5(number, &[])].into_iter().chain((1..=3).map(publish)).flatten().collect()
}

/// SUBSCRIBE to wildcards that overlap, in what rules read, and UNSUBSCRIBE from all of them. Nobody publishes what they match.
pub fn there_and_back() -> [Vec<u8>; 2] {
    const FILTERS: [&str; 6] = [
        "+/nobody/#",
        "+/nobody/telemetry/+",
        "+/+/telemetry/nothing",
        "hostile-own/+/+/nothing",
        "hostile-own/nobody/#",
        "+/+/+/nothing",
    ];
    let subscribe = FILTERS.iter().flat_map(|filter| [text(filter), vec![1]].concat());
    let unsubscribe = FILTERS.iter().flat_map(|filter| text(filter));
    [
        packet(0x82, &[0, 1].into_iter().chain(subscribe).collect::<Vec<_>>()),
        packet(0xa2, &[0, 2].into_iter().chain(unsubscribe).collect::<Vec<_>>()),
    ]
}

/// Hurts the index of what is read, and Kafka, which is asked where its partitions end: subscriptions that come and go. 16 may be without an
/// answer, and for so long the socket is not read.
pub fn overlapping(number: usize) -> Vec<u8> {
    [connect(number), there_and_back().concat().repeat(10)].concat()
}

/// Hurts what a connection is entered in. The second CONNECT is a protocol error [MQTT-3.1.0-2].
pub fn twice(number: usize) -> Vec<u8> {
    connect(number).repeat(2)
}

/// Hurts the registry of client ids, by takeovers one after the other: all of this kind have the same. Each ends the one before;
/// `connect_rate` says how many there are.
pub fn same_id(_: usize) -> Vec<u8> {
    greeting("hostile-everybody")
}

/// Hurts the table of packet ids, by QoS 2 that is never released. One beyond the receive maximum of CONNACK ends the connection (0x93).
pub fn unreleased(number: usize) -> Vec<u8> {
    let publish = |id: u8| packet(0x34, &[&own(number, "open")[..], &[0, id, 0], b"x"].concat());
    [connect_5(number, &[])]
        .into_iter()
        .chain((1..=65).map(publish))
        .flatten()
        .collect()
}

/// Hurts by answers to what never was: each PUBREL has its PUBCOMP (0x92). They are not read beyond 256 KiB that the client has not taken.
pub fn unknown_releases(number: usize) -> Vec<u8> {
    let release = |id: u16| packet(0x62, &id.to_be_bytes());
    [connect_5(number, &[])]
        .into_iter()
        .chain((1..=10_000).map(release))
        .flatten()
        .collect()
}

/// Hurts who copies what lies in a message one by one: ten thousand user properties become headers of one record. They are not taken out of
/// their packet, which `packet_size` bounds; the record counts in `producer.memory`.
pub fn properties(number: usize) -> Vec<u8> {
    let properties = counted(&b"\x26\0\x01a\0\x01b".repeat(10_000));
    let publish = packet(0x32, &[&own(number, "many")[..], &[0, 1], &properties, b"x"].concat());
    [connect_5(number, &[]), publish].concat()
}

/// An authentication method, and what the client says first by it.
fn scram() -> Vec<u8> {
    [vec![0x15], text("SCRAM-SHA-256"), vec![0x16], text("n,,n=vin42,r=hostile")].concat()
}

/// Hurts the exchange of who is let in, by AUTH that nobody has asked for. It is a protocol error [MQTT-4.12.1-1].
pub fn auth_out_of_turn(number: usize) -> Vec<u8> {
    let auth = packet(0xf0, &[vec![0x18], counted(&scram())].concat());
    [connect_5(number, &[]), auth.repeat(1_000)].concat()
}

/// Hurts by exchanges that are begun and wait: the proxy has challenged the client, and hears no more. `connect_timeout` ends it.
pub fn half_scram(number: usize) -> Vec<u8> {
    connect_5(number, &scram())
}

/// A client's frame, masked by zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u8;
    assert!(length < 126 && payload.len() < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

fn pings() -> Vec<u8> {
    frame(0x89, &[]).repeat(50_000)
}

/// Hurts by pongs to somebody whom nobody knows, and who never says CONNECT. What carries nothing may have 64 KiB before it.
pub fn pings_alone(_: usize) -> Vec<u8> {
    pings()
}

/// Hurts the thread that takes them, from a client that is let in. A turn takes no more of them than of data, and of several only the
/// last is answered.
pub fn pings_behind(number: usize) -> Vec<u8> {
    [frame(0x82, &connect(number)), pings()].concat()
}

/// Hurts by seven bytes for each that counts: one message that has no end, in parts of a byte, and in it a packet that begins and does not go
/// on. `packet_timeout` ends it.
pub fn crumbs(number: usize) -> Vec<u8> {
    let parts = halves(number).into_iter().enumerate();
    parts
        .flat_map(|(at, byte)| frame(if at == 0 { 0x02 } else { 0 }, &[byte]))
        .collect()
}

/// Hurts who gathers it: a ClientHello with a TLS record for each byte (RFC 8446 §5.1), and nothing behind it. `connect_timeout` ends it.
pub fn crumbled(hello: &[u8]) -> Vec<u8> {
    let record = |byte: &u8| [0x16, 3, 1, 0, 1, *byte];
    hello[5..].iter().flat_map(record).collect()
}
