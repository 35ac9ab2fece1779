//! The packets that parts make: what a version or a packet does not have is left out.

use std::num::NonZeroU16;

use mqtt_kafka_proxy::mqtt::codec::Role;
use mqtt_kafka_proxy::mqtt::*;

use super::{Filter, Parts, legal_reasons, receivers_of};

/// What a 3.x CONNACK can say (return codes 0 to 5), as version 5 reasons.
const RETURN_CODES: [u8; 6] = [0x00, 0x84, 0x85, 0x88, 0x86, 0x87];

fn qos(qos: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

impl Filter {
    fn subscribed(&self, v5: bool) -> SubscribeFilter<'_> {
        let handling = [RetainHandling::Always, RetainHandling::IfNew, RetainHandling::Never];
        SubscribeFilter {
            filter: &self.text,
            qos: qos(self.qos),
            no_local: v5 && self.no_local,
            retain_as_published: v5 && self.retain_as_published,
            retain_handling: handling[if v5 { usize::from(self.retain_handling) } else { 0 }],
        }
    }
}

impl Parts {
    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    fn v5<T>(&self, value: Option<T>) -> Option<T> {
        value.filter(|_| self.is_v5())
    }

    fn text(&self, at: usize) -> Option<&str> {
        self.v5(self.texts[at].as_deref())
    }

    fn bytes(&self, at: usize) -> Option<&[u8]> {
        self.v5(self.binaries[at].as_deref())
    }

    fn flag(&self, at: usize) -> Option<bool> {
        self.v5(self.flags[at])
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.v5(self.u32s[at])
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.v5(self.u16s[at].map(NonZeroU16::get))
    }

