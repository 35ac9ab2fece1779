//! Where in the file the strings of a rule stand that `mapping` speaks of.

use crate::mapping::{Fault, Field};

use super::tree::{Key, Kind, Node, Place};
use super::walk::is_filled;

/// Where in the file a fault of `mapping` is.
pub(super) fn place_of(rule: &Node, fault: &Fault) -> Place {
    if let Field::HeaderName(index) = fault.field {
        return header(rule, index).map_or(rule.place, |(key, _)| key.place);
    }
    // A key that is not written has no place of its own.
    let Some(node) = node_of(rule, fault.field) else {
        return rule.place;
    };
    fault.at.filter(|_| !is_filled(node)).map_or(node.place, |at| node.place_at(at))
}

/// The value that a field is written as.
pub(super) fn node_of(rule: &Node, field: Field) -> Option<&Node> {
    let path: &[&str] = match field {
        Field::Name => &["name"],
        Field::Mqtt => &["mqtt"],
        Field::MqttRegex => &["mqtt_regex"],
        Field::Also => &["also"],
        Field::Qos => &["qos"],
        Field::Retain => &["retain"],
        Field::Acknowledge => &["acknowledge"],
        Field::Overflow => &["overflow"],
        Field::OnError => &["on_error"],
        Field::Unmapped => &["unmapped"],
        Field::DeadLetter => &["on_error", "dead_letter"],
        Field::Transform => &["transform"],
        Field::TransformBack => &["transform_back"],
        Field::Lookup => &["lookup"],
        Field::Value => &["value"],
        Field::KafkaTopics(index) => match &child(child(rule, "kafka")?, "topics")?.kind {
            Kind::List(items) => return items.get(index),
            _ => &["kafka", "topics"],
        },
        Field::KafkaTopic => &["kafka", "topic"],
        Field::KafkaKey => &["kafka", "key"],
        Field::KafkaPartition => &["kafka", "partition"],
        Field::KafkaTombstones => &["kafka", "tombstones"],
        Field::KafkaTimestamp => &["kafka", "timestamp"],
        Field::KafkaClientHeader => &["kafka", "client_header"],
        Field::KafkaAcks => &["kafka", "acks"],
        Field::KafkaCompression => &["kafka", "compression"],
        Field::KafkaOfflineRetention => &["kafka", "offline_retention"],
        Field::HeaderName(index) | Field::HeaderValue(index) => return header(rule, index).map(|(_, value)| value),
    };
    path.iter().try_fold(rule, |node, key| child(node, key))
}

fn header(rule: &Node, index: usize) -> Option<&(Key, Node)> {
    match &child(child(rule, "kafka")?, "headers")?.kind {
        Kind::Table(entries) => entries.get(index),
        _ => None,
    }
}

pub(super) fn child<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.kind {
        Kind::Table(entries) => entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value),
        _ => None,
    }
}
