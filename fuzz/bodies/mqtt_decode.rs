//! Any bytes, read as every version and by both sides: nothing panics, what is accepted obeys the rules, and it comes back as it was
//! when it is written and read again.

use mqtt_kafka_proxy::mqtt::codec::{Decoder, Role};
use mqtt_kafka_proxy::mqtt::encode::encode;
use mqtt_kafka_proxy::mqtt::{Packet, PublishProperties, UserProperties, Version};

/// Reads `bytes` as each version and role would.
pub fn check(bytes: &[u8]) {
    for version in [None, Some(Version::V31), Some(Version::V311), Some(Version::V5)] {
        for role in [Role::Server, Role::Client] {
            check_as(version, role, bytes);
        }
    }
}

/// Reads `bytes` as one version and role; whether a packet was accepted.
pub fn check_as(version: Option<Version>, role: Role, bytes: &[u8]) -> bool {
    let decoder = Decoder {
        version,
        role,
        max_packet_size: 1 << 20,
    };
    let (packet, used) = match decoder.decode(bytes) {
        Ok(Some(accepted)) => accepted,
        Ok(None) => {
            assert!(bytes.len() < 5 || bytes.len() < declared(bytes), "waits for bytes that are there");
            return false;
        }
        Err(error) => {
            assert!(error.reason.is_error() && !error.detail.is_empty(), "{error:?}");
            return false;
        }
    };
    assert_eq!(used, declared(bytes), "the packet ends where its length says");
    assert_eq!(decoder.decode(&bytes[..used - 1]), Ok(None), "a part of it asks for more");
    obeys_the_rules(&packet, role);
    let version = match &packet {
        Packet::Connect(connect) => connect.version,
        _ => version.unwrap_or(Version::V5),
    };
    let mut again = Vec::new();
    encode(&packet, version, &mut again).expect("what was read can be written");
    let reread = decoder.decode(&again).expect("what was written can be read");
    assert_eq!(reread, Some((packet, again.len())));
    true
}

/// Bytes of the packet at the front, by its remaining length.
fn declared(bytes: &[u8]) -> usize {
    let mut length = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return 2 + at + length;
        }
    }
    usize::MAX
}

fn obeys_the_rules(packet: &Packet<'_>, role: Role) {
    match packet {
        Packet::Connect(connect) => {
            plain(connect.client_id);
            connect.username.into_iter().for_each(plain);
            user(&connect.properties.user);
            if let Some(will) = &connect.will {
                name(will.topic);
                properties(&will.properties);
            }
        }
        Packet::Publish(publish) => {
            assert_eq!(publish.packet_id.is_some(), publish.qos as u8 > 0);
            assert!(!publish.dup || publish.qos as u8 > 0);
            assert!(!publish.topic.is_empty() || publish.properties.topic_alias.is_some());
            if !publish.topic.is_empty() {
                name(publish.topic);
            }
            properties(&publish.properties);
            assert!(role == Role::Client || publish.properties.subscription_ids.iter().next().is_none());
        }
        Packet::Subscribe(subscribe) => {
            assert!(!subscribe.filters.is_empty() && subscribe.subscription_id != Some(0));
            for wanted in &subscribe.filters {
                filter(wanted.filter);
                assert!(!wanted.no_local || !wanted.filter.starts_with("$share/"));
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            assert!(!unsubscribe.filters.is_empty());
            unsubscribe.filters.iter().for_each(|text| filter(text));
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.reason_string.into_iter().for_each(plain);
            user(&ack.user);
        }
        _ => {}
    }
}

fn properties(properties: &PublishProperties<'_>) {
    assert_ne!(properties.topic_alias, Some(0));
    properties.response_topic.into_iter().for_each(name);
    properties.content_type.into_iter().for_each(plain);
    properties
        .subscription_ids
        .iter()
        .for_each(|id| assert!((1..=268_435_455).contains(&id)));
    user(&properties.user);
}

fn user(user: &UserProperties<'_>) {
    for (name, value) in user.iter() {
        plain(name);
        plain(value);
    }
}

fn plain(text: &str) {
    assert!(text.len() <= 65_535 && !text.contains('\0'));
}

fn name(text: &str) {
    plain(text);
    assert!(!text.is_empty() && !text.contains(['+', '#']), "{text:?}");
}

fn filter(text: &str) {
    plain(text);
    assert!(!text.is_empty());
    let bytes = text.as_bytes();
    for (at, wildcard) in bytes.iter().enumerate().filter(|(_, byte)| b"+#".contains(byte)) {
        assert!(at == 0 || bytes[at - 1] == b'/', "{text:?}");
        let follows = bytes.get(at + 1);
        assert!(follows.is_none() || (*wildcard == b'+' && follows == Some(&b'/')), "{text:?}");
    }
}