    fn user(&self) -> UserProperties<'_> {
        UserProperties::from_block(if self.is_v5() { &self.block } else { &[] })
    }

    fn id(&self) -> PacketId {
        PacketId(self.id)
    }

    fn all_reasons(&self) -> Vec<ReasonCode> {
        let legal: &[u8] = match (self.kind, self.is_v5()) {
            (2, false) => &RETURN_CODES,
            (9, false) => &[0x00, 0x01, 0x02, 0x80],
            (kind, true) => legal_reasons(kind),
            _ => &[0],
        };
        let reason = |at: &usize| ReasonCode::from_u8(legal[at % legal.len()]).unwrap();
        self.reasons.iter().map(reason).collect()
    }

    /// The packet that these parts make.
    pub fn packet(&self) -> Packet<'_> {
        match self.kind {
            1 => Packet::Connect(Box::new(self.connect())),
            2 => Packet::ConnAck(self.connack()),
            3 => Packet::Publish(self.publish()),
            4 => Packet::PubAck(self.ack()),
            5 => Packet::PubRec(self.ack()),
            6 => Packet::PubRel(self.ack()),
            7 => Packet::PubComp(self.ack()),
            8 => Packet::Subscribe(self.subscribe()),
            9 => Packet::SubAck(self.suback()),
            10 => Packet::Unsubscribe(self.unsubscribe()),
            11 => Packet::UnsubAck(self.unsuback()),
            12 => Packet::PingReq,
            13 => Packet::PingResp,
            14 => Packet::Disconnect(self.disconnect()),
            _ => Packet::Auth(self.auth()),
        }
    }

    fn connect(&self) -> Connect<'_> {
        let method = self.text(0);
        let username = self.texts[1].as_deref();
        let password = self.binaries[1].as_deref();
        Connect {
            version: self.version,
            clean_start: self.bits[0],
            keep_alive: self.u16s[2].map_or(0, NonZeroU16::get),
            client_id: &self.client_id,
            will: self.bits[1].then(|| self.will()),
            username,
            // 3.x: a password only with a user name [MQTT-3.1.2-22].
            password: password.filter(|_| self.is_v5() || username.is_some()),
            properties: ConnectProperties {
                session_expiry_interval: self.u32(0),
                receive_maximum: self.u16(0),
                maximum_packet_size: self.u32(2),
                topic_alias_maximum: self.u16(1),
                request_response_information: self.flag(0),
                request_problem_information: self.flag(1),
                authentication_method: method,
                authentication_data: self.bytes(0).filter(|_| method.is_some()),
                user: self.user(),
            },
        }
    }

    fn will(&self) -> Will<'_> {
        Will {
            topic: &self.will_topic,
            payload: self.binaries[2].as_deref().unwrap_or_default(),
            qos: qos(self.qos),
            retain: self.bits[2],
            delay_interval: self.u32(1).unwrap_or(0),
            properties: PublishProperties {
                topic_alias: None,
                subscription_ids: SubscriptionIds::default(),
                ..self.publish_properties()
            },
        }
    }

    fn publish_properties(&self) -> PublishProperties<'_> {
        PublishProperties {
            payload_format: self
                .flag(2)
                .map(|text| if text { PayloadFormat::Utf8 } else { PayloadFormat::Bytes }),
            message_expiry_interval: self.u32(0),
            topic_alias: self.u16(0),
            response_topic: self.v5(Some(self.will_topic.as_str()).filter(|_| self.bits[4])),
            correlation_data: self.bytes(0),
            subscription_ids: SubscriptionIds::from_block(if self.is_v5() { &self.block } else { &[] }),
            content_type: self.text(3),
            user: self.user(),
        }
    }

    fn connack(&self) -> ConnAck<'_> {
        let reason = self.all_reasons()[0];
        let method = self.text(2);
        ConnAck {
            session_present: self.bits[0] && reason == ReasonCode::Success && self.version != Version::V31,
            reason,
            properties: ConnAckProperties {
                session_expiry_interval: self.u32(0),
                receive_maximum: self.u16(0),
                maximum_qos: self.v5(Some(qos(self.qos)).filter(|q| *q != QoS::ExactlyOnce)),
                retain_available: self.flag(0),
                maximum_packet_size: self.u32(2),
                assigned_client_identifier: self.v5(Some(self.client_id.as_str()).filter(|_| self.bits[1])),
                topic_alias_maximum: self.u16(1),
                reason_string: self.text(0),
                wildcard_subscription_available: self.flag(1),
                subscription_identifiers_available: self.flag(2),
                shared_subscription_available: self.flag(3),
                server_keep_alive: self.u16(2),
                response_information: self.v5(Some(self.topic.as_str()).filter(|_| self.bits[2])),
                server_reference: self.text(1),
                authentication_method: method,
                authentication_data: self.bytes(0).filter(|_| method.is_some()),
                user: self.user(),
            },
        }
    }

    fn publish(&self) -> Publish<'_> {
        let properties = self.publish_properties();
        let aliased = properties.topic_alias.is_some() && self.bits[3];
        Publish {
            dup: self.bits[0] && self.qos > 0,
            qos: qos(self.qos),
            retain: self.bits[1],
            topic: if aliased { "" } else { &self.topic },
            packet_id: (self.qos > 0).then(|| self.id()),
            properties,
            payload: &self.payload,
        }
    }

    fn ack(&self) -> Ack<'_> {
        Ack {
            packet_id: self.id(),
            reason: self.all_reasons()[0],
            reason_string: self.text(0),
            user: self.user(),
        }
    }

    fn subscribe(&self) -> Subscribe<'_> {
        Subscribe {
            packet_id: self.id(),
            filters: self.filters.iter().map(|filter| filter.subscribed(self.is_v5())).collect(),
            subscription_id: self.v5(self.subscription_id),
            user: self.user(),
        }
    }

    fn suback(&self) -> SubAck<'_> {
        SubAck {
            packet_id: self.id(),
            reasons: self.all_reasons(),
            reason_string: self.text(0),
            user: self.user(),
        }
    }

    fn unsubscribe(&self) -> Unsubscribe<'_> {
        Unsubscribe {
            packet_id: self.id(),
            filters: self.filters.iter().map(|filter| filter.text.as_str()).collect(),
            user: self.user(),
        }
    }

    fn unsuback(&self) -> UnsubAck<'_> {
        UnsubAck {
            packet_id: self.id(),
            reasons: if self.is_v5() { self.all_reasons() } else { vec![] },
            reason_string: self.text(0),
            user: self.user(),
        }
    }

    fn disconnect(&self) -> Disconnect<'_> {
        let reason = self.all_reasons()[0];
        // Only a client has one [MQTT-3.14.2-2].
        let by_client = receivers_of(14, reason.as_u8()).contains(&Role::Server);
        Disconnect {
            reason,
            session_expiry_interval: self.u32(0).filter(|_| by_client),
            reason_string: self.text(0),
            server_reference: self.text(1),
            user: self.user(),
        }
    }

    fn auth(&self) -> Auth<'_> {
        let method = Some(self.texts[0].as_deref().unwrap_or("SCRAM-SHA-256"));
        Auth {
            reason: self.all_reasons()[0],
            method,
            data: self.bytes(0),
            reason_string: self.text(1),
            user: self.user(),
        }
    }
}
