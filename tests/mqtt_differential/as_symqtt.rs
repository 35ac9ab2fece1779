//! A packet of ours as `symqtt-codec` has it, field by field: neither codec takes part in this.

use bytes::Bytes;
use mqtt_kafka_proxy::mqtt::{self, Packet};
use symqtt_codec::{QoS, v5};

fn text(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn bytes(bytes: Option<&[u8]>) -> Option<Bytes> {
    bytes.map(Bytes::copy_from_slice)
}

fn byte(flag: Option<bool>) -> Option<u8> {
    flag.map(u8::from)
}

fn user(user: &mqtt::UserProperties<'_>) -> Vec<(String, String)> {
    user.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn qos(qos: mqtt::QoS) -> QoS {
    QoS::try_from(qos as u8).unwrap()
}

fn reason(reason: mqtt::ReasonCode) -> v5::ReasonCode {
    v5::ReasonCode::try_from(reason.as_u8()).unwrap()
}

/// The four have the same fields, and types of their own.
macro_rules! acknowledgement {
    ($kind:ident, $ack:ident) => {
        v5::Packet::$kind(v5::$kind {
            pkid: $ack.packet_id.0.get(),
            reason_code: reason($ack.reason),
            properties: ack_properties($ack),
        })
    };
}

pub fn packet(packet: &Packet<'_>) -> v5::Packet {
    match packet {
        Packet::Connect(packet) => v5::Packet::Connect(connect(packet)),
        Packet::ConnAck(packet) => v5::Packet::ConnAck(connack(packet)),
        Packet::Publish(packet) => v5::Packet::Publish(publish(packet)),
        Packet::PubAck(ack) => acknowledgement!(PubAck, ack),
        Packet::PubRec(ack) => acknowledgement!(PubRec, ack),
        Packet::PubRel(ack) => acknowledgement!(PubRel, ack),
        Packet::PubComp(ack) => acknowledgement!(PubComp, ack),
        Packet::Subscribe(packet) => v5::Packet::Subscribe(subscribe(packet)),
        Packet::SubAck(packet) => v5::Packet::SubAck(v5::SubAck {
            pkid: packet.packet_id.0.get(),
            properties: v5::SubAckProperties {
                reason_string: text(packet.reason_string),
                user_properties: user(&packet.user),
            },
            reason_codes: packet.reasons.iter().copied().map(reason).collect(),
        }),
        Packet::Unsubscribe(packet) => v5::Packet::Unsubscribe(v5::Unsubscribe {
            pkid: packet.packet_id.0.get(),
            properties: v5::UnsubscribeProperties {
                user_properties: user(&packet.user),
            },
            topics: packet.filters.iter().map(|filter| (*filter).to_owned()).collect(),
        }),
        Packet::UnsubAck(packet) => v5::Packet::UnsubAck(v5::UnsubAck {
            pkid: packet.packet_id.0.get(),
            properties: v5::UnsubAckProperties {
                reason_string: text(packet.reason_string),
                user_properties: user(&packet.user),
            },
            reason_codes: packet.reasons.iter().copied().map(reason).collect(),
        }),
        Packet::PingReq => v5::Packet::PingReq(v5::PingReq),
        Packet::PingResp => v5::Packet::PingResp(v5::PingResp),
        Packet::Disconnect(packet) => v5::Packet::Disconnect(v5::Disconnect {
            reason_code: reason(packet.reason),
            properties: v5::DisconnectProperties {
                session_expiry_interval: packet.session_expiry_interval,
                reason_string: text(packet.reason_string),
                user_properties: user(&packet.user),
                server_reference: text(packet.server_reference),
            },
        }),
        Packet::Auth(packet) => v5::Packet::Auth(v5::Auth {
            status: v5::AuthStatus::try_from(packet.reason.as_u8()).unwrap(),
            properties: v5::AuthProperties {
                authentication_method: text(packet.method),
                authentication_data: bytes(packet.data),
                reason_string: text(packet.reason_string),
                user_properties: user(&packet.user),
            },
        }),
    }
}

fn ack_properties(ack: &mqtt::Ack<'_>) -> v5::PubAckProperties {
    v5::PubAckProperties {
        reason_string: text(ack.reason_string),
        user_properties: user(&ack.user),
    }
}

fn connect(packet: &mqtt::Connect<'_>) -> v5::Connect {
    let properties = &packet.properties;
    v5::Connect {
        clean_start: packet.clean_start,
        keep_alive: packet.keep_alive,
        properties: v5::ConnectProperties {
            session_expiry_interval: properties.session_expiry_interval,
            receive_maximum: properties.receive_maximum,
            maximum_packet_size: properties.maximum_packet_size,
            topic_alias_maximum: properties.topic_alias_maximum,
            request_response_information: byte(properties.request_response_information),
            request_problem_information: byte(properties.request_problem_information),
            user_properties: user(&properties.user),
            authentication_method: text(properties.authentication_method),
            authentication_data: bytes(properties.authentication_data),
        },
        client_id: packet.client_id.to_owned(),
        will: packet.will.as_ref().map(will),
        username: text(packet.username),
        password: bytes(packet.password),
    }
}

fn will(will: &mqtt::Will<'_>) -> v5::Will {
    let properties = &will.properties;
    v5::Will {
        properties: v5::WillProperties {
            will_delay_interval: (will.delay_interval > 0).then_some(will.delay_interval),
            payload_format_indicator: properties.payload_format.map(|format| format as u8),
            message_expiry_interval: properties.message_expiry_interval,
            content_type: text(properties.content_type),
            response_topic: text(properties.response_topic),
            correlation_data: bytes(properties.correlation_data),
            user_properties: user(&properties.user),
        },
        topic: will.topic.to_owned(),
        payload: Bytes::copy_from_slice(will.payload),
        qos: qos(will.qos),
        retain: will.retain,
    }
}

fn connack(packet: &mqtt::ConnAck<'_>) -> v5::ConnAck {
    let properties = &packet.properties;
    v5::ConnAck {
        session_present: packet.session_present,
        reason_code: reason(packet.reason),
        properties: v5::ConnAckProperties {
            session_expiry_interval: properties.session_expiry_interval,
            receive_maximum: properties.receive_maximum,
            maximum_qos: properties.maximum_qos.map(|qos| qos as u8),
            retain_available: byte(properties.retain_available),
            maximum_packet_size: properties.maximum_packet_size,
            assigned_client_identifier: text(properties.assigned_client_identifier),
            topic_alias_maximum: properties.topic_alias_maximum,
            reason_string: text(properties.reason_string),
            user_properties: user(&properties.user),
            wildcard_subscription_available: byte(properties.wildcard_subscription_available),
            subscription_identifier_available: byte(properties.subscription_identifiers_available),
            shared_subscription_available: byte(properties.shared_subscription_available),
            server_keep_alive: properties.server_keep_alive,
            response_information: text(properties.response_information),
            server_reference: text(properties.server_reference),
            authentication_method: text(properties.authentication_method),
            authentication_data: bytes(properties.authentication_data),
        },
    }
}

fn publish(packet: &mqtt::Publish<'_>) -> v5::Publish {
    let properties = &packet.properties;
    v5::Publish {
        dup: packet.dup,
        qos: qos(packet.qos),
        retain: packet.retain,
        topic: packet.topic.to_owned(),
        pkid: packet.packet_id.map(|id| id.0.get()),
        properties: v5::PublishProperties {
            payload_format_indicator: properties.payload_format.map(|format| format as u8),
            message_expiry_interval: properties.message_expiry_interval,
            topic_alias: properties.topic_alias,
            response_topic: text(properties.response_topic),
            correlation_data: bytes(properties.correlation_data),
            subscription_identifiers: properties.subscription_ids.iter().collect(),
            user_properties: user(&properties.user),
            content_type: text(properties.content_type),
        },
        payload: Bytes::copy_from_slice(packet.payload),
    }
}

fn subscribe(packet: &mqtt::Subscribe<'_>) -> v5::Subscribe {
    let filter = |filter: &mqtt::SubscribeFilter<'_>| v5::SubscribeFilter {
        topic: filter.filter.to_owned(),
        qos: qos(filter.qos),
        no_local: filter.no_local,
        retain_as_published: filter.retain_as_published,
        retain_handling: v5::RetainHandling::try_from(filter.retain_handling as u8).unwrap(),
    };
    v5::Subscribe {
        pkid: packet.packet_id.0.get(),
        properties: v5::SubscribeProperties {
            subscription_identifier: packet.subscription_id,
            user_properties: user(&packet.user),
        },
        filters: packet.filters.iter().map(filter).collect(),
    }
}
